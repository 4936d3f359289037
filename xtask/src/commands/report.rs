//! `cargo xtask report`

use std::path::PathBuf;

use softoff_harness::record;
use softoff_harness::report;

use crate::{Failure, host_tools};

/// Write junit.xml, summary.md and report.html of a run again
///
/// `cargo xtask run` writes them too. They are made from the records alone: of an old run, or of one from
/// another machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask report
  cargo xtask report target/softoff/runs/20261124T021700Z")]
pub(crate) struct Args {
    /// The run's folder; the newest run when absent
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let dir = args.run.clone().unwrap_or_else(|| host_tools::workspace().join("target/softoff/latest"));
    let run = record::read_run(&dir).map_err(Failure::Usage)?;
    let page = report::write_all(&dir, &run, report::kept_comparison(&dir)?.as_ref())?;
    println!("{}", page.display());
    Ok(())
}
