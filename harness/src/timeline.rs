//! The timeline: ordered, timestamped observations of one run, from all sources, on one clock.
//!
//! The clock is the host's, monotonic. Zero is the moment the run began; QMP events carry QEMU's own host timestamps
//! (CLOCK_REALTIME, microseconds) and are placed by how long ago that was, everything else is stamped when the harness
//! reads it. Both come from the same machine, so the error is the time a line waits in a socket: under 1 ms idle
//! (measured: 0.15 ms a QMP round trip), up to some 10 ms when TCG has every core. Guest clocks are never
//! used to place an observation.

mod clock;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use softoff_guest_protocol::probe::ProbeLine;
use tokio::sync::watch;

use crate::image::Sha256Hex;

pub use clock::RunClock;

/// Share of the screen that must change for a reaction. A dialog of 400 x 300 on 1280 x 800 is a ninth; a
/// clock in a task bar is two tiles of a thousand.
pub const REACTION: f32 = 0.05;

/// Where an observation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The harness itself: what it did.
    Host,
    /// A QMP event, stamped by QEMU.
    Qmp,
    /// A probe line on COM1.
    Probe,
    /// The guest agent.
    Agent,
    /// The guest's screen.
    Screen,
    /// The guest's console on COM2.
    Console,
    /// The QEMU process.
    Process,
    /// libvirt, where it runs the machine.
    Libvirt,
}

impl Source {
    /// How far the time of such an observation may be off. QEMU stamps its events itself; a line or an answer
    /// waits in a socket until it is read (up to some 10 ms were seen with every core busy); the screen is
    /// looked at every 500 ms, and a look takes up to 100 ms then.
    pub fn error_bound(self) -> Duration {
        Duration::from_millis(match self {
            Source::Host | Source::Qmp => 1,
            Source::Probe | Source::Agent | Source::Console | Source::Process => 20,
            // A virsh that waits for events, under TCG on two busy cores.
            Source::Libvirt => 100,
            Source::Screen => 600,
        })
    }
}

/// One observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Microseconds since the run began, on the host's clock.
    pub at_us: u64,
    /// Where it comes from.
    pub source: Source,
    /// What was seen.
    #[serde(flatten)]
    pub what: Seen,
}

impl Observation {
    /// When, since the run began.
    pub fn at(&self) -> Duration {
        Duration::from_micros(self.at_us)
    }
}

/// How many documents a guest said it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Flushed to the disk.
    pub flushed: u32,
    /// Left to the system's cache.
    pub unflushed: u32,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "seen", content = "data", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Seen {
    /// QEMU was started.
    MachineStarted {
        /// Its process id.
        pid: u32,
    },
    /// A condition was put into the overlay or the guest.
    Injected {
        /// The condition's id.
        condition: String,
        /// What was written, for people.
        what: String,
    },
    /// A condition was looked for before the request.
    Proof {
        /// The condition's id.
        condition: String,
        /// Whether it was found.
        present: bool,
        /// What showed it.
        evidence: String,
    },
    /// The machine was given the devices and memory of a saved state.
    StateLoaded {
        /// The state's identity.
        state: Sha256Hex,
        /// The documents that the guest had written by then.
        #[serde(default)]
        documents: Option<Written>,
    },
    /// The guest's clock was set to the host's, and asked for again.
    ClockSet {
        /// How far it is off then, microseconds; positive when the guest is ahead.
        off_us: i64,
    },
    /// The guest was ready for the request.
    Ready,
    /// The harness asked.
    Requested {
        /// What was done: `system_powerdown`, `guest-shutdown`, `SIGKILL`; through libvirt the same names for the
        /// modes `acpi` and `agent`, and the command itself for those that only libvirt has.
        by: String,
        /// 1 for the first request of the run.
        number: u32,
    },
    /// The wait before a forced end was given up: nothing more will come until somebody acts.
    CutShort {
        /// How long it would have been, milliseconds.
        planned_ms: u64,
    },
    /// libvirt answered a request.
    Answered {
        /// The request's number.
        number: u32,
        /// How long the call of virsh took, milliseconds.
        took_ms: u64,
        /// The QMP commands that libvirt sent to QEMU meanwhile, by its own log.
        sent: Vec<String>,
        /// Why libvirt did not do it, in its words.
        refused: Option<String>,
    },
    /// What libvirt tells of the domain, in its words.
    DomainEvent {
        /// Such as `Shutdown Finished after guest request`.
        event: String,
    },
    /// libvirtd has ended under a machine.
    HypervisorGone {
        /// How.
        what: String,
    },
    /// The harness did something else to the machine: woke it, pressed a key.
    Acted {
        /// What it did.
        what: String,
    },
    /// QEMU's run state, asked for.
    RunState {
        /// As QEMU names it.
        state: String,
    },
    /// What the screen is like, looked at before the request.
    Screen {
        /// Nothing on it but black.
        dark: bool,
    },
    /// The ACPI power-button registers (see `machine::acpi`).
    ButtonRegisters {
        /// PWRBTN_EN: a press can be heard.
        enabled: bool,
        /// PWRBTN_STS: a press waits to be taken.
        pending: bool,
    },
    /// The guest's ACPI driver took a press: PWRBTN_STS was set and is clear again.
    PressTaken,
    /// A QMP event, whatever its name.
    QmpEvent {
        /// QMP's name of it.
        name: String,
        /// Its data, unchanged.
        data: serde_json::Value,
    },
    /// A probe line.
    Probe(ProbeLine),
    /// A line that should have been a probe line, or a gap in the numbering.
    ProbeDamaged {
        /// What was wrong.
        why: String,
    },
    /// An installation tells on COM1 where it is.
    InstallMarker {
        /// The place's name.
        place: String,
    },
    /// The guest agent answered.
    AgentAnswered,
    /// A picture was kept because the screen changed.
    ScreenChanged {
        /// File name of the PNG in the record.
        file: String,
        /// Share of 32x32 tiles that changed since the last kept picture, 0 to 1.
        changed: f32,
    },
    /// The guest's kernel wrote that it panicked.
    ConsolePanic {
        /// The line.
        line: String,
    },
    /// QEMU's process ended.
    ProcessExited {
        /// Exit code, when it exited.
        code: Option<i32>,
        /// Signal number, when it was killed.
        signal: Option<i32>,
    },
    /// The outcome was settled; what follows is clean-up.
    Settled {
        /// The outcome's name.
        outcome: String,
    },
    /// Something worth telling that changes nothing.
    Note {
        /// A sentence.
        what: String,
    },
}

/// The timeline of one run; clones share it.
#[derive(Debug, Clone)]
pub struct Timeline {
    clock: RunClock,
    inner: Arc<Mutex<Vec<Observation>>>,
    count: Arc<watch::Sender<usize>>,
}

impl Timeline {
    /// An empty timeline whose clock starts now.
    pub fn start() -> Timeline {
        Timeline { clock: RunClock::start(), inner: Arc::default(), count: Arc::new(watch::Sender::new(0)) }
    }

    /// The run's clock.
    pub fn clock(&self) -> RunClock {
        self.clock
    }

    /// Adds an observation made now.
    pub fn add(&self, source: Source, what: Seen) {
        self.add_at(self.clock.now(), source, what);
    }

    /// Adds an observation with its own time.
    pub fn add_at(&self, at: Duration, source: Source, what: Seen) {
        let at_us = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        let mut list = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Observation { at_us, source, what });
        self.count.send_replace(list.len());
    }

    /// How long ago the newest observation was made; since the start where there is none.
    pub fn silence(&self) -> Duration {
        let list = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = list.iter().map(Observation::at).max().unwrap_or_default();
        self.clock.now().saturating_sub(newest)
    }

    /// Everything so far, ordered by time.
    pub fn snapshot(&self) -> Vec<Observation> {
        let mut list = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        list.sort_by_key(|o| o.at_us);
        list
    }

    /// The first answer that `look` finds among the observations in arrival order from index `from`, and
    /// the index to go on from.
    pub fn scan<T>(&self, from: usize, look: impl FnMut(&Observation) -> Option<T>) -> (usize, Option<T>) {
        let list = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let found = list.iter().skip(from).find_map(look);
        (list.len(), found)
    }

    /// How many observations there are; a place to wait from.
    pub fn len(&self) -> usize {
        *self.count.borrow()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until `look` finds something in the whole timeline, at most `limit`; `None` when the time ran out.
    pub async fn wait_for<T>(
        &self,
        limit: Duration,
        look: impl FnMut(&Observation) -> Option<T>,
    ) -> Option<T> {
        self.wait_from(0, limit, look).await
    }

    /// The same, looking only at what came from place `from` on (in arrival order).
    pub async fn wait_from<T>(
        &self,
        mut from: usize,
        limit: Duration,
        mut look: impl FnMut(&Observation) -> Option<T>,
    ) -> Option<T> {
        let mut changed = self.count.subscribe();
        let search = async {
            loop {
                changed.mark_unchanged();
                let (next, found) = self.scan(from, &mut look);
                if found.is_some() {
                    return found;
                }
                from = next;
                if changed.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(limit, search).await.ok().flatten()
    }

    /// Tells of every addition; for listeners.
    pub fn subscribe(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// The newest observation as one line, for time-out errors.
    pub fn last_line(&self) -> String {
        let list = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match list.last() {
            Some(o) => format!("{} at {:.1} s", o.what.brief(), o.at().as_secs_f64()),
            None => "nothing".to_owned(),
        }
    }
}

impl Seen {
    /// One short line for people; text from the guest is escaped.
    pub fn brief(&self) -> String {
        match self {
            Seen::QmpEvent { name, .. } => format!("QMP {}", crate::text::printable(name, 40)),
            Seen::Probe(line) => {
                let event = serde_json::to_value(&line.event).ok();
                let name = event.as_ref().and_then(|e| e.get("event")).and_then(|n| n.as_str());
                format!("probe {} {}", crate::text::printable(&line.src, 40), name.unwrap_or("?"))
            }
            Seen::ScreenChanged { file, .. } => format!("screen {file}"),
            other => {
                let json = serde_json::to_string(other).unwrap_or_default();
                crate::text::printable(&json, 120)
            }
        }
    }
}

#[cfg(test)]
mod tests;
