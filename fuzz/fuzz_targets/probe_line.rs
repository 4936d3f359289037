//! COM1: probe lines, forged, cut, or none at all. What is read is written as the same line again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softoff_guest_protocol::probe::ProbeLine;
use softoff_harness::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::probe(bytes);
    if let Ok(line) = ProbeLine::parse(bytes) {
        let again = ProbeLine::parse(line.encode().trim_ascii());
        // What is longer than a line may be is refused, not misread.
        assert!(again.is_err() || again == Ok(line));
    }
});
