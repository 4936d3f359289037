//! The verdict that comes before the deadline and the one that waits for it must agree. The suite in
//! `scenarios.rs` holds the early ones to their snapshots; here the same scenarios wait, and must give the
//! same record.

use rstest::rstest;
use softoff_harness::outcome::{SettledBy, Verdict};
use softoff_harness::record::normal::normalised;
use softoff_scenarios::{DECIDED_EARLY, approved, definitions_dir};

use crate::common;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn agrees(#[values(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)] number: usize) {
    const { assert!(DECIDED_EARLY.len() == 10, "name each number above") };
    let name = DECIDED_EARLY[number];
    let mut job = common::warm(common::job(&definitions_dir().join(format!("{name}.toml")), false));
    job.full_deadline = true;
    let full = common::run(&job).await;
    assert_eq!(full.verdict, Verdict::Pass, "{name}: {:#?}", full.reasons);
    assert_eq!(full.settled_by, Some(SettledBy::Deadline), "{name}");
    let early = approved(&job.scenario, job.image.manifest.family).expect("a snapshot");
    assert_eq!(normalised(&full).trim(), early.trim(), "{name}");
}
