//! A verdict before the deadline: when the evidence shows that the machine will stay as it is until somebody
//! acts, waiting longer tells nothing.
//!
//! Which evidence does so stands beside each cause (`Finding::lasting`). `--full-deadline` waits all the
//! same; both must give the same record, times apart.

use std::time::{Duration, Instant};

use super::request::{Asking, watch};
use crate::diagnose;
use crate::outcome::SettledBy;
use crate::settle;
use crate::timeline::Timeline;
use crate::witness::Witness;

/// How long nothing may have been observed before the evidence is looked at. A guest that goes down on its
/// own shows something within 1 s (measured on the reference guest: each phase under 0.6 s, the progress of
/// update work every 0.5 s); three times as long for busy hosts.
const QUIET: Duration = Duration::from_secs(3);

/// Waits until the outcome is settled, the evidence decides, or `limit` has passed.
pub(super) async fn wait(asking: &Asking<'_>, limit: Duration) -> SettledBy {
    let Asking { job, machine, timeline, stage, .. } = asking;
    let began = Instant::now();
    let quiet = job.scaled(QUIET);
    let mut witness = Witness::new(asking.dir);
    let mut looked_at = 0;
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let until_quiet = quiet.saturating_sub(silence(timeline)).max(Duration::from_millis(200));
        let slice = if job.full_deadline { left } else { left.min(until_quiet) };
        watch(timeline, slice, stage).await;
        if settle::settled(&timeline.snapshot()).is_some() {
            return SettledBy::Event;
        }
        if began.elapsed() >= limit {
            return SettledBy::Deadline;
        }
        // Also at least so long after the last act: an answer to it may still be under way.
        if silence(timeline) < quiet || began.elapsed() < quiet {
            continue;
        }
        machine.look().await;
        let so_far = timeline.snapshot();
        if so_far.len() == looked_at {
            continue;
        }
        looked_at = so_far.len();
        let outcome = settle::at_deadline(&so_far).kind();
        let evidence = witness.evidence(&so_far, outcome, asking.registry.clone()).await;
        if diagnose::lasting(&evidence).is_some() && timeline.len() == looked_at {
            return SettledBy::Evidence;
        }
    }
}

/// How long ago the newest observation was made.
fn silence(timeline: &Timeline) -> Duration {
    let now = timeline.clock().now();
    timeline.snapshot().last().map_or(now, |o| now.saturating_sub(o.at()))
}
