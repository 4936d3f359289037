//! `image build` of a Windows as a user meets it, without a Windows: a disc that behaves like Setup's first screen goes
//! the whole way to the diagnosis of a stuck installation, in real QEMU; and what is wrong with media or host is told
//! before anything boots.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod disc;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rstest::rstest;
use softoff_harness::image::Sha256Hex;
use softoff_images::windows::milestone::Milestone;

const NAME: &str = "windows-server-2022";
const FOLDERS: [&str; 3] = ["viostor/2k22/amd64", "vioserial/2k22/amd64", "NetKVM/2k22/amd64"];
const PROMPT: &str = "Press any key to boot from CD or DVD...";

fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["image", "build"]).args(args).env("NO_COLOR", "1").env("CI", "1");
    command
}

fn outcome(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().unwrap_or(-1), text)
}

/// Softoff's catalogue with another digest for one disc.
fn catalog(dir: &Path, name: &str, digest: &Sha256Hex) -> PathBuf {
    let own = include_str!("../../../images/catalog.toml");
    let mut table: toml::Table = own.parse().unwrap();
    let images = table["image"].as_array_mut().unwrap();
    let entry = images.iter_mut().find(|image| image["name"].as_str() == Some(name)).unwrap();
    entry["iso"]["sha256"] = toml::Value::String(digest.0.clone());
    entry["iso"].as_table_mut().unwrap().remove("size");
    let file = dir.join("catalog.toml");
    std::fs::write(&file, table.to_string()).unwrap();
    file
}

/// The folder that a stuck installation names, with everything that was kept; removed after the test.
struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn kept(told: &str) -> (PathBuf, Kept) {
    let line = told.lines().find_map(|line| line.trim().strip_prefix("kept:")).expect("a folder");
    let stage = PathBuf::from(line.trim());
    let work = stage.parent().unwrap().to_owned();
    assert!(work.parent().unwrap().ends_with("building"), "{}", work.display());
    (stage, Kept(work))
}

#[rstest]
#[case::the_key_is_asked_for(PROMPT, Milestone::WindowsPe)]
#[case::no_key_is_asked_for("Insert the other disc", Milestone::MachineStarted)]
fn a_disc_that_behaves_like_setup_goes_all_the_way_to_a_diagnosis(
    #[case] prompt: &str,
    #[case] last: Milestone,
) {
    let dir = tempfile::tempdir().unwrap();
    let (setup, drivers) = (disc::setup(dir.path(), prompt), disc::drivers(dir.path(), &FOLDERS));
    let catalog = catalog(dir.path(), NAME, &Sha256Hex::of_file(&setup).unwrap());
    let paths = [&setup, &drivers, &catalog].map(|path| path.to_str().unwrap());
    let args = [
        NAME,
        "--iso",
        paths[0],
        "--virtio-win",
        paths[1],
        "--catalog",
        paths[2],
        "--firmware",
        "bios",
        "--patience",
        "10",
        "--accel",
        "tcg",
    ];
    let (code, told) = outcome(&xtask(&args).output().unwrap());
    let (stage, _remove) = kept(&told);
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("came to a stand") && told.contains(&format!("last milestone: {last}")), "{told}");
    assert!(told.contains("nothing for 0.2 min") && told.contains("--restart begins anew"), "{told}");
    let asked = last == Milestone::WindowsPe;
    for milestone in [Milestone::PromptShown, Milestone::KeyPressed, Milestone::WindowsPe] {
        assert_eq!(told.contains(&format!("s  {milestone}")), asked, "{milestone}: {told}");
    }
    // The screen at the end, read: what Setup showed after the key, or what it asked for instead.
    let shown = if asked { "Setup is starting" } else { "Insert the other disc" };
    assert!(told.lines().any(|line| line.contains("it reads:") && line.contains(shown)), "{told}");
    assert_eq!(told.contains("Setup began and wrote nothing"), asked, "{told}");
    // Everything for a look: pictures, timeline, the answer disc beside them.
    assert!(stage.join("screen-001.png").exists() && stage.join("timeline.jsonl").exists());
    read_back(&stage.parent().unwrap().join("answers.iso"));
}

/// The answer disc, by other code than made it.
fn read_back(disc: &Path) {
    let isoinfo = |args: &[&str]| {
        let output = Command::new("isoinfo").arg("-J").args(args).arg("-i").arg(disc).output();
        let output = output.expect("next: cargo xtask doctor --install");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let list = String::from_utf8(isoinfo(&["-f"])).unwrap();
    for path in [
        "/autounattend.xml",
        "/softoff/first-logon.cmd",
        "/softoff/probe.exe",
        "/softoff/qemu-ga-x86_64.msi",
        "/softoff/drivers/viostor/driver.inf",
        "/softoff/drivers/vioserial/driver.sys",
        "/softoff/drivers/NetKVM/driver.cat",
    ] {
        assert!(list.lines().any(|line| line == path), "{path} is not in {list}");
    }
    assert!(!list.contains(".pdb"), "{list}");
    let xml = isoinfo(&["-x", "/autounattend.xml"]);
    let xml = String::from_utf8(xml).unwrap();
    assert!(
        xml.contains("Microsoft-Windows-PnpCustomizationsWinPE") && xml.trim_end().ends_with("</unattend>")
    );
    assert_eq!(isoinfo(&["-x", "/softoff/drivers/viostor/driver.inf"]), b"viostor/2k22/amd64/driver.inf\n");
    let probe = isoinfo(&["-x", "/softoff/probe.exe"]);
    assert!(probe.starts_with(b"MZ") && probe.len() > 50_000, "{} bytes", probe.len());
}

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

#[test]
fn a_missing_swtpm_is_told_before_anything_boots() {
    let dir = tempfile::tempdir().unwrap();
    let (setup, drivers) =
        (disc::setup(dir.path(), PROMPT), disc::drivers(dir.path(), &["viostor/w11/amd64"]));
    // A host with QEMU and nothing else.
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let qemu = softoff_images::tools::find("qemu-system-x86_64").expect("next: cargo xtask doctor --install");
    std::os::unix::fs::symlink(qemu, bin.join("qemu-system-x86_64")).unwrap();
    let args = ["windows-11", "--iso", setup.to_str().unwrap(), "--virtio-win", drivers.to_str().unwrap()];
    let output = xtask(&args).args(["--accel", "tcg"]).env("PATH", &bin).output().unwrap();
    let (code, told) = outcome(&output);
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("swtpm is not installed, and this system wants a TPM"), "{told}");
    assert!(told.contains("apt-get install --no-install-recommends swtpm"), "{told}");
}

#[rstest]
#[case::no_disc(&[NAME], "give --iso FILE (usually SERVER_EVAL_x64FRE_en-us.iso)")]
#[case::no_such_disc(&[NAME, "--iso", "/nowhere/x.iso", "--virtio-win", "/nowhere/v.iso", "--firmware", "bios"], "--iso names /nowhere/x.iso")]
#[case::no_such_system(&["windows-95", "--iso", "x"], "windows-server-2022")]
#[case::a_disc_for_the_reference(&["reference", "--iso", "x"], "not from a disc")]
#[case::no_digest(&[NAME, "--iso", "x", "--iso-sha256", "abc"], "64 hexadecimal digits")]
#[case::no_catalogue(&[NAME, "--iso", "x", "--catalog", "/nowhere/catalog.toml"], "/nowhere/catalog.toml")]
#[case::uefi_reactos(&["reactos", "--iso", "x", "--firmware", "uefi"], "reactos is installed with bios")]
fn wrong_usage(#[case] args: &[&str], #[case] hint: &str) {
    let (code, told) = outcome(&xtask(args).output().unwrap());
    assert_eq!(code, 2, "{told}");
    assert!(told.contains(hint), "{told}");
}
