//! Windows event logs (`.evtx`), for the few events that tell of a shutdown.
//!
//! Ids are not unique: an event is matched by its provider too (fact sheet C.1). What stands in the log and what
//! does not is said with [`WatchedEvent::caveat`]: some events of a shutdown are written at the next boot only.

use std::io;
use std::sync::Arc;

use evtx::{EvtxChunkData, EvtxChunkHeader, ParserSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cells::Bytes;
use super::error::{DiskError, guarded};
use super::volume::Volume;
use crate::text::printable;

/// Chunks are 64 KiB each, behind a header of 4 KiB.
const CHUNK: usize = 64 << 10;
const FIRST_CHUNK: u64 = 4096;
const CHUNK_HEADER: usize = 512;
/// Flags in the file's header, and the one that says "in use".
const FLAGS_AT: u64 = 120;
const IN_USE: u32 = 1;
/// Chunks whose headers are looked at: a log of 1 GiB. The usual limit of System and Application is 20 MB.
const MAX_CHUNKS: u64 = 1 << 14;
/// Chunks that are read record by record, the newest ones: some 6000 records.
const READ_CHUNKS: usize = 32;
/// Watched events that are kept, the newest ones.
const MAX_EVENTS: usize = 64;
/// Values of an event, and characters of a value, that are kept.
const MAX_VALUES: usize = 8;
const MAX_TEXT: usize = 120;

/// A log that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogName {
    /// System.
    System,
    /// Application.
    Application,
}

impl LogName {
    /// Path of its file on the volume.
    pub fn path(self) -> &'static str {
        match self {
            LogName::System => r"\Windows\System32\winevt\Logs\System.evtx",
            LogName::Application => r"\Windows\System32\winevt\Logs\Application.evtx",
        }
    }
}

/// An event that tells of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchedEvent {
    /// The provider's name as it stands in the record.
    pub provider: &'static str,
    /// The event's id.
    pub id: u32,
    /// What it says.
    pub meaning: &'static str,
    /// When it is written, where that is not at once.
    pub caveat: &'static str,
}

const fn watched(
    provider: &'static str,
    id: u32,
    meaning: &'static str,
    caveat: &'static str,
) -> WatchedEvent {
    WatchedEvent { provider, id, meaning, caveat }
}

/// The events that are looked for, after fact sheet C.1. That 109 reaches the file at the next boot only was
/// measured on one PC (Windows 11 26200).
pub const WATCHED: [WatchedEvent; 11] = [
    watched("User32", 1074, "a shutdown was asked for", "stays when the shutdown is then vetoed"),
    watched("EventLog", 6005, "the event log service started: a boot", ""),
    watched("EventLog", 6006, "the event log service stopped: the last record of a clean shutdown", ""),
    watched("EventLog", 6008, "the shutdown before was unexpected", "written at the next boot"),
    watched(
        "Microsoft-Windows-Kernel-Power",
        41,
        "restarted without a clean shutdown",
        "written at the next boot",
    ),
    watched(
        "Microsoft-Windows-Kernel-Power",
        42,
        "the system enters sleep; with fast startup also a shutdown",
        "",
    ),
    watched(
        "Microsoft-Windows-Kernel-Power",
        109,
        "the kernel began a shutdown",
        "reaches the file at the next boot; its absence says nothing [?]",
    ),
    watched("Service Control Manager", 7043, "a service did not stop in its preshutdown time", ""),
    watched("Microsoft-Windows-Winsrv", 10001, "an application vetoed the shutdown", ""),
    watched("WLMS", 100, "the evaluation period is over: Windows shuts down every hour", ""),
    // From memory (fact sheet B.4): the application was ended because it hung.
    watched("Microsoft-Windows-Winsrv", 10002, "a hung application was ended [?]", ""),
];

/// One of the watched events, as it stands in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoggedEvent {
    /// Its record number.
    pub record: u64,
    /// When it was written, UTC, as RFC 3339.
    pub time: String,
    /// The provider.
    pub provider: String,
    /// The event's id.
    pub id: u32,
    /// The first of its values, cut short and escaped; texts are in the guest's language.
    pub data: Vec<String>,
}

impl LoggedEvent {
    /// What it means, and when such an event is written.
    pub fn known(&self) -> Option<&'static WatchedEvent> {
        WATCHED.iter().find(|w| w.id == self.id && w.provider.eq_ignore_ascii_case(&self.provider))
    }
}

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventLogReport {
    /// Records in all chunks, by their headers.
    pub records: u64,
    /// How many of them, the newest, were looked at.
    pub looked_at: u64,
    /// Chunks and records that cannot be read.
    pub damaged: u64,
    /// The log's own mark of being in use, which the event log service takes away when it stops: still there, the
    /// log was not closed.
    #[serde(default)]
    pub left_open: bool,
    /// The watched events among them by time, newest last; at most 64.
    pub events: Vec<LoggedEvent>,
}

impl EventLogReport {
    /// Reads a log of a volume; `None` when there is no such file.
    pub fn read(volume: &Volume, log: LogName) -> Result<Option<EventLogReport>, DiskError> {
        let bytes = match volume.file_bytes(log.path()) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let report = EventLogReport::of(&bytes);
        report.map(Some).map_err(|source| DiskError::Image { path: volume.disk_path().to_owned(), source })
    }

    /// Reads a log's bytes.
    pub fn parse(bytes: &[u8]) -> EventLogReport {
        // A slice can be read wherever it has bytes.
        EventLogReport::of(&bytes).unwrap_or_default()
    }

    fn of(bytes: &dyn Bytes) -> io::Result<EventLogReport> {
        let mut flags = [0u8; 4];
        if bytes.len() > FIRST_CHUNK {
            bytes.read_at(FLAGS_AT, &mut flags)?;
        }
        let left_open = u32::from_le_bytes(flags) & IN_USE != 0;
        let mut report = EventLogReport { left_open, ..EventLogReport::default() };
        let mut chunks = Vec::new();
        let whole = bytes.len().saturating_sub(FIRST_CHUNK) / CHUNK as u64;
        for number in 0..whole.min(MAX_CHUNKS) {
            let at = FIRST_CHUNK + number * CHUNK as u64;
            let mut head = [0u8; CHUNK_HEADER];
            bytes.read_at(at, &mut head)?;
            // Chunks that were never used are zeros.
            if head.iter().all(|byte| *byte == 0) {
                continue;
            }
            match guarded(|| EvtxChunkHeader::from_bytes(&head)) {
                Ok(Ok(header)) => {
                    let (first, last) = (header.first_event_record_id, header.last_event_record_id);
                    // An unused chunk has its numbers the wrong way round, and a chunk cannot hold more.
                    let count = last.checked_sub(first).and_then(|n| n.checked_add(1));
                    let count = count.filter(|n| *n <= CHUNK as u64 / 24).unwrap_or(0);
                    report.records += count;
                    chunks.push((last, at));
                }
                _ => report.damaged += 1,
            }
        }
        // A log is a ring: the newest chunk need not be the last.
        chunks.sort_unstable();
        for (_, at) in chunks.iter().rev().take(READ_CHUNKS).rev() {
            let mut chunk = vec![0u8; CHUNK];
            bytes.read_at(*at, &mut chunk)?;
            // What a chunk gave before its damage counts.
            if guarded(|| report.add_chunk(chunk)).is_err() {
                report.damaged += 1;
            }
        }
        // Record numbers do not follow time across a boot (fact sheet, fact 7). Without the final Z, times with
        // fewer decimals come first, as they should.
        report.events.sort_by(|a, b| {
            a.time.trim_end_matches('Z').cmp(b.time.trim_end_matches('Z')).then(a.record.cmp(&b.record))
        });
        let surplus = report.events.len().saturating_sub(MAX_EVENTS);
        report.events.drain(..surplus);
        Ok(report)
    }

    fn add_chunk(&mut self, chunk: Vec<u8>) {
        let settings = Arc::new(ParserSettings::new().num_threads(1));
        let Ok(mut chunk) = EvtxChunkData::new(chunk, false) else {
            self.damaged += 1;
            return;
        };
        let Ok(mut chunk) = chunk.parse(settings) else {
            self.damaged += 1;
            return;
        };
        for record in chunk.iter() {
            let read = record.and_then(|record| record.into_json_value());
            let Ok(record) = read else {
                self.damaged += 1;
                continue;
            };
            self.looked_at += 1;
            let found = event(record.event_record_id, record.timestamp.to_string(), &record.data);
            self.events.extend(found.filter(|event| event.known().is_some()));
        }
        // Between two chunks, so that a hostile log does not grow the list for ever.
        if self.events.len() > 16 * MAX_EVENTS {
            self.events.drain(..self.events.len() - MAX_EVENTS);
        }
    }

    /// The newest event of a kind.
    pub fn last(&self, provider: &str, id: u32) -> Option<&LoggedEvent> {
        self.events.iter().rev().find(|e| e.id == id && e.provider.eq_ignore_ascii_case(provider))
    }
}

fn event(record: u64, time: String, json: &Value) -> Option<LoggedEvent> {
    let system = json.get("Event")?.get("System")?;
    let provider = system.get("Provider")?.get("#attributes")?.get("Name")?.as_str()?;
    // With its qualifiers, an id is an object.
    let id = system.get("EventID").and_then(|id| id.get("#text").or(Some(id)))?;
    let id = id.as_u64().or_else(|| id.as_str()?.parse().ok()).and_then(|id| u32::try_from(id).ok())?;
    let mut data = Vec::new();
    for part in ["EventData", "UserData"] {
        texts(json.get("Event").and_then(|event| event.get(part)).unwrap_or(&Value::Null), &mut data);
    }
    Some(LoggedEvent { record, time, provider: printable(provider, MAX_TEXT), id, data })
}

/// The values below a node, without names; attributes are left out.
fn texts(node: &Value, found: &mut Vec<String>) {
    if found.len() >= MAX_VALUES {
        return;
    }
    match node {
        Value::Object(members) => {
            let inner = members.iter().filter(|(name, _)| *name != "#attributes");
            inner.for_each(|(_, value)| texts(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::String(text) => found.push(printable(text.trim(), MAX_TEXT)),
        Value::Number(number) => found.push(number.to_string()),
        Value::Bool(_) | Value::Null => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::testing::{event_log, sample};

    /// Counted by hand in the sample: records by their signature, watched events by provider and id.
    #[test]
    fn the_real_log_is_counted() {
        let Some(bytes) = sample("System.evtx") else { return };
        let report = EventLogReport::parse(&bytes);
        println!("{} records, {} looked at, {} damaged", report.records, report.looked_at, report.damaged);
        for event in &report.events {
            println!("{event:?}");
        }
        assert_eq!(report.damaged, 0);
        assert_eq!(report.looked_at, report.records);
        assert_eq!(report.records, 1881);
        let count = |id: u32| report.events.iter().filter(|event| event.id == id).count();
        let counts = [1074, 6005, 6006, 6008, 41, 42, 109, 7043].map(count);
        assert_eq!(counts, [2, 3, 2, 0, 0, 2, 2, 0]);
        let newest = report.last("User32", 1074).unwrap();
        assert_eq!((newest.record, newest.data[3].as_str()), (298, "0x80030002"));
    }

    /// The same where the samples are not at hand, with a log that the reference guest's own writer made.
    #[test]
    fn a_generated_log_is_counted() {
        let report = EventLogReport::parse(&event_log(900));
        assert_eq!((report.records, report.looked_at, report.damaged), (907, 907, 0));
        assert!(!report.left_open);
        // The newest are kept, so that the oldest fillings are not.
        assert_eq!(report.events.len(), MAX_EVENTS);
        for (provider, id) in [
            ("User32", 1074),
            ("EventLog", 6006),
            ("EventLog", 6008),
            ("Microsoft-Windows-Kernel-Power", 41),
            ("Microsoft-Windows-Kernel-Power", 42),
            ("Microsoft-Windows-Kernel-Power", 109),
            ("Service Control Manager", 7043),
        ] {
            assert!(report.last(provider, id).is_some(), "{provider} {id}");
        }
        assert!(report.last("Some Other Provider", 41).is_none());
        let asked = report.last("User32", 1074).unwrap();
        assert!(asked.data.iter().any(|text| text == "0x500ff"), "{asked:?}");
    }

    #[test]
    fn a_log_that_was_not_closed_says_so() {
        let mut bytes = event_log(0);
        bytes[120] |= 1;
        assert!(EventLogReport::parse(&bytes).left_open);
    }

    #[test]
    fn ids_count_only_with_their_provider() {
        let foreign = |provider: &str| LoggedEvent {
            record: 1,
            time: String::new(),
            provider: provider.into(),
            id: 41,
            data: vec![],
        };
        assert!(foreign("Microsoft-Windows-Kernel-Power").known().is_some());
        assert!(foreign("Microsoft-Windows-Something-Else").known().is_none());
    }

    #[test]
    fn a_damaged_real_log_gives_what_is_left() {
        let Some(mut bytes) = sample("System.evtx") else { return };
        let whole = EventLogReport::parse(&bytes);
        let second = 4096 + CHUNK;
        bytes[second..second + 8].copy_from_slice(b"damaged!");
        let found = EventLogReport::parse(&bytes);
        assert_eq!(found.damaged, 1);
        assert!(found.records < whole.records && found.looked_at > 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn damaged_logs_never_panic(changes in prop::collection::vec((4096usize..70_000, any::<u8>()), 1..64)) {
            let mut bytes = event_log(100);
            for (at, to) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = to;
                }
            }
            let _whatever_comes = EventLogReport::parse(&bytes);
        }
    }
}
