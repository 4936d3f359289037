//! Text from guests, made safe to show.

/// Replaces control characters (terminal escapes among them) by their escaped form and cuts the text at
/// `limit` characters, with an ellipsis.
pub fn printable(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count >= limit {
            out.push('…');
            break;
        }
        if is_hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The same for text of several lines, whose line feeds stay.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(|line| printable(line, usize::MAX)).collect::<Vec<_>>().join("\n")
}

/// Whether a character does something instead of showing. Bidirectional overrides can reorder what a terminal shows without
/// being control characters.
pub fn is_hidden(c: char) -> bool {
    let reorders =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    c.is_control() || reorders
}

/// Year, month, day, hour, minute and second of a time in seconds since 1970, UTC; days are counted from the
/// civil calendar's rules.
pub(crate) fn civil(seconds: u64) -> [u64; 6] {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // From 0000-03-01, so that a leap day is the last of its year (H. Hinnant's `civil_from_days`).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    [year, month, day, rest / 3600, rest / 60 % 60, rest % 60]
}

/// A time in seconds since 1970 as RFC 3339, UTC.
pub fn utc(seconds: u64) -> String {
    let [year, month, day, hour, minute, second] = civil(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, "1970-01-01T00:00:00Z")]
    #[case(951_782_400, "2000-02-29T00:00:00Z")]
    #[case(1_795_459_231, "2026-11-23T18:40:31Z")]
    #[case(4_107_542_399, "2100-02-28T23:59:59Z")]
    fn times(#[case] seconds: u64, #[case] text: &str) {
        assert_eq!(utc(seconds), text);
    }

    #[test]
    fn a_time_of_a_damaged_disk_is_text_too() {
        assert!(utc(u64::MAX / 10_000_000).ends_with('Z'));
    }

    #[rstest]
    #[case("plain", "plain")]
    #[case("a\x1b[31mred", "a\\u{1b}[31mred")]
    #[case("two\nlines\r", "two\\nlines\\r")]
    #[case("\u{9b}31m", "\\u{9b}31m")]
    #[case("\u{202e}txt", "\\u{202e}txt")]
    #[case("이 앱", "이 앱")]
    fn control_characters_are_shown_not_sent(#[case] from: &str, #[case] to: &str) {
        assert_eq!(printable(from, 80), to);
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines("a\n\u{1b}[2J\r\n"), "a\n\\u{1b}[2J\\r\n");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(printable("abcdef", 3), "abc…");
    }
}
