//! Negative controls: runs that must not pass, each for its own reason. Without them a harness that always
//! says `pass` would look just as green.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use rstest::rstest;
use softoff_harness::outcome::{OutcomeKind, Verdict};

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
#[tokio::test(flavor = "multi_thread")]
async fn must_not_pass(
    #[case] definition: &str,
    #[case] without_injection: bool,
    #[case] verdict: Verdict,
    #[case] outcome: OutcomeKind,
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(definition);
    let record = common::run(&common::job(&path, without_injection)).await;
    assert_eq!((record.verdict, record.outcome.kind()), (verdict, outcome), "{:#?}", record.reasons);
    assert_eq!(record.condition_proven, Some(!without_injection));
    // What was not proven was not asked.
    assert_eq!(record.last_phase.is_some(), !without_injection);
}
