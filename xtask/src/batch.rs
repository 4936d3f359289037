//! Running what was planned: the first round, retries, and more repeats while a comparison is undecided; then the
//! record, its reports, and the history.

use std::path::{Path, PathBuf};
use std::time::Instant;

use softoff_harness::compare::{Comparison, compare};
use softoff_harness::history::{HISTORY, History};
use softoff_harness::host::HostFingerprint;
use softoff_harness::machine::QEMU;
use softoff_harness::record::past::Past;
use softoff_harness::record::schema::{SCHEMA, ShardRef};
use softoff_harness::record::{RunRecord, RunStore, ScenarioRecord, read_run};
use softoff_harness::report;
use softoff_harness::request_matrix;
use softoff_harness::run::{Job, Listener};
use softoff_harness::schedule::{self, Machines};
use tokio::sync::watch;

use crate::commands::run::Args;
use crate::resume::{Interrupted, Work};
use crate::{Failure, host_tools, rounds, stopping, ui};

/// A run and what it says against its baseline.
pub(crate) struct Ran {
    pub(crate) record: RunRecord,
    pub(crate) comparison: Option<Comparison>,
}

/// Runs the jobs that have no result yet and writes everything there is to write of all.
pub(crate) async fn run_all(
    args: &Args,
    jobs: Vec<Job>,
    shard: Option<ShardRef>,
    past: &Past,
    interrupted: Option<Interrupted>,
) -> Result<Ran, Failure> {
    let began = Instant::now();
    let host = HostFingerprint::collect(Path::new(QEMU)).map_err(anyhow::Error::from)?;
    let work = match interrupted {
        Some(interrupted) => interrupted.go_on(&jobs, &host)?,
        None => Work::begin(&out(args), &jobs, &host)?,
    };
    let store = &work.store;
    let (stop, cancel) = watch::channel(false);
    stopping::when_asked("stopping: ending the machines and writing a partial report", move || {
        stop.send_replace(true);
    })?;
    let batch =
        Batch { machines: args.jobs, past, listener: ui::live::listener(), store, cancel: cancel.clone() };
    let todo: Vec<Job> = jobs.iter().filter(|job| !work.has(job)).cloned().collect();
    let (new, mut trouble) = batch.run(&todo).await;
    let cut = *cancel.borrow() && new.len() < todo.len();
    let mut results = [work.results.clone(), new].concat();
    let place = |dir: &str| jobs.iter().position(|job| job.name().dir() == dir).unwrap_or(usize::MAX);
    results.sort_by_cached_key(|result| place(&result.dir));
    let mut record = RunRecord {
        schema: SCHEMA,
        id: store.id(),
        started_at: work.started_at,
        wall_ms: 0,
        host,
        // Also when a kept guest was ended on purpose: what never ran is missing.
        interrupted: cut,
        resumed: work.resumed,
        shard,
        merged: Vec::new(),
        missing: Vec::new(),
        results,
    };
    // Of a run that goes on, what was retried already.
    rounds::mark_flaky(&mut record.results);
    for _ in 0..args.retries {
        let again = rounds::retries(&jobs, &record.results);
        batch.add(&again, &mut record, &mut trouble).await;
        rounds::mark_flaky(&mut record.results);
    }
    let comparison = batch.decide(args, &jobs, &mut record, &mut trouble).await?;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    record.wall_ms = work.wall_ms.saturating_add(took);
    store.write_run(&record)?;
    request_matrix::write(store.dir(), &record)?;
    eprintln!("records: {}", store.dir().display());
    let page = report::write_all(store.dir(), &record, comparison.as_ref())?;
    eprintln!("report:  {}", page.display());
    // A run is a run, whether the history could be written or not.
    if let Err(error) = History::open(&out(args).join(HISTORY)).and_then(|mut h| h.import(&record)) {
        eprintln!("note: not taken into the history: {error:#}");
    }
    if record.interrupted {
        eprintln!("to go on:  cargo xtask run --resume {}", store.dir().display());
    }
    match trouble {
        Some(error) => Err(error.into()),
        None => Ok(Ran { record, comparison }),
    }
}

/// What is run together, under one limit.
struct Batch<'a> {
    machines: Machines,
    past: &'a Past,
    listener: Listener,
    store: &'a RunStore,
    cancel: watch::Receiver<bool>,
}

impl Batch<'_> {
    /// Runs the jobs and returns their records in the jobs' order, and the first trouble.
    async fn run(&self, jobs: &[Job]) -> (Vec<ScenarioRecord>, Option<anyhow::Error>) {
        let (jobs, listener, cancel) = (jobs.to_vec(), &self.listener, self.cancel.clone());
        let done = schedule::run_all(jobs, self.machines, self.past, self.store, listener, cancel).await;
        let mut results = Vec::new();
        let mut trouble = None;
        for (_, result) in done {
            match result {
                Ok(record) => results.extend(record),
                Err(e) => trouble = trouble.or(Some(e)),
            }
        }
        (results, trouble)
    }

    /// Runs more jobs into a record.
    async fn add(&self, jobs: &[Job], record: &mut RunRecord, trouble: &mut Option<anyhow::Error>) {
        if jobs.is_empty() || *self.cancel.borrow() {
            return;
        }
        let (results, more) = self.run(jobs).await;
        record.interrupted |= *self.cancel.borrow() && results.len() < jobs.len();
        record.results.extend(results);
        *trouble = trouble.take().or(more);
    }

    /// Compares with the baseline; while something is undecided and repeats are left, runs more of it.
    async fn decide(
        &self,
        args: &Args,
        jobs: &[Job],
        record: &mut RunRecord,
        trouble: &mut Option<anyhow::Error>,
    ) -> anyhow::Result<Option<Comparison>> {
        let Some(dir) = &args.baseline else { return Ok(None) };
        let mut base = read_run(dir)?;
        // What was not chosen to run is no loss against the baseline; what was, and is not there, is.
        base.results.retain(|r| rounds::is_of(jobs, r));
        let most = args.until_decided.unwrap_or(0);
        let terms = args.floors.terms(rounds::looks(args.repeat, most));
        loop {
            let comparison = compare(&base, record, &terms);
            let more = rounds::more_repeats(jobs, &record.results, &comparison, most);
            if more.is_empty() || *self.cancel.borrow() || trouble.is_some() {
                return Ok(Some(comparison));
            }
            eprintln!("undecided against the baseline: {} more repeats", more.len());
            self.add(&more, record, trouble).await;
        }
    }
}

/// Where records go.
pub(crate) fn out(args: &Args) -> PathBuf {
    args.out.clone().unwrap_or_else(|| host_tools::workspace().join("target/softoff"))
}
