//! Mutation of truth: wrong facts planted into the timeline of a run, held through settling, tying and judging to the
//! record. No combination of them may yield `pass`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use softoff_guest_protocol::probe::{ProbeEvent, ProbeLine, VERSION};

use super::conclude::make_record;
use super::{Job, Story};
use crate::condition::Proof;
use crate::diagnose::Diagnosis;
use crate::image::{Boot, GuestFamily, Image, MachineFacts, Manifest, Sha256Hex};
use crate::machine::accel::Accelerator;
use crate::outcome::{OutcomeKind, Verdict};
use crate::record::ScenarioRecord;
use crate::record::schema::Damage;
use crate::scenario::Scenario;
use crate::settle::{self, PLUG};
use crate::timeline::{Observation, Seen, Source};

fn qmp(name: &str, data: Value) -> Seen {
    Seen::QmpEvent { name: name.into(), data }
}

fn says(event: ProbeEvent) -> Seen {
    Seen::Probe(ProbeLine { softoff: VERSION, src: "session".into(), pid: 1, seq: 1, up_ms: 0, event })
}

fn ending(by: &str) -> Seen {
    says(ProbeEvent::SessionEnding { by: by.into() })
}

fn by_guest() -> Value {
    json!({ "guest": true, "reason": "guest-shutdown" })
}

fn panic() -> Seen {
    Seen::ConsolePanic { line: "Kernel panic - not syncing: x".into() }
}

/// What is seen of a healthy guest that obeys.
fn healthy() -> Vec<Seen> {
    vec![
        Seen::MachineStarted { pid: 1 },
        says(ProbeEvent::Booted),
        says(ProbeEvent::DesktopReady { button_action: 3 }),
        Seen::Ready,
        Seen::RunState { state: "running".into() },
        Seen::ButtonRegisters { enabled: true, pending: false },
        Seen::Requested { by: "system_powerdown".into(), number: 1 },
        qmp("POWERDOWN", Value::Null),
        Seen::PressTaken,
        says(ProbeEvent::ButtonPressed),
        ending("button"),
        says(ProbeEvent::SessionEnded),
        says(ProbeEvent::ServicesStopped),
        says(ProbeEvent::VolumeUnmounted),
        says(ProbeEvent::PoweringOff),
        qmp("SHUTDOWN", by_guest()),
    ]
}

fn image() -> Arc<Image> {
    let machine = MachineFacts {
        machine: "pc".into(),
        tcg_cpu: "qemu64".into(),
        smp: 1,
        memory_mib: 64,
        vga: "std".into(),
        ..MachineFacts::default()
    };
    let manifest = Manifest {
        schema: 1,
        name: "reference".into(),
        family: GuestFamily::Reference,
        machine,
        boot: Boot::Bios,
        system_disk: "system.qcow2".into(),
        system_format: Default::default(),
        system_backing: None,
        files: Default::default(),
        recipe: Sha256Hex::default(),
        quirks: vec![],
        provenance: Default::default(),
    };
    Arc::new(Image { dir: "/nowhere".into(), id: manifest.id(), manifest, stamps: Default::default() })
}

/// Every definition that ships.
fn definitions() -> Vec<Arc<Scenario>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/definitions");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Arc::new(Scenario::load(path).unwrap())).collect()
}

fn definition(name: &str) -> Arc<Scenario> {
    definitions().into_iter().find(|s| s.name.0 == name).unwrap()
}

/// What was planted beside the timeline.
#[derive(Default)]
struct Beside {
    unproven: bool,
    volume_dirty: Option<bool>,
    overlay: bool,
    not_asked: bool,
}

/// The record of a run that saw these things, one every 100 ms; QEMU says that the machine runs when it is asked.
/// The diagnosis is the one that was hoped for: it must not be what keeps a lie from passing.
fn record(scenario: &Arc<Scenario>, seen: &[Seen], beside: &Beside) -> ScenarioRecord {
    let source = |what: &Seen| match what {
        Seen::Probe(_) => Source::Probe,
        Seen::QmpEvent { .. } => Source::Qmp,
        _ => Source::Host,
    };
    let stamped = seen.iter().cloned().enumerate();
    let observations: Vec<Observation> = stamped
        .map(|(n, what)| Observation { at_us: n as u64 * 100_000, source: source(&what), what })
        .collect();
    let outcome = settle::by_run_state(&observations, Ok("running"));
    let proof = |c: &crate::condition::Condition| {
        (c.id(), Proof { present: !beside.unproven, evidence: String::new() })
    };
    let story = Story {
        proofs: scenario.conditions.iter().map(proof).collect(),
        not_asked: beside.not_asked.then(|| "x".to_owned()),
        overlay_trouble: beside.overlay.then(|| "x".to_owned()),
        diagnosis: Some(Diagnosis {
            cause: scenario.expect.cause,
            confidence: None,
            also: vec![],
            evidence: vec![],
            lacks: vec![],
        }),
        ..Story::default()
    };
    let job = Job::new(scenario.clone(), image(), Accelerator::Tcg);
    let damage = Damage { volume_dirty: beside.volume_dirty, ..Damage::default() };
    make_record(&job, &job.name(), &story, outcome, &observations, damage, Duration::from_secs(1))
}

fn clean() -> Beside {
    Beside { volume_dirty: Some(false), ..Beside::default() }
}

#[test]
fn what_really_happened_passes() {
    let record = record(&definition("control"), &healthy(), &clean());
    assert_eq!((record.verdict, record.reasons), (Verdict::Pass, vec![]));
}

/// A wrong fact.
type Lie = fn(&mut Vec<Seen>, &mut Beside);

fn find(seen: &[Seen], wanted: impl Fn(&Seen) -> bool) -> usize {
    seen.iter().position(wanted).unwrap_or(seen.len())
}

fn end(seen: &[Seen]) -> usize {
    find(seen, |s| matches!(s, Seen::QmpEvent { name, .. } if name == "SHUTDOWN"))
}

fn request(seen: &[Seen]) -> usize {
    find(seen, |s| matches!(s, Seen::Requested { .. }))
}

fn change_end(seen: &mut [Seen], data: Value) {
    let at = end(seen);
    if let Some(what) = seen.get_mut(at) {
        *what = qmp("SHUTDOWN", data);
    }
}

fn before_end(seen: &mut Vec<Seen>, what: Seen) {
    seen.insert(end(seen), what);
}

const LIES: [(&str, Lie); 16] = [
    ("claims success and stays on", |s, _| {
        s.retain(|s| !matches!(s, Seen::QmpEvent { name, .. } if name == "SHUTDOWN"));
    }),
    ("SHUTDOWN by the host", |s, _| change_end(s, json!({ "guest": false, "reason": "host-signal" }))),
    ("SHUTDOWN without guest", |s, _| change_end(s, json!({ "reason": "guest-shutdown" }))),
    ("SUSPEND_DISK before SHUTDOWN", |s, _| before_end(s, qmp("SUSPEND_DISK", Value::Null))),
    ("RESET loop", |s, _| {
        for _ in 0..3 {
            before_end(s, qmp("RESET", json!({ "guest": true, "reason": "guest-reset" })));
        }
    }),
    ("RESET from outside", |s, _| {
        before_end(s, qmp("RESET", json!({ "guest": false, "reason": "host-qmp-system-reset" })));
    }),
    ("panic during shutdown", |s, _| before_end(s, panic())),
    ("panic read after the end", |s, _| s.push(panic())),
    ("GUEST_PANICKED", |s, _| before_end(s, qmp("GUEST_PANICKED", json!({ "action": "pause" })))),
    ("crash dump", |s, _| before_end(s, qmp("GUEST_CRASHLOADED", json!({ "action": "run" })))),
    ("disk full", |s, _| {
        before_end(
            s,
            qmp("BLOCK_IO_ERROR", json!({ "action": "stop", "reason": "No space left on device" })),
        );
    }),
    ("QEMU killed", |s, _| before_end(s, Seen::ProcessExited { code: None, signal: Some(9) })),
    ("began before it was asked", |s, _| s.insert(request(s), ending("button"))),
    ("begun by a timer", |s, _| s.insert(request(s) + 1, ending("timer"))),
    ("nothing shows the press", |s, _| {
        s.retain(|s| match s {
            Seen::PressTaken => false,
            Seen::Probe(line) => line.event != ProbeEvent::ButtonPressed,
            _ => true,
        });
    }),
    ("left dirty", |_, b| b.volume_dirty = Some(true)),
];

/// Wrong facts that are planted beside those above, one at a time.
const MORE_LIES: [(&str, Lie); 10] = [
    ("another reason", |s, _| change_end(s, json!({ "guest": true, "reason": "solar-flare" }))),
    ("the end of quit", |s, _| change_end(s, json!({ "guest": false, "reason": "host-qmp-quit" }))),
    ("panic as the reason", |s, _| change_end(s, json!({ "guest": true, "reason": "guest-panic" }))),
    ("reset as the reason", |s, _| change_end(s, json!({ "guest": true, "reason": "guest-reset" }))),
    ("only the words of an end", |s, _| {
        change_end(s, json!({ "guest": "true", "reason": "guest-shutdown" }))
    }),
    ("damaged overlay in QEMU", |s, _| before_end(s, qmp("BLOCK_IMAGE_CORRUPTED", json!({ "fatal": true })))),
    ("damaged overlay afterwards", |_, b| b.overlay = true),
    ("disk unread", |_, b| b.volume_dirty = None),
    ("never asked", |_, b| b.not_asked = true),
    ("a guest's program in trouble", |s, _| before_end(s, says(ProbeEvent::Trouble { what: "x".into() }))),
];

/// All 65,535 combinations of the first sixteen.
#[test]
fn no_combination_of_wrong_facts_passes() {
    let control = definition("control");
    for chosen in 1u32..(1 << LIES.len()) {
        let lies = LIES.iter().enumerate().filter(|(n, _)| chosen & (1 << n) != 0).map(|(_, lie)| lie);
        let (mut seen, mut beside) = (healthy(), clean());
        lies.clone().for_each(|(_, plant)| plant(&mut seen, &mut beside));
        let record = record(&control, &seen, &beside);
        let told: Vec<&str> = lies.map(|(name, _)| *name).collect();
        assert_ne!(record.verdict, Verdict::Pass, "{told:?}");
        assert!(!record.reasons.is_empty(), "{told:?}");
    }
}

/// Every pair of all, in both orders: what is planted later may stand before or after what was planted first.
#[test]
fn no_pair_of_wrong_facts_passes_in_any_order() {
    let control = definition("control");
    let all: Vec<_> = LIES.iter().chain(&MORE_LIES).collect();
    for (first, plant) in &all {
        for (second, plant_too) in &all {
            let (mut seen, mut beside) = (healthy(), clean());
            plant(&mut seen, &mut beside);
            if first != second {
                plant_too(&mut seen, &mut beside);
            }
            assert_ne!(record(&control, &seen, &beside).verdict, Verdict::Pass, "{first}, {second}");
        }
    }
}

/// Where the machine stays on, whatever its guest claims.
#[rstest]
#[case::button_ignored("power-button-nothing")]
#[case::hangs("unresponsive-application-hang")]
#[case::tracker("shutdown-event-tracker")]
fn a_guest_that_stays_on_passes_only_where_that_is_expected(#[case] name: &str) {
    let scenario = definition(name);
    let stays: Vec<Seen> = healthy().into_iter().filter(|s| !matches!(s, Seen::QmpEvent { .. })).collect();
    // It claims every phase: more than was expected of it.
    assert_ne!(record(&scenario, &stays, &clean()).verdict, Verdict::Pass);
    // It went down, which nobody expected.
    assert_ne!(record(&scenario, &healthy(), &clean()).verdict, Verdict::Pass);
    // The condition was never there.
    let asked = stays.iter().take(request(&stays) + 3).cloned().collect::<Vec<_>>();
    let unproven = Beside { unproven: true, ..clean() };
    assert_eq!(record(&scenario, &asked, &unproven).verdict, Verdict::Inconclusive);
}

/// Everything that can be seen, true or not.
fn anything() -> impl Strategy<Value = Seen> {
    let reasons = ["guest-shutdown", "guest-reset", "guest-panic", "host-signal", "host-qmp-quit", "x"];
    let reason = prop::sample::select(reasons.to_vec());
    let event =
        (any::<bool>(), reason).prop_map(|(guest, reason)| json!({ "guest": guest, "reason": reason }));
    let names = ["SUSPEND", "SUSPEND_DISK", "WAKEUP", "POWERDOWN", "GUEST_PANICKED", "STOP", "RESUME"];
    let claims = vec![
        ProbeEvent::ButtonPressed,
        ProbeEvent::SessionEnded,
        ProbeEvent::ServicesStopped,
        ProbeEvent::VolumeUnmounted,
        ProbeEvent::PoweringOff,
    ];
    prop_oneof![
        3 => event.clone().prop_map(|data| qmp("SHUTDOWN", data)),
        2 => event.prop_map(|data| qmp("RESET", data)),
        3 => prop::sample::select(names.to_vec()).prop_map(|name| qmp(name, Value::Null)),
        1 => Just(panic()),
        1 => prop::sample::select(vec![Some(9), Some(11), None])
            .prop_map(|signal| Seen::ProcessExited { code: None, signal }),
        4 => prop::sample::select(claims).prop_map(says),
        2 => prop::sample::select(vec!["button", "agent", "timer"]).prop_map(ending),
        2 => prop::sample::select(vec!["system_powerdown", "guest-shutdown", PLUG])
            .prop_map(|by| Seen::Requested { by: by.into(), number: 1 }),
        1 => Just(Seen::PressTaken),
    ]
}

/// What a `pass` may rest on, said anew: by what must be there and what must not.
fn may_pass(expected: OutcomeKind, seen: &[Seen]) -> bool {
    let at = |wanted: &dyn Fn(&Seen) -> bool| seen.iter().position(wanted);
    let event = |s: &Seen, wanted: &str| matches!(s, Seen::QmpEvent { name, .. } if name == wanted);
    let data = |s: &Seen| match s {
        Seen::QmpEvent { data, .. } => data.clone(),
        _ => Value::Null,
    };
    let asked = at(&|s| matches!(s, Seen::Requested { .. }));
    let is_reset = |s: &Seen| event(s, "RESET");
    let reset = asked.and_then(|asked| seen.iter().skip(asked).position(is_reset).map(|n| n + asked));
    let end = at(&|s| event(s, "SHUTDOWN"));
    let exit = at(&|s| matches!(s, Seen::ProcessExited { .. }));
    let first = [reset, end, exit].into_iter().flatten().min();
    let died = at(&|s| event(s, "GUEST_PANICKED") || matches!(s, Seen::ConsolePanic { .. })).is_some();
    let to_disk = at(&|s| event(s, "SUSPEND_DISK")).filter(|n| end.is_some_and(|end| *n < end)).is_some();
    let off = end.is_some() && first == end && data(&seen[end.unwrap_or(0)]) == by_guest();
    let pulled = at(&|s| matches!(s, Seen::Requested { by, .. } if by == PLUG));
    let killed = |s: &Seen| matches!(s, Seen::ProcessExited { signal: Some(9), .. });
    asked.is_some()
        && (!died || expected == OutcomeKind::Crashed)
        && match expected {
            OutcomeKind::PoweredOff => off && !to_disk,
            OutcomeKind::Hibernated => off && to_disk,
            OutcomeKind::Rebooted => first.is_some_and(|n| {
                let data = data(&seen[n]);
                data["guest"] == true && (is_reset(&seen[n]) || data["reason"] == "guest-reset")
            }),
            OutcomeKind::StillRunning | OutcomeKind::Suspended => first.is_none(),
            OutcomeKind::HostKilled => {
                first.is_some()
                    && first == exit
                    && killed(&seen[first.unwrap_or(0)])
                    && pulled < exit
                    && pulled.is_some()
            }
            OutcomeKind::Crashed => {
                died || first == end && data(&seen[end.unwrap_or(0)])["reason"] == "guest-panic"
            }
            // No definition expects its host to fail.
            OutcomeKind::HostFailed => false,
        }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    /// Any story at all, held against every definition that ships: a pass always rests on what really happened.
    #[test]
    fn a_pass_rests_on_what_happened(
        before in prop::collection::vec(anything(), 0..3),
        after in prop::collection::vec(anything(), 0..8),
        asked in prop::sample::select(vec!["system_powerdown", "guest-shutdown", PLUG]),
        keep in any::<bool>(),
    ) {
        thread_local!(static ALL: Vec<Arc<Scenario>> = definitions());
        let mut seen = vec![Seen::MachineStarted { pid: 1 }, Seen::Ready];
        seen.extend(before);
        seen.push(Seen::RunState { state: "running".into() });
        seen.push(Seen::Requested { by: asked.into(), number: 1 });
        if keep {
            seen.extend([Seen::PressTaken, ending("button")]);
        }
        seen.extend(after);
        ALL.with(|all| -> Result<(), TestCaseError> {
            for scenario in all {
                let dirty = scenario.expect.volume_dirty;
                let beside = Beside { volume_dirty: dirty, ..Beside::default() };
                let record = record(scenario, &seen, &beside);
                let passed = record.verdict == Verdict::Pass;
                prop_assert!(!passed || record.outcome.kind() == scenario.expect.outcome);
                prop_assert!(!passed || may_pass(scenario.expect.outcome, &seen), "{}: {:?}", scenario.name, seen);
            }
            Ok(())
        })?;
    }
}

/// The other direction: what really happened is not called something else.
#[test]
fn the_oracle_above_lets_a_true_story_pass() {
    assert!(may_pass(OutcomeKind::PoweredOff, &healthy()));
}
