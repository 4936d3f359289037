//! Disks that a user brings ready-made: qcow2 and raw are used where they are, VHDX and VMDK through a copy in the cache.
//! None is ever written to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use softoff_harness::image::{DiskFormat, Image, Manifest, Sha256Hex};

use super::{Catalog, CatalogError, Entry, FirmwareKind};
use crate::progress::{Progress, step};
use crate::tools;

/// A disk, and what it is said to hold.
#[derive(Debug)]
pub struct ReadyMade<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its system in the catalogue.
    pub entry: &'a Entry,
    /// The catalogue.
    pub catalog: &'a Catalog,
    /// The firmware that boots it; the system's usual one when absent.
    pub firmware: Option<FirmwareKind>,
}

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadyMadeError {
    /// The catalogue does not help.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It stands on another file.
    #[error(
        "{} is an overlay on {backing}: what it holds may change below it; next: `qemu-img convert -O qcow2 {} WHOLE.qcow2`, \
         and give that", path.display(), path.display()
    )]
    Overlay {
        /// The file.
        path: PathBuf,
        /// What it names.
        backing: String,
    },
    /// QEMU knows the format, and Softoff does not use it.
    #[error("{} has the format {format}; Softoff takes qcow2, raw, vhdx and vmdk", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// QEMU's name of the format.
        format: String,
    },
    /// The system does not boot by this firmware.
    #[error("{name} boots by {}, not by {wanted}", known.join(" or "))]
    Firmware {
        /// The system.
        name: String,
        /// What was asked for.
        wanted: FirmwareKind,
        /// What it can.
        known: Vec<String>,
    },
    /// Something else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl ReadyMade<'_> {
    /// The image. Its name in records is the catalogue's with `-ready-made` behind it; its identity, the file's digest.
    pub fn open(&self, cache_root: &Path, progress: &dyn Progress) -> Result<Image, ReadyMadeError> {
        let firmware = self.firmware()?;
        let info = info(self.path)?;
        let format = info.get("format").and_then(Value::as_str).unwrap_or("unknown");
        if let Some(backing) = info.get("backing-filename").and_then(Value::as_str) {
            return Err(ReadyMadeError::Overlay { path: self.path.to_owned(), backing: backing.to_owned() });
        }
        let digest =
            step(progress, &format!("hash {}", self.path.display()), || Ok(Sha256Hex::of_file(self.path)?))?;
        let (file, format, used) = match format {
            "qcow2" => (self.path.to_owned(), DiskFormat::Qcow2, digest.clone()),
            "raw" => (self.path.to_owned(), DiskFormat::Raw, digest.clone()),
            // The disk reader knows neither; QEMU's own converter does.
            "vhdx" | "vmdk" => {
                let copy = self.converted(format, &digest, cache_root, progress)?;
                let hash = Sha256Hex::of_file(&copy).map_err(anyhow::Error::from)?;
                (copy, DiskFormat::Qcow2, hash)
            }
            other => {
                return Err(ReadyMadeError::Format { path: self.path.to_owned(), format: other.to_owned() });
            }
        };
        let file = std::path::absolute(&file).map_err(anyhow::Error::from)?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let dir = file.parent().unwrap_or(Path::new("/")).to_owned();
        let manifest = Manifest {
            schema: 1,
            name: format!("{}-ready-made", self.entry.name),
            family: self.entry.family(),
            machine: self.entry.machine(firmware),
            boot: firmware.boot(),
            system_disk: name.clone(),
            system_format: format,
            system_backing: None,
            files: [(name, used)].into(),
            recipe: digest.clone(),
            quirks: self.entry.quirks(self.catalog),
            provenance: BTreeMap::from([("disk".to_owned(), self.path.display().to_string())]),
        };
        Ok(Image::of_hashed(dir, digest, manifest).map_err(anyhow::Error::from)?)
    }

    fn firmware(&self) -> Result<FirmwareKind, ReadyMadeError> {
        let usual = self.entry.firmware.first().copied().unwrap_or(FirmwareKind::Bios);
        match self.firmware {
            Some(wanted) if !self.entry.firmware.contains(&wanted) => Err(ReadyMadeError::Firmware {
                name: self.entry.name.clone(),
                wanted,
                known: self.entry.firmware.iter().map(FirmwareKind::to_string).collect(),
            }),
            wanted => Ok(wanted.unwrap_or(usual)),
        }
    }

    fn converted(
        &self,
        format: &str,
        digest: &Sha256Hex,
        cache_root: &Path,
        progress: &dyn Progress,
    ) -> anyhow::Result<PathBuf> {
        let folder = cache_root.join("ready-made");
        let done = folder.join(format!("{}.qcow2", digest.short()));
        if done.exists() {
            return Ok(done);
        }
        std::fs::create_dir_all(&folder)?;
        let part = tempfile::Builder::new().prefix(".converting-").tempfile_in(&folder)?;
        step(progress, &format!("copy {} into the cache as qcow2", self.path.display()), || {
            tools::run(
                tools::command("qemu-img")
                    .args(["convert", "-f", format, "-O", "qcow2"])
                    .arg(self.path)
                    .arg(part.path()),
            )?;
            part.persist(&done)?;
            Ok(())
        })?;
        Ok(done)
    }
}

fn info(path: &Path) -> anyhow::Result<Value> {
    let said = tools::run(tools::command("qemu-img").args(["info", "--output=json"]).arg(path))?;
    Ok(serde_json::from_str(&said)?)
}
