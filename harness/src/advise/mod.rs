//! The grace-period advisor: from repeated runs, what share of shutdowns each platform's default would cut short, and
//! how long it should wait. One curve for each image and cause: a mean over causes would say nothing of any.

mod platforms;
mod survival;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::evidence::EvidenceKind;
use crate::image::GuestFamily;
use crate::outcome::{Cause, OutcomeKind, RequestMeans, SettledBy};
use crate::record::schema::{RunRecord, ScenarioRecord};
pub use platforms::{Platform, Seen, platforms};
pub use survival::{Curve, Killed, Percentile, Wait};

/// The advice for one image and cause.
#[derive(Debug, Clone, Serialize)]
pub struct Advice {
    /// The image; with libvirt or a warm start, where it was so.
    pub image: String,
    /// Its family: a reference guest's times are not Windows times.
    pub family: GuestFamily,
    /// The diagnosed cause; `none` for a guest that just shuts down.
    pub cause: Cause,
    /// Shutdowns that count.
    pub count: usize,
    /// Of these, given up at their deadline.
    pub given_up: usize,
    /// Of these, shown by the evidence never to end by themselves.
    pub never: usize,
    /// Shutdowns that keys helped, or that ended otherwise: they say nothing here.
    pub left_out: usize,
    /// Milliseconds, and the share that is not over then.
    pub curve: Vec<(u64, f64)>,
    /// What each platform's default does.
    pub platforms: Vec<(Platform, Killed)>,
    /// The wait for the percentile that was asked for; absent when so many never ended.
    pub wait: Option<Percentile>,
}

/// Advises from runs. `share` is the percentile, 0 to 1.
///
/// # Errors
/// When the built-in list of platforms is broken.
pub fn advise(runs: &[RunRecord], share: f64) -> anyhow::Result<Vec<Advice>> {
    let platforms = platforms()?;
    let mut groups: BTreeMap<(String, Cause), Vec<&ScenarioRecord>> = BTreeMap::new();
    let asked = runs
        .iter()
        .flat_map(|r| &r.results)
        .filter(|r| r.is_asked() && r.retry_of.is_none() && r.request.by == RequestMeans::AcpiButton);
    for result in asked {
        groups.entry((result.timed_subject(), result.diagnosis.cause)).or_default().push(result);
    }
    let mut all = Vec::new();
    for ((image, cause), results) in groups {
        let Some(family) = results.first().map(|r| r.image.family) else { continue };
        let waits: Vec<Wait> = results.iter().filter_map(|r| wait(r)).collect();
        let left_out = results.len() - waits.len();
        let Some(curve) = Curve::new(waits) else { continue };
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let (given_up, never) = curve.unfinished();
        all.push(Advice {
            image,
            family,
            cause,
            count: curve.count(),
            given_up,
            never,
            left_out,
            curve: curve.steps().to_vec(),
            platforms: platforms.iter().map(|p| (p.clone(), curve.killed(ms(p.wait())))).collect(),
            wait: curve.percentile(share),
        });
    }
    Ok(all)
}

/// How a shutdown by the button alone went. Where the agent was asked after it, or the plug was pulled, the button had
/// not done it by then; to leave those out would let the quick ones speak for all. One that keys helped says nothing,
/// since when they were pressed is not on record; a machine that hibernated, rebooted or crashed was not waiting.
fn wait(result: &ScenarioRecord) -> Option<Wait> {
    let other = other_means(result);
    match result.outcome.kind() {
        OutcomeKind::PoweredOff => {
            let off = result.phases.powered_off_ms?;
            let keys = result.diagnosis.evidence.iter().any(|e| e.kind == EvidenceKind::Remedy);
            match other.filter(|at| *at < off) {
                Some(at) => Some(Wait::NotBy(at)),
                None => (!keys).then_some(Wait::Off(off)),
            }
        }
        OutcomeKind::HostKilled => other.map(Wait::NotBy),
        OutcomeKind::StillRunning | OutcomeKind::Suspended => match result.settled_by {
            Some(SettledBy::Evidence) => Some(Wait::Never),
            _ => Some(Wait::NotBy(other.unwrap_or(u64::MAX).min(result.request.deadline_ms))),
        },
        _ => None,
    }
}

/// When something other than the first request was tried, milliseconds from it.
fn other_means(result: &ScenarioRecord) -> Option<u64> {
    let first = result.requests.first().map(|r| &r.by);
    let other = result.requests.iter().find(|r| Some(&r.by) != first).map(|r| r.at_ms);
    other.into_iter().chain(result.plug_pulled_ms).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::testing::{result, run};
    use crate::settle::RequestMade;

    fn made(number: u32, by: &str, at_ms: u64) -> RequestMade {
        RequestMade { number, by: by.into(), at_ms, took_ms: None, sent: None, refused: None }
    }

    #[test]
    fn what_the_button_had_not_done_by_then_counts() {
        let mut results: Vec<ScenarioRecord> = (1..=16).map(|n| result("windows-update", n)).collect();
        for (n, one) in results.iter_mut().enumerate() {
            one.phases.powered_off_ms = Some(600);
            one.requests = vec![made(1, "system_powerdown", 0)];
            match n {
                8..12 => {
                    one.outcome = Outcome::HostKilled;
                    one.plug_pulled_ms = Some(20_000);
                }
                12..16 => {
                    one.requests.push(made(2, "guest-shutdown", 10_000));
                    one.phases.powered_off_ms = Some(12_000);
                }
                _ => {}
            }
        }
        let advice = advise(&[run(results)], 0.95).unwrap().remove(0);
        assert_eq!((advice.count, advice.given_up, advice.left_out, advice.wait), (16, 8, 0, None));
        // Half are not off by the moment at which they were helped or killed: nobody knows how long they take.
        assert_eq!(advice.curve, [(600, 0.5)]);
        let nova = &advice.platforms.iter().find(|(p, _)| p.id == "nova").unwrap().1;
        assert_eq!((nova.estimate, nova.least, nova.most), (None, 0.0, 0.5));
    }

    #[test]
    fn a_default_is_judged_by_what_it_would_cut_short() {
        let mut results: Vec<ScenarioRecord> = (1..=20).map(|n| result("windows-update", n)).collect();
        for (n, one) in results.iter_mut().enumerate() {
            one.diagnosis.cause = Cause::WindowsUpdate;
            // From 5 s to 100 s.
            one.phases.powered_off_ms = Some(5000 * (n as u64 + 1));
        }
        let mut stuck = result("hang", 1);
        stuck.diagnosis.cause = Cause::UnresponsiveApplication;
        stuck.outcome = Outcome::StillRunning;
        stuck.settled_by = Some(SettledBy::Evidence);
        results.push(stuck);
        let mut rebooted = result("reboots", 1);
        rebooted.outcome = Outcome::Rebooted;
        results.push(rebooted);
        let advice = advise(&[run(results)], 0.95).unwrap();
        let causes: Vec<Cause> = advice.iter().map(|a| a.cause).collect();
        assert_eq!(causes, [Cause::WindowsUpdate, Cause::UnresponsiveApplication]);
        let killed = |advice: &Advice, id: &str| {
            advice.platforms.iter().find(|(p, _)| p.id == id).unwrap().1.estimate.unwrap()
        };
        let update = &advice[0];
        for (id, share) in [("kubevirt", 0.7), ("nova", 0.4), ("libvirt-guests", 0.0)] {
            assert!((killed(update, id) - share).abs() < 1e-9, "{id}");
        }
        assert_eq!(update.wait.unwrap().ms, 95_000);
        assert_eq!(advice.iter().map(|a| a.left_out).sum::<usize>(), 0);
        assert_eq!((killed(&advice[1], "kubevirt-windows"), advice[1].wait), (1.0, None));
    }
}
