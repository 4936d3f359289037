//! Press policies: requests that are put in the place of a scenario's own.
//!
//! A scenario under a policy is a scenario of its own, named `control@twice`: repeats, comparison, history and reports
//! need to know nothing of policies. Nothing of the definition's expectation holds for it, since that belongs to the
//! definition's request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Request, Scenario, ScenarioName};
use crate::image::Sha256Hex;

/// Stands between a scenario's name and its policy's.
pub const AT: char = '@';

/// One way to ask, as data.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Short name.
    pub id: String,
    /// For people.
    pub summary: String,
    /// What takes the place of a scenario's `[request]`; its `at` and `delay` stay the scenario's.
    pub request: Request,
    /// Whether it is what a platform does.
    #[serde(skip)]
    pub platform: bool,
}

/// A press policy, or what a platform does, as records name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRef {
    /// Its short name.
    pub id: String,
    /// The scenario that it was put on.
    pub scenario: ScenarioName,
    /// Whether it is what a platform does.
    pub platform: bool,
    /// From the first request to the forced end as planned, milliseconds; absent where nobody forces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_after_ms: Option<u64>,
    /// The forced end came earlier than that: the evidence showed that nothing more would come until somebody acts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_short: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policy: Vec<Policy>,
}

/// The press policies of `harness/data/policies.toml`, in the file's order.
///
/// # Errors
/// When the file that was built in does not fit; a test keeps that from happening.
pub fn policies() -> anyhow::Result<Vec<Policy>> {
    let file: File = toml::from_str(include_str!("../../data/policies.toml"))?;
    Ok(file.policy)
}

impl Policy {
    /// The scenario under this policy.
    pub fn on(&self, scenario: &Scenario) -> Scenario {
        let own = &scenario.request;
        let request = Request { at: own.at, delay: own.delay, ..self.request.clone() };
        // What the result rests on: the definition and the policy, whatever file it came from.
        let digest = Sha256Hex::of_bytes(format!("{}{:?}", scenario.digest.0, self.request).as_bytes());
        Scenario {
            name: ScenarioName(format!("{}{AT}{}", scenario.name, self.id)),
            digest,
            summary: format!("{}; asked so: {}", scenario.summary, self.summary),
            policy: Some(PolicyRef {
                id: self.id.clone(),
                scenario: scenario.name.clone(),
                platform: self.platform,
                forced_after_ms: self.forced_after_ms(),
                cut_short: false,
            }),
            request,
            unexpected: true,
            ..scenario.clone()
        }
    }

    /// From the first request to the forced end, milliseconds; `None` where nobody forces.
    fn forced_after_ms(&self) -> Option<u64> {
        let request = &self.request;
        let forced = request.then.iter().position(|t| t.act.is_hard())?;
        let acts = request.then.iter().take(forced + 1).filter_map(|t| t.after).map(|after| after.0);
        let all = acts.fold(request.gap.0.saturating_mul(request.presses - 1), |sum, after| sum + after);
        Some(u64::try_from(all.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_policy_fits_and_a_scenario_under_it_is_its_own() {
        let text = "summary = \"x\"\nimages = [\"reference\"]\n[readiness]\nwithin = \"4m\"\n[request]\nby = \"acpi-button\"\n\
                    deadline = \"60s\"\ndelay = \"3s\"\n[expect]\noutcome = \"powered-off\"\nlast_phase = \"powered-off\"\n\
                    cause = \"none\"\n";
        let scenario = Scenario::parse(text, Path::new("control.toml"), "control".into()).unwrap();
        let all = policies().unwrap();
        let mut names = Vec::new();
        for policy in &all {
            let under = policy.on(&scenario);
            assert_eq!(under.request.contradiction(), None, "{}", policy.id);
            assert_eq!(under.request.delay, scenario.request.delay);
            assert!(under.unexpected && under.digest != scenario.digest);
            assert!(!policy.request.needs_libvirt(), "{}: the matrix runs on plain QEMU too", policy.id);
            names.push((under.name.0, under.policy.unwrap().forced_after_ms));
        }
        assert_eq!(names.first(), Some(&("control@once".to_owned(), None)));
        assert_eq!(names.last(), Some(&("control@escalate".to_owned(), Some(20_000))));
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
