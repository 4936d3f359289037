//! Reading with the independent parser, checksums and all.

use std::io::Cursor;

use evtx::{EvtxParser, ParserSettings};
use serde_json::Value;
use softoff_guest_eventlog::{FileTime, Found, Log};

/// A file in memory.
pub(crate) type Memory = Cursor<Vec<u8>>;

/// Every event, as JSON. A record that cannot be read fails the test.
pub(crate) fn read(bytes: &[u8]) -> Vec<Value> {
    let settings = ParserSettings::default().validate_checksums(true).num_threads(1);
    let mut parser = EvtxParser::from_buffer(bytes.to_vec()).expect("a log").with_configuration(settings);
    parser.records_json_value().map(|record| record.expect("a record").data).collect()
}

/// Opens a log in memory.
#[allow(dead_code, reason = "each suite compiles this module")]
pub(crate) fn open(bytes: Vec<u8>) -> (Log<Memory>, Found) {
    Log::open(Cursor::new(bytes)).expect("a log")
}

/// The file of a log that was never closed: what a pulled plug leaves.
#[allow(dead_code, reason = "each suite compiles this module")]
pub(crate) fn unplug(log: Log<Memory>) -> Vec<u8> {
    let mut bytes = log.close().expect("a file").into_inner();
    bytes[0x78] = 1;
    bytes
}

/// `EventID`, with or without qualifiers.
#[allow(dead_code, reason = "each suite compiles this module")]
pub(crate) fn id(event: &Value) -> u64 {
    let id = &event["Event"]["System"]["EventID"];
    id.as_u64().or_else(|| id["#text"].as_u64()).expect("a number")
}

#[allow(dead_code, reason = "each suite compiles this module")]
pub(crate) fn at(seconds: u64) -> FileTime {
    FileTime(0x01d2_fb32_9911_2bb0 + seconds * 10_000_000)
}
