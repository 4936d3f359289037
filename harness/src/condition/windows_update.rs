//! Cause `windows-update`: update work at shutdown prolongs it.
//!
//! Windows finishes staged updates while services stop: TrustedInstaller and the update orchestrator hold the
//! shutdown through PRESHUTDOWN (fact sheet B.1). The synthetic condition is the same mechanism class: a
//! service that accepts PRESHUTDOWN and works for N seconds, with RebootPending set as servicing leaves it.
//! Nothing is ever written to pending.xml or SetupExecute: that breaks a Windows. The reference guest, which sees
//! RebootPending, stages a modelled update of two steps of its own (images/guest/init, `update`).

use serde::Deserialize;

use super::service::StandIn;
use super::{Outlook, Part, Prediction, PressEffect, Proof, Realism, Rule, Subject, Sureness, WindowsMeans};
use crate::disk::{Hive, RegistryValue};
use crate::evidence::{Evidence, EvidenceKind, Finding};
use crate::guest::registry_facts::REBOOT_PENDING;
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::inspect::PendingUpdates;
use crate::machine::agent::AgentError;
use crate::outcome::Cause;
use crate::screen_texts::UPDATE_WORK;

/// The condition: a reboot is pending, and a PRESHUTDOWN service works for some seconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowsUpdate {
    /// How long it works, seconds.
    pub seconds: u32,
    /// The service's name.
    #[serde(default = "service")]
    pub service: String,
}

fn service() -> String {
    "SoftoffUpdate".into()
}

impl WindowsUpdate {
    fn stand_in(&self) -> StandIn<'_> {
        StandIn {
            name: &self.service,
            seconds: self.seconds,
            preshutdown_ms: Some((self.seconds + 60).saturating_mul(1000)),
        }
    }

    pub(super) async fn prove(&self, subject: &Subject<'_>) -> Result<Proof, AgentError> {
        let service = self.stand_in().prove(subject.guest).await?;
        let pending =
            subject.guest.run("reg", &["query", &format!(r"HKLM\SOFTWARE\{REBOOT_PENDING}")]).await?;
        let pending = pending.code == Some(0);
        let evidence =
            format!("{}; RebootPending {}", service.evidence, if pending { "exists" } else { "is absent" });
        Ok(Proof { present: service.present && pending, evidence })
    }
}

impl Part for WindowsUpdate {
    fn cause(&self) -> Cause {
        Cause::WindowsUpdate
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        let mut edits = self.stand_in().edits();
        edits.push(HiveEdit::new(Hive::Software, REBOOT_PENDING, "", RegistryValue::String(String::new())));
        edits
    }

    fn windows_means(&self) -> WindowsMeans {
        WindowsMeans::SyntheticUpdate
    }

    fn realism_in_windows(&self) -> Realism {
        Realism {
            real: "PRESHUTDOWN, its time-out, the pending key",
            modelled: "the work, and no update text",
        }
    }

    fn realism_in_reference(&self) -> Realism {
        Realism {
            real: "the service and the pixels",
            modelled: "PRESHUTDOWN, the update screen, and the two steps that it commits on the disk",
        }
    }
}

/// What is known of this cause.
pub const RULE: Rule = Rule {
    cause: Cause::WindowsUpdate,
    detect,
    predict,
    remedy: "wait: leave it up to hours (Azure's guidance says 8) before forcing; patch in a maintenance window",
};

/// Update work is to blame when the screen says so; a pending reboot in the registry is more of it.
fn detect(evidence: &Evidence) -> Option<Finding> {
    let text = evidence.screen_shows(UPDATE_WORK)?;
    let mut finding = Finding::new(Cause::WindowsUpdate);
    finding.add(EvidenceKind::Screen, format!("the screen asks not to turn the computer off ({text})"));
    if evidence.registry.as_ref().is_some_and(|r| r.reboot_pending) {
        finding.add(EvidenceKind::Registry, "Component Based Servicing: RebootPending".into());
    }
    Some(finding)
}

/// Pending work is done while the machine shuts down, and at the next boot: a press is obeyed, later. Nothing in the
/// registry shortens it.
fn predict(outlook: &Outlook<'_>) -> Option<Prediction> {
    let updates = outlook.disk.updates.as_ref();
    if !outlook.registry.reboot_pending && !updates.is_some_and(PendingUpdates::any) {
        return None;
    }
    let because = match updates {
        Some(updates) if updates.pending_xml || updates.setup_execute => {
            "servicing has work to do at the shutdown"
        }
        _ => "updates wait for a restart",
    };
    Some(Prediction::new(
        Cause::WindowsUpdate,
        PressEffect::TakesLonger,
        Sureness::Documented,
        because.to_owned(),
    ))
}
