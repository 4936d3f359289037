//! Conditions: the things that are wrong in a guest, one file per cause.
//!
//! Each file holds, side by side: how the condition is put in place ([`Condition::offline`]), how it is
//! proven present before the request ([`Condition::prove`]), how its cause is detected from evidence alone
//! (`detect`, without knowing what was injected), how it is remedied ([`Rule`]), and what of it is real and what is
//! modelled in each guest family ([`Condition::realism`]).
//!
//! Adding a cause: a file here, its variant in [`Condition`], its rule in [`RULES`], a scenario.

pub mod asleep;
pub mod early_request;
pub mod faulty_end;
pub mod guest_agent;
pub mod logon_required;
pub mod malware;
pub mod means;
pub mod power_button_policy;
pub mod prediction;
mod service;
pub mod shutdown_event_tracker;
pub mod staged_update;
pub mod unresponsive_application;
pub mod unresponsive_service;
pub mod windows_update;

use serde::Deserialize;

pub use means::WindowsMeans;
pub use prediction::{Outlook, Prediction, PressEffect, Sureness, predict};

use crate::evidence::{Evidence, Finding};
use crate::guest::driver::GuestDriver;
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::Machine;
use crate::machine::agent::AgentError;
use crate::outcome::Cause;

/// One condition with its parameters, as scenario files name it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Condition {
    /// Update work at shutdown.
    WindowsUpdate(windows_update::WindowsUpdate),
    /// A package of the user's, staged.
    StagedUpdate(staged_update::StagedUpdate),
    /// The dialog that asks for a reason.
    ShutdownEventTracker(shutdown_event_tracker::ShutdownEventTracker),
    /// Nobody is logged on.
    LogonRequired(logon_required::LogonRequired),
    /// An application that does not answer, or answers in its own way.
    UnresponsiveApplication(unresponsive_application::UnresponsiveApplication),
    /// A service that does not stop.
    UnresponsiveService(unresponsive_service::UnresponsiveService),
    /// The power button is set to an action.
    PowerButtonPolicy(power_button_policy::PowerButtonPolicy),
    /// The system or its display sleeps.
    Asleep(asleep::Asleep),
    /// Something hostile, or damage.
    Malware(malware::Malware),
    /// An end that is no soft shutdown.
    FaultyEnd(faulty_end::FaultyEnd),
    /// A guest agent that does not do its part.
    GuestAgent(guest_agent::GuestAgent),
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

/// A running guest, for conditions that are entered or proven in it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its inside, through the agent.
    pub guest: &'a GuestDriver,
    /// Its outside.
    pub machine: &'a Machine,
}

/// What is known of one cause, whether or not it was injected.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The cause.
    pub cause: Cause,
    /// Looks for it in the evidence.
    pub detect: fn(&Evidence) -> Option<Finding>,
    /// Looks for it on a disk that has not been booted.
    pub predict: fn(&Outlook<'_>) -> Option<Prediction>,
    /// What people do about it.
    pub remedy: &'static str,
}

/// The rules of all causes, each from its own file.
pub const RULES: &[Rule] = &[
    windows_update::RULE,
    shutdown_event_tracker::RULE,
    logon_required::RULE,
    unresponsive_application::RULE,
    unresponsive_service::RULE,
    power_button_policy::RULE,
    asleep::RULE,
    malware::RULE,
    early_request::RULE,
];

/// What people do about a cause; one sentence for each rule that names it.
pub fn remedies(cause: Cause) -> Vec<&'static str> {
    RULES.iter().filter(|rule| rule.cause == cause).map(|rule| rule.remedy).collect()
}

impl Condition {
    fn part(&self) -> &dyn Part {
        match self {
            Condition::WindowsUpdate(c) => c,
            Condition::StagedUpdate(c) => c,
            Condition::ShutdownEventTracker(c) => c,
            Condition::LogonRequired(c) => c,
            Condition::UnresponsiveApplication(c) => c,
            Condition::UnresponsiveService(c) => c,
            Condition::PowerButtonPolicy(c) => c,
            Condition::Asleep(c) => c,
            Condition::Malware(c) => c,
            Condition::FaultyEnd(c) => c,
            Condition::GuestAgent(c) => c,
        }
    }

    /// The condition's id: the cause's name, where it is a cause.
    pub fn id(&self) -> String {
        self.part().id()
    }

    /// The cause that it stands for.
    pub fn cause(&self) -> Cause {
        self.part().cause()
    }

    /// The registry edits that put it in place before the boot.
    pub fn offline(&self, family: GuestFamily) -> Vec<HiveEdit> {
        self.part().offline(family)
    }

    /// Whether it consists of settings alone, that a disk tells before the boot; the others put a program into the
    /// guest, or are entered online.
    pub fn is_policy(&self) -> bool {
        match self {
            Condition::ShutdownEventTracker(_)
            | Condition::LogonRequired(_)
            | Condition::PowerButtonPolicy(_) => true,
            Condition::Asleep(c) => c.state == asleep::Sleep::Display,
            Condition::WindowsUpdate(_)
            | Condition::StagedUpdate(_)
            | Condition::UnresponsiveApplication(_)
            | Condition::UnresponsiveService(_)
            | Condition::Malware(_)
            | Condition::FaultyEnd(_)
            | Condition::GuestAgent(_) => false,
        }
    }

    /// What is real and what is modelled. ReactOS' button has one action, written into its code: no condition means
    /// anything to it.
    pub fn realism(&self, family: GuestFamily) -> Realism {
        match family {
            GuestFamily::Reactos => Realism { real: "nothing", modelled: "not available" },
            GuestFamily::Windows => self.part().realism_in_windows(),
            GuestFamily::Reference => self.part().realism_in_reference(),
        }
    }

    /// By what means it comes about in a real Windows.
    pub fn windows_means(&self) -> WindowsMeans {
        self.part().windows_means()
    }

    /// Whether the guest's agent is silent once it is entered: such a condition comes last.
    pub fn silences_agent(&self) -> bool {
        matches!(self, Condition::Asleep(_) | Condition::GuestAgent(_))
    }

    /// Whether it ends qemu-ga, so that the guest's report of that end is no trouble.
    pub fn ends_agent(&self) -> bool {
        matches!(self, Condition::GuestAgent(_))
    }

    /// Whether the machine is off once it is entered, and stays to be asked all the same.
    pub fn ends_the_machine(&self) -> bool {
        matches!(self, Condition::Asleep(c) if c.state == asleep::Sleep::S4)
    }

    /// Does online what offline edits cannot.
    pub async fn enter(&self, subject: &Subject<'_>) -> Result<(), AgentError> {
        match self {
            Condition::Asleep(c) => c.enter(subject).await,
            Condition::GuestAgent(c) => c.enter(subject).await,
            Condition::StagedUpdate(c) => c.enter(subject).await,
            _ => Ok(()),
        }
    }

    /// Looks for the condition in the running guest, independently of how it was put there.
    pub async fn prove(&self, subject: &Subject<'_>) -> Result<Proof, AgentError> {
        match self {
            Condition::WindowsUpdate(c) => c.prove(subject).await,
            Condition::StagedUpdate(c) => c.prove(subject).await,
            Condition::ShutdownEventTracker(c) => c.prove(subject).await,
            Condition::LogonRequired(c) => c.prove(subject).await,
            Condition::UnresponsiveApplication(c) => c.prove(subject.guest).await,
            Condition::UnresponsiveService(c) => c.prove(subject).await,
            Condition::PowerButtonPolicy(c) => c.prove(subject.guest).await,
            Condition::Asleep(c) => c.prove(subject).await,
            Condition::Malware(c) => c.prove(subject).await,
            Condition::FaultyEnd(c) => c.prove(subject).await,
            Condition::GuestAgent(c) => c.prove(subject).await,
        }
    }
}

/// What every condition says of itself.
trait Part {
    fn id(&self) -> String {
        self.cause().to_string()
    }
    fn cause(&self) -> Cause;
    fn offline(&self, family: GuestFamily) -> Vec<HiveEdit>;
    /// Most conditions are Windows' own settings and programs.
    fn realism_in_windows(&self) -> Realism {
        Realism { real: "everything", modelled: "nothing" }
    }
    fn realism_in_reference(&self) -> Realism;
    fn windows_means(&self) -> WindowsMeans;
}
