//! What the disk tells: before the boot, and after the end.

use std::path::Path;

use super::boot::OVERLAY;
use crate::disk::{DiskImage, VolumeFlags, system_volume};
use crate::guest::registry_facts::RegistryFacts;
use crate::inspect::{Inspection, Written, inspect};
use crate::record::schema::Damage;

/// What a stopped machine's disk says.
#[derive(Debug, Default)]
pub(super) struct DiskFindings {
    pub(super) damage: Damage,
    pub(super) registry: Option<RegistryFacts>,
}

/// Reads the overlay. QEMU must have gone. `written` is what the guest said of its documents.
pub(super) async fn read_disk(folder: &Path, written: Option<Written>) -> DiskFindings {
    let overlay = folder.join(OVERLAY);
    let read = tokio::task::spawn_blocking(move || inspect(&DiskImage::open(&overlay)?, written));
    let trouble =
        |e: String| DiskFindings { damage: Damage { trouble: Some(e), ..Damage::default() }, registry: None };
    match read.await {
        Ok(Ok(Inspection { report, registry })) => {
            let damage = Damage {
                volume_dirty: report.volume_dirty(),
                volume_flags: report.volume_flags.map(|word| VolumeFlags(word).to_string()),
                trouble: (!report.troubles.is_empty()).then(|| report.troubles.join("; ")),
                disk: Some(report),
            };
            DiskFindings { damage, registry }
        }
        Ok(Err(e)) => trouble(e.to_string()),
        Err(e) => trouble(e.to_string()),
    }
}

/// What the registry says before the boot; `None` when it cannot be read.
pub(super) async fn read_registry(folder: &Path) -> Option<RegistryFacts> {
    let overlay = folder.join(OVERLAY);
    let read = move || RegistryFacts::read(&system_volume(&DiskImage::open(&overlay)?)?);
    tokio::task::spawn_blocking(read).await.ok()?.ok()
}
