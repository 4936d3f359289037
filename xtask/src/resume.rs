//! The folder that a run works in: a new one, or one of an interrupted run that goes on.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use softoff_harness::file_lock::FileLock;
use softoff_harness::host::HostFingerprint;
use softoff_harness::record::plan::{self, Plan, PlannedJob};
use softoff_harness::record::{RunStore, ScenarioRecord, read_run};
use softoff_harness::report::PAGE;
use softoff_harness::run::Job;
use softoff_harness::text::printable;

use crate::Failure;

/// A run's folder, with what is finished in it; nobody else works on it.
pub(crate) struct Work {
    pub(crate) store: RunStore,
    /// Seconds since 1970 when the run began.
    pub(crate) started_at: u64,
    /// What earlier processes finished.
    pub(crate) results: Vec<ScenarioRecord>,
    /// What they took, as far as it is known, milliseconds.
    pub(crate) wall_ms: u64,
    /// How many times it was interrupted.
    pub(crate) resumed: u32,
    _lock: FileLock,
}

/// A run that goes on, before it is known whether everything it was planned with is still the same.
pub(crate) struct Interrupted {
    dir: PathBuf,
    plan: Plan,
    lock: FileLock,
}

fn planned(jobs: &[Job]) -> Vec<PlannedJob> {
    let job = |job: &Job| PlannedJob {
        dir: job.name().dir(),
        definition: job.scenario.digest.clone(),
        image: job.image.id.clone(),
    };
    jobs.iter().map(job).collect()
}

impl Work {
    /// Makes a new run's folder and writes its plan.
    pub(crate) fn begin(out: &Path, jobs: &[Job], host: &HostFingerprint) -> anyhow::Result<Work> {
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let store = RunStore::create(out)?;
        let lock = plan::lock(store.dir())?.context("somebody took the new run's folder")?;
        let plan = Plan {
            schema: 1,
            started_at,
            // Behind the program and `run`.
            arguments: std::env::args_os().skip(2).map(|a| a.to_string_lossy().into_owned()).collect(),
            folder: std::env::current_dir().context("this folder has gone; cd to another")?,
            host: host.clone(),
            jobs: planned(jobs),
        };
        plan::write_plan(store.dir(), &plan)?;
        Ok(Work { store, started_at, results: Vec::new(), wall_ms: 0, resumed: 0, _lock: lock })
    }

    /// Whether a job has its result.
    pub(crate) fn has(&self, job: &Job) -> bool {
        let dir = job.name().dir();
        self.results.iter().any(|r| r.dir == dir)
    }
}

impl Interrupted {
    /// Takes the run in this folder, and goes to the folder that it was begun in.
    pub(crate) fn open(run: &Path) -> Result<Interrupted, Failure> {
        let dir = run.canonicalize().map_err(|_| {
            let what = format!("there is no run at {}; `cargo xtask run` begins one", run.display());
            Failure::Usage(anyhow!(what))
        })?;
        let plan = plan::read_plan(&dir).map_err(Failure::Usage)?;
        let lock = plan::lock(&dir)?.ok_or_else(|| {
            let what = format!("{} is still under way in another process; wait for its end", dir.display());
            Failure::Usage(anyhow!(what))
        })?;
        let back = || format!("the run was begun in {}, which is not there", plan.folder.display());
        std::env::set_current_dir(&plan.folder).with_context(back).map_err(Failure::Usage)?;
        Ok(Interrupted { dir, plan, lock })
    }

    /// The command line it was begun with.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.plan.arguments
    }

    /// Where its records go.
    pub(crate) fn out(&self) -> Option<PathBuf> {
        self.dir.parent()?.parent().map(Path::to_owned)
    }

    /// Goes on, where jobs and host are still those of the plan: what is finished is kept, what was cut is set aside.
    pub(crate) fn go_on(self, jobs: &[Job], host: &HostFingerprint) -> Result<Work, Failure> {
        let usage = |what: String| Failure::Usage(anyhow!("{what}; `cargo xtask run` begins a new run"));
        if self.plan.host != *host {
            return Err(usage("the host has changed since the run began".into()));
        }
        let now = planned(jobs);
        if now.len() != self.plan.jobs.len() {
            return Err(usage(format!(
                "{} results were planned, now {} are",
                self.plan.jobs.len(),
                now.len()
            )));
        }
        if let Some((was, _)) = self.plan.jobs.iter().zip(&now).find(|(was, is)| was != is) {
            let what = format!(
                "definition or image of {} has changed since the run began",
                printable(&was.dir, 120)
            );
            return Err(usage(what));
        }
        let found = plan::finished(&self.dir, &self.plan)?;
        for (name, why) in &found.cut {
            let to = plan::set_aside(&self.dir, name)?;
            eprintln!(
                "not believed: {} ({}); now {}",
                printable(name, 120),
                printable(why, 200),
                to.display()
            );
        }
        let before = read_run(&self.dir).ok();
        let whole = |job: &PlannedJob| found.results.iter().any(|r| r.dir == job.dir);
        // One that was killed before its reports were written still owes them.
        let told = before.as_ref().is_some_and(|run| !run.interrupted) && self.dir.join(PAGE).exists();
        if told && now.iter().all(whole) {
            let dir = self.dir.display();
            return Err(usage(format!(
                "nothing of {dir} is left to run; `cargo xtask report {dir}` shows it"
            )));
        }
        // A page of before would say that all was told, once the record is whole.
        if let Err(error) = std::fs::remove_file(self.dir.join(PAGE))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            let what = format!("removing the old page of {}", self.dir.display());
            return Err(anyhow::Error::new(error).context(what).into());
        }
        let planned = found.results.iter().filter(|r| now.iter().any(|job| job.dir == r.dir)).count();
        eprintln!("going on with {}: {planned} of {} are finished", self.dir.display(), now.len());
        Ok(Work {
            store: RunStore::reopen(&self.dir),
            started_at: self.plan.started_at,
            results: found.results,
            wall_ms: before.as_ref().map_or(0, |run| run.wall_ms),
            resumed: before.map_or(0, |run| run.resumed) + 1,
            _lock: self.lock,
        })
    }
}
