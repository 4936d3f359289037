//! The files of one saved state, and whether they are what was saved.
//!
//! ```text
//! <key>/state.json      the manifest, written last
//!       memory          the guest's memory, sparse, as large as the guest's; mapped copy-on-write by machines
//!       devices         QEMU's migration stream without memory
//!       system.qcow2    the system disk at that moment: an overlay on the image's
//! ```

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::StateKey;
use crate::guest::registry_facts::RegistryFacts;
use crate::image::{FileStamp, Sha256Hex};
use crate::timeline::Written;

pub(super) const MANIFEST: &str = "state.json";
pub(super) const MEMORY: &str = "memory";
pub(super) const DEVICES: &str = "devices";
pub(super) const DISK: &str = "system.qcow2";

/// A program of the guest that numbers its probe lines, and the last number it had used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// The program.
    pub src: String,
    /// Its process id.
    pub pid: u32,
    /// Number of its last line.
    pub seq: u64,
}

/// What `state.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateManifest {
    /// The whole key, one fact a line.
    pub(super) facts: String,
    /// Where the image's system disk was: the overlay names it.
    pub(super) base: PathBuf,
    /// Cold boot to readiness when it was made, milliseconds.
    pub(super) boot_ms: u64,
    /// Content hash of each file, see [`content_hash`].
    pub(super) files: Vec<(String, Sha256Hex)>,
    /// Hash of the picture on the screen.
    pub(super) screen: Sha256Hex,
    /// Numbers of the probe lines so far.
    pub(super) spoken: Vec<Spoken>,
    /// The documents that the guest had written.
    pub(super) documents: Option<Written>,
    /// What the registry on its disk says; `None` when it could not be read.
    pub(super) registry: Option<RegistryFacts>,
}

/// A saved state, checked.
#[derive(Debug, Clone)]
pub struct SavedState {
    dir: PathBuf,
    /// The hash of its key.
    pub id: Sha256Hex,
    /// Cold boot to readiness when it was made, milliseconds.
    pub boot_ms: u64,
    /// Hash of the picture on the screen when it was saved.
    pub(super) screen: Sha256Hex,
    pub(super) spoken: Vec<Spoken>,
    pub(super) documents: Option<Written>,
    /// What the registry on its disk says.
    pub registry: Option<RegistryFacts>,
    stamps: Vec<FileStamp>,
}

impl SavedState {
    /// Opens the state in `dir` and hashes every file. `Ok(None)` when there is none; an error when there is
    /// one that cannot be used, and why.
    pub(super) fn open(dir: &Path, key: &StateKey, base: &Path) -> anyhow::Result<Option<SavedState>> {
        let path = dir.join(MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: StateManifest =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
        anyhow::ensure!(manifest.facts == key.facts, "it was saved of another machine");
        anyhow::ensure!(
            manifest.base == base,
            "it was saved on {}, and the image is at {} now",
            manifest.base.display(),
            base.display()
        );
        let mut stamps = Vec::new();
        for name in [MEMORY, DEVICES, DISK] {
            let file = dir.join(name);
            let wanted = manifest.files.iter().find(|(n, _)| n == name).map(|(_, hash)| hash);
            stamps.push(stamp(&file)?);
            let found = content_hash(&file)?;
            anyhow::ensure!(
                Some(&found) == wanted,
                "{} is damaged: its content is not what was saved",
                file.display()
            );
        }
        // Used now: the oldest use is evicted first.
        let _used = File::open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        Ok(Some(SavedState {
            dir: dir.to_owned(),
            id: key.hash.clone(),
            boot_ms: manifest.boot_ms,
            screen: manifest.screen,
            spoken: manifest.spoken,
            documents: manifest.documents,
            registry: manifest.registry,
            stamps,
        }))
    }

    /// Whether the files are still the ones that were hashed.
    pub(super) fn unchanged(&self) -> anyhow::Result<()> {
        for (name, stamp) in [MEMORY, DEVICES, DISK].iter().zip(&self.stamps) {
            let path = self.dir.join(name);
            anyhow::ensure!(
                self::stamp(&path)? == *stamp,
                "{} was changed since it was checked",
                path.display()
            );
        }
        Ok(())
    }

    pub(super) fn memory(&self) -> PathBuf {
        self.dir.join(MEMORY)
    }

    pub(super) fn devices(&self) -> PathBuf {
        self.dir.join(DEVICES)
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.dir.join(DISK)
    }
}

fn stamp(path: &Path) -> anyhow::Result<FileStamp> {
    FileStamp::of(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The image that the state in a folder was saved of; `None` when its manifest cannot be read.
pub(super) fn image_of(dir: &Path) -> Option<Sha256Hex> {
    let manifest: StateManifest = serde_json::from_slice(&std::fs::read(dir.join(MANIFEST)).ok()?).ok()?;
    let image = manifest.facts.lines().find_map(|line| line.strip_prefix("image "))?;
    Some(Sha256Hex(image.to_owned()))
}

/// The hash of what a file reads as, whatever its holes: blocks of zeros count by their place only, so that a
/// file of 1 GiB with 400 MB in it costs 400 MB of hashing.
pub(super) fn content_hash(path: &Path) -> anyhow::Result<Sha256Hex> {
    const BLOCK: usize = 1 << 16;
    let error = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(error)?;
    let length = file.metadata().with_context(error)?.len();
    let mut hasher = Sha256::new();
    hasher.update(length.to_le_bytes());
    let mut buffer = vec![0u8; BLOCK];
    let mut at = 0;
    while let Some(data) = next_data(&file, at).with_context(error)? {
        // From the block that the data lies in, so that holes of another file system change nothing.
        at = data - data % BLOCK as u64;
        let read = read_block(&file, at, &mut buffer).with_context(error)?;
        let block = buffer.get(..read).unwrap_or_default();
        if block.iter().any(|byte| *byte != 0) {
            hasher.update(at.to_le_bytes());
            hasher.update(block);
        }
        at += BLOCK as u64;
        if at >= length {
            break;
        }
    }
    Ok(Sha256Hex::of_digest(&hasher.finalize()))
}

/// Where the next data begins, by SEEK_DATA; `None` behind the last.
fn next_data(file: &File, from: u64) -> std::io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(std::io::Error::other)?;
    match nix::unistd::lseek(file, from, nix::unistd::Whence::SeekData) {
        Ok(at) => Ok(u64::try_from(at).ok()),
        Err(nix::Error::ENXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn read_block(file: &File, at: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::Start(at))?;
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn holes_do_not_count_and_content_does() {
        let dir = tempfile::tempdir().unwrap();
        let (sparse, full) = (dir.path().join("sparse"), dir.path().join("full"));
        let mut content = vec![0u8; 1 << 20];
        content[700_000] = 7;
        std::fs::write(&full, &content).unwrap();
        let mut file = File::create(&sparse).unwrap();
        file.set_len(1 << 20).unwrap();
        file.seek(SeekFrom::Start(700_000)).unwrap();
        file.write_all(&[7]).unwrap();
        drop(file);
        let same = content_hash(&full).unwrap();
        assert_eq!(content_hash(&sparse).unwrap(), same);
        content[3] = 1;
        std::fs::write(&full, &content).unwrap();
        assert_ne!(content_hash(&full).unwrap(), same);
        std::fs::write(&full, &content[..100]).unwrap();
        assert_ne!(content_hash(&full).unwrap(), same);
    }
}
