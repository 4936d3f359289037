//! A verdict before the deadline: when the evidence shows that the machine will stay as it is until somebody
//! acts, waiting longer tells nothing.
//!
//! Which evidence does so stands beside each cause (`Finding::lasting`). `--full-deadline` waits all the
//! same; both must give the same record, times apart.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Stage;
use super::request::watch;
use crate::diagnose;
use crate::guest::registry_facts::RegistryFacts;
use crate::machine::watcher::ScreenWatcher;
use crate::outcome::SettledBy;
use crate::settle;
use crate::timeline::Timeline;
use crate::witness::Witness;

/// How long nothing may have been observed before the evidence is looked at. A guest that goes down on its
/// own shows something within 1 s (measured on the reference guest: each phase under 0.6 s, the progress of
/// update work every 0.5 s); three times as long for busy hosts.
pub(crate) const QUIET: Duration = Duration::from_secs(3);

/// What is watched after a request.
pub(crate) struct Watched<'a> {
    pub(crate) timeline: &'a Timeline,
    /// The folder of the pictures.
    pub(crate) pictures: &'a Path,
    /// `None` for a machine whose screen cannot be seen.
    pub(crate) screen: Option<&'a ScreenWatcher>,
    /// How long nothing may have been observed before the evidence is looked at.
    pub(crate) quiet: Duration,
    /// Wait for the deadline even when the evidence has decided.
    pub(crate) full_deadline: bool,
    pub(crate) stage: &'a (dyn Fn(Stage) + Sync),
    /// What the registry said before the request.
    pub(crate) registry: Option<&'a RegistryFacts>,
}

/// Waits until the outcome is settled, the evidence decides, or `limit` has passed.
pub(crate) async fn wait(watched: &Watched<'_>, limit: Duration) -> SettledBy {
    let Watched { timeline, screen, quiet, stage, .. } = *watched;
    let began = Instant::now();
    let mut witness = Witness::new(watched.pictures);
    let mut looked_at = 0;
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let until_quiet = quiet.saturating_sub(silence(timeline)).max(Duration::from_millis(200));
        let slice = if watched.full_deadline { left } else { left.min(until_quiet) };
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
        if let Some(screen) = screen {
            screen.look().await;
        }
        let so_far = timeline.snapshot();
        if so_far.len() == looked_at {
            continue;
        }
        looked_at = so_far.len();
        let outcome = settle::at_deadline(&so_far).kind();
        let evidence = witness.evidence(&so_far, outcome, watched.registry.cloned()).await;
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
