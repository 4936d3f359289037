//! Predictions: what a press will come to, by an image's disk alone.
//!
//! Each cause's file says under which values it will stand in the way (`predict`), beside how it is detected
//! afterwards (`detect`): both ask the same functions about the registry.

use serde::Serialize;

use crate::guest::registry_facts::RegistryFacts;
use crate::inject::HiveEdit;
use crate::inspect::DiskReport;
use crate::outcome::{Cause, OutcomeKind};

/// What a prediction may look at.
#[derive(Debug, Clone, Copy)]
pub struct Outlook<'a> {
    /// What the registry says about shutting down.
    pub registry: &'a RegistryFacts,
    /// What else the system volume tells.
    pub disk: &'a DiskReport,
}

/// What a press will come to because of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PressEffect {
    /// It is taken and discarded.
    Discarded,
    /// The machine goes to S3.
    Suspends,
    /// The machine goes to S4: off, but not shut down.
    Hibernates,
    /// A dialog waits for a person.
    WaitsForPerson,
    /// Once the display is off, the first press only lights it.
    LightsDisplay,
    /// The shutdown takes longer.
    TakesLonger,
    /// Something could hold the shutdown; whether it does, the disk does not tell.
    MayBeHeld,
    /// The disk does not decide it.
    Undecided,
}

impl PressEffect {
    /// Whether a press will not be obeyed.
    pub fn stands_in_the_way(self) -> bool {
        matches!(
            self,
            PressEffect::Discarded
                | PressEffect::Suspends
                | PressEffect::Hibernates
                | PressEffect::WaitsForPerson
                | PressEffect::LightsDisplay
        )
    }

    /// What becomes of the machine, where one press decides it.
    pub fn outcome(self) -> OutcomeKind {
        match self {
            PressEffect::Discarded | PressEffect::WaitsForPerson | PressEffect::LightsDisplay => {
                OutcomeKind::StillRunning
            }
            PressEffect::Suspends => OutcomeKind::Suspended,
            PressEffect::Hibernates => OutcomeKind::Hibernated,
            PressEffect::TakesLonger | PressEffect::MayBeHeld | PressEffect::Undecided => {
                OutcomeKind::PoweredOff
            }
        }
    }
}

/// How sure the rule behind a prediction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sureness {
    /// Said by vendors or remembered, tag `[?]` or `[M]` of the fact sheet: no run on Windows has shown it.
    Reported,
    /// Measured by others, or what independent tools implement.
    Observed,
    /// Documented by Microsoft.
    Documented,
}

/// One cause that will, or may, stand in the way of a press.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// The cause.
    pub cause: Cause,
    /// What a press will come to.
    pub effect: PressEffect,
    /// How sure the rule is.
    pub sureness: Sureness,
    /// The values that it rests on; text from the guest is escaped.
    pub because: String,
    /// The values that put it right; empty where a registry value does not help.
    pub remedy: Vec<HiveEdit>,
}

impl Prediction {
    /// A prediction without a remedy yet.
    pub(super) fn new(cause: Cause, effect: PressEffect, sureness: Sureness, because: String) -> Prediction {
        Prediction { cause, effect, sureness, because, remedy: Vec::new() }
    }

    pub(super) fn with(mut self, remedy: Vec<HiveEdit>) -> Prediction {
        self.remedy = remedy;
        self
    }
}

/// For causes of which a disk tells nothing.
pub(super) fn nothing_on_disk(_: &Outlook<'_>) -> Option<Prediction> {
    None
}

/// What all causes predict of an image, the gravest first. One that lies behind another counts all the same: it
/// shows when the other is put right.
pub fn predict(outlook: &Outlook<'_>) -> Vec<Prediction> {
    let mut found: Vec<Prediction> = super::RULES.iter().filter_map(|rule| (rule.predict)(outlook)).collect();
    found.sort_by_key(|prediction| (!prediction.effect.stands_in_the_way(), prediction.effect));
    found
}
