//! Tests of writing to overlays, against real qcow2 and NTFS.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;

use super::*;
use crate::disk::read_value;
use crate::disk::testing::{
    VOLUME_AT, VOLUME_SIZE, hive, hive_with_room, overlay_disk, patch, restart_page, run, sample, scratch,
    set_volume_flags,
};
use crate::image::Sha256Hex;

const CONTROL: &str = r"CurrentControlSet\Control";

fn values() -> Vec<(&'static str, &'static str, RegistryValue)> {
    vec![
        ("Select", "Current", RegistryValue::Dword(1)),
        (r"ControlSet001\Control", "WaitToKillServiceTimeout", RegistryValue::String("5000".into())),
    ]
}

fn edit(key: &str, name: &str, value: RegistryValue) -> HiveEdit {
    HiveEdit::new(Hive::System, key, name, value)
}

fn check_image(path: &Path) {
    run("qemu-img", "qemu-utils", &["check", "-q", path.to_str().unwrap()]);
}

#[test]
fn values_are_written_to_the_overlay_and_never_to_its_base() {
    let dir = scratch();
    let user = ("Users/Softoff/NTUSER.DAT", hive_with_room(&[("Console", "x", RegistryValue::Dword(1))]));
    let (base, overlay) = overlay_disk(dir.path(), hive_with_room(&values()), &[user]);
    let before = Sha256Hex::of_file(&base).unwrap();
    let edits = [
        edit(CONTROL, "waittokillservicetimeout", RegistryValue::String("20000".into())),
        edit(r"CurrentControlSet\New\Deep", "", RegistryValue::MultiString(vec!["a".into(), "Grüße".into()])),
        edit(r"CurrentControlSet\New", r#"a "quoted\name"="#, RegistryValue::Qword(9)),
        edit(r"Softoff", "Maß αβγ", RegistryValue::Dword(7)),
        edit("Softoff", "empty", RegistryValue::Binary(vec![])),
        HiveEdit {
            hive: Hive::user("Softoff"),
            ..edit(r"Control Panel\Desktop", "AutoEndTasks", RegistryValue::String("1".into()))
        },
    ];
    let done = apply(&overlay, std::slice::from_ref(&base), &edits).unwrap();
    assert_eq!(done.iter().map(|d| d.values).collect::<Vec<_>>(), [5, 1]);
    assert!(done.iter().all(|d| d.bytes_written > 0 && d.bytes_written < 64 << 10), "{done:?}");

    let volume = system_volume(&DiskImage::open(&overlay).unwrap()).unwrap();
    for edit in &edits {
        assert_eq!(read_value(&volume, &edit.hive, &edit.key, &edit.name).unwrap(), edit.value);
    }
    let base_volume = system_volume(&DiskImage::open(&base).unwrap()).unwrap();
    let old = read_value(&base_volume, &Hive::System, CONTROL, "WaitToKillServiceTimeout").unwrap();
    assert_eq!(old, RegistryValue::String("5000".into()));
    assert_eq!(Sha256Hex::of_file(&base).unwrap(), before);
    check_image(&overlay);
    // A second pair of eyes: ntfs-3g finds the volume whole, and the hive where we do.
    let raw = dir.path().join("after.raw");
    let path = raw.to_str().unwrap();
    run("qemu-img", "qemu-utils", &["convert", "-O", "raw", overlay.to_str().unwrap(), path]);
    let ntfs = std::fs::read(&raw).unwrap()[VOLUME_AT as usize..][..VOLUME_SIZE as usize].to_vec();
    std::fs::write(&raw, &ntfs).unwrap();
    run("ntfsfix", "ntfs-3g", &["--no-action", path]);
    let out = Command::new("ntfscat").args([path, "Windows/System32/config/SYSTEM"]).output().unwrap();
    assert!(out.stdout == volume.read_file(&Hive::System.path(), MAX_HIVE).unwrap());
}

#[test]
fn edits_can_follow_one_another() {
    let dir = scratch();
    let (_, overlay) = overlay_disk(dir.path(), hive_with_room(&values()), &[]);
    for n in 0..5 {
        apply(&overlay, &[], &[edit(CONTROL, "n", RegistryValue::Dword(n))]).unwrap();
    }
    let volume = system_volume(&DiskImage::open(&overlay).unwrap()).unwrap();
    assert_eq!(read_value(&volume, &Hive::System, CONTROL, "N").unwrap(), RegistryValue::Dword(4));
    check_image(&overlay);
}

#[test]
fn a_real_system_hive_is_edited() {
    let Some(mut bytes) = sample("SYSTEM.xz") else { return };
    bytes.resize(bytes.len().next_multiple_of(256 << 10), 0);
    let dir = scratch();
    let (_, overlay) = overlay_disk(dir.path(), bytes, &[]);
    let edit = edit(r"CurrentControlSet\Control\Session Manager\Power", "Softoff", RegistryValue::Dword(3));
    apply(&overlay, &[], std::slice::from_ref(&edit)).unwrap();
    let volume = system_volume(&DiskImage::open(&overlay).unwrap()).unwrap();
    assert_eq!(read_value(&volume, &edit.hive, &edit.key, &edit.name).unwrap(), edit.value);
}

fn refusal(result: Result<Vec<HiveWrite>, InjectError>) -> Refusal {
    match result {
        Err(InjectError::Refused { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_base_is_refused_in_every_disguise() {
    let dir = scratch();
    let (base, overlay) = overlay_disk(dir.path(), hive_with_room(&values()), &[]);
    let before = Sha256Hex::of_file(&base).unwrap();
    let edits = [edit(CONTROL, "x", RegistryValue::Dword(1))];
    assert_eq!(refusal(apply(&base, &[], &edits)), Refusal::NotAnOverlay);
    assert_eq!(refusal(apply(&dir.path().join("disk.raw"), &[], &edits)), Refusal::NotAnOverlay);
    let link = dir.path().join("link.qcow2");
    std::fs::hard_link(&overlay, &link).unwrap();
    assert_eq!(refusal(apply(&link, std::slice::from_ref(&overlay), &edits)), Refusal::ReadOnly);
    assert_eq!(Sha256Hex::of_file(&base).unwrap(), before);
}

#[rstest]
#[case::volume_dirty(Some(1), None, 0)]
#[case::hive_dirty(None, None, 1)]
#[case::hibernated(None, Some(*b"hibr"), 0)]
#[case::hibernation_unknown(None, Some(*b"????"), 0)]
fn a_disk_in_use_by_a_sleeping_or_broken_system_is_refused(
    #[case] flags: Option<u16>,
    #[case] hiberfil: Option<[u8; 4]>,
    #[case] sequence: u8,
) {
    let dir = scratch();
    let mut system = hive_with_room(&values());
    system[4] ^= sequence;
    system[508] ^= sequence;
    let more = hiberfil.map(|magic| ("hiberfil.sys", [magic.to_vec(), vec![0; 4096]].concat()));
    let (base, overlay) = overlay_disk(dir.path(), system, &more.into_iter().collect::<Vec<_>>());
    if let Some(flags) = flags {
        let raw = dir.path().join("disk.raw");
        set_volume_flags(&raw, VOLUME_AT, flags);
        run(
            "qemu-img",
            "qemu-utils",
            &["convert", "-O", "qcow2", raw.to_str().unwrap(), base.to_str().unwrap()],
        );
    }
    let before = Sha256Hex::of_file(&overlay).unwrap();
    match refusal(apply(&overlay, &[], &[edit(CONTROL, "x", RegistryValue::Dword(1))])) {
        Refusal::DirtyVolume(found) => assert_eq!(Some(found.0), flags),
        Refusal::DirtyHive { sequence_1, sequence_2, checksum_ok, .. } => {
            assert!(sequence == 1 && sequence_1 != sequence_2 && checksum_ok);
        }
        Refusal::Hibernated(_) => assert!(hiberfil.is_some()),
        other => panic!("{other:?}"),
    }
    assert_eq!(Sha256Hex::of_file(&overlay).unwrap(), before);
}

#[test]
fn a_volume_that_was_not_dismounted_is_refused() {
    let dir = scratch();
    let (base, overlay) = overlay_disk(dir.path(), hive_with_room(&values()), &[]);
    let raw = dir.path().join("disk.raw");
    let disk = DiskImage::open(&raw).unwrap();
    let journal = system_volume(&disk).unwrap().data_runs(r"\$LogFile").unwrap()[0].start;
    drop(disk);
    for (users, refuse) in [(0, true), (0xffff, false)] {
        patch(&raw, journal, &restart_page(b"RSTR", 9, users, 0));
        let convert = ["convert", "-O", "qcow2", raw.to_str().unwrap(), base.to_str().unwrap()];
        run("qemu-img", "qemu-utils", &convert);
        let result = apply(&overlay, &[], &[edit(CONTROL, "x", RegistryValue::Dword(1))]);
        match refuse {
            true => assert_eq!(refusal(result), Refusal::OpenJournal),
            false => assert!(result.is_ok(), "{result:?}"),
        }
    }
}

#[test]
fn an_overlay_that_qemu_has_open_is_refused() {
    let dir = scratch();
    let (_, overlay) = overlay_disk(dir.path(), hive_with_room(&values()), &[]);
    let drive = format!("if=none,id=d,format=qcow2,file={}", overlay.display());
    let arguments =
        ["-machine", "none", "-display", "none", "-nodefaults", "-S", "-drive", &drive, "-monitor", "stdio"];
    let mut qemu = Command::new("qemu-system-x86_64");
    let qemu = qemu.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut qemu = qemu.expect("next: apt-get install qemu-system-x86");
    let edits = [edit(CONTROL, "x", RegistryValue::Dword(1))];
    let deadline = Instant::now() + Duration::from_secs(20);
    // QEMU locks when it opens the file, a moment after it was started.
    let found = loop {
        let result = apply(&overlay, &[], &edits);
        if result.is_err() || Instant::now() > deadline {
            break result;
        }
    };
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    assert!(matches!(refusal(found), Refusal::InUse));
    apply(&overlay, &[], &edits).unwrap();
}

#[test]
fn a_hive_without_room_is_left_alone() {
    let dir = scratch();
    let (_, overlay) = overlay_disk(dir.path(), hive(&values()), &[]);
    let before = Sha256Hex::of_file(&overlay).unwrap();
    let big = edit(CONTROL, "x", RegistryValue::Binary(vec![7; 5000]));
    let error = apply(&overlay, &[], &[big]).unwrap_err();
    assert!(matches!(error, InjectError::Grew { old, new, .. } if new > old), "{error}");
    assert_eq!(Sha256Hex::of_file(&overlay).unwrap(), before);
}

#[rstest]
#[case("A\n[HKEY_SOFTOFF\\HIVE\\Evil]", "x")]
#[case("A", "x\r\n\"y\"=dword:00000001")]
#[case("A\\\\B", "x")]
#[case("", "x")]
#[case("Softoff\\Grüße", "x")]
fn names_that_would_break_the_text_are_refused(#[case] key: &str, #[case] name: &str) {
    let dir = scratch();
    let (_, overlay) = overlay_disk(dir.path(), hive_with_room(&values()), &[]);
    let error = apply(&overlay, &[], &[edit(key, name, RegistryValue::Dword(1))]).unwrap_err();
    assert!(matches!(error, InjectError::BadEdit { .. }), "{error}");
}

#[test]
fn a_damaged_overlay_is_an_error() {
    let dir = scratch();
    let (_, overlay) = overlay_disk(dir.path(), hive_with_room(&values()), &[]);
    patch(&overlay, 40, &[0xff; 8]);
    let error = apply(&overlay, &[], &[edit(CONTROL, "x", RegistryValue::Dword(1))]).unwrap_err();
    assert!(matches!(error, InjectError::Disk(_)), "{error}");
}
