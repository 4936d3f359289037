//! Scenario definitions (`definitions/*.toml`) and the approved snapshots of their outcomes
//! (`snapshots/*.snap`).
//!
//! The suite in `tests/suite/scenarios.rs` makes one test of each definition; `cargo xtask run` loads the same
//! files and compares with the same snapshots. [`libvirt`] is what a run through libvirt is held against.

pub mod libvirt;
pub mod requests;

use std::path::{Path, PathBuf};

use softoff_harness::image::GuestFamily;
use softoff_harness::scenario::{Scenario, ScenarioError};

/// This crate's folder in the source tree.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the definitions are.
pub fn definitions_dir() -> PathBuf {
    root().join("definitions")
}

/// Where the definitions are that only libvirt can run.
pub fn libvirt_dir() -> PathBuf {
    root().join("libvirt")
}

/// All definitions, by name. The first that does not fit is the error.
pub fn load_all() -> Result<Vec<Scenario>, ScenarioError> {
    load(definitions_dir())
}

/// The definitions that only libvirt can run, by name.
pub fn load_libvirt() -> Result<Vec<Scenario>, ScenarioError> {
    load(libvirt_dir())
}

fn load(dir: PathBuf) -> Result<Vec<Scenario>, ScenarioError> {
    let entries =
        std::fs::read_dir(&dir).map_err(|source| ScenarioError::Read { path: dir.clone(), source })?;
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    paths.sort();
    paths.iter().map(|path| Scenario::load(path)).collect()
}

/// The name of a scenario's snapshot on a family of images.
pub fn snapshot_name(scenario: &Scenario, family: GuestFamily) -> String {
    format!("{}.{}", scenario.name, family_name(family))
}

fn family_name(family: GuestFamily) -> &'static str {
    match family {
        GuestFamily::Reference => "reference",
        GuestFamily::Windows => "windows",
        GuestFamily::Reactos => "reactos",
    }
}

/// The content of one of insta's snapshot files.
fn snapshot(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(root().join("snapshots").join(format!("{name}.snap"))).ok()?;
    // insta writes a header between two lines of three dashes, then the content.
    let content = text.strip_prefix("---\n")?.split_once("\n---\n")?.1;
    Some(content.to_owned())
}

/// Scenarios whose outcome the evidence decides before the deadline. Both suites hold to this list: one that
/// they are decided early, the other that waiting for the deadline gives the same record.
pub const DECIDED_EARLY: [&str; 10] = [
    "asleep-s3-then-agent",
    "early-request",
    "power-button-display-off",
    "power-button-nothing",
    "power-button-sleep",
    "shutdown-event-tracker",
    "two-causes-button-and-application",
    "two-causes-tracker-and-application",
    "unresponsive-application-hang",
    "unresponsive-application-refuses",
];

/// Whether this is one of the project's own definitions, which have snapshots.
pub fn is_ours(scenario: &Scenario) -> bool {
    let same = |a: &Path, b: &Path| a.canonicalize().ok().is_some_and(|a| Some(a) == b.canonicalize().ok());
    let ours = [definitions_dir(), libvirt_dir()];
    scenario.path.parent().is_some_and(|dir| ours.iter().any(|our| same(dir, our)))
}

/// The definitions as README.md shows them: the rows of a Markdown table.
pub fn readme_table(scenarios: &[Scenario]) -> String {
    let head = "| scenario | what it shows | outcome | last phase | cause |\n|---|---|---|---|---|\n";
    let row = |s: &Scenario| {
        let e = &s.expect;
        format!("| `{}` | {} | {} | {} | {} |\n", s.name, s.summary, e.outcome, e.last_phase, e.cause)
    };
    head.to_owned() + &scenarios.iter().map(row).collect::<String>()
}

/// The approved normalised record of one of our scenarios, if there is one: the content of insta's snapshot
/// file; under a press policy its line of the matrix. A definition from elsewhere has none, whatever its name.
pub fn approved(scenario: &Scenario, family: GuestFamily) -> Option<String> {
    if !is_ours(scenario) {
        return None;
    }
    match scenario.policy {
        Some(_) => requests::line(scenario, family),
        None => snapshot(&snapshot_name(scenario, family)),
    }
}
