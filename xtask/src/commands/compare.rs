//! `cargo xtask compare`

use std::path::{Path, PathBuf};
use std::time::Duration;

use softoff_harness::compare::{Comparison, Floors, Gate, Terms, compare};
use softoff_harness::record;

use crate::{Failure, ui};

/// Hold two runs against each other: what differs beyond chance, and what may be to blame
///
/// Answers (outcome, cause, verdict, damage) are tested exactly, times phase by phase by permutation, with a
/// correction for their number. `undecided` asks for more repeats.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask compare baseline target/softoff/latest
  cargo xtask compare --floor-ms 500 --floor-share 0.2 BASE HEAD
  cargo xtask compare --json BASE HEAD

Exit codes: 0 nothing is worse, 1 something is (new, changed), 3 undecided")]
pub(crate) struct Args {
    /// The run to compare with: its folder
    base: PathBuf,
    /// The run to judge: its folder
    head: PathBuf,
    #[command(flatten)]
    floors: FloorArgs,
    /// How many looks HEAD's repeats come from: more than 1 where `run --until-decided` added some
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    looks: u32,
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
}

/// The least difference that is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FloorArgs {
    /// Least difference of a time, as a share of BASE's median
    #[arg(long, value_name = "F", default_value_t = Floors::default().share, value_parser = share)]
    floor_share: f64,
    /// Least difference of a time, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = Floors::default().ms)]
    floor_ms: u64,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100.0).contains(&share) { Ok(share) } else { Err("must be between 0 and 100".into()) }
}

impl FloorArgs {
    /// The terms of a comparison in so many looks.
    pub(crate) fn terms(&self, looks: u32) -> Terms {
        Terms { looks, ..Terms::with_floors(self.floor_share, Duration::from_millis(self.floor_ms)) }
    }
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let read = |dir: &Path| record::read_run(dir).map_err(Failure::Usage);
    let comparison = compare(&read(&args.base)?, &read(&args.head)?, &args.floors.terms(args.looks));
    if args.json {
        println!("{}", ui::json(&comparison)?);
    } else {
        ui::comparison::lines(&comparison).iter().for_each(|line| println!("{line}"));
    }
    judged(&comparison)
}

/// The exit code of a comparison.
pub(crate) fn judged(comparison: &Comparison) -> Result<(), Failure> {
    match comparison.gate() {
        Gate::Open => Ok(()),
        Gate::Differs => Err(Failure::Scenario),
        Gate::Undecided => Err(Failure::Infra(None)),
    }
}
