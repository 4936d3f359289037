//! What is wrong with media, host or command line is told before anything boots.

use std::path::Path;

use rstest::rstest;
use softoff_harness::image::Sha256Hex;

use super::{FOLDERS, NAME, PROMPT, catalog, disc, outcome, xtask};

#[test]
fn another_disc_than_the_catalogues_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (setup, drivers) = (disc::setup(dir.path(), PROMPT), disc::drivers(dir.path(), &FOLDERS));
    let args = [
        NAME,
        "--iso",
        setup.to_str().unwrap(),
        "--virtio-win",
        drivers.to_str().unwrap(),
        "--firmware",
        "bios",
    ];
    let (code, told) = outcome(&xtask(&args).args(["--accel", "tcg"]).output().unwrap());
    assert_eq!(code, 2, "{told}");
    let digest = Sha256Hex::of_file(&setup).unwrap();
    assert!(told.contains("is not the disc that the catalogue names"), "{told}");
    assert!(
        told.contains(&format!("--iso-sha256 {digest}")) && told.contains("5044094976 on record"),
        "{told}"
    );
    // The user's own word counts before the catalogue's.
    let users = "0".repeat(64);
    let output = xtask(&args).args(["--accel", "tcg", "--iso-sha256", &users]).output().unwrap();
    let (code, told) = outcome(&output);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("is not the disc that --iso-sha256 names"), "{told}");
}

#[rstest]
#[case::a_missing_driver(&["viostor/2k19/amd64", "vioserial/2k22/amd64"], &[], "has no viostor/2k22/amd64")]
#[case::too_small_a_disk(&FOLDERS, &["--disk-gib", "31"], "a disk of 31 GiB is too small")]
fn media_that_do_not_fit_are_told_before_anything_boots(
    #[case] folders: &[&str],
    #[case] more: &[&str],
    #[case] hint: &str,
) {
    let dir = tempfile::tempdir().unwrap();
    let (setup, drivers) = (disc::setup(dir.path(), PROMPT), disc::drivers(dir.path(), folders));
    let catalog = catalog(dir.path(), NAME, &Sha256Hex::of_file(&setup).unwrap());
    let paths = [&setup, &drivers, &catalog].map(|path| path.to_str().unwrap());
    let args =
        [NAME, "--iso", paths[0], "--virtio-win", paths[1], "--catalog", paths[2], "--firmware", "bios"];
    let (code, told) = outcome(&xtask(&args).args(["--accel", "tcg"]).args(more).output().unwrap());
    assert_eq!(code, 2, "{told}");
    assert!(told.contains(hint) && told.contains("next:"), "{told}");
    assert!(!told.contains("the machine is on") && told.matches("error:").count() == 1, "{told}");
}

/// What an installation of Windows 11 needs of the host.
const PROGRAMS: [&str; 6] =
    ["qemu-system-x86_64", "qemu-img", "tesseract", "xorriso", "x86_64-w64-mingw32-gcc", "swtpm"];

/// Runs `image build` on a host that has these programs and no other.
fn on_a_host_with(dir: &Path, system: &str, programs: impl Iterator<Item = &'static str>) -> (i32, String) {
    let (setup, drivers) = (disc::setup(dir, PROMPT), disc::drivers(dir, &["viostor/w11/amd64"]));
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in programs {
        let found = softoff_images::tools::find(program).expect("next: cargo xtask doctor --install");
        std::os::unix::fs::symlink(found, bin.join(program)).unwrap();
    }
    let args = [system, "--iso", setup.to_str().unwrap(), "--virtio-win", drivers.to_str().unwrap()];
    outcome(&xtask(&args).args(["--accel", "tcg"]).env("PATH", &bin).output().unwrap())
}

#[rstest]
#[case::qemu("windows-11", "qemu-system-x86_64", "the installation runs in it", "qemu-system-x86")]
#[case::qemu_img("windows-11", "qemu-img", "the disk is made with it", "qemu-utils")]
#[case::tesseract("windows-11", "tesseract", "the screen tells when a key is asked for", "tesseract-ocr")]
#[case::xorriso("windows-11", "xorriso", "the drivers' disc is read", "xorriso")]
#[case::gcc("windows-11", "x86_64-w64-mingw32-gcc", "the probe is linked with it", "gcc-mingw-w64-x86-64")]
#[case::swtpm("windows-11", "swtpm", "this system wants a TPM", "swtpm")]
#[case::xorriso_for_reactos("reactos", "xorriso", "the answers are put onto a copy", "xorriso")]
fn what_the_host_lacks_is_told_before_anything_boots(
    #[case] system: &str,
    #[case] lacks: &str,
    #[case] why: &str,
    #[case] package: &str,
) {
    let dir = tempfile::tempdir().unwrap();
    let (code, told) = on_a_host_with(dir.path(), system, PROGRAMS.into_iter().filter(|name| *name != lacks));
    assert_eq!(code, 3, "{told}");
    assert!(told.contains(&format!("{lacks} is not installed, and {why}")), "{told}");
    let next = format!("next: apt-get install --no-install-recommends {package}");
    assert!(told.lines().any(|line| line.ends_with(&next)), "{told}");
    assert!(!told.contains("hash") && !told.contains("the machine is on"), "{told}");
}

#[test]
fn all_that_the_host_lacks_is_told_at_once_and_nothing_where_it_lacks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (code, told) =
        on_a_host_with(dir.path(), "windows-11", ["qemu-system-x86_64", "qemu-img"].into_iter());
    assert_eq!(code, 3, "{told}");
    let packages = "gcc-mingw-w64-x86-64 swtpm tesseract-ocr xorriso";
    assert!(told.contains(&format!("apt-get install --no-install-recommends {packages}")), "{told}");
    let dir = tempfile::tempdir().unwrap();
    let (code, told) = on_a_host_with(dir.path(), "windows-11", PROGRAMS.into_iter());
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("has no vioserial/w11/amd64"), "{told}");
}

#[rstest]
#[case::no_disc(&[NAME], "give --iso FILE (usually SERVER_EVAL_x64FRE_en-us.iso)")]
#[case::no_such_disc(&[NAME, "--iso", "/nowhere/x.iso", "--virtio-win", "/nowhere/v.iso", "--firmware", "bios"], "--iso names /nowhere/x.iso")]
#[case::no_such_system(&["windows-95", "--iso", "x"], "windows-server-2022")]
#[case::a_disc_for_the_reference(&["reference", "--iso", "x"], "not from a disc")]
#[case::no_digest(&[NAME, "--iso", "x", "--iso-sha256", "abc"], "64 hexadecimal digits")]
#[case::no_catalogue(&[NAME, "--iso", "x", "--catalog", "/nowhere/catalog.toml"], "/nowhere/catalog.toml")]
#[case::hardened_reactos(&["reactos", "--iso", "x", "--hardened"], "reactos is no Windows, and --hardened")]
#[case::sysprep_reactos(&["reactos", "--iso", "x", "--sysprep"], "reactos is no Windows, and --sysprep")]
#[case::uefi_reactos(&["reactos", "--iso", "x", "--firmware", "uefi"], "reactos is installed with bios")]
fn wrong_usage(#[case] args: &[&str], #[case] hint: &str) {
    let (code, told) = outcome(&xtask(args).output().unwrap());
    assert_eq!(code, 2, "{told}");
    assert!(told.contains(hint), "{told}");
}
