//! What libvirt tells of a domain.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::machine::process;
use crate::text::printable;

/// The domain's lifecycle events, as `virsh event` prints them.
#[derive(Debug)]
pub struct Events {
    _virsh: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Events {
    /// Starts `virsh event`, whose standard output is ours from here on.
    pub(super) async fn listen(mut virsh: Command) -> anyhow::Result<Events> {
        virsh.stdout(Stdio::piped());
        let mut child = process::spawn(virsh).await.context("cannot start virsh")?;
        let stdout = child.stdout.take().context("virsh has no standard output")?;
        Ok(Events { _virsh: child, lines: BufReader::new(stdout).lines() })
    }

    /// The next event, such as `Shutdown Finished after guest request`; `None` when libvirt has no more to tell.
    pub async fn next(&mut self) -> anyhow::Result<Option<String>> {
        while let Some(line) = self.lines.next_line().await.context("reading virsh's events")? {
            // `event 'lifecycle' for domain 'softoff': Stopped Shutdown`
            if let Some((_, event)) = line.split_once("': ") {
                return Ok(Some(printable(event.trim(), 100)));
            }
        }
        Ok(None)
    }

    /// The events up to `Stopped`, such as `Shutdown Finished after guest request`. An error when none comes
    /// within `limit`, or libvirt has no more to tell.
    pub async fn until_stopped(&mut self, limit: Duration) -> anyhow::Result<Vec<String>> {
        let mut seen: Vec<String> = Vec::new();
        let stopped = async {
            while let Some(event) = self.next().await? {
                let stopped = event.starts_with("Stopped ");
                seen.push(event);
                if stopped {
                    return Ok(());
                }
            }
            bail!("virsh ended before the domain did")
        };
        match tokio::time::timeout(limit, stopped).await {
            Ok(Ok(())) => Ok(seen),
            Ok(Err(error)) => Err(error.context(format!("libvirt told {seen:?}"))),
            Err(_) => bail!(
                "the domain did not stop within {limit:?}; libvirt told {seen:?}; its screen or console shows \
                 what it waits for"
            ),
        }
    }
}
