//! PID 1 of the reference guest: one static program for everything on its Linux side.
//!
//! By the name it is called and the place it runs in:
//!
//! * `/init` of the initial RAM disk: [`early`] loads kernel modules and changes to the real root, or, with
//!   `softoff.mode=populate`, [`populate`] fills a new system volume (once, when the image is built).
//! * PID 1 of the root: [`system`] boots the guest and then waits in [`serve`]: for the ACPI button
//!   ([`button`]), for the session program ([`session`]), for the guest agent ([`agent`]), for keys and
//!   pointer ([`input`]); [`sleep`], [`display`] and [`ending`] do what the session asks for.
//! * What is on C: and tells of the end: [`volume`] (checked with [`ntfs_mark`], mounted, marked as in use),
//!   [`documents`], the System event log ([`event_log`]), the modelled [`update`], what the guest writes into its own
//!   [`hives`].
//! * `/sbin/shutdown`, `pm-suspend` and their like, run by qemu-ga: [`agent`] tells PID 1.
//! * `/usr/bin/winrun PROGRAM ARGS`: [`wine`] runs a Win32 program, for the agent's guest-exec.
//!
//! The policy of a shutdown (what a press means, who is asked, how long is waited) is not here: it is in the
//! Win32 program `session.exe`, as it is winlogon's on Windows.

mod agent;
mod block;
mod button;
mod display;
mod documents;
mod early;
mod ending;
mod event_log;
mod hives;
mod input;
mod log;
mod ntfs_mark;
mod populate;
mod procs;
mod serve;
mod session;
mod sleep;
mod system;
mod update;
mod volume;
mod wine;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let own = args.next().unwrap_or_default();
    let name = Path::new(&own).file_name().and_then(|n| n.to_str()).unwrap_or_default();
    match name {
        "shutdown" => agent::shutdown_main(args),
        "pm-is-supported" => agent::sleep_supported_main(args),
        "pm-suspend" => agent::tell_main(agent::Request::Suspend),
        "pm-hibernate" => agent::tell_main(agent::Request::Hibernate),
        "winrun" => wine::winrun_main(args),
        _ if std::process::id() == 1 => first_process(),
        _ => {
            eprintln!(
                "softoff-guest-init runs as PID 1 of the reference guest, or as `shutdown` or `winrun`"
            );
            ExitCode::FAILURE
        }
    }
}

/// Never returns in a healthy guest; PID 1 that ends is a kernel panic, which resets the machine.
fn first_process() -> ExitCode {
    let ended = if Path::new("/modules/root").exists() { early::main() } else { system::main() };
    if let Err(error) = ended {
        log::say(&format!("fatal: {error:#}"));
        log::trouble(&format!("{error:#}"));
        // Let the serial ports drain; then stay, so that a person can see the console.
        loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
    }
    ExitCode::FAILURE
}
