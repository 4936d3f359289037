//! The update screen, while the services that hold the shutdown do their work.
//!
//! Modelled: in Windows the servicing stack knows its own share; here it is each service's time.

use softoff_guest_probe::report::Reporter;
use softoff_guest_protocol::probe::ProbeEvent;

use crate::picture::Base;
use crate::screen::Ui;

/// What the screen shows. It never goes back.
pub(crate) struct Progress<'a> {
    services: usize,
    done: usize,
    shown: u32,
    reported: Option<u32>,
    beat: u32,
    ui: &'a Ui,
    reporter: &'a Reporter,
}

impl<'a> Progress<'a> {
    /// Begins, on screen as well. `services` is the number of those that are to stop.
    pub(crate) fn new(services: usize, ui: &'a Ui, reporter: &'a Reporter) -> Progress<'a> {
        let mut progress = Progress { services, done: 0, shown: 0, reported: None, beat: 0, ui, reporter };
        progress.paint();
        progress
    }

    /// Paints, with the shares of those services that still work.
    pub(crate) fn show(&mut self, working: &[u32]) {
        self.done = self.done.max(self.services.saturating_sub(self.later(working.len())));
        let whole = (self.done * 100) as u32 + working.iter().sum::<u32>();
        let percent = whole / (self.services.max(1) as u32);
        self.shown = self.shown.max(percent.min(99));
        self.paint();
    }
}
