//! The session as a state machine: what happened goes in, what to do next comes out.
//!
//! ```text
//! Starting -> Idle -> Asking -> Querying -> Ending -> Services -> Gone
//!              ^ ^      |          |          ^
//!              | +------+          v          |
//!              |   (Cancel)     Blocked ------+    the agent's request goes from any of them to Ending
//!              +-------------------+   (Shut down anyway, AutoEndTasks, or the blocking programs ended)
//!                   (Cancel)
//! ```
//!
//! Asking is the Shutdown Event Tracker's dialog, where it is on. Beside the state there is the display, on or
//! off: while it is off, a press only lights it.

use softoff_guest_protocol::control::ToInit;
use softoff_guest_protocol::probe::ProbeEvent;

use crate::picture::{Base, Overlay, Picture, TRACKER_TITLE};
use crate::policy::{ButtonAction, ButtonPolicy};
use crate::settings::{LastStep, Logon, Start};

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

/// A press of the button, with what the registry says about it at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Press {
    /// PBUTTONACTION.
    pub(crate) policy: ButtonPolicy,
    /// Applications are not asked.
    pub(crate) forced: bool,
    /// The event tracker asks for a reason.
    pub(crate) tracker: bool,
    /// Nobody needs to be logged on for a shutdown.
    pub(crate) without_logon: bool,
}

/// What happened. `round` is the one of the [`Effect`] that a result belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// The first screen is painted, and the Run programs are started.
    Ready,
    /// The power button was pressed.
    Press(Press),
    /// The guest agent wants the end, or a restart.
    Agent { reboot: bool },
    /// A key or the pointer was used.
    Activity,
    /// There was no input for as long as the display may stay on.
    DisplayIdle,
    /// The machine is back from sleep.
    Resumed,
    /// The time has come to shut down without a request.
    Timer,
    /// The event tracker's dialog was closed: with OK, or cancelled.
    Tracker { ok: bool },
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
    /// The services have stopped, or their time ran out; and this comes last.
    ServicesGone(LastStep),
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
    /// Change the screen, or paint it again.
    Show(Picture),
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

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Starting,
    Idle,
    Asking { forced: bool },
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
    logon: Logon,
    user: String,
    display_on: bool,
    shown: Picture,
    round: u64,
    reboot: bool,
}

impl Flow {
    /// A session that is starting, and what to do first.
    pub(crate) fn new(start: &Start) -> (Flow, Vec<Effect>) {
        let mut flow = Flow {
            state: State::Starting,
            // The lock comes when the desktop is there.
            logon: if start.logon == Logon::Nobody { Logon::Nobody } else { Logon::LoggedOn },
            user: start.user.clone(),
            display_on: true,
            shown: Base::Desktop(String::new()).into(),
            round: 0,
            reboot: false,
        };
        let effects = vec![flow.base("Starting"), flow.logon_state()];
        (flow, effects)
    }

    /// Covers the desktop, as the sign-in screen does after a lock.
    pub(crate) fn lock(&mut self) -> Vec<Effect> {
        self.logon = Logon::Locked;
        vec![self.base(""), self.logon_state()]
    }

    /// Whether the sign-in screen covers everything.
    pub(crate) fn covered(&self) -> bool {
        self.logon != Logon::LoggedOn
    }

    /// Takes what happened, gives what to do, in order.
    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        match (input, self.state.clone()) {
            (Input::Ready, State::Starting) => {
                self.state = State::Idle;
                vec![self.base("Ready")]
            }
            (Input::Press(press), _) => self.press(press),
            (Input::Activity, _) => self.display(true),
            (Input::DisplayIdle, State::Idle | State::Asking { .. } | State::Blocked(_)) => {
                self.display(false)
            }
            (Input::Resumed, _) => {
                let mut effects = self.display(true);
                effects.push(Effect::Show(self.shown.clone()));
                effects
            }
            (Input::Timer, State::Idle) => self.begin("timer", false),
            (
                Input::Agent { reboot },
                State::Starting | State::Idle | State::Asking { .. } | State::Querying | State::Blocked(_),
            ) => {
                self.reboot = reboot;
                self.begin("agent", true)
            }
            (Input::Tracker { ok }, State::Asking { forced }) => self.tracker(ok, forced),
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
                self.state = State::Idle;
                vec![Effect::Release, Effect::Report(ProbeEvent::SessionResumed), self.base("Ready")]
            }
            (Input::AppsGone, State::Ending) => {
                self.state = State::Services;
                vec![
                    Effect::Report(ProbeEvent::SessionEnded),
                    self.show(Base::ShuttingDown.into()),
                    Effect::StopServices,
                ]
            }
            (Input::ServicesGone(last), State::Services) => {
                self.state = State::Gone;
                let last = match last {
                    LastStep::Crash => ToInit::Crash,
                    LastStep::Reboot => ToInit::Reboot,
                    LastStep::PowerOff if self.reboot => ToInit::Reboot,
                    LastStep::PowerOff => ToInit::PowerOff,
                };
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

    fn press(&mut self, press: Press) -> Vec<Effect> {
        match self.state {
            State::Idle | State::Asking { .. } | State::Blocked(_) if !self.display_on => {
                let mut effects = self.display(true);
                effects.push(discarded("display-was-off"));
                return effects;
            }
            State::Idle => {}
            State::Starting => return vec![discarded("session-starting")],
            _ => return vec![discarded("shutdown-in-progress")],
        }
        let Press { policy, forced, tracker, without_logon } = press;
        let mut effects = vec![Effect::Report(ProbeEvent::ButtonPolicy {
            action: policy.action.value(),
            layer: policy.layer.to_owned(),
        })];
        effects.extend(match policy.action {
            ButtonAction::ShutDown if self.logon == Logon::Nobody && !without_logon => {
                vec![discarded("logon-required")]
            }
            ButtonAction::ShutDown if tracker => {
                self.state = State::Asking { forced };
                let asking = Picture { base: self.shown.base.clone(), overlay: Some(Overlay::Tracker) };
                let title = TRACKER_TITLE.to_owned();
                vec![self.show(asking), Effect::Report(ProbeEvent::DialogShown { title })]
            }
            ButtonAction::ShutDown => self.begin("button", forced),
            // `init` writes the lines about sleeping and waking.
            ButtonAction::Sleep => vec![Effect::Ask(ToInit::Suspend)],
            ButtonAction::Hibernate => vec![Effect::Ask(ToInit::Hibernate)],
            ButtonAction::Nothing => vec![discarded("button-action-nothing")],
            ButtonAction::DisplayOff => self.display(false),
            ButtonAction::Undefined(_) => vec![discarded("button-action-undefined")],
        });
        effects
    }

    /// Begins the end of the session; with `forced`, nobody is asked.
    fn begin(&mut self, by: &str, forced: bool) -> Vec<Effect> {
        let mut effects = vec![
            Effect::Report(ProbeEvent::SessionEnding { by: by.to_owned() }),
            Effect::Ask(ToInit::ShutdownInitiated { by: by.to_owned() }),
        ];
        if forced {
            effects.extend(self.end(Terminate::All));
        } else {
            self.state = State::Querying;
            self.round += 1;
            effects.push(self.base("Shutting down: asking the applications"));
            effects.push(Effect::Query { round: self.round });
        }
        effects
    }

    fn tracker(&mut self, ok: bool, forced: bool) -> Vec<Effect> {
        let answer = if ok { "ok" } else { "cancel" };
        let mut effects = vec![Effect::Report(ProbeEvent::DialogAnswered {
            title: TRACKER_TITLE.to_owned(),
            answer: answer.to_owned(),
        })];
        if ok {
            effects.extend(self.begin("button", forced));
        } else {
            self.state = State::Idle;
            effects.extend([discarded("event-tracker-cancelled"), self.base("Ready")]);
        }
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
        let base = self.base_of("Shutting down: blocked");
        vec![
            self.show(Picture { base, overlay: Some(Overlay::Blocked(titles.clone())) }),
            Effect::Report(ProbeEvent::SessionBlocked { windows: titles }),
            Effect::Watch { round: self.round, processes },
        ]
    }

    fn end(&mut self, terminate: Terminate) -> Vec<Effect> {
        self.state = State::Ending;
        vec![self.base("Shutting down: ending the applications"), Effect::EndApps(terminate)]
    }

    /// Switches the display, if it is not so already.
    fn display(&mut self, on: bool) -> Vec<Effect> {
        if self.display_on == on {
            return Vec::new();
        }
        self.display_on = on;
        vec![Effect::Ask(ToInit::Display { on }), Effect::Report(ProbeEvent::DisplayState { on })]
    }

    fn logon_state(&self) -> Effect {
        Effect::Report(ProbeEvent::LogonState { state: self.logon.word().to_owned() })
    }

    /// The desktop with one line about the state, or what covers it.
    fn base_of(&self, line: &str) -> Base {
        match self.logon {
            Logon::LoggedOn => Base::Desktop(line.to_owned()),
            Logon::Nobody => Base::SignIn { user: self.user.clone(), locked: false },
            Logon::Locked => Base::SignIn { user: self.user.clone(), locked: true },
        }
    }

    fn base(&mut self, line: &str) -> Effect {
        self.show(self.base_of(line).into())
    }

    fn show(&mut self, picture: Picture) -> Effect {
        self.shown = picture.clone();
        Effect::Show(picture)
    }
}

fn discarded(reason: &str) -> Effect {
    Effect::Report(ProbeEvent::RequestDiscarded { reason: reason.to_owned() })
}

#[cfg(test)]
mod tests;
