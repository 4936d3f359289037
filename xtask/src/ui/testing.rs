//! Made-up results for the tests of what people see.

use softoff_harness::outcome::{Cause, Phase, Verdict};
use softoff_harness::record::RunRecord;
use softoff_harness::record::schema::ScenarioRecord;
use softoff_harness::scenario::ScenarioName;

/// A run of these results.
pub(crate) fn run(results: impl IntoIterator<Item = ScenarioRecord>) -> RunRecord {
    let kept = include_str!("../../../harness/tests/data/run-schema-1.json");
    let kept: RunRecord = serde_json::from_str(kept).unwrap();
    RunRecord { results: results.into_iter().collect(), ..kept }
}

/// A result that was asked.
pub(crate) fn result(scenario: &str, repeat: u32, expected: Cause, named: Cause) -> ScenarioRecord {
    let kept = include_str!("../../../harness/tests/data/run-schema-1.json");
    let kept: RunRecord = serde_json::from_str(kept).unwrap();
    let mut result = kept.results.into_iter().next().unwrap();
    result.scenario = ScenarioName(scenario.into());
    result.repeat = repeat;
    result.verdict = if expected == named { Verdict::Pass } else { Verdict::Fail };
    result.last_phase = Some(Phase::Request);
    result.expected_cause = Some(expected);
    result.diagnosis.cause = named;
    result
}
