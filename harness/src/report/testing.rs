//! Made-up results for the tests of reports and comparisons.

use std::sync::LazyLock;

use crate::record::schema::{RunRecord, ScenarioRecord};
use crate::scenario::ScenarioName;

static KEPT: LazyLock<RunRecord> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../tests/data/run-schema-1.json")).unwrap());

/// A run of these results.
pub(crate) fn run(results: impl IntoIterator<Item = ScenarioRecord>) -> RunRecord {
    RunRecord { results: results.into_iter().collect(), ..KEPT.clone() }
}

/// A control that passed.
pub(crate) fn result(scenario: &str, repeat: u32) -> ScenarioRecord {
    let mut result = KEPT.results.first().unwrap().clone();
    result.scenario = ScenarioName(scenario.into());
    result.repeat = repeat;
    result.dir = format!("{scenario}.reference.{repeat}");
    result.attachments.clear();
    result
}
