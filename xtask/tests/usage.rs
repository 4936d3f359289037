//! The command line as a user meets it when something is wrong: one clear error, the next step, the
//! documented exit code. No guest is booted here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use rstest::rstest;

fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).env("NO_COLOR", "1");
    command
}

/// Exit code and standard error.
fn outcome(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    assert!(!text.contains('\x1b'), "colours in spite of NO_COLOR: {text}");
    (output.status.code().unwrap_or(-1), text)
}

#[rstest]
#[case::unknown_scenario(&["run", "--scenario", "no-such-*"], "cargo xtask list")]
#[case::missing_scenario_file(&["run", "--scenario", "nowhere/x.toml"], "nowhere/x.toml")]
#[case::bad_glob(&["run", "--scenario", "[a"], "[a")]
#[case::missing_image(&["run", "--image", "/nowhere/image"], "give `reference`")]
#[case::missing_hardened_image(&["run", "--image", "/nowhere/image-hardened"], "give `reference`")]
#[case::a_disk_of_no_family(&["run", "--image", "Cargo.toml"], "--family windows-server-2022")]
#[case::firmware_of_no_family(&["run", "--firmware", "bios"], "--family")]
#[case::harden_nothing(&["image", "harden", "/nowhere/overlay.qcow2"], "qemu-img create")]
#[case::no_such_system(&["image", "catalog", "windows-95"], "windows-server-2022")]
#[case::no_jobs(&["run", "--jobs", "0"], "--jobs")]
#[case::negative_scale(&["run", "--deadline-scale=-1"], "between 0.1 and 1000")]
#[case::unknown_option(&["run", "--fast"], "--fast")]
#[case::unknown_command(&["fly"], "fly")]
#[case::diagnose_nothing(&["diagnose"], "--record <DIR>|--qmp <SOCKET>")]
#[case::diagnose_both(&["diagnose", "--record", "x", "--qmp", "y"], "cannot be used with")]
#[case::press_a_record(&["diagnose", "--record", "x", "--press"], "cannot be used with")]
#[case::deadline_without_press(&["diagnose", "--qmp", "x", "--deadline", "9s"], "--press")]
#[case::deadline_without_unit(&["diagnose", "--qmp", "x", "--press", "--deadline", "9"], "\"20s\"")]
#[case::no_deadline(&["diagnose", "--qmp", "x", "--press", "--deadline", "0s"], "longer than 0")]
#[case::missing_record(&["diagnose", "--record", "/nowhere/record"], "cargo xtask run")]
#[case::no_record(&["diagnose", "--record", "src"], "timeline.jsonl")]
#[case::pictures_over_others(&["diagnose", "--qmp", "x", "--keep-screens", "src"], "new or empty folder")]
#[case::no_such_shard(&["run", "--shard", "4/3"], "such as 1/3")]
#[case::durations_without_shard(&["run", "--durations", "x"], "--shard")]
#[case::undecided_against_nothing(&["run", "--until-decided", "9"], "--baseline")]
#[case::missing_baseline(&["run", "--baseline", "/nowhere"], "cargo xtask run")]
#[case::missing_known_issues(&["run", "--known-issues", "/nowhere.toml"], "ci/known-issues.toml")]
#[case::compare_with_nothing(&["compare", "/nowhere", "/nowhere"], "cargo xtask run")]
#[case::negative_floor(&["compare", "a", "b", "--floor-share=-1"], "between 0 and 100")]
#[case::no_history(&["history", "--db", "/nowhere/h.sqlite"], "history import")]
#[case::no_percentile(&["advise", "--percentile", "100"], "between 0 and 100")]
#[case::report_of_nothing(&["report", "/nowhere"], "cargo xtask run")]
#[case::merge_of_nothing(&["report", "merge", "src"], "holds no run")]
#[case::resume_nothing(&["run", "--resume", "/nowhere"], "`cargo xtask run` begins one")]
#[case::resume_no_run(&["run", "--resume", "src"], "no run that can go on")]
#[case::resume_and_choose(&["run", "--resume", "--scenario", "x"], "cannot be used with")]
#[case::unknown_image(&["image", "build", "beos"], "reference")]
fn wrong_usage_ends_with_2_and_says_what_is_right(#[case] args: &[&str], #[case] hint: &str) {
    let (code, text) = outcome(&xtask(args).output().unwrap());
    assert_eq!(code, 2, "{text}");
    assert!(text.contains(hint), "{text}");
}

#[test]
fn a_machine_that_cannot_be_reached_is_infrastructure() {
    let (code, text) = outcome(&xtask(&["diagnose", "--qmp", "/nowhere/qmp.sock"]).output().unwrap());
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("/nowhere/qmp.sock") && text.contains("QMP socket"), "{text}");
}

#[test]
fn a_wrong_scenario_file_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    let good = include_str!("../../scenarios/definitions/control.toml");
    std::fs::write(&path, good.replace("deadline = \"60s\"", "deadline = \"-60s\"")).unwrap();
    let (code, text) = outcome(&xtask(&["run", "--scenario", path.to_str().unwrap()]).output().unwrap());
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("mine.toml:9:") && text.contains("-60s") && text.contains("such as"), "{text}");
}

#[test]
fn a_corrupt_image_is_named_before_anything_boots() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = serde_json::json!({
        "schema": 1, "name": "mine", "family": "reference",
        "machine": { "machine": "pc", "tcg_cpu": "qemu64", "smp": 1, "memory_mib": 64, "vga": "std" },
        "boot": { "by": "bios" }, "system_disk": "system.qcow2",
        "files": { "system.qcow2": "00".repeat(32) }, "recipe": "",
    });
    std::fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    std::fs::write(dir.path().join("system.qcow2"), b"not what it was").unwrap();
    let args = ["run", "--accel", "tcg", "--image", dir.path().to_str().unwrap()];
    let (code, text) = outcome(&xtask(&args).output().unwrap());
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("system.qcow2 is damaged") && text.contains("SHA-256"), "{text}");
}

#[test]
fn missing_programs_are_named_with_what_brings_them() {
    let (code, text) = outcome(&xtask(&["run"]).env("PATH", "/nowhere").output().unwrap());
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("qemu-system-x86"), "{text}");
    let doctor = xtask(&["doctor"]).env("PATH", "/nowhere").output().unwrap();
    let shown = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(outcome(&doctor).0, 3);
    assert!(shown.contains("MISSING: apt-get install qemu-system-x86"), "{shown}");
}

#[test]
fn records_need_a_place() {
    // A file where the folder should be: nothing can be written below it, not even by root.
    let file = tempfile::NamedTempFile::new().unwrap();
    let out = Path::new(file.path()).join("records");
    let image = tempfile::tempdir().unwrap();
    let disk = b"disk";
    let manifest = serde_json::json!({
        "schema": 1, "name": "mine", "family": "reference",
        "machine": { "machine": "pc", "tcg_cpu": "qemu64", "smp": 1, "memory_mib": 64, "vga": "std" },
        "boot": { "by": "bios" }, "system_disk": "system.qcow2",
        "files": { "system.qcow2": softoff_harness::image::Sha256Hex::of_bytes(disk) }, "recipe": "",
    });
    std::fs::write(image.path().join("manifest.json"), manifest.to_string()).unwrap();
    std::fs::write(image.path().join("system.qcow2"), disk).unwrap();
    let args =
        ["run", "--accel", "tcg", "--image", image.path().to_str().unwrap(), "--out", out.to_str().unwrap()];
    let (code, text) = outcome(&xtask(&args).output().unwrap());
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("--out"), "{text}");
}

#[test]
fn the_list_shows_every_scenario() {
    let output = xtask(&["list", "--json"]).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> = list.as_array().unwrap().iter().filter_map(|s| s["scenario"].as_str()).collect();
    for name in ["control", "power-button-nothing", "unresponsive-application-hang", "hard-power-off"] {
        assert!(names.contains(&name), "{names:?}");
    }
}
