//! Being asked to stop: by a person with Ctrl-C, or by a service manager, a cluster or a cancelled CI job with SIGTERM.

use std::io::Write;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Calls `stop` when somebody asks, and says `told`. A Ctrl-C after that ends this process at once, with 130, and the
/// kernel ends QEMU with it. A second SIGTERM does not: `timeout` sends two at a time, to its child and to the group
/// (coreutils' src/timeout.c), and who sends SIGTERM has SIGKILL for more.
///
/// Only within a runtime; from now on these signals no longer end the process by themselves.
pub(crate) fn when_asked(told: &'static str, stop: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let of = |kind| signal(kind).context("listening for signals");
    let (mut interrupt, mut terminate) = (of(SignalKind::interrupt())?, of(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop();
        // Whoever read standard error may be gone by the same Ctrl-C.
        let _unread = writeln!(std::io::stderr(), "\n{told}; Ctrl-C again to end at once");
        interrupt.recv().await;
        std::process::exit(130);
    });
    Ok(())
}
