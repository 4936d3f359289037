//! Blind diagnosis: scenarios are drawn at random, run, and `diagnose` is given only what an outside observer
//! has: no scenario name, no line of the guest's own programs, and titles, texts, service names and times
//! that no rule has seen.
//!
//! The seed is random and printed; SOFTOFF_BLIND_SEED repeats it.

mod draw;
mod evidence;
mod words;

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use draw::{Drawn, Kind, Truth};
use evidence::{Pictures, blind_copy};
use rstest::rstest;
use softoff_guest_protocol::probe::{ProbeEvent, ProbeLine, VERSION};
use softoff_harness::diagnose::{Diagnosis, diagnose};
use softoff_harness::evidence::Evidence;
use softoff_harness::outcome::{Cause, OutcomeKind, Verdict};
use softoff_harness::record::ScenarioRecord;
use softoff_harness::timeline::{Observation, Seen, Source};
use softoff_harness::witness;

use crate::common;

const SEED: &str = "SOFTOFF_BLIND_SEED";

/// One seed for all draws of this process.
fn seed() -> u64 {
    static CHOSEN: OnceLock<u64> = OnceLock::new();
    *CHOSEN.get_or_init(|| match std::env::var(SEED) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{SEED}={text} is no number")),
        Err(_) => fastrand::u64(..),
    })
}

/// Draws a scenario of this kind. Each kind has a sequence of its own, so that one can be repeated alone.
fn drawn(kind: Kind) -> Drawn {
    let salt = format!("{kind:?}")
        .bytes()
        .fold(0u64, |sum, byte| sum.wrapping_add(u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    draw::draw(kind, &mut fastrand::Rng::with_seed(seed() ^ salt))
}

/// Runs what was drawn. It must have been put in place and asked; otherwise it says nothing of a diagnosis.
async fn run(drawn: &Drawn) -> (ScenarioRecord, std::path::PathBuf) {
    let (record, dir) =
        common::run_in_folder(&common::warm(common::job_for(drawn.scenario.clone(), false))).await;
    let told = format!("{}\n{:#?}", drawn.brief, record.reasons);
    assert!(!matches!(record.verdict, Verdict::Inconclusive | Verdict::Infra), "{}: {told}", record.verdict);
    assert_eq!(record.outcome.kind(), drawn.truth.outcome, "{told}");
    (record, dir)
}

/// The diagnosis of what stands in a folder, and of nothing else.
async fn diagnosis(dir: &Path) -> (Diagnosis, Evidence) {
    let evidence = witness::of_record(dir).await.expect("evidence");
    assert!(evidence.can_read_screens, "tesseract is missing: apt-get install tesseract-ocr");
    assert!(evidence.registry.is_some(), "the registry was not read");
    (diagnose(&evidence), evidence)
}

/// Holds a diagnosis against the truth: one of the causes that acted is named; nothing that is not there is.
fn holds(truth: &Truth, diagnosis: &Diagnosis) -> Result<(), String> {
    let mut named = vec![diagnosis.cause];
    named.extend(&diagnosis.also);
    if truth.acted.is_empty() {
        return match (diagnosis.cause, named.len()) {
            (Cause::None, 1) => Ok(()),
            _ => Err(format!("a healthy guest is blamed: {named:?}")),
        };
    }
    if !truth.acted.contains(&diagnosis.cause) {
        return Err(format!("named {}, true {:?}", diagnosis.cause, truth.acted));
    }
    let real = |cause: &Cause| truth.acted.contains(cause) || truth.waiting.contains(cause);
    match named.iter().find(|cause| !real(cause)) {
        Some(cause) => Err(format!("{cause} is named beside it, and is not there")),
        None => Ok(()),
    }
}

/// Tells a result where no test runner hides it.
fn tell(line: &str) {
    let _told = writeln!(std::io::stderr(), "{line}");
}

#[rstest]
#[case::windows_update_powers_off_later(Kind::UpdateEnds)]
#[case::windows_update_exceeds_the_deadline(Kind::UpdateExceedsDeadline)]
#[case::shutdown_event_tracker(Kind::EventTracker)]
#[case::shutdown_event_tracker_answered(Kind::EventTrackerAnswered)]
#[case::logon_required(Kind::LogonRequired)]
#[case::application_refuses(Kind::ApplicationRefuses)]
#[case::application_hangs(Kind::ApplicationHangs)]
#[case::application_hangs_and_is_ended(Kind::ApplicationHangsAndIsEnded)]
#[case::service(Kind::Service)]
#[case::button_does_nothing(Kind::ButtonNothing)]
#[case::button_sleeps(Kind::ButtonSleep)]
#[case::button_hibernates(Kind::ButtonHibernate)]
#[case::button_turns_the_display_off(Kind::ButtonDisplayOff)]
#[case::asleep(Kind::AsleepPressOnly)]
#[case::asleep_then_woken_and_pressed(Kind::AsleepWakePress)]
#[case::hibernated_before(Kind::Hibernated)]
#[case::display_asleep(Kind::DisplayAsleep)]
#[case::malware_blocking_service(Kind::BlockingService)]
#[case::malware_damaged_system(Kind::DamagedSystem)]
#[case::early_request(Kind::EarlyRequest)]
#[case::control_healthy(Kind::Healthy)]
#[case::control_logged_on(Kind::LoggedOn)]
#[case::control_logon_not_required(Kind::LogonNotRequired)]
#[case::control_application_answers(Kind::ApplicationAnswers)]
#[case::control_application_quotes(Kind::ApplicationQuotes)]
#[case::control_application_slow(Kind::ApplicationSlow)]
#[case::control_service_stops(Kind::ServiceStops)]
#[case::control_display_woken_by_a_key(Kind::DisplayWoken)]
#[case::control_malware_abort_loop(Kind::AbortLoop)]
#[case::combined_1(Kind::Combined(0))]
#[case::combined_2(Kind::Combined(1))]
#[case::combined_3(Kind::Combined(2))]
#[tokio::test(flavor = "multi_thread")]
async fn the_cause_is_named(#[case] kind: Kind) {
    let drawn = drawn(kind);
    tell(&format!("blind {kind:?}, {SEED}={}: {}", seed(), drawn.brief));
    let (record, dir) = run(&drawn).await;
    let blind = blind_copy(&dir, Pictures::Shown);
    let (diagnosis, evidence) = diagnosis(blind.path()).await;
    tell(&format!("blind {kind:?}: {}, also {:?}", diagnosis.cause, diagnosis.also));
    let told = || format!("{}\n{diagnosis:#?}\n{evidence:#?}\nrepeat with {SEED}={}", drawn.brief, seed());
    if let Err(wrong) = holds(&drawn.truth, &diagnosis) {
        panic!("{wrong}\n{}", told());
    }
    // The run's own diagnosis was made with the probe's lines at hand: they are no evidence.
    assert_eq!(diagnosis, record.diagnosis, "{}", told());
}

/// The negative controls of the suite itself: without its evidence a cause is not named by luck, and what the
/// guest's programs say, even when it is a lie, changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn only_evidence_counts() {
    let drawn = drawn(Kind::ApplicationHangs);
    tell(&format!("blind control, {SEED}={}: {}", seed(), drawn.brief));
    let (_, dir) = run(&drawn).await;

    let shown = blind_copy(&dir, Pictures::Shown);
    let (with_pictures, _) = diagnosis(shown.path()).await;
    assert_eq!(with_pictures.cause, Cause::UnresponsiveApplication);

    let hidden = blind_copy(&dir, Pictures::Hidden);
    let (without, evidence) = diagnosis(hidden.path()).await;
    assert_eq!(evidence.screens_after, Vec::<String>::new());
    assert_eq!((without.cause, without.also), (Cause::Unknown, vec![]));

    // The blind folder, but with the whole timeline, and with lies that name other causes.
    let full = blind_copy(&dir, Pictures::Shown);
    let lines = evidence::timeline(&dir);
    assert!(lines.iter().any(|line| evidence::seen(line) == "probe"), "the record has no probe lines");
    let asked = lines.iter().find(|line| evidence::seen(line) == "requested").expect("a request");
    let lies = lies(asked["at_us"].as_u64().expect("a time") + 1);
    let text: String = lines.into_iter().chain(lies).map(|line| format!("{line}\n")).collect();
    std::fs::write(full.path().join("timeline.jsonl"), text).expect("the timeline");
    assert_eq!(diagnosis(full.path()).await.0, with_pictures);
}

/// What a guest would report of other causes.
fn lies(at_us: u64) -> impl Iterator<Item = serde_json::Value> {
    let events = [
        ProbeEvent::UpdateProgress { percent: 40 },
        ProbeEvent::DialogShown { title: "Shutdown Event Tracker".into() },
        ProbeEvent::ButtonPolicy { action: 0, layer: "policy".into() },
        ProbeEvent::RequestDiscarded { reason: "logon-required".into() },
    ];
    (1..).zip(events).map(move |(seq, event)| {
        let line = ProbeLine { softoff: VERSION, src: "session".into(), pid: 1, seq, up_ms: 1, event };
        let lie = Observation { at_us, source: Source::Probe, what: Seen::Probe(line) };
        serde_json::to_value(lie).expect("JSON")
    })
}

#[rstest]
#[case::named(&[Cause::Asleep], &[], Cause::Asleep, &[], true)]
#[case::another(&[Cause::Asleep], &[], Cause::Malware, &[], false)]
#[case::unknown(&[Cause::Asleep], &[], Cause::Unknown, &[], false)]
#[case::none(&[Cause::Asleep], &[], Cause::None, &[], false)]
#[case::a_false_one_beside_it(&[Cause::Asleep], &[], Cause::Asleep, &[Cause::Malware], false)]
#[case::both(&[Cause::Asleep, Cause::Malware], &[], Cause::Malware, &[Cause::Asleep], true)]
#[case::only_the_waiting_one(&[Cause::Asleep], &[Cause::Malware], Cause::Malware, &[], false)]
#[case::the_waiting_one_beside_it(&[Cause::Asleep], &[Cause::Malware], Cause::Asleep, &[Cause::Malware], true)]
#[case::control(&[], &[], Cause::None, &[], true)]
#[case::control_blamed(&[], &[], Cause::Asleep, &[], false)]
#[case::control_half_blamed(&[], &[], Cause::None, &[Cause::Asleep], false)]
#[case::control_unknown(&[], &[], Cause::Unknown, &[], false)]
fn the_truth_is_held_against_the_diagnosis(
    #[case] acted: &[Cause],
    #[case] waiting: &[Cause],
    #[case] cause: Cause,
    #[case] also: &[Cause],
    #[case] right: bool,
) {
    let truth =
        Truth { outcome: OutcomeKind::StillRunning, acted: acted.to_vec(), waiting: waiting.to_vec() };
    let diagnosis =
        Diagnosis { cause, confidence: None, also: also.to_vec(), evidence: vec![], lacks: vec![] };
    assert_eq!(holds(&truth, &diagnosis).is_ok(), right);
}

/// Every draw is a scenario, whatever the seed.
#[test]
fn every_draw_is_a_scenario() {
    let mut rng = fastrand::Rng::with_seed(seed());
    for _ in 0..200 {
        for kind in [Kind::ApplicationSlow, Kind::UpdateEnds, Kind::Service, Kind::DisplayAsleep] {
            draw::draw(kind, &mut rng);
        }
        for number in 0..draw::COMBINED {
            let truth = draw::draw(Kind::Combined(number), &mut rng).truth;
            assert!(!truth.acted.is_empty());
        }
    }
}
