//! `cargo xtask diagnose --record`: old records, diagnosed again from their files alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use rstest::rstest;
use serde_json::{Value, json};

/// A press that the guest took, and nothing after it.
fn record(dir: &Path, action: u32) {
    std::fs::create_dir_all(dir).unwrap();
    let seen = [
        json!({ "at_us": 1, "source": "qmp", "seen": "run-state", "data": { "state": "running" } }),
        json!({ "at_us": 2, "source": "qmp", "seen": "button-registers", "data": { "enabled": true, "pending": false } }),
        json!({ "at_us": 3, "source": "host", "seen": "requested", "data": { "by": "system_powerdown", "number": 1 } }),
        json!({ "at_us": 4, "source": "qmp", "seen": "press-taken" }),
        json!({ "at_us": 6, "source": "host", "seen": "something-of-tomorrow" }),
    ];
    let lines: Vec<String> = seen.iter().map(Value::to_string).collect();
    std::fs::write(dir.join("timeline.jsonl"), lines.join("\n")).unwrap();
    let registry = json!({ "button_action": { "index": action, "layer": "policy" } });
    std::fs::write(dir.join("registry.json"), registry.to_string()).unwrap();
}

/// Exit code, standard output, standard error.
fn diagnose(dir: &Path, more: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["diagnose", "--record", dir.to_str().unwrap()]).args(more).env("NO_COLOR", "1");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[rstest]
#[case::nothing(0, "power-button-policy")]
#[case::shut_down(3, "malware")]
#[case::undefined(7, "unknown")]
fn the_registry_beside_the_timeline_decides(#[case] action: u32, #[case] cause: &str) {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), action);
    let (code, text, error) = diagnose(dir.path(), &["--json"]);
    assert_eq!(code, 0, "{error}");
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&shown["cause"], &shown["outcome"]), (&json!(cause), &json!("still-running")), "{text}");
    assert_eq!(shown["remedies"].as_array().unwrap().is_empty(), cause == "unknown", "{text}");
}

#[test]
fn people_read_cause_evidence_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 0);
    let (code, text, error) = diagnose(dir.path(), &[]);
    assert_eq!(code, 0, "{error}");
    for part in ["power-button-policy (medium confidence)", "PBUTTONACTION is 0", "acpi-register", "remedy:"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_run_is_diagnosed_scenario_by_scenario_and_compared_with_what_was_recorded() {
    let run = tempfile::tempdir().unwrap();
    record(&run.path().join("a.reference.1"), 0);
    record(&run.path().join("b.reference.1"), 3);
    std::fs::create_dir(run.path().join("c.reference.1")).unwrap();
    let broken = run.path().join("d.reference.1");
    record(&broken, 0);
    std::fs::write(broken.join("timeline.jsonl"), "\u{1b}[2J no json\n").unwrap();
    let old: Value =
        serde_json::from_str(include_str!("../../harness/tests/data/run-schema-1.json")).unwrap();
    let mut result = old["results"][0].clone();
    result["diagnosis"]["cause"] = json!("malware");
    std::fs::write(run.path().join("a.reference.1/result.json"), result.to_string()).unwrap();
    std::fs::write(run.path().join("b.reference.1/result.json"), "{").unwrap();

    let (code, text, error) = diagnose(run.path(), &[]);
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("recorded then: malware, now: power-button-policy"), "{text}");
    assert!(error.contains("not diagnosed: d.reference.1") && error.contains("not compared"), "{error}");

    let (_, text, _) = diagnose(run.path(), &["--json"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<_> = shown["results"].as_array().unwrap().iter().map(|r| r["record"].clone()).collect();
    assert_eq!(names, [json!("a.reference.1"), json!("b.reference.1")]);
    assert_eq!(shown["results"][0]["recorded_then"], "malware");
}

#[rstest]
#[case::garbage("no json\n")]
#[case::empty("")]
#[case::nothing_asked("{\"at_us\":1,\"source\":\"host\",\"seen\":\"ready\"}\n")]
fn a_timeline_that_says_nothing_is_no_diagnosis(#[case] timeline: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("timeline.jsonl"), timeline).unwrap();
    let (code, text, error) = diagnose(dir.path(), &[]);
    assert_eq!((code, text.as_str()), (3, ""), "{error}");
    assert!(error.contains("timeline"), "{error}");
}
