//! A whole image: its files, its partitions with their file systems, and the system volume.

use std::path::PathBuf;

use serde::Serialize;

use super::{DiskReport, Evaluation, Inspection, evaluation, inspect};
use crate::disk::fat::{FatMarks, fat_volumes};
use crate::disk::{BITLOCKER, DiskError, DiskImage, Partition, PartitionKind, partitions};
use crate::guest::registry_facts::RegistryFacts;
use crate::text::printable;

/// What an image holds.
#[derive(Debug, Serialize)]
pub struct ImageReport {
    /// The files of the backing chain, top first.
    pub layers: Vec<PathBuf>,
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// The partitions in their order on the disk.
    pub partitions: Vec<PartitionReport>,
    /// The Windows system volume; absent when there is none that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<DiskReport>,
    /// What its registry says about shutting down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryFacts>,
    /// Whether it is an evaluation Windows, and whether its time is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    /// Why there is no system volume to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_system: Option<String>,
}

/// A partition and what is on it.
#[derive(Debug, Serialize)]
pub struct PartitionReport {
    /// Number as Linux counts them; 0 for a disk without a table.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Size in bytes.
    pub length: u64,
    /// Its name in a GUID partition table, escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The file system.
    pub file_system: FileSystem,
}

/// A file system, as far as it concerns a shutdown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystem {
    /// NTFS.
    Ntfs,
    /// Encrypted by BitLocker (`-FVE-FS-`): nothing on it can be read from outside.
    BitLocker,
    /// FAT16 or FAT32, with its dirty marks.
    Fat(FatMarks),
    /// None of these.
    Other,
}

impl ImageReport {
    /// Reads an image; `now` is in seconds since 1970, for an evaluation's age.
    pub fn read(disk: &DiskImage, now: u64) -> Result<ImageReport, DiskError> {
        let mut report = ImageReport {
            layers: disk.layers().iter().map(|layer| layer.path.clone()).collect(),
            size: disk.size(),
            partitions: Vec::new(),
            system: None,
            registry: None,
            evaluation: None,
            no_system: None,
        };
        let fats = fat_volumes(disk)?;
        for partition in partitions(disk)? {
            report.partitions.push(PartitionReport::of(disk, &partition, &fats));
        }
        match inspect(disk, None) {
            Ok(Inspection { report: system, registry }) => {
                report.evaluation = registry.as_ref().map(|facts| evaluation(&system, facts, now));
                (report.system, report.registry) = (Some(system), registry);
            }
            Err(error) => report.no_system = Some(error.to_string()),
        }
        Ok(report)
    }

    /// Whether a partition is encrypted.
    pub fn has_bitlocker(&self) -> bool {
        self.partitions.iter().any(|p| matches!(p.file_system, FileSystem::BitLocker))
    }

    /// Whether something of a file system that matters was found.
    pub fn tells_something(&self) -> bool {
        self.system.is_some() || self.partitions.iter().any(|p| matches!(p.file_system, FileSystem::Fat(_)))
    }
}

impl PartitionReport {
    fn of(disk: &DiskImage, partition: &Partition, fats: &[(Partition, FatMarks)]) -> PartitionReport {
        let mut name = [0u8; 8];
        // An unreadable partition is of no known kind; the system volume's own error says more.
        let _unreadable = disk.read_exact_at(&mut name, partition.start.saturating_add(3));
        let fat = fats.iter().find(|(other, _)| other == partition).map(|(_, marks)| marks.clone());
        let file_system = match fat {
            Some(marks) => FileSystem::Fat(marks),
            None if name == BITLOCKER => FileSystem::BitLocker,
            None if &name == b"NTFS    " => FileSystem::Ntfs,
            None => FileSystem::Other,
        };
        PartitionReport {
            number: partition.number,
            start: partition.start,
            length: partition.length,
            name: match &partition.kind {
                PartitionKind::Gpt { name, .. } => Some(printable(name, 72)),
                PartitionKind::Mbr { .. } | PartitionKind::WholeDisk => None,
            },
            file_system,
        }
    }
}
