//! Faults of a host that has too little: address space, memory, processes, descriptors.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::bench::Bench;
use super::faults::{Fault, Seen};
use super::provoke::{and_next, judged};
use super::trial::Trial;

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

pub(super) fn memory(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let group = match Group::make("memory") {
        Ok(group) => group,
        Err(why) => return Ok(Seen::Unavailable(why)),
    };
    // A cold boot touches more than that; without swap the kernel kills the largest process: QEMU.
    group.limit("memory", "220000000")?;
    let options = ["--scenario", "control", "--start", "cold", "--deadline-scale", "0.2"];
    let mut trial = Trial::of(bench.place()?, &options);
    trial.before = group.enter();
    let ended = trial.run(vec![])?;
    trial.before.clear();
    let seen = judged(&ended, fault);
    drop(group);
    and_next(seen, &trial)
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
