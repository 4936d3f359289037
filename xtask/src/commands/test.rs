//! `cargo xtask test`

use std::process::Command;

use anyhow::Context;

use crate::{Failure, host_tools, ui};

/// Run the project's own tests: units, QMP against real QEMU, every scenario with its snapshot, and the
/// negative controls
///
/// Installs and builds what `cargo xtask run` would, then calls `cargo test`; the last suite is the
/// scenarios'.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --unit\n  cargo xtask test -- must_not_pass"
)]
pub(crate) struct Args {
    /// Only what needs no guest: no image is built, no scenario run
    #[arg(long)]
    unit: bool,
    /// Install missing packages without asking whether this is a machine for it
    #[arg(long)]
    install: bool,
    /// Passed on to the test programs, such as a filter
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    host_tools::ensure(host_tools::By::Test, args.install)?;
    if !args.unit {
        let _image = ui::build::reference()?;
    }
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let others = ["--workspace", "--exclude", "softoff-scenarios"];
    let mut failed = cargo_test(&others, processors, &args.rest)?;
    if !args.unit {
        // Twice as many as can work: the suites' gate lets a guest begin where another one only waits.
        failed |= cargo_test(&["-p", "softoff-scenarios"], processors * 2, &args.rest)?;
    }
    if !args.unit && args.rest.is_empty() {
        eprintln!("\nthe quick faults of `cargo xtask torture`:");
        failed |= super::torture::execute(&super::torture::Args::quick()).is_err();
    }
    if failed { Err(Failure::Scenario) } else { Ok(()) }
}

/// How many tests a program runs at a time; the test programs of Rust read it.
const THREADS: &str = "RUST_TEST_THREADS";

/// True when a test failed. Every test program runs, whatever the one before it said; documentation
/// examples are left out, for their empty summary would be the last line.
fn cargo_test(select: &[&str], threads: usize, rest: &[String]) -> anyhow::Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(host_tools::workspace())
        .args(["test", "--no-fail-fast", "--all-targets"])
        .args(select);
    if std::env::var_os(THREADS).is_none() {
        command.env(THREADS, threads.to_string());
    }
    if !rest.is_empty() {
        command.arg("--").args(rest);
    }
    Ok(!command.status().context("cannot start cargo")?.success())
}
