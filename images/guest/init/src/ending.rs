//! Bringing the machine down once the session and the services are done: Wine, the agent, what Windows writes at its
//! end, the volume, S5.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};
use softoff_guest_protocol::probe::ProbeEvent;

use crate::serve::Programs;
use crate::{event_log, hives, log, procs, wine};

/// How long Wine may take to end by itself; its server kills what hangs after 2 s.
const WINE_PATIENCE: Duration = Duration::from_secs(8);
/// How long a killed process may take to let go of the volume.
const KILL_PATIENCE: Duration = Duration::from_secs(3);
/// How long the volume may stay busy.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(5);

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// S5.
    PowerOff,
    /// A reset.
    Reboot,
}

/// Ends everything. Does not return unless the kernel refuses.
pub(crate) fn end(how: How, programs: &Programs) {
    // A stopped X server keeps the last picture on the screen, as Windows does until power is off.
    if let Some(x) = programs.x {
        let _ = kill(x, Signal::SIGSTOP);
    }
    end_wine(programs);
    if let Some(agent) = programs.agent {
        procs::end(agent, KILL_PATIENCE);
    }
    end_the_rest(programs);
    event_log::stopped(how);
    hives::note_shutdown_time();
    sync();
    match unmount() {
        Ok(()) => log::probe(ProbeEvent::VolumeUnmounted),
        Err(error) => log::trouble(&format!("C: could not be unmounted cleanly: {error}")),
    }
    log::probe(ProbeEvent::PoweringOff);
    log::drain();
    let mode = match how {
        How::PowerOff => RebootMode::RB_POWER_OFF,
        How::Reboot => RebootMode::RB_AUTOBOOT,
    };
    let Err(error) = reboot(mode);
    log::trouble(&format!("the kernel refused {how:?}: {error}"));
}

/// Crashes the kernel. With a pvpanic device QEMU tells GUEST_PANICKED; without one the kernel's `panic=-1` makes
/// it a reset.
pub(crate) fn crash() {
    log::say("crashing the kernel, as asked");
    log::drain();
    if let Err(error) = std::fs::write("/proc/sysrq-trigger", "c") {
        log::trouble(&format!("the kernel refused to crash: {error}"));
    }
}

fn end_wine(programs: &Programs) {
    let asked = procs::start(wine::command("/usr/lib/wine/wineserver64").arg("-k"), "wineserver-k");
    if let Err(error) = asked {
        log::trouble(&format!("Wine could not be asked to end: {error:#}"));
    }
    let server: Vec<Pid> = programs.wineserver.into_iter().collect();
    if !procs::wait_gone(&server, WINE_PATIENCE).is_empty() {
        log::trouble(&format!("Wine did not end within {} s and is killed", WINE_PATIENCE.as_secs()));
    }
}

/// Whatever is left may have files open on C:.
fn end_the_rest(programs: &Programs) {
    let keep: Vec<Pid> = programs.x.into_iter().collect();
    let left = procs::others(&keep);
    for (pid, program) in &left {
        log::say(&format!("killing what is left: {program} ({pid})"));
        let _ = kill(*pid, Signal::SIGKILL);
    }
    let pids: Vec<Pid> = left.into_iter().map(|(pid, _)| pid).collect();
    procs::wait_gone(&pids, KILL_PATIENCE);
}

/// Never lazily: a lazy unmount would report a clean volume that is not.
fn unmount() -> Result<(), Errno> {
    let begun = Instant::now();
    loop {
        match umount2(wine::DRIVE_C, MntFlags::empty()) {
            Err(Errno::EBUSY) if begun.elapsed() < UNMOUNT_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            ended => return ended,
        }
    }
}
