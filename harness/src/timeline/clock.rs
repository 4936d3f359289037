//! The clock of a run.

use std::time::{Duration, Instant};

/// How long an event may have waited in its socket to be believed its timestamp. With every core busy 0.1 s was seen;
/// a difference larger than this is a clock that was set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The clock of one run.
#[derive(Debug, Clone, Copy)]
pub struct RunClock {
    began: Instant,
}

impl RunClock {
    /// Starts at zero now.
    pub fn start() -> RunClock {
        RunClock { began: Instant::now() }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Places a QMP timestamp that is read now, when the clock that made it shows `realtime` (since the UNIX epoch):
    /// so long ago as both say. Both are of one clock, so that its being set in the course of a run moves nothing; one
    /// that was set between the two is noticed, and then the event is placed at its reading.
    pub fn place_qmp(&self, seconds: i64, microseconds: i64, realtime: Duration) -> Duration {
        let stamp = Duration::from_micros(
            u64::try_from(seconds.saturating_mul(1_000_000).saturating_add(microseconds)).unwrap_or(0),
        );
        let waited = realtime.checked_sub(stamp).filter(|waited| *waited <= LONGEST_WAIT);
        self.now().saturating_sub(waited.unwrap_or_default())
    }
}
