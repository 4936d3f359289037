//! From the timeline to the outcome and the phases: pure functions, so that any order of events can be
//! tried on them.

mod requests;

use std::time::Duration;

use softoff_guest_protocol::probe::{ProbeEvent, ProbeLine};

use crate::outcome::{Outcome, Phase, RequestMeans};
use crate::text::printable;
use crate::timeline::{Observation, REACTION, Seen, Source, Timeline};
pub use requests::{RequestMade, TookEffect, made, took_effect};

/// How a press is named in the timeline.
pub const PRESS: &str = "system_powerdown";

/// How the agent's request is named in the timeline.
pub const AGENT: &str = "guest-shutdown";

/// How libvirt's default is named in the timeline: the agent, then the button.
pub const DEFAULT: &str = "virsh shutdown";

/// How pulling the plug is named in the timeline.
pub const PLUG: &str = "SIGKILL";

/// The QMP events that an outcome is made from.
pub const DECISIVE: &[&str] = &[
    "BLOCK_IMAGE_CORRUPTED",
    "BLOCK_IO_ERROR",
    "GUEST_CRASHLOADED",
    "GUEST_PANICKED",
    "RESET",
    "SHUTDOWN",
    "SUSPEND",
    "SUSPEND_DISK",
    "WAKEUP",
];
/// How pulling the plug of somebody else's machine by QMP is named in the timeline.
pub const QUIT: &str = "quit";

/// How pulling the plug through libvirt is named in the timeline.
pub const DESTROY: &str = "virsh destroy";

/// The same where QEMU may close its files.
pub const DESTROY_GRACEFUL: &str = "virsh destroy --graceful";

/// The reasons of a SHUTDOWN event that a pulled plug leads to, where it is not SIGKILL (qapi/run-state.json).
const ENDED_BY_HOST: [&str; 2] = ["host-signal", "host-qmp-quit"];

/// Whether a request by this name takes the power away.
pub fn is_plug(by: &str) -> bool {
    [PLUG, QUIT, DESTROY, DESTROY_GRACEFUL].contains(&by)
}

/// Whether QEMU, asked so, ends by itself and says so. SIGKILL leaves it no time to say anything: an event that comes
/// all the same tells of somebody else.
fn is_told(plug: &str) -> bool {
    is_plug(plug) && plug != PLUG
}

/// The outcome, if what was seen so far decides it. S3 decides nothing until the deadline, since a wake-up
/// may follow: see [`at_deadline`].
pub fn settled(observations: &[Observation]) -> Option<Outcome> {
    first_end(last_boot(observations)).map(|outcome| to_the_end(outcome, observations))
}

/// The same outcome, held against everything that was read by now. The console and QMP are two sockets: a panic
/// that the guest wrote before it ended may be read after the event of the end, and an end after a panic is no
/// shutdown. A host that failed says nothing of the guest, whatever its console shows.
pub(crate) fn to_the_end(outcome: Outcome, observations: &[Observation]) -> Outcome {
    if matches!(outcome, Outcome::HostFailed { .. } | Outcome::Crashed { .. }) {
        return outcome;
    }
    let panic = last_boot(observations).iter().find_map(|o| died(&o.what));
    panic.map_or(outcome, |evidence| Outcome::Crashed { evidence })
}

/// How an observation shows that the guest's kernel died.
fn died(seen: &Seen) -> Option<String> {
    match seen {
        Seen::ConsolePanic { line } => Some(line.clone()),
        Seen::QmpEvent { name, .. } if name == "GUEST_PANICKED" || name == "GUEST_CRASHLOADED" => {
            Some(format!("QMP {name}"))
        }
        _ => None,
    }
}

/// What ended the machine first.
fn first_end(observations: &[Observation]) -> Option<Outcome> {
    let mut to_disk = false;
    let (mut killed, mut told_to_end) = (false, false);
    let mut requested = false;
    for observation in observations {
        if let Some(evidence) = died(&observation.what) {
            return Some(Outcome::Crashed { evidence });
        }
        match &observation.what {
            Seen::Requested { by, .. } => {
                requested = true;
                killed |= is_plug(by);
                told_to_end |= is_told(by);
            }
            Seen::QmpEvent { name, data } => {
                let text = |key: &str| data.get(key).and_then(|v| v.as_str()).unwrap_or_default();
                let guest = data.get("guest").and_then(|v| v.as_bool()) == Some(true);
                match name.as_str() {
                    "SUSPEND_DISK" => to_disk = true,
                    // QEMU pauses a machine whose disk it cannot write: the host's trouble, not the guest's.
                    "BLOCK_IO_ERROR" if text("action") == "stop" => {
                        let reason = printable(text("reason"), 100);
                        return Some(Outcome::HostFailed {
                            what: format!("the host could not do disk I/O: {reason}"),
                        });
                    }
                    // The overlay's own metadata is damaged (qapi/block-core.json): what the guest reads is not
                    // what it wrote.
                    "BLOCK_IMAGE_CORRUPTED" => {
                        let what = printable(text("msg"), 100);
                        return Some(Outcome::HostFailed { what: format!("the overlay is damaged: {what}") });
                    }
                    // Before the request a reset belongs to the boot.
                    "RESET" if guest && requested => return Some(Outcome::Rebooted),
                    // Nothing here resets a machine from outside: whoever did, it is not what was asked for.
                    "RESET" if requested => {
                        let reason = printable(text("reason"), 40);
                        return Some(Outcome::HostFailed {
                            what: format!("somebody reset the machine from outside (reason {reason})"),
                        });
                    }
                    // libvirt ends QEMU by SIGTERM, `quit` does the same: QEMU obeys and tells.
                    "SHUTDOWN" if told_to_end && !guest && ENDED_BY_HOST.contains(&text("reason")) => {
                        return Some(Outcome::HostKilled);
                    }
                    "SHUTDOWN" => return Some(shut_down(guest, text("reason"), to_disk)),
                    _ => {}
                }
            }
            Seen::ProcessExited { code, signal } => {
                // 9: SIGKILL, which is how the plug is pulled; libvirt does it where SIGTERM was not obeyed. Of a QEMU
                // that is no child of ours neither code nor signal is told.
                let untold = code.is_none() && signal.is_none();
                if killed && *signal == Some(9) || told_to_end && untold {
                    return Some(Outcome::HostKilled);
                }
                let how = match (code, signal) {
                    (_, Some(signal)) => format!("QEMU was killed by signal {signal}"),
                    (Some(code), _) => format!("QEMU ended with exit code {code}"),
                    _ => "QEMU ended".to_owned(),
                };
                return Some(Outcome::HostFailed { what: how });
            }
            Seen::HypervisorGone { what } => {
                return Some(Outcome::HostFailed {
                    what: format!("{}; nothing that follows is held against the guest", printable(what, 100)),
                });
            }
            _ => {}
        }
    }
    None
}

/// Returns when the machine has ended by itself.
pub(crate) async fn until_settled(timeline: &Timeline) -> Outcome {
    let mut changed = timeline.subscribe();
    loop {
        changed.mark_unchanged();
        if let Some(outcome) = settled(&timeline.snapshot()) {
            return outcome;
        }
        // The time-out only covers a sender that has gone.
        let _more = tokio::time::timeout(Duration::from_secs(5), changed.changed()).await;
    }
}

/// The part that belongs to the machine started last: an early kernel panic of the reference guest is booted
/// over, and must not settle the boot after it.
pub(crate) fn last_boot(observations: &[Observation]) -> &[Observation] {
    let start = observations.iter().rposition(|o| matches!(o.what, Seen::MachineStarted { .. }));
    observations.get(start.unwrap_or(0)..).unwrap_or_default()
}

/// What a SHUTDOWN event means (qapi/run-state.json, ShutdownCause).
fn shut_down(guest: bool, reason: &str, to_disk: bool) -> Outcome {
    match (guest, reason) {
        (_, "guest-panic") => Outcome::Crashed { evidence: "QMP SHUTDOWN reason guest-panic".into() },
        (true, "guest-reset") => Outcome::Rebooted,
        (true, "guest-shutdown") if to_disk => Outcome::Hibernated,
        (true, "guest-shutdown") => Outcome::PoweredOff,
        _ => Outcome::HostFailed {
            what: format!(
                "QEMU shut the machine down itself (guest={guest}, reason {})",
                printable(reason, 40)
            ),
        },
    }
}

/// The outcome when the time is over.
pub fn at_deadline(observations: &[Observation]) -> Outcome {
    if let Some(outcome) = settled(observations) {
        return outcome;
    }
    let last = last_boot(observations).iter().rev().find_map(|o| match &o.what {
        Seen::QmpEvent { name, .. } if name == "SUSPEND" => Some(Outcome::Suspended),
        Seen::QmpEvent { name, .. } if name == "WAKEUP" => Some(Outcome::StillRunning),
        _ => None,
    });
    last.unwrap_or(Outcome::StillRunning)
}

/// The outcome when the time is over, by what was seen and by what QEMU answers when it is asked for its run state.
/// That a machine still runs is not concluded from silence: a QEMU that hangs, or has stopped the machine for a
/// reason of its own, says nothing about the guest.
pub(crate) fn by_run_state(observations: &[Observation], state: Result<&str, String>) -> Outcome {
    // What came while it was asked counts.
    match (settled(observations), state) {
        (Some(outcome), _) => outcome,
        (None, Ok("running")) => Outcome::StillRunning,
        (None, Ok("suspended")) => Outcome::Suspended,
        (None, Ok(other)) => Outcome::HostFailed {
            what: format!("QEMU's run state at the deadline is `{}`; see qemu.log", printable(other, 40)),
        },
        (None, Err(e)) => Outcome::HostFailed { what: format!("QEMU does not answer at the deadline: {e}") },
    }
}

/// A phase that was reached: when, since the request, and what showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Which phase.
    pub phase: Phase,
    /// Time since the first request.
    pub after: Duration,
    /// What showed it.
    pub source: Source,
}

/// The phases that a run reached, in order. Each is taken from the earliest observation that shows it, at
/// or after the request; a later phase implies the earlier ones, which then have no time of their own and
/// are left out. A guest without our programs is watched from outside: see [`shows_outside`].
pub fn phases(observations: &[Observation]) -> Vec<Reached> {
    let request = observations.iter().position(|o| matches!(o.what, Seen::Requested { .. }));
    let Some((start, rest)) =
        request.and_then(|at| Some((observations.get(at)?.at(), observations.get(at..)?)))
    else {
        return Vec::new();
    };
    // Before a guest is ready its screen changes because it boots.
    let ready = observations.iter().any(|o| matches!(o.what, Seen::Ready));
    let speaks = observations.iter().any(|o| matches!(o.what, Seen::Probe(_)));
    // Falling asleep changes the screen too, and may close the agent's channel.
    let slept = rest.iter().any(|o| is_event(&o.what, "SUSPEND") || is_event(&o.what, "SUSPEND_DISK"));
    let outside = ready && !speaks && !slept;
    let phase_of = |seen: &Seen| shows(seen).or_else(|| shows_outside(seen).filter(|_| outside));
    let mut reached: Vec<Reached> = Vec::new();
    let mut to_disk = false;
    for observation in rest {
        // What follows SUSPEND_DISK looks like a power-off and is none.
        to_disk |= matches!(&observation.what, Seen::QmpEvent { name, .. } if name == "SUSPEND_DISK");
        let Some(phase) = phase_of(&observation.what).filter(|p| !to_disk || *p != Phase::PoweredOff) else {
            continue;
        };
        if reached.last().is_none_or(|last| last.phase < phase) {
            let after = observation.at().saturating_sub(start);
            reached.push(Reached { phase, after, source: observation.source });
        }
    }
    reached
}

/// When the host pulled the plug, from the first request; `None` when it did not.
pub fn plug_pulled(observations: &[Observation]) -> Option<Duration> {
    let requested = |o: &&Observation| matches!(o.what, Seen::Requested { .. });
    let pulled = |o: &&Observation| matches!(&o.what, Seen::Requested { by, .. } if is_plug(by));
    let first = observations.iter().find(requested)?;
    Some(observations.iter().find(pulled)?.at().saturating_sub(first.at()))
}

fn is_event(seen: &Seen, wanted: &str) -> bool {
    matches!(seen, Seen::QmpEvent { name, .. } if name == wanted)
}

/// The phase that an observation shows.
fn shows(seen: &Seen) -> Option<Phase> {
    match seen {
        Seen::Requested { .. } => Some(Phase::Request),
        Seen::Probe(line) => match line.event {
            ProbeEvent::SessionEnding { .. } => Some(Phase::Reacted),
            ProbeEvent::SessionEnded => Some(Phase::SessionEnded),
            ProbeEvent::ServicesStopped => Some(Phase::ServicesStopped),
            _ => None,
        },
        Seen::QmpEvent { name, data } => match name.as_str() {
            "SHUTDOWN" if data.get("reason").and_then(|r| r.as_str()) == Some("guest-shutdown") => {
                Some(Phase::PoweredOff)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The phase that an observation shows of a guest that has none of our programs: a changed screen, and the
/// agent's channel, which closes when its service is stopped. The session's end does not show outside.
fn shows_outside(seen: &Seen) -> Option<Phase> {
    match seen {
        Seen::ScreenChanged { changed, .. } if *changed >= REACTION => Some(Phase::Reacted),
        Seen::QmpEvent { name, data } if name == "VSERPORT_CHANGE" => {
            let open = data.get("open").and_then(|v| v.as_bool());
            (open == Some(false)).then_some(Phase::ServicesStopped)
        }
        _ => None,
    }
}

/// Whether the guest's end can be tied to the host's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tie {
    /// It can; what shows it.
    Tied(String),
    /// It cannot; what is missing or speaks against it.
    Loose(String),
}

/// Ties the guest's end to the request: nothing of it may begin before the request, and the guest must
/// show that it took the request. A guest that went down by itself at that moment must not pass.
pub fn tie(observations: &[Observation], asked: RequestMeans) -> Tie {
    let Some(request) = observations.iter().position(|o| matches!(o.what, Seen::Requested { .. })) else {
        return Tie::Loose("the guest ended before it was asked".into());
    };
    let (before, after) = observations.split_at(request);
    let asked_for = before.iter().rposition(|o| matches!(o.what, Seen::RunState { .. }));
    let run_state = asked_for.and_then(|at| match &before.get(at)?.what {
        Seen::RunState { state } => Some(state.as_str()),
        _ => None,
    });
    let since = observations.get(asked_for.unwrap_or(request)..).unwrap_or_default();
    let to_disk = before.iter().any(|o| is_event(&o.what, "SUSPEND_DISK"));
    // libvirt ends QEMU when its guest has gone to sleep on its disk: then there is no run state to ask for.
    let hibernated = first_end(before) == Some(Outcome::Hibernated);
    let asleep = hibernated || run_state == Some("suspended") || to_disk && run_state == Some("shutdown");
    if asleep && !since.iter().any(|o| is_event(&o.what, "WAKEUP")) {
        return Tie::Tied("it slept when it was asked, and nothing woke it".into());
    }
    let began = |o: &&Observation| {
        let ends =
            |line: &ProbeLine| matches!(line.event, ProbeEvent::VolumeUnmounted | ProbeEvent::PoweringOff);
        matches!(&o.what, Seen::Probe(line) if ends(line)) || shows(&o.what).is_some()
    };
    if let Some(early) = before.iter().find(began) {
        return Tie::Loose(format!("the guest's shutdown began before the request ({})", early.what.brief()));
    }
    // Who may have begun it: whoever was asked in this run.
    let was_asked = |means: &str| {
        after.iter().any(|o| matches!(&o.what, Seen::Requested { by, .. } if by == means || by == DEFAULT))
    };
    let agent = asked.is_agent() || was_asked(AGENT);
    let button = was_asked(PRESS);
    let by_itself = after.iter().find_map(|o| match &o.what {
        Seen::Probe(line) => match &line.event {
            ProbeEvent::SessionEnding { by } if !(by == "button" && button || by == "agent" && agent) => {
                Some(printable(by, 40))
            }
            _ => None,
        },
        _ => None,
    });
    if let Some(by) = by_itself {
        return Tie::Loose(format!("the guest says that its shutdown was begun by {by}"));
    }
    let shown = after.iter().find_map(|o| match &o.what {
        Seen::PressTaken => Some("the guest's ACPI driver took the press (PWRBTN_STS)"),
        Seen::Probe(line) => match &line.event {
            ProbeEvent::ButtonPressed => Some("the guest reports the button"),
            ProbeEvent::SessionEnding { by } if by == "agent" => {
                Some("the guest reports the agent's request")
            }
            _ => None,
        },
        _ => None,
    });
    match shown {
        Some(what) => Tie::Tied(what.to_owned()),
        None => Tie::Loose("nothing shows that the guest took the request".into()),
    }
}

#[cfg(test)]
mod tests;
