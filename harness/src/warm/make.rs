//! Making a state: one cold boot to readiness with memory in a file, then QEMU writes the rest.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::key::StateKey;
use super::saved::{DEVICES, DISK, MANIFEST, MEMORY, Spoken, StateManifest, content_hash};
use crate::disk;
use crate::guest::registry_facts::RegistryFacts;
use crate::image::Image;
use crate::machine::accel::Accelerator;
use crate::machine::backend::Backend;
use crate::machine::command_line::{AtRestart, Memory};
use crate::machine::folder::RunFolder;
use crate::machine::{Machine, MachineConfig, migration, overlay};
use crate::outcome::Outcome;
use crate::readiness::{NotReady, until_ready};
use crate::timeline::{Seen, Timeline, Written};

/// Name prefix of a state that is being made.
pub(super) const PREFIX: &str = ".making-";

/// How long the boot may take: as the scenarios' definitions allow under TCG on busy cores.
const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// Boots that may die of an early kernel panic, as in a run.
const ATTEMPTS: u32 = 3;

/// Makes the state of an image's machine in `dir`, under a name of its own until it is whole.
pub(super) async fn make(
    image: &Image,
    accelerator: Accelerator,
    key: &StateKey,
    dir: &Path,
    place: &Path,
) -> anyhow::Result<()> {
    for attempt in 1..=ATTEMPTS {
        let work = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(dir)
            .with_context(|| format!("cannot write to {}", dir.display()))?;
        match boot_and_save(image, accelerator, key, work.path()).await? {
            None => {
                let _older = std::fs::remove_dir_all(place);
                std::fs::rename(work.path(), place)
                    .with_context(|| format!("cannot place the state in {}", place.display()))?;
                // It has another name now, and stays.
                let _moved = work.keep();
                return Ok(());
            }
            Some(Outcome::Crashed { .. }) if attempt < ATTEMPTS => {}
            Some(outcome) => bail!("the guest ended before it was ready: {}", outcome.kind()),
        }
    }
    bail!("the guest crashed in each of {ATTEMPTS} boots")
}

/// `Some` when the guest ended instead of becoming ready.
async fn boot_and_save(
    image: &Image,
    accelerator: Accelerator,
    key: &StateKey,
    work: &Path,
) -> anyhow::Result<Option<Outcome>> {
    let base = image.file(&image.manifest.system_disk);
    let (overlay, memory) = (work.join(DISK), work.join(MEMORY));
    overlay::of_image(image, &overlay).await?;
    let folder = RunFolder::create()?;
    let timeline = Timeline::start();
    // Logs and pictures go with the folder: only the state is kept.
    let config = MachineConfig {
        image,
        overlay: &overlay,
        accelerator,
        record_dir: folder.path(),
        attach: false,
        memory: Memory::Shared(&memory),
        spoken: Default::default(),
        backend: &Backend::Qemu,
        discs: &[],
        at_restart: AtRestart::GoesOn,
    };
    let mut machine = Machine::prepare(config, &folder, timeline.clone()).await?;
    let began = Instant::now();
    machine.run().await?;
    let ready = until_ready(image, &machine, &timeline, 0, BOOT_LIMIT).await;
    let boot_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let saved = match ready {
        Ok(()) => save(&machine, &folder, work).await,
        Err(NotReady::TimedOut(what)) => Err(anyhow::anyhow!(what)),
        Err(NotReady::Ended(outcome)) => {
            machine.clean_up().await;
            return Ok(Some(outcome));
        }
    };
    machine.clean_up().await;
    let screen = saved?;
    let work = work.to_owned();
    let facts = key.facts.clone();
    let (spoken, documents) = (spoken(&timeline), Written::from_timeline(&timeline.snapshot()));
    tokio::task::spawn_blocking(move || {
        let registry = disk::DiskImage::open(&overlay).and_then(|image| {
            let volume = disk::system_volume(&image)?;
            RegistryFacts::read(&volume)
        });
        let hashed = |name: &str| Ok((name.to_owned(), content_hash(&work.join(name))?));
        let files = [MEMORY, DEVICES, DISK].into_iter().map(hashed).collect::<anyhow::Result<_>>()?;
        let manifest =
            StateManifest { facts, base, boot_ms, files, screen, spoken, documents, registry: registry.ok() };
        let path = work.join(MANIFEST);
        std::fs::write(&path, serde_json::to_vec_pretty(&manifest)?)
            .with_context(|| format!("cannot write {}", path.display()))
    })
    .await??;
    Ok(None)
}

async fn save(machine: &Machine, folder: &RunFolder, work: &Path) -> anyhow::Result<crate::image::Sha256Hex> {
    migration::save(&machine.qmp, folder.path(), &work.join(DEVICES)).await?;
    let screen = machine.screen().glance().await.context("QEMU gave no picture of the screen")?;
    Ok(screen.hash())
}

/// The last number of each program that has spoken on COM1.
fn spoken(timeline: &Timeline) -> Vec<Spoken> {
    let mut last: std::collections::BTreeMap<(String, u32), u64> = Default::default();
    for observation in timeline.snapshot() {
        if let Seen::Probe(line) = observation.what {
            last.insert((line.src, line.pid), line.seq);
        }
    }
    last.into_iter().map(|((src, pid), seq)| Spoken { src, pid, seq }).collect()
}
