//! Negative controls: runs that must not pass, each for its own reason. Without them a harness that always
//! says `pass` would look just as green.

use std::path::Path;

use rstest::rstest;
use softoff_harness::outcome::{OutcomeKind, Verdict};

use crate::common;

#[rstest]
#[case::the_application_answers(
    "negative/application-answers.toml",
    false,
    Verdict::Fail,
    OutcomeKind::PoweredOff
)]
#[case::the_button_shuts_down(
    "negative/power-button-left-at-shut-down.toml",
    false,
    Verdict::Fail,
    OutcomeKind::PoweredOff
)]
#[case::the_moment_to_pull_the_plug_never_comes(
    "negative/plug-never-pulled.toml",
    false,
    Verdict::Fail,
    OutcomeKind::PoweredOff
)]
#[case::policy_not_injected(
    "definitions/power-button-nothing.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::application_not_injected(
    "definitions/unresponsive-application-hang.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::update_not_injected(
    "definitions/windows-update-prolongs.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::tracker_not_injected(
    "definitions/shutdown-event-tracker.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::logon_not_injected(
    "definitions/logon-required.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::service_not_injected(
    "definitions/unresponsive-service.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::sleep_not_entered(
    "definitions/asleep-s3.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::hibernation_not_entered(
    "definitions/hibernated.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::display_not_asleep(
    "definitions/display-asleep.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::abort_loop_not_injected(
    "definitions/malware-abort-loop.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::blocking_service_not_injected(
    "definitions/malware-blocking-service.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::damage_not_injected(
    "definitions/malware-damaged-system.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[case::end_not_injected(
    "definitions/reboots-instead.toml",
    true,
    Verdict::Inconclusive,
    OutcomeKind::StillRunning
)]
#[tokio::test(flavor = "multi_thread")]
async fn must_not_pass(
    #[case] definition: &str,
    #[case] without_injection: bool,
    #[case] verdict: Verdict,
    #[case] outcome: OutcomeKind,
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(definition);
    let record = common::run(&common::warm(common::job(&path, without_injection))).await;
    assert_eq!((record.verdict, record.outcome.kind()), (verdict, outcome), "{:#?}", record.reasons);
    assert_eq!(record.condition_proven, Some(!without_injection));
    // What was not proven was not asked.
    assert_eq!(record.last_phase.is_some(), !without_injection);
}

/// A guest that goes down by itself, a second after its desktop came: before the press, or just when it came,
/// and then not because of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_nobody_asked_for_is_inconclusive() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("negative/powers-itself-off.toml");
    let record = common::run(&common::job(&path, false)).await;
    assert_eq!(record.verdict, Verdict::Inconclusive, "{:#?}", record.reasons);
    assert_eq!(record.outcome.kind(), OutcomeKind::PoweredOff);
}
