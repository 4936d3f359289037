//! What an outside observer has of a run, without anything that names the scenario or comes from the probe.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

/// What is seen from outside the guest: QEMU's events and states, the registers, the screen, and the
/// host's own deeds. All else stays out, also what a later Softoff may observe.
const OUTSIDE: [&str; 12] = [
    "machine-started",
    "ready",
    "requested",
    "acted",
    "run-state",
    "screen",
    "button-registers",
    "press-taken",
    "qmp-event",
    "agent-answered",
    "screen-changed",
    "process-exited",
];

/// Whether the pictures are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pictures {
    Shown,
    Hidden,
}

/// Copies the outside observer's part of a record into a fresh folder, whose name says nothing.
pub(crate) fn blind_copy(record: &Path, pictures: Pictures) -> TempDir {
    let fresh = TempDir::new().expect("a folder");
    let timeline: String = timeline(record)
        .iter()
        .take_while(|line| seen(line) != "settled")
        .filter(|line| OUTSIDE.contains(&seen(line)))
        .map(|line| format!("{line}\n"))
        .collect();
    for inside in ["probe", "drawn", "softoff:", "injected", "proof"] {
        assert!(!timeline.contains(inside), "`{inside}` is in the blind timeline:\n{timeline}");
    }
    fs::write(fresh.path().join("timeline.jsonl"), timeline).expect("the timeline");
    for name in names(record) {
        let picture = name.starts_with("screen-") && name.ends_with(".png");
        if name == "registry.json" || picture && pictures == Pictures::Shown {
            fs::copy(record.join(&name), fresh.path().join(&name)).expect("a copy");
        }
    }
    fresh
}

/// The lines of a record's timeline.
pub(crate) fn timeline(record: &Path) -> Vec<Value> {
    let text = fs::read_to_string(record.join("timeline.jsonl")).expect("the timeline");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// What kind of observation a line is.
pub(crate) fn seen(line: &Value) -> &str {
    line["seen"].as_str().unwrap_or_default()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}
