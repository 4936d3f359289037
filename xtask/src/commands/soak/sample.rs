//! What this process has at one moment.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// What the process has at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Sample {
    pub(super) rss_kib: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
    /// Temporary files and folders, and how much they hold.
    pub(super) files: u64,
    pub(super) files_kib: u64,
    /// Child processes, zombies among them.
    pub(super) children: u64,
}

impl Sample {
    pub(super) fn now() -> anyhow::Result<Sample> {
        let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
        let count =
            |dir: &str| std::fs::read_dir(dir).map(|d| d.count() as u64).with_context(|| dir.to_owned());
        let (files, bytes) = below(&tempfile::env::temp_dir());
        Ok(Sample {
            rss_kib: rss.context("/proc/self/status has no VmRSS")?,
            descriptors: count("/proc/self/fd")?,
            threads: count("/proc/self/task")?,
            files,
            files_kib: bytes / 1024,
            children: children(),
        })
    }

    pub(super) const NAMES: [&str; 6] = [
        "memory, KiB",
        "descriptors",
        "threads",
        "temporary files",
        "temporary files, KiB",
        "child processes",
    ];

    pub(super) fn values(&self) -> [u64; 6] {
        [self.rss_kib, self.descriptors, self.threads, self.files, self.files_kib, self.children]
    }
}

/// Everything below a folder: how many entries, and the bytes that they take on the disk.
fn below(dir: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.fold((0, 0), |(count, bytes), entry| {
        let taken = entry.metadata().map_or(0, |m| m.blocks() * 512);
        let inside = match entry.file_type() {
            Ok(kind) if kind.is_dir() => below(&entry.path()),
            _ => (0, 0),
        };
        (count + 1 + inside.0, bytes + taken + inside.1)
    })
}

fn children() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.map(|list| list.split_whitespace().count() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_something() {
        let now = Sample::now().unwrap();
        assert!(now.rss_kib > 1000 && now.descriptors >= 3 && now.threads >= 1, "{now:?}");
    }

    #[test]
    fn what_a_run_leaves_behind_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(below(dir.path()), (0, 0));
        let machine = dir.path().join("softoff-left");
        std::fs::create_dir(&machine).unwrap();
        std::fs::write(machine.join("overlay.qcow2"), vec![1; 1 << 20]).unwrap();
        let (files, bytes) = below(dir.path());
        assert!(files == 2 && bytes >= 1 << 20, "{files} {bytes}");
    }
}
