//! The faults: what is done, and which verdicts are right then.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::bench::Bench;
use super::look::{self, Records};
use super::trial::{Ended, Trial};
use super::{harness, resources, shards, storage};

/// What became of a fault.
pub(super) enum Seen {
    /// It was done; what the harness made of it, and what was wrong with that.
    Result { said: String, problems: Vec<String> },
    /// This host cannot provoke it.
    Unavailable(String),
}

/// How a fault is brought about.
pub(super) enum How {
    /// By a bad wire between QEMU and harness.
    Wire,
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
    Fault { name, what, quick: false, own_cache: false, how: How::Wire, options, right }
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
    signal(
        "kill-qemu-settled",
        "... when the outcome is settled",
        SIGKILL,
        "settled; reading",
        WARM,
        INFRA_OR_PASS,
    ),
    signal("stop-qemu-booting", "SIGSTOP to QEMU while it boots", SIGSTOP, "booting", COLD_SHORT, INFRA)
        .later(3),
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
        "stop-qemu-settled",
        "... when the outcome is settled",
        SIGSTOP,
        "settled; reading",
        WARM,
        INFRA_OR_PASS,
    ),
    wire("qmp-slow", "QMP comes in pieces of 64 bytes, 4 ms each", WARM, PASS),
    wire("qmp-garbage", "garbage before every QMP line", WARM, PASS).quick(),
    wire("qmp-unknown-events", "unknown events with impossible times", WARM, PASS),
    wire("qmp-duplicate-ids", "every QMP reply comes three times, twice wrong", WARM, PASS),
    wire("qmp-huge-line", "a QMP line of 1 GiB after the press", WARM, INFRA_OR_PASS),
    wire("qmp-closed", "QMP is closed after the press", WARM_SHORT, INFRA),
    wire("qmp-silent", "QMP says nothing more after the press", WARM_SHORT, INFRA),
    wire("qmp-host-shutdown", "SHUTDOWN without guest=true after the press", WARM, INFRA),
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
    wire("terminal-escapes", "escapes, titles and <script> wherever COM1 can bring them", WARM, INCONCLUSIVE)
        .quick(),
    own(
        "overlay-full",
        "the overlay's file system fills after the press",
        storage::overlay_full,
        INFRA_OR_PASS,
    ),
    own("overlay-too-large", "RLIMIT_FSIZE stops QEMU's files from growing", storage::overlay_limit, INFRA),
    own("overlay-read-only", "the folder for overlays is read-only", storage::overlay_read_only, INFRA),
    own(
        "overlay-corrupted",
        "the overlay's metadata is overwritten after the press",
        storage::overlay_corrupted,
        INFRA,
    ),
    own("base-changed", "the image changes between two scenarios", storage::base_changed, INFRA_OR_PASS)
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
    own("out-of-pids", "a cgroup allows no further process", resources::pids, INFRA).own_cache(),
    own("out-of-files", "RLIMIT_NOFILE allows no further descriptor", resources::files, INFRA).own_cache(),
    own(
        "ctrl-c-once",
        "Ctrl-C: a partial report, then the rest by --resume",
        harness::interrupted_once,
        PASS,
    )
    .quick(),
    own("ctrl-c-twice", "Ctrl-C twice: at once", harness::interrupted_twice, PASS),
    own("kill-shard", "one of two shards is killed; merge, --resume, merge", shards::one_killed, PASS)
        .quick(),
    own("kill-harness", "SIGKILL to the harness at random moments, then --resume", harness::killed, PASS),
];

/// Does it, looks at what is left, and runs a plain scenario afterwards.
pub(super) fn run(fault: &Fault, bench: &mut Bench) -> anyhow::Result<Seen> {
    match &fault.how {
        How::Own(run) => run(bench, fault),
        How::Wire => {
            let mut trial = Trial::of(bench.place()?, fault.options);
            trial.environment = bench.wire(fault.name)?;
            let ended = trial.run(vec![])?;
            let mut seen = judged(&ended, fault);
            if let Seen::Result { problems, .. } = &mut seen
                && ended.peak_kib > PEAK_KIB
            {
                problems.push(format!("the harness took {} MiB", ended.peak_kib / 1024));
            }
            trial.environment.clear();
            and_next(seen, &trial)
        }
        How::Signal(signal, at, seconds) => {
            let trial = Trial::of(bench.place()?, fault.options);
            let ended = trial.run(vec![(
                at,
                Box::new(|living| {
                    std::thread::sleep(Duration::from_secs(*seconds));
                    // QEMU's own process comes a moment after the words; at the end it may have gone.
                    for _ in 0..200 {
                        if living.signal_qemu(*signal).is_ok() {
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Ok(())
                }),
            )])?;
            and_next(judged(&ended, fault), &trial)
        }
    }
}

/// The most that a harness may take, whatever it is told. One healthy run has some 60 MiB.
const PEAK_KIB: u64 = 300 << 10;

/// What a trial came to.
pub(super) fn judged(ended: &Ended, fault: &Fault) -> Seen {
    let problems = look::problems(ended, fault.right);
    Seen::Result { said: said(ended), problems }
}

/// The results in a few words.
pub(super) fn said(ended: &Ended) -> String {
    let results = Records::newest(&ended.place.out).map(|records| records.results()).unwrap_or_default();
    let one = |(verdict, outcome, result): &(String, String, serde_json::Value)| {
        let why = result["reasons"][0].as_str().unwrap_or_default();
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(": {}", softoff_harness::text::printable(why, 90))
        };
        format!("{verdict} ({outcome}){why}")
    };
    match results.as_slice() {
        [] => super::trial::tail(ended.stderr.lines().last().unwrap_or("nothing was said")),
        all => all.iter().map(one).collect::<Vec<_>>().join("; "),
    }
}

/// A plain run in the same place must pass now.
pub(super) fn and_next(seen: Seen, trial: &Trial) -> anyhow::Result<Seen> {
    let Seen::Result { said, mut problems } = seen else { return Ok(seen) };
    let next = Trial::control(trial.place.clone());
    problems.extend(look::next_run_works(&next)?);
    Ok(Seen::Result { said, problems })
}

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
