//! Tests of reading whole disks.

use std::path::Path;

use proptest::prelude::*;
use rstest::rstest;

use super::testing::{
    VOLUME_AT, gpt_disk, hive, ntfs_volume, overlay_disk, patch, run, scratch, set_volume_flags,
};
use super::*;

const SYSTEM: &str = r"\Windows\System32\config\SYSTEM";

fn system_hive() -> Vec<u8> {
    hive(&[
        ("Select", "Current", RegistryValue::Dword(1)),
        (r"ControlSet001\Control", "WaitToKillServiceTimeout", RegistryValue::String("5000".into())),
    ])
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

#[test]
fn a_windows_like_disk_is_read_through_a_backing_chain() {
    let dir = scratch();
    let big = content(3_000_000);
    let (base, overlay) = overlay_disk(dir.path(), system_hive(), &[("Users/Softoff/big.bin", big.clone())]);
    let disk = DiskImage::open(&overlay).unwrap();
    let layers: Vec<_> = disk.layers().iter().map(|layer| layer.path.clone()).collect();
    assert_eq!(layers, [overlay.clone(), base]);
    let table = partitions(&disk).unwrap();
    assert_eq!(table.iter().map(|p| p.number).collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(&table[1].kind, PartitionKind::Gpt { name, .. } if name == "Basic data partition"));

    let volume = system_volume(&disk).unwrap();
    assert_eq!(volume.start(), VOLUME_AT);
    assert_eq!(volume.flags().unwrap(), VolumeFlags(0));
    assert_eq!(volume.hibernation_file().unwrap(), HibernationFile::Absent);
    assert_eq!(volume.read_file(r"\users\SOFTOFF\Big.BIN", 4 << 20).unwrap(), big);
    assert!(!HiveState::read(&volume, &Hive::System).unwrap().is_dirty());
    let value = read_value(&volume, &Hive::System, r"CurrentControlSet\Control", "waittokillservicetimeout");
    assert_eq!(value.unwrap(), RegistryValue::String("5000".into()));
    assert!(read_value(&volume, &Hive::System, "No", "x").unwrap_err().is_not_found());
    assert!(volume.read_file(r"\Windows\no\file", 1).unwrap_err().is_not_found());
    assert!(matches!(volume.read_file(SYSTEM, 100), Err(DiskError::TooLarge { limit: 100, .. })));
}

#[test]
fn data_runs_are_where_the_bytes_lie() {
    let dir = scratch();
    let big = content(1_000_001);
    let raw = gpt_disk(
        dir.path(),
        &[("Windows/System32/config/SYSTEM", system_hive()), ("big", big.clone()), ("small", vec![1; 9])],
    );
    let disk = DiskImage::open(&raw).unwrap();
    let volume = system_volume(&disk).unwrap();
    let bytes = std::fs::read(&raw).unwrap();
    let runs = volume.data_runs(r"\big").unwrap();
    let found: Vec<u8> = runs.iter().flat_map(|r| bytes[r.start as usize..r.end as usize].to_vec()).collect();
    assert_eq!(found, big);
    let error = volume.data_runs(r"\small").unwrap_err();
    assert!(error.to_string().contains("resident"), "{error}");
}

#[rstest]
#[case(0x0000, false)]
#[case(0x0001, true)]
#[case(0x8801, true)]
fn the_flags_come_from_the_mft_record(#[case] word: u16, #[case] dirty: bool) {
    let dir = scratch();
    let raw = ntfs_volume(dir.path(), &[]);
    set_volume_flags(&raw, 0, word);
    let disk = DiskImage::open(&raw).unwrap();
    let table = partitions(&disk).unwrap();
    assert_eq!(table[0].kind, PartitionKind::WholeDisk);
    let flags = Volume::open(&disk, 0, disk.size()).unwrap().flags().unwrap();
    assert_eq!((flags, flags.is_dirty()), (VolumeFlags(word), dirty));
}

#[rstest]
#[case(b"hibr", HibernationFile::Live)]
#[case(b"HIBR", HibernationFile::Live)]
#[case(b"wake", HibernationFile::Spent)]
#[case(b"\0\0\0\0", HibernationFile::Empty)]
#[case(b"what", HibernationFile::Unknown(*b"what"))]
fn the_hibernation_file_is_told_by_its_head(#[case] head: &[u8; 4], #[case] state: HibernationFile) {
    let dir = scratch();
    let mut file = vec![0u8; 8192];
    file[..4].copy_from_slice(head);
    let raw = ntfs_volume(dir.path(), &[("hiberfil.sys", file)]);
    let disk = DiskImage::open(&raw).unwrap();
    assert_eq!(Volume::open(&disk, 0, disk.size()).unwrap().hibernation_file().unwrap(), state);
}

#[test]
fn an_mbr_with_logical_partitions_is_read() {
    let dir = scratch();
    let raw = dir.path().join("mbr.raw");
    std::fs::write(&raw, vec![0u8; 8 << 20]).unwrap();
    let entry = |at: u64, kind: u8, first: u32, sectors: u32| {
        let mut bytes = [0u8; 16];
        bytes[4] = kind;
        bytes[8..12].copy_from_slice(&first.to_le_bytes());
        bytes[12..].copy_from_slice(&sectors.to_le_bytes());
        patch(&raw, at, &bytes);
    };
    entry(446, 0x07, 2048, 2048);
    entry(462, 0x0f, 4096, 8192);
    patch(&raw, 510, &[0x55, 0xaa]);
    let extended = 4096 * 512;
    entry(extended + 446, 0x07, 64, 1000);
    patch(&raw, extended + 510, &[0x55, 0xaa]);
    let found = partitions(&DiskImage::open(&raw).unwrap()).unwrap();
    let found: Vec<_> = found.iter().map(|p| (p.number, p.start / 512, p.length / 512)).collect();
    assert_eq!(found, [(1, 2048, 2048), (5, 4160, 1000)]);

    // The chain points at itself.
    entry(extended + 462, 0x05, 0, 8192);
    let error = partitions(&DiskImage::open(&raw).unwrap()).unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
}

#[test]
fn a_lost_primary_gpt_is_read_from_its_backup() {
    let dir = scratch();
    let raw = gpt_disk(dir.path(), &[("Windows/System32/config/SYSTEM", system_hive())]);
    patch(&raw, 512, &[0; 512]);
    assert_eq!(system_volume(&DiskImage::open(&raw).unwrap()).unwrap().start(), VOLUME_AT);
}

#[test]
fn a_disk_without_windows_says_what_it_saw() {
    let dir = scratch();
    let raw = gpt_disk(dir.path(), &[("readme", vec![1])]);
    patch(&raw, (1 << 20) + 3, b"-FVE-FS-");
    let error = system_volume(&DiskImage::open(&raw).unwrap()).unwrap_err().to_string();
    assert!(error.contains("BitLocker") && error.contains("`Windows` not found"), "{error}");
}

#[test]
fn a_backing_chain_in_a_circle_ends() {
    let dir = scratch();
    let (base, _) = overlay_disk(dir.path(), system_hive(), &[]);
    let base = base.to_str().unwrap();
    run("qemu-img", "qemu-utils", &["rebase", "-u", "-F", "qcow2", "-b", base, base]);
    let error = DiskImage::open(Path::new(base)).unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
}

#[rstest]
#[case("zlib", None)]
#[case("zstd", Some("compression_type=zlib"))]
fn compressed_images_are_read_or_say_how_to_be(#[case] kind: &str, #[case] next: Option<&str>) {
    let dir = scratch();
    // A hive holds the time it was made.
    let hive = system_hive();
    let (base, _) = overlay_disk(dir.path(), hive.clone(), &[]);
    let compressed = dir.path().join("compressed.qcow2");
    let option = format!("compression_type={kind}");
    let files = [base.to_str().unwrap(), compressed.to_str().unwrap()];
    run("qemu-img", "qemu-utils", &["convert", "-c", "-O", "qcow2", "-o", &option, files[0], files[1]]);
    let read = DiskImage::open(&compressed).and_then(|disk| system_volume(&disk)?.read_file(SYSTEM, 1 << 20));
    match next {
        None => assert!(read.unwrap() == hive),
        Some(next) => assert!(read.unwrap_err().to_string().contains(next)),
    }
}

#[rstest]
#[case::missing("nowhere.raw", "No such file")]
#[case::device("/dev/zero", "neither a regular file")]
fn what_is_no_image_is_refused(#[case] path: &str, #[case] why: &str) {
    let error = DiskImage::open(Path::new(path)).unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
}

/// Reads everything there is to read; whatever comes of it is fine as long as it comes.
fn read_all(path: &Path) {
    let Ok(disk) = DiskImage::open(path) else { return };
    let _table = partitions(&disk);
    let Ok(volume) = system_volume(&disk).or_else(|_| Volume::open(&disk, VOLUME_AT, disk.size())) else {
        return;
    };
    let _flags = volume.flags();
    let _runs = volume.data_runs(SYSTEM);
    let _state = HiveState::read(&volume, &Hive::System);
    let _file = volume.read_file(r"\Users\Softoff\big.bin", 4 << 20);
    let _value = read_value(&volume, &Hive::System, r"CurrentControlSet\Control", "x");
}

/// Bytes of the raw disk that are structure and not content: boot records, tables, the first records of
/// $MFT, and the folders' index blocks.
fn structure(raw: &[u8]) -> Vec<usize> {
    let sectors = raw.chunks(512).enumerate();
    let is_structure = |bytes: &[u8]| {
        [&b"FILE"[..], b"INDX", b"EFI PART"].iter().any(|magic| bytes.starts_with(magic))
            || bytes.get(3..7) == Some(b"NTFS")
    };
    sectors
        .filter(|(_, bytes)| is_structure(bytes))
        .flat_map(|(n, _)| [n * 512, (n + 1) * 512])
        .chain([0])
        .collect()
}

#[test]
fn damaged_disks_never_panic_or_hang() {
    let dir = scratch();
    let files =
        [("Windows/System32/config/SYSTEM", system_hive()), ("Users/Softoff/big.bin", content(300_000))];
    let raw = gpt_disk(dir.path(), &files);
    let whole = std::fs::read(&raw).unwrap();
    let structure = structure(&whole);
    assert!(structure.len() > 40);
    let damaged = dir.path().join("damaged.raw");
    let change = (prop::sample::select(structure), 0usize..512, any::<u8>());
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(changes in prop::collection::vec(change, 1..40), cut in 0usize..4 * whole.len())| {
        let mut bytes = whole.clone();
        for (sector, at, to) in changes {
            if let Some(byte) = bytes.get_mut(sector + at) {
                *byte = to;
            }
        }
        bytes.truncate(cut.max(512));
        std::fs::write(&damaged, &bytes).unwrap();
        read_all(&damaged);
    });
}

#[test]
fn damaged_qcow2_files_never_panic_or_hang() {
    let dir = scratch();
    let (base, overlay) = overlay_disk(dir.path(), system_hive(), &[]);
    let whole = std::fs::read(&base).unwrap();
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    // The header, and the clusters of the L1, L2 and refcount tables behind it.
    let change = (prop_oneof![0usize..112, 65536usize..65536 * 5], any::<u8>());
    proptest!(config, |(changes in prop::collection::vec(change, 1..40), cut in 0usize..4 * whole.len())| {
        let mut bytes = whole.clone();
        for (at, to) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
        }
        bytes.truncate(cut);
        std::fs::write(&base, &bytes).unwrap();
        read_all(&overlay);
    });
}
