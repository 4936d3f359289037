//! PID 1 of the root: boots the guest up to the session program, then serves.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;

use anyhow::Context;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::MsFlags;
use nix::unistd::{Pid, sethostname};
use softoff_guest_protocol::probe::ProbeEvent;

use crate::early::mount_fs;
use crate::serve::{self, Programs};
use crate::{agent, block, button, documents, event_log, input, log, procs, session, update, volume, wine};

/// The session program: the only one that is started by name.
const SESSION: &str = r"C:\softoff\session.exe";

/// By its path: by its name alone Wine would run it through one process more, start.exe.
const EXPLORER: &str = r"C:\windows\explorer.exe";

/// Desktop name and size, as in the image's Wine registry.
const DESKTOP: &str = "/desktop=shell,1280x800";

/// Boots and serves. Returns only an error.
pub(crate) fn main() -> anyhow::Result<()> {
    log::probe(ProbeEvent::Booted);
    mount_fs("tmpfs", "/tmp", MsFlags::empty(), "mode=1777")?;
    for (kind, at) in [("devpts", "/dev/pts"), ("tmpfs", "/dev/shm")] {
        std::fs::create_dir_all(at)?;
        mount_fs(kind, at, MsFlags::empty(), "")?;
    }
    for folder in ["/tmp/.X11-unix", "/run/home", "/run/log"] {
        std::fs::create_dir_all(folder)?;
    }
    let _ = sethostname("reference");
    loopback_up().context("cannot bring the loopback interface up")?;

    let (events, inbox) = channel();
    procs::reap(events.clone());
    let mut programs = Programs::default();
    input::configure_x().context("cannot write Xorg's input configuration")?;
    let x = start_x()?;
    programs.x = Some(x.pid);

    let partition = block::system_partition()?;
    volume::check_and_mount(&partition)?;
    log::probe(ProbeEvent::VolumeMounted);
    event_log::started();
    update::after_boot();
    documents::write();
    wine::make_prefix()?;
    session::listen(events.clone())?;
    agent::listen(events.clone())?;
    if button::watch(&events) == 0 {
        log::trouble("the kernel shows no ACPI power button");
    }
    if input::watch(&events) == 0 {
        log::say("the machine has no keyboard and no pointer that this guest knows");
    }
    programs.wineserver =
        Some(procs::start(wine::command("/usr/lib/wine/wineserver64").args(["-f", "-p"]), "wineserver")?);
    programs.agent = agent::start()?;
    wait_for_x(x)?;
    let mut explorer = wine::command("/usr/lib/wine/wine64");
    explorer.args([EXPLORER, DESKTOP, SESSION]);
    programs.explorer = Some(procs::start(&mut explorer, "explorer")?);
    log::say("the session was started");
    serve::run(&inbox, programs)
}

/// An X server that is coming up.
struct StartingX {
    pid: Pid,
    /// Gets the display's number when the server is ready.
    ready: File,
}

fn start_x() -> anyhow::Result<StartingX> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    fcntl(&writer, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let mut command = Command::new("/usr/lib/xorg/Xorg");
    command.args([":0", "-displayfd", &writer.as_raw_fd().to_string(), "-logfile", "/run/log/Xorg.log"]);
    command.args([
        "-noreset",
        "-nolisten",
        "tcp",
        "-configdir",
        input::XORG_FOLDER,
        "-novtswitch",
        "-sharevts",
        "-keeptty",
        "-nocursor",
        "vt1",
    ]);
    command.env("PATH", "/usr/bin");
    let pid = procs::start(&mut command, "Xorg")?;
    Ok(StartingX { pid, ready: reader.into() })
}

/// Ends with the server's line, or with its end: then the pipe has no writer any more. The whole line is
/// read: the server writes it in two parts and dies when the second finds no reader.
fn wait_for_x(x: StartingX) -> anyhow::Result<()> {
    let mut line = String::new();
    BufReader::new(x.ready).read_line(&mut line).context("cannot read from the X server")?;
    anyhow::ensure!(line.ends_with('\n'), "the X server ended: {}", procs::last_words("Xorg"));
    Ok(())
}

/// What `ip link set lo up` does; the kernel gives the address by itself.
fn loopback_up() -> anyhow::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `ifreq` is plain data, for which zeros are valid.
    let mut request: nix::libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = (*from).cast_signed();
    }
    request.ifr_ifru.ifru_flags = (nix::libc::IFF_UP | nix::libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives through the call.
    let result =
        unsafe { nix::libc::ioctl(socket.as_raw_fd(), nix::libc::SIOCSIFFLAGS as _, &raw const request) };
    nix::errno::Errno::result(result)?;
    anyhow::ensure!(Path::new("/sys/class/net/lo").exists(), "the kernel has no loopback interface");
    Ok(())
}
