//! Warm starts in real QEMU: the same result as from a cold boot, and a cold boot where a state cannot be used.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use softoff_harness::host::qemu_version;
use softoff_harness::machine::QEMU;
use softoff_harness::outcome::{OutcomeKind, Verdict};
use softoff_harness::record::normal::normalised;
use softoff_harness::record::read_timeline;
use softoff_harness::record::schema::StartMode;
use softoff_harness::run::{Job, Start};
use softoff_harness::timeline::Seen;
use softoff_harness::warm::{Missing, WarmStates, stays_cold};

use crate::common;

fn states(dir: &Path, missing: Missing) -> Arc<WarmStates> {
    let qemu = qemu_version(Path::new(QEMU)).expect("QEMU; `cargo xtask doctor` tells how to get it");
    Arc::new(WarmStates::new(dir.to_owned(), 4 << 30, qemu, missing))
}

fn job(name: &str, states: &Arc<WarmStates>) -> Job {
    let path = softoff_scenarios::definitions_dir().join(format!("{name}.toml"));
    Job { start: Start::Warm(states.clone()), ..common::job(&path, false) }
}

/// The only state in a folder of states.
fn folder(dir: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(dir).unwrap().flatten().map(|e| e.path());
    entries.find(|p| p.join("state.json").exists()).expect("a saved state")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_start_gives_the_cold_boots_result_and_a_bad_state_boots_cold() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let say = {
        let told = told.clone();
        move |line: String| told.lock().unwrap().push(line)
    };
    let reference = job("control", &states(dir.path(), Missing::BootCold));
    let (image, accel) = (reference.image.clone(), reference.accelerator);

    // Nothing is saved, and nothing is to be made.
    let none = states(dir.path(), Missing::BootCold).get(&image, accel, &say).await.unwrap_err();
    assert!(none.contains("--start warm"), "{none}");

    let warm = states(dir.path(), Missing::Make);
    let control = job("control", &warm);
    let (record, records) = common::run_in_folder(&control).await;
    assert_eq!(record.verdict, Verdict::Pass, "{:#?}", record.reasons);
    let start = record.start.as_ref().unwrap();
    assert_eq!((start.mode, start.state.is_some(), record.boots), (StartMode::Warm, true, 0));
    // What a cold boot's record says, word for word.
    let approved = softoff_scenarios::approved(&control.scenario, image.manifest.family).unwrap();
    assert_eq!(normalised(&record).trim(), approved.trim());
    assert_eq!(record.probe_lines_damaged, 0, "the numbers of probe lines go on where they were");
    let seen = read_timeline(&records).unwrap();
    let clock = seen.iter().find_map(|o| match o.what {
        Seen::ClockSet { off_us } => Some(Duration::from_micros(off_us.unsigned_abs())),
        _ => None,
    });
    assert!(clock.unwrap() < Duration::from_millis(500), "{clock:?}");

    let (killed, _) = common::run_in_folder(&job("hard-power-off", &warm)).await;
    assert_eq!(killed.verdict, Verdict::Pass, "{:#?}", killed.reasons);
    assert_eq!(killed.outcome.kind(), OutcomeKind::HostKilled);
    assert_eq!(killed.damage.volume_dirty, Some(true));
    assert_eq!(killed.start.unwrap().mode, StartMode::Warm);
    // What was written before the state was saved counts: flushed work is there, unflushed is lost.
    let documents = killed.damage.disk.unwrap().documents.unwrap();
    assert_eq!((documents.flushed.written, documents.flushed.lost()), (Some(5), 0), "{documents:?}");
    assert_eq!((documents.unflushed.written, documents.unflushed.lost()), (Some(5), 5), "{documents:?}");

    // Touched after it was checked: the run notices, removes it, and boots.
    let state = folder(dir.path());
    let devices = std::fs::read(state.join("devices")).unwrap();
    std::fs::write(state.join("devices"), &devices).unwrap();
    let (cold, records) = common::run_in_folder(&job("control", &warm)).await;
    assert_eq!(cold.verdict, Verdict::Pass, "{:#?}", cold.reasons);
    assert_eq!(cold.start.unwrap().mode, StartMode::Cold);
    let notes: Vec<String> = read_timeline(&records)
        .unwrap()
        .into_iter()
        .filter_map(|o| match o.what {
            Seen::Note { what } => Some(what),
            _ => None,
        })
        .collect();
    assert!(
        notes.iter().any(|n| n.starts_with("boots cold") && n.contains("changed since it was checked")),
        "{notes:?}"
    );
    assert!(!state.exists(), "a state that failed is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_is_told_and_removed() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let warm = states(dir.path(), Missing::Make);
    let (image, accel) = {
        let job = job("control", &warm);
        (job.image, job.accelerator)
    };
    let told = Arc::new(Mutex::new(Vec::new()));
    let say = {
        let told = told.clone();
        move |line: String| told.lock().unwrap().push(line)
    };
    warm.get(&image, accel, &say).await.unwrap();
    let state = folder(dir.path());
    // Another process finds it whole.
    states(dir.path(), Missing::BootCold).get(&image, accel, &say).await.unwrap();
    let memory = std::fs::File::options().write(true).open(state.join("memory")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&memory, b"x", 512 << 20).unwrap();
    drop(memory);
    let why = states(dir.path(), Missing::BootCold).get(&image, accel, &say).await.unwrap_err();
    assert!(why.contains("no state is saved"), "{why}");
    let told = told.lock().unwrap();
    assert!(told.iter().any(|line| line.contains("is damaged") && line.contains("removed")), "{told:?}");
    assert!(!state.exists());
}

#[test]
fn what_is_put_into_the_disk_or_sleeps_boots_cold() {
    let states = states(Path::new("/nonexistent"), Missing::BootCold);
    let why = |name: &str| {
        let job = job(name, &states);
        stays_cold(&job.scenario, &job.image, job.without_injection).is_some()
    };
    let cold: Vec<&str> = ["power-button-nothing", "asleep-s3", "hibernated", "early-request", "control"]
        .into_iter()
        .filter(|name| why(name))
        .collect();
    assert_eq!(cold, ["power-button-nothing", "asleep-s3", "hibernated", "early-request"]);
}
