//! Cause `shutdown-event-tracker`: a dialog waits for a person to choose a reason.
//!
//! The document that lists the seven causes names it; on Windows 2012 and later a button press usually
//! logs reason 0x500ff without asking (fact sheet B.2, from memory, tag [?]): a run on Windows tells.

use serde::Deserialize;

use super::{Outlook, Part, Prediction, PressEffect, Proof, Realism, Rule, Subject, Sureness, WindowsMeans};
use crate::disk::{Hive, RegistryValue};
use crate::evidence::{Evidence, EvidenceKind, Finding};
use crate::guest::driver::LiveValue;
use crate::guest::registry_facts::RegistryFacts;
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::outcome::Cause;
use crate::screen_texts::EVENT_TRACKER;

const POLICY: &str = r"Policies\Microsoft\Windows NT\Reliability";
const VALUES: [&str; 2] = ["ShutdownReasonOn", "ShutdownReasonUI"];

/// The condition: the tracker is on for every kind of system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownEventTracker {}

impl ShutdownEventTracker {
    pub(super) async fn prove(&self, subject: &Subject<'_>) -> Result<Proof, AgentError> {
        let mut found = Vec::new();
        for name in VALUES {
            found.push(subject.guest.registry(&format!(r"HKLM\SOFTWARE\{POLICY}"), name).await?);
        }
        let present = found.iter().all(|v| *v == Some(LiveValue::Dword(1)));
        Ok(Proof { present, evidence: format!("live registry: {} are {found:?}", VALUES.join(", ")) })
    }
}

impl Part for ShutdownEventTracker {
    fn cause(&self) -> Cause {
        Cause::ShutdownEventTracker
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        set(1)
    }

    fn windows_means(&self) -> WindowsMeans {
        WindowsMeans::RegistryValues
    }

    fn realism_in_reference(&self) -> Realism {
        Realism { real: "the policy values, a Win32 dialog, its keys", modelled: "who shows it: the session" }
    }
}

fn set(number: u32) -> Vec<HiveEdit> {
    VALUES.map(|name| HiveEdit::new(Hive::Software, POLICY, name, RegistryValue::Dword(number))).into()
}

/// Whether the tracker is switched on.
fn is_on(registry: &RegistryFacts) -> bool {
    registry.shutdown_reason_on == Some(1)
}

/// What is known of this cause.
pub const RULE: Rule = Rule {
    cause: Cause::ShutdownEventTracker,
    detect,
    predict,
    remedy: "set ShutdownReasonOn and ShutdownReasonUI to 0 in SOFTWARE\\Policies\\Microsoft\\Windows NT\\Reliability",
};

/// The tracker is to blame when its dialog was on the screen after the request, whatever became of it: that
/// a key press then ended the wait is more evidence, not less.
fn detect(evidence: &Evidence) -> Option<Finding> {
    let text = evidence.screen_shows(EVENT_TRACKER)?;
    let mut finding = Finding::new(Cause::ShutdownEventTracker);
    // It waits for an answer; no document gives it a time-out.
    finding.stalled = evidence.press_failed() && evidence.last_screen_shows(EVENT_TRACKER);
    finding.lasting = finding.stalled;
    finding.add(EvidenceKind::Screen, format!("the tracker's dialog was shown after the request ({text})"));
    if evidence.registry.as_ref().is_some_and(is_on) {
        finding.add(EvidenceKind::Registry, "ShutdownReasonOn is 1".into());
    }
    if evidence.keys_pressed && evidence.outcome == crate::outcome::OutcomeKind::PoweredOff {
        finding.add(EvidenceKind::Remedy, "the guest went down after keys were pressed".into());
    }
    Some(finding)
}

/// Only where it was switched on: that an unset tracker, on by default on servers, stops a button press is not
/// likely on 2012 and later (fact sheet B.2, tag [?]). ShutdownReasonUI is 1 for always, 2 for workstations and
/// 3 for servers (from memory); what is installed decides between these.
fn predict(outlook: &Outlook<'_>) -> Option<Prediction> {
    let registry = outlook.registry;
    let server = registry.installation_type.as_deref().is_none_or(|kind| kind.starts_with("Server"));
    let shown = match registry.shutdown_reason_ui {
        Some(2) => !server,
        Some(3) => server,
        ui => ui == Some(1),
    };
    if !is_on(registry) || !shown {
        return None;
    }
    let because = "ShutdownReasonOn is 1, and ShutdownReasonUI shows the dialog".to_owned();
    let found = Prediction::new(
        Cause::ShutdownEventTracker,
        PressEffect::WaitsForPerson,
        Sureness::Reported,
        because,
    );
    Some(found.with(set(0)))
}
