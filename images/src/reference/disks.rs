//! The system disk, in two layers that the cache keeps under the hash of what decides each.
//!
//! The lower one, [`VOLUME`], is the whole disk with Wine's tree on C: and nothing of ours; it takes ten seconds to
//! fill and compress. The upper one, [`SYSTEM`], is an overlay of some hundred KiB with our programs and the
//! hives, filled by one short boot when any of their bytes changed. PID 1 is on neither: it is in the initial RAM
//! disk, and with it changed the disk stays the very file it was.

use std::path::{Path, PathBuf};

use anyhow::Context;
use softoff_harness::image::Sha256Hex;

use super::base::Base;
use super::contents::{self, OwnFile};
use super::populate::{self, Boot, Target};
use super::recipe::Sources;
use super::{place, volume};
use crate::cache;
use crate::progress::{Progress, note, step};

/// File name of the lower layer.
pub(crate) const VOLUME: &str = "volume.qcow2";
/// File name of the upper layer, which names the lower one without a folder.
pub(crate) const SYSTEM: &str = "system.qcow2";

/// Holds the layer's hash, beside it.
const HASH: &str = "sha256";

/// A layer in the cache.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Hash of what decides it.
    key: Sha256Hex,
    /// The qcow2 file.
    pub(crate) file: PathBuf,
}

/// What layers are made with.
pub(crate) struct Disks<'a> {
    /// The cache's folder.
    pub(crate) cache: &'a Path,
    /// What decides what.
    pub(crate) sources: &'a Sources,
    /// Boots to write to a volume.
    pub(crate) boot: Boot<'a>,
    /// The listener.
    pub(crate) progress: &'a dyn Progress,
}

impl Disks<'_> {
    /// The lower layer.
    pub(crate) fn volume(&self, base: &Base) -> anyhow::Result<Layer> {
        let key = self.sources.volume(&base.key)?;
        kept(self.cache, key, VOLUME, self.progress, |work, out| {
            let archive = work.join("files.tar");
            let content =
                step(self.progress, "collect Wine's tree", || volume::collect(&base.drive_c(), &archive))?;
            let raw = work.join("volume.raw");
            let target = Target { path: &raw, format: "raw", fresh: &|| volume::lay_out(&raw) };
            step(self.progress, "fill the system volume", || {
                populate::fill(&self.boot, &target, &archive, &content, self.progress)
            })?;
            step(self.progress, "compress the system volume", || volume::compress(&raw, out))
        })
    }

    /// The upper layer.
    pub(crate) fn system(&self, below: &Layer, files: &[OwnFile]) -> anyhow::Result<Layer> {
        let key = self.sources.system(&below.key, files)?;
        kept(self.cache, key, SYSTEM, self.progress, |work, out| {
            let archive = work.join("files.tar");
            let content = contents::pack(files, &archive)?;
            place(&below.file, &work.join(VOLUME))?;
            let filled = work.join("filled.qcow2");
            let target =
                Target { path: &filled, format: "qcow2", fresh: &|| volume::overlay(VOLUME, &filled) };
            step(self.progress, "put our files on the system volume", || {
                populate::fill(&self.boot, &target, &archive, &content, self.progress)
            })?;
            // qemu-img looks for the lower layer beside what it writes.
            let beside = out.with_file_name(VOLUME);
            place(&below.file, &beside)?;
            volume::compress_overlay(&filled, VOLUME, out)?;
            std::fs::remove_file(&beside)?;
            Ok(())
        })
    }
}

/// Opens the layer of this key, or has it made: `make` gets a folder for its work and the file to write. A layer
/// whose content is not what it was when it was made is made again.
fn kept(
    cache: &Path,
    key: Sha256Hex,
    name: &str,
    progress: &dyn Progress,
    make: impl FnOnce(&Path, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<Layer> {
    let folder = cache::disks(cache);
    let dir = folder.join(key.short());
    let file = dir.join(name);
    if dir.exists() {
        if is_whole(&dir, name) {
            note(progress, format!("the layer {name} {} is in the cache", key.short()));
            return Ok(Layer { key, file });
        }
        note(progress, format!("{} is damaged; it is made again", file.display()));
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(&folder)?;
    let work = tempfile::Builder::new().prefix(".building-").tempdir_in(&folder)?;
    let made = work.path().join("layer");
    std::fs::create_dir_all(&made)?;
    make(work.path(), &made.join(name))?;
    std::fs::write(made.join(HASH), Sha256Hex::of_file(&made.join(name))?.0)?;
    std::fs::rename(&made, &dir).with_context(|| format!("cannot place {}", dir.display()))?;
    Ok(Layer { key, file })
}

fn is_whole(dir: &Path, name: &str) -> bool {
    let wanted = std::fs::read_to_string(dir.join(HASH));
    matches!((wanted, Sha256Hex::of_file(&dir.join(name))), (Ok(wanted), Ok(found)) if wanted == found.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::tools;
    use softoff_harness::disk::DiskImage;

    fn key(text: &str) -> Sha256Hex {
        Sha256Hex::of_bytes(text.as_bytes())
    }

    #[test]
    fn a_layer_is_made_once_for_its_key_and_again_when_damaged() {
        let cache = tempfile::tempdir().unwrap();
        let made = std::cell::Cell::new(0);
        let layer = |name: &str| {
            let make = |_: &Path, out: &Path| {
                made.set(made.get() + 1);
                Ok(std::fs::write(out, name)?)
            };
            kept(cache.path(), key(name), VOLUME, &Silent, make).unwrap()
        };
        let first = layer("a");
        assert_eq!((layer("a").file, made.get()), (first.file.clone(), 1));
        assert_ne!(layer("b").file, first.file);
        assert_eq!(made.get(), 2);
        std::fs::write(&first.file, "b").unwrap();
        layer("a");
        assert_eq!((std::fs::read_to_string(&first.file).unwrap().as_str(), made.get()), ("a", 3));
    }

    #[test]
    fn a_failed_layer_leaves_nothing_that_could_be_opened() {
        let cache = tempfile::tempdir().unwrap();
        let broken = |_: &Path, out: &Path| {
            std::fs::write(out, "half")?;
            anyhow::bail!("no space")
        };
        kept(cache.path(), key("a"), VOLUME, &Silent, broken).unwrap_err();
        assert_eq!(std::fs::read_dir(cache::disks(cache.path())).unwrap().count(), 0);
    }

    #[test]
    fn the_upper_layer_finds_the_lower_one_wherever_both_are() {
        assert!(tools::find("qemu-img").is_some(), "qemu-img is missing; next: apt-get install qemu-utils");
        let dir = tempfile::tempdir().unwrap();
        let (made, image) = (dir.path().join("made"), dir.path().join("image"));
        let raw = dir.path().join("volume.raw");
        std::fs::create_dir(&made).unwrap();
        std::fs::create_dir(&image).unwrap();
        std::fs::write(&raw, vec![7u8; 1 << 20]).unwrap();
        volume::compress(&raw, &made.join(VOLUME)).unwrap();
        let filled = made.join("filled.qcow2");
        volume::overlay(VOLUME, &filled).unwrap();
        tools::run(tools::command("qemu-io").args(["-f", "qcow2", "-c", "write -P 9 0 64k"]).arg(&filled))
            .unwrap();
        volume::compress_overlay(&filled, VOLUME, &made.join(SYSTEM)).unwrap();
        for name in [VOLUME, SYSTEM] {
            place(&made.join(name), &image.join(name)).unwrap();
        }
        std::fs::remove_dir_all(&made).unwrap();
        let disk = DiskImage::open(&image.join(SYSTEM)).unwrap();
        let layers: Vec<&Path> = disk.layers().iter().map(|l| l.path.as_path()).collect();
        assert_eq!(layers, [image.join(SYSTEM), image.join(VOLUME)]);
        let mut bytes = [0u8; 2];
        disk.read_exact_at(&mut bytes, (64 << 10) - 1).unwrap();
        assert_eq!(bytes, [9, 7], "the upper layer's cluster, then the lower one's");
    }
}
