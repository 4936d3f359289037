//! The path of ReactOS, with a disc that installs as its boot CD does: from the media to an image.

use std::path::Path;

use rstest::rstest;
use softoff_harness::disk::DiskImage;
use softoff_harness::disk::fat::{FatKind, fat_volumes};
use softoff_harness::image::{GuestFamily, Image};
use softoff_images::windows::PROVENANCE;

use super::bios::Installed;
use super::{disc, outcome, xtask};

/// Longer than anything takes on a busy host.
const PATIENCE: &str = "90";

fn build(dir: &Path, iso: &Path, patience: &str) -> (i32, String, String) {
    let args = ["reactos", "--iso", iso.to_str().unwrap(), "--accel", "tcg", "--patience", patience];
    let output = xtask(&args).env("SOFTOFF_CACHE", dir.join("cache")).output().unwrap();
    let (code, told) = outcome(&output);
    (code, told, String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[rstest]
#[case::and_powers_off(Installed::PowersOff, PATIENCE)]
#[ignore = "it waits until nothing has changed for a while: `-- --ignored`"]
#[case::and_waits_for_the_button(Installed::Waits, "20")]
fn a_disc_that_installs_itself_becomes_an_image(#[case] installed: Installed, #[case] patience: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (code, told, folder) = build(dir.path(), &disc::reactos(dir.path(), installed), patience);
    assert_eq!(code, 0, "{told}");
    for text in [
        "no digest of bootcd-0.4.16-dev-x86.iso is on record",
        "s  the system is on the disk, first restart",
        "s  the system has shut itself down",
    ] {
        assert!(told.contains(text), "`{text}`: {told}");
    }
    let pressed = told.contains("the desktop stands still: pressing the power button");
    assert_eq!(pressed, installed == Installed::Waits, "{told}");
    let image = Image::open(Path::new(&folder)).unwrap();
    assert_eq!(image.manifest.family, GuestFamily::Reactos);
    let disk = DiskImage::open(&image.file(&image.manifest.system_disk)).unwrap();
    let volumes = fat_volumes(&disk).unwrap();
    assert!(matches!(volumes[..], [(_, ref marks)] if marks.kind == FatKind::Fat32 && !marks.is_dirty()));
    let provenance = std::fs::read_to_string(Path::new(&folder).join(PROVENANCE)).unwrap();
    assert!(
        provenance.contains("\"volumes\": \"1 FAT\"") && provenance.contains("\"answers\""),
        "{provenance}"
    );
    // Nothing of the work is left.
    let left = std::fs::read_dir(dir.path().join("cache/building")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn a_disc_without_an_answer_file_is_no_boot_cd() {
    let dir = tempfile::tempdir().unwrap();
    let iso = disc::drivers(dir.path(), &[]);
    let (code, told, _) = build(dir.path(), &iso, PATIENCE);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("no unattend.inf") && told.contains("next:"), "{told}");
    assert!(!told.contains("the machine is on"), "{told}");
}
