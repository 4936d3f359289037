//! Steps 1 to 5: the base, everything in the image that none of our programs is part of.
//!
//! It is kept in the cache under the hash of its packages and of the builder's part in it: a changed guest
//! program does not make it anew.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context;
use softoff_harness::image::Sha256Hex;

use super::recipe::Sources;
use super::{packages, prefix, root};
use crate::progress::{Progress, note, step};
use crate::tools;

/// Where PID 1 puts itself for the links below: the root is read-only and holds no program of ours.
const INIT_IN_GUEST: &str = "/run/softoff/init";

/// Names under which PID 1's program is called again. qemu-ga runs `/sbin/shutdown` for guest-shutdown
/// and the programs of pm-utils for guest-suspend-ram and guest-suspend-disk.
const INIT_LINKS: &[&str] = &[
    "usr/sbin/shutdown",
    "usr/bin/pm-is-supported",
    "usr/sbin/pm-suspend",
    "usr/sbin/pm-hibernate",
    "usr/bin/winrun",
];

/// A finished base.
#[derive(Debug)]
pub(crate) struct Base {
    dir: PathBuf,
    /// Hash of what decides it.
    pub(crate) key: Sha256Hex,
    /// Package name to version.
    pub(crate) provenance: BTreeMap<String, String>,
}

impl Base {
    /// The read-only root file system.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root.erofs")
    }

    /// The tree that becomes C:.
    pub(crate) fn drive_c(&self) -> PathBuf {
        self.dir.join("prefix").join(prefix::DRIVE_C)
    }

    /// The kernel, a bzImage.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The kernel's module folder.
    pub(crate) fn modules(&self) -> PathBuf {
        self.dir.join("modules")
    }
}

/// Opens the base of the packages of today, or makes it.
pub(crate) fn build_or_open(
    cache: &Path,
    sources: &Sources,
    progress: &dyn Progress,
) -> anyhow::Result<Base> {
    let archives = step(progress, "fetch Debian packages", || packages::fetch(cache))?;
    let names = archives.iter().filter_map(|a| a.path.file_name()?.to_str());
    let key = sources.base(names)?;
    let folder = cache.join("base");
    let dir = folder.join(key.short());
    let base = Base { dir, key, provenance: packages::provenance(&archives) };
    if base.dir.exists() {
        note(progress, format!("the base {} is in the cache", base.key.short()));
        return Ok(base);
    }
    std::fs::create_dir_all(&folder)?;
    let work = tempfile::Builder::new().prefix(".building-").tempdir_in(&folder)?;
    let unpacked = work.path().join("packages");
    let tree = work.path().join("root");
    let made = work.path().join("base");
    std::fs::create_dir_all(&made)?;
    step(progress, "unpack packages", || root::unpack(&archives, &unpacked))?;
    step(progress, "assemble the root", || root::assemble(&unpacked, &tree))?;
    step(progress, "make the Wine prefix", || prefix::make(&tree, &made.join("prefix")))?;
    step(progress, "take the kernel", || take_kernel(&unpacked, &made))?;
    step(progress, "pack the root", || pack_root(&tree, &made))?;
    std::fs::rename(&made, &base.dir).with_context(|| format!("cannot place {}", base.dir.display()))?;
    Ok(base)
}

/// The kernel image and its modules.
fn take_kernel(unpacked: &Path, made: &Path) -> anyhow::Result<()> {
    let modules = unpacked.join("usr/lib/modules");
    let mut releases = std::fs::read_dir(&modules)?.flatten().map(|e| e.file_name());
    let release = releases.next().context("the kernel package has no modules")?;
    anyhow::ensure!(releases.next().is_none(), "the packages hold more than one kernel");
    let image = format!("boot/vmlinuz-{}", release.to_string_lossy());
    std::fs::copy(unpacked.join(&image), made.join("vmlinuz")).with_context(|| format!("no {image}"))?;
    std::fs::rename(modules.join(&release), made.join("modules"))?;
    Ok(())
}

/// The root as erofs: compressed by lz4hc, which costs the emulated processor the least to read.
fn pack_root(tree: &Path, made: &Path) -> anyhow::Result<()> {
    for link in INIT_LINKS {
        symlink(INIT_IN_GUEST, tree.join(link)).with_context(|| format!("cannot make the link {link}"))?;
    }
    for name in prefix::REGISTRY {
        std::fs::copy(made.join("prefix").join(name), tree.join("usr/share/softoff/prefix").join(name))?;
    }
    let image = made.join("root.erofs");
    tools::run(tools::command("mkfs.erofs").args(["-zlz4hc", "--all-root"]).arg(&image).arg(tree))?;
    Ok(())
}
