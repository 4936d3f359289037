//! Cause `early-request`: pressed before the operating system listens.
//!
//! Until the guest's ACPI driver sets PWRBTN_EN, QEMU drops a press without a word (fact sheet A.1; in the
//! field: a shutdown asked right after the start is ignored). No condition is injected; the moment is wrong.

use super::Rule;
use crate::evidence::{Evidence, EvidenceKind, Finding};
use crate::outcome::Cause;

/// What is known of this cause.
pub const RULE: Rule = Rule {
    cause: Cause::EarlyRequest,
    detect,
    predict: super::prediction::nothing_on_disk,
    remedy: "wait until the guest listens to the button (PWRBTN_EN is set, the guest agent answers), then press again",
};

/// The moment is to blame when nobody listened to the button at the first press, and no later one was obeyed.
fn detect(evidence: &Evidence) -> Option<Finding> {
    let asleep = evidence.run_state_before.as_deref() == Some("suspended");
    if evidence.presses == 0 || evidence.listening != Some(false) || asleep || !evidence.press_failed() {
        return None;
    }
    let mut finding = Finding::new(Cause::EarlyRequest);
    // QEMU keeps no press for later.
    finding.stalled = true;
    finding.lasting = evidence.presses == 1;
    finding.add(EvidenceKind::AcpiRegister, "PWRBTN_EN was clear: nobody listened to the button".into());
    Some(finding)
}
