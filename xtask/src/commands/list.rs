//! `cargo xtask list`

use anyhow::Context;

use softoff_harness::condition::{WindowsMeans, remedies};
use softoff_harness::image::GuestFamily;
use softoff_harness::scenario::Scenario;

use crate::Failure;
use crate::ui::table;

/// List the scenarios with their request and expectation
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask list\n  cargo xtask list --conditions\n  cargo xtask list --json"
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
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let scenarios = softoff_scenarios::load_all().map_err(|e| Failure::Usage(e.into()))?;
    if args.markdown {
        print!("{}", softoff_scenarios::readme_table(&scenarios));
        return Ok(());
    }
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
        println!("{}", serde_json::to_string_pretty(&rows).context("writing JSON")?);
        return Ok(());
    }
    let rows = scenarios.iter().map(|s| {
        vec![s.name.to_string(), s.request.by.to_string(), s.expect.outcome.to_string(), s.summary.clone()]
    });
    println!("{}", table(&["scenario", "request", "expected outcome", "what it shows"], rows.collect()));
    println!("{} scenarios; run one with `cargo xtask run --scenario NAME`", scenarios.len());
    Ok(())
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
