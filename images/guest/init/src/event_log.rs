//! The System event log of this guest: written when our own policy really does what an event tells of.
//!
//! What is Windows' and what is modelled: the file and the events are as Windows writes them; who writes them is this
//! program, standing for the event log service, winlogon, the service manager and the kernel. Every event is flushed
//! at once. [?] How long Windows itself keeps an event from the disk is not in the fact sheet.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Context;
use softoff_guest_eventlog::events::{self, Initiator};
use softoff_guest_eventlog::{Event, FileTime, Found, Log};

use crate::ending::How;
use crate::sleep::State;
use crate::{log, volume};

const COMPUTER: &str = "REFERENCE";
const SYSTEM_LOG: &str = "windows/system32/winevt/Logs/System.evtx";

/// What the kernel has to tell after the event log service has stopped: 109 and 13, one a line with their FILETIME
/// and, for 109, the action. Windows' kernel keeps them in a buffer of its own.
const KEPT: &str = "softoff/kernel-events.txt";

/// SHTDN_REASON_MAJOR_SYSTEM with minor 0xff: what Windows writes for the power button (fact sheet A).
const BUTTON_REASON: u32 = 0x0005_00ff;
/// [?] The fact sheet expects qemu-ga.exe and a reason of the 0x80000000 family for the agent's request.
const AGENT_REASON: u32 = 0x8000_0000;
/// POWER_ACTION (winnt.h).
const ACTION_RESET: u32 = 5;
const ACTION_OFF: u32 = 6;
/// "Kernel API" in event 109. [?] One report expects another number after a button press.
const REASON_KERNEL: u32 = 5;

static LOG: Mutex<Option<Log<File>>> = Mutex::new(None);

/// The event log service starts: 6005; before it 6008, when the log was in use at the last end; after it what the
/// kernel kept of that end, 12 for this start, and 41 when the end was not a clean one.
pub(crate) fn started() {
    worked("the event log was not started", start());
}

fn start() -> anyhow::Result<()> {
    let path = volume::on_c(SYSTEM_LOG);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let (mut system, found) = Log::open(file.with_context(|| format!("cannot open {}", path.display()))?)?;
    let now = FileTime::now();
    let booted = FileTime(now.0.saturating_sub(log::up_ms().saturating_mul(10_000)));
    let kept = kept_path();
    let unclean = matches!(found, Found::InUse { .. });
    let mut list = Vec::new();
    if let Found::InUse { last } = found {
        list.push(events::unexpected_shutdown(now, last.unwrap_or(booted), COMPUTER));
    }
    list.push(events::event_log_started(now, COMPUTER));
    if found == Found::Closed {
        list.extend(read_kept(&std::fs::read_to_string(&kept).unwrap_or_default()));
    }
    list.push(events::system_started(booted, booted, COMPUTER, kernel_version()));
    if unclean {
        list.push(events::unclean_start(booted, COMPUTER));
    }
    for event in &list {
        system.append(event)?;
    }
    if kept.exists() {
        volume::write_flushed(&kept, b"")?;
    }
    system.file().sync_all()?;
    volume::flush_names(&path)?;
    *lock() = Some(system);
    Ok(())
}

/// 1074.
pub(crate) fn shutdown_initiated(by: &str) {
    let (program, reason) = match by {
        "agent" => (r"C:\Program Files\Qemu-ga\qemu-ga.exe", AGENT_REASON),
        _ => (r"C:\Windows\system32\winlogon.exe", BUTTON_REASON),
    };
    let process = format!("{program} ({COMPUTER})");
    // [?] That the agent's restart reads `restart` here is left out: the session tells only who asked.
    let initiator = Initiator { process, reason, kind: "power off" };
    append(&events::shutdown_initiated(FileTime::now(), COMPUTER, &initiator));
}

/// 7043.
pub(crate) fn service_timed_out(service: &str) {
    append(&events::service_timed_out(FileTime::now(), COMPUTER, service));
}

/// 42.
pub(crate) fn entering_sleep(state: State) {
    let number = match state {
        State::S3 => 4,
        State::S4 => 5,
    };
    append(&events::entering_sleep(FileTime::now(), COMPUTER, number));
}

/// The event log service stops: 6006, and the log is not in use any more. What the kernel has to tell after that is
/// kept for the next boot.
pub(crate) fn stopped(how: How) {
    let Some(mut system) = lock().take() else { return };
    let closed = (|| {
        system.append(&events::event_log_stopped(FileTime::now(), COMPUTER))?;
        system.close()?.sync_all()?;
        let action = if how == How::Reboot { ACTION_RESET } else { ACTION_OFF };
        let now = FileTime::now().0;
        volume::write_flushed(&kept_path(), format!("109 {now} {action}\n13 {now}\n").as_bytes())?;
        anyhow::Ok(())
    })();
    worked("the event log was not closed", closed);
}

fn append(event: &Event) {
    let mut guard = lock();
    let Some(system) = guard.as_mut() else { return };
    let written = (|| {
        let before = system.file().metadata()?.len();
        system.append(event)?;
        // An event in a chunk that is there already changes content only: flushed without fsync, the volume stays
        // marked as in use all the while, also when the plug is pulled in this moment.
        if system.file().metadata()?.len() == before {
            volume::flush_content(system.file())?;
        } else {
            system.file().sync_all()?;
        }
        anyhow::Ok(())
    })();
    drop(guard);
    worked("an event was not written", written);
    volume::mark_in_use();
}

fn worked(what: &str, result: anyhow::Result<()>) {
    if let Err(error) = result {
        log::trouble(&format!("{what}: {error:#}"));
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Log<File>>> {
    LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn kept_path() -> PathBuf {
    volume::on_c(KEPT)
}

/// A line that is none is left out: it was written by an end that may have been cut.
fn read_kept(text: &str) -> Vec<Event> {
    let event = |line: &str| {
        let mut words = line.split(' ');
        let (id, time) = (words.next()?, FileTime(words.next()?.parse().ok()?));
        match id {
            "109" => {
                let action = words.next()?.parse().ok()?;
                Some(events::shutdown_transition(time, COMPUTER, action, REASON_KERNEL))
            }
            "13" => Some(events::system_stopping(time, COMPUTER)),
            _ => None,
        }
    };
    text.lines().filter_map(event).collect()
}

/// The kernel's own version, which is no Windows version.
fn kernel_version() -> [u32; 2] {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_kept_is_read_line_by_line() {
        let ids = |text| read_kept(text).iter().map(|event| event.id).collect::<Vec<_>>();
        assert_eq!(ids("109 131470000000000000 6\n13 131470000000000001\n"), [109, 13]);
        assert_eq!(ids("109 131470000000000000\n13 13147"), [13]);
        assert_eq!(ids("\0\0\0\0"), [0u16; 0]);
    }
}
