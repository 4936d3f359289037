//! What decides the content of a reference image and of the layers it is made from, as hashes.
//!
//! The image's folder is named after the hash of everything, so that a change of the builder, of a guest program,
//! of the profile or of a locked dependency makes a new image, and an old one stays what it was. The layers that
//! the cache keeps are named after less ([`BASE`], [`VOLUME`]): what did not change is not made again. Versions of
//! Debian packages are not part of the image's hash (they are not known before the build), nor is the compiler's:
//! the packages are in the base's, and the manifest lists them as provenance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use softoff_harness::image::Sha256Hex;

use super::contents::OwnFile;
use super::packages;

/// The builder itself, as compiled in: a stale binary thereby never claims the recipe of newer source.
const BUILDER: &[(&str, &[u8])] = &[
    ("builder/mod.rs", include_bytes!("mod.rs")),
    ("builder/packages.rs", include_bytes!("packages.rs")),
    ("builder/root.rs", include_bytes!("root.rs")),
    ("builder/prefix.rs", include_bytes!("prefix.rs")),
    ("builder/base.rs", include_bytes!("base.rs")),
    ("builder/programs.rs", include_bytes!("programs.rs")),
    ("builder/initramfs.rs", include_bytes!("initramfs.rs")),
    ("builder/disks.rs", include_bytes!("disks.rs")),
    ("builder/volume.rs", include_bytes!("volume.rs")),
    ("builder/contents.rs", include_bytes!("contents.rs")),
    ("builder/populate.rs", include_bytes!("populate.rs")),
    ("builder/hives.rs", include_bytes!("hives.rs")),
    ("builder/recipe.rs", include_bytes!("recipe.rs")),
    ("builder/toolchain.rs", include_bytes!("../toolchain.rs")),
];

/// How cargo builds the guest's programs: the profile, and the locked dependencies.
const WORKSPACE: &[&str] = &["Cargo.toml", "Cargo.lock"];

/// The base, beside its package files: the steps before any program of ours.
const BASE: &[&str] = &["builder/packages.rs", "builder/root.rs", "builder/prefix.rs", "builder/base.rs"];

/// The disk's lower layer, beside the base. Of PID 1 only what writes the volume, and chooses it.
const VOLUME: &[&str] = &[
    "builder/disks.rs",
    "builder/volume.rs",
    "builder/populate.rs",
    "guest/init/src/populate.rs",
    "guest/init/src/block.rs",
];

/// The hives: their content as data, and the locked crate that writes them.
const HIVES: &[&str] = &["builder/hives.rs", "workspace/Cargo.lock"];

/// The disk's upper layer, beside the lower one and what decides the files on it.
const SYSTEM: &[&str] = &["builder/contents.rs"];

/// Everything that was read, by name: `builder/...`, `guest/...`, `workspace/...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources(BTreeMap<String, Sha256Hex>);

impl Sources {
    /// Reads the source tree. Building the guest's programs needs it anyway.
    pub(crate) fn read() -> anyhow::Result<Sources> {
        let compiled = BUILDER.iter().map(|(name, bytes)| ((*name).to_owned(), Sha256Hex::of_bytes(bytes)));
        let mut found: BTreeMap<_, _> = compiled.collect();
        let mut add = |name: String, path: &Path| {
            let hash = Sha256Hex::of_file(path).with_context(|| format!("cannot read {}", path.display()))?;
            found.insert(name, hash);
            anyhow::Ok(())
        };
        let guest = guest_sources();
        for path in source_files(&guest)? {
            add(format!("guest/{}", path.strip_prefix(&guest).unwrap_or(&path).display()), &path)?;
        }
        for name in WORKSPACE {
            add(format!("workspace/{name}"), &workspace().join(name))?;
        }
        Ok(Sources(found))
    }

    /// Hash of everything that decides the image.
    pub(crate) fn image(&self) -> Sha256Hex {
        let packages = format!("suite {}\npackages {}\n", packages::SUITE, packages::PACKAGES.join(" "));
        let lines = self.0.iter().map(|(name, hash)| line(name, hash));
        Sha256Hex::of_bytes((packages + &lines.collect::<String>()).as_bytes())
    }

    /// Hash of what decides the base: its part of the builder and the very package files.
    pub(crate) fn base<'a>(&self, archives: impl Iterator<Item = &'a str>) -> anyhow::Result<Sha256Hex> {
        let mut text = self.part(BASE)?;
        for archive in archives {
            text += archive;
            text.push('\n');
        }
        Ok(Sha256Hex::of_bytes(text.as_bytes()))
    }

    /// Hash of what decides the disk's lower layer.
    pub(crate) fn volume(&self, base: &Sha256Hex) -> anyhow::Result<Sha256Hex> {
        Ok(Sha256Hex::of_bytes((line("base", base) + &self.part(VOLUME)?).as_bytes()))
    }

    /// Hash of what decides the hives.
    pub(crate) fn hives(&self) -> anyhow::Result<Sha256Hex> {
        Ok(Sha256Hex::of_bytes(self.part(HIVES)?.as_bytes()))
    }

    /// Hash of what decides the disk's upper layer.
    pub(crate) fn system(&self, volume: &Sha256Hex, files: &[OwnFile]) -> anyhow::Result<Sha256Hex> {
        let mut text = line("volume", volume) + &self.part(SYSTEM)?;
        text.extend(files.iter().map(|file| line(&file.path, &file.decided_by)));
        Ok(Sha256Hex::of_bytes(text.as_bytes()))
    }

    fn part(&self, names: &[&str]) -> anyhow::Result<String> {
        let found = names.iter().map(|name| {
            let hash = self.0.get(*name).with_context(|| {
                format!("the source tree has no {name}; next step: where it was moved, name its place in recipe.rs")
            })?;
            Ok(line(name, hash))
        });
        found.collect()
    }
}

fn line(name: &str, hash: &Sha256Hex) -> String {
    format!("{hash}  {name}\n")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The guest programs' crates, beside this crate's own source.
fn guest_sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest")
}

/// Every Rust source and manifest under a folder, in a fixed order.
fn source_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = std::fs::read_dir(&next)
            .with_context(|| format!("cannot list the guest sources in {}", next.display()))?;
        for entry in entries {
            let path = entry?.path();
            let counts = path.extension().is_some_and(|e| e == "rs")
                || path.file_name().is_some_and(|n| n == "Cargo.toml");
            if path.is_dir() {
                folders.push(path);
            } else if counts {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of base, volume, system disk and image.
    fn keys(sources: &Sources, package: &str, session: &[u8]) -> [Sha256Hex; 4] {
        let base = sources.base([package].into_iter()).unwrap();
        let volume = sources.volume(&base).unwrap();
        let own = |path: &str, decided_by| OwnFile { path: path.into(), bytes: vec![], decided_by };
        let session = own("softoff/session.exe", Sha256Hex::of_bytes(session));
        let hive = own("windows/system32/config/SYSTEM", sources.hives().unwrap());
        let system = sources.system(&volume, &[session, hive]).unwrap();
        [base, volume, system, sources.image()]
    }

    /// Which of `base volume system image` are made again when one file changes.
    #[rstest::rstest]
    #[case("guest/init/src/main.rs", "image")]
    #[case("guest/init/Cargo.toml", "image")]
    #[case("guest/session/src/main.rs", "image")]
    #[case("guest/probe/src/window.rs", "image")]
    #[case("guest/protocol/src/probe.rs", "image")]
    #[case("workspace/Cargo.lock", "system image")]
    #[case("workspace/Cargo.toml", "image")]
    #[case("builder/toolchain.rs", "image")]
    #[case("builder/initramfs.rs", "image")]
    #[case("builder/hives.rs", "system image")]
    #[case("builder/contents.rs", "system image")]
    #[case("guest/init/src/populate.rs", "volume system image")]
    #[case("builder/volume.rs", "volume system image")]
    #[case("builder/root.rs", "base volume system image")]
    #[case("builder/packages.rs", "base volume system image")]
    fn a_changed_source_makes_again_what_it_decides(#[case] name: &str, #[case] wanted: &str) {
        let sources = Sources::read().unwrap();
        let mut changed = sources.clone();
        *changed.0.get_mut(name).unwrap() = Sha256Hex::of_bytes(b"changed");
        let (before, after) = (keys(&sources, "a_1.deb", b"MZ"), keys(&changed, "a_1.deb", b"MZ"));
        let names = ["base", "volume", "system", "image"];
        let differ = names.iter().zip(before.iter().zip(&after)).filter(|(_, (b, a))| b != a);
        assert_eq!(differ.map(|(n, _)| *n).collect::<Vec<_>>().join(" "), wanted);
    }

    #[test]
    fn changed_bytes_and_packages_make_their_layers_again() {
        let sources = Sources::read().unwrap();
        let [base, volume, system, image] = keys(&sources, "a_1.deb", b"MZ");
        assert_eq!(
            keys(&sources, "a_1.deb", b"MZ"),
            [base.clone(), volume.clone(), system.clone(), image.clone()]
        );
        let [base2, volume2, system2, _] = keys(&sources, "a_1.deb", b"ZM");
        assert_eq!((&base2, &volume2), (&base, &volume));
        assert_ne!(system2, system);
        let [base3, volume3, system3, _] = keys(&sources, "a_2.deb", b"MZ");
        assert!(base3 != base && volume3 != volume && system3 != system);
    }

    #[test]
    fn a_source_that_moved_is_told() {
        let mut sources = Sources::read().unwrap();
        sources.0.remove("guest/init/src/populate.rs").unwrap();
        let error = sources.volume(&Sha256Hex::of_bytes(b"")).unwrap_err().to_string();
        assert!(error.contains("populate.rs") && error.contains("next step"), "{error}");
    }

    #[test]
    fn every_file_of_the_builder_is_hashed() {
        let sources = Sources::read().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reference");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = format!("builder/{}", entry.unwrap().file_name().to_string_lossy());
            assert!(sources.0.contains_key(&name), "{name} is not hashed");
        }
    }
}
