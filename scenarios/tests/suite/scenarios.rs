//! One test per definition: boots the reference guest in real QEMU, runs the scenario through the engine,
//! and compares the normalised record with its snapshot (`cargo insta review` approves a change).

use std::path::PathBuf;

use rstest::rstest;
use softoff_harness::outcome::{SettledBy, Verdict};
use softoff_harness::record::normal::normalised;

use crate::common;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn scenario(#[files("definitions/*.toml")] path: PathBuf) {
    let job = common::job(&path, false);
    let name = softoff_scenarios::snapshot_name(&job.scenario, job.image.manifest.family);
    let record = common::run(&job).await;
    assert_eq!(record.verdict, Verdict::Pass, "{:#?}", record.reasons);
    let early = softoff_scenarios::DECIDED_EARLY.contains(&job.scenario.name.0.as_str());
    assert_eq!(record.settled_by == Some(SettledBy::Evidence), early, "settled by {:?}", record.settled_by);
    let settings = {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings
    };
    settings.bind(|| insta::assert_snapshot!(name, normalised(&record)));
}
