//! Cause `shutdown-event-tracker`: a dialog waits for a person to choose a reason.
//!
//! The document that lists the seven causes names it; on Windows 2012 and later a button press usually
//! logs reason 0x500ff without asking (fact sheet B.2, from memory, tag [?]): a run on Windows tells.

use serde::Deserialize;

use super::{Part, Proof, Realism, Rule, Subject};
use crate::disk::{Hive, RegistryValue};
use crate::evidence::{Evidence, EvidenceKind, Finding};
use crate::guest::driver::LiveValue;
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
        VALUES
            .map(|name| HiveEdit {
                hive: Hive::Software,
                key: POLICY.into(),
                name: name.into(),
                value: RegistryValue::Dword(1),
            })
            .into()
    }

    fn realism(&self, family: GuestFamily) -> Realism {
        match family {
            GuestFamily::Windows => Realism { real: "everything", modelled: "nothing" },
            GuestFamily::Reference => Realism {
                real: "the policy values, a Win32 dialog, its keys",
                modelled: "who shows it: the session",
            },
        }
    }
}

/// What is known of this cause.
pub const RULE: Rule = Rule {
    cause: Cause::ShutdownEventTracker,
    detect,
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
    if evidence.registry.as_ref().is_some_and(|r| r.shutdown_reason_on == Some(1)) {
        finding.add(EvidenceKind::Registry, "ShutdownReasonOn is 1".into());
    }
    if evidence.keys_pressed && evidence.outcome == crate::outcome::OutcomeKind::PoweredOff {
        finding.add(EvidenceKind::Remedy, "the guest went down after keys were pressed".into());
    }
    Some(finding)
}
