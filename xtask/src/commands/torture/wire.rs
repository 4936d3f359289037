//! A QEMU with a bad wire: this program stands in for QEMU, starts the real one, and sits between it and the harness on
//! QMP, COM1, COM2 and the agent's channel. What a real QEMU cannot be made to say is said here.
//!
//! It is found by its name: a link called `qemu-system-x86_64` to this program stands first in PATH.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use softoff_harness::machine::{QEMU, process};

use super::lines;

/// The real QEMU.
pub(super) const REAL: &str = "SOFTOFF_WIRE_QEMU";
/// What is done to the wire: a fault's name.
pub(super) const FAULT: &str = "SOFTOFF_WIRE_FAULT";
/// What stands in QEMU's log when it was done.
pub(super) const DID: &str = "the wire: done";

/// Which of QEMU's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Qmp,
    Com1,
    Com2,
    Agent,
}

/// What the directions of all channels know of each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The button was pressed.
    pub(super) asked: AtomicBool,
    /// What happens once has happened.
    pub(super) done: AtomicBool,
    /// Screendumps so far.
    pub(super) pictures: AtomicU32,
    /// The fault was done.
    did: AtomicBool,
}

impl Shared {
    /// Says once, in QEMU's own log, that the fault was done: a trial without it has tried nothing.
    pub(super) fn did(&self) {
        if !self.did.swap(true, Ordering::SeqCst) {
            eprintln!("{DID}");
        }
    }
}

/// Plays QEMU, when that is what this program was started as.
pub(crate) fn stand_in() -> Option<ExitCode> {
    let called = std::env::args_os().next()?;
    if Path::new(&called).file_name()? != QEMU {
        return None;
    }
    let (real, fault) = (std::env::var_os(REAL)?, std::env::var(FAULT).ok()?);
    Some(match play(Path::new(&real), &fault) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the stand-in for QEMU failed: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn play(real: &Path, fault: &str) -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let mut sockets = Vec::new();
    let mut before = String::new();
    for argument in &mut arguments {
        let channel = match argument.as_str() {
            a if before == "-qmp" && a.starts_with("unix:") => Some(Channel::Qmp),
            a if a.starts_with("socket,id=com1,") => Some(Channel::Com1),
            a if a.starts_with("socket,id=com2,") => Some(Channel::Com2),
            a if a.starts_with("socket,id=agent,") => Some(Channel::Agent),
            _ => None,
        };
        before.clone_from(argument);
        let marks = if channel == Some(Channel::Qmp) { "unix:" } else { "path=" };
        let path = argument.split_once(marks).and_then(|(_, rest)| rest.split_once(",server"));
        if let (Some(channel), Some((path, _))) = (channel, path) {
            let path = path.to_owned();
            *argument = argument.replace(&path, &format!("{path}.real"));
            sockets.push((channel, PathBuf::from(path)));
        }
    }
    let mut command = Command::new(real);
    command.args(&arguments);
    if sockets.is_empty() {
        // `--version`, and the accelerator's test boot.
        return Err(command.exec().into());
    }
    let shared: &'static Shared = Box::leak(Box::default());
    if fault == "overlay-read-only" {
        let overlay = sockets.first().map(|(_, path)| path.with_file_name("system.qcow2"));
        std::fs::set_permissions(overlay.unwrap_or_default(), Permissions::from_mode(0o444))?;
        shared.did();
    }
    process::die_with_thread(&mut command);
    let mut child = command.spawn()?;
    let fault: &'static str = Box::leak(fault.to_owned().into_boxed_str());
    let mut pumps = Vec::new();
    for (channel, path) in sockets {
        let listener = UnixListener::bind(&path)?;
        pumps.push(std::thread::spawn(move || connect(channel, &listener, &path, fault, shared)));
    }
    let status = child.wait()?;
    // What QEMU said last is still on its way.
    let began = Instant::now();
    while pumps.iter().any(|pump| !pump.is_finished()) && began.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Some(signal) = status.signal() {
        // SAFETY: raise has no preconditions.
        unsafe { nix::libc::raise(signal) };
    }
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// Serves one client of one socket.
fn connect(
    channel: Channel,
    listener: &UnixListener,
    path: &Path,
    fault: &'static str,
    shared: &'static Shared,
) {
    let Ok((client, _)) = listener.accept() else { return };
    let real =
        path.with_file_name(format!("{}.real", path.file_name().unwrap_or_default().to_string_lossy()));
    let began = Instant::now();
    let qemu = loop {
        match UnixStream::connect(&real) {
            Ok(stream) => break stream,
            Err(_) if began.elapsed() < Duration::from_secs(60) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(_) => return,
        }
    };
    let (Ok(client_reads), Ok(qemu_reads)) = (client.try_clone(), qemu.try_clone()) else { return };
    let up = std::thread::spawn(move || {
        to_qemu(channel, client_reads, qemu, fault, shared);
    });
    from_qemu(channel, qemu_reads, &client, fault, shared);
    let _closed = client.shutdown(std::net::Shutdown::Both);
    let _ended = up.join();
}

fn to_qemu(channel: Channel, from: UnixStream, mut to: UnixStream, fault: &str, shared: &Shared) {
    if channel != Channel::Qmp {
        let mut from = from;
        let _ended = std::io::copy(&mut from, &mut to);
        return;
    }
    let answer = from.try_clone();
    for line in whole_lines(from) {
        let line = match lines::command(&line, fault, shared) {
            lines::Passed::On(line) => line,
            lines::Passed::Answered(reply) => {
                if let Ok(mut answer) = answer.as_ref() {
                    let _written = answer.write_all(&reply);
                }
                continue;
            }
        };
        if to.write_all(&line).is_err() {
            break;
        }
    }
    let _closed = to.shutdown(std::net::Shutdown::Both);
}

fn from_qemu(channel: Channel, from: UnixStream, mut to: &UnixStream, fault: &str, shared: &'static Shared) {
    // After the harness has gone, or was hung up on, QEMU must still be read: a full socket would stop it.
    let mut alive = true;
    if channel == Channel::Com1 {
        lines::unasked(fault, &mut to, shared);
    }
    if let Ok(mut beside) = to.try_clone() {
        match (channel, fault) {
            (Channel::Com1, "probe-claims-off") => {
                std::thread::spawn(move || lines::claim_when_asked(&mut beside, shared));
            }
            (Channel::Com2, "console-escapes") => {
                std::thread::spawn(move || lines::panic_when_asked(&mut beside, shared));
            }
            (Channel::Com2, "console-flood") => {
                std::thread::spawn(move || lines::flood_when_asked(&mut beside, shared));
            }
            _ => {}
        }
    }
    for line in whole_lines(from) {
        if alive {
            alive = lines::reply(channel, &line, &mut to, fault, shared).is_ok();
            if !alive {
                let _closed = to.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

/// Lines with their line feeds; what stands behind the last one, too. A rest that waits is passed on as it is, so that
/// a mark without a line feed is not kept back.
fn whole_lines(stream: UnixStream) -> impl Iterator<Item = Vec<u8>> {
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.by_ref().take(32 << 20).read_until(b'\n', &mut line) {
            Ok(n) if n > 0 => Some(line),
            _ => None,
        }
    })
}
