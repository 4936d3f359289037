//! An NTFS volume that mkntfs made, with changed bytes: flags, journal, files, folders, hives.
//!
//! The volume comes from SOFTOFF_FUZZ_VOLUME, which `cargo xtask fuzz` sets. Each change is a sector that holds a
//! structure, a place in it, and a byte.
#![no_main]

mod common;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use softoff_harness::disk::{Hive, JournalState, Volume, hive_condition, read_value};

struct Seed {
    bytes: Vec<u8>,
    structures: Vec<u64>,
}

fn seed() -> &'static Seed {
    static SEED: OnceLock<Seed> = OnceLock::new();
    SEED.get_or_init(|| {
        let path = std::env::var_os("SOFTOFF_FUZZ_VOLUME").expect("next: run it by `cargo xtask fuzz`");
        let bytes = std::fs::read(path).expect("the volume");
        let marks: [&[u8]; 5] = [b"FILE", b"INDX", b"RSTR", b"\xebR\x90NTFS", b"regf"];
        let sectors = bytes.chunks(512).enumerate();
        let found = sectors.filter(|(_, s)| marks.iter().any(|mark| s.starts_with(mark)));
        let structures = found.flat_map(|(n, _)| [n as u64 * 512, n as u64 * 512 + 512]).collect();
        Seed { bytes, structures }
    })
}

thread_local!(static DISK: common::Memory = {
    let memory = common::Memory::new();
    memory.set(&seed().bytes, seed().bytes.len() as u64);
    memory
});

fuzz_target!(|changes: Vec<(u16, u16, u8)>| {
    let seed = seed();
    DISK.with(|memory| {
        let places: Vec<(u64, u8)> = changes
            .iter()
            .map(|(sector, at, to)| {
                let sector = seed.structures[usize::from(*sector) % seed.structures.len()];
                ((sector + u64::from(at % 512)).min(seed.bytes.len() as u64 - 1), *to)
            })
            .collect();
        places.iter().for_each(|(at, to)| memory.patch(&[*to], *at));
        if let Some(disk) = memory.open()
            && let Ok(volume) = Volume::open(&disk, 0, disk.size())
        {
            let _flags = volume.flags();
            let _journal = JournalState::read(&volume);
            let _sleeping = volume.hibernation_file();
            let _hive = hive_condition(&volume, &Hive::System);
            let _value = read_value(&volume, &Hive::System, r"CurrentControlSet\Control", "x");
            for entry in volume.list("\\", 64).unwrap_or_default() {
                let _runs = volume.data_runs(&format!(r"\{}", entry.name));
                let _content = volume.read_file(&format!(r"\{}", entry.name), 1 << 20);
            }
        }
        places.iter().for_each(|(at, _)| memory.patch(&[seed.bytes[*at as usize]], *at));
    });
});
