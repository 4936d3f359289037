//! Cause against policy: the whole matrix, which takes half an hour. `cargo xtask run --request all` runs the same and
//! holds itself against the same snapshot.

use softoff_harness::image::GuestFamily;
use softoff_harness::record::ScenarioRecord;
use softoff_harness::request_matrix::normalised;
use softoff_harness::scenario::{Scenario, policies};
use softoff_scenarios::requests::{MATRIX, expected, snapshot_name};

use crate::common;

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

async fn under(scenario: &str, policy: &str) -> ScenarioRecord {
    let path = softoff_scenarios::definitions_dir().join(scenario).with_extension("toml");
    let policy = policies().unwrap().into_iter().find(|p| p.id == policy).unwrap();
    let mut scenario = policy.on(&Scenario::load(&path).unwrap());
    if let Some(expect) = expected(&scenario, GuestFamily::Reference) {
        (scenario.expect, scenario.unexpected) = (expect, false);
    }
    common::run(&common::job_for(scenario, false)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half an hour: cargo test -p softoff-scenarios --test suite -- requests:: --ignored"]
async fn the_whole_matrix() {
    let mut records = Vec::new();
    for scenario in MATRIX {
        let all = policies().unwrap();
        let runs = all.into_iter().map(|p| tokio::spawn(async move { under(scenario, &p.id).await }));
        for run in runs.collect::<Vec<_>>() {
            records.push(run.await.unwrap());
        }
    }
    let name = snapshot_name(GuestFamily::Reference);
    settings().bind(|| insta::assert_snapshot!(name, normalised(&records)));
}
