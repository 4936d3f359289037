//! Where trials take place: folders of their own, and a cache that may be broken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use softoff_harness::machine::QEMU;
use softoff_harness::machine::folder::{self, RunFolder};
use softoff_images::cache;
use softoff_images::reference;

use super::look;
use super::trial::{Place, Trial};
use super::wire;

/// The folders of all trials; removed at the end.
pub(super) struct Bench {
    root: RunFolder,
    /// A copy of today's image, for trials that must not touch the user's cache.
    pub(super) cache: Option<PathBuf>,
    count: u32,
    pub(super) rng: fastrand::Rng,
    pub(super) moments: u32,
    /// How long two plain scenarios take, once measured.
    pub(super) pair: Option<Duration>,
}

impl Bench {
    /// A bench with a cache of its own where something is done to the cache, or may happen to it.
    pub(super) fn new(seed: u64, moments: u32, own_cache: bool) -> anyhow::Result<Bench> {
        let _left_by_killed_ones = folder::sweep();
        // Sockets lie three folders deeper, and their paths end at 107 bytes: its name must stay short.
        let root = RunFolder::create()?;
        let bin = root.path().join("bin");
        std::fs::create_dir(&bin)?;
        std::os::unix::fs::symlink(std::env::current_exe()?, bin.join(QEMU))?;
        let rng = fastrand::Rng::with_seed(seed);
        let mut bench = Bench { root, cache: None, count: 0, rng, moments, pair: None };
        if own_cache {
            bench.copy_cache()?;
        }
        // A state for the warm starts, made before anything is measured or broken.
        let place = bench.place()?;
        let first = look::next_run_works(&Trial::control(place))?;
        anyhow::ensure!(first.is_empty(), "a run without any fault does not work: {}", first.join("; "));
        Ok(bench)
    }

    fn copy_cache(&mut self) -> anyhow::Result<()> {
        let from = reference::location(&cache::cache_root())?;
        let own = self.root.path().join("cache");
        let to = cache::images(&own).join(from.file_name().context("the image has no name")?);
        std::fs::create_dir_all(&to)?;
        for entry in std::fs::read_dir(&from)?.flatten() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))
                .context("copying the image; is the disk full?")?;
        }
        let preflight = "kvm-preflight.json";
        let _known = std::fs::copy(cache::cache_root().join(preflight), own.join(preflight));
        self.cache = Some(own);
        Ok(())
    }

    /// Fresh folders.
    pub(super) fn place(&mut self) -> anyhow::Result<Place> {
        self.count += 1;
        let dir = self.root.path().join(self.count.to_string());
        let (tmp, out) = (dir.join("t"), dir.join("out"));
        std::fs::create_dir_all(&tmp)?;
        Ok(Place { tmp, out, cache: self.cache.clone() })
    }

    /// The image's folder in the bench's own cache.
    pub(super) fn image(&self) -> anyhow::Result<PathBuf> {
        let cache = self.cache.as_ref().context("this bench has no cache of its own")?;
        let from = reference::location(cache)?;
        anyhow::ensure!(from.is_dir(), "{} is not there", from.display());
        Ok(from)
    }

    /// The saved states in the bench's own cache.
    pub(super) fn states(&self) -> anyhow::Result<Vec<PathBuf>> {
        let cache = self.cache.as_ref().context("this bench has no cache of its own")?;
        let entries = std::fs::read_dir(cache::states(cache)).into_iter().flatten().flatten();
        Ok(entries.map(|e| e.path()).filter(|p| p.join("state.json").exists()).collect())
    }

    /// The environment in which a bad wire stands in for QEMU's.
    pub(super) fn wire(&self, fault: &str) -> anyhow::Result<Vec<(String, String)>> {
        let path = std::env::var("PATH").context("PATH")?;
        let bin = self.root.path().join("bin");
        let real = std::env::split_paths(&path).map(|dir| dir.join(QEMU)).find(|file| file.is_file());
        let real = real.with_context(|| format!("{QEMU} is not in PATH"))?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Ok(vec![
            ("PATH".into(), format!("{}:{path}", text(&bin))),
            (wire::REAL.into(), text(&real.canonicalize()?)),
            (wire::FAULT.into(), fault.into()),
        ])
    }
}
