//! `cargo xtask soak`

mod sample;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use serde::Serialize;
use softoff_harness::host::HostFingerprint;
use softoff_harness::machine::QEMU;
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::folder::{self, RunFolder};
use softoff_harness::outcome::Verdict;
use softoff_harness::proportion::clopper_pearson;
use softoff_harness::record::past::Past;
use softoff_harness::record::schema::{SCHEMA, StartMode};
use softoff_harness::record::{RunRecord, RunStore, ScenarioRecord};
use softoff_harness::run::{Job, Listener};
use softoff_harness::schedule::{self, Machines};
use softoff_harness::text::printable;
use tokio::sync::watch;

use super::run::{Accel, accelerator};
use crate::ui::{self, table};
use crate::{Failure, host_tools, runtime, starts, stopping};
use sample::Sample;

/// Runs in a row, each of which leaves the process as it was.
///
/// One scenario over and over in this one process, from a saved state. Memory, descriptors, threads and temporary
/// folders of the process are looked at after each run; they may not grow. A verdict that says something of the guest must
/// be `pass`; how many are `infra` is told with its confidence interval.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask soak --runs 500                # some 15 minutes
  cargo xtask soak --runs 30 --start cold    # how often does a cold boot die early?
  cargo xtask soak --runs 100 --json

Exit codes: 0 flat and no wrong verdict, 1 something grew or a verdict was wrong, 130 interrupted.")]
pub(crate) struct Args {
    /// How many runs
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    runs: u32,
    /// Which scenario
    #[arg(long, value_name = "NAME", default_value = "control")]
    scenario: String,
    /// How machines come to be ready
    #[arg(long, value_enum, default_value_t = starts::Choice::Warm)]
    start: starts::Choice,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Where records go
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Install missing packages without asking whether this is a machine for it
    #[arg(long)]
    install: bool,
}

/// What the soak found.
#[derive(Debug, Serialize)]
struct Report {
    runs: usize,
    pass: usize,
    infra: usize,
    /// Nothing is said of the guest: under load one of its own programs may fail.
    inconclusive: usize,
    /// 95 %, Clopper and Pearson.
    infra_interval: (f64, f64),
    warm: usize,
    /// Boots of guests, and how many of them died before they were ready: early kernel panics of the reference guest.
    boots: u64,
    boots_that_died: u64,
    boots_that_died_interval: (f64, f64),
    /// Verdicts that are none of these, each with its folder and reason.
    wrong: Vec<String>,
    /// Medians of the first tenth after the warming up, the middle, and the last tenth; empty when no run was whole.
    samples: Vec<(String, [u64; 3])>,
    grew: Vec<String>,
    wall_s: f64,
}

/// Memory may be so much more in the end: glibc's heaps settle.
const SLACK_KIB: u64 = 8 << 10;
/// The runtime keeps a few threads for blocking work, and lets them go after 10 idle seconds.
const SLACK_THREADS: u64 = 4;
/// A folder takes a block more once it has had many entries.
const SLACK_FILES_KIB: u64 = 64;

fn report(results: &[ScenarioRecord], samples: &[Sample], wall: Duration) -> Report {
    let count = |verdict: Verdict| results.iter().filter(|r| r.verdict == verdict).count();
    let (pass, infra) = (count(Verdict::Pass), count(Verdict::Infra));
    let right = [Verdict::Pass, Verdict::Infra, Verdict::Inconclusive];
    let wrong = results.iter().filter(|r| !right.contains(&r.verdict));
    let why =
        |r: &ScenarioRecord| format!("{}: {} {}", r.dir, r.verdict, printable(&r.reasons.join("; "), 200));
    let boots: u64 = results.iter().map(|r| u64::from(r.boots)).sum();
    let mut wrong: Vec<String> = wrong.map(why).collect();
    if pass == 0 && !results.is_empty() {
        // Infra and inconclusive results say nothing of the guest, so nothing would have been shown.
        wrong.push("no run passed: see the records' reasons".into());
    }
    // The last boot of a result counted if it came so far that the guest was ready or could be asked.
    let came_up = |r: &ScenarioRecord| u32::from(r.boot_ms.is_some() || r.last_phase.is_some());
    let died: u64 = results.iter().map(|r| u64::from(r.boots.saturating_sub(came_up(r)))).sum();
    let tenth = (samples.len() / 10).max(1);
    let part = |from: usize| samples.get(from..(from + tenth).min(samples.len())).unwrap_or_default();
    // With a single sample, it is the beginning, too.
    let last = samples.len().saturating_sub(1);
    let parts = [part(tenth.min(last)), part(samples.len() / 2), part(samples.len().saturating_sub(tenth))];
    let median = |part: &[Sample], which: usize| {
        let mut all: Vec<u64> = part.iter().filter_map(|s| s.values().get(which).copied()).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    let rows = Sample::NAMES.iter().enumerate();
    let medians: Vec<_> = rows
        .filter(|_| !samples.is_empty())
        .map(|(n, name)| ((*name).to_owned(), parts.map(|part| median(part, n))))
        .collect();
    let grew = medians.iter().enumerate().filter(|(n, (_, [first, _, last]))| {
        let slack = match n {
            0 => SLACK_KIB,
            2 => SLACK_THREADS,
            4 => SLACK_FILES_KIB,
            _ => 0,
        };
        *last > first + slack
    });
    let grew = grew.map(|(_, (name, [first, _, last]))| format!("{name}: {first} -> {last}")).collect();
    Report {
        runs: results.len(),
        pass,
        infra,
        inconclusive: count(Verdict::Inconclusive),
        infra_interval: clopper_pearson(infra as u64, results.len() as u64, 0.95),
        warm: results.iter().filter(|r| r.start.as_ref().is_some_and(|s| s.mode == StartMode::Warm)).count(),
        boots,
        boots_that_died: died,
        boots_that_died_interval: clopper_pearson(died, boots, 0.95),
        wrong,
        samples: medians,
        grew,
        wall_s: wall.as_secs_f64(),
    }
}

fn lines(report: &Report) -> Vec<String> {
    let share = |(low, high): (f64, f64)| format!("{:.2} % to {:.2} % at 95 %", low * 100.0, high * 100.0);
    let rows = report.samples.iter().map(|(name, [first, middle, last])| {
        vec![name.clone(), first.to_string(), middle.to_string(), last.to_string()]
    });
    let mut out = vec![table(&["of the process", "begin", "middle", "end"], rows.collect()).to_string()];
    out.push(format!(
        "{} runs in {:.0} s: {} pass, {} infra ({}), {} inconclusive, {} wrong; {} started warm",
        report.runs,
        report.wall_s,
        report.pass,
        report.infra,
        share(report.infra_interval),
        report.inconclusive,
        report.wrong.len(),
        report.warm
    ));
    if report.boots > 0 {
        out.push(format!(
            "{} cold boots, {} died early ({})",
            report.boots,
            report.boots_that_died,
            share(report.boots_that_died_interval)
        ));
    }
    out.extend(report.wrong.iter().map(|wrong| format!("wrong: {wrong}")));
    out.extend(report.grew.iter().map(|grew| format!("grew: {grew}")));
    if report.samples.is_empty() {
        out.push("no run was whole, so nothing is known of growth".into());
    } else if report.grew.is_empty() {
        out.push("nothing grew".into());
    }
    out
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    host_tools::ensure(host_tools::By::Run, args.install)?;
    let scenarios = softoff_scenarios::load_all().map_err(|e| Failure::Usage(e.into()))?;
    let scenario = scenarios.into_iter().find(|s| s.name.0 == args.scenario).ok_or_else(|| {
        let what = format!(
            "there is no scenario `{}`; `cargo xtask list` shows them",
            printable(&args.scenario, 80)
        );
        Failure::Usage(anyhow!(what))
    })?;
    let image = Arc::new(ui::build::reference()?);
    let accelerator = accelerator(Accel::Auto)?;
    let family = image.manifest.family;
    let scenario = Arc::new(scenario);
    let approved = softoff_scenarios::approved(&scenario, family);
    let mut jobs = vec![Job { approved, ..Job::new(scenario, image, accelerator) }];
    starts::choose(args.start, &mut jobs)?;
    let job = jobs.pop().context("no job")?;
    let out = args.out.clone().unwrap_or_else(|| host_tools::workspace().join("target/softoff"));
    let _left_by_killed_ones = folder::sweep();
    let own = RunFolder::create()?;
    // All that this process puts into the folder for temporary files, and nothing of anybody else, so that whatever stays
    // behind shows.
    let inside = own.path().join("t");
    std::fs::create_dir(&inside).with_context(|| inside.display().to_string())?;
    tempfile::env::override_temp_dir(&inside)
        .map_err(|other| anyhow!("temporary files go to {} already", other.display()))?;
    let runtime = runtime::start()?;
    let (report, dir, complete) = runtime.block_on(soak(args.runs, &job, &out, accelerator))?;
    if args.json {
        println!("{}", ui::json(&report)?);
    } else {
        lines(&report).iter().for_each(|line| println!("{line}"));
    }
    eprintln!("records: {}", dir.display());
    match (report.wrong.is_empty() && report.grew.is_empty(), complete) {
        (false, _) => Err(Failure::Scenario),
        (true, false) => Err(Failure::Interrupted),
        (true, true) => Ok(()),
    }
}

/// Runs, samples, and writes the record; false when it was interrupted.
async fn soak(
    runs: u32,
    job: &Job,
    out: &Path,
    accelerator: Accelerator,
) -> anyhow::Result<(Report, PathBuf, bool)> {
    let began = Instant::now();
    let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let host = HostFingerprint::collect(Path::new(QEMU))?;
    let store = RunStore::create(out)?;
    let (stop, cancel) = watch::channel(false);
    stopping::when_asked("stopping: ending the machine", move || {
        stop.send_replace(true);
    })?;
    eprintln!("{runs} x {} under {accelerator}; Ctrl-C ends it with what there is", job.scenario.name);
    let quiet: Listener = Arc::new(|_| {});
    let past = Past::default();
    let (mut results, mut samples) = (Vec::new(), Vec::new());
    for number in 1..=runs {
        let one = Job { repeat: number, ..job.clone() };
        let done =
            schedule::run_all(vec![one], Machines::Exactly(1), &past, &store, &quiet, cancel.clone()).await;
        for (_, record) in done {
            results.extend(record?);
        }
        // After a run that was cut nothing is as after a whole one: descriptors 12 -> 13, measured.
        if *cancel.borrow() {
            break;
        }
        samples.push(Sample::now()?);
        if number % 25 == 0 {
            let infra = results.iter().filter(|r| r.verdict == Verdict::Infra).count();
            let memory = samples.last().map_or(0, |s| s.rss_kib / 1024);
            eprintln!(
                "{number:>6} runs, {:.0} s, {infra} infra, {memory} MiB",
                began.elapsed().as_secs_f64()
            );
        }
    }
    let wall = began.elapsed();
    let report = report(&results, &samples, wall);
    let interrupted = *cancel.borrow();
    store.write_run(&RunRecord {
        schema: SCHEMA,
        id: store.id(),
        started_at,
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        host,
        interrupted,
        resumed: 0,
        shard: None,
        merged: Vec::new(),
        missing: Vec::new(),
        results,
    })?;
    Ok((report, store.dir().to_owned(), !interrupted))
}

#[cfg(test)]
mod tests {
    use softoff_harness::outcome::Cause;

    use super::*;
    use crate::ui::testing::result;

    fn sample(rss_kib: u64, descriptors: u64) -> Sample {
        Sample { rss_kib, descriptors, threads: 5, files: 0, files_kib: 0, children: 0 }
    }

    #[test]
    fn growth_and_wrong_verdicts_are_told() {
        let mut results: Vec<_> = (1..=100).map(|n| result("control", n, Cause::None, Cause::None)).collect();
        let flat: Vec<_> = (0..100).map(|n| sample(50_000 + n % 3, 20)).collect();
        let fine = report(&results, &flat, Duration::from_secs(1));
        assert_eq!((fine.pass, fine.wrong.len(), fine.grew.len()), (100, 0, 0));
        let leaks: Vec<_> = (0..100).map(|n| sample(50_000 + n * 200, 20 + n / 40)).collect();
        results[7].verdict = Verdict::Fail;
        results[8].verdict = Verdict::Infra;
        results[9].boots = 3;
        let bad = report(&results, &leaks, Duration::from_secs(1));
        assert_eq!((bad.pass, bad.infra, bad.wrong.len(), bad.grew.len()), (98, 1, 1, 2));
        assert!(
            lines(&bad).iter().any(|line| line.starts_with("grew: descriptors: 20 -> 22")),
            "{:?}",
            lines(&bad)
        );
        assert_eq!((bad.boots, bad.boots_that_died), (fine.boots + 2, 2));
        (results[10].boots, results[10].boot_ms, results[10].last_phase) = (3, None, None);
        assert_eq!(
            report(&results, &flat, Duration::from_secs(1)).boots_that_died,
            5,
            "three more, none ready"
        );
        results.iter_mut().for_each(|r| r.verdict = Verdict::Infra);
        assert_eq!(report(&results, &flat, Duration::from_secs(1)).wrong.len(), 1, "nothing was shown");
    }

    #[test]
    fn what_lies_about_ever_more_is_told() {
        let leaks: Vec<_> = (0..100).map(|n| Sample { files: n / 20, ..sample(50_000, 20) }).collect();
        let results: Vec<_> = (1..=100).map(|n| result("control", n, Cause::None, Cause::None)).collect();
        let grew = report(&results, &leaks, Duration::from_secs(1)).grew;
        assert!(grew.len() == 1 && grew[0].starts_with("temporary files: "), "{grew:?}");
    }

    #[test]
    fn one_run_shows_no_growth() {
        let one = [result("control", 1, Cause::None, Cause::None)];
        let grew = report(&one, &[sample(50_000, 20)], Duration::from_secs(1)).grew;
        assert!(grew.is_empty(), "{grew:?}");
        let none = lines(&report(&[], &[], Duration::from_secs(1)));
        assert!(!none.iter().any(|line| line == "nothing grew"), "{none:?}");
    }
}
