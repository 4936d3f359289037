//! The hardening matrix on the reference guest: each condition with the profile over it, held against what was written
//! down beforehand (`images/hardening/profile.toml`), and against the outcome without it (the scenario's own snapshot).
//!
//! The gate runs one row of each kind of cure; `SOFTOFF_HARDENING=all` runs every row and compares the whole table, as
//! the nightly run does.

use std::sync::Arc;

use softoff_harness::image::GuestFamily;
use softoff_harness::outcome::{OutcomeKind, Verdict};
use softoff_harness::run::Job;
use softoff_harness::scenario::Scenario;
use softoff_images::hardening::{HardenedImage, Profile};

use crate::common;

/// One of each kind: a policy in the machine's hive, a setting of a user's, one that cannot help.
const GATE: [&str; 3] = ["power-button-nothing", "unresponsive-application-hang", "malware-damaged-system"];

/// The table as it was reviewed.
const TABLE: &str = "hardening-matrix.reference";

#[tokio::test(flavor = "multi_thread")]
async fn the_profile_cures_what_it_was_expected_to_and_nothing_else() {
    let profile = Profile::own().unwrap();
    let all = std::env::var("SOFTOFF_HARDENING").is_ok_and(|value| value == "all");
    let scenarios: Vec<Scenario> = softoff_scenarios::load_all().unwrap();
    let named = |name: &str| scenarios.iter().find(|s| s.name.0 == name).unwrap_or_else(|| panic!("{name}"));
    let chosen: Vec<&Scenario> = profile
        .expected
        .iter()
        .map(|expected| named(&expected.scenario))
        .filter(|scenario| all || GATE.contains(&scenario.name.0.as_str()))
        .collect();
    assert!(chosen.len() >= GATE.len());
    let mut running = tokio::task::JoinSet::new();
    for (number, scenario) in chosen.into_iter().enumerate() {
        let job = hardened(&profile, scenario);
        running.spawn(async move { (number, common::run(&job).await) });
    }
    let mut done = running.join_all().await;
    done.sort_by_key(|(number, _)| *number);
    let mut rows = Vec::new();
    for (_, record) in done {
        let name = &record.scenario.0;
        assert_eq!(record.condition_proven, Some(true), "{name}: {:#?}", record.reasons);
        assert_eq!(record.verdict, Verdict::Pass, "{name}: {:#?}", record.reasons);
        let expected = profile.expected(name).unwrap();
        let cured = record.outcome.kind() == OutcomeKind::PoweredOff;
        assert_eq!(cured, expected.cured, "{name}");
        let (before, after) = (stock(named(name)), record.outcome.kind().to_string());
        let cure = if expected.cured { "cured" } else { "not cured" };
        rows.push(format!("{name} | {before} | {after} | {cure} | {}", expected.because));
    }
    if all {
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../snapshots" }, {
            insta::assert_snapshot!(TABLE, rows.join("\n"));
        });
    } else {
        let table = include_str!("../../snapshots/hardening-matrix.reference.snap");
        for row in rows {
            assert!(table.lines().any(|line| line == row), "{row}\nis not in\n{table}");
        }
    }
}

/// What the scenario comes to without the profile: its approved snapshot, which the scenarios' own suite holds.
fn stock(scenario: &Scenario) -> String {
    let approved = softoff_scenarios::approved(scenario, GuestFamily::Reference).unwrap();
    let outcome = approved.lines().find_map(|line| line.strip_prefix("outcome: "));
    outcome.unwrap_or_else(|| panic!("no outcome in {approved}")).to_owned()
}

fn hardened(profile: &Profile, scenario: &Scenario) -> Job {
    let mut job = common::job_for(profile.arm(scenario).unwrap(), false);
    let hardened = HardenedImage::of(&job.image, profile).unwrap();
    (job.image, job.hardening) = (hardened.image, Arc::clone(&hardened.edits));
    job
}
