//! The guest agent: starting qemu-ga, and being the programs that it runs: `/sbin/shutdown` for guest-shutdown,
//! and those of pm-utils for guest-suspend-ram and guest-suspend-disk. (Without them qemu-ga would write to
//! /sys/power/state itself, and PID 1 could not tell the session that the machine is back.)

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::Pid;

use crate::procs;
use crate::serve::Event;

/// Where `/sbin/shutdown` reaches PID 1.
const SOCKET: &str = "/run/softoff/shutdown";

/// The virtio-serial port of the agent.
const PORT: &str = "org.qemu.guest_agent.0";

/// What the agent was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Power off (halt means the same here).
    PowerOff,
    /// Reset.
    Reboot,
    /// S3.
    Suspend,
    /// S4.
    Hibernate,
}

impl Request {
    /// The byte that stands for it on the socket.
    fn byte(self) -> u8 {
        match self {
            Request::PowerOff => b'p',
            Request::Reboot => b'r',
            Request::Suspend => b's',
            Request::Hibernate => b'h',
        }
    }

    fn of_byte(byte: u8) -> Option<Request> {
        let all = [Request::PowerOff, Request::Reboot, Request::Suspend, Request::Hibernate];
        all.into_iter().find(|request| request.byte() == byte)
    }
}

/// Starts qemu-ga if the machine has its port; `None` where it has not.
pub(crate) fn start() -> anyhow::Result<Option<Pid>> {
    let Some(device) = find_port(Path::new("/sys/class/virtio-ports")) else { return Ok(None) };
    // What udev would do.
    let links = Path::new("/dev/virtio-ports");
    std::fs::create_dir_all(links)?;
    symlink(Path::new("/dev").join(device), links.join(PORT)).context("cannot link the agent's port")?;
    let mut command = Command::new("/usr/sbin/qemu-ga");
    command.args(["--method", "virtio-serial", "--path", &format!("/dev/virtio-ports/{PORT}")]);
    command.args(["--statedir", "/run", "--pidfile", "/run/qemu-ga.pid"]);
    command.env("PATH", "/usr/bin:/usr/sbin");
    Ok(Some(procs::start(&mut command, "qemu-ga")?))
}

fn find_port(class: &Path) -> Option<String> {
    std::fs::read_dir(class).ok()?.flatten().find_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim() == PORT).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

/// Listens for `/sbin/shutdown` in a thread.
pub(crate) fn listen(events: Sender<Event>) -> anyhow::Result<()> {
    let listener = UnixListener::bind(SOCKET).with_context(|| format!("cannot listen on {SOCKET}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Some(request) = take_request(stream)
                && events.send(Event::Agent(request)).is_err()
            {
                return;
            }
        }
    });
    Ok(())
}

/// One byte says which; the same byte back says that PID 1 has it.
fn take_request(mut stream: UnixStream) -> Option<Request> {
    let mut byte = [0u8; 1];
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.read_exact(&mut byte).ok()?;
    let [byte_of_request] = byte;
    let request = Request::of_byte(byte_of_request)?;
    let _ = stream.write_all(&byte);
    Some(request)
}

/// `shutdown`, as qemu-ga calls it: `-P +0 MESSAGE`, `-H +0 MESSAGE`, `-r +0 MESSAGE`.
pub(crate) fn shutdown_main(args: impl Iterator<Item = String>) -> ExitCode {
    tell_main(request_of(args))
}

/// `pm-is-supported`, as qemu-ga calls it: `--suspend`, `--hibernate`, `--suspend-hybrid`.
pub(crate) fn sleep_supported_main(mut args: impl Iterator<Item = String>) -> ExitCode {
    if args.any(|a| a == "--suspend" || a == "--hibernate") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells PID 1 a request.
pub(crate) fn tell_main(request: Request) -> ExitCode {
    let byte = [request.byte()];
    let told = UnixStream::connect(SOCKET).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&byte)?;
        stream.read_exact(&mut [0u8; 1])
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("PID 1 does not answer on {SOCKET}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn request_of(mut args: impl Iterator<Item = String>) -> Request {
    if args.any(|a| a == "-r" || a == "--reboot") { Request::Reboot } else { Request::PowerOff }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_calls_are_understood() {
        let call = |args: &[&str]| request_of(args.iter().map(|a| (*a).to_owned()));
        assert_eq!(call(&["-P", "+0", "hypervisor initiated shutdown"]), Request::PowerOff);
        assert_eq!(call(&["-H", "+0", "-hypervisor"]), Request::PowerOff);
        assert_eq!(call(&["-r", "+0", "x"]), Request::Reboot);
    }

    #[test]
    fn a_request_is_acknowledged_and_rubbish_is_not() {
        for (sent, wanted) in [
            (b'p', Some(Request::PowerOff)),
            (b'r', Some(Request::Reboot)),
            (b'h', Some(Request::Hibernate)),
            (b'x', None),
        ] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(&[sent]).unwrap();
            assert_eq!(take_request(theirs), wanted);
            let mut answer = Vec::new();
            ours.read_to_end(&mut answer).unwrap();
            assert_eq!(!answer.is_empty(), wanted.is_some());
        }
    }
}
