//! The temporary folder of one machine: sockets, overlay, variable stores. Mode 0700, and swept when its
//! owner died without cleaning up.
//!
//! Each folder holds a lock file that its owner keeps locked (flock) as long as it lives. The kernel drops
//! the lock with the process, however it ends, so a folder whose lock can be had is a leftover.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::file_lock::FileLock;

/// Name prefix of every folder, in the system's folder for temporary files.
pub const PREFIX: &str = "softoff-";
const LOCK: &str = "owner.lock";

/// A machine's temporary folder; removed when dropped, unless kept.
#[derive(Debug)]
pub struct RunFolder {
    dir: Option<tempfile::TempDir>,
    kept: PathBuf,
    lock: Option<FileLock>,
}

impl RunFolder {
    /// Makes a new folder and locks it.
    pub fn create() -> anyhow::Result<RunFolder> {
        RunFolder::create_in(&tempfile::env::temp_dir())
    }

    /// The same in a folder of ours.
    pub(super) fn create_in(parent: &Path) -> anyhow::Result<RunFolder> {
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .with_context(|| {
                format!(
                    "cannot make a temporary folder in {}; free space there or set TMPDIR",
                    parent.display()
                )
            })?;
        let lock = FileLock::take(&dir.path().join(LOCK)).context("cannot make the folder's lock file")?;
        let lock = lock.context("the new folder is locked by another process")?;
        let kept = dir.path().to_owned();
        Ok(RunFolder { dir: Some(dir), kept, lock: Some(lock) })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.kept
    }

    /// Leaves the folder in place, unlocked: the next sweep after the machine has gone removes it. The
    /// returned lock belongs to whoever keeps the machine; drop it to give the folder up.
    pub fn keep(mut self) -> (PathBuf, Option<FileLock>) {
        if let Some(dir) = self.dir.take() {
            let _path = dir.keep();
        }
        (self.kept.clone(), self.lock.take())
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir {
            clear(dir.path());
        }
    }
}

/// Removes all that a folder holds but its lock file, which must go last: whoever is killed in between leaves a folder
/// that [`sweep`] knows. One without the lock file would stay for good.
fn clear(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name() != LOCK) {
        // What cannot be removed is tried again with the folder.
        let _removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(entry.path()),
            _ => std::fs::remove_file(entry.path()),
        };
    }
}

/// Removes the folders of owners that have died; returns how many.
pub fn sweep() -> usize {
    sweep_in(&tempfile::env::temp_dir())
}

fn sweep_in(parent: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(parent) else { return 0 };
    let mine = nix::unistd::geteuid().as_raw();
    let leftover = |path: &Path| -> bool {
        let named = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
        let owned = path.symlink_metadata().is_ok_and(|m| m.is_dir() && m.uid() == mine);
        if !named || !owned {
            return false;
        }
        // Without a lock file it is a folder just being made, or not ours.
        matches!(FileLock::take_existing(&path.join(LOCK)), Ok(Some(_)))
    };
    let remove = |path: &PathBuf| {
        clear(path);
        std::fs::remove_dir_all(path).is_ok()
    };
    entries.flatten().map(|e| e.path()).filter(|p| leftover(p) && remove(p)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_without_a_living_owner_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let alive = RunFolder::create_in(parent.path()).unwrap();
        let (dead, lock) = RunFolder::create_in(parent.path()).unwrap().keep();
        drop(lock);
        let foreign = parent.path().join("softoff-notes");
        std::fs::create_dir(&foreign).unwrap();
        assert_eq!(sweep_in(parent.path()), 1);
        assert!(alive.path().exists() && !dead.exists() && foreign.exists());
        assert_eq!(std::fs::metadata(alive.path()).unwrap().mode() & 0o777, 0o700);
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
    }

    #[test]
    fn the_lock_file_goes_last() {
        let parent = tempfile::tempdir().unwrap();
        let (half_removed, lock) = RunFolder::create_in(parent.path()).unwrap().keep();
        drop(lock);
        std::fs::write(half_removed.join("disk.qcow2"), "x").unwrap();
        std::fs::create_dir(half_removed.join("tpm")).unwrap();
        clear(&half_removed);
        let left: Vec<_> =
            std::fs::read_dir(&half_removed).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK]);
        assert_eq!((sweep_in(parent.path()), half_removed.exists()), (1, false));
    }
}
