//! From the installed disk to an image: looked at, put together, compressed, hashed, with a file that says where it came
//! from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use softoff_harness::disk::registry::read_hive;
use softoff_harness::disk::{DiskImage, Hive, fat, system_volume};
use softoff_harness::image::{DiskFormat, Image, MANIFEST, Manifest, Quirk, Sha256Hex};
use softoff_harness::inspect::{Evaluation, ImageReport};
use softoff_harness::record::utc;

use super::Build;
use super::media::CheckedMedia;
use crate::catalog::System;
use crate::progress::{Progress, step};
use crate::{cache, tools};

/// Name of the disk in the image.
const DISK: &str = "system.qcow2";

/// Beside the manifest: where the image came from, for people.
pub const PROVENANCE: &str = "provenance.json";

/// The guest agent's service, and the probe: where the first logon's script puts them.
const AGENT: &str = r"CurrentControlSet\Services\QEMU-GA";
const PROBE: &str = r"\softoff\probe.exe";

/// Days of a server's evaluation, and of a client's (learn.microsoft.com, Evaluation Center).
const SERVER_DAYS: u64 = 180;
const CLIENT_DAYS: u64 = 90;

pub(super) fn finish(
    build: &Build<'_>,
    key: &Sha256Hex,
    media: &CheckedMedia,
    answers: &Sha256Hex,
    installed: &Path,
    progress: &dyn Progress,
) -> anyhow::Result<Image> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let found = step(progress, "look at the installed disk", || look(build, installed, now))?;
    let images = cache::images(build.cache);
    std::fs::create_dir_all(&images)?;
    let work = tempfile::Builder::new().prefix(".building-").tempdir_in(&images)?;
    let made = work.path().join("image");
    std::fs::create_dir_all(&made)?;
    let disk = made.join(DISK);
    step(progress, "put the disk together and compress it", || {
        tools::run(
            tools::command("qemu-img")
                .args(["convert", "-c", "-f", "qcow2", "-O", "qcow2"])
                .arg(installed)
                .arg(&disk),
        )?;
        let mut permissions = disk.metadata()?.permissions();
        permissions.set_readonly(true);
        Ok(std::fs::set_permissions(&disk, permissions)?)
    })?;
    let digest = step(progress, "hash the disk", || Ok(Sha256Hex::of_file(&disk)?))?;
    let provenance = provenance(build, media, answers, &found, now)?;
    std::fs::write(made.join(PROVENANCE), serde_json::to_vec_pretty(&provenance)?)?;
    let manifest = Manifest {
        schema: 1,
        name: build.image_name(),
        family: build.entry.family(),
        machine: build.entry.machine(build.firmware),
        boot: build.firmware.boot(),
        system_disk: DISK.to_owned(),
        system_format: DiskFormat::Qcow2,
        system_backing: None,
        files: [(DISK.to_owned(), digest)].into(),
        recipe: key.clone(),
        quirks: quirks(build),
        provenance,
    };
    std::fs::write(made.join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)?;
    let dir = location(build, key);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot replace {}", dir.display()))?;
    }
    std::fs::rename(&made, &dir).with_context(|| format!("cannot place the image in {}", dir.display()))?;
    Ok(Image::open_unverified(&dir)?)
}

/// What is known of the system, and what its making brought with it.
fn quirks(build: &Build<'_>) -> Vec<Quirk> {
    let mut quirks = build.entry.quirks(build.catalog);
    if build.sysprep {
        quirks.push(Quirk {
            what:
                "each start on a fresh overlay configures Windows and goes through the out-of-box experience"
                    .into(),
            why: "the image is generalised, for handing out; its own answers are in C:\\softoff".into(),
        });
    }
    quirks
}

/// Where an image goes.
pub(super) fn location(build: &Build<'_>, key: &Sha256Hex) -> PathBuf {
    cache::images(build.cache).join(format!("{}-{}", build.image_name(), key.short()))
}

/// What the installed disk says of itself. A Windows disk whose registry cannot be read is no image.
fn look(build: &Build<'_>, disk: &Path, now: u64) -> anyhow::Result<BTreeMap<String, String>> {
    let disk = DiskImage::open(disk)?;
    let mut found = BTreeMap::new();
    if build.entry.system == System::Reactos {
        let volumes = fat::fat_volumes(&disk)?;
        anyhow::ensure!(!volumes.is_empty(), "the disk has no FAT volume: nothing was installed");
        found.insert("volumes".to_owned(), format!("{} FAT", volumes.len()));
        return Ok(found);
    }
    let report = ImageReport::read(&disk, now)?;
    let registry = report.registry.with_context(|| {
        let why = report.no_system.unwrap_or_else(|| "its registry cannot be read".into());
        format!("the installed disk holds no Windows that can be read: {why}")
    })?;
    check_programs(&disk)?;
    let mut add = |name: &str, text: Option<String>| text.map(|text| found.insert(name.to_owned(), text));
    add("edition", registry.edition);
    add("installation type", registry.installation_type);
    if matches!(report.evaluation, Some(Evaluation::Running { .. } | Evaluation::PerhapsExpired { .. })) {
        let client = build.entry.kind == crate::catalog::Kind::Client;
        let days = if client { CLIENT_DAYS } else { SERVER_DAYS };
        let ends = registry.installed_at.map(|at| u64::from(at) + days * 86_400);
        add("evaluation ends", ends.map(utc));
    }
    Ok(found)
}

/// The first logon's script came to its end: probe and agent are there.
fn check_programs(disk: &DiskImage) -> anyhow::Result<()> {
    let volume = system_volume(disk)?;
    let agent = read_hive(&volume, &Hive::System, |hive| hive.has_key(AGENT))?;
    let probe = volume.file_size(PROBE).is_ok();
    anyhow::ensure!(
        agent && probe,
        "the installed disk lacks {}: the script of the first logon did not come to its end; next: --restart, and look at \
         the pictures",
        if agent { PROBE } else { AGENT }
    );
    Ok(())
}

fn provenance(
    build: &Build<'_>,
    media: &CheckedMedia,
    answers: &Sha256Hex,
    found: &BTreeMap<String, String>,
    now: u64,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = found.clone();
    let mut add = |name: &str, text: String| all.insert(name.to_owned(), text);
    add("iso", media.iso.file_name().unwrap_or_default().to_string_lossy().into_owned());
    add("iso sha256", media.iso_sha256.to_string());
    add("iso held against", media.held_against.unwrap_or("nobody's record").to_owned());
    if let Some((disc, digest)) = &media.drivers {
        add("drivers", disc.file_name().unwrap_or_default().to_string_lossy().into_owned());
        add("drivers sha256", digest.to_string());
        add("driver folders", media.driver_folders.join(" "));
    }
    add("answers", answers.to_string());
    let qemu = softoff_harness::host::qemu_version(Path::new(softoff_harness::machine::QEMU))?;
    add("qemu", qemu);
    add("firmware", build.firmware.to_string());
    add("softoff", env!("CARGO_PKG_VERSION").to_owned());
    add("built", utc(now));
    if build.sysprep {
        add("sysprep", "/generalize /oobe".to_owned());
    }
    if build.hardened {
        add("hardening", crate::hardening::Profile::own()?.digest().to_string());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use regf::{DataType, HiveBuilder};

    use super::*;
    use crate::measure_disk::build_with;
    use crate::registry_diff::DISK;

    fn disk(dir: &Path, agent: bool, probe: bool) -> DiskImage {
        let mut hive = HiveBuilder::new_with_version("ROOT", 5).unwrap();
        let select = hive.create_key("Select").unwrap();
        hive.add_value(select, "Current", DataType::Dword, &[1, 0, 0, 0]).unwrap();
        if agent {
            hive.create_key(r"ControlSet001\Services\QEMU-GA").unwrap();
        }
        let mut files = vec![("Windows/System32/config/SYSTEM", hive.to_bytes().unwrap())];
        if probe {
            files.push(("softoff/probe.exe", b"MZ".to_vec()));
        }
        std::fs::create_dir_all(dir).unwrap();
        DiskImage::open(&build_with(dir, DISK, &files).unwrap()).unwrap()
    }

    #[test]
    fn an_installation_whose_script_did_not_end_is_no_image() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name: &str, agent, probe| {
            check_programs(&disk(&dir.path().join(name), agent, probe)).map_err(|e| e.to_string())
        };
        assert_eq!(check("whole", true, true), Ok(()));
        assert!(check("no-agent", false, true).unwrap_err().contains("QEMU-GA"));
        assert!(check("no-probe", true, false).unwrap_err().contains("probe.exe"));
    }
}
