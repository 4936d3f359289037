//! `cargo xtask cache`

use std::path::Path;
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
    /// Remove images of older recipes, machine states of other images, and half-built folders
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
    let _lock = softoff_images::cache::CacheLock::take(root, || eprintln!("waiting for a build to finish"))?;
    let mut freed = 0;
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
    let states = softoff_images::cache::states(root);
    if !all {
        let before = size(&states);
        let today = Image::open_unverified(&current).ok().map(|image| image.id);
        for folder in softoff_harness::warm::prune(&states, today.as_slice()) {
            println!("removed {}", folder.display());
        }
        freed += before.saturating_sub(size(&states));
    }
    for path in doomed {
        let bytes = size(&path);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}; is a machine using it?", path.display()))?;
        println!("removed {} ({})", path.display(), mib(bytes));
        freed += bytes;
    }
    println!("{} freed", mib(freed));
    Ok(())
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
