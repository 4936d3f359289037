//! Diagnosis: the cause, from evidence alone. What was injected is not known here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::RULES;
use crate::evidence::{Confidence, Evidence, EvidenceItem, EvidenceKind, Finding};
use crate::outcome::{Cause, OutcomeKind};

/// The diagnosis of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// The cause; `none` when the request was obeyed, `unknown` when the evidence does not decide.
    pub cause: Cause,
    /// How sure; absent where no cause is named, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// Other causes that the evidence speaks for as well, the likelier first.
    pub also: Vec<Cause>,
    /// What speaks for them.
    pub evidence: Vec<EvidenceItem>,
    /// What could not be looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
}

/// Names the cause. More kinds of evidence rank first; without any finding, a machine that obeyed has cause
/// `none` and any other has `unknown`.
pub fn diagnose(evidence: &Evidence) -> Diagnosis {
    let findings = findings(evidence);
    let Some(first) = findings.first() else {
        let obeyed = matches!(evidence.outcome, OutcomeKind::PoweredOff | OutcomeKind::HostKilled)
            && !evidence.press_failed();
        let cause = if obeyed { Cause::None } else { Cause::Unknown };
        return Diagnosis {
            cause,
            confidence: None,
            also: Vec::new(),
            evidence: Vec::new(),
            lacks: evidence.lacks.clone(),
        };
    };
    Diagnosis {
        cause: first.cause,
        confidence: Some(confidence(first)),
        also: findings.iter().skip(1).map(|f| f.cause).filter(|c| *c != first.cause).collect(),
        evidence: findings.iter().flat_map(|f| f.evidence.clone()).collect(),
        lacks: evidence.lacks.clone(),
    }
}

/// What the rules find, the best supported first.
fn findings(evidence: &Evidence) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().filter_map(|rule| (rule.detect)(evidence)).collect();
    for finding in findings.iter_mut().filter(|f| f.stalled && evidence.agent_helped()) {
        finding.add(
            EvidenceKind::Agent,
            "the press had led nowhere, the machine went down after the agent's forced request".into(),
        );
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.kinds()));
    findings
}

/// The cause that keeps the machine as it is until somebody acts, if the evidence so far shows one: then
/// nothing is gained by waiting for the deadline.
pub fn lasting(evidence: &Evidence) -> Option<Cause> {
    findings(evidence).into_iter().find(|f| f.lasting).map(|f| f.cause)
}

fn confidence(finding: &Finding) -> Confidence {
    let helped = finding.evidence.iter().any(|e| e.kind == EvidenceKind::Remedy);
    match finding.kinds() {
        _ if finding.by_absence => Confidence::Low,
        _ if helped => Confidence::High,
        0 | 1 => Confidence::Low,
        2 => Confidence::Medium,
        _ => Confidence::High,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;
    use crate::guest::power_policy::{EffectiveAction, Layer};
    use crate::guest::registry_facts::{PreshutdownService, RegistryFacts};

    /// A healthy guest that took the press and still runs, on a lit desktop.
    fn evidence() -> Evidence {
        let mut evidence = Evidence::from_timeline(&[], OutcomeKind::StillRunning);
        evidence.listening = Some(true);
        evidence.press_taken = Some(true);
        evidence.presses = 1;
        evidence.requests = 1;
        evidence.can_read_screens = true;
        evidence.changes_after = 1;
        evidence.screen_before = Some("Desktop".into());
        evidence.run_state_before = Some("running".into());
        evidence.registry = Some(RegistryFacts {
            button_action: Some(EffectiveAction { index: 3, layer: Layer::Default }),
            shutdown_without_logon: Some(1),
            auto_admin_logon: Some("1".into()),
            ..RegistryFacts::default()
        });
        evidence
    }

    fn registry(e: &mut Evidence) -> &mut RegistryFacts {
        e.registry.get_or_insert_default()
    }

    fn service(e: &mut Evidence, timeout_ms: u32) {
        registry(e).preshutdown.push(PreshutdownService { name: "Backup".into(), timeout_ms });
        e.screens_after = vec!["Shutting down".into()];
    }

    fn pulled(e: &mut Evidence, after: u64) {
        (e.outcome, e.plug_after) = (OutcomeKind::HostKilled, Some(Duration::from_secs(after)));
    }

    #[test]
    fn the_agents_help_is_evidence_only_where_the_press_had_stalled() {
        let mut stalled = evidence();
        registry(&mut stalled).button_action = Some(EffectiveAction { index: 0, layer: Layer::Policy });
        stalled.agent_asked = true;
        stalled.outcome = OutcomeKind::PoweredOff;
        let kinds = |e: &Evidence| diagnose(e).evidence.iter().map(|e| e.kind).collect::<Vec<_>>();
        assert!(kinds(&stalled).contains(&EvidenceKind::Agent));
        let mut working = evidence();
        working.screens_after = vec!["Working on updates 80%".into()];
        (working.agent_asked, working.outcome) = (true, OutcomeKind::PoweredOff);
        assert_eq!(kinds(&working), [EvidenceKind::Screen]);
    }

    #[test]
    fn what_rests_on_absence_is_of_low_confidence() {
        let mut silent = evidence();
        silent.changes_after = 0;
        let found = diagnose(&silent);
        assert_eq!((found.cause, found.confidence), (Cause::Malware, Some(Confidence::Low)));
    }

    #[rstest]
    #[case::one(&[EvidenceKind::Screen], false, Confidence::Low)]
    #[case::one_said_twice(&[EvidenceKind::Screen, EvidenceKind::Screen], false, Confidence::Low)]
    #[case::two(&[EvidenceKind::Screen, EvidenceKind::Qmp], false, Confidence::Medium)]
    #[case::three(&[EvidenceKind::Screen, EvidenceKind::Qmp, EvidenceKind::Registry], false, Confidence::High)]
    #[case::the_remedy_helped(&[EvidenceKind::Remedy], false, Confidence::High)]
    #[case::nothing_was_seen(&[EvidenceKind::Screen, EvidenceKind::Remedy], true, Confidence::Low)]
    fn kinds_of_evidence_make_it_sure(
        #[case] kinds: &[EvidenceKind],
        #[case] by_absence: bool,
        #[case] sure: Confidence,
    ) {
        let mut finding = Finding { by_absence, ..Finding::new(Cause::Malware) };
        kinds.iter().for_each(|kind| finding.add(*kind, "seen".into()));
        assert_eq!(confidence(&finding), sure);
    }

    #[test]
    fn a_second_cause_is_named_beside_the_first_and_tells_how_long_it_lasts() {
        let mut both = evidence();
        both.screens_after = vec!["Shutdown Event Tracker".into()];
        both.run_state_before = Some("suspended".into());
        let found = diagnose(&both);
        let mut named = vec![found.cause];
        named.extend(&found.also);
        named.sort_unstable();
        assert_eq!(named, [Cause::ShutdownEventTracker, Cause::Asleep]);
        // The dialog waits for a person; update work ends by itself.
        assert_eq!(lasting(&both), Some(Cause::ShutdownEventTracker));
        both.run_state_before = Some("running".into());
        both.screens_after = vec!["Working on updates 80%".into()];
        assert_eq!((diagnose(&both).cause, lasting(&both)), (Cause::WindowsUpdate, None));
    }

    #[rstest]
    #[case::nothing_known(|_: &mut Evidence| (), Cause::Unknown)]
    #[case::obeyed(|e: &mut Evidence| e.outcome = OutcomeKind::PoweredOff, Cause::None)]
    #[case::button(|e: &mut Evidence| registry(e).button_action = Some(EffectiveAction { index: 0, layer: Layer::Policy }), Cause::PowerButtonPolicy)]
    #[case::button_but_not_taken(
        |e: &mut Evidence| { registry(e).button_action = Some(EffectiveAction { index: 0, layer: Layer::Policy }); e.press_taken = Some(false) },
        Cause::Unknown
    )]
    #[case::button_sleeps(
        |e: &mut Evidence| { registry(e).button_action = Some(EffectiveAction { index: 1, layer: Layer::Policy }); e.outcome = OutcomeKind::Suspended },
        Cause::PowerButtonPolicy
    )]
    #[case::sleeps_for_another_reason(|e: &mut Evidence| e.outcome = OutcomeKind::Suspended, Cause::Unknown)]
    #[case::application(|e: &mut Evidence| e.screens_after = vec!["This app is preventing you\nfrom shutting down.".into()], Cause::UnresponsiveApplication)]
    #[case::korean_application(|e: &mut Evidence| e.screens_after = vec!["이 앱에서 종료하지 못하도록 차단하고 있습니다.".into()], Cause::UnresponsiveApplication)]
    #[case::service(|e: &mut Evidence| service(e, 600_000), Cause::UnresponsiveApplication)]
    #[case::service_behind_an_application(
        |e: &mut Evidence| {
            service(e, 172_800_000);
            e.screens_after = vec!["Closing 1 app\nand shutting down\nThis app is preventing you from shutting down.".into()];
        },
        Cause::UnresponsiveApplication
    )]
    #[case::services_not_told_yet(
        |e: &mut Evidence| { service(e, 172_800_000); e.screens_after = vec!["Shutting down: asking the applications".into()] },
        Cause::Unknown
    )]
    #[case::squatter_in_korean(
        |e: &mut Evidence| { service(e, 172_800_000); e.screens_after = vec!["시스템 종료 중...".into()] },
        Cause::Malware
    )]
    #[case::squatter_with_verbose_status(
        |e: &mut Evidence| { service(e, 172_800_000); e.screens_after = vec!["Shutting down service: Helper".into()] },
        Cause::Malware
    )]
    #[case::squatter(|e: &mut Evidence| service(e, 172_800_000), Cause::Malware)]
    #[case::update(|e: &mut Evidence| e.screens_after = vec!["Working on updates 40% complete\nDon\u{2019}t turn off your computer".into()], Cause::WindowsUpdate)]
    #[case::update_and_off(
        |e: &mut Evidence| { e.screens_after = vec!["Working on updates 40%".into()]; e.outcome = OutcomeKind::PoweredOff },
        Cause::WindowsUpdate
    )]
    #[case::tracker(|e: &mut Evidence| e.screens_after = vec!["Shutdown Event Tracker".into()], Cause::ShutdownEventTracker)]
    #[case::logon(
        |e: &mut Evidence| { registry(e).shutdown_without_logon = Some(0); e.screen_before = Some("Press Ctrl+Alt+Delete to unlock.".into()); e.changes_after = 0 },
        Cause::LogonRequired
    )]
    #[case::logged_on(|e: &mut Evidence| registry(e).shutdown_without_logon = Some(0), Cause::Unknown)]
    #[case::suspended(|e: &mut Evidence| e.run_state_before = Some("suspended".into()), Cause::Asleep)]
    #[case::dark(|e: &mut Evidence| e.dark_before = true, Cause::Asleep)]
    #[case::damaged(|e: &mut Evidence| e.changes_after = 0, Cause::Malware)]
    #[case::early(|e: &mut Evidence| { e.listening = Some(false); e.press_taken = Some(false) }, Cause::EarlyRequest)]
    #[case::only_the_agent_was_asked(
        |e: &mut Evidence| { registry(e).button_action = Some(EffectiveAction { index: 0, layer: Layer::Policy }); e.presses = 0; e.requests = 1; e.press_taken = None },
        Cause::Unknown
    )]
    #[case::nobody_asked_yet(
        |e: &mut Evidence| { registry(e).button_action = Some(EffectiveAction { index: 1, layer: Layer::Policy }); e.presses = 0; e.requests = 0; e.press_taken = None },
        Cause::PowerButtonPolicy
    )]
    #[case::button_and_yet_something_happens(
        |e: &mut Evidence| { registry(e).button_action = Some(EffectiveAction { index: 0, layer: Layer::Scheme }); e.screen_reacted = true },
        Cause::Unknown
    )]
    #[case::quoted_before_the_request(
        |e: &mut Evidence| { e.screen_before = Some("How to disable the Shutdown Event Tracker".into()); e.screens_after = e.screen_before.clone().into_iter().collect() },
        Cause::Unknown
    )]
    #[case::sign_in_screen_of_another_language(
        |e: &mut Evidence| { registry(e).shutdown_without_logon = Some(0); registry(e).auto_admin_logon = None; e.screen_before = Some("Anmelden".into()); e.changes_after = 0 },
        Cause::Unknown
    )]
    #[case::windows_own_service(
        |e: &mut Evidence| { service(e, 57_600_000); registry(e).preshutdown.iter_mut().for_each(|s| s.name = "WuauServ".into()) },
        Cause::Unknown
    )]
    #[case::service_with_updates_pending(
        |e: &mut Evidence| { service(e, 600_000); registry(e).reboot_pending = true },
        Cause::Unknown
    )]
    #[case::service_ended_while_the_agent_was_asked(
        |e: &mut Evidence| { service(e, 600_000); e.agent_asked = true; e.outcome = OutcomeKind::PoweredOff },
        Cause::Unknown
    )]
    #[case::button_and_the_plug_after_a_grace_period(
        |e: &mut Evidence| { registry(e).button_action = Some(EffectiveAction { index: 0, layer: Layer::Policy }); pulled(e, 20) },
        Cause::PowerButtonPolicy
    )]
    #[case::the_plug_too_soon_to_tell(
        |e: &mut Evidence| { registry(e).button_action = Some(EffectiveAction { index: 0, layer: Layer::Policy }); pulled(e, 2) },
        Cause::None
    )]
    #[case::the_plug_and_nothing_known(|e: &mut Evidence| pulled(e, 20), Cause::Unknown)]
    #[case::squatter_and_the_plug(|e: &mut Evidence| { service(e, 172_800_000); pulled(e, 20) }, Cause::Malware)]
    #[case::only_the_plug(|e: &mut Evidence| e.outcome = OutcomeKind::HostKilled, Cause::None)]
    fn causes_follow_from_evidence(#[case] change: fn(&mut Evidence), #[case] cause: Cause) {
        let mut evidence = evidence();
        change(&mut evidence);
        let diagnosis = diagnose(&evidence);
        assert_eq!((diagnosis.cause, diagnosis.also), (cause, vec![]));
    }
}
