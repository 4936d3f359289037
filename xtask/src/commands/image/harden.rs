//! `cargo xtask image harden`

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use softoff_images::hardening::Profile;

use crate::{Failure, ui};

/// Names of the files that the profile is written to.
const REG: &str = "softoff-hardening.reg";
const PS1: &str = "softoff-hardening.ps1";

/// Apply the hardening profile to an overlay of a stopped machine, or write it as files
///
/// The profile lets a Windows obey the power button in most of the documented cases: button, logon, event tracker,
/// display, sleep, applications, automatic updates. It is written into the registry of an overlay (a qcow2 with a
/// backing file); what that stands on is never changed. Without an overlay its settings are shown, each with how sure it
/// is. What it cures, a matrix run shows: `cargo xtask run --image reference --image reference-hardened`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask image harden                              # shows the settings and their reasons
  cargo xtask image harden overlay.qcow2
  cargo xtask image harden --write-files hardening/     # as a .reg file and a PowerShell script, for a running guest
  cargo xtask lint overlay.qcow2                        # then: will a press be obeyed?

Exit codes: 0 done, 2 wrong usage, 3 the overlay must not be written to or cannot be read; nothing was written.")]
pub(super) struct Args {
    /// The overlay
    #[arg(value_name = "OVERLAY")]
    overlay: Option<PathBuf>,
    /// Write it into this folder, as a .reg file and as a PowerShell script
    #[arg(long, value_name = "DIR")]
    write_files: Option<PathBuf>,
}

pub(super) fn execute(args: &Args) -> Result<(), Failure> {
    let profile = Profile::own()?;
    if let Some(dir) = &args.write_files {
        write_files(&profile, dir)?;
    }
    match &args.overlay {
        Some(overlay) => apply(&profile, overlay),
        None if args.write_files.is_some() => Ok(()),
        None => {
            println!("{}", settings(&profile));
            Ok(())
        }
    }
}

fn apply(profile: &Profile, overlay: &Path) -> Result<(), Failure> {
    if !overlay.exists() {
        let what = format!(
            "there is no file {}; next: `qemu-img create -f qcow2 -F qcow2 -b IMAGE OVERLAY`, and give that",
            overlay.display()
        );
        return Err(Failure::Usage(anyhow!(what)));
    }
    let done = profile.apply(overlay, &[]).context("nothing was hardened")?;
    for write in &done.writes {
        println!("{}: {} values", write.hive.path(), write.values);
    }
    for hive in &done.absent {
        println!("{hive}: not on this disk; its users' settings are left out");
    }
    Ok(())
}

fn write_files(profile: &Profile, dir: &Path) -> Result<(), Failure> {
    let hint = || format!("cannot write to {}; choose another folder with --write-files", dir.display());
    std::fs::create_dir_all(dir).with_context(hint)?;
    std::fs::write(dir.join(REG), profile.reg_file()?).with_context(hint)?;
    std::fs::write(dir.join(PS1), profile.powershell()?).with_context(hint)?;
    eprintln!(
        "written: {} and {}; apply one of them in the guest",
        dir.join(REG).display(),
        dir.join(PS1).display()
    );
    Ok(())
}

fn settings(profile: &Profile) -> comfy_table::Table {
    let rows = profile.settings.iter().map(|setting| {
        let values: Vec<&str> = setting.values.keys().map(String::as_str).collect();
        vec![
            setting.cause.to_string(),
            setting.what.clone(),
            format!(r"{}: {}", setting.key, values.join(", ")),
            format!("{:?}", setting.sure).to_ascii_lowercase(),
            setting.source.clone(),
        ]
    });
    ui::table(&["cause", "what", "where", "sure", "source"], rows.collect())
}
