//! `cargo xtask inspect`

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use softoff_harness::disk::DiskImage;
use softoff_harness::inspect::ImageReport;

use crate::bench_inspect::{self, Peer};
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
  cargo xtask inspect --compare                    # needs root for what it installs

Exit codes: 0 read, 1 --compare: not as fast as it should be, 2 wrong usage, 3 the image, or its system volume, cannot be read.")]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "DISK", required_unless_present = "compare")]
    disk: Option<PathBuf>,
    /// Measure how long this takes, against guestfish and qemu-nbd, on a disk of 10 GiB that is made for it
    #[arg(long, conflicts_with = "disk", value_name = "SAMPLES", num_args = 0..=1, default_missing_value = "20", value_parser = clap::value_parser!(u32).range(1..=1000))]
    compare: Option<u32>,
    /// Print JSON to standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let disk = match (&args.disk, args.compare) {
        (Some(disk), _) => disk,
        (None, samples) => return compare(samples.unwrap_or(20), args.json),
    };
    let report = read(disk)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).context("writing JSON")?);
    } else {
        println!("{}", ui::inspection::render(&report));
    }
    match &report.no_system {
        Some(why) if !report.tells_something() => Err(Failure::Infra(Some(anyhow!("{why}")))),
        _ => Ok(()),
    }
}

/// What was to be reached: at most so long, and so many times faster than guestfish.
const LIMIT: Duration = Duration::from_millis(150);
const TIMES: f64 = 100.0;

fn compare(samples: u32, as_json: bool) -> Result<(), Failure> {
    let found = bench_inspect::measure(samples)?;
    let median = |times: &[Duration]| {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    };
    let mine = median(&found.ours);
    let mut met = mine < LIMIT;
    let mut rows = vec![("inspect".to_owned(), Some(mine), format!("goal: under {} ms", LIMIT.as_millis()))];
    for (name, peer) in [("guestfish --ro", &found.guestfish), ("qemu-nbd, ntfs-3g", &found.qemu_nbd)] {
        rows.push(match peer {
            Peer::Unavailable(why) => (name.to_owned(), None, format!("unavailable: {why}")),
            Peer::Measured(times) => {
                let theirs = median(times);
                let ratio = theirs.as_secs_f64() / mine.as_secs_f64().max(f64::MIN_POSITIVE);
                let fast = name != "guestfish --ro" || ratio >= TIMES;
                met &= fast;
                let goal = if name == "guestfish --ro" { " (goal: 100 times)" } else { "" };
                (name.to_owned(), Some(theirs), format!("inspect is {ratio:.0} times faster{goal}"))
            }
        });
    }
    if as_json {
        let row = |(name, time, note): &(String, Option<Duration>, String)| serde_json::json!({ "name": name, "seconds": time.map(|t| t.as_secs_f64()), "note": note });
        let all: Vec<_> = rows.iter().map(row).collect();
        println!("{}", serde_json::to_string_pretty(&all).context("writing JSON")?);
    }
    let cells = rows.into_iter().map(|(name, time, note)| {
        vec![name, time.map_or("-".to_owned(), |t| format!("{:.1} ms", t.as_secs_f64() * 1000.0)), note]
    });
    eprintln!("{}", ui::table(&["reader", "median", "note"], cells.collect()));
    if met { Ok(()) } else { Err(Failure::Scenario) }
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
