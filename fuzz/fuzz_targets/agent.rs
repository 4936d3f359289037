//! The guest agent's channel: a guest answers whatever it likes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softoff_harness::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::agent(bytes));
