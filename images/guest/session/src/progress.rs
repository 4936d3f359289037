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

    /// Paints: of the services of this round, `stopped` have stopped, and the others have done these shares.
    pub(crate) fn show(&mut self, stopped: usize, working: &[u32]) {
        let shares = (self.done + stopped) as u32 * 100 + working.iter().sum::<u32>();
        let percent = shares / (self.services.max(1) as u32);
        self.shown = self.shown.max(percent.min(99));
        self.paint();
    }

    /// A round of so many services is over.
    pub(crate) fn passed(&mut self, services: usize) {
        self.done += services;
    }

    /// All is done; then the plain screen comes back.
    pub(crate) fn end(mut self) {
        self.shown = 100;
        self.paint();
        self.ui.show(Base::ShuttingDown.into());
    }

    fn paint(&mut self) {
        self.ui.show(Base::Updating { percent: self.shown, beat: self.beat }.into());
        self.beat = self.beat.wrapping_add(1);
        let tenth = self.shown / 10;
        if self.reported.is_none_or(|last| last < tenth) {
            self.reported = Some(tenth);
            self.reporter.report(ProbeEvent::UpdateProgress { percent: self.shown });
        }
    }
}
