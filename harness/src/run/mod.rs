//! The story of one run, from the definition to the record.
//!
//! [`run_scenario`] reads as the run flows: put the condition in place, boot, wait until the guest is
//! proven ready, prove the condition, ask, watch until the outcome is settled or the deadline comes, look
//! for the cause, and only then clean up, read the disk, and judge.

mod after;
mod boot;
mod conclude;
pub(crate) mod early;
mod job;
mod next_boot;
mod request;
#[cfg(test)]
mod truth;

pub use job::{Job, JobName, Listener, QUIET, RunEvent, Stage, Start};

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;

use crate::condition::{Condition, Proof, Subject};
use crate::diagnose::{Diagnosis, diagnose};
use crate::guest::collect::collect;
use crate::guest::driver::GuestDriver;
use crate::guest::registry_facts::RegistryFacts;
use crate::image::GuestFamily;
use crate::inspect::Written;
use crate::machine::command_line;
use crate::machine::qmp::QmpError;
use crate::machine::{Machine, QMP_LIMIT};
use crate::outcome::{Outcome, SettledBy};
use crate::pressure::{self, HostPressure, PressureMark};
use crate::record::RunStore;
use crate::record::schema::{Damage, NextBoot, ScenarioRecord, StartRecord};
use crate::scenario::RequestMoment;
use crate::settle::{self, until_settled};
use crate::timeline::{Seen, Source, Timeline};
use crate::witness::Witness;

/// How long QEMU may take to tell its run state at the deadline.
const STATE_LIMIT: Duration = Duration::from_secs(20);

/// What a run found out, on its way to the record.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) boots: u32,
    pub(crate) start: Option<StartRecord>,
    pub(crate) proofs: Vec<(String, Proof)>,
    pub(crate) not_asked: Option<String>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) settled_by: Option<SettledBy>,
    /// Before the boot, and then after the end.
    pub(crate) registry: Option<RegistryFacts>,
    pub(crate) diagnosis: Option<Diagnosis>,
    pub(crate) next_boot: Option<NextBoot>,
    pub(crate) pressure: Option<HostPressure>,
    pub(crate) memory_mib: Option<u64>,
    /// What is wrong with the overlay itself.
    pub(crate) overlay_trouble: Option<String>,
}

/// Runs one job. `None` when it was cancelled; the machine is gone then, and the start marker without a
/// result tells.
pub async fn run_scenario(
    job: &Job,
    store: &RunStore,
    listener: &Listener,
    cancel: watch::Receiver<bool>,
) -> anyhow::Result<Option<ScenarioRecord>> {
    let name = job.name();
    let began = Instant::now();
    let marker =
        serde_json::json!({ "scenario": name.scenario, "image": job.image.id, "repeat": name.repeat });
    let dir = store.begin(&name.dir(), &marker)?;
    listener(RunEvent::Started { job: name.clone() });
    let timeline = Timeline::start();
    let mut story = Story::default();
    let mut cancelled = cancel.clone();

    let mut booted = None;
    let told = tokio::select! {
        told = tell(job, &dir, &timeline, listener, &mut story, &mut booted) => told,
        () = stopped(&mut cancelled) => {
            timeline.add(Source::Host, Seen::Note { what: "stopped by the user".into() });
            // Waited for: the folder can only be removed when nobody writes to it any more.
            if let Some((machine, _)) = booted.as_mut() {
                machine.pull_the_plug().await;
            }
            store.write_timeline(&dir, &timeline.snapshot())?;
            return Ok(None);
        }
    };
    let mut outcome = match (told, story.outcome.take()) {
        (Err(e), _) => Outcome::HostFailed { what: format!("{e:#}") },
        (Ok(()), Some(outcome)) => outcome,
        (Ok(()), None) => Outcome::HostFailed { what: "the run ended without an outcome".into() },
    };
    // Settled here, before anything is cleaned up: what we do to QEMU from now on is not the guest's doing.
    timeline.add(Source::Host, Seen::Settled { outcome: outcome.kind().to_string() });
    listener(RunEvent::Stage { job: name.clone(), stage: Stage::Finishing });
    let mut observations = timeline.snapshot();

    let mut damage = Damage::default();
    if let Some((machine, folder)) = booted.as_mut() {
        story.memory_mib = pressure::own_memory_mib(machine.pid);
        if job.keep && machine.is_running() {
            keep(job, machine, listener, cancel.clone()).await;
        }
        machine.clean_up().await;
        // What the guest had written before it ended may have been read only now; what we did to QEMU writes nothing.
        let all = timeline.snapshot();
        outcome = settle::to_the_end(outcome, &all);
        if outcome.ended_the_machine() {
            observations = after::with_late_lines(&observations, &all);
        }
        let disk = after::read_disk(folder.path(), Written::from_timeline(&observations)).await;
        // The guest read from it to its end.
        let changed = job.image.unchanged().err().map(|e| format!("the image changed below the guest: {e}"));
        if outcome.ended_the_machine() {
            damage = disk.damage;
            story.overlay_trouble = changed.or(disk.overlay_trouble);
        } else {
            story.overlay_trouble = changed;
            damage.trouble =
                Some("the machine still ran, and the harness ended it: not the guest's damage".into());
        }
        if job.scenario.next_boot && outcome.ended_the_machine() {
            listener(RunEvent::Stage { job: name.clone(), stage: Stage::NextBoot });
            story.next_boot =
                next_boot::boot_again(job, &dir, folder, &damage, stopped(&mut cancelled)).await;
            if story.next_boot.is_none() {
                store.write_timeline(&dir, &timeline.snapshot())?;
                return Ok(None);
            }
        }
        // A disk that cannot be read after the end leaves what it said before the boot.
        story.registry = disk.registry.or(story.registry.take());
    }
    drop(booted);
    let registry = story.registry.take();
    if let Some(facts) = &registry {
        store.write_registry(&dir, facts)?;
    }
    let evidence = Witness::new(&dir).evidence(&observations, outcome.kind(), registry).await;
    story.diagnosis = Some(diagnose(&evidence));
    let record = conclude::make_record(job, &name, &story, outcome, &observations, damage, began.elapsed());
    store.finish(&dir, &record, &timeline.snapshot())?;
    listener(RunEvent::Finished { job: name, record: Box::new(record.clone()) });
    Ok(Some(record))
}

/// Returns when the user stops the run.
async fn stopped(cancel: &mut watch::Receiver<bool>) {
    let _stopped = cancel.wait_for(|c| *c).await;
}

/// Boots, proves, asks, watches. Whatever was found out stands in `story`, whenever this ends.
async fn tell(
    job: &Job,
    dir: &Path,
    timeline: &Timeline,
    listener: &Listener,
    story: &mut Story,
    booted: &mut Option<(Machine, crate::machine::folder::RunFolder)>,
) -> anyhow::Result<()> {
    let told = Mutex::new(Vec::new());
    // Each stage once, however often it is looked at; quiet once in each phase.
    let stage = |stage: Stage| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&stage) {
            return;
        }
        if matches!(stage, Stage::Waiting(_)) {
            told.retain(|earlier| *earlier != Stage::Quiet);
        }
        told.push(stage.clone());
        listener(RunEvent::Stage { job: job.name(), stage });
    };
    let note = |what: String| listener(RunEvent::Note { job: job.name(), what });
    let booting = boot::Booting { job, dir, timeline, stage: &stage, note: &note };
    boot::until_ready(&booting, story, booted).await?;
    let Some((machine, _)) = booted.as_mut() else { anyhow::bail!("no machine was started") };
    if story.outcome.is_some() {
        return Ok(());
    }
    if job.scenario.request.at == RequestMoment::Ready {
        stage(Stage::Proving);
        let guest = GuestDriver::new(job.image.manifest.family, machine.agent.clone());
        let subject = Subject { guest: &guest, machine };
        // A machine that the condition itself has ended stays to be asked; QEMU is kept for that.
        let ends = job.scenario.conditions.iter().any(Condition::ends_the_machine);
        let ended = tokio::select! {
            () = prove(job, &subject, timeline, story) => {
                settle::settled(&timeline.snapshot()).filter(|o| !ends || *o != Outcome::Hibernated)
            }
            outcome = until_settled(timeline), if !ends => Some(outcome),
        };
        if let Some(outcome) = ended {
            story.not_asked = Some("the guest ended before it was asked".into());
            story.outcome = Some(outcome);
            return Ok(());
        }
        if story.proofs.iter().any(|(_, proof)| !proof.present) {
            story.not_asked = Some("a condition was not proven, so nothing was asked".into());
            story.outcome = Some(outcome_now(machine, timeline).await);
            return Ok(());
        }
    }
    tokio::time::sleep(job.scenario.request.delay.0).await;
    request::wake(job, machine, timeline, &stage).await?;
    note_state(machine, timeline).await?;
    let registry = story.registry.clone();
    let (pid, before) = (machine.pid, PressureMark::now(machine.pid));
    let asking = request::Asking { job, dir, machine, timeline, stage: &stage, registry };
    story.settled_by = Some(request::ask_and_watch(asking).await?);
    story.outcome = Some(outcome_now(machine, timeline).await);
    story.pressure = Some(before.until(&PressureMark::now(pid)));
    if job.image.manifest.family == GuestFamily::Windows && story.outcome == Some(Outcome::StillRunning) {
        collect_evidence(dir, machine, timeline).await;
    }
    Ok(())
}

/// A Windows that still runs may still answer; the outcome is settled by now.
async fn collect_evidence(dir: &Path, machine: &Machine, timeline: &Timeline) {
    let guest = GuestDriver::new(GuestFamily::Windows, machine.agent.clone());
    let (files, lacking) = collect(&guest, dir).await;
    let lacking = if lacking.is_empty() { "nothing".to_owned() } else { lacking.join("; ") };
    let what = format!("the guest told: {}; lacking: {lacking}", files.join(", "));
    timeline.add(Source::Agent, Seen::Note { what });
}

/// The outcome at the deadline.
async fn outcome_now(machine: &Machine, timeline: &Timeline) -> Outcome {
    if let Some(outcome) = settle::settled(&timeline.snapshot()) {
        return outcome;
    }
    let state = machine.run_state(STATE_LIMIT).await;
    if let Ok(state) = &state {
        timeline.add(Source::Qmp, Seen::RunState { state: state.clone() });
    }
    settle::by_run_state(&timeline.snapshot(), state.as_deref().map_err(ToString::to_string))
}

/// What the machine is like just before it is asked. A QEMU that hangs by now need not be asked.
async fn note_state(machine: &Machine, timeline: &Timeline) -> anyhow::Result<()> {
    match machine.run_state(QMP_LIMIT).await {
        Ok(state) => timeline.add(Source::Qmp, Seen::RunState { state }),
        Err(hangs @ QmpError::Timeout { .. }) => return Err(hangs).context("before the request"),
        Err(_) => {}
    }
    machine.new_chapter().await;
    let dark = machine.screen_is_dark().await;
    timeline.add(Source::Screen, Seen::Screen { dark });
    Ok(())
}

/// Enters and proves every condition; one that silences the agent comes last.
async fn prove(job: &Job, subject: &Subject<'_>, timeline: &Timeline, story: &mut Story) {
    let mut conditions: Vec<_> = job.scenario.conditions.iter().collect();
    conditions.sort_by_key(|c| c.silences_agent());
    for condition in conditions {
        if !job.hardening.is_empty() && condition.is_policy() {
            // The hardening stands where these settings stood: the guest cannot show them any more.
            let evidence = "written to the disk and read back, before the hardening was put over it".into();
            let proof = Proof { present: !job.without_injection, evidence };
            let (present, evidence) = (proof.present, proof.evidence.clone());
            timeline.add(Source::Host, Seen::Proof { condition: condition.id(), present, evidence });
            story.proofs.push((condition.id(), proof));
            continue;
        }
        let entered = match job.without_injection {
            true => Ok(()),
            false => condition.enter(subject).await,
        };
        let proof = match entered {
            Ok(()) => condition.prove(subject).await,
            Err(e) => Err(e),
        };
        let proof = proof.unwrap_or_else(|e| Proof { present: false, evidence: e.to_string() });
        let (present, evidence) = (proof.present, proof.evidence.clone());
        timeline.add(Source::Agent, Seen::Proof { condition: condition.id(), present, evidence });
        story.proofs.push((condition.id(), proof));
    }
}

/// Leaves the machine to people until they end it with Ctrl-C.
async fn keep(job: &Job, machine: &Machine, listener: &Listener, mut cancel: watch::Receiver<bool>) {
    let folder = machine.sockets.qmp.parent().unwrap_or(Path::new("/"));
    let attach = vec![
        format!("vncviewer {}   # the screen", folder.join(command_line::ATTACH_VNC).display()),
        format!("socat - UNIX-CONNECT:{}   # QMP", folder.join(command_line::ATTACH_QMP).display()),
        format!("kill {}   # end QEMU", machine.pid),
    ];
    listener(RunEvent::Kept { job: job.name(), attach });
    let ended = machine.timeline().wait_for(Duration::from_secs(86_400), |o| {
        matches!(o.what, Seen::ProcessExited { .. }).then_some(())
    });
    tokio::select! {
        _ = ended => {}
        () = stopped(&mut cancel) => {}
    }
}
