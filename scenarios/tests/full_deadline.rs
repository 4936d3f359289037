//! The verdict that comes before the deadline and the one that waits for it must agree: the same normalised
//! record, once decided by the evidence and once by the deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use rstest::rstest;
use softoff_harness::outcome::{SettledBy, Verdict};
use softoff_harness::record::normal::normalised;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn agrees(
    #[values(
        "early-request",
        "logon-required",
        "power-button-display-off",
        "power-button-nothing",
        "power-button-sleep",
        "shutdown-event-tracker",
        "unresponsive-application-hang",
        "unresponsive-application-refuses"
    )]
    name: &str,
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("definitions/{name}.toml"));
    let mut job = common::job(&path, false);
    let early = common::run(&job).await;
    job.full_deadline = true;
    let full = common::run(&job).await;
    assert_eq!((early.verdict, full.verdict), (Verdict::Pass, Verdict::Pass), "{:#?}", full.reasons);
    assert_eq!(early.settled_by, Some(SettledBy::Evidence));
    assert_eq!(full.settled_by, Some(SettledBy::Deadline));
    assert_eq!(normalised(&early), normalised(&full));
}
