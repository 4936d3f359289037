//! How Setup divides the system disk.

use super::xml::{Node, group, item, value};
use crate::catalog::FirmwareKind;

/// A partition to make.
struct Partition {
    kind: &'static str,
    /// MiB; what is left of the disk when absent.
    mib: Option<u32>,
    /// File system and label; none for the Microsoft reserved partition.
    format: Option<(&'static str, &'static str)>,
    active: bool,
    letter: Option<char>,
}

/// GPT: EFI system partition, Microsoft reserved, Windows. MBR: an active system partition, Windows. Sizes are those of
/// Microsoft's own samples, with 260 MiB for the EFI partition (what disks with 4 KiB sectors need). No recovery
/// partition: a machine that repairs itself is a machine whose boot says nothing.
fn layout(firmware: FirmwareKind) -> Vec<Partition> {
    let windows = |kind| Partition {
        kind,
        mib: None,
        format: Some(("NTFS", "Windows")),
        active: false,
        letter: Some('C'),
    };
    match firmware {
        FirmwareKind::Uefi => vec![
            Partition {
                kind: "EFI",
                mib: Some(260),
                format: Some(("FAT32", "System")),
                active: false,
                letter: None,
            },
            Partition { kind: "MSR", mib: Some(16), format: None, active: false, letter: None },
            windows("Primary"),
        ],
        FirmwareKind::Bios => vec![
            Partition {
                kind: "Primary",
                mib: Some(500),
                format: Some(("NTFS", "System")),
                active: true,
                letter: None,
            },
            windows("Primary"),
        ],
    }
}

/// The number of the partition that Windows goes to, from 1.
pub(super) fn windows_partition(firmware: FirmwareKind) -> usize {
    layout(firmware).len()
}

/// DiskConfiguration for disk 0: the only one, for discs are none.
pub(super) fn configuration(firmware: FirmwareKind) -> Node {
    let (mut create, mut modify) = (Vec::new(), Vec::new());
    for (number, partition) in (1..).zip(layout(firmware)) {
        let size = match partition.mib {
            Some(mib) => value("Size", mib),
            None => value("Extend", true),
        };
        create
            .push(item("CreatePartition", vec![value("Order", number), value("Type", partition.kind), size]));
        let mut how = vec![value("Order", number), value("PartitionID", number)];
        if partition.active {
            how.push(value("Active", true));
        }
        if let Some((format, label)) = partition.format {
            how.extend([value("Format", format), value("Label", label)]);
        }
        if let Some(letter) = partition.letter {
            how.push(value("Letter", letter));
        }
        modify.push(item("ModifyPartition", how));
    }
    let disk = vec![
        value("DiskID", 0),
        value("WillWipeDisk", true),
        group("CreatePartitions", create),
        group("ModifyPartitions", modify),
    ];
    group("DiskConfiguration", vec![value("WillShowUI", "OnError"), item("Disk", disk)])
}
