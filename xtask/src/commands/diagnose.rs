//! `cargo xtask diagnose`

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use softoff_harness::condition::remedies;
use softoff_harness::diagnose::{Diagnosis, diagnose};
use softoff_harness::live::{self, LiveJob, LiveReport, LiveStage, Reach};
use softoff_harness::machine::libvirt::Connection;
use softoff_harness::outcome::{Cause, Outcome, OutcomeKind, Phase};
use softoff_harness::scenario::Span;
use softoff_harness::text::printable;
use softoff_harness::{record, witness};

use crate::ui::{self, table};
use crate::{Failure, runtime};

/// How long a pressed machine is watched unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(60);

/// Tell why a machine does not shut down: a running one by its sockets, or an old record
///
/// With --qmp the machine is only read: run state, button registers, screen, and with --qga its registry (the
/// guest runs `reg query`). --press sends one `system_powerdown` and watches what comes of it. The machine is
/// never stopped, resumed or ended.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["record", "qmp", "domain"]), after_help = "Examples:
  cargo xtask diagnose --record target/softoff/latest
  cargo xtask diagnose --record target/softoff/latest/power-button-nothing.reference.1
  cargo xtask diagnose --qmp /run/guest-qmp.sock --qga /run/guest-agent.sock
  cargo xtask diagnose --qmp /run/guest-qmp.sock --press --deadline 2m --json
  cargo xtask diagnose --domain win11 --connect qemu:///system

QEMU serves one client per socket, and libvirt holds its own: start the machine with one more
`-qmp unix:PATH,server=on,wait=off` (under libvirt by way of <qemu:commandline>).

Exit codes: 0 a diagnosis was made (`none` and `unknown` too), 2 wrong usage, 3 the machine cannot be reached
or the record cannot be read.")]
pub(crate) struct Args {
    /// Diagnose an old record again: the folder of a scenario, or of a run with all its scenarios
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    #[command(flatten)]
    reach: ReachArgs,
    /// Press the ACPI power button once, and watch what comes of it
    #[arg(long, conflicts_with = "record")]
    press: bool,
    /// How long to watch after the press, such as 90s or 2m; 60s when absent
    #[arg(long, value_name = "TIME", requires = "press", value_parser = span)]
    deadline: Option<Duration>,
    /// Keep pictures of the screen in this new or empty folder; QEMU must be able to write to it
    #[arg(long, value_name = "DIR", conflicts_with = "record")]
    keep_screens: Option<PathBuf>,
    /// Print JSON to standard output
    #[arg(long)]
    json: bool,
}

/// A machine that somebody else runs.
#[derive(Debug, clap::Args)]
pub(crate) struct ReachArgs {
    /// A running machine, by its QMP socket
    #[arg(long, value_name = "SOCKET")]
    pub(crate) qmp: Option<PathBuf>,
    /// Its guest-agent socket, for its registry
    #[arg(long, value_name = "SOCKET", requires = "qmp", conflicts_with = "domain")]
    pub(crate) qga: Option<PathBuf>,
    /// A running machine, by libvirt's name of it; QMP and the agent go by way of libvirt
    #[arg(long, value_name = "NAME", conflicts_with = "qmp")]
    pub(crate) domain: Option<String>,
    /// The libvirtd of --domain, such as qemu:///system; virsh's own default when absent
    #[arg(long, value_name = "URI", requires = "domain")]
    pub(crate) connect: Option<String>,
}

impl ReachArgs {
    /// The way to it; `None` when no machine was named.
    pub(crate) fn reach(&self) -> anyhow::Result<Option<Reach>> {
        if let Some(name) = &self.domain {
            let connection = Connection::to(self.connect.as_deref())?;
            return Ok(Some(Reach::Domain { connection, name: name.clone() }));
        }
        Ok(self.qmp.as_ref().map(|qmp| Reach::Sockets { qmp: qmp.clone(), qga: self.qga.clone() }))
    }
}

pub(crate) fn span(text: &str) -> Result<Duration, String> {
    match serde_json::from_value::<Span>(Value::String(text.to_owned())) {
        Ok(Span(time)) if !time.is_zero() => Ok(time),
        Ok(_) => Err("must be longer than 0".into()),
        Err(e) => Err(e.to_string()),
    }
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let runtime = runtime::start()?;
    match (&args.record, args.reach.reach()?) {
        (Some(dir), _) => runtime.block_on(from_record(dir, args.json)),
        (None, Some(reach)) => runtime.block_on(from_machine(args, reach)),
        (None, None) => Err(Failure::Usage(anyhow!("give --record DIR, --qmp SOCKET or --domain NAME"))),
    }
}

async fn from_machine(args: &Args, reach: Reach) -> Result<(), Failure> {
    new_folder(args.keep_screens.as_deref())?;
    let job = LiveJob {
        reach,
        press: args.press.then(|| args.deadline.unwrap_or(DEADLINE)),
        screens: args.keep_screens.clone(),
    };
    let tell = |stage: LiveStage| eprintln!("{}", stage_line(stage));
    let report = live::look(&job, &tell).await.map_err(anyhow::Error::from)?;
    if args.json {
        let mut shown = as_json(&report.diagnosis, report.outcome.kind())?;
        add(&mut shown, "pressed", json!(report.pressed));
        add(&mut shown, "settled_by", json!(report.settled_by));
        add(&mut shown, "qemu", json!(report.qemu));
        add(&mut shown, "seen", json!(report.seen));
        add(&mut shown, "detail", json!(detail(&report)));
        return print_json(&shown);
    }
    println!("QEMU {}", printable(&report.qemu, 40));
    report.seen.iter().for_each(|sentence| println!("  {sentence}"));
    detail(&report).iter().for_each(|sentence| println!("  {sentence}"));
    ui::diagnosis::lines(&report.diagnosis, report.outcome.kind()).iter().for_each(|line| println!("{line}"));
    if !report.pressed && !report.diagnosis.evidence.is_empty() {
        println!("note:    Softoff did not press; where the evidence tells of a request, read: at this look");
    }
    Ok(())
}

/// Pictures of two machines are not mixed.
pub(crate) fn new_folder(dir: Option<&Path>) -> Result<(), Failure> {
    if let Some(dir) = dir
        && std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
    {
        let what = format!("--keep-screens {} is not empty; give a new or empty folder", dir.display());
        return Err(Failure::Usage(anyhow!(what)));
    }
    Ok(())
}

/// What is being done, for people.
pub(crate) fn stage_line(stage: LiveStage) -> String {
    match stage {
        LiveStage::AskingGuest => "asking the guest for its registry (some 15 times `reg query`)".to_owned(),
        LiveStage::Looking => "looking at screen, registers and run state".to_owned(),
        LiveStage::Waiting(Phase::Request) => "pressed the power button; waiting".to_owned(),
        LiveStage::Waiting(phase) => format!("{phase}; waiting"),
    }
}

/// What the names of outcome and cause leave out.
fn detail(report: &LiveReport) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(why) = &report.not_pressed {
        all.push(format!("not pressed: {why}"));
    }
    match &report.outcome {
        Outcome::HostFailed { what } => all.push(what.clone()),
        Outcome::Crashed { evidence } => all.push(format!("the guest crashed: {}", printable(evidence, 200))),
        _ => {}
    }
    if let Some(by) = report.settled_by {
        all.push(format!("pressed once; the watching ended by {by}"));
    }
    all
}

/// One record, diagnosed again.
struct Again {
    name: String,
    outcome: OutcomeKind,
    diagnosis: Diagnosis,
    /// The cause that was recorded, where it is another one.
    recorded: Option<Cause>,
}

async fn again(dir: &Path) -> anyhow::Result<Again> {
    let evidence = witness::of_record(dir).await?;
    let diagnosis = diagnose(&evidence);
    // A result that cannot be read says nothing against the timeline.
    let result = record::read_result(dir).unwrap_or_else(|e| {
        eprintln!("what was recorded then is not compared: {e:#}");
        None
    });
    let recorded = result.map(|r| r.diagnosis.cause).filter(|c| *c != diagnosis.cause);
    let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Again { name, outcome: evidence.outcome, diagnosis, recorded })
}

async fn from_record(dir: &Path, as_json_text: bool) -> Result<(), Failure> {
    if record::is_scenario(dir) {
        return one(&again(dir).await?, as_json_text);
    }
    let dirs = record::scenario_dirs(dir)
        .map_err(|e| Failure::Usage(e.context("there is no record; `cargo xtask run` writes records")))?;
    if dirs.is_empty() {
        let what = format!(
            "{} holds no record: give a scenario's folder (with timeline.jsonl), or a run's, such as target/softoff/latest",
            dir.display()
        );
        return Err(Failure::Usage(anyhow!(what)));
    }
    let mut done = Vec::new();
    let mut failed = Vec::new();
    for scenario in &dirs {
        match again(scenario).await {
            Ok(found) => done.push(found),
            Err(e) => failed.push((scenario, e)),
        }
    }
    for (scenario, error) in &failed {
        let name = scenario.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        eprintln!("not diagnosed: {}: {error:#}", printable(&name, 100));
    }
    if done.is_empty() {
        return Err(Failure::Infra(Some(anyhow!("none of the {} scenarios could be diagnosed", dirs.len()))));
    }
    all(dir, &done, as_json_text)
}

fn one(found: &Again, as_json_text: bool) -> Result<(), Failure> {
    if as_json_text {
        return print_json(&found.json()?);
    }
    println!("{}", printable(&found.name, 200));
    ui::diagnosis::lines(&found.diagnosis, found.outcome).iter().for_each(|line| println!("{line}"));
    if let Some(recorded) = found.recorded {
        println!("recorded then: {recorded}");
    }
    Ok(())
}

fn all(dir: &Path, done: &[Again], as_json_text: bool) -> Result<(), Failure> {
    if as_json_text {
        let results = done.iter().map(Again::json).collect::<Result<Vec<_>, Failure>>()?;
        return print_json(&json!({ "results": results }));
    }
    let rows = done.iter().map(|found| {
        let cause = ui::diagnosis::cause(&found.diagnosis);
        vec![printable(&found.name, 100), found.outcome.to_string(), cause]
    });
    println!("{}", table(&["scenario", "outcome", "cause"], rows.collect()));
    for (found, recorded) in done.iter().filter_map(|f| Some((f, f.recorded?))) {
        let (name, cause) = (printable(&found.name, 100), found.diagnosis.cause);
        println!("{name}: recorded then: {recorded}, now: {cause}");
    }
    println!("the evidence of one: cargo xtask diagnose --record {}/NAME", dir.display());
    Ok(())
}

impl Again {
    fn json(&self) -> Result<Value, Failure> {
        let mut shown = as_json(&self.diagnosis, self.outcome)?;
        add(&mut shown, "record", json!(self.name));
        if let Some(recorded) = self.recorded {
            add(&mut shown, "recorded_then", json!(recorded));
        }
        Ok(shown)
    }
}

pub(crate) fn as_json(diagnosis: &Diagnosis, outcome: OutcomeKind) -> Result<Value, Failure> {
    let mut shown = serde_json::to_value(diagnosis).context("writing JSON")?;
    add(&mut shown, "outcome", json!(outcome));
    add(&mut shown, "remedies", json!(remedies(diagnosis.cause)));
    Ok(shown)
}

pub(crate) fn add(shown: &mut Value, name: &str, value: Value) {
    if let Some(object) = shown.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    println!("{}", ui::json(value)?);
    Ok(())
}
