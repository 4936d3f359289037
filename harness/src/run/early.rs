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
use crate::outcome::{OutcomeKind, SettledBy};
use crate::settle::{self, until_settled};
use crate::timeline::{Observation, Seen, Source, Timeline};
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
        let until_quiet = quiet.saturating_sub(timeline.silence()).max(Duration::from_millis(200));
        let slice = if watched.full_deadline { left } else { left.min(until_quiet) };
        watch(timeline, slice, stage).await;
        if settle::settled(&timeline.snapshot()).is_some() {
            return SettledBy::Event;
        }
        if began.elapsed() >= limit {
            return SettledBy::Deadline;
        }
        // Also at least so long after the last act: an answer to it may still be under way.
        if timeline.silence() < quiet || began.elapsed() < quiet {
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
        let reading = witness.evidence(&so_far, outcome, watched.registry.cloned());
        let left = limit.saturating_sub(began.elapsed());
        // Reading a dozen pictures may take longer than the deadline is away.
        let evidence = tokio::select! {
            evidence = reading => evidence,
            _ended = until_settled(timeline) => return SettledBy::Event,
            () = tokio::time::sleep(left) => return SettledBy::Deadline,
        };
        let answered = answered(&so_far) || outcome == OutcomeKind::Suspended;
        if diagnose::lasting(&evidence).is_some() && answered && timeline.len() == looked_at {
            return SettledBy::Evidence;
        }
    }
}

/// Whether the host's last act after the first request has shown an effect. What was found before an act says
/// nothing of what follows it; and of the agent's forced request nothing shows until the end.
fn answered(so_far: &[Observation]) -> bool {
    let first = so_far.iter().position(|o| matches!(o.what, Seen::Requested { .. }));
    let act = |o: &Observation| matches!(o.what, Seen::Requested { .. } | Seen::Acted { .. });
    let last = so_far.iter().rposition(act);
    if first == last {
        return true;
    }
    let by_agent = |o: &Observation| matches!(&o.what, Seen::Requested { by, .. } if by == "guest-shutdown");
    let since = so_far.get(last.unwrap_or_default()..).unwrap_or_default();
    !so_far.iter().any(by_agent) && since.iter().skip(1).any(|o| o.source != Source::Host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn observation(what: Seen, source: Source) -> Observation {
        Observation { at_us: 0, source, what }
    }

    #[rstest]
    #[case::the_first_request_needs_no_effect(&["press"], true)]
    #[case::nor_what_follows_it(&["press", "screen"], true)]
    #[case::keys_without_effect(&["press", "screen", "key"], false)]
    #[case::keys_with_effect(&["press", "key", "screen"], true)]
    #[case::a_second_press_without_effect(&["press", "screen", "press"], false)]
    #[case::the_agents_request_may_still_be_under_way(&["press", "screen", "agent", "screen"], false)]
    fn an_act_must_have_shown_an_effect(#[case] seen: &[&str], #[case] is: bool) {
        let requested = |by: &str| Seen::Requested { by: by.into(), number: 1 };
        let observations: Vec<Observation> = seen
            .iter()
            .map(|what| match *what {
                "press" => observation(requested("system_powerdown"), Source::Host),
                "agent" => observation(requested("guest-shutdown"), Source::Host),
                "key" => observation(Seen::Acted { what: "key ret".into() }, Source::Host),
                _ => observation(Seen::ScreenChanged { file: "x".into(), changed: 1.0 }, Source::Screen),
            })
            .collect();
        assert_eq!(answered(&observations), is);
    }
}
