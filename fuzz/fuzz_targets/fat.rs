//! FAT boot sectors and the first entries of the table.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;
use softoff_harness::disk::fat::{fat_marks, fat_volumes};

thread_local!(static DISK: common::Memory = common::Memory::new());

fuzz_target!(|bytes: &[u8]| {
    let alone = fat_marks(bytes);
    DISK.with(|memory| {
        memory.set(bytes, bytes.len().max(512) as u64);
        let Some(disk) = memory.open() else { return };
        // By the volume's own bytes, and by the disk: the same.
        if let Ok([(_, marks)]) = fat_volumes(&disk).as_deref()
            && let Some(alone) = alone
        {
            assert_eq!(*marks, alone);
        }
    });
});
