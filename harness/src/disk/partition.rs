//! Partition tables: GPT, MBR, or none.

use std::io::{Seek, SeekFrom};

use gptman::GPTHeader;

use super::error::{DiskError, guarded};
use super::fat::is_fat;
use super::image::DiskImage;

/// Sector sizes that disks have.
const SECTOR_SIZES: [u64; 2] = [512, 4096];
/// Windows makes 128 entries; a table may ask for up to 2^32, and the memory for them.
const MAX_GPT_ENTRIES: u32 = 1024;
/// A chain of logical partitions is a linked list on the disk: this ends a circle.
const MAX_LOGICAL: usize = 64;
const MBR_SIGNATURE_AT: usize = 510;
const MBR_TABLE_AT: usize = 446;
const MBR_ENTRY: usize = 16;
const MBR_PROTECTIVE: u8 = 0xee;
const MBR_EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// What the table says a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionKind {
    /// An entry of a GUID partition table.
    Gpt {
        /// Type GUID, as it stands on the disk (mixed-endian).
        type_guid: [u8; 16],
        /// Name, such as `Basic data partition`.
        name: String,
    },
    /// An entry of a master boot record, primary or logical.
    Mbr {
        /// Type byte; 0x07 is NTFS, and what Windows gives to it.
        kind: u8,
    },
    /// No table: a file system fills the disk.
    WholeDisk,
}

/// A byte range of the disk that the partition table names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number as Linux counts them, from 1; 0 for a disk without a table.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Size in bytes; the range lies within the disk.
    pub length: u64,
    /// What the table says it is.
    pub kind: PartitionKind,
}

/// Reads the partition table of a disk.
///
/// A disk without any table that begins with an NTFS or FAT boot sector is one [`PartitionKind::WholeDisk`]; an
/// empty disk gives an empty list.
pub fn partitions(disk: &DiskImage) -> Result<Vec<Partition>, DiskError> {
    let damaged = |why: String| DiskError::PartitionTable { path: disk.path().to_owned(), why };
    let Some(sector) = sector(disk, 0).map_err(|e| damaged(e.to_string()))? else {
        return Ok(Vec::new());
    };
    // The boot sector of a file system carries the 55 AA of a boot record too, so it is asked for first.
    if sector.get(3..11) == Some(b"NTFS    ") || is_fat(&sector) {
        return Ok(vec![Partition {
            number: 0,
            start: 0,
            length: disk.size(),
            kind: PartitionKind::WholeDisk,
        }]);
    }
    if sector.get(MBR_SIGNATURE_AT..) != Some(&[0x55, 0xaa]) {
        return Ok(Vec::new());
    }
    let primary = mbr_entries(&sector);
    if primary.iter().any(|entry| entry.kind == MBR_PROTECTIVE) {
        return gpt(disk).map_err(damaged);
    }
    mbr(disk, &primary).map_err(damaged)
}

fn sector(disk: &DiskImage, offset: u64) -> std::io::Result<Option<[u8; 512]>> {
    if offset.checked_add(512).is_none_or(|end| end > disk.size()) {
        return Ok(None);
    }
    let mut sector = [0u8; 512];
    disk.read_exact_at(&mut sector, offset)?;
    Ok(Some(sector))
}

struct MbrEntry {
    kind: u8,
    first: u64,
    sectors: u64,
}

/// The four entries of a boot record, unused ones included, so that an index is a partition number.
fn mbr_entries(sector: &[u8; 512]) -> Vec<MbrEntry> {
    let table = sector.get(MBR_TABLE_AT..MBR_SIGNATURE_AT).unwrap_or_default();
    let u32_at = |entry: &[u8], at: usize| {
        entry.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, |b| u64::from(u32::from_le_bytes(b)))
    };
    let entries = table.chunks_exact(MBR_ENTRY);
    entries
        .map(|e| MbrEntry {
            kind: e.get(4).copied().unwrap_or(0),
            first: u32_at(e, 8),
            sectors: u32_at(e, 12),
        })
        .collect()
}

fn mbr(disk: &DiskImage, primary: &[MbrEntry]) -> Result<Vec<Partition>, String> {
    let mut found = Vec::new();
    let mut add = |number: u32, first: u64, entry: &MbrEntry| {
        let kind = PartitionKind::Mbr { kind: entry.kind };
        found.extend(within(
            disk,
            number,
            first.saturating_mul(512),
            entry.sectors.saturating_mul(512),
            kind,
        ));
    };
    let mut extended = None;
    for (number, entry) in (1u32..).zip(primary) {
        if MBR_EXTENDED.contains(&entry.kind) {
            extended = Some(entry.first);
        } else if entry.kind != 0 {
            add(number, entry.first, entry);
        }
    }
    let Some(base) = extended else { return Ok(found) };
    let mut at = base;
    for number in (5u32..).take(MAX_LOGICAL) {
        let table = sector(disk, at.saturating_mul(512)).map_err(|e| e.to_string())?;
        let Some(table) = table.filter(|t| t.get(MBR_SIGNATURE_AT..) == Some(&[0x55, 0xaa])) else {
            return Err(format!("the extended boot record at sector {at} is missing"));
        };
        let entries = mbr_entries(&table);
        if let Some(entry) = entries.first().filter(|entry| entry.kind != 0) {
            add(number, at.saturating_add(entry.first), entry);
        }
        match entries.get(1).filter(|next| MBR_EXTENDED.contains(&next.kind)) {
            Some(next) => at = base.saturating_add(next.first),
            None => return Ok(found),
        }
    }
    Err(format!("more than {MAX_LOGICAL} logical partitions: the chain is a circle"))
}

fn gpt(disk: &DiskImage) -> Result<Vec<Partition>, String> {
    let mut why = Vec::new();
    for sector_size in SECTOR_SIZES {
        let last = (disk.size() / sector_size).saturating_sub(1);
        for (name, lba) in [("primary", 1), ("backup", last)] {
            match guarded(|| gpt_at(disk, sector_size, lba)).and_then(|read| read) {
                Ok(found) => return Ok(found),
                Err(reason) => why.push(format!("{name} GPT for {sector_size}-byte sectors: {reason}")),
            }
        }
    }
    Err(why.join("; "))
}

fn gpt_at(disk: &DiskImage, sector_size: u64, lba: u64) -> Result<Vec<Partition>, String> {
    let mut view = disk.view(0, disk.size());
    view.seek(SeekFrom::Start(lba * sector_size)).map_err(|e| e.to_string())?;
    let header = GPTHeader::read_from(&mut view).map_err(|e| e.to_string())?;
    // gptman allocates by these numbers and multiplies them unchecked.
    let sane = header.number_of_partition_entries <= MAX_GPT_ENTRIES
        && (128..=4096).contains(&header.size_of_partition_entry)
        && header.partition_entry_lba < disk.size() / sector_size;
    if !sane {
        return Err(format!(
            "{} entries of {} bytes at sector {} cannot be",
            header.number_of_partition_entries, header.size_of_partition_entry, header.partition_entry_lba
        ));
    }
    let entries = header.read_partitions(&mut view, sector_size).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    for (number, entry) in (1u32..).zip(&entries).filter(|(_, entry)| entry.is_used()) {
        let sectors = entry.ending_lba.checked_sub(entry.starting_lba).and_then(|n| n.checked_add(1));
        let sectors = sectors.ok_or_else(|| format!("partition {number} ends before it begins"))?;
        let (start, length) =
            (entry.starting_lba.saturating_mul(sector_size), sectors.saturating_mul(sector_size));
        let name = entry.partition_name.as_str().to_owned();
        found.extend(within(
            disk,
            number,
            start,
            length,
            PartitionKind::Gpt { type_guid: entry.partition_type_guid, name },
        ));
    }
    Ok(found)
}

/// The partition cut to the disk: tables of truncated images reach past the end. None if nothing is left.
fn within(disk: &DiskImage, number: u32, start: u64, length: u64, kind: PartitionKind) -> Option<Partition> {
    let length = length.min(disk.size().saturating_sub(start));
    (length > 0).then_some(Partition { number, start, length, kind })
}
