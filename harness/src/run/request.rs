//! Asking, and watching what comes of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Job, QUIET, Stage, early};
use crate::guest::registry_facts::RegistryFacts;
use crate::machine::libvirt::{Answer, Domain, ShutdownMode};
use crate::machine::{Machine, QMP_LIMIT, button};
use crate::outcome::{Phase, SettledBy};
use crate::scenario::{FollowUp, HostAct, Moment, RequestMeans};
use crate::settle::{self, AGENT, DEFAULT, DESTROY, DESTROY_GRACEFUL, PLUG, PRESS, until_settled};
use crate::timeline::{Seen, Source, Timeline};

/// How long after the first request the plug may be pulled earlier than a platform would. Linux writes what was changed
/// to the disk after 30 s (dirty_expire_centisecs, looked at every 5 s): what is lost then is lost later as well.
const WRITTEN_BACK: Duration = Duration::from_secs(40);

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
    let mut answered = began;
    for press in 0..request.presses {
        if press > 0 && asking.settles_within(request.gap.0, answered).await {
            return Ok(SettledBy::Event);
        }
        if press > 0 && began.elapsed() >= deadline {
            return Ok(SettledBy::Deadline);
        }
        number += 1;
        answered = ask(request.by, number, asking.machine, asking.timeline).await?;
    }
    for follow_up in &request.then {
        if let Some(moment) = follow_up.on {
            match asking.wait_for(moment, deadline.saturating_sub(began.elapsed())).await {
                Waited::Came => answered = Instant::now(),
                Waited::Settled => return Ok(SettledBy::Event),
                Waited::Never => return Ok(SettledBy::Deadline),
            }
        }
        let after = follow_up.after.map_or(Duration::ZERO, |after| after.0);
        let settles = match follow_up.cut_short {
            true => asking.settles_or_is_decided(after, answered, began).await,
            false => asking.settles_within(after, answered).await,
        };
        if settles {
            return Ok(SettledBy::Event);
        }
        // A plug that is pulled at a moment is pulled then, not a picture later.
        if !follow_up.act.is_hard() {
            asking.machine.look().await;
        }
        answered = asking.act(follow_up, &mut number).await?;
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

    /// Whether the outcome is settled so long after `since`, or earlier. `since` is what [`ask`] gave back for the
    /// last request: the time that the harness then looked at the registers (3 s, of a guest that sleeps) or listened
    /// for an agent's refusal (5 s) is part of the span. A press every 10 s had come to one every 13 s.
    async fn settles_within(&self, span: Duration, since: Instant) -> bool {
        let left = self.job.scaled(span).saturating_sub(since.elapsed());
        watch(self.timeline, left, self.stage).await;
        settle::settled(&self.timeline.snapshot()).is_some()
    }

    /// The same, and gives the wait up when the evidence shows that nothing more will come until somebody acts; not
    /// before [`WRITTEN_BACK`] after the first request, `began`.
    async fn settles_or_is_decided(&self, span: Duration, since: Instant, began: Instant) -> bool {
        let planned = self.job.scaled(span);
        let left = || planned.saturating_sub(since.elapsed());
        if early::wait(&self.watched(), left()).await == SettledBy::Evidence {
            let rest = WRITTEN_BACK.saturating_sub(began.elapsed()).min(left());
            watch(self.timeline, rest, self.stage).await;
            if settle::settled(&self.timeline.snapshot()).is_some() {
                return true;
            }
            // More than a look's worth of time was saved.
            if left() > Duration::from_secs(1) {
                let planned_ms = u64::try_from(planned.as_millis()).unwrap_or(u64::MAX);
                self.timeline.add(Source::Host, Seen::CutShort { planned_ms });
            }
        }
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

    /// Acts; gives back when it had its answer.
    async fn act(&mut self, follow_up: &FollowUp, number: &mut u32) -> anyhow::Result<Instant> {
        match follow_up.act {
            HostAct::Press => self.ask(RequestMeans::AcpiButton, number).await,
            HostAct::GuestAgent => self.ask(RequestMeans::GuestAgent, number).await,
            HostAct::LibvirtDefault => self.ask(RequestMeans::LibvirtDefault, number).await,
            HostAct::HardPowerOff => self.ask(RequestMeans::HardPowerOff, number).await,
            HostAct::DestroyGraceful => self.ask(RequestMeans::DestroyGraceful, number).await,
            HostAct::Wake => {
                self.timeline.add(Source::Host, Seen::Acted { what: "system_wakeup".into() });
                self.machine.wake().await.context("waking the guest")?;
                Ok(Instant::now())
            }
            HostAct::Keys => {
                press_keys(self.machine, self.timeline, &follow_up.keys).await?;
                Ok(Instant::now())
            }
        }
    }

    async fn ask(&mut self, by: RequestMeans, number: &mut u32) -> anyhow::Result<Instant> {
        *number += 1;
        ask(by, *number, self.machine, self.timeline).await
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

/// Asks; gives back when the request had its answer, or was sent where there is none to wait for.
async fn ask(
    by: RequestMeans,
    number: u32,
    machine: &mut Machine,
    timeline: &Timeline,
) -> anyhow::Result<Instant> {
    if let Some(domain) = machine.domain().cloned() {
        return through_libvirt(by, number, machine, &domain, timeline).await;
    }
    let requested = |by: &str| timeline.add(Source::Host, Seen::Requested { by: by.into(), number });
    match by {
        RequestMeans::AcpiButton => {
            let base = Some(machine.pm_base);
            let pressed = button::press(&machine.qmp, base, timeline, number).await;
            return pressed.context("pressing the power button");
        }
        RequestMeans::GuestAgent => return ask_agent("powerdown", number, machine, timeline).await,
        RequestMeans::GuestAgentHalt => return ask_agent("halt", number, machine, timeline).await,
        RequestMeans::HardPowerOff => {
            requested(PLUG);
            machine.pull_the_plug().await;
        }
        RequestMeans::LibvirtDefault | RequestMeans::DestroyGraceful => {
            anyhow::bail!("`{by}` is libvirt's, and this machine is not; run with --backend libvirt")
        }
    }
    Ok(Instant::now())
}

/// `guest-shutdown` in one of its modes; gives back when it was sent: an agent that obeys does not answer.
async fn ask_agent(
    mode: &str,
    number: u32,
    machine: &Machine,
    timeline: &Timeline,
) -> anyhow::Result<Instant> {
    let sent = Instant::now();
    timeline.add(Source::Host, Seen::Requested { by: AGENT.into(), number });
    machine.agent.shutdown(mode, Duration::from_secs(5)).await.context("asking the guest agent")?;
    Ok(sent)
}

/// The same by virsh. The call's time and answer, and what libvirt sent to QEMU meanwhile, go to the timeline.
async fn through_libvirt(
    by: RequestMeans,
    number: u32,
    machine: &Machine,
    domain: &Domain,
    timeline: &Timeline,
) -> anyhow::Result<Instant> {
    let (name, mode) = match by {
        RequestMeans::AcpiButton => (PRESS, Some(ShutdownMode::Acpi)),
        RequestMeans::GuestAgent => (AGENT, Some(ShutdownMode::Agent)),
        // No command of virsh's own: it passes the agent's on.
        RequestMeans::GuestAgentHalt => return ask_agent("halt", number, machine, timeline).await,
        RequestMeans::LibvirtDefault => (DEFAULT, Some(ShutdownMode::Default)),
        RequestMeans::HardPowerOff => (DESTROY, None),
        RequestMeans::DestroyGraceful => (DESTROY_GRACEFUL, None),
    };
    let answered = |answer: Answer| {
        let took_ms = u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX);
        let Answer { sent, refused, .. } = answer;
        timeline.add(Source::Libvirt, Seen::Answered { number, took_ms, sent, refused });
    };
    let send = async {
        let answer = match mode {
            Some(mode) => domain.shutdown(mode).await,
            None => domain.destroy(by == RequestMeans::DestroyGraceful).await,
        };
        answer.map(answered)
    };
    let asked = match by {
        RequestMeans::AcpiButton => {
            button::press_by(&machine.qmp, Some(machine.pm_base), timeline, (name, number), send).await
        }
        _ => {
            timeline.add(Source::Host, Seen::Requested { by: name.into(), number });
            send.await.map(|()| Instant::now())
        }
    };
    let answered = asked.context("asking through libvirt")?;
    if by.is_hard() {
        // QEMU's own word of it, or its end, is still on its way.
        let _ended = tokio::time::timeout(QMP_LIMIT, until_settled(timeline)).await;
    }
    Ok(answered)
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
