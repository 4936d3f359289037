//! An image for handing out: generalised by sysprep at the end of the first logon's script.
//!
//! Such an image is nobody's: at its next start Windows gives itself another identity, configures itself (specialize) and
//! goes through the out-of-box experience, which the answer file in its `C:\softoff` answers (Microsoft's "Sysprep
//! (Generalize) a Windows installation"). Each overlay on the image does so again, so that a scenario on it waits for
//! minutes more. None of it was tried with a Windows of ours.

use super::{AnswerError, Answers, xml};

/// How the first logon's script ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// The machine is shut down, and starts as it was left.
    #[default]
    ShutDown,
    /// sysprep generalises it, and shuts it down.
    Generalize,
}

/// The answer file of the next start: its name on the answer disc, and in `C:\softoff`.
pub const GENERALIZED: &str = "generalized.xml";

/// Automatic logons of a generalised image: no script of ours runs there that could make them last.
const LOGONS: u32 = 999;

impl Answers<'_> {
    /// The answer file of the next start, for an image that is generalised.
    pub fn generalized_document(&self) -> Result<Option<String>, AnswerError> {
        if self.ending == Ending::ShutDown {
            return Ok(None);
        }
        Ok(Some(xml::write(&self.of_a_start(self.out_of_box(LOGONS))?)?))
    }

    /// What the script does before it tells that it is done.
    pub(super) fn before_the_end(&self) -> Option<String> {
        let copy = format!(r#"copy /y "%~dp0{GENERALIZED}" C:\softoff\{GENERALIZED} || goto failed"#);
        (self.ending == Ending::Generalize).then_some(copy)
    }

    /// The script's last command. sysprep's exit code is not looked at: what it does not do leaves the machine on, and
    /// that is a stand, with the screen that says why.
    pub(super) fn end(&self) -> String {
        match self.ending {
            Ending::ShutDown => "shutdown.exe /s /t 0 /f".to_owned(),
            Ending::Generalize => format!(
                r"%SystemRoot%\System32\Sysprep\sysprep.exe /generalize /oobe /shutdown /quiet /unattend:C:\softoff\{GENERALIZED}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::answer::tests::read;
    use crate::answer::{Account, TABLE};
    use crate::catalog::{Catalog, FirmwareKind};

    fn with<T>(name: &str, ending: Ending, look: impl FnOnce(Answers<'_>) -> T) -> T {
        let catalog = Catalog::load(None).unwrap();
        let entry = catalog.get(name).unwrap();
        let account = Account::default();
        look(Answers { entry, firmware: FirmwareKind::Uefi, edition: 1, account, hardening: vec![], ending })
    }

    #[rstest]
    fn what_answers_the_next_start(#[values("windows-server-2025", "windows-11")] name: &str) {
        let xml = with(name, Ending::Generalize, |answers| answers.generalized_document().unwrap().unwrap());
        let (pairs, _) = read(&xml);
        let known = |(pass, component): &(String, String)| {
            TABLE.iter().any(|row| row.name == component && row.passes.iter().any(|p| p.name() == pass))
        };
        assert!(pairs.len() == 5 && pairs.iter().all(known), "{pairs:?}");
        // Neither a disk to wipe nor a script of the answer disc: it is not there any more.
        assert!(!xml.contains("DiskConfiguration") && !xml.contains("FirstLogonCommands"), "{xml}");
        insta::assert_snapshot!(format!("generalized.{name}"), xml);
    }

    #[test]
    fn the_script_ends_with_sysprep_and_only_then() {
        let script = |ending| with("windows-11", ending, |a| a.first_logon_script("agent.msi").unwrap());
        let (plain, generalized) = (script(Ending::ShutDown), script(Ending::Generalize));
        let only = |of: &str, other: &str| {
            let lines = of.lines().filter(|line| !other.lines().any(|l| l == *line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        insta::assert_snapshot!(only(&generalized, &plain).join("\n"), @r#"
        copy /y "%~dp0generalized.xml" C:\softoff\generalized.xml || goto failed
        %SystemRoot%\System32\Sysprep\sysprep.exe /generalize /oobe /shutdown /quiet /unattend:C:\softoff\generalized.xml
        "#);
        assert_eq!(only(&plain, &generalized), ["shutdown.exe /s /t 0 /f"]);
        let place = |text: &str| generalized.find(text).unwrap();
        assert!(place("copy /y \"%~dp0generalized") < place("programs-installed"));
        assert!(place("programs-installed") < place("sysprep.exe"));
        assert!(with("windows-11", Ending::ShutDown, |a| a.generalized_document().unwrap().is_none()));
    }
}
