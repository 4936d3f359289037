//! Asking, and watching what comes of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::{Job, QUIET, Stage, early};
use crate::guest::registry_facts::RegistryFacts;
use crate::machine::{Machine, QMP_LIMIT, button};
use crate::outcome::{Phase, SettledBy};
use crate::scenario::{FollowUp, HostAct, Moment, RequestMeans};
use crate::settle::{self, PLUG, until_settled};
use crate::timeline::{Seen, Source, Timeline};

/// What is asked, of whom, and who is told.
pub(super) struct Asking<'a> {
    pub(super) job: &'a Job,
    pub(super) dir: &'a Path,
    pub(super) machine: &'a mut Machine,
    pub(super) timeline: &'a Timeline,
    pub(super) stage: &'a (dyn Fn(Stage) + Sync),
    /// What the registry said before the boot.
    pub(super) registry: Option<RegistryFacts>,
}

/// Asks as the scenario says and waits until the outcome is settled, decided, or the deadline comes.
pub(super) async fn ask_and_watch(mut asking: Asking<'_>) -> anyhow::Result<SettledBy> {
    let request = &asking.job.scenario.request;
    let began = Instant::now();
    let deadline = asking.job.deadline();
    (asking.stage)(Stage::Waiting(Phase::Request));
    let mut number = 0;
    for press in 0..request.presses {
        if press > 0 && asking.settles_within(request.gap.0).await {
            return Ok(SettledBy::Event);
        }
        if press > 0 && began.elapsed() >= deadline {
            return Ok(SettledBy::Deadline);
        }
        number += 1;
        ask(request.by, number, asking.machine, asking.timeline).await?;
    }
    for follow_up in &request.then {
        if let Some(moment) = follow_up.on {
            match asking.wait_for(moment, deadline.saturating_sub(began.elapsed())).await {
                Waited::Came => {}
                Waited::Settled => return Ok(SettledBy::Event),
                Waited::Never => return Ok(SettledBy::Deadline),
            }
        }
        if asking.settles_within(follow_up.after.map_or(Duration::ZERO, |after| after.0)).await {
            return Ok(SettledBy::Event);
        }
        // A plug that is pulled at a moment is pulled then, not a picture later.
        if follow_up.act != HostAct::HardPowerOff {
            asking.machine.look().await;
        }
        asking.act(follow_up, &mut number).await?;
    }
    Ok(early::wait(&asking.watched(), deadline.saturating_sub(began.elapsed())).await)
}

/// Presses the key that lights a display, where the press policy has one, and waits a moment.
pub(super) async fn wake(
    job: &Job,
    machine: &Machine,
    timeline: &Timeline,
    stage: &(dyn Fn(Stage) + Sync),
) -> anyhow::Result<()> {
    let request = &job.scenario.request;
    if let Some(key) = &request.wake_key {
        press_keys(machine, timeline, std::slice::from_ref(key)).await?;
        watch(timeline, job.scaled(request.gap.0), stage).await;
    }
    Ok(())
}

/// What came of waiting for a moment.
enum Waited {
    Came,
    /// The machine ended first.
    Settled,
    /// Neither, before the deadline.
    Never,
}

impl Asking<'_> {
    fn watched(&self) -> early::Watched<'_> {
        early::Watched {
            timeline: self.timeline,
            pictures: self.dir,
            screen: Some(self.machine.screen()),
            quiet: self.job.scaled(early::QUIET),
            full_deadline: self.job.full_deadline,
            stage: self.stage,
            registry: self.registry.as_ref(),
        }
    }

    /// Whether the outcome is settled after so long, or earlier.
    async fn settles_within(&self, span: Duration) -> bool {
        watch(self.timeline, self.job.scaled(span), self.stage).await;
        settle::settled(&self.timeline.snapshot()).is_some()
    }

    /// Waits until the guest has come to a moment of its shutdown.
    async fn wait_for(&self, moment: Moment, limit: Duration) -> Waited {
        let mut asked = false;
        let came = self.timeline.wait_for(limit, |o| {
            asked |= matches!(o.what, Seen::Requested { .. });
            (asked && moment.is_shown_by(o)).then_some(())
        });
        tokio::select! {
            // What has come counts, even when the end has come as well.
            biased;
            came = came => if came.is_some() { Waited::Came } else { Waited::Never },
            _ended = until_settled(self.timeline) => Waited::Settled,
        }
    }

    async fn act(&mut self, follow_up: &FollowUp, number: &mut u32) -> anyhow::Result<()> {
        match follow_up.act {
            HostAct::Press => {
                *number += 1;
                ask(RequestMeans::AcpiButton, *number, self.machine, self.timeline).await
            }
            HostAct::GuestAgent => {
                *number += 1;
                ask(RequestMeans::GuestAgent, *number, self.machine, self.timeline).await
            }
            HostAct::Wake => {
                self.timeline.add(Source::Host, Seen::Acted { what: "system_wakeup".into() });
                let qmp = &self.machine.qmp;
                qmp.execute_raw("system_wakeup", json!({}), QMP_LIMIT).await.context("waking the guest")?;
                Ok(())
            }
            HostAct::HardPowerOff => {
                *number += 1;
                ask(RequestMeans::HardPowerOff, *number, self.machine, self.timeline).await
            }
            HostAct::Keys => press_keys(self.machine, self.timeline, &follow_up.keys).await,
        }
    }
}

/// Presses keys one after another.
pub(super) async fn press_keys(
    machine: &Machine,
    timeline: &Timeline,
    keys: &[String],
) -> anyhow::Result<()> {
    for key in keys {
        timeline.add(Source::Host, Seen::Acted { what: format!("key {key}") });
        machine.press_key(key).await.with_context(|| format!("pressing the key {key}"))?;
    }
    Ok(())
}

async fn ask(
    by: RequestMeans,
    number: u32,
    machine: &mut Machine,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let requested = |by: &str| timeline.add(Source::Host, Seen::Requested { by: by.into(), number });
    match by {
        RequestMeans::AcpiButton => {
            let base = Some(machine.pm_base);
            button::press(&machine.qmp, base, timeline, number).await.context("pressing the power button")?;
        }
        RequestMeans::GuestAgent => {
            requested("guest-shutdown");
            machine
                .agent
                .shutdown("powerdown", Duration::from_secs(5))
                .await
                .context("asking the guest agent")?;
        }
        RequestMeans::HardPowerOff => {
            requested(PLUG);
            machine.pull_the_plug().await;
        }
    }
    Ok(())
}

/// Waits until the outcome is settled, at most `limit`, and tells each new phase.
pub(super) async fn watch(timeline: &Timeline, limit: Duration, stage: &(dyn Fn(Stage) + Sync)) {
    let began = Instant::now();
    let mut told = Phase::Request;
    let mut changed = timeline.subscribe();
    loop {
        changed.mark_unchanged();
        let so_far = timeline.snapshot();
        if let Some(last) = settle::phases(&so_far).last().filter(|r| r.phase > told) {
            told = last.phase;
            stage(Stage::Waiting(told));
        }
        if settle::settled(&so_far).is_some() {
            return;
        }
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            return;
        }
        let until_quiet = QUIET.saturating_sub(timeline.silence());
        let slice = if until_quiet.is_zero() { left } else { left.min(until_quiet) };
        if tokio::time::timeout(slice, changed.changed()).await.is_err() && timeline.silence() >= QUIET {
            stage(Stage::Quiet);
        }
    }
}
