//! `cargo xtask history`

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use globset::{Glob, GlobMatcher};
use softoff_harness::compare::Terms;
use softoff_harness::history::{HISTORY, History, Night};
use softoff_harness::record::{self, words};
use softoff_harness::report;
use softoff_harness::text::printable;

use crate::{Failure, host_tools, ui};

/// Runs of many nights: list and plot a scenario over them, and tell where a change came in
///
/// `cargo xtask run` takes each of its runs in.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo xtask history --scenario control
  cargo xtask history --scenario 'windows-update-*' --svg updates.svg
  cargo xtask history import night1 night2/runs/*
  cargo xtask history export 20261124T021700Z again
  cargo xtask history between 20261120T021700Z 20261124T021700Z"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Scenarios to list: a glob
    #[arg(long, value_name = "GLOB", default_value = "*")]
    scenario: String,
    /// Images to list: a glob
    #[arg(long, value_name = "GLOB", default_value = "*")]
    image: String,
    /// Also draw the times into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
    /// The database; target/softoff/history.sqlite when absent
    #[arg(long, value_name = "FILE", global = true)]
    db: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take run folders in
    Import {
        /// Folders with a run.json
        #[arg(required = true)]
        runs: Vec<PathBuf>,
    },
    /// Write a run's run.json into a new folder
    Export {
        /// The run's id
        id: String,
        /// The folder to make
        dir: PathBuf,
    },
    /// Between two runs, tell where each difference came in and what came with it
    Between {
        /// The older run's id
        first: String,
        /// The newer run's id
        second: String,
    },
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let path =
        args.db.clone().unwrap_or_else(|| host_tools::workspace().join("target/softoff").join(HISTORY));
    let fresh = matches!(args.what, Some(What::Import { .. }));
    if !fresh && !path.exists() {
        let what = format!(
            "there is no history {}; `cargo xtask run` or `cargo xtask history import RUN` makes one",
            path.display()
        );
        return Err(Failure::Usage(anyhow!(what)));
    }
    if let Some(parent) = path.parent().filter(|_| fresh) {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let mut history = History::open(&path)?;
    match &args.what {
        Some(What::Import { runs }) => import(&mut history, runs),
        Some(What::Export { id, dir }) => export(&history, id, dir),
        Some(What::Between { first, second }) => between(&history, first, second),
        None => list(&history, args),
    }
}

fn import(history: &mut History, runs: &[PathBuf]) -> Result<(), Failure> {
    for dir in runs {
        let run = record::read_run(dir).map_err(Failure::Usage)?;
        let verb = if history.import(&run)? { "taken in" } else { "was there" };
        println!("{} {verb}", printable(&run.id, 60));
    }
    Ok(())
}

fn export(history: &History, id: &str, dir: &Path) -> Result<(), Failure> {
    let run = history.run(id).map_err(Failure::Usage)?;
    std::fs::create_dir(dir)
        .with_context(|| format!("cannot make {}; name a folder that is not there yet", dir.display()))
        .map_err(Failure::Usage)?;
    record::write_run(dir, &run)?;
    println!("{}", dir.join(record::RUN_JSON).display());
    Ok(())
}

fn between(history: &History, first: &str, second: &str) -> Result<(), Failure> {
    let hints = history.between(first, second, &Terms::default()).map_err(Failure::Usage)?;
    if hints.is_empty() {
        println!("nothing differs beyond chance between {first} and {second}");
    }
    for hint in hints {
        println!("{}: {}", hint.change, printable(&hint.what, 120));
        println!("  came in between {} and {}", hint.last_same, hint.first_other);
        for suspect in &hint.suspects {
            let (was, is) = (printable(&suspect.base, 80), printable(&suspect.head, 80));
            println!("  differs there: {}: {was} -> {is}", printable(&suspect.what, 80));
        }
        if hint.suspects.is_empty() {
            println!("  nothing on record differs there; run one of the nights between them again");
        }
    }
    Ok(())
}

fn list(history: &History, args: &Args) -> Result<(), Failure> {
    let glob = |text: &str| -> Result<GlobMatcher, Failure> {
        let glob = Glob::new(text).with_context(|| format!("`{text}`"));
        Ok(glob.map_err(Failure::Usage)?.compile_matcher())
    };
    let (scenario, image) = (glob(&args.scenario)?, glob(&args.image)?);
    let nights = history.nights(|s, i| scenario.is_match(s) && image.is_match(i))?;
    if args.json {
        println!("{}", ui::json(&nights)?);
    } else {
        lines(&nights).iter().for_each(|line| println!("{line}"));
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, report::nights_svg(&nights)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Width of the longest bar.
const BAR: u64 = 40;

/// A block for each scenario and image, a line with a bar for each night.
fn lines(nights: &[Night]) -> Vec<String> {
    let mut out = Vec::new();
    for block in nights.chunk_by(|a, b| a.scenario == b.scenario && a.image == b.image) {
        let Some(first) = block.first() else { continue };
        out.push(format!("{} on {}", printable(&first.scenario, 80), printable(&first.image, 40)));
        let longest = block.iter().filter_map(|n| n.off_ms).max().unwrap_or(0).max(1);
        for night in block {
            let outcomes: Vec<String> = night.outcomes.iter().map(|(o, n)| format!("{n} {o}")).collect();
            let failed = if night.failed > 0 { format!(", {} failed", night.failed) } else { String::new() };
            let off = night.off_ms.map_or("-".to_owned(), words::seconds);
            let bar = night.off_ms.map_or(0, |ms| (ms.saturating_mul(BAR) / longest).max(1));
            let bar = "▇".repeat(usize::try_from(bar).unwrap_or(0));
            let outcomes = printable(&outcomes.join(", "), 80);
            let at = record::utc(night.started_at);
            out.push(format!("  {at}  {off:>8}  {bar:40}  {outcomes}{failed}"));
        }
    }
    if out.is_empty() {
        out.push("the history has no such result".to_owned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nights_are_lines_with_bars() {
        let night = |day: u64, off_ms, outcome: &str, failed| Night {
            run: format!("run-{day}"),
            started_at: 1_795_000_000 + day * 86_400,
            scenario: "control".into(),
            image: "reference".into(),
            outcomes: vec![(outcome.into(), 3)],
            failed,
            off_ms,
        };
        let nights = [
            night(1, Some(900), "powered-off", 0),
            night(2, Some(4500), "powered-off", 1),
            night(3, None, "still-running", 3),
        ];
        insta::assert_snapshot!(lines(&nights).join("\n"));
    }
}
