//! What PID 1 says: plain lines on the console (COM2), probe lines on COM1.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;

use nix::sys::termios::{self, ControlFlags, SetArg};
use nix::time::{ClockId, clock_gettime};
use softoff_guest_protocol::probe::{ProbeEvent, ProbeLine, VERSION};

/// The port of the probe lines.
const COM1: &str = "/dev/ttyS0";

/// The port, kept open for the guest's whole life, and the number of the last line.
static PORT: Mutex<(Option<File>, u64)> = Mutex::new((None, 0));

/// Guest uptime in milliseconds, without the time asleep: the clock that Wine gives its programs as
/// GetTickCount64, so that the lines of all programs can be put in order.
pub(crate) fn up_ms() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A line for people on the console.
pub(crate) fn say(text: &str) {
    if let Ok(mut console) = File::options().write(true).open("/dev/console") {
        let up = up_ms();
        let _ =
            console.write_all(format!("softoff-init {}.{:03}: {text}\n", up / 1000, up % 1000).as_bytes());
    }
}

/// A probe line on COM1, and the same on the console.
pub(crate) fn probe(event: ProbeEvent) {
    let Ok(mut guard) = PORT.lock() else { return };
    let (port, seq) = &mut *guard;
    if port.is_none() {
        *port = open_port();
    }
    *seq += 1;
    let line = ProbeLine {
        softoff: VERSION,
        src: "init".into(),
        pid: std::process::id(),
        seq: *seq,
        up_ms: up_ms(),
        event,
    };
    let bytes = line.encode();
    say(String::from_utf8_lossy(&bytes).trim_end());
    if let Some(port) = port {
        let _ = port.write_all(&bytes);
    }
}

/// Reports that something went wrong.
pub(crate) fn trouble(what: &str) {
    probe(ProbeEvent::Trouble { what: what.to_owned() });
}

/// Waits until the last line has left the port.
pub(crate) fn drain() {
    if let Ok(guard) = PORT.lock()
        && let Some(port) = &guard.0
    {
        let _ = termios::tcdrain(port);
    }
}

/// Raw, so that a line goes out as it was written; CLOCAL, so that nobody waits for a carrier.
fn open_port() -> Option<File> {
    let port = File::options().read(true).write(true).open(COM1).ok()?;
    if let Ok(mut settings) = termios::tcgetattr(&port) {
        termios::cfmakeraw(&mut settings);
        settings.control_flags |= ControlFlags::CLOCAL;
        let _ = termios::tcsetattr(&port, SetArg::TCSANOW, &settings);
    }
    Some(port)
}
