//! After `kill -9` of the harness its children die at once, by the kernel's doing.
//!
//! The test starts itself a second time, as a harness that spawns one child and waits; that one is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ROLE: &str = "SOFTOFF_TEST_PARENT";

#[tokio::test(flavor = "multi_thread")]
async fn a_child_dies_with_a_killed_harness() {
    if std::env::var_os(ROLE).is_some() {
        return be_the_harness().await;
    }
    let mut harness = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_child_dies_with_a_killed_harness", "--nocapture"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(harness.stdout.take().unwrap()).lines();
    let pid = lines
        .map_while(Result::ok)
        .find_map(|l| l.split_once("child=").and_then(|(_, n)| n.trim().parse().ok()));
    let child = Pid::from_raw(pid.expect("the child's pid"));
    // The child outlives the pool's idle threads: only the dedicated thread's death may end it.
    std::thread::sleep(Duration::from_millis(500));
    assert!(runs(child), "the child ended while its harness lived");
    harness.kill().unwrap();
    harness.wait().unwrap();
    let began = Instant::now();
    while runs(child) {
        if began.elapsed() > Duration::from_secs(20) {
            kill(child, Signal::SIGKILL).unwrap();
            panic!("the child survived its harness");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn be_the_harness() {
    let mut command = tokio::process::Command::new("sleep");
    command.arg("600").stdout(Stdio::null());
    let mut child = softoff_harness::machine::process::spawn(command).await.unwrap();
    println!("\nchild={}", child.id().unwrap());
    child.wait().await.unwrap();
}

/// Alive, and no zombie that waits for whoever inherited it.
fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
