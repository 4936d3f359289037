//! Registry values as files for people: `.reg` for regedit, and PowerShell.

use std::fmt::Write as _;

use super::merge::{bad_edit, check_names, value_line};
use super::{HiveEdit, InjectError};
use crate::disk::{Hive, RegistryValue};
use crate::guest::quoting::{Shell, quote};

/// The values as a `.reg` file, in UTF-16 with its mark as regedit writes it.
///
/// Names may come from a hostile image, and the file is for an administrator: one that would break out of its
/// line is an error.
pub fn reg_file(edits: &[HiveEdit]) -> Result<Vec<u8>, InjectError> {
    let mut text = String::from("Windows Registry Editor Version 5.00\r\n");
    for edit in edits {
        check_names(edit)?;
        let key = format!(r"{}\{}", long_root(&edit.hive), edit.key);
        let _a_string_takes_everything =
            write!(text, "\r\n[{key}]\r\n{}\r\n", value_line(&edit.name, &edit.value));
    }
    Ok([0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect())
}

/// The values as a PowerShell script for a running guest; an error as for [`reg_file`].
pub fn powershell(edits: &[HiveEdit]) -> Result<String, InjectError> {
    let mut text = String::from("# Run as an administrator; what is below HKCU:, as the user in question.\n");
    for edit in edits {
        check_names(edit)?;
        let key = quoted(edit, &format!(r"{}\{}", drive(&edit.hive), edit.key))?;
        let name = quoted(edit, if edit.name.is_empty() { "(default)" } else { &edit.name })?;
        let (kind, value) = typed(edit)?;
        // `New-Item -Force` on a key that exists would empty it.
        let _a_string_takes_everything = write!(
            text,
            "if (-not (Test-Path -LiteralPath {key})) {{ New-Item -Path {key} -Force | Out-Null }}\n\
             New-ItemProperty -LiteralPath {key} -Name {name} -PropertyType {kind} -Value {value} -Force | Out-Null\n"
        );
    }
    if edits.iter().any(|edit| edit.key.contains("PowerSettings")) {
        text.push_str("powercfg /setactive SCHEME_CURRENT   # power settings count from here on\n");
    }
    Ok(text)
}

fn long_root(hive: &Hive) -> &'static str {
    match hive {
        Hive::System => r"HKEY_LOCAL_MACHINE\SYSTEM",
        Hive::Software => r"HKEY_LOCAL_MACHINE\SOFTWARE",
        Hive::Default | Hive::DefaultUser => r"HKEY_USERS\.DEFAULT",
        Hive::User(_) => "HKEY_CURRENT_USER",
    }
}

fn drive(hive: &Hive) -> &'static str {
    match hive {
        Hive::System => r"HKLM:\SYSTEM",
        Hive::Software => r"HKLM:\SOFTWARE",
        Hive::Default | Hive::DefaultUser => r"Registry::HKEY_USERS\.DEFAULT",
        Hive::User(_) => "HKCU:",
    }
}

/// Names were checked for control characters; only a zero in a value's text stands against quoting.
fn quoted(edit: &HiveEdit, text: &str) -> Result<String, InjectError> {
    quote(Shell::PowerShell, text).map_err(|why| bad_edit(edit, &why.to_string()))
}

fn typed(edit: &HiveEdit) -> Result<(&'static str, String), InjectError> {
    let bytes = |data: &[u8]| {
        let bytes: Vec<String> = data.iter().map(|byte| format!("0x{byte:02x}")).collect();
        format!("([byte[]]({}))", bytes.join(","))
    };
    Ok(match &edit.value {
        RegistryValue::String(text) => ("String", quoted(edit, text)?),
        RegistryValue::ExpandString(text) => ("ExpandString", quoted(edit, text)?),
        RegistryValue::Dword(number) => ("DWord", number.to_string()),
        RegistryValue::Qword(number) => ("QWord", number.to_string()),
        RegistryValue::MultiString(texts) => {
            let texts: Result<Vec<String>, InjectError> =
                texts.iter().map(|text| quoted(edit, text)).collect();
            ("MultiString", format!("@({})", texts?.join(",")))
        }
        RegistryValue::Binary(data) | RegistryValue::Other { data, .. } => ("Binary", bytes(data)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits() -> Vec<HiveEdit> {
        let edit = |hive, key: &str, name: &str, value| HiveEdit::new(hive, key, name, value);
        vec![
            edit(Hive::Software, r"Policies\PowerSettings\x", "ACSettingIndex", RegistryValue::Dword(3)),
            edit(
                Hive::user("Ada"),
                r"Control Panel\Desktop",
                "AutoEndTasks",
                RegistryValue::String("1".into()),
            ),
            edit(
                Hive::System,
                r"CurrentControlSet\Services\it's",
                "a\"b",
                RegistryValue::Binary(vec![1, 255]),
            ),
        ]
    }

    #[test]
    fn a_reg_file() {
        let bytes = reg_file(&edits()).unwrap();
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        insta::assert_snapshot!(String::from_utf16(&units).unwrap().trim_start_matches('\u{feff}').replace("\r\n", "\n"), @r#"
        Windows Registry Editor Version 5.00

        [HKEY_LOCAL_MACHINE\SOFTWARE\Policies\PowerSettings\x]
        "ACSettingIndex"=hex(4):03,00,00,00

        [HKEY_CURRENT_USER\Control Panel\Desktop]
        "AutoEndTasks"=hex(1):31,00,00,00

        [HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services\it's]
        "a\"b"=hex(3):01,ff
        "#);
    }

    #[test]
    fn a_name_that_breaks_out_of_its_line_is_refused() {
        let mut evil = edits();
        evil[2].key.push_str("]\r\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Evil");
        assert!(matches!(reg_file(&evil), Err(InjectError::BadEdit { .. })));
        assert!(matches!(powershell(&evil), Err(InjectError::BadEdit { .. })));
    }

    #[test]
    fn a_powershell_script() {
        insta::assert_snapshot!(powershell(&edits()).unwrap(), @r#"
        # Run as an administrator; what is below HKCU:, as the user in question.
        if (-not (Test-Path -LiteralPath 'HKLM:\SOFTWARE\Policies\PowerSettings\x')) { New-Item -Path 'HKLM:\SOFTWARE\Policies\PowerSettings\x' -Force | Out-Null }
        New-ItemProperty -LiteralPath 'HKLM:\SOFTWARE\Policies\PowerSettings\x' -Name 'ACSettingIndex' -PropertyType DWord -Value 3 -Force | Out-Null
        if (-not (Test-Path -LiteralPath 'HKCU:\Control Panel\Desktop')) { New-Item -Path 'HKCU:\Control Panel\Desktop' -Force | Out-Null }
        New-ItemProperty -LiteralPath 'HKCU:\Control Panel\Desktop' -Name 'AutoEndTasks' -PropertyType String -Value '1' -Force | Out-Null
        if (-not (Test-Path -LiteralPath 'HKLM:\SYSTEM\CurrentControlSet\Services\it''s')) { New-Item -Path 'HKLM:\SYSTEM\CurrentControlSet\Services\it''s' -Force | Out-Null }
        New-ItemProperty -LiteralPath 'HKLM:\SYSTEM\CurrentControlSet\Services\it''s' -Name 'a"b' -PropertyType Binary -Value ([byte[]](0x01,0xff)) -Force | Out-Null
        powercfg /setactive SCHEME_CURRENT   # power settings count from here on
        "#);
    }
}
