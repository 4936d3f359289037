//! `cargo xtask torture`

#![allow(clippy::indexing_slicing, reason = "only of JSON values, where what is missing is null")]

mod bench;
mod faults;
mod harness;
mod hostile;
mod lines;
mod look;
mod provoke;
mod resources;
mod shards;
mod storage;
mod trial;
pub(crate) mod wire;

use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use console::style;
use softoff_harness::text::printable;

use crate::ui::{self, seconds, table};
use crate::{Failure, host_tools, runtime, stopping};
use bench::Bench;
use faults::{FAULTS, Fault, Seen};

/// Attack the harness: kill, stop, starve and deceive it, and see whether it ever lies
///
/// Each fault is done to a whole `cargo xtask run` of its own with a real guest. Afterwards the verdict is held against
/// what really happened, the records against their documented shape, and nothing may be left: no process, no folder.
/// Then a plain run in the same place must pass. Without --all or --fault: the quick ones, a minute in all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask torture                        # the quick ones
  cargo xtask torture --all                  # all: some 35 minutes, with a cache of its own
  cargo xtask torture --fault kill-harness --moments 10 --seed 7
  cargo xtask torture --list

Exit codes: 0 every verdict right and nothing left, 1 something was wrong, 3 nothing could be tried, 130 interrupted.
A fault that this host cannot provoke is `unavailable`, with the reason; it counts as nothing.")]
pub(crate) struct Args {
    /// Every fault
    #[arg(long, conflicts_with = "faults")]
    all: bool,
    /// Only this fault; may be given several times
    #[arg(long = "fault", value_name = "NAME", value_parser = PossibleValuesParser::new(names()))]
    faults: Vec<String>,
    /// What chance decides is decided by this number; printed when absent
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Moments at which the harness itself is killed
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    moments: u32,
    /// Tell what there is, and do nothing
    #[arg(long)]
    list: bool,
    /// Install missing packages without asking whether this is a machine for it
    #[arg(long)]
    install: bool,
}

fn names() -> Vec<&'static str> {
    FAULTS.iter().map(|fault| fault.name).collect()
}

/// What became of one fault.
struct Tried {
    fault: &'static Fault,
    seen: Result<Seen, anyhow::Error>,
    wall: Duration,
}

impl Tried {
    /// In a word: right, wrong, unavailable.
    fn word(&self) -> &'static str {
        match &self.seen {
            Ok(Seen::Unavailable(_)) => "unavailable",
            Ok(Seen::Result { problems, .. }) if problems.is_empty() => "right",
            _ => "WRONG",
        }
    }

    fn said(&self) -> String {
        match &self.seen {
            Ok(Seen::Result { said, .. }) => said.clone(),
            Ok(Seen::Unavailable(why)) => printable(why, 200),
            Err(error) => printable(&format!("{error:#}"), 400),
        }
    }

    fn problems(&self) -> Vec<String> {
        match &self.seen {
            Ok(Seen::Result { problems, .. }) => problems.iter().map(|p| printable(p, 900)).collect(),
            Ok(Seen::Unavailable(_)) => Vec::new(),
            Err(error) => vec![printable(&format!("{error:#}"), 900)],
        }
    }
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let chosen: Vec<&'static Fault> = FAULTS
        .iter()
        .filter(|f| match args.faults.is_empty() {
            true => args.all || args.list || f.quick,
            false => args.faults.iter().any(|name| name == f.name),
        })
        .collect();
    if args.list {
        let row = |f: &&Fault| {
            vec![f.name.to_owned(), if f.quick { "quick" } else { "--all" }.to_owned(), f.what.to_owned()]
        };
        println!("{}", table(&["fault", "when", "what is done"], chosen.iter().map(row).collect()));
        return Ok(());
    }
    host_tools::ensure(host_tools::By::Run, args.install)?;
    let _image = ui::build::reference()?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    println!("seed {seed} (--seed {seed} repeats what chance decided)");
    let runtime = runtime::start()?;
    runtime.block_on(async { stopping::when_asked("stopping: ending the trial", trial::stop) })?;
    match torture(args, &chosen, seed) {
        Err(Failure::Infra(_)) if trial::stopped() => Err(Failure::Interrupted),
        all => all,
    }
}

/// Tries them, tells of each, and prints the table.
fn torture(args: &Args, chosen: &[&'static Fault], seed: u64) -> Result<(), Failure> {
    let own = args.all || chosen.iter().any(|fault| fault.own_cache);
    let mut bench = Bench::new(seed, args.moments, own)?;
    let began = Instant::now();
    let mut all = Vec::new();
    for (number, fault) in chosen.iter().enumerate() {
        let one = Instant::now();
        let seen = provoke::run(fault, &mut bench);
        // What was under way then has shown nothing.
        if trial::stopped() {
            break;
        }
        let tried = Tried { fault, seen, wall: one.elapsed() };
        let word = match tried.word() {
            "right" => style("right").green(),
            "WRONG" => style("WRONG").red().bold(),
            other => style(other).yellow(),
        };
        let count = format!("[{}/{}]", number + 1, chosen.len());
        println!("{count:>8} {:22} {word:11} {:>8}  {}", fault.name, seconds(tried.wall), tried.said());
        for problem in tried.problems() {
            println!("           {problem}");
        }
        all.push(tried);
    }
    drop(bench);
    let row =
        |t: &Tried| vec![t.fault.name.to_owned(), t.fault.what.to_owned(), t.said(), t.word().to_owned()];
    println!("{}", table(&["fault", "what is done", "result", ""], all.iter().map(row).collect()));
    let count = |word: &str| all.iter().filter(|t| t.word() == word).count();
    println!(
        "{} of {} faults in {}: {} right, {} wrong, {} unavailable; seed {seed}",
        all.len(),
        chosen.len(),
        seconds(began.elapsed()),
        count("right"),
        count("WRONG"),
        count("unavailable")
    );
    match (count("WRONG"), count("right")) {
        (0, _) if all.len() < chosen.len() => Err(Failure::Interrupted),
        (0, 0) => Err(Failure::Infra(Some(anyhow::anyhow!("no fault could be tried")))),
        (0, _) => Ok(()),
        _ => Err(Failure::Scenario),
    }
}
