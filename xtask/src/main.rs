//! Softoff's command line: `cargo xtask <command>`. One command, one file, in `commands/`.

mod asking;
mod attached;
mod batch;
mod commands;
mod confirm;
mod host_tools;
mod images;
mod resume;
mod rounds;
mod runtime;
mod starts;
mod stopping;
mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit codes, the same for every command.
const EXIT_CODES: &str = "Exit codes:
  0    everything as expected
  1    a scenario failed
  2    wrong usage: an unknown option, an invalid scenario file
  3    infrastructure, or inconclusive: nothing is said about the guest
  130  interrupted";

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about, after_help = EXIT_CODES)]
/// Does a guest obey the ACPI power button, how fast, and if not, why?
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios: boot, inject, press the power button, record what happened
    Run(Box<commands::run::Args>),
    /// Run the project's own tests, the scenarios among them
    Test(commands::test::Args),
    /// List the scenarios
    List(commands::list::Args),
    /// Hold two runs against each other
    Compare(commands::compare::Args),
    /// List and plot the runs of many nights
    History(commands::history::Args),
    /// Tell how long a platform should wait before it pulls the plug
    Advise(commands::advise::Args),
    /// Write the reports of a run again, or of shards together
    Report(commands::report::Args),
    /// Tell why a machine does not shut down: a running one by its sockets, or an old record
    Diagnose(commands::diagnose::Args),
    /// Stop a running machine: diagnose, ask, wait with reason, and force only when told to
    Stop(commands::stop::Args),
    /// Show what a stopped disk image tells about shutting down
    Inspect(commands::inspect::Args),
    /// Predict from a stopped disk image whether a press of the power button will be obeyed
    Lint(commands::lint::Args),
    /// Fuzz whatever reads foreign bytes: disks, QMP, the agent, records
    Fuzz(commands::fuzz::Args),
    /// Attack the harness, and see whether it ever lies
    Torture(commands::torture::Args),
    /// Many warm runs in a row: does anything grow, does anything fail?
    Soak(commands::soak::Args),
    /// Check what this machine has and what is missing
    Doctor(commands::doctor::Args),
    /// Compare speed with peers and limits
    Bench(commands::bench::Args),
    /// Build and show images
    Image(commands::image::Args),
    /// Show and prune the cache
    Cache(commands::cache::Args),
}

/// What went wrong, by the exit code it leads to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A scenario failed (1). Everything was already told.
    Scenario,
    /// Wrong usage (2).
    Usage(anyhow::Error),
    /// Infrastructure, or an inconclusive run (3); told already when `None`.
    Infra(Option<anyhow::Error>),
    /// Stopped by the user (130).
    Interrupted,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Infra(Some(error))
    }
}

/// Gives pictures and disk blocks back to the system as soon as they are freed. By default glibc keeps them: its
/// threshold grows to the largest block ever freed, for each of a dozen threads; four machines then cost 87 MB
/// (measured).
fn keep_memory_small() {
    // SAFETY: mallopt only sets parameters of malloc, and no other thread runs yet.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 128 << 10);
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
    }
}

fn main() -> ExitCode {
    if let Some(code) = commands::torture::wire::stand_in() {
        return code;
    }
    keep_memory_small();
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => commands::run::execute(&args),
        Command::Test(args) => commands::test::execute(&args),
        Command::List(args) => commands::list::execute(&args),
        Command::Compare(args) => commands::compare::execute(&args),
        Command::History(args) => commands::history::execute(&args),
        Command::Advise(args) => commands::advise::execute(&args),
        Command::Report(args) => commands::report::execute(&args),
        Command::Diagnose(args) => commands::diagnose::execute(&args),
        Command::Stop(args) => commands::stop::execute(&args),
        Command::Inspect(args) => commands::inspect::execute(&args),
        Command::Lint(args) => commands::lint::execute(&args),
        Command::Fuzz(args) => commands::fuzz::execute(&args),
        Command::Torture(args) => commands::torture::execute(&args),
        Command::Soak(args) => commands::soak::execute(&args),
        Command::Doctor(args) => commands::doctor::execute(&args),
        Command::Bench(args) => commands::bench::execute(&args),
        Command::Image(args) => commands::image::execute(&args),
        Command::Cache(args) => commands::cache::execute(&args),
    };
    let (code, error) = match result {
        Ok(()) => (0, None),
        Err(Failure::Scenario) => (1, None),
        Err(Failure::Usage(error)) => (2, Some(error)),
        Err(Failure::Infra(error)) => (3, error),
        Err(Failure::Interrupted) => (130, None),
    };
    if let Some(error) = error {
        // It may quote a file's name, or what somebody else's program wrote.
        let text = softoff_harness::text::printable_lines(&format!("{error:#}"));
        eprintln!("{} {text}", console::style("error:").red().bold().for_stderr());
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The examples in the help of a command and those below it.
    fn examples(command: &clap::Command, all: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.lines().filter_map(|line| line.trim().strip_prefix("cargo xtask "));
        all.extend(lines.map(str::to_owned));
        command.get_subcommands().for_each(|below| examples(below, all));
    }

    /// The words of an example as a shell takes them, up to a comment or another program.
    fn words(example: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in example.chars() {
            match c {
                '\'' => quoted = !quoted,
                '#' | '|' | '>' if !quoted => break,
                c if c.is_whitespace() && !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn the_examples_in_the_help_are_understood() {
        let mut all = Vec::new();
        examples(&Cli::command(), &mut all);
        assert!(all.len() > 40, "{}", all.len());
        for example in all {
            // The digest of a disc that is the reader's own.
            let words = words(&example.replace("DIGEST", &"0f".repeat(32)));
            let line = ["cargo xtask".to_owned()].into_iter().chain(words);
            if let Err(error) = Cli::try_parse_from(line) {
                panic!("cargo xtask {example}: {error}");
            }
        }
    }
}
