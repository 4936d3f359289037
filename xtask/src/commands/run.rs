//! `cargo xtask run`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use clap::{Parser, ValueEnum};
use globset::{Glob, GlobMatcher};
use softoff_harness::known_issues::KnownIssues;
use softoff_harness::machine::accel::{AccelChoice, Accelerator, choose};
use softoff_harness::machine::{QEMU, folder};
use softoff_harness::outcome::Verdict;
use softoff_harness::record::past::Past;
use softoff_harness::record::schema::{PlannedResult, ShardRef};
use softoff_harness::record::{LATEST, RunRecord, read_run};
use softoff_harness::run::Job;
use softoff_harness::scenario::Scenario;
use softoff_harness::schedule::Machines;
use softoff_harness::shard::{Shard, assign};
use softoff_images::hardening::Profile;

use crate::batch::{self, Ran};
use crate::images::{self, Chosen, DiskArgs};
use crate::resume::Interrupted;
use crate::{Cli, Command, Failure, asking, attached, host_tools, runtime, starts, ui};

/// How long the test boot under KVM may take. It needs 0.1 s where KVM works and 0.5 s under TCG.
pub(crate) const PREFLIGHT_LIMIT: Duration = Duration::from_secs(10);

/// Run scenarios: boot, inject, press the power button, record what happened
///
/// Builds the reference image when the cache does not have it, and installs missing packages when it may
/// (as root, or with passwordless sudo). Records go to target/softoff/runs/; `latest` is the newest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask run
  cargo xtask run --scenario control --repeat 5
  cargo xtask run --scenario 'power-button-*' --keep
  cargo xtask run --repeat 5 --baseline ci/baseline --until-decided 20
  cargo xtask run --backend both --scenario 'power-button-*'
  cargo xtask run --request all
  cargo xtask run --preset nova --scenario windows-update-exceeds-grace
  cargo xtask run --domain win11 --connect qemu:///system
  cargo xtask run --shard 1/3 --durations ci/baseline
  cargo xtask run --resume
  cargo xtask run --image reference --image reference-hardened
  cargo xtask run --image win.qcow2 --family windows-server-2022 --scenario control
  cargo xtask run --json > run.json")]
pub(crate) struct Args {
    /// Scenarios to run: names, globs, or paths of definitions (*.toml); all when absent
    #[arg(long = "scenario", value_name = "GLOB|PATH")]
    scenarios: Vec<String>,
    /// Images: `reference`, a built one, the path of an image folder, or of a disk with --family; with -hardened behind
    /// it, the hardening profile is put over each condition
    #[arg(long = "image", value_name = "NAME|PATH", default_value = "reference")]
    images: Vec<String>,
    #[command(flatten)]
    disk: DiskArgs,
    /// How the guest's instructions are run
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
    /// Machines at the same time: a number, or `auto`: as many as processors and memory allow, where a guest that
    /// only waits makes room for another
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = machines)]
    pub(crate) jobs: Machines,
    /// Run each scenario so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: u32,
    /// Multiply the scenarios' time limits, for slow hosts
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = scale)]
    pub(crate) deadline_scale: f64,
    /// Take deadlines from earlier runs, where five or more of a scenario all powered off: three times the
    /// slowest, at most twice the definition's
    #[arg(long)]
    adapt_deadlines: bool,
    /// Wait for each deadline even when the evidence has decided the outcome earlier
    #[arg(long)]
    full_deadline: bool,
    /// Boot without putting the conditions in place: the negative control. A scenario with a condition must
    /// then end inconclusive
    #[arg(long)]
    without_injection: bool,
    /// Keep each guest running after its result, and print how to attach; Ctrl-C ends it
    #[arg(long)]
    keep: bool,
    /// How machines come to be ready. A scenario whose condition is put into the disk always boots
    #[arg(long, value_enum, default_value_t = starts::Choice::Auto)]
    start: starts::Choice,
    #[command(flatten)]
    asking: asking::AskArgs,
    /// Press the button of a domain that libvirt runs already, once, and record what comes of it. It is never destroyed
    #[arg(long, value_name = "NAME", conflicts_with_all = ["scenarios", "backend", "requests", "presets", "keep", "shard", "baseline"])]
    domain: Option<String>,
    /// The libvirtd of --domain, such as qemu:///system; virsh's own default when absent
    #[arg(long, value_name = "URI", requires = "domain")]
    pub(crate) connect: Option<String>,
    /// Run what failed again, so many times; what passes then is `flaky`
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) retries: u32,
    /// Failures that are on file: their verdict is `known-issue`; an expired entry fails
    #[arg(long, value_name = "FILE")]
    known_issues: Option<PathBuf>,
    /// Hold the results against this run
    #[arg(long, value_name = "DIR")]
    pub(crate) baseline: Option<PathBuf>,
    /// Repeat what is undecided against the baseline, up to so many times each
    #[arg(long, value_name = "N", requires = "baseline", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) until_decided: Option<u32>,
    #[command(flatten)]
    pub(crate) floors: super::compare::FloorArgs,
    /// Run only part I of N; the other parts run on other machines, and `report merge` brings them together
    #[arg(long, value_name = "I/N", conflicts_with = "keep")]
    shard: Option<Shard>,
    /// An earlier run whose times balance the shards: the same on every machine
    #[arg(long, value_name = "DIR", requires = "shard")]
    durations: Option<PathBuf>,
    /// Print run.json to standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Where records go
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Install missing packages without asking whether this is a machine for it
    #[arg(long)]
    install: bool,
    /// Go on with an interrupted run, by the options it was begun with: what is finished is not run again, and what was
    /// cut is not believed. Without a folder: the newest run
    #[arg(long, value_name = "DIR", num_args = 0..=1, exclusive = true)]
    resume: Option<Option<PathBuf>>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Accel {
    /// KVM where a test boot passes, else TCG
    Auto,
    /// KVM or nothing
    Kvm,
    /// Emulation
    Tcg,
}

fn scale(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=1000.0).contains(&factor) { Ok(factor) } else { Err("must be between 0.1 and 1000".into()) }
}

fn machines(text: &str) -> Result<Machines, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Machines::Auto),
        Ok(n) if (1..=1024).contains(&n) => Ok(Machines::Exactly(n)),
        _ => Err("must be `auto`, or a number between 1 and 1024".into()),
    }
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    if let Some(name) = &args.domain {
        return attached::run(args, name);
    }
    let Some(run) = &args.resume else { return start(args, None) };
    let newest = || batch::out(args).join(LATEST);
    let interrupted = Interrupted::open(&run.clone().unwrap_or_else(newest))?;
    let line = ["cargo xtask", "run"].into_iter().chain(interrupted.arguments().iter().map(String::as_str));
    let cli = Cli::try_parse_from(line).context("the plan's options do not fit this Softoff");
    let Command::Run(mut again) = cli.map_err(Failure::Usage)?.command else {
        return Err(Failure::Usage(anyhow!("the plan is of another command")));
    };
    again.out = interrupted.out();
    start(&again, Some(interrupted))
}

fn start(args: &Args, interrupted: Option<Interrupted>) -> Result<(), Failure> {
    let scenarios = args.asking.under_policies(select(args)?)?;
    images::check(&args.images, &args.disk)?;
    let swept = folder::sweep();
    if swept > 0 {
        eprintln!("removed {swept} temporary folders of runs that were killed");
    }
    let known = Arc::new(known_issues(args)?);
    if let Some(dir) = &args.baseline {
        let _readable = read_run(dir).map_err(Failure::Usage)?;
    }
    host_tools::ensure(host_tools::By::Run, args.install)?;
    let accelerator = accelerator(args.accel)?;
    let images = images::choose(&args.images, &args.disk)?;
    let mut jobs = plan(args, &scenarios, &images, accelerator, &known);
    let runtime = runtime::start()?;
    jobs = runtime.block_on(args.asking.give_backends(jobs))?;
    starts::choose(args.start, &mut jobs)?;
    let out = batch::out(args);
    let past = Past::read(&out);
    if args.adapt_deadlines {
        for job in &mut jobs {
            let (scenario, image) = (&job.scenario, &job.image.manifest.name);
            let defined = scenario.request.deadline.0;
            job.deadline = past.deadline(&scenario.name, image, job.accelerator, defined);
        }
    }
    if jobs.is_empty() {
        let what = "no chosen scenario runs on a chosen image; `cargo xtask list --json` shows which image each wants";
        return Err(Failure::Usage(anyhow!(what)));
    }
    for job in jobs.iter().filter(|j| j.repeat == 1 && j.approved.is_none() && j.hardening.is_empty()) {
        if softoff_scenarios::is_ours(&job.scenario) && job.scenario.policy.is_none() {
            let what = "has no approved snapshot, so its record is compared with none: `cargo xtask test`, then `cargo insta review`";
            eprintln!("note: {} on {} {what}", job.scenario.name, job.image.manifest.name);
        }
    }
    let mut names: Vec<_> = jobs.iter().map(Job::name).collect();
    names.sort();
    if let Some([twice, _]) = names.array_windows().find(|[a, b]| a == b) {
        let what =
            format!("scenario {} on image {} was chosen twice; name it once", twice.scenario, twice.image);
        return Err(Failure::Usage(anyhow!(what)));
    }
    let (jobs, shard) = share(args, jobs)?;
    let places = match args.jobs {
        Machines::Auto => std::thread::available_parallelism().map_or(1, |n| n.get()),
        Machines::Exactly(n) => n,
    };
    if args.keep && jobs.len() > places {
        let what = format!(
            "--keep would keep {} guests, and {places} run at a time; choose fewer scenarios or more --jobs",
            jobs.len()
        );
        return Err(Failure::Usage(anyhow!(what)));
    }
    let run = runtime.block_on(batch::run_all(args, jobs, shard, &past, interrupted))?;
    conclude(args, &run, &known)
}

/// The scenarios whose names match, and those given by path; a pattern that matches none is a mistake.
fn select(args: &Args) -> Result<Vec<Arc<Scenario>>, Failure> {
    let usage = |e| Failure::Usage(anyhow::Error::from(e));
    let (paths, patterns): (Vec<_>, Vec<_>) = args.scenarios.iter().partition(|p| p.ends_with(".toml"));
    let mut chosen: Vec<Scenario> =
        paths.iter().map(|p| Scenario::load(Path::new(p))).collect::<Result<_, _>>().map_err(usage)?;
    if !patterns.is_empty() || paths.is_empty() {
        let mut all = softoff_scenarios::load_all().map_err(usage)?;
        // What only libvirt can run is there for whoever names it, or chooses libvirt.
        if !patterns.is_empty() || args.asking.backend == asking::Choice::Libvirt {
            all.extend(softoff_scenarios::load_libvirt().map_err(usage)?);
        }
        let globs = patterns
            .iter()
            .map(|p| Ok(Glob::new(p).with_context(|| format!("--scenario {p}"))?.compile_matcher()))
            .collect::<anyhow::Result<Vec<_>>>()
            .map_err(Failure::Usage)?;
        let matches = |g: &GlobMatcher, s: &Scenario| g.is_match(&s.name.0);
        if let Some(idle) = globs.iter().find(|g| !all.iter().any(|s| matches(g, s))) {
            let what = format!(
                "no scenario matches `{}`; `cargo xtask list` shows the scenarios there are",
                idle.glob()
            );
            return Err(Failure::Usage(anyhow!(what)));
        }
        // Without a choice every scenario runs; under policies, which multiply them, one of each cause.
        let matrix = args.asking.any_policy();
        let by_default =
            |s: &Scenario| !matrix || softoff_scenarios::requests::MATRIX.contains(&s.name.0.as_str());
        let is_chosen = |s: &Scenario| match globs.is_empty() {
            true => by_default(s),
            false => globs.iter().any(|g| matches(g, s)),
        };
        chosen.extend(all.into_iter().filter(is_chosen));
    }
    Ok(chosen.into_iter().map(Arc::new).collect())
}

/// This machine's part of the jobs.
fn share(args: &Args, jobs: Vec<Job>) -> Result<(Vec<Job>, Option<ShardRef>), Failure> {
    let Some(shard) = args.shard else { return Ok((jobs, None)) };
    let past = args.durations.as_ref().map(|dir| read_run(dir).map_err(Failure::Usage)).transpose()?;
    let group = |job: &Job| (job.scenario.name.0.clone(), job.image.manifest.name.clone());
    let mut groups = BTreeMap::new();
    jobs.iter().for_each(|job| *groups.entry(group(job)).or_default() += 1);
    let assigned = assign(&groups, past.as_ref(), shard.of);
    let of = |job: &Job| assigned.get(&group(job)).copied().unwrap_or(1);
    let plan = jobs.iter().map(|j| PlannedResult { dir: j.name().dir(), shard: of(j) }).collect();
    let reference = ShardRef { index: shard.index, of: shard.of, plan };
    Ok((jobs.into_iter().filter(|j| of(j) == shard.index).collect(), Some(reference)))
}

fn known_issues(args: &Args) -> Result<KnownIssues, Failure> {
    let Some(path) = &args.known_issues else { return Ok(KnownIssues::default()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let today = softoff_harness::record::utc(now);
    let today = today.split(' ').next().unwrap_or_default();
    KnownIssues::load(path, today).map_err(|e| Failure::Usage(e.into()))
}

pub(crate) fn accelerator(wanted: Accel) -> anyhow::Result<Accelerator> {
    let wanted = match wanted {
        Accel::Auto => AccelChoice::Auto,
        Accel::Kvm => AccelChoice::Kvm,
        Accel::Tcg => AccelChoice::Tcg,
    };
    let cache = softoff_images::cache::cache_root();
    let (accelerator, sentence) = choose(wanted, Path::new(QEMU), Some(&cache), PREFLIGHT_LIMIT)?;
    eprintln!("{sentence}");
    Ok(accelerator)
}

fn plan(
    args: &Args,
    scenarios: &[Arc<Scenario>],
    images: &[Chosen],
    accelerator: Accelerator,
    known: &Arc<KnownIssues>,
) -> Vec<Job> {
    let mut jobs = Vec::new();
    for repeat in 1..=args.repeat {
        for Chosen { image, hardened } in images {
            let family = image.manifest.family;
            for scenario in scenarios.iter().filter(|s| s.images.contains(&family)) {
                let (scenario, hardening) = match hardened {
                    None => (scenario.clone(), Arc::default()),
                    // What nothing was written down about beforehand is no part of the matrix.
                    Some((profile, hardened)) => match profile.arm(scenario) {
                        Some(arm) => (Arc::new(arm), hardened.edits.clone()),
                        None => continue,
                    },
                };
                let approved = hardened.is_none().then(|| softoff_scenarios::approved(&scenario, family));
                jobs.push(Job {
                    approved: approved.flatten(),
                    repeat,
                    known_issues: known.clone(),
                    deadline_scale: args.deadline_scale,
                    full_deadline: args.full_deadline,
                    without_injection: args.without_injection,
                    hardening,
                    keep: args.keep,
                    ..Job::new(scenario, image.clone(), accelerator)
                });
            }
        }
    }
    jobs
}

fn conclude(args: &Args, ran: &Ran, known: &KnownIssues) -> Result<(), Failure> {
    let run = &ran.record;
    eprintln!("{}", ui::summary::render(run));
    if let Some(comparison) = &ran.comparison {
        ui::comparison::lines(comparison).iter().for_each(|line| eprintln!("{line}"));
    }
    let tables = [
        ui::hardening::render(run, &Profile::own()?).map(|table| table.to_string()),
        ui::soft_versus_hard::render(run),
        ui::requests::matrix(run),
        ui::requests::backends(run),
    ];
    tables.iter().flatten().for_each(|table| eprintln!("{table}"));
    if args.json {
        println!("{}", ui::json(run)?);
    }
    let expired = known.expired();
    expired.iter().for_each(|line| eprintln!("{line}"));
    let against = ran.comparison.as_ref().map_or(Ok(()), super::compare::judged);
    match (exit(run), against) {
        (Err(Failure::Scenario), _) | (_, Err(Failure::Scenario)) => Err(Failure::Scenario),
        _ if !expired.is_empty() => Err(Failure::Scenario),
        (Ok(()), against) => against,
        (run, _) => run,
    }
}

/// The exit code of a run.
pub(crate) fn exit(run: &RunRecord) -> Result<(), Failure> {
    let any = |verdicts: &[Verdict]| run.results.iter().any(|r| verdicts.contains(&r.verdict));
    if any(&[Verdict::Fail]) {
        Err(Failure::Scenario)
    } else if run.interrupted {
        Err(Failure::Interrupted)
    } else if any(&[Verdict::Infra, Verdict::Inconclusive]) || !run.missing.is_empty() {
        Err(Failure::Infra(None))
    } else {
        Ok(())
    }
}
