//! Executes what the state machine says. Whatever may wait runs in a thread of its own and gives its result back
//! as an input, so that a request of the agent is heard while a hung program is being waited for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use softoff_guest_probe::report::Reporter;
use softoff_guest_protocol::control::ToInit;
use softoff_guest_protocol::probe::ProbeEvent;

use crate::control::Control;
use crate::flow::{Effect, Flow, Input};
use crate::hear::hear;
use crate::policy::{button_policy, display_idle, limits};
use crate::registry::{Registry, run_programs};
use crate::screen::Ui;
use crate::settings::{self, Logon};
use crate::{apps, process, services};

/// How long a request waits for the lines that were reported before it.
const FLUSH: Duration = Duration::from_secs(3);
/// Waiting without a limit, as far as a guest lives.
const FOR_EVER: Duration = Duration::from_secs(40 * 24 * 3600);

/// How often the idle time of the display is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Runs the session; returns only with the reason why it cannot go on.
pub(crate) fn run(
    ui: &'static Ui,
    reporter: &'static Reporter,
    inputs: &Sender<Input>,
    received: &Receiver<Input>,
) -> Result<(), String> {
    let told = inputs.clone();
    let control = Control::connect(move |message| match message {
        Some(message) => {
            if let Some(input) = hear(&message, &Registry) {
                told.send(input).ok();
            }
        }
        None => reporter.trouble("init has closed the control channel"),
    })?;
    let mut session = Session { ui, reporter, inputs: inputs.clone(), control: Arc::new(control) };
    let start = settings::start(&Registry);
    let (mut flow, effects) = Flow::new(&start);
    session.perform(effects)?;
    if start.logon != Logon::Nobody {
        start_programs(reporter);
    }
    session.perform(flow.step(Input::Ready))?;
    if start.logon == Logon::Locked {
        session.perform(flow.lock())?;
    }
    reporter.report(ProbeEvent::DesktopReady { button_action: button_policy(&Registry).action.value() });
    if let Some(after) = start.power_off_after {
        session.apart(move || {
            std::thread::sleep(after);
            Input::Timer
        });
    }
    let mut last_activity = Instant::now();
    loop {
        match received.recv_timeout(TICK) {
            Ok(input) => {
                if matches!(input, Input::Activity | Input::Resumed | Input::Press(_)) {
                    last_activity = Instant::now();
                }
                session.perform(flow.step(input))?;
            }
            // The setting is read again each time: a changed one counts at once.
            Err(RecvTimeoutError::Timeout) => {
                let limit = display_idle(&Registry, flow.covered());
                if limit.is_some_and(|limit| last_activity.elapsed() >= limit) {
                    session.perform(flow.step(Input::DisplayIdle))?;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Starts the Run programs, and waits until those with a window show it: then a press meets them.
fn start_programs(reporter: &Reporter) {
    let start = |command: String| match process::start(&command) {
        Ok(started) => Some(started),
        Err(why) => {
            reporter.trouble(format!("a program of the Run key did not start: {why}"));
            None
        }
    };
    let started: Vec<_> = run_programs().into_iter().filter_map(start).collect();
    for program in started {
        program.wait_until_idle();
    }
}

struct Session {
    ui: &'static Ui,
    reporter: &'static Reporter,
    inputs: Sender<Input>,
    control: Arc<Control>,
}

impl Session {
    fn perform(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        effects.into_iter().try_for_each(|effect| self.perform_one(effect))
    }

    fn perform_one(&mut self, effect: Effect) -> Result<(), String> {
        let reporter = self.reporter;
        match effect {
            Effect::Report(event) => reporter.report(event),
            Effect::Show(picture) => self.ui.show(picture),
            Effect::Ask(what) => {
                // `init` may end Wine as soon as it is asked, and the lines with it.
                if !matches!(what, ToInit::StopAgent | ToInit::ShutdownInitiated { .. }) {
                    reporter.flush(FLUSH);
                }
                self.control.ask(&what)?;
            }
            Effect::Release => apps::release(),
            Effect::Query { round } => {
                self.apart(move || Input::Answered {
                    round,
                    asked: apps::query(limits(&Registry), reporter),
                });
            }
            Effect::Watch { round, processes } => self.apart(move || {
                let limits = limits(&Registry);
                let limit = if limits.auto_end { limits.kill_app } else { FOR_EVER };
                let gone = apps::wait_for_blockers(&processes, limit);
                if gone { Input::BlockersGone { round } } else { Input::PatienceOver { round } }
            }),
            Effect::EndApps(terminate) => self.apart(move || {
                apps::end(&terminate, limits(&Registry), reporter);
                Input::AppsGone
            }),
            Effect::StopServices => {
                let ui = self.ui;
                let control = Arc::clone(&self.control);
                let tell = move |what: ToInit| {
                    if let Err(why) = control.ask(&what) {
                        reporter.trouble(why);
                    }
                };
                self.apart(move || {
                    let world = services::World { values: &Registry, ui, reporter, tell: &tell };
                    services::stop_all(limits(&Registry), world);
                    Input::ServicesGone(settings::last_step(&Registry))
                });
            }
        }
        Ok(())
    }

    fn apart(&self, work: impl FnOnce() -> Input + Send + 'static) {
        let inputs = self.inputs.clone();
        std::thread::spawn(move || {
            inputs.send(work()).ok();
        });
    }
}
