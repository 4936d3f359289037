//! Partition tables: GPT (both copies), MBR with its chain, none.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;
use softoff_harness::disk::partitions;

thread_local!(static DISK: common::Memory = common::Memory::new());

fuzz_target!(|bytes: &[u8]| {
    DISK.with(|memory| {
        // The first sectors and the last hold the tables; both ends come from the fuzzer.
        let size = (bytes.len() as u64).next_multiple_of(512).max(512) + 64 * 512;
        memory.set(bytes, size);
        memory.patch(&bytes[..bytes.len().min(512)], size - 512);
        let Some(disk) = memory.open() else { return };
        for partition in partitions(&disk).unwrap_or_default() {
            assert!(partition.length > 0);
            assert!(partition.start.checked_add(partition.length).is_some_and(|end| end <= size));
        }
    });
});
