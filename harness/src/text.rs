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
        // Bidirectional overrides can reorder what a terminal shows without being control characters.
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || hidden { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

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
    fn long_text_is_cut() {
        assert_eq!(printable("abcdef", 3), "abc…");
    }
}
