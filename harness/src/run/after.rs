//! What the disk tells: before the boot, and after the end.

use std::path::Path;

use super::boot::OVERLAY;
use crate::disk::{self, DiskError, VolumeFlags};
use crate::guest::registry_facts::RegistryFacts;
use crate::record::schema::Damage;

/// What a stopped machine's disk says.
#[derive(Debug, Default)]
pub(super) struct DiskFindings {
    pub(super) damage: Damage,
    pub(super) registry: Option<RegistryFacts>,
}

/// Reads the overlay. QEMU must have gone.
pub(super) async fn read_disk(folder: &Path) -> DiskFindings {
    let overlay = folder.join(OVERLAY);
    let read = tokio::task::spawn_blocking(move || -> Result<(VolumeFlags, _), DiskError> {
        let volume = disk::system_volume(&disk::DiskImage::open(&overlay)?)?;
        Ok((volume.flags()?, RegistryFacts::read(&volume)))
    });
    let trouble =
        |e: String| DiskFindings { damage: Damage { trouble: Some(e), ..Damage::default() }, registry: None };
    match read.await {
        Ok(Ok((flags, registry))) => {
            let trouble = registry.as_ref().err().map(ToString::to_string);
            let damage = Damage {
                volume_dirty: Some(flags.is_dirty()),
                volume_flags: Some(flags.to_string()),
                trouble,
            };
            DiskFindings { damage, registry: registry.ok() }
        }
        Ok(Err(e)) => trouble(e.to_string()),
        Err(e) => trouble(e.to_string()),
    }
}

/// What the registry says before the boot; `None` when it cannot be read.
pub(super) async fn read_registry(folder: &Path) -> Option<RegistryFacts> {
    read_disk(folder).await.registry
}
