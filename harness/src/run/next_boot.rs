//! The next boot: the same disk once more, and what the guest makes of what the end has left.
//!
//! It is booted without any condition being put in again, and ended by a press, so that what the guest writes reaches
//! the disk. Whatever goes wrong here is told in the record and changes nothing of what was found before.

use std::path::Path;
use std::time::{Duration, Instant};

use softoff_guest_protocol::probe::ProbeEvent;

use super::boot::OVERLAY;
use super::{Job, after};
use crate::inspect::Written;
use crate::machine::command_line::{AtRestart, Memory};
use crate::machine::folder::RunFolder;
use crate::machine::{Machine, MachineConfig, button};
use crate::outcome::Outcome;
use crate::readiness::{NotReady, until_ready};
use crate::record::schema::{Damage, NextBoot};
use crate::record::write_timeline;
use crate::settle::{self, until_settled};
use crate::text::printable;
use crate::timeline::{Observation, Seen, Timeline};

/// Its own folder in the scenario's.
pub(super) const FOLDER: &str = "next-boot";
/// How long the soft shutdown that ends it may take: update work goes on where it was only staged.
const END_LIMIT: Duration = Duration::from_secs(90);
/// Kernel-Power 41 and EventLog 6008: the last end was no clean one.
const UNEXPECTED: [u32; 2] = [41, 6008];

/// Boots the disk in `folder` again. QEMU must have gone from it. `before` is what the disk showed then. `None` when
/// the user stopped the run; the machine is gone then.
pub(super) async fn boot_again(
    job: &Job,
    dir: &Path,
    folder: &RunFolder,
    before: &Damage,
    stopped: impl Future<Output = ()>,
) -> Option<NextBoot> {
    let timeline = Timeline::start();
    let mut next = NextBoot::default();
    let mut machine = None;
    let told = tokio::select! {
        told = tell(job, dir, folder, &timeline, &mut next, &mut machine) => Some(told),
        () = stopped => None,
    };
    if let Some(machine) = machine.as_mut() {
        machine.clean_up().await;
    }
    let observations = timeline.snapshot();
    let written = write_timeline(&dir.join(FOLDER), &observations);
    if let Some(error) = told?.and(written).err() {
        next.trouble = Some(printable(&format!("{error:#}"), 400));
    }
    next.volume_check = told_by(&observations, |event| match event {
        ProbeEvent::VolumeCheck { flags } => Some(*flags),
        _ => None,
    });
    next.update_state = told_by(&observations, |event| match event {
        ProbeEvent::UpdateState { state } => Some(printable(state, 40)),
        _ => None,
    });
    if next.outcome.as_ref().is_some_and(Outcome::ended_the_machine) {
        next.damage = after::read_disk(folder.path(), Written::from_timeline(&observations)).await.damage;
        next.unexpected_shutdown_events = new_events(before, &next.damage);
    }
    Some(next)
}

async fn tell(
    job: &Job,
    dir: &Path,
    folder: &RunFolder,
    timeline: &Timeline,
    next: &mut NextBoot,
    slot: &mut Option<Machine>,
) -> anyhow::Result<()> {
    let record_dir = dir.join(FOLDER);
    std::fs::create_dir(&record_dir)?;
    let overlay = folder.path().join(OVERLAY);
    let config = MachineConfig {
        image: &job.image,
        overlay: &overlay,
        accelerator: job.accelerator,
        record_dir: &record_dir,
        attach: false,
        memory: Memory::Anonymous,
        spoken: Default::default(),
        backend: &job.backend,
        discs: &[],
        at_restart: AtRestart::GoesOn,
    };
    let machine = slot.insert(Machine::prepare(config, folder, timeline.clone()).await?);
    let began = Instant::now();
    machine.run().await?;
    let limit = job.scaled(job.scenario.readiness.within.0);
    match until_ready(&job.image, machine, timeline, 0, limit).await {
        Ok(()) => next.boot_ms = Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
        Err(NotReady::Ended(outcome)) => {
            next.outcome = Some(outcome);
            anyhow::bail!("the guest ended before it was ready");
        }
        Err(NotReady::TimedOut(what)) => anyhow::bail!(what),
    }
    button::press(&machine.qmp, Some(machine.pm_base), timeline, 1).await?;
    let ended = tokio::time::timeout(job.scaled(END_LIMIT), until_settled(timeline)).await;
    next.outcome = Some(ended.unwrap_or_else(|_late| settle::at_deadline(&timeline.snapshot())));
    Ok(())
}

/// The first thing of its kind that the guest told.
fn told_by<T>(observations: &[Observation], pick: impl Fn(&ProbeEvent) -> Option<T>) -> Option<T> {
    observations.iter().find_map(|o| match &o.what {
        Seen::Probe(line) => pick(&line.event),
        _ => None,
    })
}

/// The events of an unexpected shutdown that stand behind the last event that was there before.
fn new_events(before: &Damage, after: &Damage) -> Vec<u32> {
    let log = |damage: &Damage| damage.disk.as_ref().and_then(|disk| disk.system_log.clone());
    let old = log(before).and_then(|log| log.events.iter().map(|event| event.record).max()).unwrap_or(0);
    let mut events = log(after).map(|log| log.events).unwrap_or_default();
    events.retain(|event| event.record > old && UNEXPECTED.contains(&event.id));
    events.sort_by_key(|event| event.record);
    events.iter().map(|event| event.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::event_log::{EventLogReport, LoggedEvent};
    use crate::inspect::DiskReport;

    fn damage(events: &[(u64, u32)]) -> Damage {
        let event = |(record, id): &(u64, u32)| LoggedEvent {
            record: *record,
            time: String::new(),
            provider: String::new(),
            id: *id,
            data: vec![],
        };
        let system_log =
            EventLogReport { events: events.iter().map(event).collect(), ..EventLogReport::default() };
        let disk = DiskReport { system_log: Some(system_log), ..DiskReport::default() };
        Damage { disk: Some(disk), ..Damage::default() }
    }

    #[test]
    fn only_what_the_next_boot_wrote_counts() {
        let before = damage(&[(1, 6005), (2, 41), (3, 1074)]);
        // By time, the 41 of the new boot stands before its 6008.
        let after = damage(&[(1, 6005), (2, 41), (3, 1074), (7, 41), (4, 6008), (5, 6005)]);
        assert_eq!(new_events(&before, &after), [6008, 41]);
        assert_eq!(new_events(&after, &after), [0u32; 0]);
        assert_eq!(new_events(&before, &Damage::default()), [0u32; 0]);
    }
}
