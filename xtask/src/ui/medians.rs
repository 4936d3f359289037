//! How long each phase took over the repeats of a scenario.

use comfy_table::{CellAlignment, Table};
use softoff_harness::outcome::Phase;
use softoff_harness::record::RunRecord;
use softoff_harness::record::schema::{PhaseTimes, ScenarioRecord};

use super::table;

/// Median, least and most of some times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spread {
    median: u64,
    min: u64,
    max: u64,
}

impl Spread {
    /// `None` of nothing. The median of an even number is the mean of the two in the middle.
    fn of(mut times: Vec<u64>) -> Option<Spread> {
        times.sort_unstable();
        let (min, max) = (*times.first()?, *times.last()?);
        let upper = *times.get(times.len() / 2)?;
        let lower = *times.get((times.len() - 1) / 2)?;
        Some(Spread { median: lower.midpoint(upper), min, max })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let (median, min, max) = (seconds(self.median), seconds(self.min), seconds(self.max));
        write!(f, "{median:.2} s ({min:.2}..{max:.2})")
    }
}

/// A row for each phase that a scenario's repeats reached on an image; `None` when none was asked.
pub(super) fn spreads(run: &RunRecord) -> Option<Table> {
    let asked: Vec<&ScenarioRecord> = run.results.iter().filter(|r| r.is_asked()).collect();
    let name = |r: &ScenarioRecord| (r.scenario.to_string(), r.timed_subject());
    let mut names: Vec<(String, String)> = asked.iter().map(|r| name(r)).collect();
    names.sort();
    names.dedup();
    let mut rows = Vec::new();
    for one in names {
        let times: Vec<&PhaseTimes> = asked.iter().filter(|r| name(r) == one).map(|r| &r.phases).collect();
        let (mut scenario, mut image) = one;
        for phase in Phase::ALL.into_iter().skip(1) {
            let reached: Vec<u64> = times.iter().filter_map(|t| t.of(phase)).collect();
            let steps = Spread::of(times.iter().filter_map(|t| t.step(phase)).collect());
            let Some(since_request) = Spread::of(reached.clone()) else { continue };
            rows.push(vec![
                std::mem::take(&mut scenario),
                std::mem::take(&mut image),
                phase.to_string(),
                format!("{} of {}", reached.len(), times.len()),
                steps.map_or("-".to_owned(), |s| s.to_string()),
                since_request.to_string(),
            ]);
        }
    }
    if rows.is_empty() {
        return None;
    }
    let header = ["scenario", "image", "phase", "reached", "since the phase before", "since the request"];
    let mut table = table(&header, rows);
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use softoff_harness::outcome::{Cause, Verdict};

    use super::*;
    use crate::ui::testing::{result, run};

    #[rstest]
    #[case::none(&[], None)]
    #[case::one(&[7], Some((7, 7, 7)))]
    #[case::odd(&[9, 1, 4], Some((4, 1, 9)))]
    #[case::even(&[9, 1, 4, 6], Some((5, 1, 9)))]
    #[case::huge(&[u64::MAX, u64::MAX], Some((u64::MAX, u64::MAX, u64::MAX)))]
    fn the_middle_of_times(#[case] times: &[u64], #[case] spread: Option<(u64, u64, u64)>) {
        let expected = spread.map(|(median, min, max)| Spread { median, min, max });
        assert_eq!(Spread::of(times.to_vec()), expected);
    }

    fn timed(scenario: &str, repeat: u32, times: [Option<u64>; 4]) -> ScenarioRecord {
        let [reacted_ms, session_ended_ms, services_stopped_ms, powered_off_ms] = times;
        let mut result = result(scenario, repeat, Cause::None, Cause::None);
        result.phases = PhaseTimes {
            request_ms: Some(0),
            reacted_ms,
            session_ended_ms,
            services_stopped_ms,
            powered_off_ms,
        };
        result
    }

    #[test]
    fn repeats_are_one_row_for_each_phase() {
        let mut infra = timed("control", 4, [Some(90_000); 4]);
        infra.verdict = Verdict::Infra;
        let results = [
            timed("control", 1, [Some(40), Some(500), Some(800), Some(1000)]),
            timed("hang", 1, [Some(50), None, None, None]),
            timed("control", 2, [Some(60), Some(700), Some(900), Some(1500)]),
            // Without its session-ended, services-stopped has nothing to be measured from.
            timed("control", 3, [Some(50), None, Some(1000), Some(1200)]),
            timed("hang", 2, [None; 4]),
            infra,
        ];
        insta::assert_snapshot!(spreads(&run(results)).unwrap().force_no_tty().to_string());
    }

    #[test]
    fn nothing_reached_is_no_table() {
        assert!(spreads(&run([timed("hang", 1, [None; 4])])).is_none());
    }
}
