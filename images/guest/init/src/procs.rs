//! Child processes: starting them with their output in a file, reaping, ending.
//!
//! One thread reaps everything (PID 1 inherits orphans); so nothing here waits for a child by itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::serve::Event;

/// Where programs' output goes, one file each.
const LOGS: &str = "/run/log";

/// The file with a program's output.
pub(crate) fn log_of(name: &str) -> PathBuf {
    Path::new(LOGS).join(name)
}

/// The end of a program's output, in one line.
pub(crate) fn last_words(name: &str) -> String {
    let text = std::fs::read(log_of(name)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join(" | ")
}

/// Starts a program with its output in [`log_of`] its name.
pub(crate) fn start(command: &mut Command, name: &str) -> anyhow::Result<Pid> {
    std::fs::create_dir_all(LOGS)?;
    let log = File::create(log_of(name)).with_context(|| format!("no log for {name}"))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

/// Reaps in a thread and tells each end.
pub(crate) fn reap(events: Sender<Event>) {
    std::thread::spawn(move || {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid, format!("exit status {status}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("{signal}")),
                // No child at all: one may come.
                Err(Errno::ECHILD) => {
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
                _ => continue,
            };
            if events.send(Event::Exited(pid, how)).is_err() {
                return;
            }
        }
    });
}

/// Whether a process is there (a zombie that is about to be reaped counts).
pub(crate) fn alive(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

/// Waits until none of the processes is left; gives those that still are.
pub(crate) fn wait_gone(pids: &[Pid], patience: Duration) -> Vec<Pid> {
    let begun = Instant::now();
    loop {
        let left: Vec<Pid> = pids.iter().copied().filter(|pid| alive(*pid)).collect();
        if left.is_empty() || begun.elapsed() > patience {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks a process to end, then makes it.
pub(crate) fn end(pid: Pid, patience: Duration) {
    let _ = kill(pid, Signal::SIGTERM);
    for left in wait_gone(&[pid], patience) {
        let _ = kill(left, Signal::SIGKILL);
    }
}

/// Every user process but PID 1 and those in `keep`. Kernel threads have no program file.
pub(crate) fn others(keep: &[Pid]) -> Vec<(Pid, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()).map(Pid::from_raw);
    pids.filter(|pid| pid.as_raw() != 1 && !keep.contains(pid))
        .filter_map(|pid| {
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            Some((pid, program.display().to_string()))
        })
        .collect()
}
