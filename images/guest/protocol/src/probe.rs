//! Probe lines: what the guest's programs report on COM1.
//!
//! A line is one JSON object and a line feed. Each program counts its own lines from 1 (`seq`), so that
//! a gap shows a lost line. Several programs share the port; each opens it, writes one line, closes it.
//! What a guest says is a hint for phases and readiness, never the proof of an outcome.

use serde::{Deserialize, Serialize};

/// Version of the line format, the value of [`ProbeLine::softoff`].
pub const VERSION: u8 = 1;

/// The longest line a reader must accept, in bytes; a longer one is counted as damaged.
pub const MAX_LINE: usize = 4096;

/// One line on COM1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeLine {
    /// Format version; [`VERSION`].
    pub softoff: u8,
    /// Which program speaks: `init`, `session`, or the probe's own name (`probe:hang`, `service:slow`).
    pub src: String,
    /// The program's process id in the guest.
    pub pid: u32,
    /// Counts the lines of this `src` and `pid`, from 1 without gaps.
    pub seq: u64,
    /// Guest uptime in milliseconds when the line was written.
    pub up_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: ProbeEvent,
}

/// What a guest program reports. Names follow the Windows API where one exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "snake_case")]
#[non_exhaustive]
pub enum ProbeEvent {
    /// `init` runs as the first process of the root file system.
    Booted,
    /// The system volume was marked dirty when the guest came to mount it: the last end was no clean one. A check ran
    /// (in the reference guest a modelled one) and took the mark off.
    VolumeCheck {
        /// The volume's flag word before the check.
        flags: u16,
    },
    /// The system volume (C:) is mounted.
    VolumeMounted,
    /// The documents of the lost-write check are on C: (see [`crate::document`]); they come before `desktop-ready`.
    DocumentsWritten {
        /// How many were written and flushed.
        flushed: u32,
        /// How many were written and left to the system's cache.
        unflushed: u32,
    },
    /// The session program has a desktop on screen; Run keys were started; presses are listened to.
    DesktopReady {
        /// The action that the power-scheme values give for a press now (0 to 4, as PBUTTONACTION).
        button_action: u32,
    },
    /// The power button reached the guest (evdev KEY_POWER in the reference guest).
    ButtonPressed,
    /// The session policy decided what the press means.
    ButtonPolicy {
        /// PBUTTONACTION: 0 nothing, 1 sleep, 2 hibernate, 3 shut down, 4 turn off the display.
        action: u32,
        /// Which layer of the lookup gave it: `policy`, `scheme`, `default`, `fallback`.
        layer: String,
    },
    /// The press (or another request) has no effect, and why.
    RequestDiscarded {
        /// One word of the reason, such as `button-action-nothing`.
        reason: String,
    },
    /// The end of the session begins; WM_QUERYENDSESSION goes out next.
    SessionEnding {
        /// Who asked: `button`, `agent` or `timer` (PowerOffAfterSeconds of the reference guest).
        by: String,
    },
    /// A window was asked WM_QUERYENDSESSION.
    QueryEndSession {
        /// Its title.
        window: String,
        /// Its process id.
        window_pid: u32,
    },
    /// What the window answered.
    QueryEndSessionAnswer {
        /// Its title.
        window: String,
        /// `true`, `false` or `no-answer` (after HungAppTimeout).
        answer: String,
    },
    /// The session cannot end: the listed windows hold it, and the screen says so.
    SessionBlocked {
        /// Titles of the blocking windows.
        windows: Vec<String>,
    },
    /// The shutdown that was blocked is given up; the desktop is back.
    SessionResumed,
    /// All applications have gone (WM_ENDSESSION sent, processes ended).
    SessionEnded,
    /// A service was told to stop.
    ServiceStopping {
        /// Its service name.
        service: String,
    },
    /// A service has stopped, or its time ran out.
    ServiceStopped {
        /// Its service name.
        service: String,
        /// Milliseconds from the control to the end of the wait.
        took_ms: u64,
        /// True when it did not stop in its time and was left behind.
        timed_out: bool,
    },
    /// All services are done.
    ServicesStopped,
    /// The system volume was unmounted cleanly.
    VolumeUnmounted,
    /// The last line: S5 is written next.
    PoweringOff,
    /// A probe application shows its window.
    WindowShown {
        /// What it will do when asked to end: `answers`, `hangs`, `refuses`, `slow`.
        behaviour: String,
        /// Its title.
        title: String,
    },
    /// A probe application received WM_QUERYENDSESSION.
    ProbeAsked,
    /// A probe application received WM_ENDSESSION.
    ProbeEnding {
        /// The message's wParam: the session really ends.
        ending: bool,
    },
    /// A probe service reached a state.
    ServiceState {
        /// `running`, `stop-pending`, `stopped`.
        state: String,
    },
    /// Who is logged on at the console, written before `desktop-ready` and at each change.
    LogonState {
        /// `nobody`, `logged-on` or `locked`.
        state: String,
    },
    /// The session had the display switched.
    DisplayState {
        /// True: on.
        on: bool,
    },
    /// The session shows a dialog and waits for its answer.
    DialogShown {
        /// Its title.
        title: String,
    },
    /// The dialog was closed.
    DialogAnswered {
        /// Its title.
        title: String,
        /// `ok` or `cancel`.
        answer: String,
    },
    /// The update screen shows this share of the work; written at each tenth.
    UpdateProgress {
        /// 0 to 100.
        percent: u32,
    },
    /// The state of the modelled two-step update, at the boot and at each change.
    UpdateState {
        /// `none`, `staged`, `committing`, `committed` or `rolled-back`.
        state: String,
    },
    /// The machine goes to sleep next.
    Suspending {
        /// `s3` or `s4`.
        state: String,
    },
    /// The machine is back from sleep.
    Resumed {
        /// `s3` or `s4`.
        state: String,
    },
    /// Something went wrong inside a guest program.
    Trouble {
        /// A sentence for people.
        what: String,
    },
    /// An event that this reader does not know (a newer guest).
    #[serde(other)]
    Unknown,
}

/// Why a line is not a probe line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineError {
    /// Longer than [`MAX_LINE`].
    TooLong,
    /// Not valid UTF-8 or not the JSON object of a [`ProbeLine`].
    Malformed,
    /// Another format version.
    Version(u8),
}

impl std::fmt::Display for LineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LineError::TooLong => write!(f, "longer than {MAX_LINE} bytes"),
            LineError::Malformed => write!(f, "not a probe line"),
            LineError::Version(v) => write!(f, "format version {v}, this reader knows {VERSION}"),
        }
    }
}

impl std::error::Error for LineError {}

impl ProbeLine {
    /// Reads one line, without its line feed (a carriage return before it is tolerated).
    pub fn parse(line: &[u8]) -> Result<ProbeLine, LineError> {
        if line.len() > MAX_LINE {
            return Err(LineError::TooLong);
        }
        let line: ProbeLine = serde_json::from_slice(line.trim_ascii()).map_err(|_| LineError::Malformed)?;
        if line.softoff != VERSION {
            return Err(LineError::Version(line.softoff));
        }
        Ok(line)
    }

    /// The line as it goes to COM1, with its line feed.
    pub fn encode(&self) -> Vec<u8> {
        // Serialising strings, integers and booleans into memory has no failing case; should serde_json
        // ever report one, an empty line is what a reader counts as damaged.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: ProbeEvent) -> ProbeLine {
        ProbeLine { softoff: VERSION, src: "session".into(), pid: 8, seq: 3, up_ms: 1200, event }
    }

    #[test]
    fn a_line_survives_the_wire() {
        let sent = line(ProbeEvent::ButtonPolicy { action: 0, layer: "policy".into() });
        let wire = sent.encode();
        assert_eq!(wire.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(ProbeLine::parse(&wire), Ok(sent));
    }

    #[test]
    fn a_newer_event_is_unknown_not_an_error() {
        let wire =
            br#"{"softoff":1,"src":"x","pid":1,"seq":1,"up_ms":0,"event":"teleported","where":"away"}"#;
        assert_eq!(ProbeLine::parse(wire).map(|l| l.event), Ok(ProbeEvent::Unknown));
    }

    #[test]
    fn cut_foreign_and_future_lines_are_told_apart() {
        let whole = line(ProbeEvent::Booted).encode();
        assert_eq!(ProbeLine::parse(&whole[..whole.len() - 5]), Err(LineError::Malformed));
        assert_eq!(ProbeLine::parse(b"\xff\xfe{"), Err(LineError::Malformed));
        assert_eq!(ProbeLine::parse(&vec![b' '; MAX_LINE + 1]), Err(LineError::TooLong));
        let wire = br#"{"softoff":9,"src":"x","pid":1,"seq":1,"up_ms":0,"event":"booted"}"#;
        assert_eq!(ProbeLine::parse(wire), Err(LineError::Version(9)));
    }
}
