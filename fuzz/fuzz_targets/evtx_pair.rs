//! The event log's writer and reader: what the one writes the other reads whole, and what was damaged on the way
//! ends in a report.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use softoff_guest_eventlog::events::{self, Initiator};
use softoff_guest_eventlog::{FileTime, Log};
use softoff_harness::disk::event_log::EventLogReport;

type Written = Vec<(u8, u32, String)>;
type Damage = Vec<(u32, u8)>;

fuzz_target!(|input: (Written, Damage)| {
    let (wanted, damage) = input;
    let (mut log, _) = Log::open(Cursor::new(Vec::new())).expect("a new log");
    let mut written = 0;
    for (kind, number, text) in wanted.iter().take(500) {
        let time = FileTime(133_000_000_000_000_000 + u64::from(*number));
        let event = match kind % 7 {
            0 => events::event_log_started(time, text),
            1 => events::event_log_stopped(time, text),
            2 => events::service_timed_out(time, "computer", text),
            3 => events::shutdown_initiated(
                time,
                "computer",
                &Initiator { process: text.clone(), reason: *number, kind: "power off" },
            ),
            4 => events::shutdown_transition(time, text, *number, 5),
            5 => events::entering_sleep(time, text, *number),
            _ => events::unclean_start(time, text),
        };
        // A text that is larger than a chunk is refused.
        written += u64::from(log.append(&event).is_ok());
    }
    let mut bytes = log.close().expect("closed").into_inner();
    let report = EventLogReport::parse(&bytes);
    assert_eq!((report.records, report.damaged), (written, 0), "{report:?}");
    let length = bytes.len();
    for (at, to) in damage.iter().take(64) {
        bytes[*at as usize % length] = *to;
    }
    let _whatever_comes = EventLogReport::parse(&bytes);
});
