//! After the end: what the disk and the kept pictures tell.

use std::path::Path;

use super::boot::OVERLAY;
use crate::disk::{self, DiskError, VolumeFlags};
use crate::evidence::Evidence;
use crate::guest::registry_facts::RegistryFacts;
use crate::machine::ocr;
use crate::record::schema::Damage;
use crate::timeline::{Observation, Seen};

/// Pictures read after a request; a film of update percentages has dozens alike.
const READ_LIMIT: usize = 12;

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

/// Reads the last picture before the first request and those after it, where tesseract is installed.
pub(super) async fn read_screens(dir: &Path, observations: &[Observation], evidence: &mut Evidence) {
    evidence.can_read_screens = ocr::available();
    if !evidence.can_read_screens {
        return;
    }
    let requested = observations.iter().position(|o| matches!(o.what, Seen::Requested { .. }));
    let (before, after) = observations.split_at(requested.unwrap_or(observations.len()));
    let picture = |o: &Observation| match &o.what {
        Seen::ScreenChanged { file, .. } => Some(dir.join(file)),
        _ => None,
    };
    if let Some(last) = before.iter().rev().find_map(picture) {
        evidence.screen_before = ocr::read(&last).await;
    }
    let pictures: Vec<_> = after.iter().filter_map(picture).collect();
    let step = pictures.len().div_ceil(READ_LIMIT).max(1);
    let last = pictures.len().saturating_sub(1);
    for (number, file) in pictures.iter().enumerate() {
        if number % step == 0 || number == last {
            evidence.screens_after.extend(ocr::read(file).await);
        }
    }
}
