//! Table and plot of a run with four arms.

use super::*;
use crate::disk::event_log::{EventLogReport, LoggedEvent};
use crate::inspect::{DiskReport, DocumentsReport, ModelledUpdate, PendingUpdates};
use crate::outcome::{Outcome, Phase};
use crate::record::schema::{Damage, NextBoot};
use crate::scenario::ScenarioName;

/// What distinguishes an arm here.
struct Left {
    name: &'static str,
    outcome: Outcome,
    after_ms: u64,
    unflushed_lost: u32,
    update: (&'static str, usize, usize),
    events: &'static [u32],
    next: Option<NextBoot>,
}

fn result(left: Left) -> ScenarioRecord {
    let kept: RunRecord = serde_json::from_str(include_str!("../../tests/data/run-schema-1.json")).unwrap();
    let mut result = kept.results.into_iter().next().unwrap();
    let killed = left.outcome == Outcome::HostKilled;
    let event = |id: &u32| LoggedEvent {
        record: 1,
        time: String::new(),
        provider: String::new(),
        id: *id,
        data: vec![],
    };
    let survival = |lost: u32| Survival {
        written: Some(5),
        intact: (lost + 1..=5).collect(),
        torn: (1..=lost).collect(),
        missing: vec![],
    };
    let (state, staged, committed) = left.update;
    let modelled = Some(ModelledUpdate { state: state.into(), staged, committed });
    let disk = DiskReport {
        shutdown_time: Some(if killed { "never" } else { "2026-11-24" }.into()),
        updates: Some(PendingUpdates { modelled, ..PendingUpdates::default() }),
        system_log: Some(EventLogReport {
            events: left.events.iter().map(event).collect(),
            ..EventLogReport::default()
        }),
        documents: Some(DocumentsReport { flushed: survival(0), unflushed: survival(left.unflushed_lost) }),
        ..DiskReport::default()
    };
    result.scenario = ScenarioName(left.name.into());
    result.last_phase = Some(if killed { Phase::SessionEnded } else { Phase::PoweredOff });
    result.plug_pulled_ms = killed.then_some(left.after_ms);
    result.phases.powered_off_ms = (!killed).then_some(left.after_ms);
    result.damage = Damage { volume_dirty: Some(killed), disk: Some(disk), ..Damage::default() };
    result.outcome = left.outcome;
    result.next_boot = left.next;
    result
}

fn run() -> RunRecord {
    let mut run: RunRecord =
        serde_json::from_str(include_str!("../../tests/data/run-schema-1.json")).unwrap();
    let boots = |check, state: &str, events: &[u32]| NextBoot {
        boot_ms: Some(20_000),
        volume_check: check,
        update_state: Some(state.into()),
        unexpected_shutdown_events: events.to_vec(),
        ..NextBoot::default()
    };
    let late = Left {
        name: "soft-versus-hard-update-80",
        outcome: Outcome::HostKilled,
        after_ms: 9_900,
        unflushed_lost: 5,
        update: ("committing", 1, 1),
        events: &[6005, 1074],
        next: Some(boots(Some(1), "rolled-back", &[6008, 41])),
    };
    let idle = Left {
        name: "soft-versus-hard-idle",
        outcome: Outcome::HostKilled,
        after_ms: 0,
        unflushed_lost: 4,
        update: ("staged", 2, 0),
        events: &[6005],
        next: Some(NextBoot::default()),
    };
    let soft = Left {
        name: "soft-versus-hard-soft",
        outcome: Outcome::PoweredOff,
        after_ms: 11_600,
        unflushed_lost: 0,
        update: ("committed", 0, 2),
        events: &[6005, 1074, 6006],
        next: Some(boots(None, "committed", &[])),
    };
    let unread = Left {
        name: "soft-versus-hard-unread & <odd>",
        outcome: Outcome::StillRunning,
        after_ms: 1,
        unflushed_lost: 0,
        update: ("none", 0, 0),
        events: &[],
        next: None,
    };
    let mut unread = result(unread);
    (unread.damage, unread.phases.powered_off_ms, unread.last_phase) = (Damage::default(), None, None);
    run.results.extend([result(late), result(idle), result(soft), unread]);
    run
}

#[test]
fn the_table_begins_with_the_soft_shutdown_and_goes_on_by_kill_time() {
    insta::assert_snapshot!(markdown(&arms(&run())));
}

#[test]
fn the_plot_marks_damage_and_escapes_names() {
    let svg = svg(&arms(&run()));
    insta::assert_snapshot!(svg);
    // The unread arm has no time, so nothing of it is drawn, and nothing of it can break the document.
    assert!(!svg.contains("odd"));
    // Filled: dirty 2, unflushed 2, interrupted 1, log 2, time 2, check 1, roll back 1.
    assert_eq!(svg.matches("fill=\"#c0392b\"").count(), 11);
}

#[test]
fn arms_of_several_images_are_told_apart() {
    let mut run = run();
    assert!(arms(&run).iter().any(|arm| arm.name == "idle"));
    let idle = run.results.iter().find(|r| r.scenario.0 == "soft-versus-hard-idle").unwrap();
    let mut other = idle.clone();
    other.image.name = "another".into();
    run.results.push(other);
    let names: Vec<String> = arms(&run).into_iter().map(|arm| arm.name).collect();
    assert!(
        names.contains(&"idle @ another".to_owned()) && names.contains(&"idle @ reference".to_owned()),
        "{names:?}"
    );
}

#[test]
fn a_run_without_the_family_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run: RunRecord = serde_json::from_str(include_str!("../../tests/data/run-schema-1.json")).unwrap();
    assert!(!write(dir.path(), &run).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(write(dir.path(), &self::run()).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}
