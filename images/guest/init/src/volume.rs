//! C: as the guest's own volume: checked and mounted at the boot, marked as in use, written with care.
//!
//! Whether a volume was cleanly unmounted shows in its dirty mark. ntfs3 (measured, Linux 6.12) sets it with the first
//! change after the mount and writes it at once, and takes it away with every fsync and syncfs. So whatever is
//! flushed here is followed by [`mark_in_use`]; syncing the partition's device does not touch the mark.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use softoff_guest_protocol::probe::ProbeEvent;

use crate::ntfs_mark::Mark;
use crate::{block, log, wine};

/// The file that is made and removed to have the mark set.
const PASSING_FILE: &str = "softoff/mark.tmp";

/// Mounts C:, after a check when it is marked dirty.
///
/// Modelled: Windows runs autochk, which repairs; here the records that the mark hangs on are read, and the mark is
/// taken away, without which ntfs3 would not mount the volume for writing. ntfs3 keeps no journal, so what a
/// pulled plug left half-written stays so.
pub(crate) fn check_and_mount(partition: &Path) -> anyhow::Result<()> {
    match check(partition) {
        Ok(None) => {}
        Ok(Some(flags)) => log::probe(ProbeEvent::VolumeCheck { flags }),
        Err(error) => log::trouble(&format!("the volume check failed: {error:#}")),
    }
    mount(Some(partition), wine::DRIVE_C, Some("ntfs3"), MsFlags::MS_NOATIME, Some("prealloc"))
        .with_context(|| format!("cannot mount {} as ntfs3", partition.display()))?;
    keep_unflushed();
    mark_in_use();
    Ok(())
}

/// Takes the dirty mark away; gives the flag word where there was one.
fn check(partition: &Path) -> anyhow::Result<Option<u16>> {
    let mut device = File::options().read(true).write(true).open(partition)?;
    let mark = Mark::read(&mut device)?;
    if !mark.is_dirty() {
        return Ok(None);
    }
    mark.clear(&mut device)?;
    device.sync_all()?;
    Ok(Some(mark.flags))
}

/// What nobody flushes stays in memory: the kernel's periodic writeback is switched off. How long a program's unflushed
/// work stays unwritten would else depend on how slow the emulating host is (seen: a guest that took two minutes from
/// its boot to the pulled plug lost nothing). Windows' lazy writer works by rules of its own.
fn keep_unflushed() {
    if let Err(error) = std::fs::write("/proc/sys/vm/dirty_writeback_centisecs", "0") {
        log::say(&format!("the kernel keeps its own time for unflushed files: {error}"));
    }
}

/// Marks the volume as in use, as it is on a running system, and makes sure of it.
///
/// Neither the file nor the file system is synced, which would take the mark away again: only the device.
pub(crate) fn mark_in_use() {
    if let Err(error) = try_mark() {
        log::trouble(&format!("C: is not marked as in use: {error:#}"));
    }
}

/// Making a name is a change that sets the mark (writing into a file is none), and with its removal nothing is left
/// half on the disk: syncing the device writes index blocks, but not the file records that ntfs3 holds back.
fn try_mark() -> anyhow::Result<()> {
    let file = on_c(PASSING_FILE);
    File::create(&file)?;
    std::fs::remove_file(&file)?;
    let mut device = File::open(block::system_partition()?)?;
    device.sync_all()?;
    anyhow::ensure!(Mark::read(&mut device)?.is_dirty(), "ntfs3 did not set it");
    Ok(())
}

/// Flushes a file's content, not its size or its name, past ntfs3 and so without taking the mark away.
pub(crate) fn flush_content(file: &File) -> anyhow::Result<()> {
    use std::os::fd::AsRawFd;
    let all = nix::libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | nix::libc::SYNC_FILE_RANGE_WRITE
        | nix::libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: sync_file_range(2) takes numbers only, and the descriptor is open as long as `file` is borrowed.
    if unsafe { nix::libc::sync_file_range(file.as_raw_fd(), 0, 0, all) } != 0 {
        return Err(io::Error::last_os_error()).context("writing a file's content");
    }
    // What the disk itself still holds back.
    File::open(block::system_partition()?)?.sync_all().context("flushing the disk")
}

/// Writes a file and flushes it with its name, as FlushFileBuffers does on Windows. [`mark_in_use`] must follow.
///
/// Flushed after it was closed: closing gives back what ntfs3 allocated in advance, and a record on the disk that still
/// owns those clusters is an error to the next mount, which then never takes the dirty mark away (measured).
pub(crate) fn write_flushed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::write(path, bytes)?;
    File::open(path)?.sync_all()?;
    flush_names(path)
}

/// Flushes the folders that a path leads through. Without it a new file has its content on the disk and no name.
pub(crate) fn flush_names(path: &Path) -> io::Result<()> {
    path.ancestors()
        .skip(1)
        .take_while(|folder| folder.starts_with(wine::DRIVE_C))
        .try_for_each(|folder| File::open(folder)?.sync_all())
}

/// The place of a path on C:, with slashes. Names ignore case, as on Windows: Wine made some of the folders.
pub(crate) fn on_c(path: &str) -> PathBuf {
    below(Path::new(wine::DRIVE_C), path)
}

fn below(root: &Path, path: &str) -> PathBuf {
    path.split('/').fold(root.to_owned(), |folder, part| {
        let same = |entry: std::fs::DirEntry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.eq_ignore_ascii_case(part)).then_some(name)
        };
        let exact = folder.join(part);
        if exact.exists() {
            return exact;
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        entries.map(same).find_map(|name| name).map_or(exact, |name| folder.join(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ignore_case_where_something_is_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("windows/winsxs")).unwrap();
        assert_eq!(
            below(dir.path(), "Windows/WinSxS/pending.xml"),
            dir.path().join("windows/winsxs/pending.xml")
        );
        assert_eq!(below(dir.path(), "softoff/Update"), dir.path().join("softoff/Update"));
    }
}
