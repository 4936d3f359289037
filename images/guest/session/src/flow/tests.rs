use super::*;
use rstest::rstest;

const PRESS: Press = Press {
    policy: ButtonPolicy { action: ButtonAction::ShutDown, layer: "default" },
    forced: false,
    tracker: false,
    without_logon: false,
};

fn started(logon: Logon) -> Flow {
    let start = Start { logon, user: "Softoff".into(), power_off_after: None };
    let (mut flow, _) = Flow::new(&start);
    flow.step(Input::Ready);
    if logon == Logon::Locked {
        flow.lock();
    }
    flow
}

fn ready() -> Flow {
    started(Logon::LoggedOn)
}

fn asked(answers: &[(u32, Answer)]) -> Vec<Asked> {
    let one = |(process, answer): &(u32, Answer)| Asked {
        title: format!("App {process}"),
        process: *process,
        answer: *answer,
    };
    answers.iter().map(one).collect()
}

/// A flow that a hung process 7 blocks, in round 1.
fn blocked() -> Flow {
    let mut flow = ready();
    flow.step(Input::Press(PRESS));
    let windows = asked(&[(5, Answer::Agrees), (7, Answer::Silent), (7, Answer::Refuses)]);
    let effects = flow.step(Input::Answered { round: 1, asked: windows });
    assert_eq!(effects.last(), Some(&Effect::Watch { round: 1, processes: vec![7] }));
    flow
}

fn last_of(effects: &[Effect]) -> &Effect {
    effects.last().unwrap()
}

#[test]
fn an_undisturbed_shutdown_goes_to_the_end() {
    let mut flow = ready();
    assert_eq!(last_of(&flow.step(Input::Press(PRESS))), &Effect::Query { round: 1 });
    let effects = flow.step(Input::Answered { round: 1, asked: asked(&[(5, Answer::Agrees)]) });
    assert_eq!(last_of(&effects), &Effect::EndApps(Terminate::Only(vec![])));
    assert_eq!(last_of(&flow.step(Input::AppsGone)), &Effect::StopServices);
    assert_eq!(
        flow.step(Input::ServicesGone(LastStep::PowerOff)),
        [
            Effect::Ask(ToInit::StopAgent),
            Effect::Report(ProbeEvent::ServicesStopped),
            Effect::Ask(ToInit::PowerOff)
        ]
    );
}

#[test]
fn a_block_lasts_until_someone_decides() {
    let mut flow = blocked();
    assert_eq!(flow.step(Input::Press(PRESS)), [discarded("shutdown-in-progress")]);
    assert_eq!(flow.step(Input::Answered { round: 1, asked: vec![] }), []);
    assert_eq!(flow.step(Input::AppsGone), []);
    assert_eq!(last_of(&flow.step(Input::ForceChosen)), &Effect::EndApps(Terminate::Only(vec![7])));
}

#[rstest]
#[case(Input::BlockersGone { round: 1 }, vec![])]
#[case(Input::PatienceOver { round: 1 }, vec![7])]
fn a_block_ends_with_its_programs_or_by_auto_end_tasks(#[case] input: Input, #[case] killed: Vec<u32>) {
    assert_eq!(last_of(&blocked().step(input)), &Effect::EndApps(Terminate::Only(killed)));
}

#[test]
fn cancel_gives_the_desktop_back_and_old_results_do_not_count() {
    let mut flow = blocked();
    let effects = flow.step(Input::CancelChosen);
    assert_eq!(effects[..2], [Effect::Release, Effect::Report(ProbeEvent::SessionResumed)]);
    assert_eq!(last_of(&flow.step(Input::Press(PRESS))), &Effect::Query { round: 2 });
    assert_eq!(flow.step(Input::Answered { round: 1, asked: vec![] }), []);
    flow.step(Input::Answered { round: 2, asked: asked(&[(7, Answer::Refuses)]) });
    assert_eq!(flow.step(Input::PatienceOver { round: 1 }), []);
}

#[rstest]
#[case(false, ToInit::PowerOff)]
#[case(true, ToInit::Reboot)]
fn the_agent_asks_nobody(#[case] reboot: bool, #[case] last: ToInit) {
    for mut flow in [ready(), blocked()] {
        let effects = flow.step(Input::Agent { reboot });
        assert_eq!(effects[0], Effect::Report(ProbeEvent::SessionEnding { by: "agent".into() }));
        assert_eq!(last_of(&effects), &Effect::EndApps(Terminate::All));
        assert_eq!(flow.step(Input::Agent { reboot: true }), []);
        flow.step(Input::AppsGone);
        assert_eq!(last_of(&flow.step(Input::ServicesGone(LastStep::PowerOff))), &Effect::Ask(last.clone()));
    }
}

fn report(event: ProbeEvent) -> Effect {
    Effect::Report(event)
}

fn display(on: bool) -> Vec<Effect> {
    vec![Effect::Ask(ToInit::Display { on }), report(ProbeEvent::DisplayState { on })]
}

#[rstest]
#[case(ButtonAction::Nothing, vec![discarded("button-action-nothing")])]
#[case(ButtonAction::Undefined(9), vec![discarded("button-action-undefined")])]
#[case(ButtonAction::Sleep, vec![Effect::Ask(ToInit::Suspend)])]
#[case(ButtonAction::Hibernate, vec![Effect::Ask(ToInit::Hibernate)])]
fn other_actions_leave_the_session_as_it_is(#[case] action: ButtonAction, #[case] effects: Vec<Effect>) {
    let mut flow = ready();
    let policy = ButtonPolicy { action, layer: "policy" };
    let mut want = vec![report(ProbeEvent::ButtonPolicy { action: action.value(), layer: "policy".into() })];
    want.extend(effects);
    assert_eq!(flow.step(Input::Press(Press { policy, ..PRESS })), want);
    assert_eq!(last_of(&flow.step(Input::Press(PRESS))), &Effect::Query { round: 1 });
}

#[test]
fn a_press_before_the_desktop_is_lost() {
    let start = Start { logon: Logon::LoggedOn, user: String::new(), power_off_after: None };
    let (mut flow, _) = Flow::new(&start);
    assert_eq!(flow.step(Input::Press(PRESS)), [discarded("session-starting")]);
    assert_eq!(flow.step(Input::Timer), []);
}

#[rstest]
#[case::nobody_may(Logon::Nobody, true, true)]
#[case::nobody_may_not(Logon::Nobody, false, false)]
#[case::someone_is_logged_on(Logon::LoggedOn, false, true)]
#[case::someone_has_locked(Logon::Locked, false, true)]
fn without_a_logon_the_policy_decides(#[case] logon: Logon, #[case] without_logon: bool, #[case] goes: bool) {
    let effects = started(logon).step(Input::Press(Press { without_logon, ..PRESS }));
    let refused = discarded("logon-required");
    assert_eq!(last_of(&effects), if goes { &Effect::Query { round: 1 } } else { &refused });
}

#[test]
fn the_sign_in_screen_stays_until_the_end_of_the_session() {
    let start = Start { logon: Logon::Nobody, user: "Ann".into(), power_off_after: None };
    let sign_in: Picture = Base::SignIn { user: "Ann".into(), locked: false }.into();
    let (mut flow, effects) = Flow::new(&start);
    let nobody = report(ProbeEvent::LogonState { state: "nobody".into() });
    assert_eq!(effects, [Effect::Show(sign_in.clone()), nobody]);
    assert!(flow.covered());
    flow.step(Input::Ready);
    let effects = flow.step(Input::Press(Press { without_logon: true, ..PRESS }));
    assert!(effects.contains(&Effect::Show(sign_in)), "{effects:?}");
}

#[test]
fn the_tracker_holds_the_shutdown_until_it_is_answered() {
    let press = Input::Press(Press { tracker: true, ..PRESS });
    let shown = report(ProbeEvent::DialogShown { title: TRACKER_TITLE.into() });
    let mut flow = ready();
    assert_eq!(last_of(&flow.step(press.clone())), &shown);
    assert_eq!(flow.step(press.clone()), [discarded("shutdown-in-progress")]);
    let effects = flow.step(Input::Tracker { ok: false });
    assert_eq!(effects[1], discarded("event-tracker-cancelled"));
    assert_eq!(effects[2], Effect::Show(Base::Desktop("Ready".into()).into()));
    assert_eq!(flow.step(Input::Tracker { ok: true }), []);
    flow.step(press.clone());
    assert_eq!(last_of(&flow.step(Input::Tracker { ok: true })), &Effect::Query { round: 1 });
    // The agent does not wait for an answer.
    let mut flow = ready();
    flow.step(press);
    assert_eq!(last_of(&flow.step(Input::Agent { reboot: false })), &Effect::EndApps(Terminate::All));
}

#[rstest]
#[case(false)]
#[case(true)]
fn a_forced_press_asks_no_application(#[case] tracker: bool) {
    let mut flow = ready();
    let mut effects = flow.step(Input::Press(Press { forced: true, tracker, ..PRESS }));
    if tracker {
        effects = flow.step(Input::Tracker { ok: true });
    }
    assert_eq!(last_of(&effects), &Effect::EndApps(Terminate::All));
}

#[test]
fn a_press_on_a_dark_display_only_lights_it() {
    for mut flow in [ready(), blocked()] {
        assert_eq!(flow.step(Input::DisplayIdle), display(false));
        assert_eq!(flow.step(Input::DisplayIdle), []);
        let mut want = display(true);
        want.push(discarded("display-was-off"));
        assert_eq!(flow.step(Input::Press(PRESS)), want);
        assert_ne!(flow.step(Input::Press(PRESS)).last(), Some(&discarded("display-was-off")));
    }
}

#[test]
fn input_lights_the_display_and_the_next_press_acts() {
    let mut flow = ready();
    let policy = ButtonPolicy { action: ButtonAction::DisplayOff, layer: "policy" };
    assert_eq!(flow.step(Input::Press(Press { policy, ..PRESS }))[1..], display(false));
    assert_eq!(flow.step(Input::Activity), display(true));
    assert_eq!(flow.step(Input::Activity), []);
    assert_eq!(last_of(&flow.step(Input::Press(PRESS))), &Effect::Query { round: 1 });
    assert_eq!(flow.step(Input::DisplayIdle), []);
}

#[test]
fn after_a_sleep_the_same_picture_is_painted_again() {
    let mut flow = ready();
    flow.step(Input::DisplayIdle);
    let mut want = display(true);
    want.push(Effect::Show(Base::Desktop("Ready".into()).into()));
    assert_eq!(flow.step(Input::Resumed), want);
    assert_eq!(flow.step(Input::Resumed), want[2..]);
}

#[test]
fn the_timer_shuts_down_as_a_user_would() {
    let effects = ready().step(Input::Timer);
    assert_eq!(effects[0], report(ProbeEvent::SessionEnding { by: "timer".into() }));
    assert_eq!(last_of(&effects), &Effect::Query { round: 1 });
}

#[rstest]
#[case(LastStep::Crash, ToInit::Crash)]
#[case(LastStep::Reboot, ToInit::Reboot)]
fn another_end_may_stand_in_for_s5(#[case] last: LastStep, #[case] ask: ToInit) {
    let mut flow = ready();
    flow.step(Input::Press(Press { forced: true, ..PRESS }));
    flow.step(Input::AppsGone);
    assert_eq!(last_of(&flow.step(Input::ServicesGone(last))), &Effect::Ask(ask));
}
