//! Conditions: the things that are wrong in a guest, one file per cause.
//!
//! Each file holds, side by side: how the condition is put in place ([`Condition::offline`]), how it is
//! proven present before the request ([`Condition::prove`]), how its cause is detected from evidence alone
//! (`detect`, without knowing what was injected), how it is remedied, and what of it is real and what is
//! modelled in each guest family ([`Condition::realism`]).
//!
//! Adding a cause: a file here, its variant in [`Condition`], its `detect` in [`DETECTORS`], a scenario.

pub mod power_button_policy;
pub mod unresponsive_application;

use serde::Deserialize;

use crate::evidence::{Evidence, Finding};
use crate::guest::agent::AgentError;
use crate::guest::driver::GuestDriver;
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::outcome::Cause;
use power_button_policy::PowerButtonPolicy;
use unresponsive_application::UnresponsiveApplication;

/// One condition with its parameters, as scenario files name it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Condition {
    /// The power button is set to an action.
    PowerButtonPolicy(PowerButtonPolicy),
    /// An application that does not answer, or answers in its own way.
    UnresponsiveApplication(UnresponsiveApplication),
}

/// Whether a condition was found in the guest before the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Found as the parameters say.
    pub present: bool,
    /// What showed it, or what was found instead.
    pub evidence: String,
}

/// What of a condition is the real thing in a guest family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Realism {
    /// What is the same as in Windows.
    pub real: &'static str,
    /// What stands in for Windows.
    pub modelled: &'static str,
}

/// Looks for one cause in the evidence.
pub type Detector = fn(&Evidence) -> Option<Finding>;

/// The detectors of all causes.
pub const DETECTORS: &[Detector] = &[power_button_policy::detect, unresponsive_application::detect];

impl Condition {
    fn part(&self) -> &dyn Part {
        match self {
            Condition::PowerButtonPolicy(c) => c,
            Condition::UnresponsiveApplication(c) => c,
        }
    }

    /// The condition's id: the cause's name.
    pub fn id(&self) -> String {
        self.part().cause().to_string()
    }

    /// The registry edits that put it in place before the boot.
    pub fn offline(&self, family: GuestFamily) -> Vec<HiveEdit> {
        self.part().offline(family)
    }

    /// How people undo it.
    pub fn remedy(&self) -> &'static str {
        self.part().remedy()
    }

    /// What is real and what is modelled.
    pub fn realism(&self, family: GuestFamily) -> Realism {
        self.part().realism(family)
    }

    /// Looks for the condition in the running guest, independently of how it was put there.
    pub async fn prove(&self, guest: &GuestDriver) -> Result<Proof, AgentError> {
        match self {
            Condition::PowerButtonPolicy(c) => c.prove(guest).await,
            Condition::UnresponsiveApplication(c) => c.prove(guest).await,
        }
    }
}

/// What every condition says of itself.
trait Part {
    fn cause(&self) -> Cause;
    fn offline(&self, family: GuestFamily) -> Vec<HiveEdit>;
    fn remedy(&self) -> &'static str;
    fn realism(&self, family: GuestFamily) -> Realism;
}
