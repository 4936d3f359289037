//! Cause `unresponsive-application`, the other half of it: a service does not answer.
//!
//! The service manager waits for a PRESHUTDOWN service up to its own time-out (fact sheet B.0, phase 2), and
//! the screen says no more than "Shutting down".

use serde::Deserialize;

use super::malware::SQUATTER_MS;
use super::service::{StandIn, screen_waits_for_services, shorten};
use super::{Outlook, Part, Prediction, PressEffect, Proof, Realism, Rule, Subject, Sureness, WindowsMeans};
use crate::evidence::{Evidence, EvidenceKind, Finding};
use crate::guest::registry_facts::{PreshutdownService, RegistryFacts};
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::outcome::Cause;
use crate::screen_texts::UPDATE_WORK;

/// The condition: a service that is told to stop and does not, within a long time-out of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnresponsiveService {
    /// The service's name.
    pub service: String,
    /// How long it would take, seconds.
    pub seconds: u32,
    /// Whether it accepts PRESHUTDOWN, with a PreshutdownTimeout of its own. An ordinary service is given up after
    /// WaitToKillServiceTimeout instead.
    #[serde(default = "accepts")]
    pub preshutdown: bool,
}

fn accepts() -> bool {
    true
}

impl UnresponsiveService {
    fn stand_in(&self) -> StandIn<'_> {
        let preshutdown_ms = self.preshutdown.then_some(self.seconds.saturating_mul(1000));
        StandIn { name: &self.service, seconds: self.seconds, preshutdown_ms }
    }

    pub(super) async fn prove(&self, subject: &Subject<'_>) -> Result<Proof, AgentError> {
        self.stand_in().prove(subject.guest).await
    }
}

impl Part for UnresponsiveService {
    fn cause(&self) -> Cause {
        Cause::UnresponsiveApplication
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        self.stand_in().edits()
    }

    fn windows_means(&self) -> WindowsMeans {
        WindowsMeans::ProbeService
    }

    fn realism_in_reference(&self) -> Realism {
        Realism {
            real: "a Win32 service and its time-out value",
            modelled: "PRESHUTDOWN and SHUTDOWN, both sent as STOP by the session",
        }
    }
}

/// What is known of this cause.
pub const RULE: Rule = Rule {
    cause: Cause::UnresponsiveApplication,
    detect,
    predict,
    remedy: "set the service's PreshutdownTimeout to what it needs at most, or mend the service",
};

/// The service that may take longest, Windows' own apart, and apart from those that no honest one would ask for.
fn slowest(registry: &RegistryFacts) -> Option<&PreshutdownService> {
    let may_be_slow = |s: &&PreshutdownService| {
        let stock = WINDOWS_OWN.iter().any(|own| own.eq_ignore_ascii_case(&s.name));
        !stock && (30_001..SQUATTER_MS).contains(&s.timeout_ms)
    };
    registry.preshutdown.iter().filter(may_be_slow).max_by_key(|s| s.timeout_ms)
}

/// A service is to blame when the machine still runs, the screen says no more than that it shuts down, and
/// a service that is not Windows' own may take as long as it likes. With updates pending it need not be that
/// service: the evidence does not decide then.
fn detect(evidence: &Evidence) -> Option<Finding> {
    let registry = evidence.registry.as_ref()?;
    let slow = slowest(registry)?;
    let waits = evidence.still_running()
        && !registry.reboot_pending
        && screen_waits_for_services(evidence)
        && evidence.screen_shows(UPDATE_WORK).is_none();
    if !waits {
        return None;
    }
    let mut finding = Finding::new(Cause::UnresponsiveApplication);
    finding.add(EvidenceKind::Screen, "the screen says that it shuts down, and no more".into());
    let name = crate::text::printable(&slow.name, 60);
    finding.add(EvidenceKind::Registry, format!("service {name} may take {} s", slow.timeout_ms / 1000));
    Some(finding)
}

/// Windows' own services with long PreshutdownTimeouts: 16 hours each (from memory, fact sheet B.1).
const WINDOWS_OWN: [&str; 2] = ["wuauserv", "UsoSvc"];

/// Whether it will take its time, a disk does not tell.
fn predict(outlook: &Outlook<'_>) -> Option<Prediction> {
    let slow = slowest(outlook.registry)?;
    let name = crate::text::printable(&slow.name, 60);
    let because = format!("service {name} may take {} s to stop", slow.timeout_ms / 1000);
    let found = Prediction::new(
        Cause::UnresponsiveApplication,
        PressEffect::MayBeHeld,
        Sureness::Documented,
        because,
    );
    Some(found.with(vec![shorten(&slow.name)]))
}
