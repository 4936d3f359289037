//! `probe.exe`: a window or a service whose behaviour at shutdown is known. See [`softoff_guest_probe::arguments`].

#![cfg_attr(windows, windows_subsystem = "windows")]

#[cfg(windows)]
mod abort;
#[cfg(windows)]
mod service;
#[cfg(windows)]
mod window;

#[cfg(windows)]
fn main() {
    use softoff_guest_probe::arguments::{Mode, USAGE, parse};
    use softoff_guest_probe::serial::reporter;

    // The reporter is kept for ever: threads and window procedures use it until the process ends.
    let reporter = |source: &str| &*Box::leak(Box::new(reporter(source)));
    match parse(std::env::args().skip(1)) {
        Ok(Mode::Window { behaviour, title, text }) => {
            window::run(behaviour, &title, &text, reporter(&format!("probe:{}", behaviour.word())));
        }
        Ok(Mode::Service { name, stop, preshutdown }) => {
            let reporter = reporter(&format!("service:{name}"));
            service::run(service::Plan { name, stop, preshutdown }, reporter);
        }
        Err(why) => {
            // A GUI program has no console to complain on.
            let reporter = reporter("probe");
            reporter.trouble(format!("{why}; usage: {USAGE}"));
            reporter.flush(std::time::Duration::from_secs(5));
            std::process::exit(2);
        }
    }
}

#[cfg(not(windows))]
fn main() {
    eprintln!("probe runs only in the guest: build it for Windows with `cargo xtask image build reference`");
    std::process::exit(2);
}
