//! The profile on a disk: exactly the intended values change.

use softoff_harness::disk::{DiskImage, Hive, RegistryValue};
use softoff_harness::image::Sha256Hex;
use softoff_harness::inspect::ImageReport;
use softoff_harness::lint::{Judgement, Lint};

use super::*;
use crate::measure_disk::build_with;
use crate::registry_diff::{Contents, DISK, hive, intended, overlaid, system};

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
    let (base, overlay) = overlaid(dir.path(), &files);
    let before_hash = Sha256Hex::of_file(&base).unwrap();
    let hives = [Hive::System, Hive::Software, Hive::user("Ada")];
    let before = hives.each_ref().map(|hive| Contents::read(&overlay, hive));
    let control_set = before[0].control_set();
    if real {
        assert!(before[0].values.len() > 5_000, "{} values", before[0].values.len());
    }

    let profile = Profile::own().unwrap();
    let lint = |disk: &Path| Lint::of(&ImageReport::read(&DiskImage::open(disk).unwrap(), 0).unwrap());
    assert!(matches!(lint(&overlay).judgement, Judgement::NotObeyed));
    let done = profile.apply(&overlay, std::slice::from_ref(&base)).unwrap();
    assert_eq!(done.absent.len(), 2, "no DEFAULT, no template of a user: {:?}", done.absent);
    assert!(matches!(lint(&overlay).judgement, Judgement::Obeyed), "{:?}", lint(&overlay));

    let edits = profile.edits(&[Hive::user("Ada")]);
    for (hive, before) in hives.iter().zip(before) {
        let (after, wanted) = (Contents::read(&overlay, hive), intended(&edits, hive, &control_set));
        assert_eq!(after.unintended(&before, &wanted), Vec::<String>::new(), "{}", hive.path());
        let changed = after.changed(&before);
        assert!(changed > 0 && changed <= wanted.len(), "{}: {changed} changed", hive.path());
    }
    assert_eq!(Sha256Hex::of_file(&base).unwrap(), before_hash);

    // A second time changes nothing.
    let again: u64 =
        profile.apply(&overlay, &[]).unwrap().writes.iter().map(|write| write.bytes_written).sum();
    let once = hives.each_ref().map(|hive| Contents::read(&overlay, hive));
    assert!(again < 64 << 10, "{again} bytes");
    profile.apply(&overlay, &[]).unwrap();
    assert_eq!(hives.each_ref().map(|hive| Contents::read(&overlay, hive)), once);
}

#[test]
fn an_image_that_others_build_on_is_not_hardened() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("Windows/System32/config/SYSTEM", hive(&[("Select", "Current", RegistryValue::Dword(1))])),
        ("Windows/System32/config/SOFTWARE", hive(&[("Microsoft", "x", RegistryValue::Dword(1))])),
    ];
    let base = build_with(dir.path(), DISK, &files).unwrap();
    let error = format!("{:#}", Profile::own().unwrap().apply(&base, &[]).unwrap_err());
    assert!(error.contains("is not changed") && error.contains("qemu-img create"), "{error}");
}
