//! Images: immutable, hash-named bootable disks with their facts.
//!
//! A builder writes an image as a folder with a `manifest.json` ([`Manifest`]) beside its files; the engine
//! reads it back as an [`Image`], after checking every file against its SHA-256. The files are never
//! written again: machines work on overlays.

mod error;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use error::ImageError;

/// File name of the manifest inside an image's folder.
pub const MANIFEST: &str = "manifest.json";

/// A content hash in lower-case hexadecimal, 64 characters; the default is empty, and the hash of nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Sha256Hex(pub String);

impl Sha256Hex {
    /// Hashes a whole file.
    pub fn of_file(path: &Path) -> std::io::Result<Sha256Hex> {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0u8; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            }
        }
        Ok(Sha256Hex::of_digest(&hasher.finalize()))
    }

    /// Hashes bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> Sha256Hex {
        Sha256Hex::of_digest(&Sha256::digest(bytes))
    }

    /// From a finished digest.
    pub fn of_digest(digest: &[u8]) -> Sha256Hex {
        Sha256Hex(digest.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The first twelve characters, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which operating system family an image holds. It decides what may be claimed about its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestFamily {
    /// Softoff's reference guest: Linux kernel, Wine, our own session policy. Never a Windows result.
    Reference,
    /// Real Windows, brought by the user.
    Windows,
    /// ReactOS: an NT system that anyone may download. It has no guest agent, asks no application and reads no policy.
    /// Never a Windows result.
    Reactos,
}

/// How the system disk is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBus {
    /// virtio-blk: fast, and Windows needs a driver for it (viostor).
    #[default]
    Virtio,
    /// AHCI, the bus of `q35`: Windows brings the driver.
    Sata,
    /// PIIX IDE, the bus of `pc`: what a 32-bit NT knows.
    Ide,
}

/// Format of a disk image, by QEMU's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    /// `qcow2`.
    #[default]
    Qcow2,
    /// `raw`.
    Raw,
}

impl DiskFormat {
    /// QEMU's name of it.
    pub fn name(self) -> &'static str {
        match self {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
        }
    }

    fn is_default(&self) -> bool {
        *self == DiskFormat::default()
    }
}

impl DiskBus {
    fn is_default(&self) -> bool {
        *self == DiskBus::default()
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The machine an image needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MachineFacts {
    /// QEMU machine type, `pc` or `q35`.
    pub machine: String,
    /// CPU model under TCG (`-cpu`); under KVM it is always `host`.
    pub tcg_cpu: String,
    /// Virtual processors.
    pub smp: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// `-vga` value.
    pub vga: String,
    /// Whether the machine has a TPM 2.0 (`swtpm`); its state is thrown away with the machine.
    #[serde(default)]
    pub tpm: bool,
    /// How the system disk is attached.
    #[serde(default, skip_serializing_if = "DiskBus::is_default")]
    pub disk_bus: DiskBus,
    /// Whether the firmware checks signatures (Secure Boot): OVMF's build with SMM, and Microsoft's keys.
    #[serde(default, skip_serializing_if = "is_false")]
    pub secure_boot: bool,
    /// Hyper-V enlightenments: flags of `-cpu host` under KVM. TCG offers none of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hyperv: Vec<String>,
}

/// How the machine finds its system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Boot {
    /// QEMU loads a Linux kernel itself (`-kernel`); file names are relative to the image's folder.
    Kernel {
        /// bzImage.
        kernel: String,
        /// Initial RAM disk.
        initrd: String,
        /// Kernel command line.
        cmdline: String,
        /// Read-only root file system, a raw disk with serial `root`.
        root: String,
    },
    /// SeaBIOS boots the system disk.
    Bios,
    /// OVMF boots the system disk; the variable store is copied for each machine.
    Uefi,
}

/// A fact about an image that needed finding out, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quirk {
    /// What is done differently.
    pub what: String,
    /// Why, and where that is known from.
    pub why: String,
}

/// What `manifest.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format version, 1.
    pub schema: u32,
    /// Catalogue name, such as `reference`.
    pub name: String,
    /// Operating system family.
    pub family: GuestFamily,
    /// The machine it needs.
    pub machine: MachineFacts,
    /// How it boots.
    pub boot: Boot,
    /// File of the system disk (C:), base of every overlay; attached with serial `system`.
    pub system_disk: String,
    /// Format of that file.
    #[serde(default, skip_serializing_if = "DiskFormat::is_default")]
    pub system_format: DiskFormat,
    /// qcow2 file below the system disk, where that is itself an overlay. The system disk names it without a
    /// folder, so that both go wherever the image goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_backing: Option<String>,
    /// Every file of the image and its hash.
    pub files: BTreeMap<String, Sha256Hex>,
    /// Hash of the recipe it was built from; another recipe means another build.
    pub recipe: Sha256Hex,
    /// Quirks, with reasons.
    #[serde(default)]
    pub quirks: Vec<Quirk>,
    /// Where its content came from: package name to version.
    #[serde(default)]
    pub provenance: BTreeMap<String, String>,
}

/// What shows that a file was not touched since it was hashed: hashing hundreds of megabytes before each start would cost
/// more than the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Changes with every write, and cannot be set back.
    changed: (i64, i64),
}

impl FileStamp {
    /// The file's stamp now.
    pub fn of(path: &Path) -> std::io::Result<FileStamp> {
        use std::os::unix::fs::MetadataExt;
        let meta = path.metadata()?;
        Ok(FileStamp {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// A verified image, ready to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The folder that holds the files.
    pub dir: PathBuf,
    /// SHA-256 over the manifest's file hashes: the image's identity in records.
    pub id: Sha256Hex,
    /// The facts.
    pub manifest: Manifest,
    /// The files as they were when they were hashed; empty when they never were.
    pub stamps: BTreeMap<String, FileStamp>,
}

impl Manifest {
    /// The identity of an image: the hash of its files' hashes in name order.
    pub fn id(&self) -> Sha256Hex {
        let text: String = self.files.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
        Sha256Hex::of_bytes(text.as_bytes())
    }

    /// The files of the system disk, top first.
    pub fn disk_files(&self) -> Vec<&str> {
        [Some(&self.system_disk), self.system_backing.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }

    /// The files the machine opens.
    pub fn named_files(&self) -> Vec<&str> {
        let mut named = self.disk_files();
        if let Boot::Kernel { kernel, initrd, root, .. } = &self.boot {
            named.extend([kernel.as_str(), initrd.as_str(), root.as_str()]);
        }
        named
    }
}

impl Image {
    /// Reads the manifest of an image folder and checks every file's hash.
    pub fn open(dir: &Path) -> Result<Image, ImageError> {
        let mut image = Image::open_unverified(dir)?;
        for (name, wanted) in &image.manifest.files {
            let path = image.dir.join(name);
            // Before the hash: what is written meanwhile shows later.
            let stamp =
                FileStamp::of(&path).map_err(|source| ImageError::Read { path: path.clone(), source })?;
            verify(&path, wanted)?;
            image.stamps.insert(name.clone(), stamp);
        }
        Ok(image)
    }

    /// An image whose files in `dir` have just been hashed, or copied from where they were.
    pub fn of_hashed(dir: PathBuf, id: Sha256Hex, manifest: Manifest) -> Result<Image, ImageError> {
        let mut stamps = BTreeMap::new();
        for name in manifest.files.keys() {
            let path = dir.join(name);
            let stamp = FileStamp::of(&path).map_err(|source| ImageError::Read { path, source })?;
            stamps.insert(name.clone(), stamp);
        }
        Ok(Image { dir, id, manifest, stamps })
    }

    /// Checks that the files are still the ones that were hashed. One that was touched is hashed again: a further link
    /// to it, from another image of the cache, touches a file as a write does.
    pub fn unchanged(&self) -> Result<(), ImageError> {
        for (name, wanted) in &self.manifest.files {
            let path = self.dir.join(name);
            if FileStamp::of(&path).ok().as_ref() != self.stamps.get(name) {
                verify(&path, wanted)?;
            }
        }
        Ok(())
    }

    /// Reads the manifest only; for listing, never for booting.
    pub fn open_unverified(dir: &Path) -> Result<Image, ImageError> {
        let path = dir.join(MANIFEST);
        let text = std::fs::read(&path).map_err(|source| ImageError::Read { path: path.clone(), source })?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|source| ImageError::Manifest { path: path.clone(), source })?;
        if manifest.schema != 1 {
            return Err(ImageError::Schema { path, found: manifest.schema });
        }
        // These become parts of paths and of QEMU's options.
        let facts = &manifest.machine;
        let words = [
            ("name", &manifest.name, ""),
            ("machine", &facts.machine, ",="),
            ("tcg_cpu", &facts.tcg_cpu, ",=+"),
            ("vga", &facts.vga, ""),
        ];
        let flags = facts.hyperv.iter().map(|flag| ("hyperv", flag, "="));
        if let Some((field, value, _)) =
            words.into_iter().chain(flags).find(|(_, value, more)| !is_word(value, more))
        {
            return Err(ImageError::Word { path, field, value: crate::text::printable(value, 60) });
        }
        let plain = |name: &str| Path::new(name).components().count() == 1 && !name.starts_with('.');
        let bad = manifest.named_files().into_iter().find(|f| !manifest.files.contains_key(*f));
        let bad = bad.or_else(|| manifest.files.keys().map(String::as_str).find(|f| !plain(f)));
        if let Some(file) = bad {
            return Err(ImageError::Unlisted { path, file: file.to_owned() });
        }
        Ok(Image { dir: dir.to_owned(), id: manifest.id(), manifest, stamps: BTreeMap::new() })
    }

    /// Paths of the system disk's files, top first: no machine ever writes to them.
    pub fn disk_paths(&self) -> Vec<PathBuf> {
        self.manifest.disk_files().into_iter().map(|name| self.file(name)).collect()
    }

    /// Path of one of the image's files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Letters, digits, `-`, `_` and `.`, and the characters in `more`; not hidden, and no longer than a name should be.
pub(crate) fn is_word(text: &str, more: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(c);
    (1..=100).contains(&text.len()) && text.chars().all(fits) && !text.starts_with(['.', '-'])
}

fn verify(path: &Path, wanted: &Sha256Hex) -> Result<(), ImageError> {
    let found =
        Sha256Hex::of_file(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })?;
    if found != *wanted {
        return Err(ImageError::Damaged { path: path.to_owned(), wanted: wanted.clone(), found });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
