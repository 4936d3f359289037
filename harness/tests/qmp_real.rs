//! The QMP transport against the real QEMU of this machine: no guest, an empty machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use softoff_harness::machine::process::spawn;
use softoff_harness::machine::qmp::{QmpClient, QmpError};
use softoff_harness::machine::{QEMU, acpi};
use tokio::process::Command;
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(60);

async fn connect(
    socket: &Path,
) -> (QmpClient, tokio::sync::mpsc::Receiver<softoff_harness::machine::qmp::QmpEvent>) {
    for _ in 0..2000 {
        match QmpClient::connect(socket, LIMIT).await {
            Err(QmpError::Connect { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => return other.expect("QEMU's QMP"),
        }
    }
    panic!("QEMU did not open {}", socket.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_events_refusals_and_registers_of_a_real_machine() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("qmp.sock");
    let mut command = Command::new(QEMU);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-S",
        "-machine",
        "pc",
        "-accel",
        "tcg",
        "-m",
        "64",
    ]);
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
    let mut qemu = spawn(command).await.expect("QEMU; `cargo xtask doctor` tells how to get it");
    let (client, mut events) = connect(&socket).await;

    let version = client.execute(qapi::qmp::query_version {}, LIMIT).await.unwrap();
    let numbers = format!("{}.{}.{}", version.qemu.major, version.qemu.minor, version.qemu.micro);
    assert_eq!(client.version(), numbers);
    assert_eq!(client.run_state(LIMIT).await.unwrap(), "prelaunch");

    let unknown = client.execute_raw("softoff-no-such-command", json!({}), LIMIT).await.unwrap_err();
    assert!(matches!(unknown, QmpError::Refused { fault, .. } if fault.class == "CommandNotFound"));

    client.execute(qapi::qmp::cont {}, LIMIT).await.unwrap();
    let resumed = tokio::time::timeout(LIMIT, events.recv()).await.unwrap().unwrap();
    assert_eq!(resumed.name, "RESUME");
    assert!(resumed.since_epoch().is_some());

    // Firmware alone never listens to the button: PWRBTN_EN stays clear, and a press is dropped.
    let registers = acpi::read(&client, acpi::PmBase::COMMON, LIMIT).await.unwrap().expect("HMP's answer");
    assert!(!registers.enabled && !registers.pending, "{registers:?}");

    // Many commands at once: every answer finds its question.
    let mut asked = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        asked.spawn(async move { client.run_state(LIMIT).await });
    }
    while let Some(state) = asked.join_next().await {
        assert_eq!(state.unwrap().unwrap(), "running");
    }

    client.execute_raw("quit", json!({}), LIMIT).await.unwrap();
    let shutdown = loop {
        let event =
            tokio::time::timeout(LIMIT, events.recv()).await.unwrap().expect("SHUTDOWN before the end");
        if event.name == "SHUTDOWN" {
            break event;
        }
    };
    assert_eq!((&shutdown.data["guest"], &shutdown.data["reason"]), (&json!(false), &json!("host-qmp-quit")));
    assert!(qemu.wait().await.unwrap().success());
    assert!(matches!(client.run_state(LIMIT).await, Err(QmpError::Closed { .. })));
}
