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
    /// The image.
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
    /// Shutdowns that were helped by a second request, or ended otherwise: they say nothing here.
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
        groups.entry((result.image.name.clone(), result.diagnosis.cause)).or_default().push(result);
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

/// How a shutdown by the button alone went. One that a second request helped says nothing of the first; a machine
/// that hibernated, rebooted or crashed was not waiting.
fn wait(result: &ScenarioRecord) -> Option<Wait> {
    let helped = |kind: EvidenceKind| matches!(kind, EvidenceKind::Agent | EvidenceKind::Remedy);
    match result.outcome.kind() {
        OutcomeKind::PoweredOff if result.diagnosis.evidence.iter().any(|e| helped(e.kind)) => None,
        OutcomeKind::PoweredOff => result.phases.powered_off_ms.map(Wait::Off),
        OutcomeKind::StillRunning | OutcomeKind::Suspended => match result.settled_by {
            Some(SettledBy::Evidence) => Some(Wait::Never),
            _ => Some(Wait::NotBy(result.request.deadline_ms)),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::testing::{result, run};

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
        assert_eq!((killed(&advice[1], "kubevirt-windows"), advice[1].wait), (1.0, None));
    }
}
