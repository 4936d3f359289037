//! The profile on a disk: exactly the intended values change. Every value of every hive is read before and after, by a
//! reader that has no part in the writing.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use regf::hive::RegistryKey;
use regf::{DataType, HiveBuilder, RegistryHive};
use softoff_harness::disk::{DiskImage, Hive, RegistryValue, system_volume};
use softoff_harness::image::Sha256Hex;
use softoff_harness::inspect::ImageReport;
use softoff_harness::lint::{Judgement, Lint};

use super::*;
use crate::measure_disk::build_with;
use crate::reference::GRANULARITY;

/// (key, name) to (type, data).
type Values = BTreeMap<(String, String), (u32, Vec<u8>)>;

fn collect(key: &RegistryKey<'_>, path: &str, into: &mut Values) {
    for value in key.values().unwrap() {
        let data = value.raw_data().unwrap();
        into.insert((path.to_uppercase(), value.name().to_uppercase()), (value.raw_data_type(), data));
    }
    for child in key.subkeys().unwrap() {
        collect(&child, &format!("{path}\\{}", child.name()), into);
    }
}

fn values(disk: &Path, hive: &Hive) -> Values {
    let volume = system_volume(&DiskImage::open(disk).unwrap()).unwrap();
    let bytes = volume.read_file(&hive.path(), 256 << 20).unwrap();
    let read = RegistryHive::from_bytes(bytes).unwrap();
    assert!(!read.is_dirty());
    let mut all = Values::new();
    collect(&read.root_key().unwrap(), "", &mut all);
    all
}

fn hive(values: &[(&str, &str, RegistryValue)]) -> Vec<u8> {
    let mut builder = HiveBuilder::new_with_version("ROOT", 5).unwrap();
    for (key, name, value) in values {
        let key = builder.create_key(key).unwrap();
        builder.add_value(key, name, DataType::from(value.kind()), &value.data()).unwrap();
    }
    with_room(builder.to_bytes().unwrap())
}

fn with_room(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(GRANULARITY), 0);
    bytes
}

/// The real SYSTEM hive where it is at hand; a generated one, and a line that says so, elsewhere.
fn system() -> (Vec<u8>, bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples/SYSTEM.xz");
    if path.exists() {
        let output =
            Command::new("xz").arg("-dc").arg(&path).output().expect("next: apt-get install xz-utils");
        return (with_room(output.stdout), true);
    }
    let _nobody_may_listen = writeln!(
        std::io::stderr(),
        "NOT COVERED: the real sample SYSTEM.xz is not at {}; a generated hive stands in for it",
        path.display()
    );
    let generated = hive(&[
        ("Select", "Current", RegistryValue::Dword(1)),
        (r"ControlSet001\Control\Session Manager\Power", "HiberbootEnabled", RegistryValue::Dword(1)),
        (r"ControlSet001\Services\X", "Start", RegistryValue::Dword(2)),
    ]);
    (generated, false)
}

#[test]
fn hardening_changes_exactly_the_intended_values() {
    let dir = tempfile::tempdir().unwrap();
    let (system, real) = system();
    let winlogon = r"Microsoft\Windows NT\CurrentVersion\Winlogon";
    let button = r"Policies\Microsoft\Power\PowerSettings\7648EFA3-DD9C-4E3E-B566-50F929386280";
    let software = hive(&[
        (winlogon, "DefaultUserName", RegistryValue::String("Ada".into())),
        (winlogon, "AutoAdminLogon", RegistryValue::String("0".into())),
        (button, "ACSettingIndex", RegistryValue::Dword(0)),
        (r"Policies\Microsoft\Windows NT\Reliability", "ShutdownReasonOn", RegistryValue::Dword(1)),
        (r"Policies\Microsoft\Windows NT\Reliability", "ShutdownReasonUI", RegistryValue::Dword(1)),
        (
            r"Microsoft\Windows\CurrentVersion\Policies\System",
            "ShutdownWithoutLogon",
            RegistryValue::Dword(0),
        ),
        (r"Microsoft\Windows\CurrentVersion\Policies\System", "EnableLUA", RegistryValue::Dword(1)),
    ]);
    let user = hive(&[
        (r"Control Panel\Desktop", "AutoEndTasks", RegistryValue::String("0".into())),
        (r"Control Panel\Desktop", "Wallpaper", RegistryValue::String("x".into())),
    ]);
    let files = [
        ("Windows/System32/config/SYSTEM", system),
        ("Windows/System32/config/SOFTWARE", software),
        ("Users/Ada/NTUSER.DAT", user),
    ];
    let base = build_with(dir.path(), &files).unwrap();
    let before_hash = Sha256Hex::of_file(&base).unwrap();
    let overlay = dir.path().join("overlay.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .args([&base, &overlay])
        .status();
    assert!(made.expect("next: apt-get install qemu-utils").success());
    let hives = [Hive::System, Hive::Software, Hive::user("Ada")];
    let before = hives.each_ref().map(|hive| values(&overlay, hive));
    let control_set = format!(r"\CONTROLSET{:03}", before[0][&(r"\SELECT".into(), "CURRENT".into())].1[0]);
    if real {
        assert!(before[0].len() > 5_000, "{} values", before[0].len());
    }

    let profile = Profile::own().unwrap();
    let lint = |disk: &Path| Lint::of(&ImageReport::read(&DiskImage::open(disk).unwrap(), 0).unwrap());
    assert!(matches!(lint(&overlay).judgement, Judgement::NotObeyed));
    let done = profile.apply(&overlay, std::slice::from_ref(&base)).unwrap();
    assert_eq!(done.absent.len(), 2, "no DEFAULT, no template of a user: {:?}", done.absent);
    assert!(matches!(lint(&overlay).judgement, Judgement::Obeyed), "{:?}", lint(&overlay));

    let edits = profile.edits(&[Hive::user("Ada")]);
    let mut wanted: BTreeMap<&Hive, Values> = BTreeMap::new();
    for edit in &edits {
        let key = format!(r"\{}", edit.key).to_uppercase().replace(r"\CURRENTCONTROLSET", &control_set);
        let value = (edit.value.kind(), edit.value.data());
        wanted.entry(&edit.hive).or_default().insert((key, edit.name.to_uppercase()), value);
    }
    for (hive, before) in hives.iter().zip(before) {
        let after = values(&overlay, hive);
        let mut expected = before.clone();
        expected.extend(wanted[hive].clone());
        let differs: Vec<_> = expected
            .iter()
            .filter(|(id, value)| after.get(*id) != Some(value))
            .map(|(id, value)| format!("{id:?}: {value:?}, found {:?}", after.get(id)))
            .chain(after.keys().filter(|id| !expected.contains_key(*id)).map(|id| format!("{id:?} is new")))
            .collect();
        assert!(differs.is_empty(), "{}: {differs:#?}", hive.path());
        let changed = after.iter().filter(|(id, value)| before.get(*id) != Some(value)).count();
        assert!(changed > 0 && changed <= wanted[hive].len(), "{}: {changed} changed", hive.path());
    }
    assert_eq!(Sha256Hex::of_file(&base).unwrap(), before_hash);

    // A second time changes nothing.
    let again: u64 =
        profile.apply(&overlay, &[]).unwrap().writes.iter().map(|write| write.bytes_written).sum();
    let once = hives.each_ref().map(|hive| values(&overlay, hive));
    assert!(again < 64 << 10, "{again} bytes");
    profile.apply(&overlay, &[]).unwrap();
    assert_eq!(hives.each_ref().map(|hive| values(&overlay, hive)), once);
}

#[test]
fn an_image_that_others_build_on_is_not_hardened() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("Windows/System32/config/SYSTEM", hive(&[("Select", "Current", RegistryValue::Dword(1))])),
        ("Windows/System32/config/SOFTWARE", hive(&[("Microsoft", "x", RegistryValue::Dword(1))])),
    ];
    let base = build_with(dir.path(), &files).unwrap();
    let error = format!("{:#}", Profile::own().unwrap().apply(&base, &[]).unwrap_err());
    assert!(error.contains("is not changed") && error.contains("qemu-img create"), "{error}");
}
