//! What is written is read back by an independent parser: every event, across boots, ends and damage.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Memory, at, id, open, read, unplug};
use proptest::collection::vec;
use proptest::prelude::*;
use softoff_guest_eventlog::events::{self, Initiator};
use softoff_guest_eventlog::{Data, Event, Found, Log, LogError, Provider, Value};

const COMPUTER: &str = "REFERENCE";

fn initiator() -> Initiator {
    Initiator {
        process: r"C:\Windows\system32\winlogon.exe (REFERENCE)".into(),
        reason: 0x500ff,
        kind: "power off",
    }
}

/// One of each.
fn all() -> Vec<Event> {
    vec![
        events::event_log_started(at(1), COMPUTER),
        events::system_started(at(2), at(0), COMPUTER, [6, 12]),
        events::unclean_start(at(3), COMPUTER),
        events::unexpected_shutdown(at(4), at(0), COMPUTER),
        events::shutdown_initiated(at(5), COMPUTER, &initiator()),
        events::service_timed_out(at(6), COMPUTER, "SoftoffUpdate"),
        events::entering_sleep(at(7), COMPUTER, 5),
        events::event_log_stopped(at(8), COMPUTER),
        events::shutdown_transition(at(9), COMPUTER, 6, 5),
        events::system_stopping(at(10), COMPUTER),
    ]
}

fn written(events: &[Event]) -> Log<Memory> {
    let (mut log, found) = open(Vec::new());
    assert_eq!(found, Found::New);
    for event in events {
        log.append(event).unwrap();
    }
    log
}

#[test]
fn every_event_reads_back_with_its_fields() {
    let read = read(&written(&all()).close().unwrap().into_inner());
    let ids: Vec<u64> = read.iter().map(id).collect();
    assert_eq!(ids, [6005, 12, 41, 6008, 1074, 7043, 42, 6006, 109, 13]);
    let data = |n: usize| &read[n]["Event"]["EventData"];
    assert_eq!(data(4)["param4"], "0x500ff");
    assert_eq!(data(4)["param1"], r"C:\Windows\system32\winlogon.exe (REFERENCE)");
    assert_eq!(data(2)["BugcheckCode"], 0);
    assert_eq!(data(5)["param1"], "SoftoffUpdate");
    assert_eq!(data(9)["StopTime"], "2017-07-12T17:16:38.2141616Z");
    let system = |n: usize| &read[n]["Event"]["System"];
    for n in 0..read.len() {
        assert_eq!(system(n)["EventRecordID"], n + 1);
        assert_eq!((&system(n)["Channel"], &system(n)["Computer"]), (&"System".into(), &COMPUTER.into()));
    }
    assert_eq!(system(2)["Provider"]["#attributes"]["Guid"], "{331c3b3a-2005-44c2-ac5e-77220c37d6b4}");
    assert_eq!(system(4)["Provider"]["#attributes"]["EventSourceName"], "User32");
    assert_eq!(system(4)["Security"]["#attributes"]["UserID"], "S-1-5-18");
}

#[test]
fn a_template_is_written_once_in_a_chunk() {
    let size = |count: usize| {
        let mut log = open(Vec::new()).0;
        for n in 0..count {
            log.append(&events::event_log_stopped(at(n as u64), COMPUTER)).unwrap();
        }
        let bytes = log.close().unwrap().into_inner();
        u32::from_le_bytes(bytes[4096 + 0x30..4096 + 0x34].try_into().unwrap()) as usize - 0x200
    };
    assert!(size(1) > 1000, "the first record defines its templates: {}", size(1));
    assert!(size(2) - size(1) < 250, "the second refers to them: {}", size(2) - size(1));
}

#[test]
fn a_log_goes_on_across_boots_and_tells_how_it_was_left() {
    let bytes = written(&all()).close().unwrap().into_inner();
    let (mut log, found) = open(bytes);
    assert_eq!(found, Found::Closed);
    assert_eq!(log.append(&events::event_log_started(at(60), COMPUTER)).unwrap(), 11);
    // Closing puts the dirty flag away, so the unplugged file is the same but for it.
    let (mut log, found) = open(unplug(log));
    assert_eq!(found, Found::InUse { last: Some(at(60)) });
    assert_eq!(log.append(&events::unclean_start(at(90), COMPUTER)).unwrap(), 12);
    let read = read(&log.close().unwrap().into_inner());
    assert_eq!(read.iter().map(id).skip(9).collect::<Vec<_>>(), [13, 6005, 41]);
}

#[test]
fn a_full_chunk_is_followed_by_another_and_a_full_log_says_so() {
    let mut log = open(Vec::new()).0;
    let event = events::service_timed_out(at(1), COMPUTER, &"x".repeat(400));
    for n in 1..=400 {
        assert_eq!(log.append(&event).unwrap(), n);
    }
    let huge = events::service_timed_out(at(1), COMPUTER, &"x".repeat(40_000));
    assert!(matches!(log.append(&huge), Err(LogError::TooLarge)));
    let bytes = log.close().unwrap().into_inner();
    assert!(bytes.len() > 4096 + 4 * 65_536, "{} bytes", bytes.len());
    assert_eq!(read(&bytes).len(), 400);
    assert_eq!(open(bytes).0.append(&event).unwrap(), 401);
}

#[test]
fn what_was_cut_is_dropped_and_what_is_whole_stays() {
    let whole = written(&all()).close().unwrap().into_inner();
    let free = u32::from_le_bytes(whole[4096 + 0x30..4096 + 0x34].try_into().unwrap()) as usize;
    // The last record reached the disk by half, and the chunk's header not at all.
    let mut cut = whole.clone();
    cut[4096 + free - 40..4096 + free].fill(0);
    cut[4096 + 0x2c..4096 + 0x38].fill(0xff);
    let (mut log, _) = open(cut);
    assert_eq!(log.append(&events::event_log_started(at(60), COMPUTER)).unwrap(), 10);
    let ids: Vec<u64> = read(&log.close().unwrap().into_inner()).iter().map(id).collect();
    assert_eq!(ids, [6005, 12, 41, 6008, 1074, 7043, 42, 6006, 109, 6005]);
}

#[test]
fn foreign_files_are_left_alone() {
    for foreign in [vec![0; 10], vec![0; 69_632], b"ElfFile\0".repeat(1000)] {
        let mut file = std::io::Cursor::new(foreign.clone());
        assert!(matches!(Log::open(&mut file), Err(LogError::Foreign(_))));
        assert_eq!(file.into_inner(), foreign);
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[^\\x00]{0,60}".prop_map(Value::Text),
        any::<u8>().prop_map(Value::U8),
        any::<u16>().prop_map(Value::U16),
        any::<u32>().prop_map(Value::U32),
        any::<u64>().prop_map(Value::U64),
        any::<u64>().prop_map(Value::Hex64),
        any::<bool>().prop_map(Value::Bool),
        vec(any::<u8>(), 0..60).prop_map(Value::Binary),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    const NAMES: [&str; 6] = ["param1", "BugcheckCode", "Reason", "State", "Zeit", "Data"];
    let named = vec(value(), 0..6).prop_map(|values| Data::Named(NAMES.into_iter().zip(values).collect()));
    let strings = vec("[ -~]{1,30}", 0..5);
    let classic =
        (strings, vec(any::<u8>(), 0..40)).prop_map(|(strings, binary)| Data::Classic { strings, binary });
    let data = prop_oneof![named.boxed(), classic.boxed()];
    (any::<u16>(), any::<u8>(), any::<u64>(), "[A-Z0-9-]{1,15}", data, 0u8..3).prop_map(
        |(id, level, keywords, computer, data, kind)| {
            let like = match kind {
                0 => events::event_log_started(at(1), &computer),
                1 => events::system_stopping(at(1), &computer),
                _ => events::shutdown_initiated(at(1), &computer, &initiator()),
            };
            Event { id, level, keywords, data, ..like }
        },
    )
}

/// What the parser must show of a value.
fn shown(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => text.as_str().into(),
        Value::U8(n) => (*n).into(),
        Value::U16(n) => (*n).into(),
        Value::U32(n) => (*n).into(),
        Value::U64(n) => (*n).into(),
        Value::Hex64(n) => format!("{n:#x}").into(),
        Value::Bool(is) => (*is).into(),
        Value::Binary(bytes) => bytes.iter().map(|b| format!("{b:02X}")).collect::<String>().into(),
        Value::Time(_) => serde_json::Value::Null,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any events, the log opened anew after each few of them: closed, or with the plug pulled.
    #[test]
    fn any_events_read_back(batches in vec((vec(event(), 0..20), any::<bool>()), 1..5)) {
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for (events, closed) in batches {
            let (mut log, _) = open(bytes);
            for event in events {
                prop_assert_eq!(log.append(&event).unwrap(), sent.len() as u64 + 1);
                sent.push(event);
            }
            bytes = if closed { log.close().unwrap().into_inner() } else { unplug(log) };
        }
        let read = read(&bytes);
        prop_assert_eq!(read.len(), sent.len());
        for (read, sent) in read.iter().zip(&sent) {
            prop_assert_eq!(id(read), u64::from(sent.id));
            let system = &read["Event"]["System"];
            prop_assert_eq!(&system["Computer"], &serde_json::Value::from(sent.computer.as_str()));
            prop_assert_eq!(&system["Level"], &serde_json::Value::from(sent.level));
            let name = match sent.provider { Provider::Classic(name) | Provider::Manifest { name, .. } => name };
            prop_assert_eq!(&system["Provider"]["#attributes"]["Name"], &serde_json::Value::from(name));
            if let Data::Named(values) = &sent.data {
                for (name, value) in values {
                    prop_assert_eq!(&read["Event"]["EventData"][*name], &shown(value), "{}", name);
                }
            }
        }
    }

    /// Damage anywhere: an error or a log that goes on, never a panic, and what is then written reads back.
    #[test]
    fn damage_never_panics(hits in vec((0usize..70_000, any::<u8>()), 1..30)) {
        let mut bytes = written(&all()).close().unwrap().into_inner();
        for (at, byte) in hits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok((mut log, _)) = Log::open(std::io::Cursor::new(bytes)) {
            log.append(&events::event_log_started(at(99), COMPUTER)).unwrap();
        }
    }
}
