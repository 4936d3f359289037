//! Do predictions and runs agree? On the reference guest, for every condition that consists of settings: lint an
//! overlay with it, run the scenario, put a further overlay right by the predicted remedy, lint and run that.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use globset::Glob;
use serde::Serialize;
use softoff_harness::disk::DiskImage;
use softoff_harness::image::Image;
use softoff_harness::inject::{self, HiveEdit};
use softoff_harness::inspect::ImageReport;
use softoff_harness::lint::Lint;
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::folder::RunFolder;
use softoff_harness::machine::overlay;
use softoff_harness::outcome::{OutcomeKind, Phase};
use softoff_harness::record::{RunStore, ScenarioRecord};
use softoff_harness::run::{Job, run_scenario};
use softoff_harness::scenario::{Expectation, RequestMeans, Scenario, ScenarioName, Span};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::commands::run::{Accel, accelerator};
use crate::{Failure, host_tools, runtime, ui};

/// A remedied machine is asked only now: settings that act after a while (the display's 5 s) would have acted.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

/// What to confirm.
pub(crate) struct Options {
    pub(crate) scenarios: Vec<String>,
    pub(crate) jobs: u32,
    pub(crate) json: bool,
}

/// A prediction beside what came of it.
#[derive(Debug, Serialize)]
struct Arm {
    scenario: ScenarioName,
    /// `injected`, or `remedied`.
    arm: &'static str,
    predicted: Option<OutcomeKind>,
    found: OutcomeKind,
    /// Whether the condition was in place: proven in the guest, or put there and read back.
    in_place: bool,
    agree: bool,
}

pub(crate) fn execute(options: &Options) -> Result<(), Failure> {
    let scenarios = select(&options.scenarios)?;
    host_tools::ensure(host_tools::By::Run, false)?;
    let accelerator = accelerator(Accel::Auto)?;
    let image = Arc::new(ui::build::reference()?);
    let runtime = runtime::start()?;
    let arms = runtime.block_on(confirm_all(options, scenarios, image, accelerator))?;
    if options.json {
        println!("{}", ui::json(&arms)?);
    } else {
        let rows = arms.iter().map(|arm| {
            let predicted = arm.predicted.map_or("nothing".to_owned(), |outcome| outcome.to_string());
            let agree = match (arm.agree, arm.in_place) {
                (true, _) => "yes",
                (false, true) => "NO",
                (false, false) => "NO: the condition was not in place",
            };
            vec![
                arm.scenario.to_string(),
                arm.arm.to_owned(),
                predicted,
                arm.found.to_string(),
                agree.to_owned(),
            ]
        });
        println!(
            "{}",
            ui::table(&["scenario", "disk", "lint predicts", "the run finds", "agree"], rows.collect())
        );
    }
    let wrong = arms.iter().filter(|arm| !arm.agree).count();
    eprintln!("{} of {} predictions agree with the runs", arms.len() - wrong, arms.len());
    eprintln!("reference results come from Softoff's reference guest; they are not Windows results");
    if wrong > 0 { Err(Failure::Scenario) } else { Ok(()) }
}

/// Scenarios of the reference guest whose conditions are settings alone, asked by the button alone; the control is
/// among them.
fn select(patterns: &[String]) -> Result<Vec<Scenario>, Failure> {
    let globs = patterns
        .iter()
        .map(|p| Ok(Glob::new(p).with_context(|| format!("--scenario {p}"))?.compile_matcher()))
        .collect::<anyhow::Result<Vec<_>>>()
        .map_err(Failure::Usage)?;
    let all = softoff_scenarios::load_all().map_err(|e| Failure::Usage(e.into()))?;
    let family = softoff_harness::image::GuestFamily::Reference;
    let fits = |s: &Scenario| {
        let named = globs.is_empty() || globs.iter().any(|glob| glob.is_match(&s.name.0));
        let asked = s.request.by == RequestMeans::AcpiButton
            && s.request.at == Default::default()
            && s.request.then.is_empty()
            && s.request.wake_key.is_none();
        let settings = s.conditions.iter().all(|condition| condition.is_policy());
        named && asked && settings && s.images.contains(&family)
    };
    let chosen: Vec<Scenario> = all.into_iter().filter(fits).map(one_press).collect();
    if chosen.is_empty() {
        let what =
            "no scenario with settings alone matches; `cargo xtask list --conditions` shows the conditions";
        return Err(Failure::Usage(anyhow!(what)));
    }
    Ok(chosen)
}

/// A prediction is about one press.
fn one_press(mut scenario: Scenario) -> Scenario {
    scenario.request.presses = 1;
    scenario
}

async fn confirm_all(
    options: &Options,
    scenarios: Vec<Scenario>,
    image: Arc<Image>,
    accelerator: Accelerator,
) -> anyhow::Result<Vec<Arm>> {
    let store = RunStore::create(&host_tools::workspace().join("target/softoff"))?;
    let places = Arc::new(Semaphore::new(options.jobs as usize));
    let mut running = JoinSet::new();
    for (number, scenario) in scenarios.into_iter().enumerate() {
        let (places, store, image) = (places.clone(), store.clone(), image.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            (number, confirm(&store, scenario, image, accelerator).await)
        });
    }
    let mut done = Vec::new();
    while let Some(ended) = running.join_next().await {
        let (number, arms) = ended.context("a confirmation ended badly")?;
        done.push((number, arms?));
    }
    eprintln!("records: {}", store.dir().display());
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().flat_map(|(_, arms)| arms).collect())
}

/// The arms of one scenario: as injected, and where a press would not be obeyed, as remedied.
async fn confirm(
    store: &RunStore,
    scenario: Scenario,
    image: Arc<Image>,
    accelerator: Accelerator,
) -> anyhow::Result<Vec<Arm>> {
    let family = image.manifest.family;
    let edits: Vec<HiveEdit> = scenario.conditions.iter().flat_map(|c| c.offline(family)).collect();
    let folder = RunFolder::create()?;
    let lint = predict(&image, folder.path(), &edits).await?;
    let job = |scenario: Scenario, image: Arc<Image>| Job::new(Arc::new(scenario), image, accelerator);
    let mut asked = scenario.clone();
    if let Some(outcome) = lint.outcome().filter(|outcome| *outcome != asked.expect.outcome) {
        // The definition presses more than once; of one press the prediction is the expectation.
        (asked.expect.outcome, asked.expect.last_phase) = (outcome, Phase::Request);
        asked.expect.volume_dirty = None;
    }
    let record = run(store, job(asked, image.clone())).await?;
    let mut arms = vec![arm(&scenario, "injected", &lint, &record, record.condition_proven != Some(false))];
    if lint.outcome() == Some(OutcomeKind::PoweredOff) {
        return Ok(arms);
    }
    let all: Vec<HiveEdit> = edits.into_iter().chain(lint.remedy()).collect();
    let lint = predict(&image, folder.path(), &all).await?;
    let name = scenario.name.clone();
    let mut plain = scenario;
    plain.conditions.clear();
    plain.name = ScenarioName(format!("{name}-remedied"));
    plain.request.delay = Span(PATIENCE);
    plain.expect = Expectation::healthy();
    // Conditions and remedies are settings on one disk, the later above the earlier.
    let record = run(store, Job { hardening: Arc::new(all), ..job(plain.clone(), image) }).await?;
    plain.name = name;
    arms.push(arm(&plain, "remedied", &lint, &record, true));
    Ok(arms)
}

/// A remedied machine must be predicted to obey, and obey.
fn arm(scenario: &Scenario, arm: &'static str, lint: &Lint, record: &ScenarioRecord, in_place: bool) -> Arm {
    let (predicted, found) = (lint.outcome(), record.outcome.kind());
    let agree = in_place && agrees(arm, predicted, found);
    Arm { scenario: scenario.name.clone(), arm, predicted, found, in_place, agree }
}

fn agrees(arm: &str, predicted: Option<OutcomeKind>, found: OutcomeKind) -> bool {
    predicted == Some(found) && (arm != "remedied" || found == OutcomeKind::PoweredOff)
}

async fn run(store: &RunStore, job: Job) -> anyhow::Result<ScenarioRecord> {
    let (_stop, cancel) = watch::channel(false);
    let record = run_scenario(&job, store, &ui::live::listener(), cancel).await?;
    record.context("the run was stopped; start it again")
}

/// What the linter says of the image's disk with these values.
async fn predict(image: &Image, dir: &Path, edits: &[HiveEdit]) -> anyhow::Result<Lint> {
    let disk = dir.join("predicted.qcow2");
    if disk.exists() {
        std::fs::remove_file(&disk).with_context(|| format!("cannot remove {}", disk.display()))?;
    }
    overlay::of_image(image, &disk).await?;
    if !edits.is_empty() {
        let base = image.file(&image.manifest.system_disk);
        inject::apply(&disk, &[base], edits).context("the values could not be put in place")?;
    }
    // The reference guest is no evaluation, so that its age does not matter.
    Ok(Lint::of(&ImageReport::read(&DiskImage::open(&disk)?, 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::as_predicted("injected", Some(OutcomeKind::Suspended), OutcomeKind::Suspended, true)]
    #[case::another_end("injected", Some(OutcomeKind::StillRunning), OutcomeKind::PoweredOff, false)]
    #[case::nothing_predicted("injected", None, OutcomeKind::PoweredOff, false)]
    #[case::the_host_failed("injected", Some(OutcomeKind::PoweredOff), OutcomeKind::HostFailed, false)]
    #[case::put_right("remedied", Some(OutcomeKind::PoweredOff), OutcomeKind::PoweredOff, true)]
    #[case::the_remedy_does_not_help(
        "remedied",
        Some(OutcomeKind::StillRunning),
        OutcomeKind::StillRunning,
        false
    )]
    fn agreement(
        #[case] arm: &str,
        #[case] predicted: Option<OutcomeKind>,
        #[case] found: OutcomeKind,
        #[case] agree: bool,
    ) {
        assert_eq!(agrees(arm, predicted, found), agree);
    }

    #[test]
    fn conditions_that_need_a_program_are_left_out() {
        let names: Vec<String> = select(&[]).unwrap().into_iter().map(|s| s.name.0).collect();
        for name in
            ["power-button-nothing", "logon-required", "shutdown-event-tracker", "display-asleep", "control"]
        {
            assert!(names.iter().any(|n| n == name), "{name} is not in {names:?}");
        }
        assert!(
            !names.iter().any(|n| n.contains("application") || n.contains("service") || n.contains("agent"))
        );
    }
}
