//! Evidence: what a diagnosis may look at, and what it makes of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use softoff_guest_protocol::probe::ProbeEvent;

use crate::guest::power_policy::EffectiveAction;
use crate::outcome::{Cause, OutcomeKind};
use crate::timeline::{Observation, Seen};

/// What a diagnosis may look at.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What became of the machine.
    pub outcome: OutcomeKind,
    /// Whether the guest's ACPI driver took a press; `None` when no register could be read or none was
    /// pressed.
    pub press_taken: Option<bool>,
    /// The button's action in the live registry, when the agent could be asked.
    pub button_action: Option<EffectiveAction>,
    /// Titles of windows that the session reports as holding the shutdown.
    pub blocking_windows: Vec<String>,
    /// Whether a new picture was kept after the request.
    pub screen_changed_after_request: bool,
}

impl Evidence {
    /// Collects what the timeline shows; the registry is added by who asked the agent.
    pub fn from_timeline(observations: &[Observation], outcome: OutcomeKind) -> Evidence {
        let requested =
            observations.iter().find_map(|o| matches!(o.what, Seen::Requested { .. }).then_some(o.at_us));
        let after = |o: &&Observation| requested.is_some_and(|at| o.at_us >= at);
        let registers = observations.iter().any(|o| matches!(o.what, Seen::ButtonRegisters { .. }));
        let taken = observations.iter().any(|o| matches!(o.what, Seen::PressTaken));
        let blocking = observations.iter().filter(after).rev().find_map(|o| match &o.what {
            Seen::Probe(line) => match &line.event {
                ProbeEvent::SessionBlocked { windows } => Some(windows.clone()),
                _ => None,
            },
            _ => None,
        });
        Evidence {
            outcome,
            press_taken: registers.then_some(taken),
            button_action: None,
            blocking_windows: blocking.unwrap_or_default(),
            screen_changed_after_request: observations
                .iter()
                .filter(after)
                .any(|o| matches!(o.what, Seen::ScreenChanged { .. })),
        }
    }
}

/// What kind of thing a piece of evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// PM1_STS and PM1_EN.
    AcpiRegister,
    /// The guest's live registry.
    Registry,
    /// What the guest's session manager reports.
    SessionReport,
    /// The picture on the screen.
    Screen,
    /// QMP events and run state.
    Qmp,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceItem {
    /// Its kind.
    pub kind: EvidenceKind,
    /// A sentence; text from the guest is escaped.
    pub what: String,
}

/// A cause with what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The cause.
    pub cause: Cause,
    /// What speaks for it.
    pub evidence: Vec<EvidenceItem>,
}

impl Finding {
    /// A finding without evidence yet.
    pub fn new(cause: Cause) -> Finding {
        Finding { cause, evidence: Vec::new() }
    }

    /// Adds a piece of evidence.
    pub fn add(&mut self, kind: EvidenceKind, what: String) {
        self.evidence.push(EvidenceItem { kind, what });
    }
}
