//! PID 1 at rest: one event after another, from the button, the session, the agent, and the children.

use std::net::TcpStream;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use nix::unistd::Pid;
use softoff_guest_protocol::control::{ToInit, ToSession};
use softoff_guest_protocol::probe::ProbeEvent;

use crate::agent::Request;
use crate::ending::{self, How};
use crate::sleep::{self, State};
use crate::{display, event_log, log, procs, session, update};

/// How long qemu-ga may take to end when it is told to.
const AGENT_PATIENCE: Duration = Duration::from_secs(3);

/// What happens to PID 1.
#[derive(Debug)]
pub(crate) enum Event {
    /// The ACPI power button was pressed.
    Button,
    /// A key or the pointer was used.
    Input,
    /// The agent ran `/sbin/shutdown` or one of pm-utils.
    Agent(Request),
    /// The session program connected.
    SessionConnected(TcpStream),
    /// The session program asks for something.
    Session(ToInit),
    /// The session program's connection ended.
    SessionGone,
    /// A child process ended, and how.
    Exited(Pid, String),
}

/// The programs that PID 1 started and must know again.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    /// The X server.
    pub(crate) x: Option<Pid>,
    /// qemu-ga; `None` when the machine has no port for it, or after `stop-agent`.
    pub(crate) agent: Option<Pid>,
    /// Wine's server.
    pub(crate) wineserver: Option<Pid>,
    /// Wine's explorer, which runs the session program in its desktop.
    pub(crate) explorer: Option<Pid>,
}

/// Serves for ever.
pub(crate) fn run(inbox: &Receiver<Event>, mut programs: Programs) -> anyhow::Result<()> {
    let mut channel: Option<TcpStream> = None;
    for event in inbox {
        match event {
            Event::Button => {
                log::probe(ProbeEvent::ButtonPressed);
                if !tell(&mut channel, &ToSession::PowerButton) {
                    log::probe(ProbeEvent::RequestDiscarded { reason: "no-session".to_owned() });
                }
            }
            Event::Agent(request) => {
                let (message, how) = match request {
                    Request::PowerOff => (ToSession::AgentShutdown, How::PowerOff),
                    Request::Reboot => (ToSession::AgentReboot, How::Reboot),
                    Request::Suspend => {
                        go_to_sleep(State::S3, &mut channel);
                        continue;
                    }
                    Request::Hibernate => {
                        go_to_sleep(State::S4, &mut channel);
                        continue;
                    }
                };
                // A forced end needs nobody's consent: without a session it goes straight on.
                if !tell(&mut channel, &message) {
                    ending::end(how, &programs);
                }
            }
            Event::Input => {
                tell(&mut channel, &ToSession::Input);
            }
            Event::SessionConnected(stream) => channel = Some(stream),
            // Forgotten: a first write to a closed connection succeeds, and the press would be lost without a word.
            Event::SessionGone => {
                log::say("the session closed its channel");
                channel = None;
            }
            Event::Session(ask) => obey(ask, &mut programs, &mut channel),
            Event::Exited(pid, how) => report_exit(pid, &how, &mut programs),
        }
    }
    anyhow::bail!("every source of events has gone")
}

fn tell(channel: &mut Option<TcpStream>, message: &ToSession) -> bool {
    let told = channel.as_mut().is_some_and(|stream| session::tell(stream, message));
    if !told {
        *channel = None;
    }
    told
}

fn obey(ask: ToInit, programs: &mut Programs, channel: &mut Option<TcpStream>) {
    match ask {
        ToInit::StopAgent => {
            if let Some(agent) = programs.agent.take() {
                procs::end(agent, AGENT_PATIENCE);
            }
        }
        ToInit::PowerOff => ending::end(How::PowerOff, programs),
        ToInit::Reboot => ending::end(How::Reboot, programs),
        ToInit::Suspend => go_to_sleep(State::S3, channel),
        ToInit::Hibernate => go_to_sleep(State::S4, channel),
        ToInit::Display { on } => switch_display(on),
        ToInit::Crash => ending::crash(),
        ToInit::ShutdownInitiated { by } => event_log::shutdown_initiated(&by),
        ToInit::ServiceTimedOut { service } => event_log::service_timed_out(&service),
        ToInit::UpdateWork { percent } => update::work(percent),
    }
}

/// Returns when the machine is back, with the display on and the session told.
fn go_to_sleep(state: State, channel: &mut Option<TcpStream>) {
    event_log::entering_sleep(state);
    match sleep::sleep(state) {
        Ok(()) => {
            switch_display(true);
            if let Err(error) = display::repaint() {
                log::trouble(&format!("the screen was not painted again: {error:#}"));
            }
            tell(channel, &ToSession::Resumed { from: state.name().to_owned() });
        }
        Err(error) => log::trouble(&format!("{error:#}")),
    }
}

fn switch_display(on: bool) {
    if let Err(error) = display::switch(on) {
        log::trouble(&format!("the display was not switched {}: {error:#}", if on { "on" } else { "off" }));
    }
}

/// A program that should have stayed is worth a line; the guest goes on, as a broken system would.
fn report_exit(pid: Pid, how: &str, programs: &mut Programs) {
    for (slot, name) in [
        (&mut programs.x, "Xorg"),
        (&mut programs.agent, "qemu-ga"),
        (&mut programs.wineserver, "wineserver"),
        (&mut programs.explorer, "explorer"),
    ] {
        if *slot == Some(pid) {
            *slot = None;
            log::trouble(&format!("{name} ended ({how}): {}", procs::last_words(name)));
        }
    }
}
