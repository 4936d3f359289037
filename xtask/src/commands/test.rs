//! `cargo xtask test`

use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};

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
    // Its place, as long as it lies there: building the tests may put another one in it.
    let me = std::env::current_exe().context("where is this program?")?;
    host_tools::ensure(host_tools::By::Test, args.install)?;
    if !args.unit {
        let _image = ui::build::reference()?;
    }
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let (scenarios, others) = suites(&metadata()?);
    let units = ["--lib".to_owned(), "--bins".to_owned()];
    let mut failed = cargo_test(units.into_iter().chain(others), processors, &args.rest)?;
    if !args.unit {
        // Twice as many as can work: the suites' gate lets a guest begin where another one only waits.
        failed |= cargo_test(scenarios, processors * 2, &args.rest)?;
    }
    if !args.unit && args.rest.is_empty() {
        eprintln!("\nthe quick faults of `cargo xtask torture`:");
        let quick = Command::new(&me).arg("torture").status();
        failed |= !quick.with_context(|| format!("cannot start {}", me.display()))?.success();
    }
    if failed { Err(Failure::Scenario) } else { Ok(()) }
}

/// How many tests a program runs at a time; the test programs of Rust read it.
const THREADS: &str = "RUST_TEST_THREADS";

/// What cargo knows of the workspace.
fn metadata() -> anyhow::Result<Value> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot start cargo")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what cargo metadata said")
}

/// The test programs of the scenarios, and those of all other packages, each as an option of cargo's. Both are built for
/// the whole workspace: for a part of it cargo would choose other features, and build the engine twice.
fn suites(metadata: &Value) -> (Vec<String>, Vec<String>) {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut scenarios, mut others) = (Vec::new(), Vec::new());
    for package in list(metadata.get("packages")) {
        let into = if text(&package, "name") == "softoff-scenarios" { &mut scenarios } else { &mut others };
        let targets = list(package.get("targets"));
        let tests = targets.iter().filter(|target| list(target.get("kind")).contains(&json!("test")));
        into.extend(tests.map(|target| format!("--test={}", text(target, "name"))));
    }
    (scenarios, others)
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host_tools::workspace());
    cargo
}

/// True when a test failed. Every test program runs, whatever the one before it said; documentation
/// examples are left out, for their empty summary would be the last line.
fn cargo_test(
    select: impl IntoIterator<Item = String>,
    threads: usize,
    rest: &[String],
) -> anyhow::Result<bool> {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast", "--workspace"]).args(select);
    if std::env::var_os(THREADS).is_none() {
        command.env(THREADS, threads.to_string());
    }
    if !rest.is_empty() {
        command.arg("--").args(rest);
    }
    Ok(!command.status().context("cannot start cargo")?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_program_is_in_one_of_the_two() {
        let (scenarios, others) = suites(&metadata().unwrap());
        assert!(scenarios.contains(&"--test=suite".to_owned()), "{scenarios:?}");
        assert!(others.contains(&"--test=usage".to_owned()), "{others:?}");
        // One of both would be run twice.
        assert!(scenarios.iter().all(|name| !others.contains(name)), "{scenarios:?} {others:?}");
    }
}
