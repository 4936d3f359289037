//! From the definition to a guest that is proven ready.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use softoff_guest_protocol::probe::ProbeEvent;

use super::{Job, Stage, Story, after, speaks_probe, until_settled};
use crate::inject;
use crate::machine::folder::RunFolder;
use crate::machine::{Machine, MachineConfig, overlay};
use crate::outcome::Outcome;
use crate::scenario::RequestMoment;
use crate::timeline::{Seen, Source, Timeline};

/// Boots of the reference guest that may die of an early kernel panic before the run is given up. About one
/// cold boot in thirty did with two processors under TCG (findings: an int3 race of the kernel's text
/// patching); it says nothing about the scenario.
const BOOT_ATTEMPTS: u32 = 3;

/// Name of the overlay in a machine's folder.
pub(super) const OVERLAY: &str = "system.qcow2";

/// Prepares overlays and boots until the guest is ready; an outcome in `story` means that it never was.
pub(super) async fn until_ready(
    job: &Job,
    dir: &Path,
    timeline: &Timeline,
    stage: &(dyn Fn(Stage) + Sync),
    story: &mut Story,
    booted: &mut Option<(Machine, RunFolder)>,
) -> anyhow::Result<()> {
    for attempt in 1..=BOOT_ATTEMPTS {
        stage(Stage::Preparing);
        drop(booted.take());
        let folder = RunFolder::create()?;
        let overlay = folder.path().join(OVERLAY);
        overlay::create(&job.image.file(&job.image.manifest.system_disk), &overlay).await?;
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
        };
        let first = timeline.len();
        let machine = Machine::start(&config, &folder, timeline.clone()).await?;
        let began = Instant::now();
        let (machine, _) = booted.insert((machine, folder));
        if job.scenario.request.at == RequestMoment::PowerOn {
            return Ok(());
        }
        let limit = job.scaled(job.scenario.readiness.within.0);
        match wait_until_ready(job, machine, timeline, first, limit).await {
            Ok(()) => {
                story.boot_time = Some(began.elapsed());
                timeline.add(Source::Host, Seen::Ready);
                return Ok(());
            }
            Err(NotReady::Ended(Outcome::Crashed { evidence })) if attempt < BOOT_ATTEMPTS => {
                machine.clean_up().await;
                keep_logs(dir, attempt);
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
fn keep_logs(dir: &Path, attempt: u32) {
    for name in ["serial", "qemu"] {
        let _kept =
            std::fs::rename(dir.join(format!("{name}.log")), dir.join(format!("{name}-boot{attempt}.log")));
    }
}

async fn inject_all(job: &Job, overlay: &Path, timeline: &Timeline) -> anyhow::Result<()> {
    if job.without_injection {
        return Ok(());
    }
    for condition in &job.scenario.conditions {
        let edits = condition.offline(job.image.manifest.family);
        let what = edits.iter().map(|e| format!("{}\\{} {} = {:?}", e.hive.path(), e.key, e.name, e.value));
        let what = what.collect::<Vec<_>>().join("; ");
        let path = overlay.to_owned();
        let read_only = vec![job.image.file(&job.image.manifest.system_disk)];
        tokio::task::spawn_blocking(move || inject::apply(&path, &read_only, &edits))
            .await
            .context("the injection was interrupted")?
            .with_context(|| format!("condition {} could not be put into the overlay", condition.id()))?;
        timeline.add(Source::Host, Seen::Injected { condition: condition.id(), what });
    }
    Ok(())
}

pub(super) enum NotReady {
    Ended(Outcome),
    TimedOut(String),
}

/// Ready means: the agent answers and, where the guest has our session program, it reports its desktop.
pub(super) async fn wait_until_ready(
    job: &Job,
    machine: &Machine,
    timeline: &Timeline,
    first: usize,
    limit: Duration,
) -> Result<(), NotReady> {
    let desktop = async {
        if speaks_probe(job.image.manifest.family) {
            let ready = |o: &crate::timeline::Observation| match &o.what {
                Seen::Probe(line) => matches!(line.event, ProbeEvent::DesktopReady { .. }).then_some(()),
                _ => None,
            };
            timeline.wait_from(first, limit, ready).await
        } else {
            Some(())
        }
    };
    let agent = async {
        // Without udev no event tells of the agent's start reliably; a ping that waits costs nothing.
        while machine.agent.ping(Duration::from_secs(2)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        timeline.add(Source::Agent, Seen::AgentAnswered);
    };
    let both = async {
        let (desktop, ()) = tokio::join!(desktop, agent);
        desktop
    };
    let mut last = String::new();
    let outcome = tokio::select! {
        done = tokio::time::timeout(limit, both) => match done {
            Ok(Some(())) => return Ok(()),
            _ => None,
        },
        outcome = until_settled(timeline) => Some(outcome),
    };
    if let Some(outcome) = outcome {
        return Err(NotReady::Ended(outcome));
    }
    last.push_str(&timeline.last_line());
    let name = &job.image.manifest.name;
    let expected = if speaks_probe(job.image.manifest.family) {
        "guest-ping and desktop-ready on COM1"
    } else {
        "guest-ping"
    };
    Err(NotReady::TimedOut(format!(
        "image {name} was not ready within {:.0} s: awaited {expected}; last seen: {last}; the console is in serial.log, \
         the screen in the newest screen-*.png; on a slow host try --deadline-scale 3",
        limit.as_secs_f64()
    )))
}
