//! What is told of an installation that came to a stand: where, what the screen shows, what that usually means.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use softoff_harness::evidence::shows;
use softoff_harness::screen_texts::{Language, PRESS_ANY_KEY, ScreenText, Sure};
use softoff_harness::text::printable;

use super::milestone::Milestone;

/// An installation that came to a stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The system.
    pub name: String,
    /// The furthest milestone.
    pub last: Milestone,
    /// How long ago it was reached.
    pub since: Duration,
    /// How long nothing had happened when the waiting ended: no milestone, no writing, no new screen.
    pub silence: Duration,
    /// MiB written to the disk since this machine was started.
    pub written_mib: u64,
    /// Where an end came instead of a stand: QEMU ended, or the guest shut down too early.
    pub ended: Option<String>,
    /// The newest picture of the screen.
    pub picture: Option<PathBuf>,
    /// Its text.
    pub text: Option<String>,
    /// Folder with all pictures, the timeline, the console.
    pub folder: PathBuf,
}

const fn text(text: &'static str) -> ScreenText {
    ScreenText { text, language: Language::EnUs, sure: Sure::Memory }
}

/// What Setup's and the firmware's screens usually mean. Of these, only the one of OVMF under Secure Boot was seen on a
/// machine of ours.
const SCREENS: &[(ScreenText, &str)] = &[
    // Before the line that says that nothing was found, which stands below it.
    (
        text("access denied"),
        "the firmware refuses the disc's loader: Secure Boot is on, and nobody whom it trusts has signed that",
    ),
    (
        text("no bootable device"),
        "the firmware found nothing to boot: the disc is not bootable by it; try the other --firmware",
    ),
    (text("could not read from cdrom"), "the firmware could not boot the disc; try the other --firmware"),
    (
        text("no bootable option"),
        "the firmware found nothing to boot: the disc is not bootable by it; try the other --firmware",
    ),
    (
        text("where do you want to install"),
        "Setup asks where to install: it found no disk, so the storage driver did not load; try another virtio-win.iso",
    ),
    (
        text("couldn t find any drives"),
        "Setup found no disk: the storage driver did not load; try another virtio-win.iso",
    ),
    (
        text("select the operating system"),
        "Setup asks which edition: the index is not in this disc; try another --edition-index",
    ),
    (
        text("product key"),
        "Setup asks for a product key: the edition is no evaluation; try another --edition-index",
    ),
    (
        text("this pc can t run windows"),
        "Setup refuses the machine: TPM, Secure Boot, memory, disk or processor",
    ),
    (
        text("answer file"),
        "Setup refuses the answer file; its log is in X:\\Windows\\Panther of the guest: look with --keep",
    ),
    (text("windows could not"), "Setup failed on the way; press Shift+F10 in the guest for its logs"),
    (
        text("restarted unexpectedly"),
        "the installed system was interrupted while it configured itself: begin anew with --restart",
    ),
    (
        text("choose your keyboard"),
        "the recovery environment runs: the installed system did not boot; begin anew with --restart",
    ),
];

impl Stuck {
    /// What it usually means, as far as that is known.
    pub fn hint(&self) -> Option<&'static str> {
        let shown = self.text.as_deref()?;
        if let Some((_, hint)) = SCREENS.iter().find(|(text, _)| shows(shown, &[*text]).is_some()) {
            return Some(hint);
        }
        if self.last <= Milestone::KeyPressed && shows(shown, PRESS_ANY_KEY).is_some() {
            return Some("the disc's loader did not take the key; try the other --firmware");
        }
        (self.last == Milestone::WindowsPe && self.written_mib < 64)
            .then_some("Setup began and wrote nothing: it waits for an answer, or found no disk")
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = |time: Duration| format!("{:.1} min", time.as_secs_f64() / 60.0);
        writeln!(f, "the installation of {} came to a stand", self.name)?;
        writeln!(f, "  last milestone: {} ({} ago)", self.last, minutes(self.since))?;
        match &self.ended {
            Some(how) => writeln!(f, "  then:           {how}")?,
            None => writeln!(
                f,
                "  then:           nothing for {}: no milestone, no new screen; {} MiB written to the disk",
                minutes(self.silence),
                self.written_mib
            )?,
        }
        match (&self.picture, self.text.as_deref().map(str::trim)) {
            (None, _) => writeln!(f, "  screen:         no picture was had")?,
            (Some(picture), text) => {
                writeln!(f, "  screen:         {}", picture.display())?;
                let lines: Vec<&str> =
                    text.unwrap_or_default().lines().filter(|l| !l.trim().is_empty()).collect();
                match lines.is_empty() {
                    true => writeln!(f, "  it reads:       nothing that could be read")?,
                    false => writeln!(f, "  it reads:       {}", printable(&lines.join(" / "), 400))?,
                }
            }
        }
        let unknown = "not known; look at the pictures";
        writeln!(f, "  usually means:  {}", self.hint().unwrap_or(unknown))?;
        write!(
            f,
            "  kept:           {}\nnext: the same command goes on from the last restart; --restart begins anew",
            self.folder.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn stuck(last: Milestone, text: &str) -> Stuck {
        Stuck {
            name: "windows-server-2022".into(),
            last,
            since: Duration::from_secs(90),
            silence: Duration::from_secs(60),
            written_mib: 0,
            ended: None,
            picture: Some("/cache/screen-004.png".into()),
            text: Some(text.into()),
            folder: "/cache/building".into(),
        }
    }

    #[rstest]
    #[case(
        Milestone::MachineStarted,
        "Booting from DVD/CD...\nBoot failed: Could not read from CDROM (code 0003)",
        Some("--firmware")
    )]
    #[case(
        Milestone::MachineStarted,
        "BdsDxe: failed to load Boot0001: Access Denied\nBdsDxe: No bootable option or device was found.",
        Some("Secure Boot")
    )]
    #[case(Milestone::KeyPressed, "Press any key to boot from CD or DVD......", Some("did not take the key"))]
    #[case(Milestone::WindowsPe, "Select the operating system you want to install", Some("--edition-index"))]
    #[case(Milestone::WindowsPe, "Where do you want to install Windows?", Some("storage driver"))]
    #[case(Milestone::WindowsPe, "We couldn\u{2019}t find any drives.", Some("storage driver"))]
    #[case(Milestone::WindowsPe, "Setup is starting", Some("wrote nothing"))]
    #[case(Milestone::Specialize, "The computer restarted unexpectedly or", Some("--restart"))]
    #[case(Milestone::Specialize, "Getting devices ready", None)]
    fn hints(#[case] last: Milestone, #[case] text: &str, #[case] part: Option<&str>) {
        let hint = stuck(last, text).hint();
        assert_eq!(hint.is_some_and(|hint| hint.contains(part.unwrap_or("?"))), part.is_some(), "{hint:?}");
    }

    #[test]
    fn all_of_it() {
        let told = stuck(Milestone::WindowsPe, "Setup is starting\n\n\u{1b}[2J evil");
        insta::assert_snapshot!(told.to_string());
        let ended =
            Stuck { ended: Some("QEMU ended with exit code 1".into()), picture: None, text: None, ..told };
        insta::assert_snapshot!("ended", ended.to_string());
    }
}
