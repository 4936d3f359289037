//! QMP as a QEMU of any age, or anything else behind its socket, may speak it: from bytes to an outcome.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softoff_harness::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::qmp(bytes));
