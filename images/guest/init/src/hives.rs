//! What the guest writes into its own hives on C:.
//!
//! Wine's registry is made from the hives at the boot, and what programs write to it is lost. The few values that
//! Windows itself keeps about its end are written here, into the hive files, by the one program that uses them. As on
//! Windows a write is in three steps, so that one which is cut shows: the header's first sequence number, the content,
//! the second sequence number. There is no transaction log to recover it from.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::Context;
use softoff_guest_eventlog::FileTime;
use softoff_guest_registry::{Key, Value, read_hive, write_hive};

use crate::{log, volume};

/// The machine's hives, with slashes.
pub(crate) const SYSTEM: &str = "windows/system32/config/SYSTEM";
/// See [`SYSTEM`].
pub(crate) const SOFTWARE: &str = "windows/system32/config/SOFTWARE";

/// The base block: what stands before the first bin.
const HEADER: usize = 4096;
/// Where the sequence numbers stand, and the checksum over everything before it.
const SEQUENCES: std::ops::Range<usize> = 4..12;
const CHECKSUM: usize = 508;
/// A hive that grows gets a multiple of this size, as the image builder gives it.
const GRANULARITY: usize = 256 * 1024;

/// Reads a hive of C:.
pub(crate) fn read(hive: &str) -> anyhow::Result<Key> {
    let bytes = std::fs::read(volume::on_c(hive)).with_context(|| format!("cannot read {hive}"))?;
    read_hive(&bytes).with_context(|| format!("cannot use {hive}"))
}

/// Changes a hive of C:, flushed. [`volume::mark_in_use`] must follow.
pub(crate) fn edit(hive: &str, change: impl FnOnce(&mut Key)) -> anyhow::Result<()> {
    edit_file(&volume::on_c(hive), change).with_context(|| format!("cannot change {hive}"))
}

/// FILETIME of this end in `Control\Windows`, as Windows writes it at each clean shutdown.
pub(crate) fn note_shutdown_time() {
    let now = FileTime::now().0.to_le_bytes();
    let noted = edit(SYSTEM, |root| {
        let set = match root.get("Select").and_then(|select| select.value("Current")) {
            Some(Value::Dword(number)) => *number,
            _ => 1,
        };
        let key = root.key(&format!(r"ControlSet{set:03}\Control\Windows"));
        key.set("ShutdownTime", Value::Binary(now.to_vec()));
    });
    // Not trouble: a hive that cannot be used is something that a scenario may want to look at.
    if let Err(error) = noted {
        log::say(&format!("ShutdownTime was not written: {error:#}"));
    }
}

fn edit_file(path: &Path, change: impl FnOnce(&mut Key)) -> anyhow::Result<()> {
    let old = std::fs::read(path)?;
    let mut root = read_hive(&old)?;
    change(&mut root);
    let mut new = write_hive(&root)?;
    let length = if new.len() <= old.len() { old.len() } else { new.len().next_multiple_of(GRANULARITY) };
    new.resize(length, 0);
    let sequence =
        old.get(4..8).and_then(|b| b.try_into().ok()).map_or(1, u32::from_le_bytes).wrapping_add(1);
    let begun = header(&old, sequence, sequence.wrapping_sub(1)).context("the hive has no header")?;
    let done = header(&new, sequence, sequence).context("the new hive has no header")?;
    let mut file = File::options().write(true).open(path)?;
    write(&mut file, 0, &begun)?;
    write(&mut file, HEADER as u64, new.get(HEADER..).unwrap_or_default())?;
    write(&mut file, 0, &done)?;
    Ok(())
}

fn write(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A hive's base block with these sequence numbers.
fn header(hive: &[u8], primary: u32, secondary: u32) -> Option<Vec<u8>> {
    let mut header = hive.get(..HEADER)?.to_vec();
    let numbers = [primary.to_le_bytes(), secondary.to_le_bytes()].concat();
    header.get_mut(SEQUENCES)?.copy_from_slice(&numbers);
    let words = header.get(..CHECKSUM)?.as_chunks::<4>().0;
    // The sum is never 0 or all ones: these stand for 1 and for all ones but the last (regf).
    let sum = match words.iter().fold(0, |sum, word| sum ^ u32::from_le_bytes(*word)) {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        sum => sum,
    };
    header.get_mut(CHECKSUM..CHECKSUM + 4)?.copy_from_slice(&sum.to_le_bytes());
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hive(dir: &Path) -> std::path::PathBuf {
        let mut root = Key::new();
        root.key("Select").dword("Current", 1);
        let mut bytes = write_hive(&root).unwrap();
        bytes.resize(64 * 1024, 0);
        let path = dir.join("SYSTEM");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn sequences(path: &Path) -> [u32; 2] {
        let bytes = std::fs::read(path).unwrap();
        [4, 8].map(|at| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()))
    }

    #[test]
    fn an_edit_keeps_the_rest_and_the_size_and_counts_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = hive(dir.path());
        let [before, _] = sequences(&path);
        for n in 1..=2 {
            edit_file(&path, |root| {
                root.key("Softoff").dword("N", n);
            })
            .unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes.len(), sequences(&path)), (64 * 1024, [before + 2, before + 2]));
        let root = read_hive(&bytes).unwrap();
        assert_eq!(root.get("Select").unwrap().value("Current"), Some(&Value::Dword(1)));
        assert_eq!(root.get("Softoff").unwrap().value("N"), Some(&Value::Dword(2)));
    }

    #[test]
    fn a_hive_that_grows_gets_a_round_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = hive(dir.path());
        edit_file(&path, |root| {
            root.key("Softoff").set("Big", Value::Binary(vec![7; 100_000]));
        })
        .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), GRANULARITY);
        assert_eq!(read_hive(&bytes).unwrap().get("Softoff").unwrap().values().count(), 1);
    }

    #[test]
    fn a_write_that_is_cut_shows_as_a_dirty_hive_and_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = hive(dir.path());
        let bytes = std::fs::read(&path).unwrap();
        let mut cut = header(&bytes, 2, 1).unwrap();
        cut.extend_from_slice(&bytes[HEADER..]);
        std::fs::write(&path, &cut).unwrap();
        let error = edit_file(&path, |_| {}).unwrap_err();
        assert!(error.to_string().contains("dirty"), "{error:#}");
        assert_eq!(std::fs::read(&path).unwrap(), cut);
    }
}
