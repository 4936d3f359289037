//! `cargo xtask inspect`

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use softoff_harness::disk::DiskImage;
use softoff_harness::inspect::ImageReport;

use crate::{Failure, ui};

/// Show what a stopped disk image tells about shutting down
///
/// Reads qcow2 with its backing chain, and raw, without root and without mounting: volume flags, NTFS' journal,
/// the hives and their logs, the registry's shutdown settings, pending updates, hibernation, event logs, crash
/// dumps. Nothing is written. An image that a running QEMU writes to is refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask inspect disk.qcow2
  cargo xtask inspect disk.qcow2 --json | jq .system.hives

Exit codes: 0 read, 2 wrong usage, 3 the image, or its system volume, cannot be read.")]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "DISK")]
    disk: PathBuf,
    /// Print JSON to standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let report = read(&args.disk)?;
    if args.json {
        println!("{}", ui::json(&report)?);
    } else {
        println!("{}", ui::inspection::render(&report));
    }
    match &report.no_system {
        Some(why) if !report.tells_something() => Err(Failure::Infra(Some(anyhow!("{why}")))),
        _ => Ok(()),
    }
}

/// Reads an image, for every command that looks at one.
pub(crate) fn read(disk: &Path) -> Result<ImageReport, Failure> {
    if !disk.exists() {
        let what =
            format!("there is no file {}; give the path of a disk image (qcow2 or raw)", disk.display());
        return Err(Failure::Usage(anyhow!(what)));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let report = DiskImage::open(disk).and_then(|disk| ImageReport::read(&disk, now));
    report.map_err(|error| Failure::Infra(Some(error.into())))
}
