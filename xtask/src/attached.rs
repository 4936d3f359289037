//! `cargo xtask run --domain`: a press on a domain that somebody else defined and runs, recorded.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use softoff_harness::live::{self, LiveJob, LiveReport, Reach};
use softoff_harness::machine::libvirt::Connection;
use softoff_harness::outcome::{Outcome, OutcomeKind};
use softoff_harness::record::{RunStore, write_timeline};

use crate::commands::diagnose::{add, as_json, stage_line};
use crate::commands::run::Args;
use crate::{Failure, batch, runtime, ui};

/// How long the domain is watched after the press, unless told otherwise: as the control scenario.
const DEADLINE: Duration = Duration::from_secs(60);

/// Reads the domain, presses once by `virsh shutdown --mode acpi`, watches, and records. It is never destroyed: what it
/// is then, it stays.
pub(crate) fn run(args: &Args, name: &str) -> Result<(), Failure> {
    let connection = Connection::to(args.connect.as_deref())?;
    let runtime = runtime::start()?;
    let out = batch::out(args);
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    // Pictures go here first: a domain that cannot be reached, or is lost meanwhile, leaves no record that says nothing.
    let pictures =
        tempfile::Builder::new().prefix("domain-").tempdir_in(&out).context("is the disk full?")?;
    let job = LiveJob {
        reach: Reach::Domain { connection, name: name.to_owned() },
        press: Some(DEADLINE.mul_f64(args.deadline_scale)),
        screens: Some(pictures.path().to_owned()),
    };
    let tell = |stage| eprintln!("{}", stage_line(stage));
    let report = runtime.block_on(live::look(&job, &tell)).map_err(anyhow::Error::from)?;
    let store = RunStore::create(&out)?;
    let dir = store.dir().join("domain");
    std::fs::rename(pictures.keep(), &dir).with_context(|| format!("cannot make {}", dir.display()))?;
    write_timeline(&dir, &report.observations)?;
    let shown = shown(name, &report)?;
    let text = serde_json::to_string_pretty(&shown).context("writing JSON")?;
    let path = dir.join("domain.json");
    std::fs::write(&path, &text)
        .with_context(|| format!("cannot write {}; is the disk full?", path.display()))?;
    if args.json {
        println!("{text}");
    }
    report.seen.iter().for_each(|sentence| eprintln!("  {sentence}"));
    let outcome = report.outcome.kind();
    ui::diagnosis::lines(&report.diagnosis, outcome).iter().for_each(|line| eprintln!("{line}"));
    eprintln!("record: {}; again: cargo xtask diagnose --record {}", dir.display(), dir.display());
    if outcome == OutcomeKind::StillRunning {
        let connect = args.connect.as_ref().map_or(String::new(), |uri| format!(" --connect '{uri}'"));
        eprintln!("the domain is left as it is; next: cargo xtask stop --domain {name}{connect}");
    }
    match &report.outcome {
        Outcome::PoweredOff => Ok(()),
        Outcome::HostFailed { what } => Err(Failure::Infra(Some(anyhow::anyhow!(what.clone())))),
        _ => Err(Failure::Scenario),
    }
}

fn shown(name: &str, report: &LiveReport) -> Result<serde_json::Value, Failure> {
    let mut shown = as_json(&report.diagnosis, report.outcome.kind())?;
    add(&mut shown, "domain", json!(name));
    add(&mut shown, "qemu", json!(report.qemu));
    add(&mut shown, "pressed", json!(report.pressed));
    add(&mut shown, "not_pressed", json!(report.not_pressed));
    add(&mut shown, "settled_by", json!(report.settled_by));
    add(&mut shown, "seen", json!(report.seen));
    Ok(shown)
}
