//! The recipe hash: what decides the content of a reference image.
//!
//! The image's folder is named after it, so that a change of the builder or of a guest program makes a new
//! image and an old one stays what it was. Versions of Debian packages are not part of it (they are not
//! known before the build): the manifest lists them as provenance instead.

use std::path::{Path, PathBuf};

use anyhow::Context;
use softoff_harness::image::Sha256Hex;

use super::packages;

/// The builder itself, as compiled in: a stale binary thereby never claims the recipe of newer source.
const BUILDER: &[(&str, &[u8])] = &[
    ("reference/mod.rs", include_bytes!("mod.rs")),
    ("reference/packages.rs", include_bytes!("packages.rs")),
    ("reference/root.rs", include_bytes!("root.rs")),
    ("reference/prefix.rs", include_bytes!("prefix.rs")),
    ("reference/base.rs", include_bytes!("base.rs")),
    ("reference/programs.rs", include_bytes!("programs.rs")),
    ("reference/initramfs.rs", include_bytes!("initramfs.rs")),
    ("reference/volume.rs", include_bytes!("volume.rs")),
    ("reference/populate.rs", include_bytes!("populate.rs")),
    ("reference/hives.rs", include_bytes!("hives.rs")),
    ("toolchain.rs", include_bytes!("../toolchain.rs")),
];

/// The steps before any program of ours: packages, root, Wine prefix.
const BASE: &[&str] =
    &["reference/packages.rs", "reference/root.rs", "reference/prefix.rs", "reference/base.rs"];

/// Hash of everything that decides the image.
pub(crate) fn hash() -> anyhow::Result<Sha256Hex> {
    let mut text = format!("suite {}\npackages {}\n", packages::SUITE, packages::PACKAGES.join(" "));
    for (name, bytes) in BUILDER {
        text += &line(name, bytes);
    }
    let guest = guest_sources();
    for path in source_files(&guest)? {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(&guest).unwrap_or(&path).display().to_string();
        text += &line(&name, &bytes);
    }
    Ok(Sha256Hex::of_bytes(text.as_bytes()))
}

/// Hash of what decides the base: its part of the builder and the very package files.
pub(crate) fn base_hash<'a>(archives: impl Iterator<Item = &'a str>) -> Sha256Hex {
    let mut text: String = BUILDER
        .iter()
        .filter(|(name, _)| BASE.contains(name))
        .map(|(name, bytes)| line(name, bytes))
        .collect();
    for archive in archives {
        text += archive;
        text.push('\n');
    }
    Sha256Hex::of_bytes(text.as_bytes())
}

fn line(name: &str, bytes: &[u8]) -> String {
    format!("{}  {name}\n", Sha256Hex::of_bytes(bytes))
}

/// The guest programs' crates, beside this crate's own source. Building them needs this source tree anyway.
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

    #[test]
    fn the_recipe_is_stable_and_covers_the_guest_programs() {
        assert_eq!(hash().unwrap(), hash().unwrap());
        let names: Vec<String> =
            source_files(&guest_sources()).unwrap().iter().map(|p| p.display().to_string()).collect();
        for wanted in ["init/src/main.rs", "init/Cargo.toml", "protocol/src/probe.rs", "session/src/main.rs"]
        {
            assert!(names.iter().any(|n| n.ends_with(wanted)), "{wanted} is not hashed");
        }
    }

    #[test]
    fn another_package_file_is_another_base() {
        assert_ne!(base_hash(["a_1_amd64.deb"].into_iter()), base_hash(["a_2_amd64.deb"].into_iter()));
        assert!(BASE.iter().all(|b| BUILDER.iter().any(|(name, _)| name == b)));
    }
}
