//! Soft against hard: what each way of ending left on the disk, and how long the soft ones took.

use serde::Serialize;

use crate::outcome::OutcomeKind;
use crate::record::schema::{RunRecord, ScenarioRecord};
use crate::record::words::seconds;

/// Width of the plot's field.
const WIDTH: f64 = 640.0;

/// The plot.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct SoftHard {
    /// One for each way of ending that occurred.
    pub(super) bars: Vec<Ending>,
    /// Times from the request to the power being off, one for each soft shutdown, placed on the field.
    pub(super) dots: Vec<(f64, String)>,
    /// The field's right edge.
    pub(super) longest: String,
}

/// One way of ending.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct Ending {
    /// For people.
    pub(super) name: &'static str,
    /// How many results.
    pub(super) count: usize,
    /// Kind, number, place and width of each part.
    pub(super) parts: Vec<(&'static str, usize, f64, f64)>,
}

/// The plot of a run; `None` when no machine ended.
pub(super) fn soft_hard(run: &RunRecord) -> Option<SoftHard> {
    let ways = [
        ("soft: the guest powered off", OutcomeKind::PoweredOff),
        ("hard: the host pulled the plug", OutcomeKind::HostKilled),
        ("not off by the deadline", OutcomeKind::StillRunning),
    ];
    let bars: Vec<Ending> = ways
        .into_iter()
        .filter_map(|(name, kind)| {
            let of: Vec<&ScenarioRecord> = run.results.iter().filter(|r| r.outcome.kind() == kind).collect();
            (!of.is_empty()).then(|| ending(name, &of))
        })
        .collect();
    if bars.is_empty() {
        return None;
    }
    let soft = run.results.iter().filter(|r| r.outcome.kind() == OutcomeKind::PoweredOff);
    let times: Vec<(u64, &ScenarioRecord)> =
        soft.filter_map(|r| Some((r.phases.powered_off_ms?, r))).collect();
    let longest = times.iter().map(|(ms, _)| *ms).max().unwrap_or(0);
    let place = |ms: u64| (ms as f64 / longest.max(1) as f64 * WIDTH * 10.0).round() / 10.0;
    let dots =
        times.iter().map(|(ms, r)| (place(*ms), format!("{}: {}", r.scenario, seconds(*ms)))).collect();
    Some(SoftHard { bars, dots, longest: seconds(longest) })
}

fn ending(name: &'static str, of: &[&ScenarioRecord]) -> Ending {
    let mut x = 0.0;
    let mut parts = Vec::new();
    for (kind, state) in [("clean", Some(false)), ("dirty", Some(true)), ("not-read", None)] {
        let count = of.iter().filter(|r| r.damage.volume_dirty == state).count();
        if count > 0 {
            let width = count as f64 / of.len() as f64 * WIDTH;
            parts.push((kind, count, x, width));
            x += width;
        }
    }
    Ending { name, count: of.len(), parts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::testing::{result, run};

    #[test]
    fn each_way_of_ending_has_its_bar() {
        let mut results: Vec<ScenarioRecord> = (1..=4).map(|n| result("control", n)).collect();
        results[1].phases.powered_off_ms = Some(2 * results[0].phases.powered_off_ms.unwrap());
        results[2].damage.volume_dirty = Some(true);
        results[3].outcome = Outcome::HostKilled;
        results[3].damage.volume_dirty = None;
        let plot = soft_hard(&run(results)).unwrap();
        let told: Vec<_> = plot.bars.iter().map(|b| (b.count, b.parts.len(), b.parts[0].0)).collect();
        assert_eq!(told, [(3, 2, "clean"), (1, 1, "not-read")]);
        assert_eq!(plot.dots.iter().map(|d| d.0).collect::<Vec<_>>(), [320.0, 640.0, 320.0]);
        assert_eq!(soft_hard(&run([])), None);
    }
}
