//! `cargo xtask stop`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::json;
use softoff_harness::live::{self, StopEvent, StopJob, StopReport};
use softoff_harness::outcome::OutcomeKind;
use softoff_harness::text::printable;

use super::diagnose::{ReachArgs, add, as_json, new_folder, print_json, span, stage_line};
use crate::{Failure, runtime, ui};

/// How long nothing new may show, unless told otherwise. A guest that goes down on its own shows something every second;
/// Windows' own time-outs for applications and services are 5 to 20 s each.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stop a running machine: diagnose, ask, wait with reason, and force only when told to
///
/// Wakes what sleeps, lights a dark screen, presses the ACPI power button once, and asks the guest agent where the
/// press never reached the session. Goes on waiting while anything new shows: a phase, the screen, a percentage of
/// update work. Gives up when nothing more will come until somebody acts, and says what to do.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("machine").required(true).args(["qmp", "domain"]), after_help = "Examples:
  cargo xtask stop --domain win11
  cargo xtask stop --domain win11 --connect qemu:///system --force-after 1h
  cargo xtask stop --qmp /run/guest-qmp.sock --qga /run/guest-agent.sock --patience 5m
  cargo xtask stop --qmp /run/guest-qmp.sock --no-agent --json

While the screen says that update work is under way, the patience is fifteen times as long.

Exit codes: 0 the machine is off (or hibernated), and ended itself; 1 it is not, or the plug was pulled;
2 wrong usage; 3 the machine cannot be reached.")]
pub(crate) struct Args {
    #[command(flatten)]
    reach: ReachArgs,
    /// How long nothing new may show before it is given up, such as 90s or 5m; 2m when absent
    #[arg(long, value_name = "TIME", value_parser = span)]
    patience: Option<Duration>,
    /// Pull the plug so long after the press, whatever is under way then; never when absent
    #[arg(long, value_name = "TIME", value_parser = span)]
    force_after: Option<Duration>,
    /// Never ask the guest agent, whose request forces: applications are not asked
    #[arg(long)]
    no_agent: bool,
    /// Keep pictures of the screen in this new or empty folder; QEMU must be able to write to it
    #[arg(long, value_name = "DIR")]
    keep_screens: Option<PathBuf>,
    /// Print JSON to standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    new_folder(args.keep_screens.as_deref())?;
    let reach = args.reach.reach()?;
    let reach = reach.ok_or_else(|| Failure::Usage(anyhow!("give --qmp SOCKET or --domain NAME")))?;
    let job = StopJob {
        reach,
        screens: args.keep_screens.clone(),
        patience: args.patience.unwrap_or(PATIENCE),
        force_after: args.force_after,
        agent: !args.no_agent,
    };
    let runtime = runtime::start()?;
    let tell = |event: StopEvent| match event {
        StopEvent::Reading(stage) => eprintln!("{}", stage_line(stage)),
        StopEvent::Did(what) => eprintln!("{what}"),
        StopEvent::Progress(after, what) => eprintln!("  {}  {what}", ui::seconds(after)),
        StopEvent::Cost(cost) => {
            eprintln!("about to pull the plug:");
            cost.iter().for_each(|line| eprintln!("  {line}"));
        }
    };
    let report = runtime.block_on(live::stop(&job, &tell)).map_err(anyhow::Error::from)?;
    show(args, &report)?;
    match report.outcome.kind() {
        OutcomeKind::PoweredOff | OutcomeKind::Hibernated => Ok(()),
        OutcomeKind::HostFailed => Err(Failure::Infra(None)),
        _ => Err(Failure::Scenario),
    }
}

fn show(args: &Args, report: &StopReport) -> Result<(), Failure> {
    let outcome = report.outcome.kind();
    if args.json {
        let mut shown = as_json(&report.diagnosis, outcome)?;
        let took = report.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        add(&mut shown, "qemu", json!(report.qemu));
        add(&mut shown, "seen", json!(report.seen));
        add(&mut shown, "did", json!(report.did));
        add(&mut shown, "took_ms", json!(took));
        add(&mut shown, "gave_up", json!(report.gave_up));
        add(&mut shown, "cost", json!(report.cost));
        return print_json(&shown);
    }
    println!("QEMU {}", printable(&report.qemu, 40));
    report.seen.iter().for_each(|sentence| println!("  {sentence}"));
    if let Some(why) = &report.gave_up {
        println!("  given up: {why}");
    }
    if let softoff_harness::outcome::Outcome::HostFailed { what } = &report.outcome {
        println!("  {what}");
    }
    if let Some(took) = report.took {
        println!("  {} after the press", ui::seconds(took));
    }
    ui::diagnosis::lines(&report.diagnosis, outcome).iter().for_each(|line| println!("{line}"));
    let off = matches!(outcome, OutcomeKind::PoweredOff | OutcomeKind::Hibernated);
    if !off && !report.cost.is_empty() {
        let verb = if outcome == OutcomeKind::HostKilled { "cost" } else { "forcing now would cost" };
        println!("{verb}:");
        report.cost.iter().for_each(|line| println!("  - {line}"));
    }
    if !off && outcome != OutcomeKind::HostKilled && args.force_after.is_none() {
        println!(
            "next:    put right what the diagnosis names, or force: the same command with --force-after TIME"
        );
    }
    Ok(())
}
