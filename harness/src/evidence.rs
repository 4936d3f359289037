//! Evidence: what a diagnosis may look at, and what it makes of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::guest::registry_facts::RegistryFacts;
use crate::outcome::{Cause, OutcomeKind};
use crate::screen_texts::ScreenText;
use crate::settle::{AGENT, PRESS, is_plug, plug_pulled};
use crate::timeline::{Observation, REACTION, Seen};

/// A guest that is asked and runs on so long when the plug is pulled did not obey: one that does is down in 1 to 4 s
/// (measured, reference guest), and Windows' waits for a hung application and for services are 5 s each (HungAppTimeout,
/// WaitToKillServiceTimeout). Pulled earlier, the plug tells nothing of it.
const DISOBEYED: Duration = Duration::from_secs(10);

/// What a diagnosis may look at. The probe's and the session's own lines are not among it.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What became of the machine.
    pub outcome: OutcomeKind,
    /// Whether the guest listened to the button before the first press; `None` when it could not be read.
    pub listening: Option<bool>,
    /// Whether the guest's ACPI driver took a press; `None` when no register could be read or none was
    /// pressed.
    pub press_taken: Option<bool>,
    /// What the registry on the disk says; `None` when it could not be read.
    pub registry: Option<RegistryFacts>,
    /// The screen just before the first request, as text; `None` without OCR or picture.
    pub screen_before: Option<String>,
    /// The screens after the first request in order, as text; empty without OCR.
    pub screens_after: Vec<String>,
    /// Whether texts could be read at all.
    pub can_read_screens: bool,
    /// Whether the screen was dark just before the first request.
    pub dark_before: bool,
    /// Pictures kept after the first request.
    pub changes_after: usize,
    /// The run state that QEMU gave before the first request, such as `running` or `suspended`.
    pub run_state_before: Option<String>,
    /// Whether the guest had written itself to disk (SUSPEND_DISK) before the first request.
    pub to_disk_before: bool,
    /// How long after the first request the guest agent's channel closed; `None` when it never did.
    pub agent_closed_after: Option<Duration>,
    /// Whether the screen changed in a large part after the first request.
    pub screen_reacted: bool,
    /// Whether somebody else may have asked before the observations begin.
    pub asked_before: bool,
    /// How many requests were made, by whatever means.
    pub requests: usize,
    /// How many times a soft request was made by the button.
    pub presses: usize,
    /// Whether keys were pressed after the first request.
    pub keys_pressed: bool,
    /// Whether the agent's forced request came after a press. Screens, channel and keys are then those
    /// before it: what the press alone had led to.
    pub agent_asked: bool,
    /// How long after the first request the host pulled the plug; `None` when it did not, or asked in no other way.
    /// Screens, channel and keys are those before it.
    pub plug_after: Option<Duration>,
    /// What could not be looked at, each with what would bring it.
    pub lacks: Vec<String>,
}

impl Evidence {
    /// Collects what the timeline shows. Registry and texts are added by who can read them.
    pub fn from_timeline(observations: &[Observation], outcome: OutcomeKind) -> Evidence {
        let (before, after, agent_asked) = window(observations);
        let asked_at = after.first().map(Observation::at);
        let closed = |o: &Observation| match &o.what {
            Seen::QmpEvent { name, data } if name == "VSERPORT_CHANGE" => {
                let open = data.get("open").and_then(serde_json::Value::as_bool);
                (open == Some(false)).then(|| o.at().saturating_sub(asked_at.unwrap_or_default()))
            }
            _ => None,
        };
        let listening = observations.iter().find_map(|o| match o.what {
            Seen::ButtonRegisters { enabled, .. } => Some(enabled),
            _ => None,
        });
        let presses = presses(after);
        Evidence {
            outcome,
            listening,
            press_taken: listening
                .filter(|_| presses > 0)
                .map(|_| observations.iter().any(|o| matches!(o.what, Seen::PressTaken))),
            registry: None,
            screen_before: None,
            screens_after: Vec::new(),
            can_read_screens: false,
            dark_before: before.iter().rev().any(|o| matches!(o.what, Seen::Screen { dark: true })),
            changes_after: after.iter().filter(|o| matches!(o.what, Seen::ScreenChanged { .. })).count(),
            run_state_before: before.iter().rev().find_map(|o| match &o.what {
                Seen::RunState { state } => Some(state.clone()),
                _ => None,
            }),
            to_disk_before: before
                .iter()
                .any(|o| matches!(&o.what, Seen::QmpEvent { name, .. } if name == "SUSPEND_DISK")),
            agent_closed_after: after.iter().find_map(closed),
            asked_before: false,
            screen_reacted: after
                .iter()
                .any(|o| matches!(o.what, Seen::ScreenChanged { changed, .. } if changed >= REACTION)),
            requests: observations.iter().filter(|o| matches!(o.what, Seen::Requested { .. })).count(),
            presses,
            keys_pressed: after
                .iter()
                .any(|o| matches!(&o.what, Seen::Acted { what } if what.starts_with("key "))),
            agent_asked,
            plug_after: plug_pulled(observations).filter(|after| !after.is_zero()),
            lacks: Vec::new(),
        }
    }

    /// For a machine whose screen cannot be seen: that no picture came is then no sign of a still screen.
    pub fn without_screen(&mut self) {
        self.can_read_screens = false;
        self.changes_after = self.changes_after.max(1);
    }

    /// For a machine whose agent was not seen to have its channel open: that the channel did not close is then
    /// no sign that services still run.
    pub fn without_agent(&mut self) {
        self.agent_closed_after = self.agent_closed_after.or(Some(Duration::ZERO));
    }

    /// For a look from outside, where somebody else may have asked before: what the screen shows now is what
    /// it shows after the request, as long as it has not changed; and a press that waits was not taken.
    pub fn as_found(&mut self, waiting: bool) {
        self.asked_before = true;
        if self.screens_after.is_empty() {
            self.screens_after.extend(self.screen_before.clone());
        }
        if self.presses == 0 && waiting {
            self.press_taken = Some(false);
        }
    }

    /// Whether the machine runs on although it was asked: until now, or until the plug was pulled.
    pub fn still_running(&self) -> bool {
        match self.outcome {
            OutcomeKind::StillRunning => true,
            OutcomeKind::HostKilled => self.plug_after.is_some_and(|after| after >= DISOBEYED),
            _ => false,
        }
    }

    /// Whether the press alone did not end the machine: it runs on, or only the agent's forced request
    /// brought the end.
    pub fn press_failed(&self) -> bool {
        self.still_running() || self.agent_helped()
    }

    /// Whether the machine powered off after the agent's forced request, which followed a press in vain.
    pub fn agent_helped(&self) -> bool {
        self.agent_asked && self.outcome == OutcomeKind::PoweredOff
    }

    /// Whether the button was pressed, or nobody asked yet: then what a press would do is the question.
    pub fn about_the_button(&self) -> bool {
        self.presses > 0 || self.requests == 0
    }

    /// Whether nothing at all came of a press: the guest took it, its screen stands still, its agent runs.
    pub fn came_to_nothing(&self) -> bool {
        self.press_taken == Some(true) && !self.screen_reacted && self.agent_closed_after.is_none()
    }

    /// Which of these texts a screen after the request shows, and no screen showed before. Letter case,
    /// punctuation and what OCR makes of spaces are ignored.
    pub fn screen_shows(&self, texts: &[ScreenText]) -> Option<ScreenText> {
        self.screens_after.iter().find_map(|screen| self.news(screen, texts))
    }

    /// A text that was on the screen before the request is no answer to it: a document may quote a dialog.
    fn news(&self, screen: &str, texts: &[ScreenText]) -> Option<ScreenText> {
        let ours = self.requests > 0 && !self.asked_before;
        let before = self.screen_before.as_deref().filter(|_| ours).unwrap_or_default();
        let new = texts.iter().filter(|text| shows(before, std::slice::from_ref(text)).is_none());
        shows(screen, &new.copied().collect::<Vec<_>>())
    }

    /// Whether the last screen shows one of these texts.
    pub fn last_screen_shows(&self, texts: &[ScreenText]) -> bool {
        self.screens_after.last().is_some_and(|screen| self.news(screen, texts).is_some())
    }

    /// Whether the last screen says one of these in a line of its own. A few letters before it may be what
    /// OCR makes of a spinner, or a word such as the Korean for "system"; more say something else.
    pub fn last_screen_line_is(&self, texts: &[ScreenText]) -> bool {
        const BESIDE: usize = 3;
        let is = |line: &str| {
            let line = plain(line);
            texts.iter().any(|text| {
                line.strip_suffix(&plain(text.text)).is_some_and(|rest| rest.chars().count() <= BESIDE)
            })
        };
        self.screens_after.last().is_some_and(|screen| screen.lines().any(is))
    }
}

/// The observations before the first request, those after it up to a plug pulled later or an agent's request that followed a
/// press, and whether there was such a request.
pub fn window(observations: &[Observation]) -> (&[Observation], &[Observation], bool) {
    let by = |o: &Observation, means: &dyn Fn(&str) -> bool| matches!(&o.what, Seen::Requested { by, .. } if means(by));
    let requested = observations.iter().position(|o| by(o, &|_| true));
    let (before, after) = observations.split_at(requested.unwrap_or(observations.len()));
    let pressed = after.first().is_some_and(|o| by(o, &|means| means == PRESS));
    let later = |of: &[Observation], means: &dyn Fn(&str) -> bool| {
        of.iter().skip(1).position(|o| by(o, means)).map(|at| at + 1)
    };
    let after = later(after, &is_plug).and_then(|plug| after.get(..plug)).unwrap_or(after);
    match later(after, &|means| means == AGENT).filter(|_| pressed) {
        Some(at) => (before, after.get(..at).unwrap_or_default(), true),
        None => (before, after, false),
    }
}

/// Presses of the button: ours, and those of libvirt's own accord, of which its log of QMP tells.
fn presses(observations: &[Observation]) -> usize {
    let ours = |number: u32| {
        let pressed = |o: &Observation| matches!(&o.what, Seen::Requested { by, number: n } if by == PRESS && *n == number);
        observations.iter().any(pressed)
    };
    let is_press = |o: &&Observation| match &o.what {
        Seen::Requested { by, .. } => by == PRESS,
        Seen::Answered { number, sent, .. } => sent.iter().any(|command| command == PRESS) && !ours(*number),
        _ => false,
    };
    observations.iter().filter(is_press).count()
}

/// Letters and digits only, in lower case: OCR is unsure of the rest.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Which of these a screen's text holds, ignoring what OCR is unsure of.
pub fn shows(screen: &str, texts: &[ScreenText]) -> Option<ScreenText> {
    let screen = plain(screen);
    texts.iter().find(|text| screen.contains(&plain(text.text))).copied()
}

/// What kind of thing a piece of evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// PM1_STS and PM1_EN.
    AcpiRegister,
    /// The guest's live registry.
    Registry,
    /// What the guest's session program reports. Only in older records: a diagnosis no longer hears it.
    SessionReport,
    /// The picture on the screen.
    Screen,
    /// QMP events and run state.
    Qmp,
    /// What the guest agent does or does not do.
    Agent,
    /// The cause's remedy was tried, and helped.
    Remedy,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceItem {
    /// Its kind.
    pub kind: EvidenceKind,
    /// A sentence; text from the guest is escaped.
    pub what: String,
    /// The cause that it speaks for; absent in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaks_for: Option<Cause>,
}

/// A cause with what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The cause.
    pub cause: Cause,
    /// What speaks for it.
    pub evidence: Vec<EvidenceItem>,
    /// The press has come to a stop there: what brings an end after it is something else.
    pub stalled: bool,
    /// The machine stays as it is until somebody acts: waiting longer changes nothing. Set only where a
    /// document, or QEMU's code, says so.
    pub lasting: bool,
    /// It rests on what did not happen: never more than [`Confidence::Low`].
    pub by_absence: bool,
}

impl Finding {
    /// A finding without evidence yet.
    pub fn new(cause: Cause) -> Finding {
        Finding { cause, evidence: Vec::new(), stalled: false, lasting: false, by_absence: false }
    }

    /// Adds a piece of evidence.
    pub fn add(&mut self, kind: EvidenceKind, what: String) {
        self.evidence.push(EvidenceItem { kind, what, speaks_for: Some(self.cause) });
    }

    /// How many kinds of evidence speak for it: one picture said twice is one.
    pub fn kinds(&self) -> usize {
        let mut kinds: Vec<EvidenceKind> = self.evidence.iter().map(|e| e.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.len()
    }
}

/// How sure a diagnosis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// One kind of evidence speaks for it.
    Low,
    /// Two kinds that do not depend on each other.
    Medium,
    /// Three or more kinds, or the remedy was tried and helped.
    High,
}

#[cfg(test)]
mod tests;
