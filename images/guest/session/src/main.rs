//! `session.exe`: the reference guest's stand-in for what Windows has between the power button and the service
//! control manager (the power manager's policy, winlogon, csrss).
//!
//! Modelled: the decisions and their order, from the registry values that Windows documents. Real: the windows,
//! their messages and their hangs, the services, the screen. It never runs in Windows.
//!
//! * [`policy`] and [`settings`]: what the registry says. [`hear`]: what a message means by that. [`flow`]: the
//!   state machine. [`plan`]: the order of services. They run anywhere.
//! * `engine`: executes what the state machine says, with `apps`, `services`, `progress`, `process`, `registry`,
//!   and on the screen `screen`, `paint`, `tracker`.
//! * [`control`]: the channel to `init`.

#![cfg_attr(windows, windows_subsystem = "windows")]
#![cfg_attr(not(windows), allow(dead_code, reason = "elsewhere only the tests use these modules"))]

#[cfg(windows)]
mod apps;
mod control;
#[cfg(windows)]
mod engine;
mod flow;
mod hear;
#[cfg(windows)]
mod paint;
mod picture;
mod plan;
mod policy;
#[cfg(windows)]
mod process;
#[cfg(windows)]
mod progress;
#[cfg(windows)]
mod registry;
#[cfg(windows)]
mod screen;
#[cfg(windows)]
mod services;
mod settings;
mod skip;
#[cfg(test)]
mod table;
#[cfg(windows)]
mod tracker;

#[cfg(windows)]
fn main() {
    use std::time::Duration;

    let reporter: &'static _ = Box::leak(Box::new(softoff_guest_probe::serial::reporter("session")));
    let (sender, receiver) = std::sync::mpsc::channel();
    let ui = match screen::open(sender.clone()) {
        Ok(ui) => ui,
        Err(why) => {
            reporter.trouble(why);
            reporter.flush(Duration::from_secs(5));
            std::process::exit(1);
        }
    };
    std::thread::spawn(move || {
        if let Err(why) = engine::run(ui, reporter, &sender, &receiver) {
            reporter.trouble(why);
        }
    });
    ui.serve();
}

#[cfg(not(windows))]
fn main() {
    eprintln!(
        "session runs only in the guest: build it for Windows with `cargo xtask image build reference`"
    );
    std::process::exit(2);
}
