//! Putting a stopped machine's disk into a known condition: registry values, written offline.
//!
//! The only code that writes to a disk, and it writes to overlays only. A hive is edited on a copy with
//! `hivexregedit` and written back over its own data runs; the file system's structures are not touched,
//! so that a hive can use the zeros behind its last bin but cannot grow.

mod error;
mod merge;
pub mod online;
mod remedy;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use error::{InjectError, Refusal};
pub use remedy::{powershell, reg_file};

use crate::disk::registry::{MAX_HIVE, plan_keys, values_in};
use crate::disk::{
    DiskError, DiskImage, HibernationFile, Hive, HiveState, JournalState, RegistryValue, Volume,
    WritableOverlay, backing_file, lock, system_volume,
};

/// Granularity of writing: only blocks that differ are written, so that the overlay stays small.
const BLOCK: usize = 4096;

/// One registry value to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HiveEdit {
    /// The hive.
    pub hive: Hive,
    /// Key, relative to the hive's root. In the SYSTEM hive it may begin with `CurrentControlSet`, which
    /// is resolved through `Select\Current`. Keys that do not exist are created.
    pub key: String,
    /// Name of the value; empty for the key's default value.
    pub name: String,
    /// What it becomes.
    pub value: RegistryValue,
}

impl HiveEdit {
    /// One value to set, in the order in which its place is read: hive, key, name, value.
    pub fn new(
        hive: Hive,
        key: impl Into<String>,
        name: impl Into<String>,
        value: RegistryValue,
    ) -> HiveEdit {
        HiveEdit { hive, key: key.into(), name: name.into(), value }
    }
}

/// What was done to one hive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiveWrite {
    /// The hive.
    pub hive: Hive,
    /// How many values were set.
    pub values: usize,
    /// How many bytes were written to the overlay.
    pub bytes_written: u64,
}

/// Sets registry values on the system volume of a stopped machine's overlay, and reads them back.
///
/// `read_only` lists files that must never be written, those of the image as a rule. Refuses anything that
/// is not an overlay, that a process has locked, whose volume or hive is dirty, or that holds a hibernated
/// system: see [`Refusal`]. All hives are edited, on copies, before the first byte is written.
pub fn apply(
    overlay: &Path,
    read_only: &[PathBuf],
    edits: &[HiveEdit],
) -> Result<Vec<HiveWrite>, InjectError> {
    check_file(overlay, read_only)?;
    // Opened by QEMU since it was asked for; nothing has been written yet.
    let unheld = |error: DiskError| match error {
        DiskError::InUse { .. } => {
            InjectError::Refused { overlay: overlay.to_owned(), refusal: Refusal::InUse }
        }
        other => other.into(),
    };
    let prepared = {
        let volume = DiskImage::open(overlay).and_then(|disk| system_volume(&disk)).map_err(unheld)?;
        check_volume(overlay, &volume)?;
        let mut by_hive: BTreeMap<&Hive, Vec<&HiveEdit>> = BTreeMap::new();
        for edit in edits {
            by_hive.entry(&edit.hive).or_default().push(edit);
        }
        let prepared = by_hive.into_iter().map(|(hive, edits)| prepare(overlay, &volume, hive, &edits));
        prepared.collect::<Result<Vec<Prepared>, _>>()?
    };
    let disk = WritableOverlay::open(overlay).map_err(unheld)?;
    let mut done = Vec::new();
    for hive in &prepared {
        let bytes_written = write(&disk, hive)?;
        done.push(HiveWrite { hive: hive.hive.clone(), values: hive.edits.len(), bytes_written });
    }
    disk.finish()?;
    verify(overlay, &prepared)?;
    Ok(done)
}

fn refused<T>(overlay: &Path, refusal: Refusal) -> Result<T, InjectError> {
    Err(InjectError::Refused { overlay: overlay.to_owned(), refusal })
}

fn check_file(overlay: &Path, read_only: &[PathBuf]) -> Result<(), InjectError> {
    let io = |path: &Path| {
        let doing = format!("looking at {}", path.display());
        move |source| InjectError::Io { doing, source }
    };
    let file = File::open(overlay).map_err(io(overlay))?;
    let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let overlay_id = identity(file.metadata().map_err(io(overlay))?);
    for path in read_only {
        // By device and inode: links and other spellings of a path lead to the same file.
        if identity(std::fs::metadata(path).map_err(io(path))?) == overlay_id {
            return refused(overlay, Refusal::ReadOnly);
        }
    }
    if backing_file(overlay)?.is_none() {
        return refused(overlay, Refusal::NotAnOverlay);
    }
    // Reading the disk refuses one that is written to; here a reader stands against the writing as well.
    match lock::is_held(&file).map_err(io(overlay))? {
        false => Ok(()),
        true => refused(overlay, Refusal::InUse),
    }
}

fn check_volume(overlay: &Path, volume: &Volume) -> Result<(), InjectError> {
    let flags = volume.flags()?;
    if flags.is_dirty() {
        return refused(overlay, Refusal::DirtyVolume(flags));
    }
    if JournalState::read(volume)? == JournalState::NotClean {
        return refused(overlay, Refusal::OpenJournal);
    }
    match volume.hibernation_file()? {
        HibernationFile::Absent | HibernationFile::Empty | HibernationFile::Spent => Ok(()),
        HibernationFile::Live => refused(overlay, Refusal::Hibernated("it is live".to_owned())),
        HibernationFile::Unknown(magic) => {
            refused(overlay, Refusal::Hibernated(format!("unknown signature {}", magic.escape_ascii())))
        }
    }
}

/// A hive, edited on a copy and ready to be written.
struct Prepared<'e> {
    hive: Hive,
    edits: Vec<&'e HiveEdit>,
    old: Vec<u8>,
    new: Vec<u8>,
    runs: Vec<Range<u64>>,
}

fn prepare<'e>(
    overlay: &Path,
    volume: &Volume,
    hive: &Hive,
    edits: &[&'e HiveEdit],
) -> Result<Prepared<'e>, InjectError> {
    let path = hive.path();
    let state = HiveState::read(volume, hive)?;
    if state.is_dirty() {
        let HiveState { sequence_1, sequence_2, checksum_ok, .. } = state;
        return refused(overlay, Refusal::DirtyHive { hive: path, sequence_1, sequence_2, checksum_ok });
    }
    let old = volume.read_file(&path, MAX_HIVE)?;
    let runs = volume.data_runs(&path)?;
    let keys: Vec<String> = edits.iter().map(|edit| edit.key.clone()).collect();
    let plans = plan_keys(overlay, &path, &old, &keys)?;
    let planned: Vec<_> = edits.iter().copied().zip(plans).collect();
    let new = merge::merge(&path, &old, &merge::reg_text(&planned)?)?;
    if new.len() != old.len() {
        return Err(InjectError::Grew { hive: path, old: old.len() as u64, new: new.len() as u64 });
    }
    check_values(overlay, hive, &new, edits).map_err(|why| InjectError::Tool {
        hive: path,
        why: format!("the edited copy is not as intended, {why}"),
        next: "nothing was written; report this with the hive and the edit".to_owned(),
    })?;
    Ok(Prepared { hive: hive.clone(), edits: edits.to_vec(), old, new, runs })
}

/// Holds the values of a hive against the edits, and says what differs; of several edits of one value the
/// last one counts.
fn check_values(overlay: &Path, hive: &Hive, bytes: &[u8], edits: &[&HiveEdit]) -> Result<(), String> {
    let wanted: Vec<_> = edits.iter().map(|edit| (edit.key.clone(), edit.name.clone())).collect();
    let found = values_in(overlay, &hive.path(), bytes, &wanted).map_err(|e| e.to_string())?;
    let id = |edit: &HiveEdit| (edit.key.to_uppercase(), edit.name.to_uppercase());
    for (index, (edit, found)) in edits.iter().zip(found).enumerate() {
        let overridden = edits.iter().skip(index + 1).any(|later| id(later) == id(edit));
        let stored = |value: &RegistryValue| (value.kind(), value.data());
        if !overridden && found.as_ref().map(stored) != Some(stored(&edit.value)) {
            return Err(format!("`{}` `{}` is {found:?}, not {:?}", edit.key, edit.name, edit.value));
        }
    }
    Ok(())
}

fn write(disk: &WritableOverlay, hive: &Prepared<'_>) -> Result<u64, InjectError> {
    let mut written = 0;
    let mut from = 0usize;
    for run in &hive.runs {
        let length = usize::try_from(run.end - run.start).unwrap_or(usize::MAX);
        let range = from..from.saturating_add(length);
        let (old, new) =
            (hive.old.get(range.clone()).unwrap_or_default(), hive.new.get(range).unwrap_or_default());
        let mut at = run.start;
        for (old, new) in old.chunks(BLOCK).zip(new.chunks(BLOCK)) {
            if old != new {
                disk.write(new, at)?;
                written += new.len() as u64;
            }
            at += new.len() as u64;
        }
        from = from.saturating_add(length);
    }
    Ok(written)
}

fn verify(overlay: &Path, prepared: &[Prepared<'_>]) -> Result<(), InjectError> {
    let volume = system_volume(&DiskImage::open(overlay)?)?;
    for hive in prepared {
        let path = hive.hive.path();
        let bytes = volume.read_file(&path, MAX_HIVE)?;
        let same = bytes == hive.new && !HiveState::read(&volume, &hive.hive)?.is_dirty();
        let checked = match same {
            true => check_values(overlay, &hive.hive, &bytes, &hive.edits),
            false => Err("the bytes read back are not those that were written".to_owned()),
        };
        let overlay = overlay.to_owned();
        checked.map_err(|why| InjectError::NotVerified { overlay, hive: path, why })?;
    }
    Ok(())
}
