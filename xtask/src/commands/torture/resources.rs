//! Faults of a host that has too little: address space, memory, processes, descriptors.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::sys::signal::Signal;

use super::bench::Bench;
use super::faults::{Fault, Seen};
use super::look::{self, Records};
use super::provoke::{and_next, judged};
use super::trial::{Act, Ended, Trial};

pub(super) fn address_space(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let mut trial = Trial::of(bench.place()?, fault.options);
    trial.before = vec!["prlimit".into(), "--as=900000000".into()];
    let ended = trial.run(vec![])?;
    trial.before.clear();
    and_next(judged(&ended, fault), &trial)
}

pub(super) fn files(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, fault.options);
    let ended = trial.run(vec![(
        "starting from the saved state",
        Box::new(|living| {
            let open = std::fs::read_dir(format!("/proc/{}/fd", living.pid))?.count();
            let pid = format!("--pid={}", living.pid);
            let limit = Command::new("prlimit").arg(pid).arg(format!("--nofile={open}:{open}")).status()?;
            anyhow::ensure!(limit.success(), "prlimit: {limit}");
            Ok(())
        }),
    )])?;
    and_next(judged(&ended, fault), &trial)
}

/// A control group of its own, in either version of cgroups; removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `Err` with why this host has none to give.
    fn make(controller: &str) -> Result<Group, String> {
        let name = format!("softoff-torture-{}", std::process::id());
        let first = Path::new("/sys/fs/cgroup").join(controller);
        let parent = if first.is_dir() { first } else { PathBuf::from("/sys/fs/cgroup") };
        let dir = parent.join(name);
        std::fs::create_dir(&dir)
            .map_err(|e| format!("no cgroup can be made in {}: {e}", parent.display()))?;
        let group = Group(dir);
        match group.file(controller) {
            Some(_) => Ok(group),
            None => Err(format!("the cgroup's {controller} controller is not given to us")),
        }
    }

    /// The file that limits this controller's resource.
    fn file(&self, controller: &str) -> Option<PathBuf> {
        let names = match controller {
            "memory" => ["memory.limit_in_bytes", "memory.max"],
            _ => ["pids.max", "pids.max"],
        };
        names.map(|name| self.0.join(name)).into_iter().find(|path| path.exists())
    }

    fn limit(&self, controller: &str, value: &str) -> anyhow::Result<()> {
        let path = self.file(controller).context("the limit's file has gone")?;
        std::fs::write(&path, value).with_context(|| format!("{value} to {}", path.display()))
    }

    /// Memory that runs short must not go to swap: the group would live on, only slower.
    fn forbid_swap(&self) -> anyhow::Result<()> {
        let files = ["memory.swap.max", "memory.swappiness"].map(|name| self.0.join(name));
        for path in files.iter().filter(|path| path.exists()) {
            std::fs::write(path, "0").with_context(|| format!("0 to {}", path.display()))?;
        }
        Ok(())
    }

    /// How many processes the kernel has killed in it for want of memory.
    fn killed_for_memory(&self) -> u64 {
        let told =
            ["memory.oom_control", "memory.events"].map(|name| std::fs::read_to_string(self.0.join(name)));
        let counts = told.iter().flatten().flat_map(|told| told.lines());
        counts.filter_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok()).sum()
    }

    /// A program that enters the group and becomes what follows.
    fn enter(&self) -> Vec<String> {
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.0.display());
        ["sh", "-c", &script, "sh"].map(String::from).to_vec()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group can be removed when its last process has been reaped.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A cold boot touches more than that, bytes: the kernel then kills one of the group.
const HALF_A_GUEST: &str = "220000000";

/// Mostly the kernel kills the largest process: QEMU. While QEMU's memory is not yet free, a page that the harness asks
/// for can cost it its own life too; seen once, 4.6 ms after QEMU's end (Linux 6.18, the kernel's log).
pub(super) fn memory(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    short_of_memory(bench, fault, false)
}

/// The harness first: what the kernel does by chance above, on purpose.
pub(super) fn memory_of_harness(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    short_of_memory(bench, fault, true)
}

fn short_of_memory(bench: &mut Bench, fault: &Fault, harness_first: bool) -> anyhow::Result<Seen> {
    let group = match Group::make("memory") {
        Ok(group) => group,
        Err(why) => return Ok(Seen::Unavailable(why)),
    };
    group.limit("memory", HALF_A_GUEST)?;
    group.forbid_swap()?;
    let options = ["--scenario", "control", "--start", "cold", "--deadline-scale", "0.2"];
    let mut trial = Trial::of(bench.place()?, &options);
    trial.before = group.enter();
    let choose: Act<'_> = (
        "booting",
        Box::new(|living| {
            // What QEMU inherits is still the old value, once it is there.
            anyhow::ensure!(!living.qemus().is_empty(), "no QEMU runs at that moment");
            let path = format!("/proc/{}/oom_score_adj", living.pid);
            std::fs::write(&path, "1000").with_context(|| format!("1000 to {path}"))
        }),
    );
    let ended = trial.run(if harness_first { vec![choose] } else { vec![] })?;
    trial.before.clear();
    let killed = ended.status.signal() == Some(Signal::SIGKILL as i32) && group.killed_for_memory() > 0;
    let mut seen = match killed {
        true => cut_off(&ended),
        false => judged(&ended, fault),
    };
    if let Seen::Result { problems, .. } = &mut seen {
        if group.killed_for_memory() == 0 {
            problems.push("the kernel killed nobody for memory: this trial has shown nothing".into());
        }
        if harness_first && !killed {
            problems.push("the harness was not killed: this trial has shown nothing".into());
        }
    }
    drop(group);
    and_next(seen, &trial)
}

/// The kernel killed the harness itself. Nobody is left to write a verdict: none may be there, no process may have
/// outlived it, and its folder is for the next run to sweep.
fn cut_off(ended: &Ended) -> Seen {
    let mut problems = look::words(ended);
    problems.extend(look::living(&ended.place.tmp));
    if let Some(records) = Records::newest(&ended.place.out) {
        problems.extend(look::readable(&records));
        let verdicts = records.verdicts();
        if !verdicts.is_empty() {
            problems.push(format!("killed while it booted a guest, and there are {verdicts:?}"));
        }
    }
    Seen::Result { said: "the kernel killed the harness: no verdict, no process left".into(), problems }
}

pub(super) fn pids(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let group = match Group::make("pids") {
        Ok(group) => group,
        Err(why) => return Ok(Seen::Unavailable(why)),
    };
    let mut trial = Trial::of(bench.place()?, fault.options);
    trial.before = group.enter();
    let limit = &group;
    let ended = trial.run(vec![("preparing the overlay", Box::new(|_| limit.limit("pids", "1")))])?;
    trial.before.clear();
    let seen = judged(&ended, fault);
    drop(group);
    and_next(seen, &trial)
}
