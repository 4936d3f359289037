//! The guest agent's channel: a guest answers whatever it likes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softoff_harness::fuzzing;
use tokio::runtime::{Builder, Runtime};

// A paused clock jumps on when nothing is left to do: with the real one 19 of 301 s went into reading.
thread_local!(static RUNTIME: Runtime =
    Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime"));

fuzz_target!(|bytes: &[u8]| RUNTIME.with(|runtime| runtime.block_on(fuzzing::agent(bytes))));
