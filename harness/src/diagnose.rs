//! Diagnosis: the cause, from evidence alone. What was injected is not known here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::DETECTORS;
use crate::evidence::{Evidence, EvidenceItem, Finding};
use crate::outcome::{Cause, OutcomeKind};

/// The diagnosis of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// The cause; `none` when the request was obeyed, `unknown` when the evidence does not decide.
    pub cause: Cause,
    /// Other causes that the evidence speaks for as well.
    pub also: Vec<Cause>,
    /// What speaks for them.
    pub evidence: Vec<EvidenceItem>,
}

/// Names the cause. More kinds of evidence rank first; without any finding, a machine that obeyed has cause
/// `none` and any other has `unknown`.
pub fn diagnose(evidence: &Evidence) -> Diagnosis {
    let mut findings: Vec<Finding> = DETECTORS.iter().filter_map(|detect| detect(evidence)).collect();
    findings.sort_by_key(|f| std::cmp::Reverse(f.evidence.len()));
    let Some(first) = findings.first() else {
        let obeyed = matches!(evidence.outcome, OutcomeKind::PoweredOff | OutcomeKind::HostKilled);
        let cause = if obeyed { Cause::None } else { Cause::Unknown };
        return Diagnosis { cause, also: Vec::new(), evidence: Vec::new() };
    };
    Diagnosis {
        cause: first.cause,
        also: findings.iter().skip(1).map(|f| f.cause).collect(),
        evidence: findings.iter().flat_map(|f| f.evidence.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::power_policy::{EffectiveAction, Layer};
    use rstest::rstest;

    fn evidence(outcome: OutcomeKind) -> Evidence {
        Evidence {
            outcome,
            press_taken: Some(true),
            button_action: Some(EffectiveAction { index: 3, layer: Layer::Default }),
            blocking_windows: vec![],
            screen_changed_after_request: true,
        }
    }

    #[rstest]
    #[case::obeyed(OutcomeKind::PoweredOff, Some(true), 3, &[], Cause::None)]
    #[case::obeyed_in_spite_of_a_policy(OutcomeKind::PoweredOff, Some(true), 0, &[], Cause::None)]
    #[case::button_does_nothing(OutcomeKind::StillRunning, Some(true), 0, &[], Cause::PowerButtonPolicy)]
    #[case::press_never_arrived(OutcomeKind::StillRunning, Some(false), 0, &[], Cause::Unknown)]
    #[case::button_sleeps(OutcomeKind::Suspended, Some(true), 1, &[], Cause::PowerButtonPolicy)]
    #[case::sleeps_for_another_reason(OutcomeKind::Suspended, Some(true), 3, &[], Cause::Unknown)]
    #[case::held(OutcomeKind::StillRunning, Some(true), 3, &["Report"], Cause::UnresponsiveApplication)]
    #[case::held_and_gone(OutcomeKind::PoweredOff, Some(true), 3, &["Report"], Cause::None)]
    #[case::nothing_known(OutcomeKind::StillRunning, None, 3, &[], Cause::Unknown)]
    fn causes_follow_from_evidence(
        #[case] outcome: OutcomeKind,
        #[case] taken: Option<bool>,
        #[case] action: u32,
        #[case] windows: &[&str],
        #[case] cause: Cause,
    ) {
        let mut evidence = evidence(outcome);
        evidence.press_taken = taken;
        evidence.button_action = Some(EffectiveAction { index: action, layer: Layer::Policy });
        evidence.blocking_windows = windows.iter().map(|w| (*w).to_owned()).collect();
        assert_eq!(diagnose(&evidence).cause, cause);
    }
}
