//! The faults: what is done, and which verdicts are right then. [`super::provoke`] does it.

use nix::sys::signal::Signal;

use super::bench::Bench;
use super::{harness, hostile, resources, shards, storage};

/// What became of a fault.
pub(super) enum Seen {
    /// It was done; what the harness made of it, and what was wrong with that.
    Result { said: String, problems: Vec<String> },
    /// This host cannot provoke it.
    Unavailable(String),
}

/// How a fault is brought about.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// By a bad wire between QEMU and harness: what is wrong with it.
    Wire(&'static str),
    /// By a signal to QEMU, so many seconds after the harness says these words.
    Signal(Signal, &'static str, u64),
    /// In its own way.
    Own(fn(&mut Bench, &Fault) -> anyhow::Result<Seen>),
}

/// One fault.
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Part of every `cargo xtask test`.
    pub(super) quick: bool,
    /// It breaks the cache, or makes the harness throw a saved state away.
    pub(super) own_cache: bool,
    pub(super) how: How,
    /// Options of the run.
    pub(super) options: &'static [&'static str],
    /// The verdicts that are right.
    pub(super) right: &'static [&'static str],
}

/// From a saved state: ready in a third of a second.
pub(super) const WARM: &[&str] = &["--scenario", "control", "--start", "warm"];
/// The same with a short deadline, where nothing will come.
const WARM_SHORT: &[&str] = &["--scenario", "control", "--start", "warm", "--deadline-scale", "0.2"];
const COLD_SHORT: &[&str] = &["--scenario", "control", "--start", "cold", "--deadline-scale", "0.1"];
const BUTTON: &[&str] = &["--scenario", "power-button-nothing", "--start", "cold"];

/// What the harness says when the outcome is settled; QEMU may have gone by then.
pub(super) const SETTLED: &str = "settled; reading";

const INFRA: &[&str] = &["infra"];
const PASS: &[&str] = &["pass"];
/// Where the guest may have been quicker: a pass is held against the timeline all the same.
const INFRA_OR_PASS: &[&str] = &["infra", "pass"];
/// Where lines were lost that tell of phases.
const LOST: &[&str] = &["pass", "inconclusive"];
const INCONCLUSIVE: &[&str] = &["inconclusive"];

const fn wire(
    name: &'static str,
    what: &'static str,
    options: &'static [&'static str],
    right: &'static [&'static str],
) -> Fault {
    Fault { name, what, quick: false, own_cache: false, how: How::Wire(name), options, right }
}

/// The same on a guest that is to stay on: a machine that is dead or was never asked must not look like it.
const fn wire_to_a_guest_that_stays(
    name: &'static str,
    what: &'static str,
    wrong: &'static str,
    right: &'static [&'static str],
) -> Fault {
    Fault { name, what, quick: false, own_cache: false, how: How::Wire(wrong), options: BUTTON, right }
}

const fn signal(
    name: &'static str,
    what: &'static str,
    signal: Signal,
    at: &'static str,
    options: &'static [&'static str],
    right: &'static [&'static str],
) -> Fault {
    Fault { name, what, quick: false, own_cache: false, how: How::Signal(signal, at, 0), options, right }
}

const fn own(
    name: &'static str,
    what: &'static str,
    run: fn(&mut Bench, &Fault) -> anyhow::Result<Seen>,
    right: &'static [&'static str],
) -> Fault {
    Fault { name, what, quick: false, own_cache: false, how: How::Own(run), options: WARM, right }
}

impl Fault {
    const fn quick(self) -> Fault {
        Fault { quick: true, ..self }
    }

    /// A moment later: where the words only say that something begins.
    const fn later(self, seconds: u64) -> Fault {
        match self.how {
            How::Signal(signal, at, _) => Fault { how: How::Signal(signal, at, seconds), ..self },
            _ => self,
        }
    }

    const fn own_cache(self) -> Fault {
        Fault { own_cache: true, ..self }
    }
}

use Signal::{SIGKILL, SIGSTOP};

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    signal("kill-qemu-booting", "SIGKILL to QEMU while it boots", SIGKILL, "booting", COLD_SHORT, INFRA)
        .later(3),
    signal(
        "kill-qemu-starting",
        "SIGKILL to QEMU while it loads a saved state; the harness then boots",
        SIGKILL,
        "starting from the saved state",
        WARM,
        INFRA_OR_PASS,
    )
    .own_cache(),
    signal("kill-qemu-ready", "SIGKILL to QEMU when it is ready", SIGKILL, "ready; proving", WARM, INFRA),
    signal("kill-qemu-asked", "SIGKILL to QEMU when it is asked", SIGKILL, "asked; waiting", WARM, INFRA)
        .quick(),
    signal(
        "kill-qemu-reacted",
        "... when the guest reacts",
        SIGKILL,
        "reacted; waiting",
        WARM,
        INFRA_OR_PASS,
    ),
    signal(
        "kill-qemu-session",
        "... when its session has ended",
        SIGKILL,
        "session-ended; waiting",
        WARM,
        INFRA_OR_PASS,
    ),
    signal(
        "kill-qemu-services",
        "... when its services have",
        SIGKILL,
        "services-stopped; waiting",
        WARM,
        INFRA_OR_PASS,
    ),
    signal("kill-qemu-settled", "... when the outcome is settled", SIGKILL, SETTLED, WARM, INFRA_OR_PASS),
    signal("stop-qemu-booting", "SIGSTOP to QEMU while it boots", SIGSTOP, "booting", COLD_SHORT, INFRA)
        .later(3),
    signal(
        "stop-qemu-starting",
        "SIGSTOP to QEMU while it loads a saved state; the harness then boots",
        SIGSTOP,
        "starting from the saved state",
        WARM,
        INFRA_OR_PASS,
    )
    .own_cache(),
    signal(
        "stop-qemu-ready",
        "SIGSTOP to QEMU when it is ready",
        SIGSTOP,
        "ready; proving",
        WARM_SHORT,
        INFRA,
    ),
    signal(
        "stop-qemu-asked",
        "SIGSTOP to QEMU when it is asked",
        SIGSTOP,
        "asked; waiting",
        WARM_SHORT,
        INFRA_OR_PASS,
    ),
    signal(
        "stop-qemu-reacted",
        "... when the guest reacts",
        SIGSTOP,
        "reacted; waiting",
        WARM_SHORT,
        INFRA_OR_PASS,
    ),
    signal(
        "stop-qemu-session",
        "... when its session has ended",
        SIGSTOP,
        "session-ended; waiting",
        WARM_SHORT,
        INFRA_OR_PASS,
    ),
    signal(
        "stop-qemu-services",
        "... when its services have",
        SIGSTOP,
        "services-stopped; waiting",
        WARM_SHORT,
        INFRA_OR_PASS,
    ),
    signal("stop-qemu-settled", "... when the outcome is settled", SIGSTOP, SETTLED, WARM, INFRA_OR_PASS),
    signal(
        "stop-qemu-on",
        "SIGSTOP to QEMU when a guest is asked that is to stay on",
        SIGSTOP,
        "asked; waiting",
        BUTTON,
        INFRA,
    ),
    wire("qmp-slow", "QMP comes in pieces of 64 bytes, 4 ms each", WARM, PASS),
    wire("qmp-garbage", "garbage before every QMP line", WARM, PASS).quick(),
    wire("qmp-unknown-events", "unknown events with impossible times", WARM, PASS),
    wire("qmp-duplicate-ids", "every QMP reply comes three times, twice wrong", WARM, PASS),
    wire("qmp-huge-line", "a QMP line of 1 GiB after the press", WARM, INFRA_OR_PASS),
    wire("qmp-closed", "QMP is closed after the press", WARM_SHORT, INFRA),
    wire("qmp-silent", "QMP says nothing more after the press", WARM_SHORT, INFRA),
    wire("qmp-host-shutdown", "SHUTDOWN without guest=true after the press", WARM, INFRA),
    wire_to_a_guest_that_stays(
        "qmp-closed-on",
        "QMP is closed after the press, of a guest that is to stay on",
        "qmp-closed",
        INFRA,
    ),
    wire_to_a_guest_that_stays(
        "qmp-silent-on",
        "QMP says nothing more, of a guest that is to stay on",
        "qmp-silent",
        INFRA,
    ),
    wire_to_a_guest_that_stays(
        "press-lost-on",
        "the press never reaches a guest that is to stay on",
        "press-lost",
        INCONCLUSIVE,
    ),
    wire("clock-jumps", "the clock that stamps QMP events jumps by an hour, back and forth", WARM, PASS),
    wire("screendump-fails", "QEMU can write no picture any more", WARM, PASS),
    wire("agent-in-pieces", "the agent's answers come byte by byte", WARM, PASS).own_cache(),
    wire("agent-late", "each of the agent's answers comes 0.9 s late", WARM, PASS).own_cache(),
    wire("agent-floods", "20 MiB of junk before each of the agent's answers", WARM, PASS).own_cache(),
    wire("agent-silent", "the agent never answers", COLD_SHORT, INFRA),
    wire("agent-lies", "the agent changes what programs printed", BUTTON, INCONCLUSIVE),
    wire("probe-forged", "COM1 tells of a shutdown before anybody asked", WARM, INCONCLUSIVE).quick(),
    wire(
        "probe-claims-off",
        "the press is lost, COM1 claims success, the guest stays on",
        WARM_SHORT,
        &["fail", "inconclusive"],
    ),
    wire("probe-truncated", "every line on COM1 is cut in half after the press", WARM, LOST),
    wire("probe-binary", "bytes and escapes between the lines on COM1", WARM, LOST),
    wire("com1-flood", "80 MiB on COM1: 400,000 probe lines, and noise", WARM, LOST),
    wire("console-flood", "80 MiB on the console", WARM, PASS),
    own(
        "terminal-escapes",
        "escapes and <script> on COM1, from the agent and in the registry: terminal and page looked at",
        hostile::words,
        INCONCLUSIVE,
    ),
    own(
        "console-escapes",
        "the same on COM1, and of a kernel that dies with such words on COM2",
        hostile::last_words,
        INFRA,
    )
    .quick(),
    own(
        "overlay-full",
        "the overlay's file system fills after the press",
        storage::overlay_full,
        INFRA_OR_PASS,
    ),
    own("overlay-too-large", "RLIMIT_FSIZE stops QEMU's files from growing", storage::overlay_limit, INFRA),
    wire("overlay-read-only", "the overlay may not be written to", WARM, INFRA),
    own("tmp-read-only", "the folder for temporary files is read-only", storage::tmp_read_only, INFRA),
    own(
        "overlay-corrupted",
        "the overlay's metadata is overwritten after the press",
        storage::overlay_corrupted,
        INFRA,
    ),
    own("base-changed", "the image changes between two scenarios", storage::base_changed, INFRA_OR_PASS)
        .own_cache(),
    own("base-changed-below", "the image changes below a running guest", storage::base_changed_below, INFRA)
        .own_cache(),
    own("image-damaged", "a byte of the image is wrong", storage::image_damaged, &[]).own_cache(),
    own("state-damaged", "a byte of the saved memory is wrong", storage::state_damaged, PASS).own_cache(),
    own("state-cut", "the saved state's manifest is cut", storage::state_cut, PASS).own_cache(),
    own("two-runs", "two runs begin together on a cache without a state", storage::two_runs, PASS)
        .own_cache(),
    own("no-address-space", "RLIMIT_AS leaves no room for a guest", resources::address_space, INFRA)
        .own_cache(),
    own("out-of-memory", "a cgroup has memory for half a guest", resources::memory, INFRA_OR_PASS)
        .own_cache(),
    own(
        "out-of-memory-harness",
        "the same, and the kernel kills the harness first",
        resources::memory_of_harness,
        &[],
    )
    .own_cache(),
    own("out-of-pids", "a cgroup allows no further process", resources::pids, INFRA).own_cache(),
    own("out-of-files", "RLIMIT_NOFILE allows no further descriptor", resources::files, INFRA).own_cache(),
    own(
        "ctrl-c-once",
        "Ctrl-C: a partial report, then the rest by --resume",
        harness::interrupted_once,
        PASS,
    )
    .quick(),
    own(
        "sigterm",
        "SIGTERM, as a cancelled job gets it: a partial report, then the rest by --resume",
        harness::terminated,
        PASS,
    ),
    own("ctrl-c-twice", "Ctrl-C twice: at once", harness::interrupted_twice, PASS),
    own("kill-shard", "one of two shards is killed; merge, --resume, merge", shards::one_killed, PASS)
        .quick(),
    own(
        "kill-reporting",
        "SIGKILL to the harness before it has written its reports, then --resume",
        harness::killed_reporting,
        PASS,
    ),
    own("kill-harness", "SIGKILL to the harness at random moments, then --resume", harness::killed, PASS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_may_pass_where_its_name_says_that_the_guest_lies() {
        let lies = FAULTS.iter().filter(|f| f.name.contains("lies") || f.name.contains("claims"));
        assert!(lies.clone().count() >= 2);
        assert!(lies.clone().all(|f| !f.right.contains(&"pass")));
    }

    #[test]
    fn names_are_told_once() {
        let mut names: Vec<_> = FAULTS.iter().map(|f| f.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAULTS.len());
    }
}
