//! Held against a real System.evtx of Windows 10. The sample is no part of the project: without it these tests say so
//! and check nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::Write;
use std::path::Path;

use common::{at, id, open, read};
use rstest::rstest;
use serde_json::Value;
use softoff_guest_eventlog::events::{self, Initiator};
use softoff_guest_eventlog::{Event, FileTime, Found};

fn sample() -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/samples/System.evtx");
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        // Past the test harness, which would keep the words of a test that passes to itself.
        let line = format!("SKIPPED, nothing was checked: the sample {} is not there\n", path.display());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    bytes
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

#[test]
fn header_and_chunks_are_laid_out_as_in_the_sample() {
    let Some(real) = sample() else { return };
    let mut log = open(Vec::new()).0;
    log.append(&events::event_log_started(at(1), "X")).unwrap();
    let ours = log.close().unwrap().into_inner();
    // Magic; header size, version, block size; the first chunk's number.
    for part in [0..8, 0x20..0x2a, 8..0x10] {
        assert_eq!(real[part.clone()], ours[part.clone()], "file header {part:?}");
    }
    // Of a chunk: magic, size of its header, flags.
    let (real, ours) = (&real[4096..4096 + 65_536], &ours[4096..]);
    for part in [0..8, 0x28..0x2c, 0x78..0x7c, 0x200..0x204] {
        assert_eq!(real[part.clone()], ours[part.clone()], "chunk header {part:?}");
    }
    for chunk in [real, ours] {
        let free = number(chunk, 0x30, 4) as usize;
        let last = number(chunk, 0x2c, 4) as usize;
        assert_eq!(number(chunk, 0x34, 4), u64::from(crc32fast::hash(&chunk[0x200..free])));
        assert_eq!(number(chunk, last + 8, 8), number(chunk, 0x10, 8), "the last record's number");
        assert_eq!(
            last + number(chunk, last + 4, 4) as usize,
            free,
            "the last record ends at the free space"
        );
        // The first record defines its template at once: its offset is the next byte.
        assert_eq!(&chunk[0x218..0x21e], &[0x0f, 1, 1, 0, 0x0c, 1]);
        assert_eq!(number(chunk, 0x222, 4), 0x226);
        let id = number(chunk, 0x21e, 4);
        assert_eq!(number(chunk, 0x22a, 4), id, "the template's GUID begins with its identifier");
        let bucket = number(chunk, 0x180 + (id % 32) as usize * 4, 4);
        assert_ne!(bucket, 0, "the table of templates leads to it");
        // Its first element is named inline, and the table of names leads to it.
        let hash = number(chunk, 0x251, 2);
        let mut name = number(chunk, 0x80 + (hash % 64) as usize * 4, 4) as usize;
        while name != 0x24d {
            assert!(name > 0x24d, "the table of names does not lead to the first name");
            name = number(chunk, name, 4) as usize;
        }
    }
}

#[test]
fn the_sample_goes_on() {
    let Some(real) = sample() else { return };
    let before = read(&real);
    let (mut log, found) = open(real);
    assert!(
        matches!(found, Found::InUse { last: Some(_) }),
        "{found:?}: the sample was in use when it was copied"
    );
    let first = log.append(&events::event_log_stopped(at(1), "REFERENCE")).unwrap();
    log.append(&events::system_stopping(at(2), "REFERENCE")).unwrap();
    assert_eq!(first, before.len() as u64 + 1);
    let after = read(&log.close().unwrap().into_inner());
    assert_eq!(after.len(), before.len() + 2);
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!((id(&after[before.len()]), id(&after[before.len() + 1])), (6006, 13));
}

/// The first event of a kind in the sample.
fn real(events: &[Value], wanted: u64, provider: &str) -> Value {
    let named = |e: &&Value| e["Event"]["System"]["Provider"]["#attributes"]["Name"] == provider;
    events.iter().filter(named).find(|event| id(event) == wanted).cloned().expect("in the sample")
}

type Make = fn(FileTime, &str) -> Event;

/// What is written with the values of a real event reads as that event does.
#[rstest]
#[case(6006, "EventLog", |t: FileTime, c: &str| events::event_log_stopped(t, c))]
#[case(13, "Microsoft-Windows-Kernel-General", |t: FileTime, c: &str| events::system_stopping(t, c))]
#[case(109, "Microsoft-Windows-Kernel-Power", |t: FileTime, c: &str| events::shutdown_transition(t, c, 5, 5))]
#[case(1074, "User32", |t: FileTime, c: &str| {
    let process = r"C:\Windows\system32\winlogon.exe (MINWINPC)".into();
    events::shutdown_initiated(t, c, &Initiator { process, reason: 0x8002_0003, kind: "restart" })
})]
fn written_again_an_event_of_the_sample_reads_the_same(
    #[case] wanted: u64,
    #[case] provider: &str,
    #[case] make: Make,
) {
    let Some(sample) = sample() else { return };
    let mut real = real(&read(&sample), wanted, provider);
    let computer = real["Event"]["System"]["Computer"].as_str().unwrap().to_owned();
    let mut log = open(Vec::new()).0;
    log.append(&make(at(0), &computer)).unwrap();
    let mut ours = read(&log.close().unwrap().into_inner()).remove(0);
    // What belongs to that one moment, machine and reason.
    for event in [&mut real, &mut ours] {
        let system = event["Event"]["System"].as_object_mut().unwrap();
        for key in ["TimeCreated", "EventRecordID", "Execution"] {
            system.remove(key);
        }
        if let Some(data) = event["Event"]["EventData"].as_object_mut() {
            data.retain(|key, _| key != "StopTime" && key != "param3");
        }
    }
    assert_eq!(ours, real);
}
