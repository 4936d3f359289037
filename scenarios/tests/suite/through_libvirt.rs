//! The engine's scenarios on domains of a real libvirtd: the same results as through plain QMP, and what is told when
//! libvirt fails in the middle.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use softoff_harness::live::{LiveError, LiveJob, Reach, look};
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::backend::Backend;
use softoff_harness::machine::libvirt::{Connection, Libvirt, Traces, VirshError, Why};
use softoff_harness::outcome::{BackendKind, Cause, OutcomeKind, Verdict};
use softoff_harness::record::ScenarioRecord;
use softoff_harness::run::{Job, RunEvent, Stage};
use softoff_harness::settle::TookEffect;
use softoff_scenarios::libvirt::{Domain, NAME};

use crate::common;

async fn libvirt() -> Arc<Libvirt> {
    let libvirt = Libvirt::start(Accelerator::Tcg).await;
    Arc::new(libvirt.expect("libvirtd; `cargo xtask doctor` tells how to get it"))
}

/// A job for one of our definitions, held against its approved snapshot.
fn job(libvirt: &Arc<Libvirt>, name: &str) -> Job {
    let path = softoff_scenarios::definitions_dir().join(name).with_extension("toml");
    let job = common::job(&path, false);
    let approved = softoff_scenarios::approved(&job.scenario, job.image.manifest.family);
    assert!(approved.is_some(), "{name} has no snapshot");
    let image = libvirt.image(&job.image).unwrap();
    Job { backend: Backend::Libvirt(libvirt.clone()), image, approved, ..job }
}

/// What is left of a daemon that is dropped.
fn end(libvirt: Arc<Libvirt>) {
    let traces = libvirt.traces().unwrap();
    let only = Arc::into_inner(libvirt);
    assert!(only.is_some(), "somebody still holds the daemon");
    drop(only);
    assert_eq!(traces.left(), [""; 0]);
}

fn requests(record: &ScenarioRecord) -> Vec<(&str, &[String], bool)> {
    assert!(record.requests.iter().all(|r| r.took_ms.is_some() && r.sent.is_some()), "{:?}", record.requests);
    record
        .requests
        .iter()
        .map(|r| (r.by.as_str(), r.sent.as_deref().unwrap_or_default(), r.refused.is_some()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn through_libvirt_the_results_are_the_same_and_a_press_is_one_command() {
    let libvirt = libvirt().await;
    let jobs =
        ["control", "power-button-nothing", "agent-absent", "hibernated"].map(|name| job(&libvirt, name));
    let runs = jobs.map(|job| tokio::spawn(async move { common::run(&job).await }));
    let mut records = Vec::new();
    for run in runs {
        records.push(run.await.unwrap());
    }
    for record in &records {
        assert_eq!(record.verdict, Verdict::Pass, "{}: {:#?}", record.scenario, record.reasons);
        assert_eq!(record.backend, BackendKind::Libvirt);
    }
    let [control, nothing, absent, hibernated] = records.as_slice() else { panic!("four results") };
    let press = ["system_powerdown".to_owned()];
    // `--mode acpi` is exactly one QMP command, by libvirt's own log of what it sends.
    assert_eq!(requests(control), [("system_powerdown", press.as_slice(), false)]);
    assert_eq!(requests(nothing), [("system_powerdown", press.as_slice(), false)]);
    assert_eq!(nothing.outcome.kind(), OutcomeKind::StillRunning);
    assert_eq!(control.took_effect, TookEffect { reacted: Some(1), ended: Some(1) });
    // `--mode agent` without an agent is refused at once, and nothing is sent to QEMU; the press after it is obeyed.
    assert_eq!(
        requests(absent),
        [("guest-shutdown", [].as_slice(), true), ("system_powerdown", press.as_slice(), false)]
    );
    assert!(absent.requests[0].took_ms.is_some_and(|ms| ms < 30_000), "{:?}", absent.requests);
    assert_eq!(absent.took_effect, TookEffect { reacted: Some(2), ended: Some(2) });
    // A guest that sleeps on its disk has taken its domain with it: the press is refused, and nobody failed.
    assert_eq!(requests(hibernated), [("system_powerdown", [].as_slice(), true)]);
    assert_eq!(hibernated.outcome.kind(), OutcomeKind::Hibernated);
    end(libvirt);
}

/// What only libvirt can do, as libvirt 9 does it. Its own choice prefers the agent, and sends nothing to QEMU where one
/// obeys. With the agent's port closed it presses at once; an agent that has it open and says nothing is given up after
/// 5 s; one that took the request is waited for 60 s while the guest stays (QEMU_AGENT_SHUTDOWN_TIMEOUT). It presses then,
/// each time. `--mode agent` gives up, and presses never.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "five minutes: cargo test -p softoff-scenarios --test suite -- through_libvirt:: --ignored"]
async fn libvirts_own_requests_do_what_their_definitions_say() {
    const PRESS: &[&str] = &["system_powerdown"];
    let libvirt = libvirt().await;
    let mut all = softoff_scenarios::load_libvirt().unwrap();
    let cases = [
        ("default-healthy", &[][..], false, 0..60_000),
        ("default-agent-absent", PRESS, false, 0..5_000),
        ("default-agent-dies", PRESS, false, 0..60_000),
        ("default-agent-frozen", PRESS, false, 5_000..60_000),
        ("default-agent-obeys-late", PRESS, false, 60_000..u64::MAX),
        ("agent-mode-frozen", &[], true, 5_000..60_000),
        ("destroy-graceful", &[], false, 0..60_000),
    ];
    for (name, sent, refused, blocked_ms) in cases {
        let found = all.iter().position(|s| s.name.0 == name).expect(name);
        let path = all.remove(found).path;
        let job = common::job(&path, false);
        let image = libvirt.image(&job.image).unwrap();
        let record = common::run(&Job { backend: Backend::Libvirt(libvirt.clone()), image, ..job }).await;
        assert_eq!(record.verdict, Verdict::Pass, "{:#?}", record.reasons);
        let [request] = record.requests.as_slice() else { panic!("one request: {:?}", record.requests) };
        println!("{name}: {request:?}");
        let told = requests(&record);
        assert!(told[0].1 == sent && told[0].2 == refused, "{told:?}");
        assert!(request.took_ms.is_some_and(|ms| blocked_ms.contains(&ms)), "{request:?}");
    }
    assert!(all.is_empty(), "none of them is looked at: {all:?}");
    end(libvirt);
}

/// Killed just after a press that the guest discards: what is seen afterwards is what the scenario expects, and still
/// nothing may be said, since nobody knows what became of the request.
#[tokio::test(flavor = "multi_thread")]
async fn a_libvirtd_that_is_killed_in_mid_run_is_infra_and_leaves_no_machine() {
    let libvirt = libvirt().await;
    let job = job(&libvirt, "power-button-nothing");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(libvirt.pid).unwrap());
    let traces = Arc::new(std::sync::Mutex::new(None::<Traces>));
    let (of, seen) = (libvirt.clone(), traces.clone());
    let listener = move |event: RunEvent| {
        if let RunEvent::Stage { stage: Stage::Waiting(_), .. } = event {
            seen.lock().unwrap().get_or_insert_with(|| of.traces().unwrap());
            let _killed = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    };
    let (record, _) = common::run_with(&job, Arc::new(listener)).await;
    assert_eq!(record.verdict, Verdict::Infra, "{record:#?}");
    assert_eq!(record.outcome.kind(), OutcomeKind::HostFailed);
    let why = record.reasons.join("; ");
    assert!(why.contains("libvirtd") || why.contains("failed to connect"), "{why}");
    let left = traces.lock().unwrap().take().expect("a machine").left();
    assert!(!left.iter().any(|l| l.starts_with("process")), "{left:?}");
    drop(job);
    let folder = libvirt.folder().to_owned();
    drop(libvirt);
    let began = Instant::now();
    while folder.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{} is still there", folder.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_qemu_may_not_read_are_infra_and_named() {
    let libvirt = libvirt().await;
    let job = job(&libvirt, "control");
    // As root the copies are libvirt's own; otherwise they are the cache's, which is left alone.
    if !nix::unistd::geteuid().is_root() {
        return closed_door().await;
    }
    let disk = job.image.file(&job.image.manifest.system_disk);
    std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o000)).unwrap();
    let (record, _) = common::run_in_folder(&job).await;
    assert_eq!(record.verdict, Verdict::Infra, "{record:#?}");
    let why = record.reasons.join("; ");
    assert!(why.contains("Permission denied") && why.contains("libvirt did not start the domain"), "{why}");
    assert!(record.requests.is_empty() && record.last_phase.is_none());
    closed_door().await;
    drop(job);
    end(libvirt);
}

/// A socket that this user may not open. (root may open any: for it the door is one that is not there.)
async fn closed_door() {
    let behind = tempfile::tempdir().unwrap();
    std::fs::set_permissions(behind.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
    let uri = format!("qemu+unix:///session?socket={}/libvirt-sock", behind.path().display());
    let expected = if nix::unistd::geteuid().is_root() { Why::Unreachable } else { Why::Denied };
    let connection = Connection::to(Some(&uri)).unwrap();
    let job = LiveJob { reach: Reach::Domain { connection, name: NAME.into() }, press: None, screens: None };
    let error = look(&job, &|_| ()).await.unwrap_err();
    assert!(matches!(&error, LiveError::Virsh(e) if e.why() == Some(expected)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_was_renamed_is_not_found_and_one_that_runs_cannot_be_renamed() {
    let _place = common::place().await;
    let libvirt = libvirt().await;
    let image = common::image();
    let domain =
        Domain::make(libvirt.image(&image).unwrap(), Accelerator::Tcg, libvirt.folder().join("guest"));
    let domain = domain.await.unwrap();
    domain.define(&libvirt).await.unwrap();
    libvirt.virsh(&["domrename", NAME, "renamed"]).await.unwrap();
    let attach = |name: &str| LiveJob {
        reach: Reach::Domain {
            connection: Connection::to(libvirt.connection().uri()).unwrap(),
            name: name.into(),
        },
        press: Some(Duration::from_secs(5)),
        screens: None,
    };
    let error = look(&attach(NAME), &|_| ()).await.unwrap_err();
    assert!(matches!(&error, LiveError::Virsh(VirshError::Refused { why: Why::NoDomain, .. })), "{error}");
    assert!(error.to_string().contains("virsh list --all"), "{error}");
    let error = look(&attach("renamed"), &|_| ()).await.unwrap_err();
    assert!(matches!(error, LiveError::Off { .. }), "{error}");
    // One that runs keeps its name, so that no run loses its machine by it.
    libvirt.virsh(&["start", "--paused", "renamed"]).await.unwrap();
    let refused = libvirt.virsh(&["domrename", "renamed", NAME]).await.unwrap_err();
    assert_eq!(refused.why(), Some(Why::Other), "{refused}");
    // Attached to, a machine whose processors stand still is neither pressed nor ended.
    let report = look(&attach("renamed"), &|_| ()).await.unwrap();
    assert!(
        !report.pressed && report.not_pressed.is_some_and(|why| why.contains("prelaunch")),
        "{:?}",
        report.seen
    );
    assert_eq!(report.diagnosis.cause, Cause::Unknown);
    assert_eq!(libvirt.virsh(&["domstate", "renamed"]).await.unwrap(), "paused");
    end(libvirt);
}
