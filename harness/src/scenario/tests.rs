//! Definitions that fit, and those that do not.

use super::*;
use rstest::rstest;

const GOOD: &str = r#"summary = "The button does nothing"
images = ["reference"]

[[condition]]
kind = "power-button-policy"
action = "nothing"

[readiness]
within = "2m"

[request]
by = "acpi-button"
deadline = "20s"

[expect]
outcome = "still-running"
last_phase = "request"
cause = "power-button-policy"
within = { reacted = "500ms" }
"#;

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(text, Path::new("definitions/test.toml"), "test".into())
}

#[test]
fn a_definition_is_read_whole() {
    let scenario = parse(GOOD).unwrap();
    assert_eq!(scenario.name.0, "test");
    assert_eq!(scenario.request.deadline.0, Duration::from_secs(20));
    assert_eq!(scenario.request.presses, 1);
    assert_eq!(scenario.expect.within.of(Phase::Reacted), Some(Duration::from_millis(500)));
}

#[rstest]
#[case::unknown_key("deadline = \"20s\"", "deadlime = \"20s\"")]
#[case::unknown_condition("kind = \"power-button-policy\"", "kind = \"gremlins\"")]
#[case::unknown_parameter("action = \"nothing\"", "action = \"explode\"")]
#[case::foreign_parameter("action = \"nothing\"", "action = \"nothing\"\ncolour = 1")]
#[case::negative_deadline("deadline = \"20s\"", "deadline = \"-20s\"")]
#[case::zero_deadline("deadline = \"20s\"", "deadline = \"0s\"")]
#[case::bare_number("deadline = \"20s\"", "deadline = 20")]
#[case::huge("deadline = \"20s\"", "deadline = \"99999999999999999999s\"")]
#[case::unknown_outcome("outcome = \"still-running\"", "outcome = \"alive\"")]
#[case::contradiction("outcome = \"still-running\"", "outcome = \"host-killed\"")]
#[case::no_presses("deadline = \"20s\"", "deadline = \"20s\"\npresses = 0")]
#[case::late_press("deadline = \"20s\"", "deadline = \"20s\"\npresses = 3\ngap = \"10s\"")]
#[case::no_image("images = [\"reference\"]", "images = []")]
#[case::missing_section("[readiness]\nwithin = \"2m\"", "")]
#[case::not_toml("[expect]", "[expect")]
#[case::wake_key_without_gap("deadline = \"20s\"", "deadline = \"20s\"\nwake_key = \"shift\"")]
#[case::twice_the_same_kind(
    "[readiness]",
    "[[condition]]\nkind = \"power-button-policy\"\naction = \"sleep\"\n\n[readiness]"
)]
#[case::an_act_without_a_time("[expect]", "[[request.then]]\ndo = \"press\"\n\n[expect]")]
#[case::an_unknown_moment("[expect]", "[[request.then]]\ndo = \"press\"\non = \"lunch\"\n\n[expect]")]
#[case::progress_past_the_end(
    "[expect]",
    "[[request.then]]\ndo = \"press\"\non = { update-progress = 101 }\n\n[expect]"
)]
#[case::a_pulled_plug_not_expected(
    "[expect]",
    "[[request.then]]\ndo = \"hard-power-off\"\non = \"session-ended\"\n\n[expect]"
)]
#[case::next_boot_without_an_end("images = [\"reference\"]", "images = [\"reference\"]\nnext_boot = true")]
fn what_does_not_fit_is_told_with_file_line_and_allowed_values(#[case] from: &str, #[case] to: &str) {
    let name =
        std::thread::current().name().unwrap_or_default().rsplit("::").next().unwrap_or_default().to_owned();
    assert!(GOOD.contains(from));
    let error = parse(&GOOD.replace(from, to)).unwrap_err();
    insta::assert_snapshot!(name, error);
}
