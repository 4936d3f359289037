//! The update screen, while the services that hold the shutdown do their work.
//!
//! Modelled: in Windows the servicing stack knows its own share; here it is each service's time.

use softoff_guest_protocol::control::ToInit;
use softoff_guest_protocol::probe::ProbeEvent;

use crate::picture::Base;
use crate::services::World;

/// What the screen shows. It never goes back.
pub(crate) struct Progress<'a> {
    services: usize,
    done: usize,
    shown: u32,
    reported: Option<u32>,
    beat: u32,
    world: World<'a>,
}

impl<'a> Progress<'a> {
    /// Begins, on screen as well. `services` is the number of those that are to stop.
    pub(crate) fn new(services: usize, world: World<'a>) -> Progress<'a> {
        let mut progress = Progress { services, done: 0, shown: 0, reported: None, beat: 0, world };
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

    /// The plain screen comes back. `done`: all the work was done in its time; what was left behind is not, whatever
    /// the screen has shown.
    pub(crate) fn end(mut self, done: bool) {
        if done {
            self.shown = 100;
            self.paint();
        }
        self.world.ui.show(Base::ShuttingDown.into());
    }

    fn paint(&mut self) {
        self.world.ui.show(Base::Updating { percent: self.shown, beat: self.beat }.into());
        self.beat = self.beat.wrapping_add(1);
        let tenth = self.shown / 10;
        if self.reported.is_none_or(|last| last < tenth) {
            self.reported = Some(tenth);
            // Told before it is reported: whoever pulls the plug at this line finds it on the disk, or nearly.
            (self.world.tell)(ToInit::UpdateWork { percent: self.shown });
            self.world.reporter.report(ProbeEvent::UpdateProgress { percent: self.shown });
        }
    }
}
