//! `cargo xtask lint`

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use softoff_harness::inject::{powershell, reg_file};
use softoff_harness::lint::{Judgement, Lint};

use crate::{Failure, confirm, ui};

/// Names of the files that a remedy is written to.
const REG: &str = "softoff-remedy.reg";
const PS1: &str = "softoff-remedy.ps1";

/// Predict from a stopped disk image whether a press of the power button will be obeyed
///
/// Judges the button's action, the logon policy, the event tracker, the display, applications' and services'
/// time-outs, hibernation and pending updates, and says how sure each rule is. Nothing is written to the image.
/// --confirm shows on the reference guest that predictions and runs agree: every condition that consists of
/// settings is put into an overlay, linted, run, put right by its remedy, and run again.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["disk", "confirm"]), after_help = "Examples:
  cargo xtask lint disk.qcow2
  cargo xtask lint disk.qcow2 --remedy remedy/     # writes a .reg file and a PowerShell script
  cargo xtask lint disk.qcow2 --json
  cargo xtask lint --confirm                        # the reference guest: about 10 minutes without KVM
  cargo xtask lint --confirm --scenario 'power-button-*'

Exit codes: 0 a press would be obeyed (--confirm: all agree), 1 it would not (--confirm: something disagrees),
2 wrong usage, 3 nothing can be said: the disk is unreadable or encrypted, or an expired evaluation Windows.")]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "DISK")]
    disk: Option<PathBuf>,
    /// Write what puts it right into this folder, as a .reg file and as a PowerShell script
    #[arg(long, value_name = "DIR", conflicts_with = "confirm")]
    remedy: Option<PathBuf>,
    /// Lint and run the reference guest, and compare
    #[arg(long)]
    confirm: bool,
    /// With --confirm: only scenarios whose names match
    #[arg(long = "scenario", value_name = "GLOB", requires = "confirm")]
    scenarios: Vec<String>,
    /// With --confirm: machines at the same time
    #[arg(long, value_name = "N", requires = "confirm", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// Print JSON to standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    match &args.disk {
        Some(disk) => lint(args, disk),
        None => confirm::execute(&confirm::Options {
            scenarios: args.scenarios.clone(),
            jobs: args.jobs,
            json: args.json,
        }),
    }
}

fn lint(args: &Args, disk: &Path) -> Result<(), Failure> {
    let lint = Lint::of(&super::inspect::read(disk)?);
    if args.json {
        println!("{}", ui::json(&lint)?);
    } else {
        println!("{}", ui::lint::render(&lint));
    }
    if let Some(dir) = &args.remedy {
        write_remedy(&lint, dir)?;
    }
    match lint.judgement {
        Judgement::Obeyed => Ok(()),
        Judgement::NotObeyed => Err(Failure::Scenario),
        Judgement::Unknown { why } => Err(Failure::Infra(Some(anyhow!("nothing can be said: {why}")))),
    }
}

fn write_remedy(lint: &Lint, dir: &Path) -> Result<(), Failure> {
    let edits = lint.remedy();
    if edits.is_empty() {
        eprintln!("no remedy is written: no registry value would help");
        return Ok(());
    }
    let hint = || format!("cannot write to {}; choose another folder with --remedy", dir.display());
    std::fs::create_dir_all(dir).with_context(hint)?;
    let reg = reg_file(&edits).context("no remedy is written: the image names something impossible")?;
    let script = powershell(&edits).context("no remedy is written: the image names something impossible")?;
    std::fs::write(dir.join(REG), reg).with_context(hint)?;
    std::fs::write(dir.join(PS1), script).with_context(hint)?;
    eprintln!(
        "remedy: {} and {}; apply one of them in the guest, restart it, then lint again",
        dir.join(REG).display(),
        dir.join(PS1).display()
    );
    Ok(())
}
