//! A machine with a TPM: real QEMU and swtpm, firmware only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use softoff_harness::image::{Boot, GuestFamily, Image, MachineFacts, Manifest, Sha256Hex};
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::backend::Backend;
use softoff_harness::machine::command_line::{AtRestart, Memory};
use softoff_harness::machine::folder::RunFolder;
use softoff_harness::machine::{Machine, MachineConfig, overlay, tpm};
use softoff_harness::timeline::Timeline;

const LIMIT: Duration = Duration::from_secs(60);

/// An image with an empty disk: the firmware finds nothing to boot and waits.
fn empty_image(dir: &Path, tpm: bool) -> Image {
    let disk = dir.join("system.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("1M").status();
    assert!(made.expect("qemu-img; `cargo xtask doctor` tells how to get it").success());
    Image {
        dir: dir.to_owned(),
        id: Sha256Hex(String::new()),
        stamps: Default::default(),
        manifest: Manifest {
            schema: 1,
            name: "empty".into(),
            family: GuestFamily::Windows,
            machine: MachineFacts {
                machine: "q35".into(),
                tcg_cpu: "qemu64".into(),
                smp: 1,
                memory_mib: 64,
                vga: "std".into(),
                tpm,
                ..MachineFacts::default()
            },
            boot: Boot::Bios,
            system_disk: "system.qcow2".into(),
            system_format: Default::default(),
            system_backing: None,
            files: Default::default(),
            recipe: Sha256Hex(String::new()),
            quirks: vec![],
            provenance: Default::default(),
        },
    }
}

async fn start(image: &Image, folder: &RunFolder, record_dir: &Path) -> Machine {
    let system = folder.path().join("system.qcow2");
    overlay::of_image(image, &system).await.unwrap();
    let config = MachineConfig {
        image,
        overlay: &system,
        accelerator: Accelerator::Tcg,
        record_dir,
        attach: false,
        memory: Memory::Anonymous,
        spoken: Default::default(),
        backend: &Backend::Qemu,
        discs: &[],
        at_restart: AtRestart::GoesOn,
    };
    let machine = Machine::prepare(config, folder, Timeline::start()).await;
    let mut machine = machine
        .expect("a machine with a TPM: `sudo apt-get install --no-install-recommends qemu-system-x86 swtpm`");
    machine.run().await.expect("a running guest");
    machine
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tpm_is_there_and_its_state_goes_with_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let image = empty_image(dir.path(), true);
    let folder = RunFolder::create().unwrap();
    let mut machine = start(&image, &folder, dir.path()).await;

    let tpms = machine.qmp.execute_raw("query-tpm", json!({}), LIMIT).await.unwrap();
    assert_eq!(
        tpms,
        json!([{ "id": "tpm", "model": "tpm-crb", "options": { "type": "emulator", "data": { "chardev": "tpm" } } }])
    );
    let swtpm = std::fs::read_to_string(folder.path().join("tpm.pid")).unwrap();
    let swtpm = PathBuf::from(format!("/proc/{}", swtpm.trim()));
    assert_eq!(std::fs::read_to_string(swtpm.join("comm")).unwrap().trim(), tpm::SWTPM);
    // QEMU has initialised it over the control channel: the state is written.
    let state = folder.path().join(tpm::STATE);
    assert!(std::fs::read_dir(&state).unwrap().flatten().any(|f| f.metadata().unwrap().len() > 0));

    machine.clean_up().await;
    assert!(!swtpm.exists(), "swtpm outlived its machine");
    let path = folder.path().to_owned();
    drop(folder);
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_wants_none_gets_none() {
    let dir = tempfile::tempdir().unwrap();
    let image = empty_image(dir.path(), false);
    let folder = RunFolder::create().unwrap();
    let mut machine = start(&image, &folder, dir.path()).await;
    let tpms = machine.qmp.execute_raw("query-tpm", json!({}), LIMIT).await.unwrap();
    assert_eq!(tpms, json!([]));
    assert!(!folder.path().join(tpm::STATE).exists());
    machine.clean_up().await;
}
