//! `cargo xtask list`

use softoff_harness::advise::{Seen, platforms};
use softoff_harness::condition::{WindowsMeans, remedies};
use softoff_harness::image::GuestFamily;
use softoff_harness::scenario::{Scenario, ScenarioError, policies};

use crate::Failure;
use crate::ui::{self, table};

/// List the scenarios with their request and expectation
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask list\n  cargo xtask list --conditions\n  cargo xtask list --requests\n  cargo xtask list --json"
)]
pub(crate) struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Print the rows of README.md's table
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// List the conditions instead: what of each is real on the reference guest, and what people do about it
    #[arg(long, conflicts_with_all = ["json", "markdown"])]
    conditions: bool,
    /// List the press policies and platforms instead, that `run --request` and `run --preset` take
    #[arg(long, conflicts_with_all = ["json", "markdown", "conditions"])]
    requests: bool,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let usage = |e: ScenarioError| Failure::Usage(e.into());
    let mut scenarios = softoff_scenarios::load_all().map_err(usage)?;
    if args.markdown {
        print!("{}", softoff_scenarios::readme_table(&scenarios));
        return Ok(());
    }
    if args.requests {
        println!("{}", requests()?);
        return Ok(());
    }
    scenarios.extend(softoff_scenarios::load_libvirt().map_err(usage)?);
    if args.conditions {
        println!("{}", conditions(&scenarios));
        println!(
            "a real update instead of the synthetic one: kind = \"staged-update\", package = \"X.msu\" ({})",
            WindowsMeans::StagedPackage
        );
        return Ok(());
    }
    if args.json {
        let rows: Vec<_> = scenarios
            .iter()
            .map(|s| {
                serde_json::json!({
                    "scenario": s.name, "summary": s.summary, "images": s.images, "request": s.request.by,
                    "conditions": s.conditions.iter().map(|c| c.id()).collect::<Vec<_>>(),
                    "windows_means": s.conditions.iter().map(|c| c.windows_means()).collect::<Vec<_>>(),
                    "outcome": s.expect.outcome, "cause": s.expect.cause,
                })
            })
            .collect();
        println!("{}", ui::json(&rows)?);
        return Ok(());
    }
    let rows = scenarios.iter().map(|s| {
        vec![s.name.to_string(), s.request.by.to_string(), s.expect.outcome.to_string(), s.summary.clone()]
    });
    println!("{}", table(&["scenario", "request", "expected outcome", "what it shows"], rows.collect()));
    println!("{} scenarios; run one with `cargo xtask run --scenario NAME`", scenarios.len());
    Ok(())
}

/// Every way to ask that can be put in the place of a scenario's own.
fn requests() -> anyhow::Result<String> {
    let presses = policies()?.into_iter().map(|p| vec![p.id, p.summary]);
    let platforms = platforms()?.into_iter().map(|p| {
        let does = match &p.request {
            Some(ask) => {
                let again = ask.resend.map_or(String::new(), |every| format!(" every {every} s"));
                let source = if ask.seen == Seen::Read { "" } else { " (reported)" };
                format!("{}{again}; {} after {} s{source}", ask.by, ask.force, p.seconds)
            }
            None => "cannot be replayed: it asks through something that QEMU does not have".to_owned(),
        };
        vec![p.id, p.name, does]
    });
    Ok(format!(
        "{}\n{}\nsources: harness/data/platforms.toml",
        table(&["--request", "what it does"], presses.collect()),
        table(&["--preset", "platform", "what it does"], platforms.collect())
    ))
}

/// One row for each kind of condition and what of it is real.
fn conditions(scenarios: &[Scenario]) -> comfy_table::Table {
    let all = scenarios.iter().flat_map(|s| &s.conditions).map(|c| {
        let realism = c.realism(GuestFamily::Reference);
        vec![
            c.id(),
            realism.real.into(),
            realism.modelled.into(),
            c.windows_means().to_string(),
            remedies(c.cause()).join("; or: "),
        ]
    });
    let mut rows: Vec<Vec<String>> = all.collect();
    rows.sort();
    rows.dedup();
    table(&["condition", "real on the reference guest", "modelled there", "means on Windows", "remedy"], rows)
}
