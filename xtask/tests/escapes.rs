//! Records from elsewhere on a terminal: whatever a hostile guest or machine wrote into them, no command sends it on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// Colours, a title, a cleared screen, C1 forms of the same, reordering, markup, a bell, a carriage return.
const HOSTILE: &str =
    "\u{1b}[31m\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}<script>alert(1)</script>\r\nfake line\u{8}";

/// Everything that a guest or another machine may have written freely; names are looked at below.
const FREE: &[&str] =
    &["reasons", "evidence", "what", "trouble", "volume_flags", "lacks", "machine", "firmware"];
const HOST: &[&str] = &["kernel", "cpu_model", "distribution", "qemu", "softoff"];

fn plant(value: &mut Value, within: &str) {
    match value {
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            for key in keys {
                plant(&mut map[&key], &key);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|v| plant(v, within)),
        Value::String(text) if FREE.contains(&within) || HOST.contains(&within) => *text = HOSTILE.into(),
        _ => {}
    }
}

/// A run in which every free text is hostile.
fn run(dir: &Path, name: &str) -> PathBuf {
    let folder = dir.join(name);
    std::fs::create_dir(&folder).unwrap();
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{name}.json"));
    let mut record: Value = serde_json::from_str(&std::fs::read_to_string(record).unwrap()).unwrap();
    plant(&mut record, "");
    for result in record["results"].as_array_mut().unwrap() {
        result["reasons"] = json!([HOSTILE]);
        result["verdict"] = json!("fail");
        result["damage"]["trouble"] = json!(HOSTILE);
        result["diagnosis"]["lacks"] = json!([HOSTILE]);
        result["diagnosis"]["evidence"] = json!([{ "kind": "screen", "what": HOSTILE }]);
    }
    std::fs::write(folder.join("run.json"), record.to_string()).unwrap();
    folder
}

/// What a command says, with every character that is no plain text told.
fn said(arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).env("NO_COLOR", "1").output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let raw: Vec<char> =
        text.chars().filter(|c| *c != '\n' && softoff_harness::text::is_hidden(*c)).collect();
    assert!(raw.is_empty(), "{arguments:?} sends {raw:?}: {}", text.escape_debug());
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().unwrap_or(-1), text)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn no_command_sends_what_a_record_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (before, planted) = (run(dir.path(), "before"), run(dir.path(), "planted"));
    let db = dir.path().join("h.sqlite");
    let (code, shown) = said(&["compare", text(&before), text(&planted)]);
    assert!(code == 0 || code == 1, "{shown}");
    said(&["compare", text(&before), text(&planted), "--json"]);
    assert_eq!(said(&["report", text(&planted)]).0, 0);
    assert_eq!(said(&["history", "import", text(&before), text(&planted), "--db", text(&db)]).0, 0);
    said(&["history", "--db", text(&db)]);
    said(&["history", "--db", text(&db), "--json"]);
    said(&["advise", text(&before)]);

    // The page holds the words, and no markup of theirs.
    let page = std::fs::read_to_string(planted.join("report.html")).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"));
    for name in ["report.html", "junit.xml", "summary.md"] {
        let text = std::fs::read_to_string(planted.join(name)).unwrap();
        let raw: Vec<char> = text.chars().filter(|c| !"\n\t\r".contains(*c) && c.is_control()).collect();
        assert!(raw.is_empty(), "{name}: {raw:?}");
    }
}

#[test]
fn a_timeline_full_of_escapes_is_diagnosed_in_plain_words() {
    let dir = tempfile::tempdir().unwrap();
    let seen = [
        json!({ "at_us": 1, "source": "qmp", "seen": "run-state", "data": { "state": HOSTILE } }),
        json!({ "at_us": 2, "source": "qmp", "seen": "button-registers", "data": { "enabled": true, "pending": false } }),
        json!({ "at_us": 3, "source": "host", "seen": "requested", "data": { "by": "system_powerdown", "number": 1 } }),
        json!({ "at_us": 4, "source": "qmp", "seen": "press-taken" }),
        json!({ "at_us": 5, "source": "screen", "seen": "screen-changed", "data": { "file": "../../etc/passwd", "changed": 1.0 } }),
        json!({ "at_us": 6, "source": "console", "seen": "console-panic", "data": { "line": HOSTILE } }),
    ];
    let lines: Vec<String> = seen.iter().map(Value::to_string).collect();
    std::fs::write(dir.path().join("timeline.jsonl"), lines.join("\n")).unwrap();
    let registry = json!({
        "logon_user": HOSTILE, "auto_admin_logon": HOSTILE, "shutdown_without_logon": 0,
        "preshutdown": [{ "name": HOSTILE, "timeout_ms": 172_800_000u32 }],
    });
    std::fs::write(dir.path().join("registry.json"), registry.to_string()).unwrap();
    let (code, shown) = said(&["diagnose", "--record", text(dir.path())]);
    assert_eq!(code, 0, "{shown}");
    said(&["diagnose", "--record", text(dir.path()), "--json"]);
}

/// Names become folders and columns: one that is no plain word is refused, before anything is written.
#[test]
fn a_record_with_strange_names_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = run(dir.path(), "before");
    let record: Value =
        serde_json::from_str(&std::fs::read_to_string(good.join("run.json")).unwrap()).unwrap();
    for (number, at) in
        ["/results/0/scenario", "/results/0/image/name", "/results/0/dir", "/id"].iter().enumerate()
    {
        for bad in [HOSTILE, "../../outside", "/etc"] {
            let mut record = record.clone();
            *record.pointer_mut(at).unwrap() = json!(bad);
            let folder = dir.path().join(format!("bad{number}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("run.json"), record.to_string()).unwrap();
            for command in [vec!["report"], vec!["report", "merge"], vec!["history", "import"]] {
                let arguments = [command, vec![text(&folder)]].concat();
                let (code, shown) = said(&arguments);
                assert_eq!(code, 2, "{at} {bad:?} {arguments:?}: {shown}");
            }
        }
    }
}

/// A definition's name becomes a folder's name.
#[test]
fn a_definition_with_a_strange_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let control = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/definitions/control.toml");
    for bad in ["\u{1b}[2J.toml", "a b.toml", "<script>.toml", ".hidden.toml"] {
        let path = dir.path().join(bad);
        std::fs::copy(&control, &path).unwrap();
        let (code, shown) = said(&["run", "--scenario", text(&path)]);
        assert_eq!(code, 2, "{shown}");
        assert!(shown.contains("no name for a scenario"), "{shown}");
    }
}
