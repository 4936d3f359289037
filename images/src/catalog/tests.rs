//! The catalogue that Softoff brings, mistakes in others', and disks that users bring.

use std::path::Path;
use std::process::Command;

use rstest::rstest;
use softoff_harness::image::DiskFormat;

use super::*;
use crate::progress::Silent;

#[test]
fn our_own_catalogue() {
    let catalog = Catalog::load(None).unwrap();
    let names: Vec<&str> = catalog.images.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "windows-server-2016",
            "windows-server-2019",
            "windows-server-2022",
            "windows-server-2025",
            "windows-10",
            "windows-11",
            "reactos"
        ]
    );
    for entry in &catalog.images {
        let windows = entry.system == System::Windows;
        assert_eq!(entry.drivers.is_some(), windows, "{}", entry.name);
        assert_eq!(entry.iso.sha256.is_some(), windows, "{}", entry.name);
        assert_eq!(entry.machine.hyperv.is_empty(), !windows, "{}", entry.name);
        assert!(
            !entry.machine.hyperv.iter().any(|flag| flag.contains("crash")),
            "hv-crash hides a bug check"
        );
        assert!(entry.quirks(&catalog).iter().all(|quirk| quirk.why.ends_with(')')), "{}", entry.name);
    }
    let eleven = catalog.get("windows-11").unwrap();
    let (uefi, bios) = (eleven.machine(FirmwareKind::Uefi), eleven.machine(FirmwareKind::Bios));
    assert!(uefi.tpm && uefi.secure_boot && !bios.tpm && !bios.secure_boot);
    assert_eq!(catalog.get("reactos").unwrap().family(), GuestFamily::Reactos);
    let error = catalog.get("windows-95").unwrap_err().to_string();
    assert!(error.contains("windows-95") && error.contains("windows-server-2022"), "{error}");
}

#[test]
fn builds_are_those_that_the_driver_tells_versions_by() {
    use softoff_harness::guest::windows_versions::VERSIONS;
    let catalog = Catalog::load(None).unwrap();
    for version in VERSIONS {
        let entry = catalog.get(version.name).unwrap();
        assert!(entry.build >= version.first_build, "{}", version.name);
        assert_eq!(entry.kind == Kind::Server, version.server, "{}", version.name);
    }
}

#[rstest]
#[case::two_of_a_name("name = \"windows-10\"", "name = \"windows-11\"", "is there twice")]
#[case::an_unknown_source(
    "source = [\"dockur\"] }",
    "source = [\"hearsay\"] }",
    "which [sources] does not list"
)]
#[case::no_source("source = [\"dockur\"] }", "source = [] }", "has no source")]
#[case::a_digest("a61adeab895ef5a4", "A61ADEAB895EF5A4", "64 lower-case")]
#[case::a_folder("name = \"reactos\"", "name = \"../reactos\"", "becomes a folder's")]
#[case::another_schema("schema = 1", "schema = 2", "this Softoff knows 1")]
#[case::a_field("kind = \"server\"", "kind = \"mainframe\"", "mainframe")]
#[case::a_mistyped_field("build = 14393", "biuld = 14393", "biuld")]
#[case::a_small_disk("default-gib = 64", "default-gib = 63", "smaller than the least")]
fn mistakes(#[case] from: &str, #[case] to: &str, #[case] told: &str) {
    assert!(OWN.contains(from));
    let error = Catalog::parse("catalog.toml", &OWN.replace(from, to)).unwrap_err().to_string();
    assert!(error.contains("catalog.toml") && error.contains(told), "{error}");
}

fn disk(dir: &Path, format: &str) -> std::path::PathBuf {
    let path = dir.join(format!("brought.{format}"));
    let made = Command::new("qemu-img").args(["create", "-q", "-f", format]).arg(&path).arg("1M").status();
    assert!(made.expect("next: apt-get install qemu-utils").success());
    path
}

#[rstest]
#[case("qcow2", DiskFormat::Qcow2, true)]
#[case("raw", DiskFormat::Raw, true)]
#[case("vhdx", DiskFormat::Qcow2, false)]
#[case("vmdk", DiskFormat::Qcow2, false)]
fn a_disk_that_a_user_brings_is_used_and_never_changed(
    #[case] format: &str,
    #[case] used: DiskFormat,
    #[case] in_place: bool,
) {
    let dir = tempfile::tempdir().unwrap();
    let (path, cache) = (disk(dir.path(), format), dir.path().join("cache"));
    let before = Sha256Hex::of_file(&path).unwrap();
    let catalog = Catalog::load(None).unwrap();
    let entry = catalog.get("windows-server-2022").unwrap();
    let brought = ReadyMade { path: &path, entry, catalog: &catalog, firmware: None };
    let image = brought.open(&cache, &Silent).unwrap();
    let system = image.file(&image.manifest.system_disk);
    assert_eq!(image.manifest.system_format, used);
    assert_eq!(system == path, in_place, "{}", system.display());
    assert_eq!((image.manifest.name.as_str(), &image.id), ("windows-server-2022-ready-made", &before));
    assert_eq!(image.manifest.boot, Boot::Uefi);
    assert_eq!(image.manifest.files[&image.manifest.system_disk], Sha256Hex::of_file(&system).unwrap());
    // An overlay on it, as every machine gets one, written to: the disk stays what it was.
    let overlay = dir.path().join("overlay.qcow2");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(softoff_harness::machine::overlay::of_image(&image, &overlay)).unwrap();
    let wrote = Command::new("qemu-io").args(["-c", "write -P 7 0 64k"]).arg(&overlay).output();
    assert!(wrote.expect("next: apt-get install qemu-utils").status.success());
    assert_eq!(Sha256Hex::of_file(&path).unwrap(), before);
}

#[test]
fn disks_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::load(None).unwrap();
    let open = |path: &Path, name: &str, firmware| {
        let entry = catalog.get(name).unwrap();
        let brought = ReadyMade { path, entry, catalog: &catalog, firmware };
        brought.open(&dir.path().join("cache"), &Silent).unwrap_err().to_string()
    };
    let base = disk(dir.path(), "qcow2");
    let overlay = dir.path().join("overlay.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .args([&base, &overlay])
        .status();
    assert!(made.unwrap().success());
    assert!(open(&overlay, "windows-10", None).contains("qemu-img convert"));
    let vdi = disk(dir.path(), "vdi");
    assert!(open(&vdi, "windows-10", None).contains("has the format vdi"));
    assert!(open(&base, "reactos", Some(FirmwareKind::Uefi)).contains("boots by bios, not by uefi"));
    assert!(open(&dir.path().join("none.qcow2"), "windows-10", None).contains("qemu-img"));
}
