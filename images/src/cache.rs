//! Where images and what they are built from are kept, and the lock that lets one builder at a time work.

use std::path::{Path, PathBuf};

use anyhow::Context;
use softoff_harness::file_lock::FileLock;

/// The folder for everything that can be built or downloaded again: `$SOFTOFF_CACHE`, else
/// `$XDG_CACHE_HOME/softoff`, else `~/.cache/softoff`; without a home, a folder under the temporary one.
pub fn cache_root() -> PathBuf {
    root_from(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
}

fn root_from(var: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    var("SOFTOFF_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").filter(|p| p.is_absolute()).map(|p| p.join("softoff")))
        .or_else(|| var("HOME").map(|p| p.join(".cache/softoff")))
        .unwrap_or_else(|| std::env::temp_dir().join("softoff-cache"))
}

/// The folder that holds finished images, one folder each.
pub fn images(cache: &Path) -> PathBuf {
    cache.join("images")
}

/// The folder that holds the layers of system disks, which images share.
pub fn disks(cache: &Path) -> PathBuf {
    cache.join("disks")
}

/// The folder that holds saved machine states, for warm starts.
pub fn states(cache: &Path) -> PathBuf {
    cache.join("states")
}

/// The parts of images (bases, layers of disks) that no image uses: none of their files has another link. Where the
/// file system has no hard links that is all of them; the next build makes again what it needs.
pub fn unused_parts(cache: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let shared = |part: &Path| {
        entries(part).filter_map(|file| file.metadata().ok()).any(|meta| meta.is_file() && meta.nlink() > 1)
    };
    let parts = [cache.join("base"), disks(cache)];
    let parts = parts.iter().flat_map(|folder| entries(folder)).map(|part| part.path());
    parts.filter(|part| part.is_dir() && !shared(part)).collect()
}

/// An exclusive lock on the cache, held until dropped. Waits for another builder to finish; `waiting` is called once if
/// there is one.
pub fn lock(cache: &Path, waiting: impl FnOnce()) -> anyhow::Result<FileLock> {
    std::fs::create_dir_all(cache)
        .with_context(|| format!("cannot make the cache folder {} (set SOFTOFF_CACHE)", cache.display()))?;
    let path = cache.join("build.lock");
    let context = || format!("cannot lock {}", path.display());
    if let Some(lock) = FileLock::take(&path).with_context(context)? {
        return Ok(lock);
    }
    waiting();
    FileLock::wait(&path).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::own(&[("SOFTOFF_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")], "/a")]
    #[case::xdg(&[("XDG_CACHE_HOME", "/b"), ("HOME", "/c")], "/b/softoff")]
    #[case::relative_xdg_is_void(&[("XDG_CACHE_HOME", "b"), ("HOME", "/c")], "/c/.cache/softoff")]
    #[case::home(&[("HOME", "/c")], "/c/.cache/softoff")]
    fn the_cache_follows_the_environment(#[case] vars: &[(&str, &str)], #[case] wanted: &str) {
        let var = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v));
        assert_eq!(root_from(var), Path::new(wanted));
    }

    #[test]
    fn a_part_is_unused_when_its_last_image_has_gone() {
        let cache = tempfile::tempdir().unwrap();
        let (base, layer, image) = (
            cache.path().join("base/1"),
            disks(cache.path()).join("2"),
            images(cache.path()).join("reference-3"),
        );
        for folder in [&base, &layer, &image] {
            std::fs::create_dir_all(folder).unwrap();
        }
        for (part, name) in [(&base, "root.erofs"), (&layer, "volume.qcow2")] {
            std::fs::write(part.join(name), name).unwrap();
        }
        std::fs::hard_link(base.join("root.erofs"), image.join("root.erofs")).unwrap();
        assert_eq!(unused_parts(cache.path()), std::slice::from_ref(&layer));
        std::fs::remove_dir_all(&image).unwrap();
        assert_eq!(unused_parts(cache.path()), [base, layer]);
    }

    #[test]
    fn whoever_finds_the_lock_taken_is_told_and_waits() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path(), || panic!("nobody holds it")).unwrap();
        let (told, waits) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| lock(dir.path(), || told.send(()).unwrap()).unwrap());
            waits.recv().unwrap();
            assert!(!second.is_finished());
            drop(first);
            second.join().unwrap();
        });
    }
}
