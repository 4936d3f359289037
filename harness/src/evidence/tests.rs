//! What becomes of a timeline, and what its evidence answers.

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::screen_texts::{EVENT_TRACKER, SHUTTING_DOWN};
use crate::settle::{PLUG, QUIT};
use crate::timeline::Source;

/// A screen before, then a request each 20 s, with a new screen a second after each, and the agent's channel closing
/// at the end.
fn story(requests: &[&str]) -> Vec<Observation> {
    let screen = || Seen::ScreenChanged { file: "screen.png".into(), changed: 1.0 };
    let closed =
        Seen::QmpEvent { name: "VSERPORT_CHANGE".into(), data: json!({ "open": false, "id": "agent" }) };
    let mut story = vec![(1, screen())];
    for (number, by) in (1..).zip(requests) {
        let at = 20 * u64::from(number);
        story.push((at, Seen::Requested { by: (*by).to_owned(), number }));
        story.push((at + 1, screen()));
    }
    story.push((100, closed));
    let observed = |(seconds, what)| Observation { at_us: seconds * 1_000_000, source: Source::Host, what };
    story.into_iter().map(observed).collect()
}

#[rstest]
#[case::press(&[PRESS], 1, false, None, Some(80))]
#[case::two_presses(&[PRESS, PRESS], 2, false, None, Some(80))]
#[case::agent_alone(&[AGENT], 1, false, None, Some(80))]
#[case::press_then_agent(&[PRESS, AGENT], 1, true, None, None)]
#[case::agent_then_press(&[AGENT, PRESS], 2, false, None, Some(80))]
#[case::press_then_plug(&[PRESS, PLUG], 1, false, Some(20), None)]
#[case::press_agent_plug(&[PRESS, AGENT, PLUG], 1, true, Some(40), None)]
#[case::agent_twice(&[AGENT, AGENT], 2, false, None, Some(80))]
#[case::press_plug_agent(&[PRESS, PLUG, AGENT], 1, false, Some(20), None)]
#[case::press_then_quit(&[PRESS, PRESS, QUIT], 2, false, Some(40), None)]
#[case::plug_alone(&[PLUG], 1, false, None, Some(80))]
fn what_came_of_the_press_ends_where_something_else_was_done(
    #[case] requests: &[&str],
    #[case] screens: usize,
    #[case] agent_asked: bool,
    #[case] plug_after: Option<u64>,
    #[case] closed_after: Option<u64>,
) {
    let evidence = Evidence::from_timeline(&story(requests), OutcomeKind::HostKilled);
    assert_eq!((evidence.changes_after, evidence.agent_asked), (screens, agent_asked));
    let seconds = |after: Option<Duration>| after.map(|after| after.as_secs());
    assert_eq!(seconds(evidence.plug_after), plug_after);
    assert_eq!(seconds(evidence.agent_closed_after), closed_after);
    assert_eq!(evidence.still_running(), plug_after.is_some());
}

fn at(seconds: u64, what: Seen) -> Observation {
    Observation { at_us: seconds * 1_000_000, source: Source::Host, what }
}

fn event(name: &str, data: serde_json::Value) -> Seen {
    Seen::QmpEvent { name: name.into(), data }
}

fn registers(enabled: bool) -> Seen {
    Seen::ButtonRegisters { enabled, pending: false }
}

fn pressed() -> Seen {
    Seen::Requested { by: PRESS.into(), number: 1 }
}

fn of(seen: &[Seen]) -> Evidence {
    let timeline: Vec<_> = (1..).zip(seen).map(|(seconds, what)| at(seconds, what.clone())).collect();
    Evidence::from_timeline(&timeline, OutcomeKind::StillRunning)
}

#[rstest]
#[case::taken(&[registers(true), pressed(), Seen::PressTaken], Some(true), Some(true))]
#[case::not_taken(&[registers(true), pressed()], Some(true), Some(false))]
#[case::deaf(&[registers(false), pressed()], Some(false), Some(false))]
#[case::nobody_pressed(&[registers(true)], Some(true), None)]
#[case::not_read(&[pressed(), Seen::PressTaken], None, None)]
#[case::pressed_twice(&[registers(true), pressed(), pressed(), Seen::PressTaken], Some(true), Some(true))]
fn registers_tell_whether_a_press_was_taken(
    #[case] seen: &[Seen],
    #[case] listening: Option<bool>,
    #[case] taken: Option<bool>,
) {
    assert_eq!((of(seen).listening, of(seen).press_taken), (listening, taken));
}

#[test]
fn what_was_so_before_the_request_stands_apart_from_what_came_of_it() {
    let state = |state: &str| Seen::RunState { state: state.into() };
    let closed = |open: bool| event("VSERPORT_CHANGE", json!({ "open": open, "id": "agent" }));
    let before = [
        state("running"),
        state("suspended"),
        Seen::Screen { dark: true },
        event("SUSPEND_DISK", json!(null)),
        closed(false),
        Seen::Acted { what: "key shift".into() },
    ];
    let found = of(&[&before[..], &[pressed()]].concat());
    assert_eq!(found.run_state_before.as_deref(), Some("suspended"));
    assert!(found.dark_before && found.to_disk_before);
    assert!(!found.keys_pressed && !found.screen_reacted && found.agent_closed_after.is_none());
    assert_eq!((found.changes_after, found.requests, found.presses), (0, 1, 1));

    let found = of(&[&[pressed()], &before[..]].concat());
    assert_eq!(found.run_state_before, None);
    assert!(!found.dark_before && !found.to_disk_before && found.keys_pressed);
    assert_eq!(found.agent_closed_after, Some(Duration::from_secs(5)));

    // Neither lit, nor another event, nor an opened channel, nor an act that is no key.
    let other = [
        Seen::Screen { dark: false },
        event("RESUME", json!({ "open": false })),
        pressed(),
        closed(true),
        event("RESUME", json!({ "open": false })),
        Seen::Acted { what: "woke it".into() },
    ];
    let found = of(&other);
    assert!(!found.dark_before && !found.to_disk_before && !found.keys_pressed);
    assert_eq!(found.agent_closed_after, None);
}

#[rstest]
#[case(REACTION / 2.0, false)]
#[case(REACTION, true)]
#[case(1.0, true)]
fn a_large_part_of_the_screen_is_a_reaction(#[case] changed: f32, #[case] reacted: bool) {
    let screen = Seen::ScreenChanged { file: "s.png".into(), changed };
    let found = of(&[pressed(), screen]);
    assert_eq!((found.screen_reacted, found.changes_after), (reacted, 1));
}

#[test]
fn what_could_not_be_seen_is_no_sign() {
    let blind = || {
        let mut found = of(&[registers(true), pressed(), Seen::PressTaken]);
        found.can_read_screens = true;
        found
    };
    let mut found = blind();
    assert!(found.came_to_nothing());
    found.without_screen();
    assert_eq!((found.can_read_screens, found.changes_after), (false, 1));
    let mut found = blind();
    found.without_agent();
    assert_eq!(found.agent_closed_after, Some(Duration::ZERO));
    assert!(!found.came_to_nothing());
    let mut found = blind();
    found.agent_closed_after = Some(Duration::from_secs(3));
    found.without_agent();
    assert_eq!(found.agent_closed_after, Some(Duration::from_secs(3)));
    let mut found = blind();
    found.screen_reacted = true;
    assert!(!found.came_to_nothing());
    let mut found = blind();
    found.press_taken = Some(false);
    assert!(!found.came_to_nothing());
}

#[rstest]
#[case::found_waiting(0, true, None, Some(false))]
#[case::found_quiet(0, false, None, None)]
#[case::pressed_by_us(1, true, Some(true), Some(true))]
fn a_press_that_waits_when_we_come_was_not_taken(
    #[case] presses: usize,
    #[case] waiting: bool,
    #[case] before: Option<bool>,
    #[case] taken: Option<bool>,
) {
    let mut found = of(&[]);
    (found.presses, found.press_taken) = (presses, before);
    found.screen_before = Some("Desktop".into());
    found.as_found(waiting);
    assert_eq!(found.press_taken, taken);
    assert!(found.asked_before);
    assert_eq!(found.screens_after, ["Desktop"]);
    // What came since is what counts.
    found.screens_after = vec!["Dialog".into()];
    found.as_found(waiting);
    assert_eq!(found.screens_after, ["Dialog"]);
}

#[rstest]
#[case::runs(OutcomeKind::StillRunning, None, false, true, true)]
#[case::off(OutcomeKind::PoweredOff, None, false, false, false)]
#[case::off_by_the_agent(OutcomeKind::PoweredOff, None, true, false, true)]
#[case::runs_in_spite_of_the_agent(OutcomeKind::StillRunning, None, true, true, true)]
#[case::killed_at_once(OutcomeKind::HostKilled, Some(9), false, false, false)]
#[case::killed_late(OutcomeKind::HostKilled, Some(10), false, true, true)]
#[case::killed_only(OutcomeKind::HostKilled, None, false, false, false)]
fn a_press_fails_where_it_alone_brought_no_end(
    #[case] outcome: OutcomeKind,
    #[case] plug: Option<u64>,
    #[case] agent_asked: bool,
    #[case] still_running: bool,
    #[case] failed: bool,
) {
    let mut found = of(&[]);
    (found.outcome, found.agent_asked) = (outcome, agent_asked);
    found.plug_after = plug.map(Duration::from_secs);
    assert_eq!((found.still_running(), found.press_failed()), (still_running, failed));
    assert_eq!(found.agent_helped(), agent_asked && outcome == OutcomeKind::PoweredOff);
}

#[rstest]
#[case(0, 0, true)]
#[case(1, 1, true)]
#[case(0, 1, false)]
fn it_is_about_the_button_when_that_was_pressed_or_nothing_asked(
    #[case] presses: usize,
    #[case] requests: usize,
    #[case] about: bool,
) {
    let mut found = of(&[]);
    (found.presses, found.requests) = (presses, requests);
    assert_eq!(found.about_the_button(), about);
}

#[test]
fn a_text_that_stood_there_before_we_asked_is_no_answer() {
    let shown = |before: Option<&str>, after: &[&str], requests, asked_before| {
        let mut found = of(&[]);
        found.screen_before = before.map(str::to_owned);
        found.screens_after = after.iter().map(|s| (*s).to_owned()).collect();
        (found.requests, found.asked_before) = (requests, asked_before);
        (found.screen_shows(EVENT_TRACKER).is_some(), found.last_screen_shows(EVENT_TRACKER))
    };
    let dialog = "Shutdown  EVENT-tracker";
    assert_eq!(shown(Some("Desktop"), &["Desktop", dialog], 1, false), (true, true));
    assert_eq!(shown(Some("Desktop"), &[dialog, "Desktop"], 1, false), (true, false));
    assert_eq!(shown(Some(dialog), &[dialog], 1, false), (false, false));
    // Somebody asked before us, or nobody has yet: what is there may be the answer to that.
    assert_eq!(shown(Some(dialog), &[dialog], 1, true), (true, true));
    assert_eq!(shown(Some(dialog), &[dialog], 0, false), (true, true));
    assert_eq!(shown(None, &[], 1, false), (false, false));
}

#[rstest]
#[case("Shutting down", true)]
#[case("Desktop\nO Shutting down...", true)]
#[case("abc Shutting down", true)]
#[case("abcd Shutting down", false)]
#[case("Shutting down: asking", false)]
fn a_line_of_its_own_may_have_a_spinner_before_it(#[case] screen: &str, #[case] is: bool) {
    let mut found = of(&[]);
    found.screens_after = vec!["Shutting down".into(), screen.into()];
    assert_eq!(found.last_screen_line_is(SHUTTING_DOWN), is);
}

#[test]
fn presses_of_libvirts_own_accord_count_and_ours_count_once() {
    let asked = |by: &str, number| Seen::Requested { by: by.into(), number };
    let answered = |number, sent: &[&str]| Seen::Answered {
        number,
        took_ms: 1,
        sent: sent.iter().map(|s| (*s).to_owned()).collect(),
        refused: None,
    };
    let presses = |seen: &[Seen]| of(seen).presses;
    assert_eq!(presses(&[asked(PRESS, 1), answered(1, &[PRESS])]), 1);
    assert_eq!(presses(&[asked("virsh shutdown", 1), answered(1, &[AGENT, PRESS])]), 1);
    assert_eq!(presses(&[asked("virsh shutdown", 1), answered(1, &[AGENT])]), 0);
    assert_eq!(presses(&[asked(PRESS, 1), answered(2, &[PRESS])]), 2);
}

#[test]
fn one_picture_said_twice_is_one_kind_of_evidence() {
    let mut finding = Finding::new(Cause::Malware);
    assert_eq!(finding.kinds(), 0);
    finding.add(EvidenceKind::Screen, "a".into());
    finding.add(EvidenceKind::Qmp, "b".into());
    finding.add(EvidenceKind::Screen, "c".into());
    assert_eq!(finding.kinds(), 2);
    assert!(finding.evidence.iter().all(|item| item.speaks_for == Some(Cause::Malware)));
}
