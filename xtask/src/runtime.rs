//! The runtime that commands run in.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

/// How long a thread for blocking work is kept without any: longer than any run.
const KEPT: Duration = Duration::from_secs(365 * 86_400);

/// Starts one with a thread for blocking work that is there before it is needed, and stays. Where the host has no
/// process to spare, tokio lets such work wait for a thread that it has, but panics when it has none
/// (tokio/src/runtime/blocking/pool.rs): of six runs whose control group ran out of pids two ended so.
pub(crate) fn start() -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.enable_all().thread_keep_alive(KEPT).build().context("starting the runtime")?;
    runtime.block_on(runtime.spawn_blocking(|| ())).context("starting a thread for blocking work")?;
    Ok(runtime)
}
