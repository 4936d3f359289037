//! The catalogue: which systems can be built from a user's media, and what is known of each.
//!
//! Data in `images/catalog.toml`, checked when it is read: every source that a fact names is listed, names are unique,
//! a digest is one. A file of the same shape can take its place (`--catalog FILE`).

mod ready_made;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use softoff_harness::image::{Boot, GuestFamily, MachineFacts, Quirk, Sha256Hex};

pub use ready_made::{ReadyMade, ReadyMadeError};

/// The catalogue that Softoff brings.
const OWN: &str = include_str!("../../catalog.toml");

/// Which firmware boots a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    /// OVMF, disks with GPT.
    Uefi,
    /// SeaBIOS, disks with an MBR.
    Bios,
}

impl FirmwareKind {
    /// How an image with it boots.
    pub fn boot(self) -> Boot {
        match self {
            FirmwareKind::Uefi => Boot::Uefi,
            FirmwareKind::Bios => Boot::Bios,
        }
    }
}

impl fmt::Display for FirmwareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FirmwareKind::Uefi => "uefi",
            FirmwareKind::Bios => "bios",
        })
    }
}

/// Who made a system: how it is installed follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Microsoft Windows.
    Windows,
    /// ReactOS.
    Reactos,
}

/// What a system is for; several of Windows' defaults differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A server.
    Server,
    /// A desktop.
    Client,
}

/// A quirk as the file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogQuirk {
    /// What is done or seen differently.
    pub what: String,
    /// Why.
    pub why: String,
    /// Names of [`Catalog::sources`].
    pub source: Vec<String>,
}

/// The installation disc.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Iso {
    /// Its file name at its publisher's.
    pub file: String,
    /// Its size in bytes, where known.
    #[serde(default)]
    pub size: Option<u64>,
    /// Its digest, where a trustworthy record exists.
    #[serde(default)]
    pub sha256: Option<Sha256Hex>,
    /// Who recorded them.
    pub source: Vec<String>,
}

/// Which edition of an installation disc is installed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edition {
    /// Index in `sources\install.wim`, from 1.
    pub index: u32,
    /// Its name, for people.
    pub name: String,
}

/// Sizes of the system disk.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskSizes {
    /// What is made unless told otherwise, GiB.
    pub default_gib: u32,
    /// Below this Setup refuses or runs out of room, GiB.
    pub least_gib: u32,
}

/// The disc with virtio drivers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriverDisc {
    /// Its file name at its publisher's.
    pub file: String,
    /// Who describes its layout.
    pub source: String,
    /// Drivers without which a machine cannot be installed or talked to.
    pub needed: Vec<String>,
    /// Drivers that are taken along where the disc has them.
    pub wanted: Vec<String>,
    /// Path of the guest agent's installer on it.
    pub agent: String,
}

/// Flags of `-cpu host` for Windows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hyperv {
    /// The flags.
    pub flags: Vec<String>,
    /// Why these.
    pub why: String,
    /// Names of [`Catalog::sources`].
    pub source: Vec<String>,
}

/// One system of the catalogue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name on the command line.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// Who made it.
    pub system: System,
    /// What it is for.
    pub kind: Kind,
    /// The build number that its registry and its agent tell; 0 where that says nothing.
    pub build: u32,
    /// What is installed of its disc; a system without editions has none.
    #[serde(default)]
    pub editions: Option<Edition>,
    /// Firmware it can be installed with, the usual one first.
    pub firmware: Vec<FirmwareKind>,
    /// Its folder below each driver's on the driver disc; a system without has drivers of its own.
    #[serde(default)]
    pub drivers: Option<String>,
    /// Sizes of its system disk.
    pub disk: DiskSizes,
    /// Why the machine has the memory that it has.
    pub memory: String,
    /// Its installation disc.
    pub iso: Iso,
    /// The machine.
    pub machine: MachineFacts,
    /// What is known of it.
    #[serde(default, rename = "quirk")]
    pub quirks: Vec<CatalogQuirk>,
}

/// The catalogue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Catalog {
    /// Format version, 1.
    pub schema: u32,
    /// Where facts come from: short name to place.
    pub sources: BTreeMap<String, String>,
    /// The disc with virtio drivers.
    pub driver_disc: DriverDisc,
    /// Enlightenments of every Windows.
    pub hyperv: Hyperv,
    /// The systems.
    #[serde(rename = "image")]
    pub images: Vec<Entry>,
}

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file cannot be read.
    #[error("cannot read the catalogue {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It has another shape.
    #[error("{place} is not a catalogue: {source}")]
    Shape {
        /// The file, or words for our own.
        place: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Its parts contradict each other.
    #[error("{place}: {what}")]
    Contradiction {
        /// The file, or words for our own.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// It has no such system.
    #[error("the catalogue has no `{name}`; it has {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
}

impl Catalog {
    /// Reads a file, or Softoff's own catalogue.
    pub fn load(file: Option<&Path>) -> Result<Catalog, CatalogError> {
        match file {
            None => Catalog::parse("Softoff's own catalogue", OWN),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| CatalogError::Read { path: path.to_owned(), source })?;
                Catalog::parse(&path.display().to_string(), &text)
            }
        }
    }

    fn parse(place: &str, text: &str) -> Result<Catalog, CatalogError> {
        let place = place.to_owned();
        let mut catalog: Catalog = toml::from_str(text)
            .map_err(|source| CatalogError::Shape { place: place.clone(), source: Box::new(source) })?;
        catalog.check().map_err(|what| CatalogError::Contradiction { place, what })?;
        for entry in catalog.images.iter_mut().filter(|entry| entry.system == System::Windows) {
            entry.machine.hyperv.clone_from(&catalog.hyperv.flags);
        }
        Ok(catalog)
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != 1 {
            return Err(format!("its schema is {}, this Softoff knows 1", self.schema));
        }
        let facts = self.images.iter().flat_map(|image| {
            let quirks = image.quirks.iter().flat_map(|quirk| &quirk.source);
            quirks.chain(&image.iso.source).map(|source| (image.name.as_str(), source))
        });
        let shared = self.hyperv.source.iter().chain([&self.driver_disc.source]).map(|s| ("all", s));
        if let Some((of, source)) =
            facts.chain(shared).find(|(_, source)| !self.sources.contains_key(*source))
        {
            return Err(format!("`{of}` names the source `{source}`, which [sources] does not list"));
        }
        for (number, image) in self.images.iter().enumerate() {
            let wrong = |what: &str| Err(format!("`{}`: {what}", image.name));
            if self.images.iter().skip(number + 1).any(|other| other.name == image.name) {
                return wrong("is there twice");
            }
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if image.name.is_empty() || !image.name.chars().all(plain) {
                return wrong("a name has lower-case letters, digits and `-` only: it becomes a folder's");
            }
            if image.firmware.is_empty() {
                return wrong("has no firmware");
            }
            if image.disk.default_gib < image.disk.least_gib {
                return wrong("its default disk is smaller than the least");
            }
            let hex = |digest: &Sha256Hex| {
                digest.0.len() == 64 && digest.0.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            };
            if image.iso.sha256.as_ref().is_some_and(|digest| !hex(digest)) {
                return wrong("sha256 is not 64 lower-case hexadecimal digits");
            }
            if image.iso.source.is_empty() || image.quirks.iter().any(|quirk| quirk.source.is_empty()) {
                return wrong("a fact has no source");
            }
            if (image.system == System::Windows) != image.editions.is_some() {
                return wrong("a Windows has an edition to install, and only a Windows");
            }
        }
        Ok(())
    }

    /// One system.
    pub fn get(&self, name: &str) -> Result<&Entry, CatalogError> {
        self.images.iter().find(|image| image.name == name).ok_or_else(|| CatalogError::Unknown {
            name: name.to_owned(),
            known: self.images.iter().map(|image| image.name.clone()).collect(),
        })
    }
}

impl Entry {
    /// The family that may be claimed of its results.
    pub fn family(&self) -> GuestFamily {
        match self.system {
            System::Windows => GuestFamily::Windows,
            System::Reactos => GuestFamily::Reactos,
        }
    }

    /// The machine with that firmware: Secure Boot and, with it, the TPM are UEFI's.
    pub fn machine(&self, firmware: FirmwareKind) -> MachineFacts {
        let mut machine = self.machine.clone();
        if firmware == FirmwareKind::Bios {
            (machine.secure_boot, machine.tpm) = (false, false);
        }
        machine
    }

    /// Its quirks as a manifest has them.
    pub fn quirks(&self, catalog: &Catalog) -> Vec<Quirk> {
        let place = |name: &String| catalog.sources.get(name).cloned().unwrap_or_default();
        let why = |quirk: &CatalogQuirk| {
            let places: Vec<String> = quirk.source.iter().map(place).collect();
            format!("{} ({})", quirk.why, places.join("; "))
        };
        self.quirks.iter().map(|quirk| Quirk { what: quirk.what.clone(), why: why(quirk) }).collect()
    }
}
