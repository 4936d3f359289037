//! `cargo xtask image`

use anyhow::Context;
use softoff_harness::image::Image;

use crate::ui::{self, table};
use crate::{Failure, host_tools};

/// Build and show images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask image build reference\n  cargo xtask image list")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build an image unless the cache has it; `cargo xtask run` does the same
    Build {
        /// Which one
        #[arg(value_parser = ["reference"])]
        name: String,
        /// Install missing packages without asking whether this is a machine for it
        #[arg(long)]
        install: bool,
    },
    /// Show the images in the cache
    List,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Build { name: _, install } => {
            host_tools::ensure(host_tools::By::Run, *install)?;
            let image = ui::build::reference()?;
            println!("{}", image.dir.display());
            Ok(())
        }
        Command::List => list(),
    }
}

fn list() -> Result<(), Failure> {
    let dir = softoff_images::cache::images(&softoff_images::cache::cache_root());
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let Ok(image) = Image::open_unverified(&entry.path()) else { continue };
        let bytes: u64 =
            image.manifest.files.keys().filter_map(|f| image.file(f).metadata().ok()).map(|m| m.len()).sum();
        let family = serde_json::to_value(image.manifest.family).context("naming the family")?;
        rows.push(vec![
            image.manifest.name.clone(),
            family.as_str().unwrap_or("?").to_owned(),
            image.id.short().to_owned(),
            format!("{} MiB", bytes >> 20),
            entry.path().display().to_string(),
        ]);
    }
    if rows.is_empty() {
        println!("no image in {}; `cargo xtask image build reference` makes one", dir.display());
        return Ok(());
    }
    println!("{}", table(&["name", "family", "id", "size", "folder"], rows));
    Ok(())
}
