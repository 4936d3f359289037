//! What is run, and what is told meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crate::image::Image;
use crate::inject::HiveEdit;
use crate::known_issues::KnownIssues;
use crate::machine::accel::Accelerator;
use crate::machine::backend::Backend;
use crate::outcome::{BackendKind, Phase};
use crate::record::schema::ScenarioRecord;
use crate::scenario::{Scenario, ScenarioName};
use crate::warm::WarmStates;

/// How long nothing may be observed of a guest that was asked before it counts as quiet. A guest on its way down
/// shows something every 0.6 s (measured on the reference guest under TCG).
pub const QUIET: Duration = Duration::from_secs(1);

/// What the engine tells while it works; the terminal, the JSON and the reports listen to the same stream.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// A scenario begins.
    Started {
        /// Which one.
        job: JobName,
    },
    /// It came to another stage.
    Stage {
        /// Which one.
        job: JobName,
        /// Where it is now.
        stage: Stage,
    },
    /// The result is known; only the clean-up of `keep` may follow.
    Finished {
        /// Which one.
        job: JobName,
        /// Its record.
        record: Box<ScenarioRecord>,
    },
    /// Something worth a line that changes no result.
    Note {
        /// Which one.
        job: JobName,
        /// The line.
        what: String,
    },
    /// The machine is kept for people; it ends when they say so.
    Kept {
        /// Which one.
        job: JobName,
        /// How to attach, one command a line.
        attach: Vec<String>,
    },
}

/// A scenario on an image, and which repeat.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobName {
    /// The scenario.
    pub scenario: ScenarioName,
    /// The image's name.
    pub image: String,
    /// From 1.
    pub repeat: u32,
    /// Who starts QEMU.
    pub backend: BackendKind,
}

impl JobName {
    /// Its folder's name.
    pub fn dir(&self) -> String {
        let backend = match self.backend {
            BackendKind::Qemu => "",
            BackendKind::Libvirt => "libvirt.",
        };
        format!("{}.{}.{backend}{}", self.scenario, self.image, self.repeat)
    }
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Overlay and injection.
    Preparing,
    /// From QEMU's start to readiness; counts the boots.
    Booting(u32),
    /// From QEMU's start to readiness, by a saved state.
    Starting,
    /// Looking for the condition.
    Proving,
    /// Asked; with the last phase reached.
    Waiting(Phase),
    /// Asked, and nothing was observed for [`QUIET`]: the guest waits for something, and needs no processor.
    Quiet,
    /// Outcome settled; collecting evidence, ending QEMU, reading the disk.
    Finishing,
    /// The same disk is booted once more.
    NextBoot,
}

/// Whoever wants to know.
pub type Listener = Arc<dyn Fn(RunEvent) + Send + Sync>;

/// How a machine comes to be ready.
#[derive(Debug, Clone)]
pub enum Start {
    /// By booting.
    Cold,
    /// From a saved state, where the scenario can and there is one.
    Warm(Arc<WarmStates>),
}

/// One scenario to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The definition.
    pub scenario: Arc<Scenario>,
    /// The image.
    pub image: Arc<Image>,
    /// How to run the guest's instructions.
    pub accelerator: Accelerator,
    /// From 1.
    pub repeat: u32,
    /// The repeat that had failed, when this is a retry.
    pub retry_of: Option<u32>,
    /// Failures that are on file.
    pub known_issues: Arc<KnownIssues>,
    /// The approved normalised record; another one is a failure. `None`: not compared.
    pub approved: Option<String>,
    /// Factor on every time limit.
    pub deadline_scale: f64,
    /// Wait for the deadline even when the evidence has decided.
    pub full_deadline: bool,
    /// Boot without putting the conditions in place: the negative control of the proofs.
    pub without_injection: bool,
    /// Settings that are put over the conditions, as an image's publisher or a policy would: what they cure is then shown
    /// by the run.
    pub hardening: Arc<Vec<HiveEdit>>,
    /// Keep the machine after the result, until `cancel` says to end.
    pub keep: bool,
    /// How the machine comes to be ready.
    pub start: Start,
    /// A deadline from earlier runs, instead of the definition's.
    pub deadline: Option<Duration>,
    /// Who starts QEMU and is asked.
    pub backend: Backend,
}

impl Job {
    /// The first, plain run of a scenario on an image: a cold boot, compared with nothing.
    pub fn new(scenario: Arc<Scenario>, image: Arc<Image>, accelerator: Accelerator) -> Job {
        Job {
            scenario,
            image,
            accelerator,
            repeat: 1,
            retry_of: None,
            approved: None,
            known_issues: Arc::default(),
            deadline_scale: 1.0,
            full_deadline: false,
            without_injection: false,
            hardening: Arc::default(),
            keep: false,
            start: Start::Cold,
            deadline: None,
            backend: Backend::Qemu,
        }
    }

    /// Its name.
    pub fn name(&self) -> JobName {
        JobName {
            scenario: self.scenario.name.clone(),
            image: self.image.manifest.name.clone(),
            repeat: self.repeat,
            backend: self.backend.kind(),
        }
    }

    /// How long after the first request the outcome is waited for.
    pub(crate) fn deadline(&self) -> Duration {
        self.scaled(self.deadline.unwrap_or(self.scenario.request.deadline.0))
    }

    pub(crate) fn scaled(&self, limit: Duration) -> Duration {
        limit.mul_f64(self.deadline_scale)
    }
}
