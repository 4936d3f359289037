//! `cargo xtask cache`

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use softoff_harness::image::Image;

use crate::Failure;
use crate::ui::table;

/// Show and prune the cache (`SOFTOFF_CACHE`, else the user's cache folder)
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask cache list\n  cargo xtask cache prune\n  cargo xtask cache prune --all"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what is in the cache
    List,
    /// Remove images of older recipes, what only they were made from, their machine states, and half-built folders
    Prune {
        /// Remove everything, downloads and tool chains too
        #[arg(long)]
        all: bool,
    },
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let root = softoff_images::cache::cache_root();
    match args.command {
        Command::List => list(&root)?,
        Command::Prune { all } => prune(&root, all)?,
    }
    Ok(())
}

fn list(root: &Path) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut total = 0;
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let bytes = size(&entry.path());
        total += bytes;
        let age = entry.metadata().and_then(|m| m.modified()).ok();
        let age =
            age.and_then(|m| SystemTime::now().duration_since(m).ok()).map_or(0, |a| a.as_secs() / 3600);
        rows.push(vec![entry.file_name().to_string_lossy().into_owned(), mib(bytes), format!("{age} h ago")]);
    }
    rows.sort();
    println!("{}", table(&["entry", "size", "changed"], rows));
    println!("{} in {}", mib(total), root.display());
    Ok(())
}

fn prune(root: &Path, all: bool) -> anyhow::Result<()> {
    // The lock that a builder holds: nothing is pulled away under it.
    let _lock = softoff_images::cache::lock(root, || eprintln!("waiting for a build to finish"))?;
    let current = softoff_images::reference::location(root)?;
    let images = softoff_images::cache::images(root);
    let doomed: Vec<_> = if all {
        std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| !p.ends_with("build.lock"))
            .collect()
    } else {
        std::fs::read_dir(&images)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| *p != current)
            .collect()
    };
    let mut freed = remove(doomed)?;
    if !all {
        // Only now: what a removed image shared is nobody's any more.
        freed += remove(softoff_images::cache::unused_parts(root))?;
        let today = Image::open_unverified(&current).ok().map(|image| image.id);
        let states = softoff_images::cache::states(root);
        freed += remove(softoff_harness::warm::not_of(&states, today.as_slice()))?;
    }
    println!("{} freed", mib(freed));
    Ok(())
}

/// Removes files and folders; gives their bytes.
fn remove(doomed: Vec<PathBuf>) -> anyhow::Result<u64> {
    let mut freed = 0;
    for path in doomed {
        let bytes = size(&path);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}; is a machine using it?", path.display()))?;
        println!("removed {} ({})", path.display(), mib(bytes));
        freed += bytes;
    }
    Ok(freed)
}

/// Bytes on disk below a path; links are not followed.
fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    if !meta.is_dir() {
        return meta.blocks() * 512;
    }
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| size(&e.path())).sum()
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
