//! Scenario definitions (`definitions/*.toml`) and the approved snapshots of their outcomes
//! (`snapshots/*.snap`).
//!
//! The suite in `tests/scenarios.rs` makes one test of each definition; `cargo xtask run` loads the same
//! files and compares with the same snapshots. [`libvirt`] is what both are held against.

pub mod libvirt;

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

/// All definitions, by name. The first that does not fit is the error.
pub fn load_all() -> Result<Vec<Scenario>, ScenarioError> {
    let dir = definitions_dir();
    let entries =
        std::fs::read_dir(&dir).map_err(|source| ScenarioError::Read { path: dir.clone(), source })?;
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    paths.sort();
    paths.iter().map(|path| Scenario::load(path)).collect()
}

/// The name of a scenario's snapshot on a family of images.
pub fn snapshot_name(scenario: &Scenario, family: GuestFamily) -> String {
    let family = match family {
        GuestFamily::Reference => "reference",
        GuestFamily::Windows => "windows",
        GuestFamily::Reactos => "reactos",
    };
    format!("{}.{family}", scenario.name)
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
    scenario.path.parent().is_some_and(|dir| same(dir, &definitions_dir()))
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
/// file. A definition from elsewhere has none, whatever its name.
pub fn approved(scenario: &Scenario, family: GuestFamily) -> Option<String> {
    if !is_ours(scenario) {
        return None;
    }
    let file = root().join("snapshots").join(format!("{}.snap", snapshot_name(scenario, family)));
    let text = std::fs::read_to_string(file).ok()?;
    // insta writes a header between two lines of three dashes, then the content.
    let content = text.strip_prefix("---\n")?.split_once("\n---\n")?.1;
    Some(content.to_owned())
}
