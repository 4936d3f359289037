//! A comparison's result, as the table and `--json` show it.

use std::time::Duration;

use serde::Serialize;

/// Times of one side of a comparison.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples(Vec<Duration>);

impl Samples {
    pub(super) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(super) fn extend(&mut self, more: Samples) {
        self.0.extend(more.0);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle one, or the mean of the two in the middle; `None` of nothing.
    pub(super) fn median(&self) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some((lower + upper) / 2)
    }

    fn side(&self) -> Option<Side> {
        let seconds = |d: Duration| d.as_secs_f64();
        Some(Side {
            median: seconds(self.median()?),
            min: seconds(*self.0.iter().min()?),
            max: seconds(*self.0.iter().max()?),
        })
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Samples {
        Samples(times.into_iter().collect())
    }
}

/// Median and extremes of one side, in the row's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Side {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Side {
    /// A limit, or a figure that was taken once.
    pub(super) fn exactly(value: f64) -> Side {
        Side { median: value, min: value, max: value }
    }
}

/// What a row's figures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "MB")]
    Megabytes,
    #[serde(rename = "share")]
    Share,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// What the two sides are.
    pub(super) what: String,
    pub(super) unit: Unit,
    /// Our median.
    pub(super) ours: Option<f64>,
    /// The peer's, or the limit.
    pub(super) theirs: Option<f64>,
    /// Ours by theirs.
    pub(super) ratio: Option<f64>,
    /// What was to be reached, in words.
    pub(super) goal: String,
    /// Whether it was; `None` when the row is unavailable.
    pub(super) met: Option<bool>,
    /// Measurements on our side.
    pub(super) samples: usize,
    pub(super) ours_spread: Option<Side>,
    pub(super) theirs_spread: Option<Side>,
    /// What else belongs to it; for an unavailable row, why.
    pub(super) note: String,
}

impl Row {
    /// A row from two sides in the same unit.
    pub(super) fn of(name: &'static str, what: &str, unit: Unit, ours: Side, theirs: Side) -> Row {
        Row {
            name,
            what: what.to_owned(),
            unit,
            ours: Some(ours.median),
            theirs: Some(theirs.median),
            ratio: (theirs.median > 0.0).then(|| ours.median / theirs.median),
            goal: String::new(),
            met: None,
            samples: 1,
            ours_spread: Some(ours),
            theirs_spread: Some(theirs),
            note: String::new(),
        }
    }

    /// A row from two sets of times. Without a measurement on either side it is unavailable.
    pub(super) fn timed(name: &'static str, what: &str, ours: &Samples, theirs: &Samples) -> Row {
        match (ours.side(), theirs.side()) {
            (Some(o), Some(t)) => Row { samples: ours.len(), ..Row::of(name, what, Unit::Seconds, o, t) },
            _ => Row::unavailable(name, what, "nothing was measured".into()),
        }
    }

    /// A row from times against a limit.
    pub(super) fn limited(name: &'static str, what: &str, ours: &Samples, limit: Duration) -> Row {
        let row = Row::timed(name, what, ours, &Samples(vec![limit]));
        let met = row.ratio.map(|ratio| ratio <= 1.0);
        Row { goal: format!("at most {}", figure(limit.as_secs_f64(), Unit::Seconds)), met, ..row }
    }

    /// A row that could not be measured, and why.
    pub(super) fn unavailable(name: &'static str, what: &str, why: String) -> Row {
        let nothing = Side::exactly(0.0);
        Row {
            ours: None,
            theirs: None,
            ratio: None,
            ours_spread: None,
            theirs_spread: None,
            samples: 0,
            goal: "unavailable".into(),
            note: why,
            ..Row::of(name, what, Unit::Seconds, nothing, nothing)
        }
    }

    /// The row with its goal, and whether it was reached.
    pub(super) fn goal(self, goal: &str, met: bool) -> Row {
        let met = self.ours.is_some().then_some(met);
        Row { goal: if met.is_some() { goal.to_owned() } else { self.goal }, met, ..self }
    }

    /// The row with a remark.
    pub(super) fn note(self, note: String) -> Row {
        Row { note, ..self }
    }

    /// The table's cells.
    pub(super) fn cells(&self) -> Vec<String> {
        let side = |side: Option<Side>| match side {
            Some(s) if s.min < s.max => format!(
                "{} ({}..{})",
                figure(s.median, self.unit),
                figure(s.min, self.unit),
                figure(s.max, self.unit)
            ),
            Some(s) => figure(s.median, self.unit),
            None => "-".into(),
        };
        vec![
            self.name.to_owned(),
            self.what.clone(),
            side(self.ours_spread),
            side(self.theirs_spread),
            self.ratio.map_or("-".into(), |r| format!("{r:.3}")),
            self.goal.clone(),
            match self.met {
                Some(true) => "met".into(),
                Some(false) => "MISSED".into(),
                None => "-".into(),
            },
            self.samples.to_string(),
            self.note.clone(),
        ]
    }
}

/// The table's header.
pub(super) const HEADER: [&str; 9] =
    ["row", "what", "ours", "theirs or limit", "ratio", "goal", "", "samples", "note"];

/// A figure with its unit: times in the unit that leaves one to three digits before the point.
pub(super) fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Megabytes => format!("{value:.1} MB"),
        Unit::Share => format!("{:.0} %", value * 100.0),
        Unit::Seconds if value < 1e-3 => format!("{:.0} us", value * 1e6),
        Unit::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
        Unit::Seconds => format!("{value:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(times: &[u64]) -> Samples {
        times.iter().map(|ms| Duration::from_millis(*ms)).collect()
    }

    #[test]
    fn a_limit_is_met_or_missed_by_the_median() {
        let limit = Duration::from_millis(5);
        assert_eq!(Row::limited("x", "", &millis(&[1, 4, 900]), limit).met, Some(true));
        let missed = Row::limited("x", "", &millis(&[1, 6, 7]), limit);
        assert_eq!((missed.met, missed.ratio), (Some(false), Some(1.2)));
    }

    #[test]
    fn what_was_not_measured_meets_nothing() {
        let row = Row::timed("x", "", &millis(&[]), &millis(&[1])).goal("fast", true);
        assert_eq!((row.met, row.ratio, row.samples), (None, None, 0));
        assert_eq!(row.goal, "unavailable");
    }

    #[test]
    fn cells_show_median_and_spread() {
        let row = Row::timed("x", "a / b", &millis(&[1, 2, 4, 5]), &millis(&[2000])).goal("less", true);
        insta::assert_debug_snapshot!(row.cells());
    }
}
