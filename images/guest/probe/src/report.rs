//! Probe lines, written by a thread of their own.
//!
//! A window procedure must not wait for a serial port: while it waits it does not answer, and the probe would
//! measure its own reporting. So [`Reporter::report`] only queues; the port's thread writes. Where the line must
//! be out before something drastic (a hang, the end of the process), [`Reporter::flush`] waits, with a limit.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use softoff_guest_protocol::probe::{ProbeEvent, ProbeLine, VERSION};

/// Takes one encoded line to where it belongs; false if it could not.
pub type Sink = Box<dyn FnMut(&[u8]) -> bool + Send>;

enum Job {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The way to COM1 for one program. Shared by all its threads.
pub struct Reporter {
    source: String,
    uptime: fn() -> Duration,
    queue: Mutex<(u64, Sender<Job>)>,
}

impl Reporter {
    /// Starts the writing thread. `source` is the lines' `src`; `uptime` gives the guest's uptime.
    pub fn new(source: &str, uptime: fn() -> Duration, sink: Sink) -> Reporter {
        let (sender, receiver) = channel();
        std::thread::spawn(move || write_lines(&receiver, sink));
        Reporter { source: source.to_owned(), uptime, queue: Mutex::new((0, sender)) }
    }

    /// Queues one line. Its time is that of the call, whenever it gets written.
    pub fn report(&self, event: ProbeEvent) {
        let mut queue = self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        queue.0 += 1;
        let line = ProbeLine {
            softoff: VERSION,
            src: self.source.clone(),
            pid: std::process::id(),
            seq: queue.0,
            up_ms: u64::try_from((self.uptime)().as_millis()).unwrap_or(u64::MAX),
            event,
        };
        // The thread lives as long as this sender does.
        queue.1.send(Job::Line(line.encode())).ok();
    }

    /// Reports trouble.
    pub fn trouble(&self, what: impl Into<String>) {
        self.report(ProbeEvent::Trouble { what: what.into() });
    }

    /// Waits until everything reported so far is written; false if `limit` ran out first.
    pub fn flush(&self, limit: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        let queue = self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        queue.1.send(Job::Flush(done)).ok();
        drop(queue);
        wait.recv_timeout(limit).is_ok()
    }
}

/// A line that cannot be written is dropped: the reader sees the gap in `seq`.
fn write_lines(jobs: &Receiver<Job>, mut sink: Sink) {
    for job in jobs {
        match job {
            Job::Line(line) => {
                sink(&line);
            }
            Job::Flush(done) => {
                done.send(()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn lines_are_numbered_and_flushed_in_order() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&written);
        let sink = move |line: &[u8]| {
            std::thread::sleep(Duration::from_millis(5));
            copy.lock().unwrap().push(ProbeLine::parse(line).unwrap());
            true
        };
        let reporter = Reporter::new("probe:hangs", || Duration::from_millis(1500), Box::new(sink));
        reporter.report(ProbeEvent::ProbeAsked);
        reporter.trouble("no port");
        assert!(reporter.flush(Duration::from_secs(10)));
        let lines = written.lock().unwrap();
        assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2]);
        assert!(lines.iter().all(|line| line.src == "probe:hangs" && line.up_ms == 1500));
        assert_eq!(lines[0].event, ProbeEvent::ProbeAsked);
    }

    #[test]
    fn a_stuck_port_does_not_hold_the_reporter() {
        let (release, stuck) = channel::<()>();
        let reporter = Reporter::new(
            "session",
            || Duration::ZERO,
            Box::new(move |_| {
                stuck.recv().ok();
                true
            }),
        );
        reporter.report(ProbeEvent::ProbeAsked);
        assert!(!reporter.flush(Duration::from_millis(20)));
        drop(release);
        assert!(reporter.flush(Duration::from_secs(10)));
    }
}
