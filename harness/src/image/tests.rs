//! Opening images: what is whole, damaged, or reaches outside.

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
fn a_manifest_cannot_reach_outside_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = write_image(dir.path());
    manifest.files.insert("../outside".into(), Sha256Hex::of_bytes(b""));
    save(dir.path(), &manifest);
    assert!(matches!(Image::open(dir.path()), Err(ImageError::Unlisted { .. })));
}
