//! QMP's events on their way to the timeline.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::mpsc;

use super::qmp::QmpEvent;
use crate::settle::DECISIVE;
use crate::timeline::{Seen, Source, Timeline};

/// QMP events kept in one timeline, beside those that an outcome is settled by; a guest that makes QEMU talk fills no
/// memory.
const EVENT_LIMIT: usize = 20_000;
/// Bytes of all their data together, and of one that an outcome is settled by. QEMU's own have some 100; what is longer
/// comes with its name alone, by which no guest gains an end.
const DATA_LIMIT: usize = 32 << 20;
const DECISIVE_LIMIT: usize = 64 << 10;

/// Brings QMP's events to the timeline, until the connection ends. They keep the order they were sent in, whatever
/// becomes of the clock that stamps them.
pub(crate) async fn read_events(mut events: mpsc::Receiver<QmpEvent>, timeline: Timeline) {
    let mut last = timeline.clock().now();
    let (mut kept, mut bytes, mut told) = (0, 0, false);
    while let Some(event) = events.recv().await {
        let realtime = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = match event.since_epoch() {
            Some(_) => timeline.clock().place_qmp(event.seconds, event.microseconds, realtime),
            None => timeline.clock().now(),
        };
        last = last.max(at);
        let length = event.name.len() + event.data.to_string().len();
        (kept, bytes) = (kept + 1, bytes + length);
        let is_full = kept >= EVENT_LIMIT || bytes >= DATA_LIMIT;
        if is_full && !told {
            told = true;
            let what = format!(
                "{EVENT_LIMIT} QMP events or {DATA_LIMIT} bytes of them are kept; from here on only those that tell of an end"
            );
            timeline.add(Source::Qmp, Seen::Note { what });
        }
        if DECISIVE.contains(&event.name.as_str()) {
            let data = if length < DECISIVE_LIMIT { event.data } else { Value::Null };
            timeline.add_at(last, Source::Qmp, Seen::QmpEvent { name: event.name, data });
        } else if !is_full {
            timeline.add_at(last, Source::Qmp, Seen::QmpEvent { name: event.name, data: event.data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::settle;

    fn event(name: &str, seconds: i64) -> QmpEvent {
        let data = serde_json::json!({ "guest": true, "reason": "guest-shutdown" });
        QmpEvent { name: name.into(), data, seconds, microseconds: 0 }
    }

    async fn read(all: Vec<QmpEvent>) -> Timeline {
        let timeline = Timeline::start();
        let (say, events) = mpsc::channel(all.len());
        for event in all {
            say.send(event).await.unwrap();
        }
        drop(say);
        read_events(events, timeline.clone()).await;
        timeline
    }

    /// The clock jumps while the guest writes itself to disk: in the order of the stamps this would be a power-off.
    #[tokio::test]
    async fn a_clock_that_jumps_back_puts_no_end_before_what_led_to_it() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        for jump in [-3600, -2, 3600] {
            let timeline = read(vec![event("SUSPEND_DISK", now), event("SHUTDOWN", now + jump)]).await;
            assert_eq!(settle::settled(&timeline.snapshot()), Some(Outcome::Hibernated), "{jump}");
        }
    }

    #[tokio::test]
    async fn a_flood_of_events_is_cut_and_the_end_still_seen() {
        let mut all = vec![event("RTC_CHANGE", 0); EVENT_LIMIT + 500];
        all.push(QmpEvent { data: Value::Null, ..event("SUSPEND_DISK", 0) });
        all.push(event("SHUTDOWN", 0));
        let timeline = read(all).await;
        assert!(timeline.len() < EVENT_LIMIT + 10, "{}", timeline.len());
        assert_eq!(settle::settled(&timeline.snapshot()), Some(Outcome::Hibernated));
        let told = |o: &crate::timeline::Observation| matches!(&o.what, Seen::Note { .. }).then_some(());
        assert!(timeline.scan(0, told).1.is_some(), "the cut is told");
    }

    #[tokio::test]
    async fn long_events_are_cut_and_settle_nothing() {
        let long = Value::String("x".repeat(1 << 20));
        let mut all = vec![QmpEvent { data: long.clone(), ..event("X", 0) }; 100];
        let data = serde_json::json!({ "guest": true, "reason": "guest-shutdown", "more": long });
        all.push(QmpEvent { data, ..event("SHUTDOWN", 0) });
        let timeline = read(all).await;
        assert!(timeline.len() < 40, "{}", timeline.len());
        assert_ne!(settle::settled(&timeline.snapshot()), Some(Outcome::PoweredOff));
    }
}
