//! Comparisons of real runs, from the command line: eight repeats each of two scenarios on the reference guest under
//! TCG. `night` and `again` are the same thing twice; between `before` and `planted` the probe application's answer
//! was made 3 s later. Attachments were left out of the records.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The folder of a run with this record.
fn run(dir: &Path, name: &str) -> PathBuf {
    let folder = dir.join(name);
    std::fs::create_dir(&folder).unwrap();
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{name}.json"));
    std::fs::copy(record, folder.join("run.json")).unwrap();
    folder
}

/// Exit code, standard output, standard error.
fn xtask(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).env("NO_COLOR", "1").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn compare(base: &Path, head: &Path) -> (i32, String, String) {
    xtask(&["compare", base.to_str().unwrap(), head.to_str().unwrap()])
}

#[test]
fn the_same_thing_twice_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (night, again) = (run(dir.path(), "night"), run(dir.path(), "again"));
    for (base, head) in [(&night, &again), (&again, &night)] {
        let (code, text, error) = compare(base, head);
        assert_eq!(code, 0, "{text}{error}");
        assert!(text.contains("2 same"), "{text}");
    }
}

#[test]
fn a_planted_regression_is_named_to_its_phase_with_its_suspect() {
    let dir = tempfile::tempdir().unwrap();
    let (before, planted) = (run(dir.path(), "before"), run(dir.path(), "planted"));
    let (code, text, error) = compare(&before, &planted);
    assert_eq!(code, 1, "{text}{error}");
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|l| l.starts_with("new ")).unwrap();
    assert!(lines[at].contains("unresponsive-application-slow on reference"), "{text}");
    assert!(lines[at + 1].contains("time to session-ended"), "{text}");
    assert!(text.contains("first suspect: definition of unresponsive-application-slow"), "{text}");
    assert!(!text.contains("control on"), "{text}");
    // The other way round it is mended.
    let (code, text, _) = compare(&planted, &before);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("fixed"), "{text}");
}

#[test]
fn the_history_tells_where_it_came_in_and_gives_runs_back() {
    let dir = tempfile::tempdir().unwrap();
    let runs = ["night", "again", "before", "planted"].map(|name| run(dir.path(), name));
    let db = dir.path().join("history.sqlite");
    let db = ["--db", db.to_str().unwrap()];
    let mut import = vec!["history", "import"];
    import.extend(runs.iter().map(|r| r.to_str().unwrap()));
    import.extend(db);
    let (code, text, error) = xtask(&import);
    assert_eq!((code, text.matches("taken in").count()), (0, 4), "{text}{error}");

    let id = |name: &Path| {
        let text = std::fs::read(name.join("run.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (first, third, last) = (id(&runs[0]), id(&runs[2]), id(&runs[3]));
    let (code, text, error) = xtask(&["history", "between", &first, &last, db[0], db[1]]);
    assert_eq!(code, 0, "{error}");
    assert!(text.contains(&format!("came in between {third} and {last}")), "{text}");

    let svg = dir.path().join("nights.svg");
    let (code, text, error) =
        xtask(&["history", "--scenario", "control", "--svg", svg.to_str().unwrap(), db[0], db[1]]);
    assert_eq!((code, text.matches("powered-off").count()), (0, 4), "{text}{error}");
    assert_eq!(std::fs::read_to_string(&svg).unwrap().matches("<circle").count(), 4);

    let out = dir.path().join("out");
    let (code, _, error) = xtask(&["history", "export", &last, out.to_str().unwrap(), db[0], db[1]]);
    assert_eq!(code, 0, "{error}");
    let (code, text, _) = compare(&runs[3], &out);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn advice_tells_what_a_default_would_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let planted = run(dir.path(), "planted");
    let (code, text, error) = xtask(&["advise", "--platform", "nova", planted.to_str().unwrap()]);
    assert_eq!(code, 0, "{error}");
    for part in ["not Windows times", "0 % (95 % confidence: 0 % to", "shutdown_timeout = "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, _, error) = xtask(&["advise", "--platform", "clouds", planted.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(error.contains("libvirt-guests"), "{error}");
}

#[test]
fn shards_come_together_and_what_is_missing_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read(run(dir.path(), "night").join("run.json")).unwrap();
    let whole: Value = serde_json::from_slice(&text).unwrap();
    let results = whole["results"].as_array().unwrap();
    let shard_of = |r: &Value| if r["scenario"] == "control" { 1 } else { 2 };
    let plan: Vec<Value> =
        results.iter().map(|r| serde_json::json!({ "dir": r["dir"], "shard": shard_of(r) })).collect();
    let shards = [1, 2].map(|n| {
        let folder = dir.path().join(format!("shard-{n}"));
        std::fs::create_dir(&folder).unwrap();
        let mut part = whole.clone();
        part["results"] = results.iter().filter(|r| shard_of(r) == n).cloned().collect();
        part["shard"] = serde_json::json!({ "index": n, "of": 2, "plan": plan });
        std::fs::write(folder.join("run.json"), part.to_string()).unwrap();
        folder
    });
    let out = dir.path().join("out");
    let merge = |shards: &[&Path]| {
        let mut args = vec!["report", "merge", "--json", "--out", out.to_str().unwrap()];
        args.extend(shards.iter().map(|s| s.to_str().unwrap()));
        xtask(&args)
    };
    let (code, text, error) = merge(&[&shards[1], &shards[0]]);
    assert_eq!(code, 0, "{error}");
    let merged: Value = serde_json::from_str(&text).unwrap();
    let said = |run: &Value| -> Vec<(Value, Value)> {
        run["results"].as_array().unwrap().iter().map(|r| (r["dir"].clone(), r["verdict"].clone())).collect()
    };
    assert_eq!(said(&merged), said(&whole));

    let (code, text, error) = merge(&[&shards[0]]);
    assert_eq!(code, 3, "{error}");
    let merged: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(merged["missing"].as_array().unwrap().len(), 8);
    assert!(error.contains("missing: 8 planned results"), "{error}");
    let summary = std::fs::read_to_string(out.join("latest/summary.md")).unwrap();
    assert!(summary.contains("Missing: 8 planned results"), "{summary}");

    // A shard that was killed in its first scenario has left a start marker.
    std::fs::remove_file(shards[1].join("run.json")).unwrap();
    let died = shards[1].join("unresponsive-application-slow.reference.1");
    std::fs::create_dir(&died).unwrap();
    std::fs::write(died.join("started.json"), "{}").unwrap();
    let (code, _, error) = merge(&[&shards[0], &shards[1]]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("0 results of it are whole") && error.contains("missing: 8"), "{error}");

    // One that died before its first scenario has a plan; one whose machine never came up has nothing.
    std::fs::remove_dir_all(&died).unwrap();
    for left in [Some("plan.json"), None] {
        std::fs::remove_file(shards[1].join("plan.json")).ok();
        if let Some(name) = left {
            std::fs::write(shards[1].join(name), "{}").unwrap();
        }
        let (code, _, error) = merge(&[&shards[0], &shards[1]]);
        assert_eq!(code, 3, "{error}");
        assert!(error.contains("missing: 8"), "{error}");
    }

    let (code, _, error) = merge(&[&shards[0], &shards[0]]);
    assert_eq!(code, 2, "{error}");
    let (code, _, error) = merge(&[&shards[0], &dir.path().join("nowhere")]);
    assert_eq!(code, 2, "{error}");
    let (code, _, error) = merge(&[&shards[1]]);
    assert_eq!(code, 2, "{error}");

    // As artifacts come: the run's folder and a copy of it under the link's name; and a next boot in a scenario's.
    let artifact = dir.path().join("artifact");
    for place in ["runs/20261128T000000Z", "latest"] {
        let at = artifact.join(place);
        let scenario = at.join(results[0]["dir"].as_str().unwrap());
        std::fs::create_dir_all(scenario.join("next-boot")).unwrap();
        std::fs::write(scenario.join("timeline.jsonl"), "").unwrap();
        std::fs::write(scenario.join("next-boot/console.log"), "booted again").unwrap();
        std::fs::copy(shards[0].join("run.json"), at.join("run.json")).unwrap();
    }
    let (code, _, error) = merge(&[&artifact]);
    assert_eq!(code, 3, "{error}");
    let merged = out.join("latest").join(results[0]["dir"].as_str().unwrap());
    let kept = std::fs::read_to_string(merged.join("next-boot/console.log")).unwrap();
    assert_eq!(kept, "booted again");
}
