//! `cargo xtask bench`

mod avocado;
mod control;
mod disk_peers;
mod inspect;
mod machines;
mod python;
mod qmp_rtt;
mod row;
mod virsh;

use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use machines::Bench;
use row::Row;
use serde_json::json;

use crate::{Failure, runtime, ui};

/// Compare speed with peers and limits, in one run: ratios, not absolute times
///
/// Each row measures both sides here and now. Peers (qemu.qmp, libvirt, avocado-vt) are installed where that may be
/// done; where not, the row says unavailable. Exit code 1: a goal was missed; 3: a row was unavailable.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench
  cargo xtask bench qmp-rtt warm-start
  cargo xtask bench warm-start --samples 100
  cargo xtask bench --json > bench.json")]
pub(crate) struct Args {
    /// Rows to measure; all when absent
    #[arg(value_enum)]
    names: Vec<Name>,
    /// Measurements of each side that boots or starts a machine
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    samples: u32,
    /// Print the rows as JSON to standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// From QEMU's start to proven ready: a saved state against a cold boot
    WarmStart,
    /// What the harness adds to a warm scenario's time
    Overhead,
    /// From QEMU's SHUTDOWN event to the recorded outcome
    RecordLatency,
    /// One QMP command: ours against a bare socket and qemu.qmp
    QmpRtt,
    /// Scenarios a second at 1, 2 and 4 machines
    Parallel,
    /// Memory of the harness for each running machine
    Memory,
    /// Reading a stopped disk: ours against guestfish and qemu-nbd
    Inspect,
    /// The whole control scenario: ours against virsh scripting and avocado-vt
    ControlVsPeer,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let names = if args.names.is_empty() { Name::value_variants().to_vec() } else { args.names.clone() };
    let runtime = runtime::start()?;
    let bench = match names.iter().any(|name| *name != Name::QmpRtt) {
        true => Some(Arc::new(Bench::prepare(args.samples)?)),
        false => None,
    };
    let mut rows: Vec<Row> = Vec::new();
    for name in names {
        eprintln!("measuring {}", name.to_possible_value().map_or("?".into(), |v| v.get_name().to_owned()));
        let bench = bench.clone();
        // On a worker of the runtime, where scenarios run too: block_on's own thread is woken by another.
        let row = runtime.block_on(async move { tokio::spawn(measure(name, bench)).await });
        rows.push(row.context("a row's task ended badly")??);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!({ "rows": rows })).context("writing JSON")?);
    }
    eprintln!("{}", ui::table(&row::HEADER, rows.iter().map(Row::cells).collect()));
    if rows.iter().any(|row| row.met == Some(false)) {
        Err(Failure::Scenario)
    } else if rows.iter().any(|row| row.met.is_none()) {
        Err(Failure::Infra(None))
    } else {
        Ok(())
    }
}

async fn measure(name: Name, bench: Option<Arc<Bench>>) -> anyhow::Result<Row> {
    let bench = bench.as_deref();
    let machines = || bench.context("no machine was prepared");
    match name {
        Name::QmpRtt => qmp_rtt::measure().await,
        Name::Inspect => {
            let samples = machines()?.subject().2;
            tokio::task::spawn_blocking(move || inspect::measure(samples)).await?
        }
        Name::WarmStart => machines::warm_start(machines()?).await,
        Name::Overhead => machines::overheads(machines()?).await,
        Name::RecordLatency => machines::latency(machines()?).await,
        Name::Parallel => machines::parallel(machines()?).await,
        Name::Memory => machines::memory(machines()?).await,
        Name::ControlVsPeer => control::measure(machines()?).await,
    }
}
