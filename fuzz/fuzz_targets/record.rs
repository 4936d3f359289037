//! `run.json` from another machine: refused, or read, shown and written again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softoff_harness::fuzzing;
use softoff_harness::record::RunRecord;

fuzz_target!(|bytes: &[u8]| {
    let Ok(run) = serde_json::from_slice::<RunRecord>(bytes) else { return };
    let once = serde_json::to_value(&run).expect("a record is JSON");
    let again: RunRecord = serde_json::from_value(once.clone()).expect("what was written can be read");
    assert_eq!(serde_json::to_value(&again).expect("JSON"), once);
    let _reports = fuzzing::reports(&run).expect("reports of whatever was read");
});
