//! Made-up results for the tests of reports and comparisons.

use crate::record::schema::{RunRecord, ScenarioRecord};
use crate::scenario::ScenarioName;

/// A run of these results.
pub(crate) fn run(results: impl IntoIterator<Item = ScenarioRecord>) -> RunRecord {
    let kept: RunRecord = serde_json::from_str(include_str!("../../tests/data/run-schema-1.json")).unwrap();
    RunRecord { results: results.into_iter().collect(), ..kept }
}

/// A control that passed.
pub(crate) fn result(scenario: &str, repeat: u32) -> ScenarioRecord {
    let kept: RunRecord = serde_json::from_str(include_str!("../../tests/data/run-schema-1.json")).unwrap();
    let mut result = kept.results.into_iter().next().unwrap();
    result.scenario = ScenarioName(scenario.into());
    result.repeat = repeat;
    result.dir = format!("{scenario}.reference.{repeat}");
    result.attachments.clear();
    result
}
