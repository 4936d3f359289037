//! What has to be right before anything boots: each thing that is wrong is one clear error with its next step.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use softoff_harness::image::Sha256Hex;
use softoff_harness::machine::{QEMU, firmware, ocr, tpm};

use super::BuildError;
use crate::answer::REACTOS_ANSWERS;
use crate::catalog::{Catalog, Entry, FirmwareKind, System};
use crate::progress::{Progress, note, step};
use crate::tools;

/// The program that reads and writes discs.
pub const XORRISO: &str = "xorriso";

/// What a user brings.
#[derive(Debug, Clone)]
pub struct Media {
    /// The installation disc.
    pub iso: PathBuf,
    /// Its digest, by the user's word instead of the catalogue's.
    pub iso_sha256: Option<Sha256Hex>,
    /// The disc with virtio drivers, for systems that need it.
    pub drivers: Option<PathBuf>,
}

/// Media that were looked at.
#[derive(Debug, Clone)]
pub struct CheckedMedia {
    /// The installation disc, absolute.
    pub iso: PathBuf,
    /// Its digest.
    pub iso_sha256: Sha256Hex,
    /// Whose digest it was held against; `None`: nobody's, it is recorded only.
    pub held_against: Option<&'static str>,
    /// The drivers' disc and its digest.
    pub drivers: Option<(PathBuf, Sha256Hex)>,
    /// Folders on it that are taken: `viostor/2k22/amd64`.
    pub driver_folders: Vec<String>,
    /// Where the answers of a disc that brings its own lie on it; none for a Windows.
    pub answer_files: Vec<String>,
}

/// Looks at everything, the quick things first.
pub fn check(
    catalog: &Catalog,
    entry: &Entry,
    firmware_kind: FirmwareKind,
    disk_gib: u32,
    media: &Media,
    progress: &dyn Progress,
) -> Result<CheckedMedia, BuildError> {
    check_disk_size(entry, disk_gib)?;
    let lacks = Lacks(host_lacks(entry, firmware_kind));
    if !lacks.0.is_empty() {
        return Err(BuildError::HostLacks { lacks });
    }
    let iso = regular_file(&media.iso, "--iso", &entry.iso.file)?;
    let drivers = match (&entry.drivers, &media.drivers) {
        (None, _) => None,
        (Some(_), None) => return Err(BuildError::NoDriverDisc { name: entry.name.clone() }),
        (Some(_), Some(path)) => Some(regular_file(path, "--virtio-win", &catalog.driver_disc.file)?),
    };
    let driver_folders = match (&entry.drivers, &drivers) {
        (Some(folder), Some(disc)) => find_drivers(catalog, folder, disc)?,
        _ => Vec::new(),
    };
    let answer_files = match entry.system {
        System::Windows => Vec::new(),
        System::Reactos => find_answers(&iso)?,
    };
    let iso_sha256 = hash(&iso, progress)?;
    let held_against = check_digest(entry, media, &iso, &iso_sha256)?;
    if held_against.is_none() {
        note(progress, format!("no digest of {} is on record; it is {iso_sha256}", entry.iso.file));
    }
    let drivers = match drivers {
        Some(disc) => {
            let digest = hash(&disc, progress)?;
            Some((disc, digest))
        }
        None => None,
    };
    Ok(CheckedMedia { iso, iso_sha256, held_against, drivers, driver_folders, answer_files })
}

fn hash(path: &Path, progress: &dyn Progress) -> Result<Sha256Hex, BuildError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(step(progress, &format!("hash {name}"), || Ok(Sha256Hex::of_file(path)?))?)
}

fn check_digest(
    entry: &Entry,
    media: &Media,
    iso: &Path,
    found: &Sha256Hex,
) -> Result<Option<&'static str>, BuildError> {
    let (wanted, whose) = match (&media.iso_sha256, &entry.iso.sha256) {
        (Some(users), _) => (users, "--iso-sha256"),
        (None, Some(ours)) => (ours, "the catalogue"),
        (None, None) => return Ok(None),
    };
    if wanted == found {
        return Ok(Some(whose));
    }
    Err(BuildError::WrongDigest {
        iso: iso.to_owned(),
        found: found.clone(),
        wanted: wanted.clone(),
        whose,
        bytes: iso.metadata().map_or(0, |meta| meta.len()),
        expected_bytes: entry.iso.size,
    })
}

fn regular_file(path: &Path, option: &'static str, usual: &str) -> Result<PathBuf, BuildError> {
    if !path.is_file() {
        let usual = usual.to_owned();
        return Err(BuildError::NoMedium { path: path.to_owned(), option, usual });
    }
    std::path::absolute(path).map_err(|e| BuildError::Other(e.into()))
}

fn check_disk_size(entry: &Entry, disk_gib: u32) -> Result<(), BuildError> {
    let least = entry.disk.least_gib;
    if disk_gib < least {
        return Err(BuildError::DiskTooSmall { name: entry.name.clone(), wanted: disk_gib, least });
    }
    Ok(())
}

/// A program or file that the host lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    /// What is missing.
    pub what: &'static str,
    /// The package that brings it.
    pub package: &'static str,
    /// What for.
    pub why: &'static str,
}

/// All that the host lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacks(pub Vec<Lack>);

impl Lacks {
    /// The packages that bring it, each once.
    pub fn packages(&self) -> Vec<&'static str> {
        self.0.iter().map(|lack| lack.package).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Lack { what, why, .. }) in self.0.iter().enumerate() {
            write!(f, "{}{what} is not installed, and {why}", if number == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// What a system's installation needs of the host and does not find.
pub fn host_lacks(entry: &Entry, firmware_kind: FirmwareKind) -> Vec<Lack> {
    let (machine, windows) = (entry.machine(firmware_kind), entry.system == System::Windows);
    let program = |name: &'static str, package, why| (tools::find(name).is_some(), name, package, why);
    let mut needs = vec![
        program(QEMU, "qemu-system-x86", "the installation runs in it"),
        program("qemu-img", "qemu-utils", "the disk is made with it"),
        (ocr::available(), "tesseract", "tesseract-ocr", "the screen tells when a key is asked for"),
    ];
    if windows {
        needs.push(program(
            XORRISO,
            XORRISO,
            "the drivers' disc is read and the answer disc is made with it",
        ));
        needs.push(program("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64", "the probe is linked with it"));
    } else {
        needs.push(program(XORRISO, XORRISO, "the answers are put onto a copy of the disc with it"));
    }
    if machine.tpm {
        needs.push(program(tpm::SWTPM, "swtpm", "this system wants a TPM"));
    }
    if firmware_kind == FirmwareKind::Uefi {
        let why = if machine.secure_boot { "this system wants Secure Boot" } else { "it boots by UEFI" };
        needs.push((firmware::installed(machine.secure_boot).is_some(), "OVMF", "ovmf", why));
    }
    let missing = needs.into_iter().filter(|(here, ..)| !here);
    missing.map(|(_, what, package, why)| Lack { what, package, why }).collect()
}

/// Where the disc's own answers lie; a disc without any is no boot CD. Setup's copy lies in `I386` or in `reactos`, by
/// version, and the wizard of the first boot reads the latter.
fn find_answers(disc: &Path) -> Result<Vec<String>, BuildError> {
    let found = named(disc, REACTOS_ANSWERS)
        .map_err(|error| BuildError::NotADisc { path: disc.to_owned(), why: format!("{error:#}") })?;
    if found.is_empty() {
        return Err(BuildError::NotABootCd { disc: disc.to_owned() });
    }
    Ok(found)
}

/// Files of a disc that have that name, whatever their case and folder.
pub(super) fn named(disc: &Path, name: &str) -> anyhow::Result<Vec<String>> {
    let listed = tools::run(
        tools::command(XORRISO).arg("-indev").arg(disc).args(["-find", "/", "-type", "f", "-exec", "echo"]),
    )?;
    let paths = listed.lines().map(|line| line.trim().trim_matches('\''));
    let last = |path: &str| path.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(name));
    Ok(paths.filter(|path| path.starts_with('/') && last(path)).map(str::to_owned).collect())
}

/// The folders of the drivers' disc that serve a system. One that is needed and not there is an error.
fn find_drivers(catalog: &Catalog, system: &str, disc: &Path) -> Result<Vec<String>, BuildError> {
    let have = |path: &str| has(disc, path);
    let mut found = Vec::new();
    let description = &catalog.driver_disc;
    for (driver, needed) in description
        .needed
        .iter()
        .map(|driver| (driver, true))
        .chain(description.wanted.iter().map(|driver| (driver, false)))
    {
        let folder = format!("{driver}/{system}/amd64");
        match have(&folder)? {
            true => found.push(folder),
            false if needed => {
                return Err(BuildError::NoDriver { disc: disc.to_owned(), folder });
            }
            false => {}
        }
    }
    if !have(&description.agent)? {
        return Err(BuildError::NoDriver { disc: disc.to_owned(), folder: description.agent.clone() });
    }
    Ok(found)
}

/// Whether a path exists on a disc. xorriso complains of one that does not, and names each that does.
fn has(disc: &Path, path: &str) -> Result<bool, BuildError> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let said = tools::run(
        tools::command(XORRISO)
            .args(["-abort_on", "NEVER", "-return_with", "FATAL", "32", "-indev"])
            .arg(disc)
            .args(["-find", &format!("/{folder}"), "-maxdepth", "1", "-name", name, "-exec", "echo"]),
    )
    .map_err(|error| BuildError::NotADisc { path: disc.to_owned(), why: format!("{error:#}") })?;
    Ok(said.lines().any(|line| line.trim().trim_matches('\'') == format!("/{path}")))
}
