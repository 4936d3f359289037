//! The answers for ReactOS' Setup: `unattend.inf`, which lies on its boot CD and is read from there.
//!
//! Both stages read it: the text mode that fills the disk (base/setup/lib/setuplib.c), and the wizard of the first boot
//! from it (dll/win32/syssetup/wizard.c). Upstream's own copy on the CD leaves the unattended setup off. No key here was
//! tried with a ReactOS of ours; where each is known from, the file itself says.

use std::fmt::Write as _;

use super::Account;

/// Its name, in capitals or not.
pub const REACTOS_ANSWERS: &str = "unattend.inf";

/// The menu of its boot loader, in the CD's root.
pub const REACTOS_MENU: &str = "freeldr.ini";

/// A section of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// Answers.
    Unattend,
    /// Commands of the first logon.
    GuiRunOnce,
}

impl Section {
    fn name(self) -> &'static str {
        match self {
            Section::Unattend => "Unattend",
            Section::GuiRunOnce => "GuiRunOnce",
        }
    }
}

/// Who reads a key, or says what it does. Paths are those of github.com/reactos/reactos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The text mode's reader.
    SetupLib,
    /// The wizard's reader.
    Wizard,
    /// What the file on the CD says of the key.
    Upstream,
    /// Notes of a project that ran it with the release 0.4.16.
    Tried,
}

impl Source {
    fn place(self) -> &'static str {
        match self {
            Source::SetupLib => "base/setup/lib/setuplib.c",
            Source::Wizard => "dll/win32/syssetup/wizard.c",
            Source::Upstream => "boot/bootdata/bootcd/unattend.inf",
            Source::Tried => "github.com/manzolo/qemu-iso-lab: vmctl/reactos.py",
        }
    }
}

/// A key's value, as the file writes its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    YesNo(bool),
    Number(u32),
    /// Without a prefix: language identifiers.
    Hex(u32),
    Text(String),
    /// A line of its own, without a key.
    Command(&'static str),
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    section: Section,
    key: &'static str,
    value: Value,
    why: &'static str,
    source: Source,
}

/// What the file is made from.
#[derive(Debug, Clone, Default)]
pub struct ReactosAnswers {
    /// Whose name and password are given. The account is `Administrator`, whatever the name.
    pub account: Account,
}

/// Why the file cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "ReactOS' answer file cannot hold {key} = {text:?}: a quotation mark, or a line break, would end it early"
)]
pub struct Unwritable {
    /// The key.
    pub key: &'static str,
    /// Its text.
    pub text: String,
}

impl ReactosAnswers {
    fn answers(&self) -> Vec<Answer> {
        use Value::{Command, Hex, Number, Text, YesNo};
        let text = |text: &str| Text(text.to_owned());
        let answer = |key, value, why, source| Answer { section: Section::Unattend, key, value, why, source };
        let mut all = vec![
            answer("Signature", text("$ReactOS$"), "the file is not read without", Source::SetupLib),
            answer("UnattendSetupEnabled", YesNo(true), "off in the CD's own copy", Source::SetupLib),
            answer("DestinationDiskNumber", Number(0), "the only disk; not read without", Source::SetupLib),
            answer("DestinationPartitionNumber", Number(1), "not read without", Source::SetupLib),
            answer("InstallationDirectory", text("ReactOS"), "as by hand", Source::SetupLib),
            answer("AutoPartition", Number(1), "the disk is empty", Source::SetupLib),
            answer("FormatPartition", Number(1), "the partition is new", Source::SetupLib),
            answer("FsType", Number(0), "FAT, which is read from outside", Source::Upstream),
            answer("BootLoaderLocation", Number(2), "on the disk; its name today", Source::Upstream),
            answer("MBRInstallType", Number(2), "the same, before it was renamed", Source::SetupLib),
            answer("LocaleID", Hex(0x409), "English (United States)", Source::SetupLib),
            answer("FullName", text(&self.account.name), "the owner", Source::Wizard),
            answer("ComputerName", text("SOFTOFF"), "not drawn by lot", Source::Wizard),
            answer("AdminPassword", text(&self.account.password), "it logs on by itself", Source::Wizard),
            answer("TimeZoneIndex", Number(85), "GMT", Source::Upstream),
            answer("DisableAutoDaylightTimeSet", Number(1), "nothing changes in the night", Source::Wizard),
            answer("DisableGeckoInst", YesNo(true), "there is no network to fetch it", Source::Wizard),
        ];
        all.push(Answer {
            section: Section::GuiRunOnce,
            key: "",
            value: Command(r"%SystemRoot%\system32\shutdown.exe /s /f /t 5"),
            why: "the installation is done when the first logon is, and is told by its power-off: COM1 is the kernel's",
            source: Source::Tried,
        });
        all
    }

    /// The file, each line with its reason and where the key is known from.
    pub fn document(&self) -> Result<String, Unwritable> {
        let (mut out, mut section) = (String::from("; Made by Softoff.\r\n"), None);
        for Answer { section: of, key, value, why, source } in self.answers() {
            if section.replace(of) != Some(of) {
                line(&mut out, format_args!("\r\n[{}]", of.name()));
            }
            line(&mut out, format_args!("; {why} ({})", source.place()));
            match value {
                Value::YesNo(yes) => {
                    line(&mut out, format_args!("{key} = {}", if yes { "yes" } else { "no" }))
                }
                Value::Number(number) => line(&mut out, format_args!("{key} = {number}")),
                Value::Hex(number) => line(&mut out, format_args!("{key} = {number:x}")),
                Value::Text(text) if text.contains(['"', '\r', '\n']) => {
                    return Err(Unwritable { key, text });
                }
                Value::Text(text) => line(&mut out, format_args!("{key} = \"{text}\"")),
                Value::Command(command) => line(&mut out, format_args!("{command}")),
            }
        }
        Ok(out)
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _a_string_takes_everything = write!(out, "{text}\r\n");
}

/// The boot loader's menu with Setup as what is started by itself: the release's own starts a live system. `None` where
/// the menu has no such entry, or starts it already; everything else stays as it is.
pub fn reactos_menu(menu: &str) -> Option<String> {
    let value = |line: &str, key: &str| -> Option<String> {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case(key).then(|| value.trim().to_owned())
    };
    let (mut section, mut setup) = (None, None);
    for line in menu.lines().map(str::trim) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = Some(name),
            None if value(line, "BootType").is_some_and(|kind| kind.eq_ignore_ascii_case("ReactOSSetup")) => {
                setup = setup.or(section);
            }
            None => {}
        }
    }
    let wanted = format!("DefaultOS={}", setup?);
    let is_default = |line: &&str| value(line, "DefaultOS").is_some();
    let old = menu.lines().find(is_default)?.trim_end();
    (old != wanted).then(|| menu.replacen(old, &wanted, 1))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_answer_file() {
        let file = ReactosAnswers::default().document().unwrap();
        assert!(file.is_ascii() && file.split('\n').all(|line| line.is_empty() || line.ends_with('\r')));
        insta::assert_snapshot!(file.replace("\r\n", "\n"));
    }

    #[test]
    fn no_key_is_there_twice() {
        let answers = ReactosAnswers::default().answers();
        let keys: std::collections::BTreeSet<_> = answers.iter().map(|a| (a.section.name(), a.key)).collect();
        assert_eq!(keys.len(), answers.len());
    }

    #[rstest]
    #[case("a\"b")]
    #[case("a\r\n[GuiRunOnce]")]
    fn a_name_that_would_end_its_line_is_refused(#[case] name: &str) {
        let account = Account { name: name.into(), ..Account::default() };
        let error = ReactosAnswers { account }.document().unwrap_err();
        assert_eq!((error.key, error.text.as_str()), ("FullName", name));
    }

    const MENU: &str = "[FREELOADER]\r\nDefaultOS=Live\r\nTimeOut=5\r\n\r\n[Operating Systems]\r\nLive=\"Live\"\r\n\
                        Setup=\"Setup\"\r\n\r\n[Live]\r\nBootType=Windows2003\r\n\r\n[Setup]\r\nBootType=ReactOSSetup\r\n";

    #[test]
    fn the_menu_starts_setup_and_is_otherwise_as_it_was() {
        let changed = reactos_menu(MENU).unwrap();
        assert_eq!(changed, MENU.replace("DefaultOS=Live", "DefaultOS=Setup"));
        assert_eq!(reactos_menu(&changed), None);
    }

    #[rstest]
    #[case::no_setup(MENU.replace("ReactOSSetup", "Windows2003"))]
    #[case::no_default(MENU.replace("DefaultOS", "Other"))]
    #[case::nothing(String::new())]
    #[case::no_sections("BootType=ReactOSSetup\nDefaultOS=x\n".to_owned())]
    fn a_menu_of_another_kind_is_left_alone(#[case] menu: String) {
        assert_eq!(reactos_menu(&menu), None);
    }
}
