//! `cargo xtask list`

use anyhow::Context;

use crate::Failure;
use crate::ui::table;

/// List the scenarios with their request and expectation
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask list\n  cargo xtask list --json")]
pub(crate) struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let scenarios = softoff_scenarios::load_all().map_err(|e| Failure::Usage(e.into()))?;
    if args.json {
        let rows: Vec<_> = scenarios
            .iter()
            .map(|s| {
                serde_json::json!({
                    "scenario": s.name, "summary": s.summary, "images": s.images, "request": s.request.by,
                    "conditions": s.conditions.iter().map(|c| c.id()).collect::<Vec<_>>(),
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
