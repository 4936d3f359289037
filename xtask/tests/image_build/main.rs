//! `image build` as a user meets it, without a Windows and without a ReactOS: a disc that behaves like Setup's first screen
//! goes the whole way to the diagnosis of a stuck installation, in real QEMU, by BIOS and by UEFI; one that installs as
//! ReactOS' does, to an image; and what is wrong with media or host is told before anything boots.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bios;
mod disc;
mod reactos;
mod refused;
mod uefi;

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
    changed_catalog(dir, name, digest, |_| {})
}

/// The same, and with another machine.
fn changed_catalog(
    dir: &Path,
    name: &str,
    digest: &Sha256Hex,
    change: impl FnOnce(&mut toml::Table),
) -> PathBuf {
    let own = include_str!("../../../images/catalog.toml");
    let mut table: toml::Table = own.parse().unwrap();
    let images = table["image"].as_array_mut().unwrap();
    let entry = images.iter_mut().find(|image| image["name"].as_str() == Some(name)).unwrap();
    entry["iso"]["sha256"] = toml::Value::String(digest.0.clone());
    entry["iso"].as_table_mut().unwrap().remove("size");
    change(entry["machine"].as_table_mut().unwrap());
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
    let line = told.lines().find_map(|line| line.trim().strip_prefix("kept:"));
    let line = line.unwrap_or_else(|| panic!("no folder was kept: {told}"));
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
