//! What was approved of scenarios under press policies and platforms: the snapshot `snapshots/requests.FAMILY.snap`,
//! whose lines are those of [`softoff_harness::request_matrix::normalised`].

use softoff_harness::image::GuestFamily;
use softoff_harness::scenario::{Expectation, PhaseBudget, Scenario};

/// The scenarios of the matrix: the control, one for each cause, and both kinds of sleep.
pub const MATRIX: [&str; 9] = [
    "control",
    "windows-update-exceeds-grace",
    "shutdown-event-tracker",
    "logon-required",
    "unresponsive-application-hang",
    "power-button-nothing",
    "asleep-s3",
    "display-asleep",
    "malware-blocking-service",
];

/// The snapshot's name for a family of images.
pub fn snapshot_name(family: GuestFamily) -> String {
    format!("requests.{}", crate::family_name(family))
}

/// What was approved of a scenario under its policy; `None` when nothing was.
pub fn expected(scenario: &Scenario, family: GuestFamily) -> Option<Expectation> {
    if !crate::is_ours(scenario) {
        return None;
    }
    expectation(&line(scenario, family)?)
}

/// The approved line of a scenario under its policy.
pub(crate) fn line(scenario: &Scenario, family: GuestFamily) -> Option<String> {
    let text = crate::snapshot(&snapshot_name(family))?;
    let found = text.lines().find(|line| line.split(" | ").next() == Some(&scenario.name.0));
    found.map(str::to_owned)
}

/// A line of the snapshot: scenario, outcome, last phase, reacted, ended, cause, volume, update.
fn expectation(line: &str) -> Option<Expectation> {
    let words: Vec<&str> = line.split(" | ").collect();
    let [_, outcome, last_phase, _, _, cause, volume, _] = words.as_slice() else { return None };
    fn of<T: serde::de::DeserializeOwned>(word: &str) -> Option<T> {
        serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
    }
    Some(Expectation {
        outcome: of(outcome)?,
        last_phase: of(last_phase)?,
        cause: of(cause)?,
        volume_dirty: match *volume {
            "dirty" => Some(true),
            "clean" => Some(false),
            _ => None,
        },
        within: PhaseBudget::default(),
    })
}

#[cfg(test)]
mod tests {
    use softoff_harness::outcome::{Cause, OutcomeKind, Phase};

    use super::*;

    #[test]
    fn a_line_is_an_expectation_or_nothing() {
        let line = "hang@escalate | host-killed | reacted | reacted to 1 | ended by 2 | unresponsive-application | dirty | -";
        let found = expectation(line).unwrap();
        assert_eq!((found.outcome, found.last_phase), (OutcomeKind::HostKilled, Phase::Reacted));
        assert_eq!((found.cause, found.volume_dirty), (Cause::UnresponsiveApplication, Some(true)));
        assert!(expectation(&line.replace("host-killed", "gone")).is_none());
        assert!(expectation("hang@escalate | host-killed").is_none());
    }
}
