//! FAT32 and FAT16 volumes: their dirty marks. What early systems, and ReactOS, are installed on.
//!
//! "Microsoft Extensible Firmware Initiative FAT32 File System Specification" 1.03 defines two high bits of the
//! second FAT entry (clean shutdown, no disk errors). The boot sector's byte 65 (37 on FAT16), reserved there,
//! is what NT marks a mounted volume by (Linux' `fs/fat` calls it `FAT_STATE_DIRTY`); ReactOS leaves 00 after
//! the button and 01 after a pulled plug (measured, two of two each).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::DiskError;
use super::image::DiskImage;
use super::partition::{Partition, partitions};

/// Fewer clusters than this make a FAT12 volume, fewer than [`FAT16_CLUSTERS`] a FAT16 one: the specification's
/// only way to tell them apart.
const FAT12_CLUSTERS: u64 = 4085;
const FAT16_CLUSTERS: u64 = 65_525;
/// Bit 0 of the boot sector's state byte.
const STATE_DIRTY: u8 = 0x01;

/// How wide the entries of the table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FatKind {
    /// 16 bits.
    Fat16,
    /// 28 bits of 32.
    Fat32,
}

/// The dirty marks of a FAT volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FatMarks {
    /// Which kind of FAT.
    pub kind: FatKind,
    /// The boot sector's state byte is set: the volume was mounted when its writer went.
    pub boot_sector_dirty: bool,
    /// The clean-shutdown bit of the second entry is clear.
    pub table_dirty: bool,
    /// The no-errors bit of the second entry is clear: the driver met an error of the disk.
    pub disk_errors: bool,
}

impl FatMarks {
    /// Whether one of the marks says that the volume was not dismounted.
    pub fn is_dirty(&self) -> bool {
        self.boot_sector_dirty || self.table_dirty
    }

    /// Judges a boot sector and the start of the table; `table` reads eight bytes at a byte offset of the
    /// volume. `None` when this is no FAT16 or FAT32.
    fn parse(
        boot: &[u8; 512],
        table: impl FnOnce(u64) -> Result<[u8; 8], DiskError>,
    ) -> Result<Option<FatMarks>, DiskError> {
        let Some(layout) = Layout::parse(boot) else { return Ok(None) };
        let entries = table(layout.table_at)?;
        let [a, b, c, d, e, f, g, h] = entries;
        let (state_at, first, second, clean, no_errors) = match layout.kind {
            FatKind::Fat16 => (37, u32::from(a), u32::from(u16::from_le_bytes([c, d])), 1 << 15, 1 << 14),
            FatKind::Fat32 => {
                (65, u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]), 1 << 27, 1 << 26)
            }
        };
        // The first entry repeats the media byte; without it these bytes are no table.
        if first & 0xff != u32::from(layout.media) {
            return Ok(None);
        }
        Ok(Some(FatMarks {
            kind: layout.kind,
            boot_sector_dirty: boot.get(state_at).is_some_and(|state| state & STATE_DIRTY != 0),
            table_dirty: second & clean == 0,
            disk_errors: second & no_errors == 0,
        }))
    }
}

/// Whether this is the boot sector of a FAT16 or FAT32 volume.
pub(super) fn is_fat(sector: &[u8; 512]) -> bool {
    Layout::parse(sector).is_some()
}

/// What the boot sector says of where things are.
struct Layout {
    kind: FatKind,
    media: u8,
    /// First byte of the first table.
    table_at: u64,
}

impl Layout {
    fn parse(boot: &[u8; 512]) -> Option<Layout> {
        let u16_at = |at: usize| Some(u64::from(u16::from_le_bytes(boot.get(at..at + 2)?.try_into().ok()?)));
        let u32_at = |at: usize| Some(u64::from(u32::from_le_bytes(boot.get(at..at + 4)?.try_into().ok()?)));
        let byte = |at: usize| boot.get(at).copied();
        if boot.get(510..) != Some(&[0x55, 0xaa]) || !matches!(byte(0)?, 0xeb | 0xe9) {
            return None;
        }
        let (sector, cluster, reserved) = (u16_at(11)?, u64::from(byte(13)?), u16_at(14)?);
        let (tables, roots, media) = (u64::from(byte(16)?), u16_at(17)?, byte(21)?);
        let either = |small: u64, large: u64| if small == 0 { large } else { small };
        let (total, table) = (either(u16_at(19)?, u32_at(32)?), either(u16_at(22)?, u32_at(36)?));
        let sane = matches!(sector, 512 | 1024 | 2048 | 4096)
            && cluster.is_power_of_two()
            && matches!(tables, 1 | 2)
            && reserved > 0
            && table > 0
            && media >= 0xf0;
        if !sane {
            return None;
        }
        let meta = reserved + tables * table + (roots * 32).div_ceil(sector);
        let clusters = total.checked_sub(meta)? / cluster;
        let kind = match clusters {
            ..FAT12_CLUSTERS => return None,
            FAT12_CLUSTERS..FAT16_CLUSTERS => FatKind::Fat16,
            FAT16_CLUSTERS.. => FatKind::Fat32,
        };
        // A FAT32 volume has no 16-bit table size; one that is small enough for FAT16 is told by that.
        let kind = if u16_at(22)? == 0 { FatKind::Fat32 } else { kind };
        Some(Layout { kind, media, table_at: reserved * sector })
    }
}

/// The FAT volumes of a disk with their marks, by partition; a disk without partitions is tried as a whole.
pub fn fat_volumes(disk: &DiskImage) -> Result<Vec<(Partition, FatMarks)>, DiskError> {
    let mut found = Vec::new();
    for partition in partitions(disk)? {
        let read = |at: u64, bytes: &mut [u8]| {
            let at = partition.start.saturating_add(at);
            let end = at.saturating_add(bytes.len() as u64);
            if end > partition.start.saturating_add(partition.length) {
                bytes.fill(0);
                return Ok(());
            }
            disk.read_exact_at(bytes, at)
                .map_err(|source| DiskError::Image { path: disk.path().to_owned(), source })
        };
        let mut boot = [0u8; 512];
        read(0, &mut boot)?;
        let table = |at: u64| {
            let mut entries = [0u8; 8];
            read(at, &mut entries).map(|()| entries)
        };
        if let Some(marks) = FatMarks::parse(&boot, table)? {
            found.push((partition.clone(), marks));
        }
    }
    Ok(found)
}

/// Judges a FAT volume's bytes; for tests and fuzzing.
pub fn fat_marks(volume: &[u8]) -> Option<FatMarks> {
    let boot: &[u8; 512] = volume.first_chunk()?;
    let table = |at: u64| {
        let from = usize::try_from(at).ok().and_then(|at| volume.get(at..));
        Ok(from.and_then(|rest| rest.first_chunk::<8>()).copied().unwrap_or_default())
    };
    FatMarks::parse(boot, table).ok().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::disk::testing::{patch, run, scratch};

    /// A FAT volume by mkfs.fat.
    fn volume(dir: &std::path::Path, bits: &str, mib: u64) -> std::path::PathBuf {
        let path = dir.join("fat.raw");
        std::fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
        run("mkfs.fat", "dosfstools", &["-F", bits, path.to_str().unwrap()]);
        path
    }

    #[rstest]
    #[case::fat16("16", 16, FatKind::Fat16, 37)]
    #[case::fat32("32", 40, FatKind::Fat32, 65)]
    fn the_marks_of_a_real_volume(
        #[case] bits: &str,
        #[case] mib: u64,
        #[case] kind: FatKind,
        #[case] state_at: u64,
    ) {
        let dir = scratch();
        let path = volume(dir.path(), bits, mib);
        let marks = || {
            let disk = DiskImage::open(&path).unwrap();
            let mut found = fat_volumes(&disk).unwrap();
            assert_eq!(found.len(), 1);
            found.remove(0).1
        };
        let fresh = marks();
        assert_eq!((fresh.kind, fresh.is_dirty(), fresh.disk_errors), (kind, false, false), "{fresh:?}");
        patch(&path, state_at, &[1]);
        assert_eq!((marks().boot_sector_dirty, marks().table_dirty), (true, false));
        // The second entry, all bits clear.
        let reserved = std::fs::read(&path).map(|b| u64::from(u16::from_le_bytes([b[14], b[15]]))).unwrap();
        let (entry, width) = if kind == FatKind::Fat16 { (2, 2) } else { (4, 4) };
        patch(&path, reserved * 512 + entry, &vec![0; width]);
        assert!(marks().table_dirty && marks().disk_errors);
    }

    #[test]
    fn other_boot_sectors_are_no_fat() {
        assert_eq!(fat_marks(&[0; 1024]), None);
        let mut ntfs = vec![0u8; 1024];
        ntfs[..11].copy_from_slice(b"\xeb\x52\x90NTFS    ");
        ntfs[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(fat_marks(&ntfs), None);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 512..2048)) {
            bytes[0] = 0xeb;
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
            let _whatever_comes = fat_marks(&bytes);
        }
    }
}
