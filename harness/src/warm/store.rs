//! Where saved states are kept, and who makes them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::Mutex;

use super::key::StateKey;
use super::make;
use super::saved::{MANIFEST, SavedState};
use crate::file_lock::FileLock;
use crate::image::{Image, Sha256Hex};
use crate::machine::accel::Accelerator;

/// What is done when the cache has no state for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Boots once to make one.
    Make,
    /// Boots cold.
    BootCold,
}

/// Once found or made, or why not; whoever comes meanwhile waits.
type Slot = Arc<Mutex<Option<Result<Arc<SavedState>, String>>>>;

/// What the saved states of a cache may take together when nobody says otherwise, bytes. One of the reference guest's takes
/// some 300 MB.
pub const STATES_LIMIT: u64 = 4 << 30;

/// The saved states of a cache folder.
#[derive(Debug)]
pub struct WarmStates {
    dir: PathBuf,
    limit: u64,
    qemu: String,
    missing: Missing,
    known: Mutex<HashMap<Sha256Hex, Slot>>,
}

/// Name of the lock file that a maker holds.
const LOCK: &str = "states.lock";

impl WarmStates {
    /// The states in `dir`, which together may take `limit` bytes. `qemu`: its version, as
    /// [`crate::host::qemu_version`] gives it.
    pub fn new(dir: PathBuf, limit: u64, qemu: String, missing: Missing) -> WarmStates {
        WarmStates { dir, limit, qemu, missing, known: Mutex::default() }
    }

    /// The state of an image's machine: checked, or made now. `say` is told in a line what takes long or was
    /// wrong; the error is the reason to boot cold.
    pub async fn get(
        &self,
        image: &Image,
        accelerator: Accelerator,
        say: &(dyn Fn(String) + Sync),
    ) -> Result<Arc<SavedState>, String> {
        let key = StateKey::of(image, accelerator, &self.qemu);
        let slot = self.known.lock().await.entry(key.hash.clone()).or_default().clone();
        let mut known = slot.lock().await;
        if let Some(state) = known.as_ref() {
            return state.clone();
        }
        let state = self.find_or_make(image, accelerator, &key, say).await;
        let state = state.map(Arc::new).map_err(|e| format!("{e:#}"));
        *known = Some(state.clone());
        state
    }

    /// Forgets a state that a machine could not be started from, and removes it.
    pub async fn discard(&self, image: &Image, accelerator: Accelerator, why: &str) {
        let key = StateKey::of(image, accelerator, &self.qemu);
        let slot = self.known.lock().await.entry(key.hash.clone()).or_default().clone();
        *slot.lock().await = Some(Err(why.to_owned()));
        let _gone = std::fs::remove_dir_all(self.folder(&key));
    }

    fn folder(&self, key: &StateKey) -> PathBuf {
        self.dir.join(key.hash.short())
    }

    async fn find_or_make(
        &self,
        image: &Image,
        accelerator: Accelerator,
        key: &StateKey,
        say: &(dyn Fn(String) + Sync),
    ) -> anyhow::Result<SavedState> {
        if let Some(state) = self.open(image, key, say).await? {
            return Ok(state);
        }
        anyhow::ensure!(
            self.missing == Missing::Make,
            "no state is saved yet; `--start warm` saves one after the first boot"
        );
        std::fs::create_dir_all(&self.dir)
            .with_context(|| format!("cannot make {}; set SOFTOFF_CACHE", self.dir.display()))?;
        let _lock = self.lock().await?;
        // Another process may have made it meanwhile.
        if let Some(state) = self.open(image, key, say).await? {
            return Ok(state);
        }
        sweep(&self.dir);
        say(format!("saving the ready state of image {}: one cold boot", image.manifest.name));
        make::make(image, accelerator, key, &self.dir, &self.folder(key)).await?;
        self.evict(key);
        self.open(image, key, say).await?.context("the state that was just saved is gone")
    }

    /// A damaged state is removed and told of.
    async fn open(
        &self,
        image: &Image,
        key: &StateKey,
        say: &(dyn Fn(String) + Sync),
    ) -> anyhow::Result<Option<SavedState>> {
        let (dir, key, base) = (self.folder(key), key.clone(), image.file(&image.manifest.system_disk));
        let folder = dir.clone();
        let opened = tokio::task::spawn_blocking(move || SavedState::open(&dir, &key, &base)).await?;
        opened.or_else(|why| {
            say(format!("the saved state {} cannot be used: {why:#}; it is removed", folder.display()));
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
            Ok(None)
        })
    }

    /// One maker at a time in this cache, whichever process it is in; the kernel gives the lock back.
    async fn lock(&self) -> anyhow::Result<FileLock> {
        let path = self.dir.join(LOCK);
        tokio::task::spawn_blocking(move || {
            FileLock::wait(&path).with_context(|| format!("cannot lock {}", path.display()))
        })
        .await?
    }

    /// Removes the states that were not used for longest, until what is left fits; the newest stays.
    fn evict(&self, newest: &StateKey) {
        let newest = self.folder(newest);
        let used = |dir: &Path| dir.join(MANIFEST).metadata().and_then(|m| m.modified()).ok();
        let mut others: Vec<_> = folders(&self.dir).into_iter().filter(|dir| *dir != newest).collect();
        others.sort_by_key(|dir| used(dir));
        let mut total: u64 = disk_use(&newest) + others.iter().map(|dir| disk_use(dir)).sum::<u64>();
        for dir in others {
            if total <= self.limit {
                return;
            }
            let bytes = disk_use(&dir);
            if std::fs::remove_dir_all(&dir).is_ok() {
                total -= bytes;
            }
        }
    }
}

/// The folders in `dir` of states that were not saved of one of these images, damaged and half-made ones among
/// them.
pub fn not_of(dir: &Path, images: &[Sha256Hex]) -> Vec<PathBuf> {
    let wanted = |folder: &PathBuf| super::saved::image_of(folder).is_some_and(|id| images.contains(&id));
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    entries.filter(|path| path.is_dir() && !wanted(path)).collect()
}

/// Half-made states of makers that died; under the lock nobody else makes one.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(make::PREFIX) {
            let _gone = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    entries.filter(|path| path.join(MANIFEST).is_file()).collect()
}

/// Bytes on disk of a folder's files; holes take none.
fn disk_use(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|meta| meta.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn state(dir: &Path, name: &str, kib: usize, age: u64) -> PathBuf {
        let path = dir.join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("memory"), vec![1u8; kib << 10]).unwrap();
        let manifest = std::fs::File::create(path.join(MANIFEST)).unwrap();
        manifest.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        path
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_the_newest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let key = StateKey { hash: Sha256Hex("0123456789abcdef".into()), facts: String::new() };
        let newest = state(dir.path(), key.hash.short(), 900, 500);
        let (old, older) = (state(dir.path(), "old", 100, 10), state(dir.path(), "older", 100, 99));
        let states = |limit| WarmStates::new(dir.path().into(), limit, "7.2".into(), Missing::BootCold);
        states(4 << 20).evict(&key);
        assert!(old.exists() && older.exists());
        states(1050 << 10).evict(&key);
        assert!(old.exists() && !older.exists() && newest.exists());
        states(0).evict(&key);
        assert!(!old.exists() && newest.exists());
    }

    #[test]
    fn states_of_other_images_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let image = |text: &str| Sha256Hex::of_bytes(text.as_bytes());
        let of = |name: &str| {
            let folder = state(dir.path(), name, 1, 1);
            let facts = format!("format 1\nimage {}\nqemu 7\n", image(name));
            let manifest = serde_json::json!({
                "facts": facts, "base": "/", "boot_ms": 1, "files": [], "screen": "", "spoken": [], "documents": null, "registry": null
            });
            std::fs::write(folder.join(MANIFEST), manifest.to_string()).unwrap();
            folder
        };
        let (today, older) = (of("today"), of("older"));
        let damaged = state(dir.path(), "damaged", 1, 1);
        std::fs::write(dir.path().join(LOCK), "").unwrap();
        let mut others = not_of(dir.path(), &[image("today")]);
        others.sort();
        assert_eq!(others, [damaged, older]);
        assert_eq!(not_of(dir.path(), &[]).len(), 3, "{}", today.display());
    }

    #[test]
    fn half_made_states_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let half = dir.path().join(format!("{}x", make::PREFIX));
        std::fs::create_dir(&half).unwrap();
        let whole = state(dir.path(), "whole", 1, 1);
        sweep(dir.path());
        assert!(!half.exists() && whole.exists());
    }
}
