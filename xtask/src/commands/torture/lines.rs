//! What a bad wire makes of the lines on it; one arm for each fault.

use std::io::{self, Write};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use softoff_guest_protocol::probe::{ProbeEvent, ProbeLine, VERSION};

use super::wire::{Channel, Shared};

/// What becomes of a command on its way to QEMU.
pub(super) enum Passed {
    On(Vec<u8>),
    /// QEMU never sees it.
    Answered(Vec<u8>),
}

/// A command of the harness.
pub(super) fn command(line: &[u8], fault: &str, shared: &Shared) -> Passed {
    let Ok(mut command) = serde_json::from_slice::<Value>(line) else { return Passed::On(line.to_vec()) };
    let name = command.get("execute").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name == "system_powerdown" {
        shared.asked.store(true, SeqCst);
        if ["probe-claims-off", "press-lost"].contains(&fault) {
            shared.did();
            let reply = json!({ "return": {}, "id": command.get("id") });
            return Passed::Answered(format!("{reply}\n").into_bytes());
        }
    }
    // The first two prove that a warm machine is the saved one.
    if name == "screendump" && fault == "screendump-fails" && shared.pictures.fetch_add(1, SeqCst) >= 2 {
        shared.did();
        command["arguments"] = json!({ "filename": "/proc/nowhere/screen.ppm" });
        return Passed::On(format!("{command}\n").into_bytes());
    }
    Passed::On(line.to_vec())
}

/// A title, a cleared screen, a colour, the same in one C1 character, letters from right to left, and elements of a page that act.
pub(super) const ESCAPES: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[35m\u{9b}31m\u{202e}<script>document.title='owned'</script>\
    <img src='x' onerror=\"console.error('owned')\">";

/// Bytes that are no text.
fn noise(length: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| rng.u8(..)).filter(|b| *b != b'\n').take(length).collect()
}

/// True the first time after the press.
fn once(shared: &Shared) -> bool {
    shared.asked.load(SeqCst) && !shared.done.swap(true, SeqCst)
}

/// A line of QEMU's or of the guest's, and what comes with it. An error ends the connection.
pub(super) fn reply(
    channel: Channel,
    line: &[u8],
    to: &mut impl Write,
    fault: &str,
    shared: &Shared,
) -> io::Result<()> {
    match channel {
        Channel::Qmp => qmp(line, to, fault, shared),
        Channel::Com1 => com1(line, to, fault, shared),
        Channel::Com2 => to.write_all(line),
        Channel::Agent => agent(line, to, fault, shared),
    }
}

fn qmp(line: &[u8], to: &mut impl Write, fault: &str, shared: &Shared) -> io::Result<()> {
    let value: Value = serde_json::from_slice(line).unwrap_or_default();
    let is_greeting = value.get("QMP").is_some();
    match fault {
        "qmp-slow" => {
            shared.did();
            for piece in line.chunks(64) {
                to.write_all(piece)?;
                std::thread::sleep(Duration::from_millis(4));
            }
            return Ok(());
        }
        "qmp-garbage" if !is_greeting => {
            shared.did();
            for junk in
                [&b"not json\n"[..], b"{\"half\":\n", b"[1,2]\n", b"\n", b"{\"return\":{}}\n", b"\xff\xfe\n"]
            {
                to.write_all(junk)?;
            }
            to.write_all(&noise(5000))?;
            to.write_all(b"\n")?;
        }
        "qmp-unknown-events" if !is_greeting => {
            shared.did();
            let data = json!({ "guest": true, "reason": "guest-shutdown", "deep": [[[{ "a": 1e308 }]]] });
            for name in ["SHUTDOWN_SOON", "", "\u{1b}]0;x\u{7}", "shutdown"] {
                let stamp = json!({ "seconds": i64::MAX, "microseconds": -5 });
                writeln!(to, "{}", json!({ "event": name, "data": data, "timestamp": stamp }))?;
            }
        }
        "qmp-duplicate-ids" if value.get("id").is_some() => {
            shared.did();
            to.write_all(line)?;
            writeln!(to, "{}", json!({ "id": value["id"], "return": { "status": "shutdown" } }))?;
            writeln!(to, "{}", json!({ "id": value["id"], "error": { "class": "X", "desc": "twice" } }))?;
            return Ok(());
        }
        "qmp-huge-line" if once(shared) => {
            shared.did();
            let part = vec![b'x'; 1 << 20];
            for _ in 0..1024 {
                to.write_all(&part)?;
            }
            to.write_all(b"\n")?;
        }
        "qmp-closed" if shared.asked.load(SeqCst) => {
            shared.did();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        "qmp-silent" if shared.asked.load(SeqCst) => {
            shared.did();
            return Ok(());
        }
        "qmp-host-shutdown" if once(shared) => {
            shared.did();
            let event = json!({ "event": "SHUTDOWN", "data": { "guest": false, "reason": "host-signal" } });
            writeln!(to, "{event}")?;
        }
        "clock-jumps" if value.get("event").is_some() => {
            shared.did();
            let mut value = value;
            let seconds = value["timestamp"]["seconds"].as_i64().unwrap_or(0);
            // Back and forth by an hour, from event to event.
            let by = if shared.done.fetch_xor(true, SeqCst) { 3600 } else { -3600 };
            value["timestamp"]["seconds"] = json!(seconds.saturating_add(by));
            return writeln!(to, "{value}");
        }
        _ => {}
    }
    to.write_all(line)
}

/// A line as a program of the guest would write it.
fn says(src: &str, seq: u64, event: ProbeEvent) -> Vec<u8> {
    ProbeLine { softoff: VERSION, src: src.into(), pid: 7777, seq, up_ms: 1, event }.encode()
}

fn com1(line: &[u8], to: &mut impl Write, fault: &str, shared: &Shared) -> io::Result<()> {
    let text = String::from_utf8_lossy(line);
    match fault {
        "probe-truncated" if shared.asked.load(SeqCst) && line.len() > 20 => {
            shared.did();
            to.write_all(line.get(..line.len() / 2).unwrap_or_default())?;
            return to.write_all(b"\n");
        }
        "probe-binary" => {
            shared.did();
            to.write_all(&noise(300))?;
            to.write_all(b"\n\x00\x1b[2J\x1b]0;owned\x07\n")?;
        }
        "terminal-escapes" | "console-escapes" => {
            shared.did();
            let mut trouble = says(ESCAPES, 1, ProbeEvent::Trouble { what: ESCAPES.into() });
            to.write_all(&trouble)?;
            trouble.truncate(trouble.len() / 2);
            to.write_all(&trouble)?;
            to.write_all(b"\n")?;
        }
        "com1-flood" if text.contains("button-pressed") => {
            shared.did();
            to.write_all(line)?;
            let junk: Vec<u8> = (0..10_000).flat_map(|n| says("flood", n, ProbeEvent::Booted)).collect();
            for _ in 0..40 {
                to.write_all(&junk)?;
                to.write_all(&noise(1 << 20))?;
                to.write_all(b"\n")?;
            }
            return Ok(());
        }
        _ => {}
    }
    to.write_all(line)
}

/// Everything that the programs of a guest say while it goes down.
fn story() -> Vec<u8> {
    let story = [
        ProbeEvent::ButtonPressed,
        ProbeEvent::SessionEnding { by: "button".into() },
        ProbeEvent::SessionEnded,
        ProbeEvent::ServicesStopped,
        ProbeEvent::VolumeUnmounted,
        ProbeEvent::PoweringOff,
    ];
    (1..).zip(story).flat_map(|(n, event)| says("liar", n, event)).collect()
}

/// What a guest says before anybody asked.
pub(super) fn unasked(fault: &str, to: &mut impl Write, shared: &Shared) {
    if fault == "probe-forged" {
        shared.did();
        let _written = to.write_all(&story());
    }
}

/// A guest that never heard the press stays on, and says that it went down.
pub(super) fn claim_when_asked(to: &mut impl Write, shared: &Shared) {
    while !shared.asked.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _written = to.write_all(&story());
}

/// A kernel that dies with words of its own choice.
pub(super) fn panic_when_asked(to: &mut impl Write, shared: &Shared) {
    while !shared.asked.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Its programs speak on COM1 first.
    std::thread::sleep(Duration::from_secs(1));
    shared.did();
    let _written = writeln!(to, "\nKernel panic - not syncing: {ESCAPES}");
}

/// A console that says the same thing 1.6 million times.
pub(super) fn flood_when_asked(to: &mut impl Write, shared: &Shared) {
    while !shared.asked.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
    }
    shared.did();
    let junk = b"the console says this again and again \x1b[31m\n".repeat(1 << 12);
    for _ in 0..400 {
        if to.write_all(&junk).is_err() {
            return;
        }
    }
}

fn agent(line: &[u8], to: &mut impl Write, fault: &str, shared: &Shared) -> io::Result<()> {
    match fault {
        "agent-in-pieces" => {
            shared.did();
            for byte in line {
                to.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_micros(200));
            }
            return Ok(());
        }
        "agent-late" => {
            shared.did();
            std::thread::sleep(Duration::from_millis(900));
        }
        "agent-silent" => {
            shared.did();
            return Ok(());
        }
        "agent-floods" => {
            shared.did();
            let mut junk = vec![b'z'; 1 << 20];
            junk.push(b'\n');
            for _ in 0..20 {
                to.write_all(&junk)?;
            }
        }
        // Behind what a program in the guest printed stands something else.
        "terminal-escapes" => {
            let start = line.iter().position(|b| *b == b'{').unwrap_or(0);
            let mut value: Value =
                serde_json::from_slice(line.get(start..).unwrap_or_default()).unwrap_or_default();
            if let Some(out) = value["return"]["out-data"].as_str().and_then(|out| BASE64.decode(out).ok()) {
                shared.did();
                let more = [out.as_slice(), ESCAPES.as_bytes(), b"\r\n"].concat();
                value["return"]["out-data"] = json!(BASE64.encode(more));
                return writeln!(to, "{value}");
            }
        }
        // What a program in the guest printed becomes something else.
        "agent-lies" => {
            let start = line.iter().position(|b| *b == b'{').unwrap_or(0);
            let value: Value =
                serde_json::from_slice(line.get(start..).unwrap_or_default()).unwrap_or_default();
            if value["return"].get("exited").is_some() {
                shared.did();
                let lie = json!({ "return": { "exited": true, "exitcode": 0, "out-data": "bm90aGluZw==" } });
                return writeln!(to, "{lie}");
            }
        }
        _ => {}
    }
    to.write_all(line)
}
