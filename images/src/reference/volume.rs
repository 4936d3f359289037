//! The system disk, laid out as Windows setup does: GPT, a Microsoft reserved partition, and one NTFS
//! "Basic data partition". Behind them what Windows has no need of: a partition for the hibernation image. And
//! the archive of what C: holds of Wine.
//!
//! Nothing here needs root, a loop device or FUSE: partitions are files until they are copied into place.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::Context;
use gptman::{GPT, GPTPartitionEntry};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::hives::USER;
use crate::tools;

/// Bytes of a sector.
pub(crate) const SECTOR: u64 = 512;
/// Bytes of the whole disk. It is sparse in the qcow2.
const DISK: u64 = 3 << 29;
/// First sector of the reserved partition: 1 MiB, where Windows setup puts the first one.
const RESERVED_START: u64 = 2048;
/// 16 MiB, the size that Windows 10 and later use.
const RESERVED_SECTORS: u64 = 16 * 2048;
/// First sector of the NTFS partition.
const SYSTEM_START: u64 = RESERVED_START + RESERVED_SECTORS;
/// Last sector of the NTFS partition.
const SYSTEM_END: u64 = HIBERNATION_START - 1;
/// First sector of the partition for the hibernation image.
const HIBERNATION_START: u64 = (1 << 30) / SECTOR - 2048;
/// Its last sector; the last MiB is the backup table's.
const HIBERNATION_END: u64 = DISK / SECTOR - 2048 - 1;
/// PID 1 finds it by this name.
const HIBERNATION_NAME: &str = "Softoff hibernation";

/// E3C9E316-0B5C-4DB8-817D-F92DF00215AE, as it lies on disk.
const TYPE_RESERVED: [u8; 16] =
    [0x16, 0xe3, 0xc9, 0xe3, 0x5c, 0x0b, 0xb8, 0x4d, 0x81, 0x7d, 0xf9, 0x2d, 0xf0, 0x02, 0x15, 0xae];
/// EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, as it lies on disk.
pub(crate) const TYPE_BASIC_DATA: [u8; 16] =
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7];

/// Linux swap, 0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, as it lies on disk.
const TYPE_SWAP: [u8; 16] =
    [0x6d, 0xfd, 0x57, 0x06, 0xab, 0xa4, 0xc4, 0x43, 0x84, 0xe5, 0x09, 0x33, 0xc8, 0x4b, 0x4f, 0x4f];

/// Identities of disk and partitions: fixed, so that the same recipe gives the same disk.
const fn identity(last: u8) -> [u8; 16] {
    [0x50, 0x0f, 0x70, 0x50, 0x00, 0x00, 0x00, 0x40, 0x80, 0x00, 0, 0, 0, 0, 0, last]
}

/// How much was packed, to be compared with what arrived on the volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// Plain files.
    pub(crate) files: u64,
    /// Folders.
    pub(crate) folders: u64,
    /// Bytes in the files.
    pub(crate) bytes: u64,
}

/// Packs Wine's tree, as C: will hold it, into a tar archive.
pub(crate) fn collect(drive_c: &Path, out: &Path) -> anyhow::Result<Content> {
    anyhow::ensure!(drive_c.join("users").join(USER).exists(), "Wine made no profile for the user {USER}");
    let mut archive = Archive::create(out)?;
    archive.tree(drive_c, "")?;
    archive.finish()
}

/// A tar archive of files for C:, and how much is in it.
pub(crate) struct Archive {
    tar: tar::Builder<BufWriter<File>>,
    content: Content,
}

impl Archive {
    /// A new, empty one.
    pub(crate) fn create(out: &Path) -> anyhow::Result<Archive> {
        let file = File::create(out).with_context(|| format!("cannot make {}", out.display()))?;
        let tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
        Ok(Archive { tar, content: Content::default() })
    }

    /// Writes its end.
    pub(crate) fn finish(self) -> anyhow::Result<Content> {
        self.tar.into_inner()?.flush()?;
        Ok(self.content)
    }

    /// A folder's content, in name order.
    fn tree(&mut self, from: &Path, inside: &str) -> anyhow::Result<()> {
        let entries = std::fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))?;
        let mut names: Vec<String> =
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        for name in names {
            let path = from.join(&name);
            let to = guest_path(inside, &name);
            let kind = path.symlink_metadata()?;
            // Wine links profile folders into the Linux home; on C: they are folders.
            if kind.is_symlink() {
                self.folder(&to)?;
            } else if kind.is_dir() {
                self.folder(&to)?;
                self.tree(&path, &to)?;
            } else {
                self.file(&to, &std::fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    /// Adds a folder; one that is there already is no mistake.
    pub(crate) fn folder(&mut self, path: &str) -> anyhow::Result<()> {
        self.content.folders += 1;
        self.append(path, tar::EntryType::Directory, 0o755, &[])
    }

    /// Adds a file, which replaces one that is there.
    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.content.files += 1;
        self.content.bytes += bytes.len() as u64;
        self.append(path, tar::EntryType::Regular, 0o644, bytes)
    }

    fn append(&mut self, path: &str, kind: tar::EntryType, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        self.tar.append_data(&mut header, path, bytes).with_context(|| format!("cannot pack {path}"))
    }
}

/// Windows writes `Users`, Wine `users`. Wine finds it by any case.
fn guest_path(inside: &str, name: &str) -> String {
    match (inside, name) {
        ("", "users") => "Users".to_owned(),
        ("", name) => name.to_owned(),
        (inside, name) => format!("{inside}/{name}"),
    }
}

/// Makes the raw disk with its partitions and an empty NTFS volume.
pub(crate) fn lay_out(disk: &Path) -> anyhow::Result<()> {
    let mut file = File::options().create_new(true).read(true).write(true).open(disk)?;
    file.set_len(DISK)?;
    let mut table = GPT::new_from(&mut file, SECTOR, identity(1))?;
    *table.partitions_entry(1)? = GPTPartitionEntry {
        partition_type_guid: TYPE_RESERVED,
        unique_partition_guid: identity(2),
        starting_lba: RESERVED_START,
        ending_lba: SYSTEM_START - 1,
        attribute_bits: 0,
        partition_name: "Microsoft reserved partition".into(),
    };
    *table.partitions_entry(2)? = GPTPartitionEntry {
        partition_type_guid: TYPE_BASIC_DATA,
        unique_partition_guid: identity(3),
        starting_lba: SYSTEM_START,
        ending_lba: SYSTEM_END,
        attribute_bits: 0,
        partition_name: "Basic data partition".into(),
    };
    *table.partitions_entry(3)? = GPTPartitionEntry {
        partition_type_guid: TYPE_SWAP,
        unique_partition_guid: identity(4),
        starting_lba: HIBERNATION_START,
        ending_lba: HIBERNATION_END,
        attribute_bits: 0,
        partition_name: HIBERNATION_NAME.into(),
    };
    table.write_into(&mut file)?;
    GPT::write_protective_mbr_into(&mut file, SECTOR)?;

    write_swap_header(&mut file)?;

    let partition = disk.with_extension("ntfs");
    File::create(&partition)?.set_len((SYSTEM_END - SYSTEM_START + 1) * SECTOR)?;
    tools::run(
        tools::command("mkntfs")
            .args(["--force", "--quick", "--quiet", "--label", "System", "--cluster-size", "4096"])
            .args(["--sector-size", "512", "--heads", "255", "--sectors-per-track", "63"])
            .args(["--partition-start", &SYSTEM_START.to_string()])
            .arg(&partition),
    )?;
    copy_sparse(&partition, &mut file, SYSTEM_START * SECTOR)?;
    std::fs::remove_file(&partition)?;
    Ok(())
}

/// What mkswap writes: version and last page at byte 1024, the magic at the end of the first page
/// (include/linux/swap.h, `union swap_header`). The kernel hibernates into swap areas only.
fn write_swap_header(disk: &mut File) -> anyhow::Result<()> {
    const PAGE: u64 = 4096;
    let pages = (HIBERNATION_END - HIBERNATION_START + 1) * SECTOR / PAGE;
    let start = HIBERNATION_START * SECTOR;
    disk.seek(SeekFrom::Start(start + 1024))?;
    disk.write_all(&1u32.to_le_bytes())?;
    disk.write_all(&u32::try_from(pages - 1)?.to_le_bytes())?;
    disk.seek(SeekFrom::Start(start + PAGE - 10))?;
    disk.write_all(b"SWAPSPACE2")?;
    Ok(())
}

/// gptman's `Index` panics on a number out of range; its iterator does not.
trait Entries {
    fn partitions_entry(&mut self, number: u32) -> anyhow::Result<&mut GPTPartitionEntry>;
}

impl Entries for GPT {
    fn partitions_entry(&mut self, number: u32) -> anyhow::Result<&mut GPTPartitionEntry> {
        self.iter_mut()
            .find(|(n, _)| *n == number)
            .map(|(_, entry)| entry)
            .context("the GPT has too few entries")
    }
}

/// Copies a file to an offset of another, leaving holes where it has holes or holds zeros. Holes are not even
/// looked at: a volume of 10 GiB is nearly all hole.
pub(crate) fn copy_sparse(from: &Path, to: &mut File, offset: u64) -> anyhow::Result<()> {
    let mut source = File::open(from)?;
    let mut buffer = vec![0u8; 1 << 20];
    let mut at = 0u64;
    loop {
        match lseek(&source, i64::try_from(at)?, Whence::SeekData) {
            Ok(data) => at = u64::try_from(data)?,
            // Nothing but a hole is left.
            Err(Errno::ENXIO) => return Ok(()),
            // A file system that does not know holes: everything is data.
            Err(_) => {
                source.seek(SeekFrom::Start(at))?;
            }
        }
        let count = source.read(&mut buffer)?;
        let Some(block) = buffer.get(..count).filter(|b| !b.is_empty()) else { return Ok(()) };
        if block.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(offset + at))?;
            to.write_all(block)?;
        }
        at += count as u64;
    }
}

/// The raw disk as compressed qcow2.
pub(crate) fn compress(raw: &Path, out: &Path) -> anyhow::Result<()> {
    tools::run(
        tools::command("qemu-img")
            // zlib: imago 0.2, which reads the disk afterwards, refuses qcow2's zstd (measured).
            .args(["convert", "-c", "-f", "raw", "-O", "qcow2"])
            .arg(raw)
            .arg(out),
    )?;
    Ok(())
}

/// An empty overlay on `below`, a qcow2 file in the same folder that is named without it.
pub(crate) fn overlay(below: &str, out: &Path) -> anyhow::Result<()> {
    tools::run(
        tools::command("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below]).arg(out),
    )?;
    Ok(())
}

/// The overlay's own clusters, compressed, in a new overlay on the same `below`.
pub(crate) fn compress_overlay(filled: &Path, below: &str, out: &Path) -> anyhow::Result<()> {
    tools::run(
        tools::command("qemu-img")
            .args(["convert", "-c", "-f", "qcow2", "-O", "qcow2", "-F", "qcow2", "-B", below])
            .arg(filled)
            .arg(out),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_read_back_as_windows_lays_them_out() {
        assert!(tools::find("mkntfs").is_some(), "mkntfs is missing; next: apt-get install ntfs-3g");
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("system.raw");
        lay_out(&disk).unwrap();
        let mut file = File::open(&disk).unwrap();
        let table = GPT::find_from(&mut file).unwrap();
        let entry = |n: u32| table.iter().find(|(i, _)| *i == n).map(|(_, e)| e.clone()).unwrap();
        assert_eq!(entry(1).size().unwrap() * SECTOR, 16 << 20);
        assert_eq!(entry(2).partition_name.as_str(), "Basic data partition");
        assert_eq!(entry(3).partition_name.as_str(), HIBERNATION_NAME);
        assert!(entry(3).size().unwrap() < entry(2).size().unwrap(), "PID 1 takes the largest for C:");
        let mut swap = [0u8; 4096];
        file.seek(SeekFrom::Start(entry(3).starting_lba * SECTOR)).unwrap();
        file.read_exact(&mut swap).unwrap();
        assert_eq!(&swap[4086..], b"SWAPSPACE2");
        let mut boot = [0u8; 512];
        file.seek(SeekFrom::Start(entry(2).starting_lba * SECTOR)).unwrap();
        file.read_exact(&mut boot).unwrap();
        assert_eq!(&boot[3..11], b"NTFS    ");
        assert_eq!(boot[28..32], (SYSTEM_START as u32).to_le_bytes(), "hidden sectors");
    }

    #[test]
    fn the_archive_counts_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let drive = dir.path().join("drive_c");
        std::fs::create_dir_all(drive.join("users").join(USER)).unwrap();
        std::fs::create_dir_all(drive.join("windows/system32")).unwrap();
        std::os::unix::fs::symlink("/nowhere", drive.join("users/Softoff/Desktop")).unwrap();
        std::fs::write(drive.join("windows/win.ini"), "[x]").unwrap();
        let out = dir.path().join("files.tar");
        let content = collect(&drive, &out).unwrap();
        let mut archive = tar::Archive::new(File::open(&out).unwrap());
        let mut found = Content::default();
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            match entry.header().entry_type() {
                tar::EntryType::Directory => found.folders += 1,
                _ => found.files += 1,
            }
            found.bytes += entry.size();
        }
        assert_eq!(found, content);
        for wanted in ["Users/Softoff/Desktop", "windows/win.ini"] {
            assert!(names.iter().any(|n| n.trim_end_matches('/') == wanted), "{wanted} is not in {names:?}");
        }
        assert!(!names.iter().any(|n| n.starts_with("users")));
    }
}
