//! `inspect` and `lint` as a user meets them, on a disk made for it: what they print, and their exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use rstest::rstest;
use serde_json::Value;
use softoff_harness::disk::{Hive, RegistryValue};
use softoff_harness::guest::power_policy::{AC, PBUTTONACTION, POLICY};
use softoff_harness::inject::{self, HiveEdit};

fn xtask(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).env("NO_COLOR", "1").output().unwrap()
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    assert!(!error.contains("panicked"), "{error}");
    (output.status.code().unwrap_or(-1), shown, error)
}

fn overlay(base: &Path, path: &Path) {
    let status = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(base)
        .arg(path)
        .status()
        .expect("next: apt-get install qemu-utils");
    assert!(status.success());
}

#[test]
fn a_disk_is_read_linted_and_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let base = softoff_images::measure_disk::build(dir.path()).unwrap();
    let base_text = base.to_str().unwrap();

    let (code, shown, error) = outcome(&xtask(&["inspect", base_text, "--json"]));
    assert_eq!((code, error.as_str()), (0, ""));
    let report: Value = serde_json::from_str(&shown).unwrap();
    let at = |path: &str| report.pointer(path).cloned().unwrap_or(Value::Null);
    assert_eq!(at("/size"), 10u64 << 30);
    assert_eq!(at("/system/volume_flags"), 0);
    assert_eq!(at("/system/system_log/records"), 2400);
    assert_eq!(at("/system/hives/0/condition"), "clean");
    assert_eq!(at("/registry/shutdown_without_logon"), 1);
    let (code, shown, _) = outcome(&xtask(&["inspect", base_text]));
    assert_eq!(code, 0);
    assert!(shown.contains("System log") && shown.contains("Service Control Manager 7043"), "{shown}");

    // Nothing stands in the way of a press; then the button does nothing; then the remedy is applied.
    let (code, shown, _) = outcome(&xtask(&["lint", base_text]));
    assert_eq!(code, 0, "{shown}");
    let disk = dir.path().join("overlay.qcow2");
    overlay(&base, &disk);
    let edit = |number| {
        HiveEdit::new(Hive::Software, format!(r"{POLICY}\{PBUTTONACTION}"), AC, RegistryValue::Dword(number))
    };
    inject::apply(&disk, std::slice::from_ref(&base), &[edit(0)]).unwrap();
    let remedy = dir.path().join("remedy");
    let (code, shown, error) =
        outcome(&xtask(&["lint", disk.to_str().unwrap(), "--remedy", remedy.to_str().unwrap()]));
    assert_eq!(code, 1, "{shown}{error}");
    assert!(shown.contains("is discarded") && shown.contains("documented"), "{shown}");
    let script = std::fs::read_to_string(remedy.join("softoff-remedy.ps1")).unwrap();
    assert!(script.contains(PBUTTONACTION) && script.contains("-Value 3"), "{script}");
    assert!(remedy.join("softoff-remedy.reg").exists());
    inject::apply(&disk, std::slice::from_ref(&base), &[edit(3)]).unwrap();
    let (code, shown, _) = outcome(&xtask(&["lint", disk.to_str().unwrap(), "--json"]));
    let lint: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, lint["judgement"].as_str()), (0, Some("obeyed")));
}

#[rstest]
#[case::inspect_nothing(&["inspect"], 2, "DISK")]
#[case::inspect_no_file(&["inspect", "/nowhere/disk.qcow2"], 2, "/nowhere/disk.qcow2")]
#[case::inspect_no_disk(&["inspect", "src/main.rs"], 3, "no Windows system volume")]
#[case::inspect_a_folder(&["inspect", "src"], 3, "neither a regular file")]
#[case::lint_nothing(&["lint"], 2, "<DISK|--confirm>")]
#[case::lint_no_disk(&["lint", "src/main.rs"], 3, "nothing can be said")]
#[case::lint_both(&["lint", "x", "--confirm"], 2, "cannot be used with")]
#[case::lint_no_such_scenario(&["lint", "--confirm", "--scenario", "malware-*"], 2, "settings alone")]
#[case::fuzz_nothing_known(&["fuzz", "--target", "jpeg"], 2, "partition")]
fn what_cannot_be_done_says_why(#[case] args: &[&str], #[case] expected: i32, #[case] hint: &str) {
    let (code, _, error) = outcome(&xtask(args));
    assert_eq!(code, expected, "{error}");
    assert!(error.contains(hint), "{error}");
}
