//! From the definition to a guest that is proven ready: from a saved state where there is one for it, else by
//! a cold boot.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use super::{Job, Stage, Start, Story, after};
use crate::inject::{self, HiveEdit};
use crate::machine::backend::Backend;
use crate::machine::command_line::{AtRestart, Memory};
use crate::machine::folder::RunFolder;
use crate::machine::{Machine, MachineConfig, overlay};
use crate::outcome::Outcome;
use crate::readiness::{NotReady, speaks_probe, until_ready as wait_until_ready};
use crate::record::schema::{StartMode, StartRecord};
use crate::scenario::RequestMoment;
use crate::timeline::{Seen, Source, Timeline};
use crate::warm::{self, WarmStates};

/// Boots of the reference guest that may die of an early kernel panic before the run is given up. About one
/// cold boot in thirty did with two processors under TCG (findings: an int3 race of the kernel's text
/// patching); it says nothing about the scenario.
const BOOT_ATTEMPTS: u32 = 3;

/// Name of the overlay in a machine's folder.
pub(super) const OVERLAY: &str = "system.qcow2";

/// Stands for the hardening among the injections.
const HARDENING: &str = "hardening";

/// What a boot tells while it goes on.
pub(super) struct Booting<'a> {
    pub(super) job: &'a Job,
    pub(super) dir: &'a Path,
    pub(super) timeline: &'a Timeline,
    pub(super) stage: &'a (dyn Fn(Stage) + Sync),
    pub(super) note: &'a (dyn Fn(String) + Sync),
}

/// Prepares overlays and boots until the guest is ready; an outcome in `story` means that it never was.
pub(super) async fn until_ready(
    booting: &Booting<'_>,
    story: &mut Story,
    booted: &mut Option<(Machine, RunFolder)>,
) -> anyhow::Result<()> {
    let Booting { job, timeline, note, .. } = *booting;
    if let Start::Warm(states) = &job.start
        && matches!(job.backend, Backend::Qemu)
        && job.hardening.is_empty()
        && warm::stays_cold(&job.scenario, &job.image, job.without_injection).is_none()
    {
        match warm_start(booting, states, story).await {
            Ok(machine) => {
                booted.replace(machine);
                return Ok(());
            }
            Err(why) => {
                let what = format!("boots cold: {why:#}");
                timeline.add(Source::Host, Seen::Note { what: what.clone() });
                note(what);
            }
        }
    }
    cold_boot(booting, story, booted).await
}

/// Begins where the machine of a saved state was ready.
async fn warm_start(
    booting: &Booting<'_>,
    states: &WarmStates,
    story: &mut Story,
) -> anyhow::Result<(Machine, RunFolder)> {
    let Booting { job, dir, timeline, stage, note } = *booting;
    stage(Stage::Preparing);
    let state = states.get(&job.image, job.accelerator, note).await.map_err(anyhow::Error::msg)?;
    let folder = RunFolder::create()?;
    stage(Stage::Starting);
    let began = Instant::now();
    let begin = warm::Begin {
        image: &job.image,
        accelerator: job.accelerator,
        overlay: &folder.path().join(OVERLAY),
        record_dir: dir,
        attach: job.keep,
    };
    let machine = match warm::start(&state, &begin, &folder, timeline).await {
        Ok(machine) => machine,
        Err(e) => {
            keep_logs(dir, "warm");
            states.discard(&job.image, job.accelerator, &format!("{e:#}")).await;
            return Err(e.context("the saved state cannot be started from"));
        }
    };
    story.registry = state.registry.clone();
    story.start = Some(StartRecord {
        mode: StartMode::Warm,
        ready_ms: u64::try_from(began.elapsed().as_millis()).ok(),
        state: Some(state.id.clone()),
    });
    timeline.add(Source::Host, Seen::Ready);
    Ok((machine, folder))
}

async fn cold_boot(
    booting: &Booting<'_>,
    story: &mut Story,
    booted: &mut Option<(Machine, RunFolder)>,
) -> anyhow::Result<()> {
    let Booting { job, dir, timeline, stage, .. } = *booting;
    for attempt in 1..=BOOT_ATTEMPTS {
        stage(Stage::Preparing);
        drop(booted.take());
        let folder = job.backend.folder()?;
        let overlay = folder.path().join(OVERLAY);
        overlay::of_image(&job.image, &overlay).await?;
        inject_all(job, &overlay, timeline).await?;
        story.registry = after::read_registry(folder.path()).await?;
        stage(Stage::Booting(attempt));
        story.boots = attempt;
        let config = MachineConfig {
            image: &job.image,
            overlay: &overlay,
            accelerator: job.accelerator,
            record_dir: dir,
            attach: job.keep,
            memory: Memory::Anonymous,
            spoken: Default::default(),
            backend: &job.backend,
            discs: &[],
            at_restart: AtRestart::GoesOn,
        };
        let first = timeline.len();
        let machine = Machine::prepare(config, &folder, timeline.clone()).await?;
        let (machine, _) = booted.insert((machine, folder));
        let began = Instant::now();
        machine.run().await?;
        let mut start = StartRecord { mode: StartMode::Cold, ready_ms: None, state: None };
        if job.scenario.request.at == RequestMoment::PowerOn {
            story.start = Some(start);
            return Ok(());
        }
        let limit = job.scaled(job.scenario.readiness.within.0);
        match wait_until_ready(&job.image, machine, timeline, first, limit).await {
            Ok(()) => {
                start.ready_ms = u64::try_from(began.elapsed().as_millis()).ok();
                story.start = Some(start);
                timeline.add(Source::Host, Seen::Ready);
                return Ok(());
            }
            Err(NotReady::Ended(Outcome::Crashed { evidence })) if attempt < BOOT_ATTEMPTS => {
                machine.clean_up().await;
                keep_logs(dir, &format!("boot{attempt}"));
                let what = format!("boot {attempt} died early ({evidence}); booting again");
                timeline.add(Source::Host, Seen::Note { what });
            }
            Err(NotReady::Ended(outcome)) => {
                story.not_asked = Some("the guest ended before it was asked".into());
                story.outcome = Some(outcome);
                return Ok(());
            }
            Err(NotReady::TimedOut(what)) => {
                // A reference guest that does not come up is our own fault or the host's; of a brought
                // image it says that it was not ready, and nothing of its shutdown.
                if speaks_probe(job.image.manifest.family) {
                    anyhow::bail!(what);
                }
                story.not_asked = Some(what);
                story.outcome = Some(Outcome::StillRunning);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Keeps the logs of a boot that died under names of their own; its pictures stand before the next boot's.
fn keep_logs(dir: &Path, which: &str) {
    for name in ["serial", "qemu"] {
        let _kept = std::fs::rename(dir.join(format!("{name}.log")), dir.join(format!("{name}-{which}.log")));
    }
}

/// Puts the conditions into the overlay, and over them what hardens the image. Each is read back after it was written.
async fn inject_all(job: &Job, overlay: &Path, timeline: &Timeline) -> anyhow::Result<()> {
    if !job.without_injection {
        for condition in &job.scenario.conditions {
            let edits = condition.offline(job.image.manifest.family);
            inject_one(job, &condition.id(), edits, overlay, timeline).await?;
        }
    }
    if !job.hardening.is_empty() {
        inject_one(job, HARDENING, job.hardening.to_vec(), overlay, timeline).await?;
    }
    Ok(())
}

async fn inject_one(
    job: &Job,
    id: &str,
    edits: Vec<HiveEdit>,
    overlay: &Path,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let what = edits.iter().map(|e| format!("{}\\{} {} = {:?}", e.hive.path(), e.key, e.name, e.value));
    let what = what.collect::<Vec<_>>().join("; ");
    let path = overlay.to_owned();
    let read_only = job.image.disk_paths();
    tokio::task::spawn_blocking(move || inject::apply(&path, &read_only, &edits))
        .await
        .context("the injection was interrupted")?
        .with_context(|| format!("condition {id} could not be put into the overlay"))?;
    timeline.add(Source::Host, Seen::Injected { condition: id.to_owned(), what });
    Ok(())
}
