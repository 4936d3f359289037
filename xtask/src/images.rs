//! Which images a run is about: by name, by folder, by a disk that a user brings, each plain or hardened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use softoff_harness::image::Image;
use softoff_images::catalog::{Catalog, FirmwareKind, ReadyMade, ReadyMadeError};
use softoff_images::hardening::{HardenedImage, Profile, SUFFIX};
use softoff_images::{cache_root, windows};

use crate::commands::image::Firmware;
use crate::{Failure, ui};

/// The options that say what a disk holds.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DiskArgs {
    /// What a disk given by its path holds: a name of `cargo xtask image catalog`
    #[arg(long, value_name = "NAME")]
    family: Option<String>,
    /// The firmware that boots such a disk; the system's usual one when absent
    #[arg(long, value_enum, requires = "family")]
    firmware: Option<Firmware>,
    /// A catalogue of your own instead of Softoff's
    #[arg(long, value_name = "FILE", requires = "family")]
    catalog: Option<PathBuf>,
}

/// An image that was chosen.
pub(crate) struct Chosen {
    /// The image, under its hardened name where it is.
    pub(crate) image: Arc<Image>,
    /// The profile, and what it writes.
    pub(crate) hardened: Option<(Arc<Profile>, HardenedImage)>,
}

/// What a word of the command line stands for, before anything is opened.
enum Word<'a> {
    Reference,
    Folder(&'a Path),
    Disk(&'a Path),
    Built(PathBuf),
}

fn word<'a>(name: &'a str, disk: &DiskArgs) -> Result<Word<'a>, Failure> {
    let path = Path::new(name);
    if name == "reference" {
        return Ok(Word::Reference);
    }
    if path.is_dir() {
        return Ok(Word::Folder(path));
    }
    if path.is_file() {
        if disk.family.is_none() {
            let what = format!(
                "{name} is a disk: say what it holds with --family, such as --family windows-server-2022; `cargo xtask image \
                 catalog` shows the names"
            );
            return Err(Failure::Usage(anyhow!(what)));
        }
        return Ok(Word::Disk(path));
    }
    let built = windows::newest(&cache_root(), name);
    built.map(Word::Built).ok_or_else(|| {
        let what = format!(
            "there is no image `{name}`: give `reference`, the path of an image folder, the path of a disk with --family, or \
             the name of an image that was built (`cargo xtask image list`); {SUFFIX} behind any of these hardens it"
        );
        Failure::Usage(anyhow!(what))
    })
}

/// The name without what asks for hardening, and whether that was there. A name that is itself a file or folder stands
/// for that, and so does one that was built hardened where its plain image is not there.
fn plain<'a>(name: &'a str, disk: &DiskArgs) -> (&'a str, bool) {
    match name.strip_suffix(SUFFIX) {
        Some(_) if Path::new(name).exists() => (name, false),
        Some(plain) if word(plain, disk).is_err() && windows::newest(&cache_root(), name).is_some() => {
            (name, false)
        }
        Some(plain) if !plain.is_empty() => (plain, true),
        _ => (name, false),
    }
}

/// Whether all of them are there, as far as that can be told without building or opening one.
pub(crate) fn check(names: &[String], disk: &DiskArgs) -> Result<(), Failure> {
    names.iter().try_for_each(|name| word(plain(name, disk).0, disk).map(drop))
}

/// Opens them; builds the reference image where the cache does not have it.
pub(crate) fn choose(names: &[String], disk: &DiskArgs) -> Result<Vec<Chosen>, Failure> {
    names.iter().map(|name| open(name, disk)).collect()
}

fn open(name: &str, disk: &DiskArgs) -> Result<Chosen, Failure> {
    let (plain, hardened) = plain(name, disk);
    let unusable = || format!("the image {plain} cannot be used");
    let image = match word(plain, disk)? {
        Word::Reference => ui::build::reference()?,
        Word::Folder(dir) => Image::open(dir).with_context(unusable)?,
        Word::Built(dir) => Image::open(&dir).with_context(unusable)?,
        Word::Disk(path) => ready_made(path, disk)?,
    };
    if !hardened {
        return Ok(Chosen { image: Arc::new(image), hardened: None });
    }
    let profile = Arc::new(Profile::own()?);
    let hardened = HardenedImage::of(&image, &profile).with_context(|| format!("hardening {plain}"))?;
    Ok(Chosen { image: hardened.image.clone(), hardened: Some((profile, hardened)) })
}

fn ready_made(path: &Path, disk: &DiskArgs) -> Result<Image, Failure> {
    let usage = |e: ReadyMadeError| match e {
        ReadyMadeError::Other(error) => Failure::Infra(Some(error)),
        other => Failure::Usage(other.into()),
    };
    let catalog = Catalog::load(disk.catalog.as_deref()).map_err(|e| usage(e.into()))?;
    let entry = catalog.get(disk.family.as_deref().unwrap_or_default()).map_err(|e| usage(e.into()))?;
    let firmware = disk.firmware.map(FirmwareKind::from);
    let disk = ReadyMade { path, entry, catalog: &catalog, firmware };
    ui::build::showing(&entry.name, |progress| disk.open(&cache_root(), progress))?.map_err(usage)
}
