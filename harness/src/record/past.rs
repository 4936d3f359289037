//! What earlier runs tell of a scenario: how long it takes, how much memory, when the guest was off.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::{read_run, schema::ScenarioRecord};
use crate::machine::accel::Accelerator;
use crate::outcome::{OutcomeKind, Verdict};
use crate::scenario::ScenarioName;

/// Runs that are looked at, the newest.
const RUNS: usize = 20;

/// Runs with fewer power-offs say nothing of a deadline.
const ENOUGH: usize = 5;

/// A deadline from history: so many times the slowest power-off ...
const MARGIN: u32 = 3;
/// ... at least ...
const LEAST: Duration = Duration::from_secs(10);
/// ... and at most so many times the definition's.
const CAP: u32 = 2;

/// Earlier results of one scenario on one image class and accelerator.
#[derive(Debug, Clone, Default)]
struct Seen {
    walls: Vec<u64>,
    memory_mib: u64,
    /// Milliseconds to each power-off; `None` as soon as one run ended in another way.
    off: Option<Vec<u64>>,
}

/// Earlier results.
#[derive(Debug, Clone, Default)]
pub struct Past {
    seen: HashMap<(ScenarioName, String, Accelerator), Seen>,
}

impl Past {
    /// Reads the newest runs below `out`; what cannot be read is left out.
    pub fn read(out: &Path) -> Past {
        let entries = std::fs::read_dir(out.join("runs")).into_iter().flatten().flatten();
        let mut dirs: Vec<_> = entries.map(|e| e.path()).collect();
        // Their names are UTC of their starts.
        dirs.sort();
        let newest = dirs.iter().rev().take(RUNS).filter_map(|dir| read_run(dir).ok());
        Past::of(newest.flat_map(|run| run.results))
    }

    /// From results in any order.
    pub fn of(results: impl IntoIterator<Item = ScenarioRecord>) -> Past {
        let mut past = Past::default();
        for record in results {
            // A broken host's times are nobody's.
            if record.verdict == Verdict::Infra {
                continue;
            }
            let key = (record.scenario.clone(), record.image.name.clone(), record.accel);
            let seen =
                past.seen.entry(key).or_insert_with(|| Seen { off: Some(Vec::new()), ..Seen::default() });
            seen.walls.push(record.wall_ms);
            seen.memory_mib = seen.memory_mib.max(record.machine_memory_mib.unwrap_or(0));
            let off =
                record.phases.powered_off_ms.filter(|_| record.outcome.kind() == OutcomeKind::PoweredOff);
            match (off, &mut seen.off) {
                (Some(ms), Some(list)) => list.push(ms),
                (None, list) => *list = None,
                (Some(_), None) => {}
            }
        }
        past
    }

    fn get(&self, scenario: &ScenarioName, image: &str, accel: Accelerator) -> Option<&Seen> {
        self.seen.get(&(scenario.clone(), image.to_owned(), accel))
    }

    /// The median of its wall times.
    pub fn wall(&self, scenario: &ScenarioName, image: &str, accel: Accelerator) -> Option<Duration> {
        let mut walls = self.get(scenario, image, accel)?.walls.clone();
        walls.sort_unstable();
        walls.get(walls.len() / 2).map(|ms| Duration::from_millis(*ms))
    }

    /// The most memory of its own that QEMU had in it, MiB.
    pub fn memory_mib(&self, scenario: &ScenarioName, image: &str, accel: Accelerator) -> Option<u64> {
        self.get(scenario, image, accel).map(|seen| seen.memory_mib).filter(|mib| *mib > 0)
    }

    /// A deadline from what was seen: three times the slowest power-off, at least 10 s, at most twice the
    /// definition's. `None` unless five or more runs are known and every one powered off: a run that was cut at
    /// its deadline does not say how long it would have taken.
    pub fn deadline(
        &self,
        scenario: &ScenarioName,
        image: &str,
        accel: Accelerator,
        defined: Duration,
    ) -> Option<Duration> {
        let off = self.get(scenario, image, accel)?.off.as_ref()?;
        let slowest = off.iter().max().filter(|_| off.len() >= ENOUGH)?;
        let wanted = Duration::from_millis(*slowest).saturating_mul(MARGIN).max(LEAST);
        Some(wanted.min(defined.saturating_mul(CAP)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(wall_ms: u64, off: Option<u64>) -> ScenarioRecord {
        let run: super::super::RunRecord =
            serde_json::from_str(include_str!("../../tests/data/run-schema-1.json")).unwrap();
        let mut record = run.results.into_iter().find(|r| r.scenario.0 == "control").unwrap();
        record.wall_ms = wall_ms;
        record.phases.powered_off_ms = off;
        if off.is_none() {
            record.outcome = crate::outcome::Outcome::StillRunning;
        }
        record
    }

    fn ask(past: &Past, defined: u64) -> Option<Duration> {
        let r = record(0, None);
        past.deadline(&r.scenario, &r.image.name, r.accel, Duration::from_secs(defined))
    }

    #[test]
    fn a_deadline_has_a_margin_a_floor_and_a_cap() {
        let of = |off: [u64; 5]| Past::of(off.map(|ms| record(1, Some(ms))));
        assert_eq!(ask(&of([900, 800, 700, 600, 500]), 60), Some(LEAST));
        assert_eq!(ask(&of([9000, 800, 700, 600, 500]), 60), Some(Duration::from_secs(27)));
        assert_eq!(ask(&of([900_000, 800, 700, 600, 500]), 60), Some(Duration::from_secs(120)));
    }

    #[test]
    fn few_runs_and_unfinished_ones_say_nothing() {
        assert_eq!(ask(&Past::of([record(1, Some(5))]), 60), None);
        let mut six: Vec<_> = (0..5).map(|_| record(1, Some(500))).collect();
        six.push(record(1, None));
        assert_eq!(ask(&Past::of(six), 60), None);
    }

    #[test]
    fn the_median_wall_and_nothing_of_strangers() {
        let past = Past::of([record(5, None), record(900, None), record(7, None)]);
        let r = record(0, None);
        assert_eq!(past.wall(&r.scenario, &r.image.name, r.accel), Some(Duration::from_millis(7)));
        assert_eq!(past.wall(&r.scenario, "other", r.accel), None);
        assert_eq!(past.memory_mib(&r.scenario, &r.image.name, r.accel), None);
    }
}
