//! A machine that somebody else runs, read and pressed: the real QEMU of this machine with firmware only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use softoff_harness::live::{LiveError, LiveJob, LiveReport, LiveStage, Reach, look};
use softoff_harness::machine::QEMU;
use softoff_harness::machine::process::spawn;
use softoff_harness::machine::qmp::QmpClient;
use softoff_harness::outcome::{Cause, OutcomeKind, Phase, SettledBy};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::process::{Child, Command};

const LIMIT: Duration = Duration::from_secs(60);

/// QEMU with firmware and no disk; `more` are further arguments.
async fn start(dir: &Path, more: &[&str]) -> (Child, PathBuf) {
    let socket = dir.join("qmp.sock");
    let mut command = Command::new(QEMU);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-m", "64"]);
    command.args(more);
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
    let qemu = spawn(command).await.expect("QEMU; `cargo xtask doctor` tells how to get it");
    for _ in 0..2000 {
        if QmpClient::connect(&socket, LIMIT).await.is_ok() {
            return (qemu, socket);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("QEMU did not open {}", socket.display());
}

fn sockets(qmp: &Path, qga: Option<PathBuf>) -> Reach {
    Reach::Sockets { qmp: qmp.to_owned(), qga }
}

fn job(qmp: &Path) -> LiveJob {
    LiveJob { reach: sockets(qmp, None), press: None, screens: None }
}

/// Softoff's own connection has to be gone before QEMU greets the next one.
async fn state(socket: &Path) -> String {
    QmpClient::connect(socket, LIMIT).await.unwrap().0.run_state(LIMIT).await.unwrap()
}

fn says(report: &LiveReport, what: &str) -> bool {
    report.seen.iter().any(|sentence| sentence.contains(what))
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_changes_nothing_and_pressing_presses_once() {
    let dir = tempfile::tempdir().unwrap();
    for machine in ["pc", "q35"] {
        let dir = dir.path().join(machine);
        std::fs::create_dir(&dir).unwrap();
        let (mut qemu, socket) = start(&dir, &["-machine", machine, "-vga", "std"]).await;

        let report = look(&job(&socket), &|_| ()).await.unwrap();
        assert_eq!((report.outcome.kind(), report.pressed), (OutcomeKind::StillRunning, false));
        assert!(says(&report, "run state is running"), "{:?}", report.seen);
        assert!(says(&report, "nobody listens to the power button"), "{:?}", report.seen);
        assert!(says(&report, "the screen"), "{:?}", report.seen);
        let lacks = &report.diagnosis.lacks;
        assert!(lacks.iter().any(|l| l.contains("--qga")) && lacks.len() == 1, "{lacks:?}");
        assert_eq!(state(&socket).await, "running");

        let screens = dir.join("screens");
        let press = LiveJob { press: Some(LIMIT), screens: Some(screens.clone()), ..job(&socket) };
        let stages = std::sync::Mutex::new(Vec::new());
        let report = look(&press, &|stage| stages.lock().unwrap().push(stage)).await.unwrap();
        assert!(report.pressed);
        assert_eq!(report.diagnosis.cause, Cause::EarlyRequest, "{report:?}");
        // QEMU keeps no press for later, so that nobody has to wait for the deadline.
        assert_eq!(report.settled_by, Some(SettledBy::Evidence));
        assert_eq!(*stages.lock().unwrap(), [LiveStage::Looking, LiveStage::Waiting(Phase::Request)]);
        let kept: Vec<_> = std::fs::read_dir(&screens).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(!kept.is_empty() && kept.iter().all(|f| f.to_string_lossy().ends_with(".png")), "{kept:?}");
        assert_eq!(state(&socket).await, "running");
        assert!(qemu.try_wait().unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_machine_without_screen_or_fixed_hardware_is_told_and_never_pressed() {
    let dir = tempfile::tempdir().unwrap();
    let (_qemu, socket) = start(dir.path(), &["-machine", "microvm", "-S"]).await;
    let report = look(&LiveJob { press: Some(LIMIT), ..job(&socket) }, &|_| ()).await.unwrap();
    assert!(!report.pressed);
    assert!(report.not_pressed.as_deref().is_some_and(|why| why.contains("prelaunch")), "{report:?}");
    assert_eq!((report.outcome.kind(), report.diagnosis.cause), (OutcomeKind::HostFailed, Cause::Unknown));
    let lacks = report.diagnosis.lacks.join("\n");
    assert!(lacks.contains("the screen:") && lacks.contains("registers"), "{lacks}");
    assert_eq!(state(&socket).await, "prelaunch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_agent_is_lacking_and_not_fatal() {
    let dir = tempfile::tempdir().unwrap();
    let agent = dir.path().join("agent.sock");
    let chardev = format!("socket,id=agent,path={},server=on,wait=off", agent.display());
    let port = "virtserialport,chardev=agent,name=org.qemu.guest_agent.0";
    let more = ["-machine", "pc", "-chardev", &chardev, "-device", "virtio-serial-pci", "-device", port];
    let (_qemu, socket) = start(dir.path(), &more).await;
    let report =
        look(&LiveJob { reach: sockets(&socket, Some(agent)), ..job(&socket) }, &|_| ()).await.unwrap();
    assert!(says(&report, "the guest agent's channel is closed"), "{:?}", report.seen);
    let lacks = report.diagnosis.lacks.join("\n");
    assert!(lacks.contains("the registry:") && lacks.contains("guest-ping"), "{lacks}");

    let missing = LiveJob { reach: sockets(&socket, Some(dir.path().join("nowhere.sock"))), ..job(&socket) };
    let error = look(&missing, &|_| ()).await.unwrap_err();
    assert!(error.to_string().contains("nowhere.sock"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_socket_is_told_quickly_and_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_qemu, socket) = start(dir.path(), &["-machine", "pc"]).await;
    let _holder = QmpClient::connect(&socket, LIMIT).await.unwrap();
    let began = Instant::now();
    let error = look(&job(&socket), &|_| ()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(matches!(error, LiveError::Held { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("another") && error.contains("-qmp unix:"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sockets_are_no_qmp() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("other.sock");
    let error = look(&job(&socket), &|_| ()).await.unwrap_err();
    assert!(matches!(error, LiveError::Connect { what: "QMP", .. }), "{error}");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"\x1b[2JRFB 003.008\n").await.unwrap();
        tokio::time::sleep(LIMIT).await;
    });
    let error = look(&job(&socket), &|_| ()).await.unwrap_err().to_string();
    assert!(error.contains("no QMP greeting") && !error.contains('\x1b'), "{error}");
}
