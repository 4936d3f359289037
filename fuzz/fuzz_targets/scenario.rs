//! Scenario definitions: refused with a line and a reason, or whole.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use softoff_harness::image::GuestFamily;
use softoff_harness::scenario::{Scenario, ScenarioError};

fuzz_target!(|text: &str| {
    match Scenario::parse(text, Path::new("fuzzed.toml"), "fuzzed".into()) {
        Ok(scenario) => {
            assert!(!scenario.images.is_empty() && !scenario.request.deadline.0.is_zero());
            for condition in &scenario.conditions {
                let _edits = condition.offline(GuestFamily::Windows);
                assert!(!condition.id().contains('/'));
            }
        }
        Err(ScenarioError::Format { line, what, .. }) => {
            assert!(line >= 1 && line <= text.lines().count().max(1) + 1, "line {line}: {what}");
        }
        Err(other) => panic!("{other}"),
    }
});
