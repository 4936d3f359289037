//! Cause `early-request`: pressed before the operating system listens.
//!
//! Until the guest's ACPI driver sets PWRBTN_EN, QEMU drops a press without a word (fact sheet A.1; in the
//! field: a shutdown asked right after the start is ignored). No condition is injected; the moment is wrong.

use crate::evidence::{Evidence, EvidenceKind, Finding};
use crate::outcome::{Cause, OutcomeKind};

/// The moment is to blame when nobody listened to the button at the only press.
pub fn detect(evidence: &Evidence) -> Option<Finding> {
    let asleep = evidence.run_state_before.as_deref() == Some("suspended");
    if evidence.listening != Some(false) || asleep || evidence.outcome != OutcomeKind::StillRunning {
        return None;
    }
    let mut finding = Finding::new(Cause::EarlyRequest);
    finding.add(EvidenceKind::AcpiRegister, "PWRBTN_EN was clear: nobody listened to the button".into());
    Some(finding)
}
