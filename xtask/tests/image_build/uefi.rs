//! Discs booted by UEFI: beside a TPM, and under Secure Boot.
//!
//! What the gate runs has Secure Boot off: the tests' own loader is signed by nobody. The two tests with it on take a
//! minute each, and one fetches Debian's signed loaders; they are run by
//! `cargo test -p xtask --test image_build -- --ignored`.

use std::path::{Path, PathBuf};
use std::process::Command;

use rstest::rstest;
use softoff_harness::image::Sha256Hex;
use softoff_images::windows::milestone::Milestone;

use super::{Kept, PROMPT, changed_catalog, disc, kept, outcome, xtask};

/// Longer than the firmware takes on a busy host, which shows and writes nothing meanwhile.
const PATIENCE: &str = "90";

/// Runs `image build` by UEFI for a disc; the exit code must be 3. Gives what was told.
fn build(dir: &Path, name: &str, setup: &Path, patience: &str, secure_boot: bool) -> (String, Kept) {
    let folder = if name == "windows-11" { "w11" } else { "2k22" };
    let folders = ["viostor", "vioserial"].map(|driver| format!("{driver}/{folder}/amd64"));
    let drivers = disc::drivers(dir, &folders.each_ref().map(String::as_str));
    let catalog = changed_catalog(dir, name, &Sha256Hex::of_file(setup).unwrap(), |machine| {
        if !secure_boot {
            machine.remove("secure_boot");
        }
    });
    let [setup, drivers, catalog] = [setup, &drivers, &catalog].map(|path| path.to_str().unwrap());
    let args = [name, "--iso", setup, "--virtio-win", drivers, "--catalog", catalog, "--firmware", "uefi"];
    let output = xtask(&args).args(["--accel", "tcg", "--patience", patience]).output().unwrap();
    let (code, told) = outcome(&output);
    let (stage, remove) = kept(&told);
    assert_eq!(code, 3, "{told}");
    assert!(stage.join("screen-001.png").exists() && stage.join("timeline.jsonl").exists(), "{told}");
    (told, remove)
}

/// Places of these in what was told, which must come one after the other.
fn in_order(told: &str, wanted: &[String]) {
    let mut from = 0;
    for text in wanted {
        let at = told[from..].find(text.as_str());
        from += at.unwrap_or_else(|| panic!("`{text}` is missing, or comes too early: {told}"));
    }
}

#[rstest]
#[case::beside_a_tpm("windows-11", "a-tpm")]
#[ignore = "one firmware's boot more: `-- --ignored`"]
#[case::without_one("windows-server-2022", "no-tpm")]
fn a_disc_is_booted_by_uefi(#[case] name: &str, #[case] tpm: &str) {
    let dir = tempfile::tempdir().unwrap();
    let setup = disc::setup(dir.path(), PROMPT);
    let (told, _remove) = build(dir.path(), name, &setup, PATIENCE, false);
    let said = |what: &str| format!("the guest says: {what}");
    let milestone = |milestone: Milestone| format!("s  {milestone}");
    in_order(
        &told,
        &[
            milestone(Milestone::PromptShown),
            milestone(Milestone::KeyPressed),
            said(tpm),
            said("secure-boot-off"),
            milestone(Milestone::WindowsPe),
            format!("last milestone: {}", Milestone::WindowsPe),
            "the guest shut down before the installation was finished".to_owned(),
            "Setup is starting".to_owned(),
        ],
    );
}

#[test]
#[ignore = "a minute: `-- --ignored`"]
fn under_secure_boot_an_unsigned_disc_is_refused_and_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let setup = disc::setup(dir.path(), PROMPT);
    let (told, _remove) = build(dir.path(), "windows-11", &setup, PATIENCE, true);
    assert!(told.contains(&format!("last milestone: {}", Milestone::MachineStarted)), "{told}");
    assert!(told.contains("nothing for 1.5 min") && told.contains("Secure Boot"), "{told}");
}

/// Debian's loaders for discs: shim, signed by Microsoft's authority, and GRUB, signed by Debian's. Fetched, unpacked into
/// the folder, not installed.
fn signed_loaders(dir: &Path) -> [PathBuf; 2] {
    let mut fetch = Command::new("apt-get");
    fetch.current_dir(dir).args(["-q", "-o", "APT::Sandbox::User=root", "download"]);
    let status = fetch.args(["shim-signed", "grub-efi-amd64-signed"]).status();
    assert!(status.is_ok_and(|status| status.success()), "next: apt-get update");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "deb") {
            assert!(Command::new("dpkg").arg("-x").arg(&path).arg(dir).status().unwrap().success());
        }
    }
    ["usr/lib/shim/shimx64.efi.signed", "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"]
        .map(|path| dir.join(path))
}

/// What stands for Setup's first screen here: a menu of one entry, which the key chooses. GRUB has no serial port under
/// Secure Boot, but the firmware's console is on COM1 as well; the marker begins a line of its own.
fn menu() -> String {
    format!(
        "set timeout=-1\nmenuentry \"{PROMPT}\" --hotkey=\" \" {{\n  clear\n  echo \"Setup is starting\"\n  echo\n  \
         echo \"softoff-install: windows-pe\"\n  sleep 2\n  halt\n}}\n"
    )
}

#[test]
#[ignore = "a minute, and 2 MB from Debian: `-- --ignored`"]
fn under_secure_boot_a_signed_disc_is_booted() {
    let dir = tempfile::tempdir().unwrap();
    let [shim, grub] = signed_loaders(dir.path());
    let tree = dir.path().join("setup");
    for (path, text) in [(".disk/info", "test\n".to_owned()), ("boot/grub/grub.cfg", menu())] {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let setup = disc::bootable(dir.path(), &[0; 2048], &[("BOOTX64.EFI", shim), ("grubx64.efi", grub)]);
    let (told, _remove) = build(dir.path(), "windows-11", &setup, PATIENCE, true);
    let milestones = [Milestone::PromptShown, Milestone::KeyPressed, Milestone::WindowsPe];
    in_order(&told, &milestones.map(|milestone| format!("s  {milestone}")));
    assert!(told.contains("the guest shut down before the installation was finished"), "{told}");
}
