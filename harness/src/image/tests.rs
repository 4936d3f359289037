//! Opening images: what is whole, damaged, changed underneath, or reaches outside.

use super::*;

fn write_image(dir: &Path) -> Manifest {
    std::fs::write(dir.join("system.qcow2"), b"disk").unwrap();
    let manifest = Manifest {
        schema: 1,
        name: "test".into(),
        family: GuestFamily::Reference,
        machine: MachineFacts {
            machine: "pc".into(),
            tcg_cpu: "qemu64".into(),
            smp: 1,
            memory_mib: 64,
            vga: "std".into(),
            ..MachineFacts::default()
        },
        boot: Boot::Bios,
        system_disk: "system.qcow2".into(),
        system_format: DiskFormat::Qcow2,
        system_backing: None,
        files: [("system.qcow2".to_owned(), Sha256Hex::of_bytes(b"disk"))].into(),
        recipe: Sha256Hex::of_bytes(b""),
        quirks: vec![],
        provenance: BTreeMap::new(),
    };
    save(dir, &manifest);
    manifest
}

fn save(dir: &Path, manifest: &Manifest) {
    std::fs::write(dir.join(MANIFEST), serde_json::to_vec(manifest).unwrap()).unwrap();
}

#[test]
fn a_whole_image_opens_under_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = write_image(dir.path());
    assert_eq!(Image::open(dir.path()).unwrap().id, manifest.id());
}

#[test]
fn a_changed_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_image(dir.path());
    std::fs::write(dir.path().join("system.qcow2"), b"disc").unwrap();
    assert!(
        matches!(Image::open(dir.path()), Err(ImageError::Damaged { path, .. }) if path.ends_with("system.qcow2"))
    );
}

#[test]
fn what_lies_below_the_system_disk_is_checked_like_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = write_image(dir.path());
    manifest.system_backing = Some("volume.qcow2".into());
    save(dir.path(), &manifest);
    assert!(
        matches!(Image::open(dir.path()), Err(ImageError::Unlisted { file, .. }) if file == "volume.qcow2")
    );
    manifest.files.insert("volume.qcow2".into(), Sha256Hex::of_bytes(b"below"));
    save(dir.path(), &manifest);
    std::fs::write(dir.path().join("volume.qcow2"), b"below").unwrap();
    let image = Image::open(dir.path()).unwrap();
    assert_eq!(image.disk_paths(), [dir.path().join("system.qcow2"), dir.path().join("volume.qcow2")]);
    std::fs::write(dir.path().join("volume.qcow2"), b"bellow").unwrap();
    assert!(
        matches!(Image::open(dir.path()), Err(ImageError::Damaged { path, .. }) if path.ends_with("volume.qcow2"))
    );
}

#[test]
fn what_is_changed_underneath_is_noticed_and_a_new_link_is_no_change() {
    let dir = tempfile::tempdir().unwrap();
    write_image(dir.path());
    let image = Image::open(dir.path()).unwrap();
    let disk = dir.path().join("system.qcow2");
    std::fs::hard_link(&disk, dir.path().join("link")).unwrap();
    assert!(FileStamp::of(&disk).unwrap() != image.stamps["system.qcow2"]);
    image.unchanged().unwrap();
    let modified = disk.metadata().unwrap().modified().unwrap();
    std::fs::write(&disk, b"disc").unwrap();
    // Even with the time that it had.
    std::fs::File::open(&disk).unwrap().set_modified(modified).unwrap();
    assert!(matches!(image.unchanged(), Err(ImageError::Damaged { .. })));
}

#[test]
fn a_name_is_no_path_and_no_option() {
    let dir = tempfile::tempdir().unwrap();
    let good = write_image(dir.path());
    let bad = |change: fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        save(dir.path(), &manifest);
        matches!(Image::open(dir.path()), Err(ImageError::Word { .. }))
    };
    assert!(bad(|m| m.name = "../../x".into()));
    assert!(bad(|m| m.name = "x,sandbox=off".into()));
    assert!(bad(|m| m.name = "\u{1b}]0;x".into()));
    assert!(bad(|m| m.name = String::new()));
    assert!(bad(|m| m.machine.machine = "pc,firmware=/etc/shadow".into()));
    assert!(bad(|m| m.machine.vga = "std -nic user".into()));
    assert!(!bad(|m| m.machine.tcg_cpu = "max,smap=off,+x2apic".into()));
}

#[test]
fn a_manifest_cannot_reach_outside_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = write_image(dir.path());
    manifest.files.insert("../outside".into(), Sha256Hex::of_bytes(b""));
    save(dir.path(), &manifest);
    assert!(matches!(Image::open(dir.path()), Err(ImageError::Unlisted { .. })));
}
