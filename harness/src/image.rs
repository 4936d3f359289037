//! Images: immutable, hash-named bootable disks with their facts.
//!
//! A builder writes an image as a folder with a `manifest.json` ([`Manifest`]) beside its files; the engine
//! reads it back as an [`Image`], after checking every file against its SHA-256. The files are never
//! written again: machines work on overlays.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
}

/// The machine an image needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// qcow2 file of the system disk (C:), base of every overlay; attached with serial `system`.
    pub system_disk: String,
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

/// A verified image, ready to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The folder that holds the files.
    pub dir: PathBuf,
    /// SHA-256 over the manifest's file hashes: the image's identity in records.
    pub id: Sha256Hex,
    /// The facts.
    pub manifest: Manifest,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is not one.
    #[error("{path} is not an image manifest: {source}")]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A manifest of a later Softoff.
    #[error("{path} has manifest schema {found}, this Softoff knows 1")]
    Schema {
        /// Which file.
        path: PathBuf,
        /// The schema found.
        found: u32,
    },
    /// A file's content is not what the manifest says.
    #[error("image file {path} is damaged: SHA-256 is {found}, the manifest says {wanted}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Hash in the manifest.
        wanted: Sha256Hex,
        /// Hash of the file.
        found: Sha256Hex,
    },
    /// The manifest names a file without a hash, or one outside its folder.
    #[error("{path} names `{file}`, which has no hash or leaves the image's folder")]
    Unlisted {
        /// Which manifest.
        path: PathBuf,
        /// The file it names.
        file: String,
    },
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
        let image = Image::open_unverified(dir)?;
        for (name, wanted) in &image.manifest.files {
            let path = image.dir.join(name);
            let found = Sha256Hex::of_file(&path)
                .map_err(|source| ImageError::Read { path: path.clone(), source })?;
            if found != *wanted {
                return Err(ImageError::Damaged { path, wanted: wanted.clone(), found });
            }
        }
        Ok(image)
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
        let plain = |name: &str| Path::new(name).components().count() == 1 && !name.starts_with('.');
        let bad = manifest.named_files().into_iter().find(|f| !manifest.files.contains_key(*f));
        let bad = bad.or_else(|| manifest.files.keys().map(String::as_str).find(|f| !plain(f)));
        if let Some(file) = bad {
            return Err(ImageError::Unlisted { path, file: file.to_owned() });
        }
        Ok(Image { dir: dir.to_owned(), id: manifest.id(), manifest })
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

#[cfg(test)]
mod tests {
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
                tpm: false,
            },
            boot: Boot::Bios,
            system_disk: "system.qcow2".into(),
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
}
