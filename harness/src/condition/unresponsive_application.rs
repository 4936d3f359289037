//! Cause `unresponsive-application`: an application does not answer when the session is to end.
//!
//! Windows sends WM_QUERYENDSESSION to every top-level window; one that does not answer within
//! HungAppTimeout (5 s), or answers FALSE, holds the shutdown, and the screen names it until a person
//! decides (fact sheet B.0, B.4). There is no automatic end unless AutoEndTasks is set.

use serde::Deserialize;

use super::{Outlook, Part, Prediction, PressEffect, Proof, Realism, Rule, Sureness, WindowsMeans};
use crate::disk::{Hive, RegistryValue};
use crate::evidence::{Evidence, EvidenceKind, Finding};
use crate::guest::driver::{GuestDriver, LiveValue};
use crate::guest::registry_facts::RegistryFacts;
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::outcome::Cause;
use crate::screen_texts::BLOCKED_SHUTDOWN;

/// Programs that start with the session (fact sheet B.4 uses a logon task; the Run key needs no agent).
const RUN: &str = r"Microsoft\Windows\CurrentVersion\Run";
const RUN_NAME: &str = "SoftoffProbe";
/// The user that images log on.
const USER: &str = "Softoff";
/// Where images carry the probe.
const PROBE: &str = r"C:\softoff\probe.exe";

/// What the application does when asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Does not answer WM_QUERYENDSESSION.
    Hangs,
    /// Answers FALSE and gives a reason (ShutdownBlockReasonCreate).
    Refuses,
    /// Answers at once, but is slow to end.
    Slow,
    /// Answers at once: the negative control.
    Answers,
}

impl Behaviour {
    fn mode(self) -> &'static str {
        match self {
            Behaviour::Hangs => "hangs",
            Behaviour::Refuses => "refuses",
            Behaviour::Slow => "slow",
            Behaviour::Answers => "answers",
        }
    }
}

/// The condition: the probe runs in the session, with a window.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnresponsiveApplication {
    /// What it does when asked.
    pub behaviour: Behaviour,
    /// Its window's title.
    #[serde(default = "title")]
    pub title: String,
    /// What its window says; absent, it says what it will do when asked.
    #[serde(default)]
    pub text: Option<String>,
    /// For `slow`: how long it takes to end, seconds; 5 when absent. For `hangs`: after how long it answers all the
    /// same; never when absent.
    #[serde(default)]
    pub seconds: Option<u32>,
    /// AutoEndTasks: Windows may end it without asking a person.
    #[serde(default)]
    pub auto_end_tasks: bool,
}

/// How long a slow application takes to end.
const SLOW_SECONDS: u32 = 5;

fn title() -> String {
    "Unsaved work".into()
}

impl UnresponsiveApplication {
    fn command(&self) -> String {
        // Quotes would end the argument early; a title needs none.
        let quoted = |option: &str, text: &str| format!(" --{option} \"{}\"", text.replace('"', ""));
        let mut command = format!("{PROBE} {}{}", self.behaviour.mode(), quoted("title", &self.title));
        if let Some(text) = &self.text {
            command.push_str(&quoted("text", text));
        }
        let seconds = match self.behaviour {
            Behaviour::Slow => Some(self.seconds.unwrap_or(SLOW_SECONDS)),
            Behaviour::Hangs => self.seconds,
            Behaviour::Refuses | Behaviour::Answers => None,
        };
        if let Some(seconds) = seconds {
            command.push_str(&format!(" --seconds {seconds}"));
        }
        command
    }

    /// Proven by the process list and by the Run value that started it: the probe runs, in this mode.
    pub(super) async fn prove(&self, guest: &GuestDriver) -> Result<Proof, AgentError> {
        let runs = guest.runs("probe.exe").await?;
        let started = guest.registry(&format!(r"HKLM\SOFTWARE\{RUN}"), RUN_NAME).await?;
        let mode = started.as_ref().is_some_and(|value| value.is_text(&self.command()));
        let evidence = format!(
            "tasklist {} probe.exe; Run value {}",
            if runs { "shows" } else { "does not show" },
            match &started {
                Some(LiveValue::Text(text)) => crate::text::printable(text, 120),
                _ => "is absent".into(),
            }
        );
        Ok(Proof { present: runs && mode, evidence })
    }
}

impl Part for UnresponsiveApplication {
    fn cause(&self) -> Cause {
        Cause::UnresponsiveApplication
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        let run = HiveEdit::new(Hive::Software, RUN, RUN_NAME, RegistryValue::String(self.command()));
        let desktop = |name: &str, value: &str| desktop(USER, name, value);
        let mut edits = vec![run];
        if self.auto_end_tasks {
            // Documented defaults are 5 and 20 s; shorter ones keep the scenario short.
            edits.extend([desktop("AutoEndTasks", "1"), desktop("WaitToKillAppTimeout", "5000")]);
        }
        edits
    }

    fn windows_means(&self) -> WindowsMeans {
        WindowsMeans::ProbeWindow
    }

    fn realism_in_reference(&self) -> Realism {
        Realism {
            real: "a Win32 window whose procedure does not return; the message; the screen",
            modelled: "who asks and waits: the reference session, with Windows' documented time-outs",
        }
    }
}

fn desktop(user: &str, name: &str, value: &str) -> HiveEdit {
    HiveEdit::new(Hive::user(user), r"Control Panel\Desktop", name, RegistryValue::String(value.into()))
}

/// Whether a hung application holds a shutdown until a person decides: AutoEndTasks is off (fact sheet B.0).
fn waits_for_a_person(registry: &RegistryFacts) -> bool {
    registry.auto_end_tasks == Some(false)
}

/// What is known of this cause.
pub const RULE: Rule = Rule {
    cause: Cause::UnresponsiveApplication,
    detect,
    predict,
    remedy: "end the application, or set AutoEndTasks=\"1\" in HKCU\\Control Panel\\Desktop, or enable forced button \
         shutdown (powercfg setting 833a6b62-dfa4-46d1-82f8-e09e34d029d6 = 1)",
};

/// An application is to blame when the screen says that it holds the shutdown.
fn detect(evidence: &Evidence) -> Option<Finding> {
    let text = evidence.screen_shows(BLOCKED_SHUTDOWN)?;
    let mut finding = Finding::new(Cause::UnresponsiveApplication);
    finding.add(
        EvidenceKind::Screen,
        format!("the screen says that an application prevents the shutdown ({text})"),
    );
    // Without AutoEndTasks the screen waits for a person (fact sheet B.0).
    let no_end = evidence.registry.as_ref().is_some_and(waits_for_a_person);
    finding.stalled = evidence.press_failed() && evidence.last_screen_shows(BLOCKED_SHUTDOWN);
    finding.lasting = finding.stalled && no_end;
    if evidence.press_failed() && evidence.agent_closed_after.is_none() {
        finding.add(EvidenceKind::Agent, "services still run: the session has not ended".into());
    }
    Some(finding)
}

/// Which applications will run, a disk does not tell: only that one which does not answer would hold the shutdown.
fn predict(outlook: &Outlook<'_>) -> Option<Prediction> {
    let registry = outlook.registry;
    let user = registry.logon_user.as_deref()?;
    if !waits_for_a_person(registry) || registry.forced_button == Some(1) {
        return None;
    }
    let because = format!(
        "AutoEndTasks of {} is off: an application that does not answer holds the shutdown",
        crate::text::printable(user, 60)
    );
    let found = Prediction::new(
        Cause::UnresponsiveApplication,
        PressEffect::MayBeHeld,
        Sureness::Documented,
        because,
    );
    Some(found.with(vec![desktop(user, "AutoEndTasks", "1")]))
}
