//! What else the host had to do while a guest was timed.
//!
//! Three witnesses of the kernel's: pressure stall information (Documentation/accounting/psi.rst), the steal time of
//! /proc/stat (a hypervisor above us ran somebody else), and how long QEMU's own threads waited for a processor
//! (/proc/PID/task/*/schedstat, second field). The last one alone says that *this* guest was slowed down; the
//! others say by whom.

use std::path::Path;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Share of the time that QEMU's threads may have waited for a processor before a run's times count as disturbed.
/// Alone on two processors a guest's threads waited 0.5 to 2 % (measured under TCG, one guest), so a tenth is
/// well above what a quiet host does.
const WAITED: f64 = 0.10;

/// The same for stolen time.
const STOLEN: f64 = 0.05;

/// The host's pressure from the request to the settled outcome; shares are 0 to 1, absent where the kernel does
/// not tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostPressure {
    /// How long was looked at, milliseconds.
    pub window_ms: u64,
    /// Share of the time in which some task of the host waited for a processor (PSI cpu, some).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_some: Option<f64>,
    /// The same for the disk (PSI io, some).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_some: Option<f64>,
    /// The same for memory (PSI memory, some).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_some: Option<f64>,
    /// Share of the processors' time that was stolen by the hypervisor above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steal: Option<f64>,
    /// Time that QEMU's threads waited for a processor, by the time looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<f64>,
    /// Whether the run's times were disturbed: they are no measurement of the guest then.
    pub disturbed: bool,
}

/// Counters at one moment.
#[derive(Debug, Clone)]
pub struct PressureMark {
    at: Instant,
    stalls: [Option<u64>; 3],
    ticks: Option<(u64, u64)>,
    waited: Option<Duration>,
}

impl PressureMark {
    /// Reads the counters now; `pid` is QEMU's.
    pub fn now(pid: u32) -> PressureMark {
        let stalls = ["cpu", "io", "memory"].map(|what| {
            let text = std::fs::read_to_string(Path::new("/proc/pressure").join(what)).ok()?;
            stalled(&text)
        });
        let ticks = std::fs::read_to_string("/proc/stat").ok().and_then(|text| stolen(&text));
        PressureMark { at: Instant::now(), stalls, ticks, waited: waited(pid) }
    }

    /// What came since `self`.
    pub fn until(&self, later: &PressureMark) -> HostPressure {
        let window = later.at.saturating_duration_since(self.at);
        let micros = window.as_micros() as f64;
        let share = |n: usize| {
            let (before, after) = (self.stalls.get(n).copied()??, later.stalls.get(n).copied()??);
            (micros > 0.0).then(|| (after.saturating_sub(before) as f64 / micros).min(1.0))
        };
        let steal = self.ticks.zip(later.ticks).and_then(|((stolen0, all0), (stolen1, all1))| {
            let all = all1.checked_sub(all0).filter(|all| *all > 0)?;
            Some(stolen1.saturating_sub(stolen0) as f64 / all as f64)
        });
        let waited = self.waited.zip(later.waited).filter(|_| micros > 0.0);
        let waited = waited.map(|(a, b)| b.saturating_sub(a).as_micros() as f64 / micros);
        HostPressure {
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            cpu_some: share(0).map(rounded),
            io_some: share(1).map(rounded),
            memory_some: share(2).map(rounded),
            steal: steal.map(rounded),
            waited: waited.map(rounded),
            disturbed: waited.is_some_and(|w| w > WAITED) || steal.is_some_and(|s| s > STOLEN),
        }
    }
}

/// Three digits say enough, and keep records readable.
fn rounded(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}

/// Microseconds of `some ... total=N`.
fn stalled(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

/// Stolen and all ticks of /proc/stat's first line: user nice system idle iowait irq softirq steal (guest time is
/// in user already).
fn stolen(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    Some((*ticks.get(7)?, ticks.iter().sum()))
}

/// How long a process's threads have waited for a processor so far.
fn waited(pid: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let one = |path: &Path| -> Option<u64> {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    };
    let nanos: u64 = threads.flatten().filter_map(|thread| one(&thread.path())).sum();
    Some(Duration::from_nanos(nanos))
}

/// Memory that a process has for itself, MiB: anonymous and shared-memory pages, not those of files, which all
/// machines share. `None` when it has gone.
pub fn own_memory_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    own_memory(&status)
}

fn own_memory(status: &str) -> Option<u64> {
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    Some((kib("RssAnon:")? + kib("RssShmem:")?) / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts() {
        let psi = "some avg10=1.00 avg60=0.50 avg300=0.10 total=123456\nfull avg10=0.00 total=7\n";
        assert_eq!(stalled(psi), Some(123_456));
        assert_eq!(stalled("full avg10=0 total=7"), None);
        assert_eq!(stolen("cpu  10 0 5 80 0 0 1 4 9 9\ncpu0 1\n"), Some((4, 100)));
        assert_eq!(stolen("intr 1"), None);
        assert_eq!(own_memory("VmRSS:\t 9 kB\nRssAnon:\t 2048 kB\nRssShmem:\t 1024 kB\n"), Some(3));
    }

    #[test]
    fn a_guest_that_waited_was_disturbed() {
        let start = Instant::now();
        let mark = |seconds: u64, waited_ms: u64, stolen: u64| PressureMark {
            at: start + Duration::from_secs(seconds),
            stalls: [Some(seconds * 500_000), None, Some(0)],
            ticks: Some((stolen, seconds * 100)),
            waited: Some(Duration::from_millis(waited_ms)),
        };
        let quiet = mark(0, 0, 0).until(&mark(2, 100, 0));
        assert!(!quiet.disturbed, "{quiet:?}");
        assert_eq!((quiet.cpu_some, quiet.io_some, quiet.waited), (Some(0.5), None, Some(0.05)));
        assert!(mark(0, 0, 0).until(&mark(2, 300, 0)).disturbed);
        assert!(mark(0, 0, 0).until(&mark(2, 0, 20)).disturbed);
    }

    #[test]
    fn this_process_can_be_read() {
        let mark = PressureMark::now(std::process::id());
        assert!(mark.waited.is_some() && mark.ticks.is_some(), "{mark:?}");
        assert!(own_memory_mib(std::process::id()).is_some());
        assert!(PressureMark::now(u32::MAX).waited.is_none());
    }
}
