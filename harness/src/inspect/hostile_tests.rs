//! Hostile and damaged images: an error or a report, never a panic, never a hang, never much memory.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fastrand::Rng;

use super::*;
use crate::disk::RegistryValue;
use crate::disk::testing::{event_log, gpt_disk, hive, memory, overlay_disk, run, scratch};
use crate::lint::Lint;

/// What the issue allows, and a seed: the same images in every run.
const MOST: usize = 256 << 20;
const SEED: u64 = 5;
const IMAGES: usize = 200;

fn software() -> Vec<u8> {
    let services: Vec<String> = (0..400).map(|n| format!(r"Many\Key{n:03}")).collect();
    let values = services.iter().map(|key| (key.as_str(), "PreshutdownTimeout", RegistryValue::Dword(7)));
    hive(&values.collect::<Vec<_>>())
}

fn system() -> Vec<u8> {
    hive(&[
        ("Select", "Current", RegistryValue::Dword(1)),
        (r"ControlSet001\Services\A", "PreshutdownTimeout", RegistryValue::Dword(60_000)),
        (r"ControlSet001\Control\Windows", "ShutdownTime", RegistryValue::Binary(vec![0; 8])),
    ])
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("Windows/System32/config/SYSTEM", system()),
        ("Windows/System32/config/SOFTWARE", software()),
        ("Users/Ada/NTUSER.DAT", system()),
        ("Softoff/LostWrite/flushed-001.txt", vec![b'x'; 3000]),
        ("Windows/Minidump/1.dmp", vec![7; 3000]),
        ("hiberfil.sys", vec![0; 5000]),
        ("Windows/System32/winevt/Logs/System.evtx", event_log(900)),
    ]
}

/// Reads everything there is; `true` where a report came of it.
fn look(path: &Path) -> bool {
    let (read, most) = memory::peak(|| {
        let report = DiskImage::open(path).and_then(|disk| ImageReport::read(&disk, 1 << 31));
        report.map(|report| (serde_json::to_string(&report).unwrap(), Lint::of(&report)))
    });
    assert!(most < MOST, "{most} bytes were held");
    match read {
        Ok((json, _)) => json.contains("\"system\""),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// A place in the image that matters, or any.
fn place(random: &mut Rng, bytes: &[u8], marks: &[usize]) -> usize {
    match random.u8(0..10) {
        0 => random.usize(..bytes.len()),
        _ => marks[random.usize(..marks.len())] + random.usize(..512),
    }
}

/// Sectors that begin with a structure's signature, and the sector behind each.
fn structures(bytes: &[u8]) -> Vec<usize> {
    let signatures: [&[u8]; 8] =
        [b"FILE", b"INDX", b"EFI PART", b"regf", b"hbin", b"ElfFile", b"ElfChnk", b"\xebR\x90NTFS"];
    let sectors = bytes.chunks(512).enumerate();
    let marked = sectors.filter(|(_, sector)| signatures.iter().any(|s| sector.starts_with(s)));
    marked.flat_map(|(n, _)| [n * 512, n * 512 + 512]).chain([0]).collect()
}

fn damage(path: &Path, images: usize, marks: &[usize], bytes: &[u8], random: &mut Rng) -> usize {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let mut reports = 0;
    for number in 0..images {
        // From a single changed byte to a ruin.
        let changes = 1 << random.u32(0..10);
        let places: Vec<usize> = (0..changes).map(|_| place(random, bytes, marks)).collect();
        for at in places.iter().filter(|at| **at < bytes.len()) {
            let byte = [random.u8(..), 0, 0xff, 0x7f][random.usize(..4)];
            file.write_all_at(&[byte], *at as u64).unwrap();
        }
        if number % 10 == 9 {
            file.set_len(random.u64(..bytes.len() as u64)).unwrap();
        }
        reports += usize::from(look(path));
        file.set_len(bytes.len() as u64).unwrap();
        match number % 10 {
            9 => file.write_all_at(bytes, 0).unwrap(),
            _ => places.iter().filter(|at| **at < bytes.len()).for_each(|at| {
                file.write_all_at(&bytes[*at..*at + 1], *at as u64).unwrap();
            }),
        }
    }
    reports
}

#[test]
fn two_hundred_damaged_images_end_in_a_report_or_an_error() {
    let dir = scratch();
    let mut random = Rng::with_seed(SEED);
    let raw = gpt_disk(dir.path(), &files());
    assert!(look(&raw), "the whole image gives a report");
    let bytes = std::fs::read(&raw).unwrap();
    let marks = structures(&bytes);
    assert!(marks.len() > 60, "{}", marks.len());
    let of_raw = damage(&raw, IMAGES * 3 / 4, &marks, &bytes, &mut random);
    drop(bytes);

    let other = scratch();
    let (base, _) = overlay_disk(other.path(), system(), &files()[1..]);
    let bytes = std::fs::read(&base).unwrap();
    // The header, and the tables behind it.
    let tables: Vec<usize> = (0..5 * 65536).step_by(512).collect();
    let of_qcow2 = damage(&base, IMAGES / 4, &tables, &bytes, &mut random);
    println!(
        "seed {SEED}: {of_raw} reports of {} raw images, {of_qcow2} of {} qcow2",
        IMAGES * 3 / 4,
        IMAGES / 4
    );
    // Neither all nor none: the damage reaches what is read, and leaves what it does not reach.
    assert!((1..IMAGES * 3 / 4).contains(&of_raw), "{of_raw}");
}

/// Puts a hive into an image and reads that.
fn with_software(dir: &Path, software: Vec<u8>) -> bool {
    let mut files = files();
    files[1].1 = software;
    look(&gpt_disk(dir, &files))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// A hive of one leaf of 65 535 subkeys that are all the root itself, behind a list that names that leaf 65 535
/// times: read without a budget, it has 4 billion keys in 1 MB.
#[test]
fn a_hive_that_points_into_itself_ends() {
    let mut bytes = software();
    let root = u32_at(&bytes, 36) as usize;
    let (leaf, index) = (u32_at(&bytes, 40), u32_at(&bytes, 40) + (1 << 20));
    let cell = |signature: &[u8; 2], element: u32| {
        let mut cell = (-(1i32 << 20) + 64).to_le_bytes().to_vec();
        cell.extend_from_slice(signature);
        cell.extend(u16::MAX.to_le_bytes());
        (0..u16::MAX).for_each(|_| cell.extend(element.to_le_bytes()));
        cell.resize(1 << 20, 0);
        cell
    };
    bytes.truncate(4096 + leaf as usize);
    bytes.extend(cell(b"li", root as u32));
    bytes.extend(cell(b"ri", leaf));
    bytes[40..44].copy_from_slice(&(index + (1 << 20)).to_le_bytes());
    // The root's list of subkeys.
    let node = 4096 + root + 4;
    bytes[node + 20..node + 24].copy_from_slice(&u32::MAX.to_le_bytes());
    bytes[node + 28..node + 32].copy_from_slice(&index.to_le_bytes());
    crate::disk::testing::base_block_sum(&mut bytes);
    let dir = scratch();
    assert!(with_software(dir.path(), bytes), "the rest of the disk is read");
}

/// A hive that says of itself that it has 4 GiB, in a file that is sparse.
#[test]
fn a_huge_sparse_hive_costs_nothing() {
    let dir = scratch();
    let raw = gpt_disk(dir.path(), &files());
    let bytes = std::fs::read(&raw).unwrap();
    let hive = bytes.chunks(512).position(|sector| sector.starts_with(b"regf")).unwrap() * 512;
    let mut block = bytes[hive..hive + 512].to_vec();
    block[40..44].copy_from_slice(&0xffff_f000u32.to_le_bytes());
    crate::disk::testing::base_block_sum(&mut block);
    crate::disk::testing::patch(&raw, hive as u64, &block);
    assert!(look(&raw));
}

#[test]
fn a_bitlocker_partition_is_told() {
    let dir = scratch();
    let raw = gpt_disk(dir.path(), &files());
    crate::disk::testing::patch(&raw, crate::disk::testing::VOLUME_AT + 3, b"-FVE-FS-");
    let report = ImageReport::read(&DiskImage::open(&raw).unwrap(), 0).unwrap();
    assert!(report.has_bitlocker() && !report.tells_something());
    let lint = Lint::of(&report);
    assert!(format!("{lint:?}").contains("manage-bde"), "{lint:?}");
}

/// ReactOS and other early systems: FAT32, no NTFS anywhere.
#[test]
fn a_fat_volume_tells_its_marks() {
    let dir = scratch();
    let raw = dir.path().join("fat.raw");
    std::fs::File::create(&raw).unwrap().set_len(40 << 20).unwrap();
    run("mkfs.fat", "dosfstools", &["-F", "32", raw.to_str().unwrap()]);
    crate::disk::testing::patch(&raw, 65, &[1]);
    let report = ImageReport::read(&DiskImage::open(&raw).unwrap(), 0).unwrap();
    assert!(report.tells_something());
    assert!(matches!(&report.partitions[0].file_system, FileSystem::Fat(marks) if marks.is_dirty()));
}
