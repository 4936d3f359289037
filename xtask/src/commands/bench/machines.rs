//! Rows that start machines of the reference guest: warm against cold, what the harness adds, how soon it knows,
//! what it takes, and how machines share a host.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use softoff_harness::image::Image;
use softoff_harness::machine::QEMU;
use softoff_harness::machine::accel::{AccelChoice, Accelerator, choose};
use softoff_harness::outcome::Verdict;
use softoff_harness::record::overhead::{Parts, overhead, parts, record_latency};
use softoff_harness::record::past::Past;
use softoff_harness::record::schema::StartMode;
use softoff_harness::record::{RunStore, ScenarioRecord, read_timeline};
use softoff_harness::run::{Job, Listener, RunEvent, Start};
use softoff_harness::schedule::{self, Machines};
use softoff_harness::timeline::Observation;
use softoff_harness::warm::Missing;
use tokio::sync::watch;

use super::row::{Row, Samples, Side, Unit, figure};
use crate::commands::run::PREFLIGHT_LIMIT;
use crate::starts::warm_states;
use crate::{host_tools, ui};

/// What every such row needs; made once a bench.
pub(super) struct Bench {
    image: Arc<Image>,
    accelerator: Accelerator,
    warm: Start,
    samples: u32,
}

/// One finished run with what it saw.
struct Done {
    record: ScenarioRecord,
    seen: Vec<Observation>,
}

impl Bench {
    pub(super) fn prepare(samples: u32) -> anyhow::Result<Bench> {
        host_tools::ensure(host_tools::By::Run, false)?;
        let cache = softoff_images::cache::cache_root();
        let (accelerator, sentence) =
            choose(AccelChoice::Auto, Path::new(QEMU), Some(&cache), PREFLIGHT_LIMIT)?;
        eprintln!("{sentence}");
        let warm = Start::Warm(Arc::new(warm_states(Missing::Make)?));
        Ok(Bench { image: Arc::new(ui::build::reference()?), accelerator, warm, samples })
    }

    /// The image and accelerator, for peers that run the same guest.
    pub(super) fn subject(&self) -> (&Image, Accelerator, u32) {
        (&self.image, self.accelerator, self.samples)
    }

    /// Runs `control` so many times; every run must pass.
    async fn control(&self, start: Start, times: u32, machines: Machines) -> anyhow::Result<Vec<Done>> {
        let definition = softoff_scenarios::definitions_dir().join("control.toml");
        let scenario = Arc::new(softoff_harness::scenario::Scenario::load(&definition)?);
        let job = |repeat| Job {
            repeat,
            // The budgets of a definition are for quiet hosts; here many machines share one on purpose.
            deadline_scale: 4.0,
            start: start.clone(),
            ..Job::new(scenario.clone(), self.image.clone(), self.accelerator)
        };
        let store = RunStore::create(&host_tools::workspace().join("target/softoff/bench"))?;
        let (_stop, cancel) = watch::channel(false);
        let listener: Listener = Arc::new(|event| {
            if let RunEvent::Note { what, .. } = event {
                eprintln!("note: {what}");
            }
        });
        let jobs = (1..=times).map(job).collect();
        let past = Past::default();
        let mut done = Vec::new();
        for (_, result) in schedule::run_all(jobs, machines, &past, &store, &listener, cancel).await {
            let record = result?.context("a run was cancelled")?;
            ensure!(
                record.verdict == Verdict::Pass,
                "control did not pass: {} ({}); see {}",
                record.reasons.join("; "),
                record.verdict,
                store.dir().join(&record.dir).display()
            );
            let seen = read_timeline(&store.dir().join(&record.dir))?;
            done.push(Done { record, seen });
        }
        Ok(done)
    }

    async fn warm(&self, times: u32) -> anyhow::Result<Vec<Done>> {
        let done = self.control(self.warm.clone(), times, Machines::Exactly(1)).await?;
        let cold = done.iter().filter(|d| mode(d) != Some(StartMode::Warm)).count();
        ensure!(cold == 0, "{cold} of {times} machines booted cold: see the notes above");
        Ok(done)
    }
}

fn mode(done: &Done) -> Option<StartMode> {
    done.record.start.as_ref().map(|start| start.mode)
}

fn ready(done: &[Done]) -> Samples {
    let millis = done.iter().filter_map(|d| d.record.start.as_ref()?.ready_ms);
    millis.map(Duration::from_millis).collect()
}

/// (a) From QEMU's start to a guest that is proven ready.
pub(super) async fn warm_start(bench: &Bench) -> anyhow::Result<Row> {
    let warm = bench.warm(bench.samples).await?;
    let cold = bench.control(Start::Cold, (bench.samples / 3).clamp(3, 10), Machines::Exactly(1)).await?;
    let (ours, theirs) = (ready(&warm), ready(&cold));
    let row = Row::timed("warm-start", "QEMU's start to proven ready: warm / cold boot", &ours, &theirs);
    let fast = ours.median().is_some_and(|m| m <= Duration::from_secs(1));
    let off = |done: &[Done]| -> Samples {
        let millis = done.iter().filter_map(|d| d.record.phases.powered_off_ms);
        millis.map(Duration::from_millis).collect()
    };
    let text = |s: Samples| s.median().map_or("-".into(), |m| figure(m.as_secs_f64(), Unit::Seconds));
    let note = format!(
        "{} of {} warm starts passed; request to off: warm {}, cold {}",
        warm.len(),
        bench.samples,
        text(off(&warm)),
        text(off(&cold))
    );
    let met = fast && row.ratio.is_some_and(|ratio| ratio <= 0.1);
    Ok(row.goal("at most 1.0 s, and a tenth of cold", met).note(note))
}

/// (b) What the harness adds to a warm scenario; `harness/src/record/overhead.rs` says what is the guest's.
pub(super) async fn overheads(bench: &Bench) -> anyhow::Result<Row> {
    let done = bench.warm(bench.samples).await?;
    let times = done.iter().filter_map(|d| overhead(&d.record, &d.seen)).collect();
    let limit = Duration::from_millis(150);
    let parts: Vec<Parts> = done.iter().filter_map(|d| parts(&d.record, &d.seen)).collect();
    let part = |of: fn(&Parts) -> Duration| {
        let median = parts.iter().map(of).collect::<Samples>().median().unwrap_or_default();
        figure(median.as_secs_f64(), Unit::Seconds)
    };
    let note = format!(
        "before QEMU {}, before the press {}, ending QEMU {}, disk to record {}",
        part(|p| p.preparing),
        part(|p| p.looking),
        part(|p| p.ending),
        part(|p| p.reading)
    );
    let row =
        Row::limited("overhead", "a warm scenario's wall time without the guest's / limit", &times, limit);
    Ok(row.note(note))
}

/// (c) From QEMU's SHUTDOWN event to the recorded outcome.
pub(super) async fn latency(bench: &Bench) -> anyhow::Result<Row> {
    let done = bench.warm(bench.samples).await?;
    let times = done.iter().filter_map(|d| record_latency(&d.seen)).collect();
    let limit = Duration::from_millis(5);
    Ok(Row::limited("record-latency", "SHUTDOWN event to recorded outcome / limit", &times, limit))
}

/// Memory of this process for each of four machines that run at a time.
pub(super) async fn memory(bench: &Bench) -> anyhow::Result<Row> {
    const MACHINES: u32 = 4;
    let _warmed = bench.warm(1).await?;
    let work = bench.control(bench.warm.clone(), MACHINES * 2, Machines::Exactly(MACHINES as usize));
    tokio::pin!(work);
    let mut peak = 0.0f64;
    loop {
        tokio::select! {
            done = &mut work => break drop(done?),
            () = tokio::time::sleep(Duration::from_millis(50)) => peak = peak.max(resident_mb()?),
        }
    }
    let what = "resident memory of the harness for each of 4 machines / limit";
    let ours = Side::exactly(peak / f64::from(MACHINES));
    let row = Row::of("memory", what, Unit::Megabytes, ours, Side::exactly(15.0));
    let met = row.ratio.is_some_and(|ratio| ratio <= 1.0);
    Ok(row.goal("at most 15 MB", met).note(format!("{peak:.1} MB in all at its highest")))
}

/// VmRSS of this process, MB.
fn resident_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// (e) Scenarios a second at 2 and 4 machines against so many times one machine's.
pub(super) async fn parallel(bench: &Bench) -> anyhow::Result<Row> {
    let _warmed = bench.warm(1).await?;
    // A multiple of 4, so that no machine idles at the end.
    let runs = bench.samples.next_multiple_of(4).max(8);
    let mut rates = Vec::new();
    for machines in [1u32, 2, 4] {
        let began = Instant::now();
        bench.control(bench.warm.clone(), runs, Machines::Exactly(machines as usize)).await?;
        rates.push((machines, f64::from(runs) / began.elapsed().as_secs_f64()));
    }
    let one = rates.first().map_or(0.0, |(_, rate)| *rate);
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let efficiency = |machines: u32| {
        let rate = rates.iter().find(|(n, _)| *n == machines).map_or(0.0, |(_, rate)| *rate);
        // More machines than processors cannot be faster than the processors.
        let of = machines.min(u32::try_from(processors).unwrap_or(u32::MAX));
        rate / (one * f64::from(of))
    };
    let (two, four) = (efficiency(2), efficiency(4));
    let what = "scenarios a second at 2 machines / twice those at 1";
    let row = Row::of("parallel", what, Unit::Share, Side::exactly(two), Side::exactly(1.0));
    let note = format!("at 4 machines on {processors} processors: {}", figure(four, Unit::Share));
    Ok(Row { samples: runs as usize, ..row }.goal("at least 80 % at 2", two >= 0.8).note(note))
}

/// The whole control scenario, for the comparison with peers: from nothing to the record, clean-up included.
pub(super) async fn whole_control(bench: &Bench, mode: StartMode, times: u32) -> anyhow::Result<Samples> {
    let done = match mode {
        StartMode::Warm => bench.warm(times).await?,
        StartMode::Cold => bench.control(Start::Cold, times, Machines::Exactly(1)).await?,
    };
    Ok(done.iter().map(|d| Duration::from_millis(d.record.wall_ms)).collect())
}
