//! From a hive into Wine's registry text.
//!
//! Wine keeps `HKEY_LOCAL_MACHINE` in `system.reg` and the user's part in `user.reg`, as text that wineserver
//! reads once at its start ("WINE REGISTRY Version 2", Wine's server/registry.c). A section for a key that is
//! already there adds to it, and a value that is already there is replaced: so the hive's keys are appended.

use std::fmt::Write as _;

use crate::{HiveError, Key, Value, read_hive};

/// Where a hive belongs in Wine's registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    /// The SYSTEM hive: `HKLM\System`, in `system.reg`.
    System,
    /// The SOFTWARE hive: `HKLM\Software`, in `system.reg`.
    Software,
    /// A user's NTUSER.DAT: `HKCU`, in `user.reg`.
    User,
}

/// Why a hive was not merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The hive cannot be used.
    #[error(transparent)]
    Hive(#[from] HiveError),
    /// The text is not one that Wine wrote.
    #[error("not a Wine registry text: its first line is not \"{HEADER}\"")]
    NotWine,
}

const HEADER: &str = "WINE REGISTRY Version 2";

/// Appends the keys and values of a hive to the text of `system.reg` or `user.reg`.
///
/// A hive has numbered control sets and says in `Select\Current` which one is in use. Wine has the link
/// `CurrentControlSet` to `ControlSet001`, so the control set in use is merged as `ControlSet001`, and the others
/// under their own names (but not over it).
pub fn merge_hive(text: &mut String, hive: &[u8], mount: Mount) -> Result<(), MergeError> {
    if text.lines().next().map(str::trim_end) != Some(HEADER) {
        return Err(MergeError::NotWine);
    }
    let root = read_hive(hive)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    match mount {
        Mount::Software => append(text, "Software", &root),
        Mount::User => append(text, "", &root),
        Mount::System => {
            let current = current_control_set(&root);
            append_values(text, "System", &root);
            for (name, key) in root.keys() {
                let first = name.eq_ignore_ascii_case("ControlSet001");
                if name.eq_ignore_ascii_case(&current) {
                    append(text, r"System\ControlSet001", key);
                } else if !first {
                    append(text, &format!(r"System\{name}"), key);
                }
            }
        }
    }
    Ok(())
}

fn current_control_set(system: &Key) -> String {
    match system.get("Select").and_then(|select| select.value("Current")) {
        Some(Value::Dword(number)) => format!("ControlSet{number:03}"),
        _ => "ControlSet001".to_owned(),
    }
}

/// Bounded: [`read_hive`] refuses deep trees.
fn append(text: &mut String, path: &str, key: &Key) {
    append_values(text, path, key);
    for (name, child) in key.keys() {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}\\{name}") };
        append(text, &path, child);
    }
}

fn append_values(text: &mut String, path: &str, key: &Key) {
    if path.is_empty() && key.values().next().is_none() {
        return;
    }
    text.push_str("\n[");
    // A key's path is one string to Wine: its separators are escaped as other backslashes are.
    escape(text, path, ['[', ']']);
    // The number is a time stamp; wineserver takes any.
    text.push_str("] 0\n");
    for (name, value) in key.values() {
        if name.is_empty() {
            text.push('@');
        } else {
            text.push('"');
            escape(text, name, ['"', '"']);
            text.push('"');
        }
        text.push('=');
        append_value(text, value);
        text.push('\n');
    }
}

fn append_value(text: &mut String, value: &Value) {
    let mut quoted = |prefix: &str, content: &str| {
        text.push_str(prefix);
        text.push('"');
        escape(text, content, ['"', '"']);
        text.push('"');
    };
    match value {
        Value::Dword(number) => {
            write!(text, "dword:{number:08x}").ok();
        }
        Value::Sz(content) => quoted("", content),
        Value::ExpandSz(content) => quoted("str(2):", content),
        // Written as bytes: wineserver's own text form of it has zeros within the string.
        Value::MultiSz(_) | Value::Qword(_) | Value::Binary(_) | Value::Other { .. } => {
            let (kind, data) = value.encode();
            if kind == 3 {
                text.push_str("hex:");
            } else {
                write!(text, "hex({kind:x}):").ok();
            }
            for (index, byte) in data.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(text, "{comma}{byte:02x}").ok();
            }
        }
    }
}

/// Escapes as wineserver does (server/unicode.c, dump_strW): a backslash before itself and before `special`, C
/// escapes and octal numbers below space, `\x` with hexadecimal digits above ASCII.
fn escape(text: &mut String, content: &str, special: [char; 2]) {
    for unit in content.encode_utf16() {
        match char::from_u32(u32::from(unit)).filter(char::is_ascii) {
            Some('\n') => text.push_str("\\n"),
            Some('\r') => text.push_str("\\r"),
            Some('\t') => text.push_str("\\t"),
            // Always with all digits: then the next character cannot be taken for one more.
            Some(control) if control < ' ' => {
                write!(text, "\\{:03o}", u32::from(control)).ok();
            }
            Some(plain) => {
                if plain == '\\' || special.contains(&plain) {
                    text.push('\\');
                }
                text.push(plain);
            }
            None => {
                write!(text, "\\x{unit:04x}").ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_hive;

    const PRISTINE: &str =
        "WINE REGISTRY Version 2\n;; All keys relative to REGISTRY\\\\Machine\n\n#arch=win64\n";

    fn merged(root: &Key, mount: Mount) -> String {
        let mut text = PRISTINE.to_owned();
        merge_hive(&mut text, &write_hive(root).unwrap(), mount).unwrap();
        text.strip_prefix(PRISTINE).unwrap().to_owned()
    }

    #[test]
    fn values_are_written_as_wineserver_writes_them() {
        let mut root = Key::new();
        root.key(r"Odd [key]\sub")
            .dword("Number", 3)
            .sz("", "default")
            .sz("Quote\"\\", "a\"b\\c\r\n\u{1}2\u{e9}a")
            .set("Path", Value::ExpandSz("%X%".into()))
            .set("List", Value::MultiSz(vec!["a".into()]))
            .set("Bytes", Value::Binary(vec![0, 255]))
            .set("Long", Value::Qword(1));
        let text = merged(&root, Mount::Software);
        for line in [
            r"[Software] 0",
            r"[Software\\Odd \[key\]\\sub] 0",
            r#""Number"=dword:00000003"#,
            r#"@="default""#,
            r#""Quote\"\\"="a\"b\\c\r\n\0012\x00e9a""#,
            r#""Path"=str(2):"%X%""#,
            r#""List"=hex(7):61,00,00,00,00,00"#,
            r#""Bytes"=hex:00,ff"#,
            r#""Long"=hex(b):01,00,00,00,00,00,00,00"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in:\n{text}");
        }
    }

    #[test]
    fn the_control_set_in_use_becomes_the_first() {
        let mut root = Key::new();
        root.key("Select").dword("Current", 2);
        root.key(r"ControlSet001\Control").sz("Which", "old");
        root.key(r"ControlSet002\Control").sz("Which", "current");
        let text = merged(&root, Mount::System);
        assert!(text.contains("[System\\\\ControlSet001\\\\Control] 0\n\"Which\"=\"current\""), "{text}");
        assert!(!text.contains("old") && text.contains("[System\\\\Select]"), "{text}");
    }

    #[test]
    fn a_user_hive_has_no_prefix_and_other_texts_are_refused() {
        let mut root = Key::new();
        root.key(r"Control Panel\Desktop").sz("AutoEndTasks", "1");
        let text = merged(&root, Mount::User);
        assert!(text.starts_with("\n[Control Panel] 0\n"), "{text}");
        let hive = write_hive(&root).unwrap();
        let windows = &mut "Windows Registry Editor Version 5.00\n".to_owned();
        assert!(matches!(merge_hive(windows, &hive, Mount::User), Err(MergeError::NotWine)));
        let text = &mut PRISTINE.to_owned();
        assert!(matches!(merge_hive(text, b"regf", Mount::User), Err(MergeError::Hive(_))));
        assert_eq!(text, PRISTINE);
    }
}
