//! The confusion matrix of a run with repeats: which cause was expected, which was named.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{CellAlignment, Table};
use softoff_harness::outcome::Cause;
use softoff_harness::record::RunRecord;

use super::table;

/// How often each cause was named where one was expected.
#[derive(Debug, Default)]
pub(super) struct Confusion {
    /// (expected, named)
    counts: BTreeMap<(Cause, Cause), usize>,
    /// Results that say nothing of the diagnosis.
    left_out: usize,
}

impl Confusion {
    /// Counts the results that were asked, and whose expected cause is on record.
    pub(super) fn of(run: &RunRecord) -> Confusion {
        let mut confusion = Confusion::default();
        for result in &run.results {
            match result.expected_cause.filter(|_| result.is_asked()) {
                Some(expected) => {
                    *confusion.counts.entry((expected, result.diagnosis.cause)).or_default() += 1;
                }
                None => confusion.left_out += 1,
            }
        }
        confusion
    }

    /// A row for each expected cause, a column for each that was expected or named; `None` when nothing was counted.
    pub(super) fn table(&self) -> Option<Table> {
        if self.counts.is_empty() {
            return None;
        }
        let rows: BTreeSet<Cause> = self.counts.keys().map(|(expected, _)| *expected).collect();
        let named = self.counts.keys().flat_map(|(expected, named)| [*expected, *named]);
        let columns: BTreeSet<Cause> = named.collect();
        let names: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let header: Vec<&str> =
            ["expected \\ named"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let cell = |expected: Cause, named: Cause| match self.counts.get(&(expected, named)) {
            Some(count) => count.to_string(),
            None => "·".to_owned(),
        };
        let row = |expected: &Cause| {
            let cells = columns.iter().map(|named| cell(*expected, *named));
            [expected.to_string()].into_iter().chain(cells).collect()
        };
        let mut table = table(&header, rows.iter().map(row).collect());
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Some(table)
    }

    /// How many were named as expected.
    pub(super) fn line(&self) -> String {
        let all: usize = self.counts.values().sum();
        let right: usize = self.counts.iter().filter(|((a, b), _)| a == b).map(|(_, count)| count).sum();
        let mut line = format!("{right} of {all} causes named as expected");
        if self.left_out > 0 {
            line.push_str(&format!("; {} results left out: they say nothing of the cause", self.left_out));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use softoff_harness::outcome::Verdict;

    use super::*;
    use crate::ui::testing::{result, run};

    #[test]
    fn what_was_named_stands_under_it() {
        let results = [
            result("control", 1, Cause::None, Cause::None),
            result("control", 2, Cause::None, Cause::None),
            result("hang", 1, Cause::UnresponsiveApplication, Cause::UnresponsiveApplication),
            result("hang", 2, Cause::UnresponsiveApplication, Cause::Unknown),
            result("sleep", 1, Cause::Asleep, Cause::Malware),
        ];
        let confusion = Confusion::of(&run(results));
        insta::assert_snapshot!(
            confusion.table().unwrap().force_no_tty().to_string() + "\n" + &confusion.line()
        );
    }

    #[test]
    fn what_was_not_asked_is_left_out() {
        let mut unproven = result("hang", 1, Cause::UnresponsiveApplication, Cause::Unknown);
        unproven.verdict = Verdict::Inconclusive;
        let mut old = result("control", 1, Cause::None, Cause::None);
        old.expected_cause = None;
        let confusion = Confusion::of(&run([unproven, old]));
        assert!(confusion.table().is_none());
        assert_eq!(
            confusion.line(),
            "0 of 0 causes named as expected; 2 results left out: they say nothing of the cause"
        );
    }
}
