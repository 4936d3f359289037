//! Reading a stopped machine's disk: partitions, the NTFS system volume, registry hives.
//!
//! Read-only, without root and without mounting. Everything on the disk was written by a guest and may be
//! damaged or hostile; see [`DiskError`].
//!
//! ```no_run
//! use softoff_harness::disk::{DiskImage, Hive, read_value, system_volume};
//! # fn main() -> Result<(), softoff_harness::disk::DiskError> {
//! let disk = DiskImage::open("overlay.qcow2".as_ref())?;
//! let volume = system_volume(&disk)?;
//! println!("volume flags {}", volume.flags()?);
//! let timeout = read_value(&volume, &Hive::System, r"CurrentControlSet\Control", "WaitToKillServiceTimeout")?;
//! # Ok(()) }
//! ```

mod cells;
mod error;
pub mod event_log;
pub mod fat;
mod file_bytes;
mod hive;
mod hive_log;
mod image;
pub mod lock;
mod log_file;
mod marks;
mod partition;
pub mod registry;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod value;
mod view;
mod volume;

pub use error::DiskError;
pub use hive::{HiveCondition, HiveState, hive_condition};
pub(crate) use image::WritableOverlay;
pub use image::{DiskImage, ImageFormat, Layer, backing_file};
pub use log_file::JournalState;
pub use marks::{Entry, HibernationFile, VolumeFlags};
pub use partition::{Partition, PartitionKind, partitions};
pub use registry::{Hive, RegistryValue, read_value};
pub use view::View;
pub use volume::Volume;

/// First bytes of a BitLocker volume, in the place where NTFS has its name.
pub(crate) const BITLOCKER: [u8; 8] = *b"-FVE-FS-";

/// The volume that holds `\Windows\System32\config\SYSTEM`.
///
/// Partitions are tried in their order on the disk; the first match is taken.
pub fn system_volume(disk: &DiskImage) -> Result<Volume, DiskError> {
    let mut candidates = Vec::new();
    for partition in partitions(disk)? {
        let mut name = [0u8; 8];
        let name = disk.read_exact_at(&mut name, partition.start.saturating_add(3)).map(|()| name);
        let why = match name {
            Err(error) => format!("unreadable: {error}"),
            Ok(name) if name == BITLOCKER => {
                "encrypted by BitLocker; next: in the guest, `manage-bde -off C:`".to_owned()
            }
            Ok(name) if &name != b"NTFS    " => "no NTFS".to_owned(),
            Ok(_) => match system_at(disk, &partition) {
                Ok(volume) => return Ok(volume),
                Err(error) => error.to_string(),
            },
        };
        candidates.push(format!("partition {} at byte {}: {why}", partition.number, partition.start));
    }
    Err(DiskError::NoSystemVolume { path: disk.path().to_owned(), candidates })
}

fn system_at(disk: &DiskImage, partition: &Partition) -> Result<Volume, DiskError> {
    let volume = Volume::open(disk, partition.start, partition.length)?;
    volume.file_size(&Hive::System.path())?;
    Ok(volume)
}
