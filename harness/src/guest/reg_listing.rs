//! What the program `reg` prints, read. Key and type names are not localised, everything around them is.

use super::driver::LiveValue;

/// Values kept of one listing: the services of a Windows guest are some 700.
const LIMIT: usize = 20_000;

/// A key of a listing, with the values that the listing shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// Its full name, such as `HKEY_LOCAL_MACHINE\SYSTEM`.
    pub key: String,
    /// Its values by name.
    pub values: Vec<(String, LiveValue)>,
}

impl ListedKey {
    /// One of its values; letter case does not count.
    pub fn value(&self, name: &str) -> Option<&LiveValue> {
        self.values.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Reads a listing: each key on a line of its own, its values indented below it.
pub fn parse(stdout: &str) -> Vec<ListedKey> {
    let mut keys: Vec<ListedKey> = Vec::new();
    for line in stdout.lines().take(LIMIT).map(str::trim_end) {
        if line.starts_with("HKEY_") {
            keys.push(ListedKey { key: line.to_owned(), values: Vec::new() });
        } else if let (Some(key), Some(value)) = (keys.last_mut(), value_line(line)) {
            key.values.push(value);
        }
    }
    keys
}

/// A value's line is `    NAME    REG_TYPE    DATA`; a name may hold single spaces.
fn value_line(line: &str) -> Option<(String, LiveValue)> {
    let line = line.strip_prefix("    ")?;
    let (name, rest) = line.split_once("    REG_")?;
    let (kind, data) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Some((name.to_owned(), live_value(kind, data)?))
}

/// The value of a type (its name without `REG_`) and data as printed.
pub(super) fn live_value(kind: &str, data: &str) -> Option<LiveValue> {
    let data = data.trim();
    match kind {
        "DWORD" => {
            let digits = data.strip_prefix("0x").unwrap_or(data);
            u32::from_str_radix(digits, 16).ok().map(LiveValue::Dword)
        }
        _ => Some(LiveValue::Text(data.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn shown(stdout: &str) -> Vec<String> {
        let value = |(name, value): &(String, LiveValue)| match value {
            LiveValue::Dword(number) => format!("{name}={number}"),
            LiveValue::Text(text) => format!("{name}=\"{text}\""),
        };
        let key = |k: &ListedKey| {
            format!("{}: {}", k.key, k.values.iter().map(value).collect::<Vec<_>>().join(","))
        };
        parse(stdout).iter().map(key).collect()
    }

    #[rstest]
    #[case::two_keys(
        "\r\nHKEY_LOCAL_MACHINE\\S\\A\r\n    PreshutdownTimeout    REG_DWORD    0x2bf20\r\n\r\nHKEY_LOCAL_MACHINE\\S\\B\r\n    PreshutdownTimeout    REG_DWORD    0xa\r\n\r\nEnd of search: 2 match(es) found.\r\n",
        &["HKEY_LOCAL_MACHINE\\S\\A: PreshutdownTimeout=180000", "HKEY_LOCAL_MACHINE\\S\\B: PreshutdownTimeout=10"]
    )]
    #[case::name_with_spaces("HKEY_X\n    a b  c    REG_SZ    x  y ", &["HKEY_X: a b  c=\"x  y\""])]
    #[case::subkeys_only("\nHKEY_USERS\\.DEFAULT\nHKEY_USERS\\S-1-5-18\n", &["HKEY_USERS\\.DEFAULT: ", "HKEY_USERS\\S-1-5-18: "])]
    #[case::empty_data("HKEY_X\n    n    REG_SZ    \n    m    REG_SZ", &["HKEY_X: n=\"\",m=\"\""])]
    #[case::value_before_any_key("    n    REG_DWORD    0x1\nHKEY_X", &["HKEY_X: "])]
    #[case::wrong_number("HKEY_X\n    n    REG_DWORD    0xzz\n    m    REG_DWORD    0x100000000", &["HKEY_X: "])]
    #[case::error("ERROR: The system was unable to find the specified registry key or value.", &[])]
    #[case::localised_end("HKEY_X\n검색 끝: 1개의 일치 항목", &["HKEY_X: "])]
    #[case::empty("", &[])]
    fn listings(#[case] stdout: &str, #[case] expected: &[&str]) {
        assert_eq!(shown(stdout), expected);
    }

    #[test]
    fn a_flood_is_cut() {
        assert_eq!(parse(&"HKEY_X\n".repeat(LIMIT + 5)).len(), LIMIT);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(HKEY_|    |REG_DWORD|\\PC|\n){0,60}") {
            let _keys = parse(&text);
        }
    }
}
