//! The end of the session as a state machine: what happened goes in, what to do next comes out.
//!
//! ```text
//! Starting -> Desktop -> Querying -> Ending -> Services -> Gone
//!                ^          |          ^
//!                |          v          |
//!                +------ Blocked ------+      the agent's request goes from any of them to Ending
//!              (Cancel)        (Shut down anyway, AutoEndTasks, or the blocking programs ended)
//! ```

use softoff_guest_protocol::control::ToInit;
use softoff_guest_protocol::probe::ProbeEvent;

use crate::policy::{ButtonAction, ButtonPolicy};

/// A window's answer to WM_QUERYENDSESSION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// TRUE: it may end.
    Agrees,
    /// FALSE.
    Refuses,
    /// None within HungAppTimeout.
    Silent,
}

impl Answer {
    /// The word in the probe line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Answer::Agrees => "true",
            Answer::Refuses => "false",
            Answer::Silent => "no-answer",
        }
    }
}

/// A window that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its title.
    pub(crate) title: String,
    /// Its process.
    pub(crate) process: u32,
    /// What it said.
    pub(crate) answer: Answer,
}

/// What happened. `round` is the one of the [`Effect`] that a result belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// The desktop is painted, the Run programs are started.
    Ready,
    /// The power button was pressed, and this is what the registry says about it now.
    Press(ButtonPolicy),
    /// The guest agent wants the end, or a restart.
    Agent { reboot: bool },
    /// All windows were asked.
    Answered { round: u64, asked: Vec<Asked> },
    /// The blocking programs ended by themselves.
    BlockersGone { round: u64 },
    /// AutoEndTasks is set, and WaitToKillAppTimeout has passed.
    PatienceOver { round: u64 },
    /// "Shut down anyway" was chosen.
    ForceChosen,
    /// "Cancel" was chosen.
    CancelChosen,
    /// The programs have ended.
    AppsGone,
    /// The services have stopped, or their time ran out.
    ServicesGone,
}

/// Which programs are ended without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Terminate {
    /// These processes; the others get WM_ENDSESSION.
    Only(Vec<u32>),
    /// All.
    All,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Write a probe line.
    Report(ProbeEvent),
    /// Change the screen.
    Show(Screen),
    /// Send WM_QUERYENDSESSION to all windows, then give [`Input::Answered`].
    Query { round: u64 },
    /// Watch the blocking processes, then give [`Input::BlockersGone`] or [`Input::PatienceOver`].
    Watch { round: u64, processes: Vec<u32> },
    /// Send WM_ENDSESSION with FALSE: the session goes on.
    Release,
    /// End the programs, then give [`Input::AppsGone`].
    EndApps(Terminate),
    /// Stop the services, then give [`Input::ServicesGone`].
    StopServices,
    /// Ask `init`.
    Ask(ToInit),
}

/// What is on screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Screen {
    /// The desktop, with one line about the state.
    Desktop(String),
    /// The desktop and the blocked shutdown resolver with the titles of what blocks.
    Blocked(Vec<String>),
    /// Everything covered.
    ShuttingDown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Starting,
    Desktop,
    Querying,
    Blocked(Vec<u32>),
    Ending,
    Services,
    Gone,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Flow {
    state: State,
    round: u64,
    reboot: bool,
}

impl Flow {
    /// A session that is starting.
    pub(crate) fn new() -> Flow {
        Flow { state: State::Starting, round: 0, reboot: false }
    }

    /// Takes what happened, gives what to do, in order.
    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        match (input, self.state.clone()) {
            (Input::Ready, State::Starting) => {
                self.state = State::Desktop;
                vec![desktop("Ready")]
            }
            (Input::Press(policy), state) => self.press(policy, &state),
            (
                Input::Agent { reboot },
                State::Starting | State::Desktop | State::Querying | State::Blocked(_),
            ) => {
                self.reboot = reboot;
                let mut effects = vec![ending("agent")];
                effects.extend(self.end(Terminate::All));
                effects
            }
            (Input::Answered { round, asked }, State::Querying) if round == self.round => {
                self.answered(&asked)
            }
            (Input::BlockersGone { round }, State::Blocked(_)) if round == self.round => {
                self.end(Terminate::Only(Vec::new()))
            }
            (Input::PatienceOver { round }, State::Blocked(by)) if round == self.round => {
                self.end(Terminate::Only(by))
            }
            (Input::ForceChosen, State::Blocked(by)) => self.end(Terminate::Only(by)),
            (Input::CancelChosen, State::Blocked(_)) => {
                self.state = State::Desktop;
                vec![Effect::Release, Effect::Report(ProbeEvent::SessionResumed), desktop("Ready")]
            }
            (Input::AppsGone, State::Ending) => {
                self.state = State::Services;
                vec![
                    Effect::Report(ProbeEvent::SessionEnded),
                    Effect::Show(Screen::ShuttingDown),
                    Effect::StopServices,
                ]
            }
            (Input::ServicesGone, State::Services) => {
                self.state = State::Gone;
                let last = if self.reboot { ToInit::Reboot } else { ToInit::PowerOff };
                vec![
                    Effect::Ask(ToInit::StopAgent),
                    Effect::Report(ProbeEvent::ServicesStopped),
                    Effect::Ask(last),
                ]
            }
            // What comes too late, or twice, has no effect.
            _ => Vec::new(),
        }
    }

    fn press(&mut self, policy: ButtonPolicy, state: &State) -> Vec<Effect> {
        match state {
            State::Desktop => {}
            State::Starting => return vec![discarded("session-starting")],
            _ => return vec![discarded("shutdown-in-progress")],
        }
        let mut effects = vec![Effect::Report(ProbeEvent::ButtonPolicy {
            action: policy.action.value(),
            layer: policy.layer.to_owned(),
        })];
        effects.extend(match policy.action {
            ButtonAction::ShutDown => {
                self.state = State::Querying;
                self.round += 1;
                vec![
                    ending("button"),
                    desktop("Shutting down: asking the applications"),
                    Effect::Query { round: self.round },
                ]
            }
            ButtonAction::Sleep => vec![Effect::Ask(ToInit::Suspend)],
            ButtonAction::Hibernate => vec![Effect::Ask(ToInit::Hibernate)],
            ButtonAction::Nothing => vec![discarded("button-action-nothing")],
            // The reference guest has no display power; like in Windows, the machine stays on.
            ButtonAction::DisplayOff => vec![discarded("button-action-display-off")],
            ButtonAction::Undefined(_) => vec![discarded("button-action-undefined")],
        });
        effects
    }

    fn answered(&mut self, asked: &[Asked]) -> Vec<Effect> {
        let blockers = || asked.iter().filter(|window| window.answer != Answer::Agrees);
        let mut processes: Vec<u32> = blockers().map(|window| window.process).collect();
        if processes.is_empty() {
            return self.end(Terminate::Only(Vec::new()));
        }
        processes.sort_unstable();
        processes.dedup();
        let titles: Vec<String> = blockers().map(|window| window.title.clone()).collect();
        self.state = State::Blocked(processes.clone());
        vec![
            Effect::Show(Screen::Blocked(titles.clone())),
            Effect::Report(ProbeEvent::SessionBlocked { windows: titles }),
            Effect::Watch { round: self.round, processes },
        ]
    }

    fn end(&mut self, terminate: Terminate) -> Vec<Effect> {
        self.state = State::Ending;
        vec![desktop("Shutting down: ending the applications"), Effect::EndApps(terminate)]
    }
}

fn desktop(line: &str) -> Effect {
    Effect::Show(Screen::Desktop(line.to_owned()))
}

fn ending(by: &str) -> Effect {
    Effect::Report(ProbeEvent::SessionEnding { by: by.to_owned() })
}

fn discarded(reason: &str) -> Effect {
    Effect::Report(ProbeEvent::RequestDiscarded { reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SHUT_DOWN: ButtonPolicy = ButtonPolicy { action: ButtonAction::ShutDown, layer: "default" };

    fn ready() -> Flow {
        let mut flow = Flow::new();
        flow.step(Input::Ready);
        flow
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
        flow.step(Input::Press(SHUT_DOWN));
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
        assert_eq!(last_of(&flow.step(Input::Press(SHUT_DOWN))), &Effect::Query { round: 1 });
        let effects = flow.step(Input::Answered { round: 1, asked: asked(&[(5, Answer::Agrees)]) });
        assert_eq!(last_of(&effects), &Effect::EndApps(Terminate::Only(vec![])));
        assert_eq!(last_of(&flow.step(Input::AppsGone)), &Effect::StopServices);
        assert_eq!(
            flow.step(Input::ServicesGone),
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
        assert_eq!(flow.step(Input::Press(SHUT_DOWN)), [discarded("shutdown-in-progress")]);
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
        assert_eq!(last_of(&flow.step(Input::Press(SHUT_DOWN))), &Effect::Query { round: 2 });
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
            assert_eq!(effects[0], ending("agent"));
            assert_eq!(last_of(&effects), &Effect::EndApps(Terminate::All));
            assert_eq!(flow.step(Input::Agent { reboot: true }), []);
            flow.step(Input::AppsGone);
            assert_eq!(last_of(&flow.step(Input::ServicesGone)), &Effect::Ask(last.clone()));
        }
    }

    #[rstest]
    #[case(ButtonAction::Nothing, discarded("button-action-nothing"))]
    #[case(ButtonAction::DisplayOff, discarded("button-action-display-off"))]
    #[case(ButtonAction::Undefined(9), discarded("button-action-undefined"))]
    #[case(ButtonAction::Sleep, Effect::Ask(ToInit::Suspend))]
    #[case(ButtonAction::Hibernate, Effect::Ask(ToInit::Hibernate))]
    fn other_actions_leave_the_session_as_it_is(#[case] action: ButtonAction, #[case] effect: Effect) {
        let mut flow = ready();
        let policy = ButtonPolicy { action, layer: "policy" };
        let report = ProbeEvent::ButtonPolicy { action: action.value(), layer: "policy".into() };
        assert_eq!(flow.step(Input::Press(policy)), [Effect::Report(report), effect]);
        assert_eq!(last_of(&flow.step(Input::Press(SHUT_DOWN))), &Effect::Query { round: 1 });
    }

    #[test]
    fn a_press_before_the_desktop_is_lost() {
        assert_eq!(Flow::new().step(Input::Press(SHUT_DOWN)), [discarded("session-starting")]);
    }
}
