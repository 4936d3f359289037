//! Being asked to stop: by a person with Ctrl-C, or by a service manager, a cluster or a cancelled CI job with SIGTERM.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from when it is made. Whoever listens is no longer ended by these signals.
pub(crate) struct Stopping {
    interrupt: Signal,
    terminate: Signal,
}

impl Stopping {
    /// Only within a runtime.
    pub(crate) fn listen() -> anyhow::Result<Stopping> {
        let of = |kind| signal(kind).context("listening for signals");
        Ok(Stopping { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
    }

    /// Returns when somebody asks; each signal is told once.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
