//! `cargo xtask report`

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use softoff_harness::record::{self, RunRecord, RunStore, ScenarioRecord};
use softoff_harness::{report, shard};

use crate::{Failure, host_tools, ui};

/// Write junit.xml, summary.md and report.html of a run again, or of shards together
///
/// `cargo xtask run` writes them too. They are made from the records alone: of an old run, or of one from
/// another machine.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo xtask report
  cargo xtask report target/softoff/runs/20261124T021700Z
  cargo xtask report merge shard-1 shard-2 shard-3"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// The run's folder; the newest run when absent
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Bring the shards of one run together into a new run; what none of them brought is shown as missing
    Merge {
        /// The shards' run folders, or folders that hold one each (such as downloaded artifacts)
        #[arg(required = true)]
        shards: Vec<PathBuf>,
        /// Where the merged run goes
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Print the merged run.json to standard output
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    if let Some(What::Merge { shards, out, json }) = &args.what {
        return merge(shards, out.as_deref(), *json);
    }
    let dir = args.run.clone().unwrap_or_else(|| host_tools::workspace().join("target/softoff/latest"));
    let run = record::read_run(&dir).map_err(Failure::Usage)?;
    let page = report::write_all(&dir, &run, report::kept_comparison(&dir)?.as_ref())?;
    println!("{}", page.display());
    Ok(())
}

fn merge(shards: &[PathBuf], out: Option<&Path>, json: bool) -> Result<(), Failure> {
    let mut runs: Vec<RunRecord> = Vec::new();
    let mut salvaged: Vec<ScenarioRecord> = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for given in shards {
        let Some(dir) = run_folder(given).map_err(Failure::Usage)? else {
            eprintln!("{} holds no run, so its shard is missing", given.display());
            continue;
        };
        if dir.join(record::RUN_JSON).exists() {
            runs.push(record::read_run(&dir).map_err(Failure::Usage)?);
        } else {
            let finished = finished(&dir)?;
            eprintln!(
                "{} has no run.json, so its shard did not live to the end; {} results of it are whole",
                dir.display(),
                finished.len()
            );
            salvaged.extend(finished);
        }
        folders.push(dir);
    }
    let out = out.map_or_else(|| host_tools::workspace().join("target/softoff"), Path::to_owned);
    // Before anything is written, so that a mistake leaves no folder behind.
    let checked = shard::merge(String::new(), runs, salvaged).map_err(|e| Failure::Usage(e.into()))?;
    let store = RunStore::create(&out)?;
    let merged = RunRecord { id: store.id(), ..checked };
    for result in &merged.results {
        let from = folders.iter().map(|f| f.join(&result.dir)).find(|f| record::is_scenario(f));
        if let Some(from) = from.filter(|_| record::is_plain_name(&result.dir)) {
            copy(&from, &store.dir().join(&result.dir), DEPTH)?;
        }
    }
    store.write_run(&merged)?;
    eprintln!("records: {}", store.dir().display());
    shard::differences(&merged).iter().for_each(|line| eprintln!("{line}"));
    let page = report::write_all(store.dir(), &merged, None)?;
    eprintln!("report:  {}", page.display());
    eprintln!("{}", ui::summary::render(&merged));
    if json {
        println!("{}", ui::json(&merged)?);
    }
    super::run::exit(&merged)
}

/// The folder itself if it is a run's, or the one run's folder in it, two levels down at most; `None` where a shard left
/// nothing.
fn run_folder(given: &Path) -> anyhow::Result<Option<PathBuf>> {
    anyhow::ensure!(given.is_dir(), "{} is no folder; give the folder of a shard's run", given.display());
    let is_run = |dir: &Path| {
        // A shard that died has a plan or a start marker at least.
        dir.join(record::RUN_JSON).exists()
            || dir.join(record::plan::PLAN).exists()
            || !record::unfinished(dir).is_empty()
            || record::scenario_dirs(dir).is_ok_and(|dirs| !dirs.is_empty())
    };
    let below = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        // `latest` is a link to a run that is there anyway; what carries artifacts may have made a copy of it.
        let counts = |e: &std::fs::DirEntry| {
            e.file_type().is_ok_and(|t| t.is_dir()) && e.file_name() != record::LATEST
        };
        entries.filter(counts).map(|e| e.path()).collect()
    };
    if is_run(given) {
        return Ok(Some(given.to_owned()));
    }
    let one = below(given);
    let two: Vec<PathBuf> = one.iter().flat_map(|dir| below(dir)).collect();
    let mut found = one.into_iter().chain(two).filter(|dir| is_run(dir));
    match (found.next(), found.next()) {
        (found, None) => Ok(found),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(anyhow!("{} holds several runs; give the folder of one", given.display())),
    }
}

/// The results of a shard that has no run.json.
fn finished(dir: &Path) -> anyhow::Result<Vec<ScenarioRecord>> {
    let results = record::scenario_dirs(dir)?.into_iter().map(|dir| record::read_result(&dir));
    results.filter_map(Result::transpose).collect()
}

/// A scenario's folder has folders of one level in it: what a next boot left.
const DEPTH: u32 = 1;

/// Copies a scenario's folder. Links are not followed: it may be another machine's.
fn copy(from: &Path, to: &Path, depth: u32) -> anyhow::Result<()> {
    let what = || format!("cannot copy {} to {}; is the disk full?", from.display(), to.display());
    std::fs::create_dir_all(to).with_context(what)?;
    for entry in std::fs::read_dir(from).with_context(what)?.flatten() {
        let kind = entry.file_type().with_context(what)?;
        let place = to.join(entry.file_name());
        if kind.is_file() {
            std::fs::copy(entry.path(), place).with_context(what)?;
        } else if kind.is_dir() && depth > 0 {
            copy(&entry.path(), &place, depth - 1)?;
        }
    }
    Ok(())
}
