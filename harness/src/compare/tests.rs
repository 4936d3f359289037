//! Two runs, made to differ in one thing.

use rstest::rstest;

use super::*;
use crate::image::Sha256Hex;
use crate::outcome::{Cause, Outcome, Verdict};
use crate::report::testing::{result, run};

fn side(repeats: u32, change: fn(&mut ScenarioRecord)) -> RunRecord {
    run((1..=repeats).map(|n| {
        let mut one = result("control", n);
        // Not all alike, as nothing real is.
        let off = one.phases.powered_off_ms.map(|ms| ms + u64::from(n));
        one.phases.powered_off_ms = off;
        change(&mut one);
        one
    }))
}

fn still_running(r: &mut ScenarioRecord) {
    r.outcome = Outcome::StillRunning;
    r.verdict = Verdict::Fail;
    r.last_phase = Some(Phase::Reacted);
    r.phases.session_ended_ms = None;
    r.phases.services_stopped_ms = None;
    r.phases.powered_off_ms = None;
    r.damage.volume_dirty = None;
}

#[rstest]
#[case::nothing(|_: &mut ScenarioRecord| (), Change::Same)]
#[case::flip(still_running, Change::New)]
#[case::verdict(|r: &mut ScenarioRecord| r.verdict = Verdict::Fail, Change::New)]
#[case::damage(|r: &mut ScenarioRecord| r.damage.volume_dirty = Some(true), Change::New)]
#[case::cause(|r: &mut ScenarioRecord| r.diagnosis.cause = Cause::Malware, Change::Changed)]
#[case::slower(|r: &mut ScenarioRecord| r.phases.powered_off_ms = r.phases.powered_off_ms.map(|ms| ms + 3000), Change::New)]
#[case::a_little_slower(|r: &mut ScenarioRecord| r.phases.powered_off_ms = r.phases.powered_off_ms.map(|ms| ms + 90), Change::Same)]
#[case::faster(|r: &mut ScenarioRecord| r.phases.powered_off_ms = r.phases.services_stopped_ms, Change::Fixed)]
#[case::known_issue_is_still_a_failure(|r: &mut ScenarioRecord| r.verdict = Verdict::KnownIssue, Change::New)]
#[case::infra_says_nothing(|r: &mut ScenarioRecord| r.verdict = Verdict::Infra, Change::Undecided)]
fn with_ten_repeats(#[case] head: fn(&mut ScenarioRecord), #[case] change: Change) {
    let comparison = compare(&side(10, |_| ()), &side(10, head), &Terms::default());
    assert_eq!(comparison.groups[0].change, change, "{:#?}", comparison.groups);
    let decided = comparison.groups[0].findings.iter().filter(|f| f.decided).count();
    assert_eq!(decided > 0, !matches!(change, Change::Same | Change::Undecided));
}

#[test]
fn the_other_way_round_it_is_fixed() {
    let comparison = compare(&side(10, still_running), &side(10, |_| ()), &Terms::default());
    assert_eq!(comparison.groups[0].change, Change::Fixed, "{:#?}", comparison.groups);
    assert_eq!(comparison.gate(), Gate::Open);
}

#[rstest]
#[case::three(3, Change::Undecided, Gate::Undecided)]
#[case::six(6, Change::New, Gate::Differs)]
fn a_flip_is_undecided_until_more_repeats_decide(
    #[case] repeats: u32,
    #[case] change: Change,
    #[case] gate: Gate,
) {
    let comparison = compare(&side(repeats, |_| ()), &side(repeats, still_running), &Terms::default());
    assert_eq!((comparison.groups[0].change, comparison.gate()), (change, gate), "{:#?}", comparison.groups);
    let outcome = comparison.groups[0].findings.iter().find(|f| f.aspect == Aspect::Outcome).unwrap();
    assert_eq!(outcome.base, format!("powered-off {repeats}/{repeats}"));
    assert_eq!(outcome.head, format!("still-running {repeats}/{repeats}"));
}

#[test]
fn a_shutdown_that_was_not_awaited_is_no_time() {
    let comparison = compare(&side(10, |_| ()), &side(10, still_running), &Terms::default());
    let off = comparison.groups[0].findings.iter().find(|f| f.aspect == Aspect::RequestToOff).unwrap();
    assert_eq!(off.head, "not within 60.0 s, 10 of 10 not by the deadline");
}

#[test]
fn looks_share_the_level() {
    let one = compare(&side(6, |_| ()), &side(6, still_running), &Terms::default());
    let ten = compare(&side(6, |_| ()), &side(6, still_running), &Terms { looks: 10, ..Terms::default() });
    assert_eq!(one.groups[0].change, Change::New);
    assert_eq!(ten.groups[0].change, Change::Undecided);
}

#[test]
fn what_is_in_one_run_only_is_told() {
    let both = |names: &[&str]| run(names.iter().map(|name| result(name, 1)));
    let lost = compare(&both(&["control", "auto-end-tasks"]), &both(&["control"]), &Terms::default());
    assert_eq!(lost.gate(), Gate::Undecided);
    assert_eq!(lost.groups[0].why.as_deref(), Some("HEAD has no such result"));
    let added = compare(&both(&["control"]), &both(&["control", "auto-end-tasks"]), &Terms::default());
    assert_eq!(added.gate(), Gate::Open);
    assert!(added.groups[0].is_added);
}

#[test]
fn retries_do_not_count() {
    let mut head = side(10, still_running);
    let retries: Vec<ScenarioRecord> = (1..=10)
        .map(|n| {
            let mut retry = result("control", 10 + n);
            retry.retry_of = Some(n);
            retry
        })
        .collect();
    head.results.extend(retries);
    let comparison = compare(&side(10, |_| ()), &head, &Terms::default());
    assert_eq!((comparison.groups[0].head_count, comparison.groups[0].change), (10, Change::New));
}

#[test]
fn the_first_suspect_is_what_differs_where_the_results_do() {
    let mut base = side(10, |_| ());
    let mut head = side(10, still_running);
    // Another scenario on another image that has not changed, under the same new QEMU.
    for run in [&mut base, &mut head] {
        let others = (1..=10).map(|n| {
            let mut other = result("auto-end-tasks", n);
            other.image.name = "other".into();
            other
        });
        let others: Vec<ScenarioRecord> = others.collect();
        run.results.extend(others);
    }
    head.host.qemu = "9.9".into();
    for result in head.results.iter_mut().filter(|r| r.image.name == "reference") {
        result.image.id = Sha256Hex::of_bytes(b"another");
    }
    let comparison = compare(&base, &head, &Terms::default());
    let told: Vec<_> =
        comparison.suspects.iter().map(|s| (s.what.as_str(), s.changed_with_it, s.same_with_it)).collect();
    assert_eq!(told, [("image reference", 1, 0), ("QEMU", 1, 1)]);
    assert!(compare(&base, &base.clone(), &Terms::default()).suspects.is_empty());
}
