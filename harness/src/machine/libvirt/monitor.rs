//! QMP by way of libvirt, for a domain that somebody else defined: `virsh qemu-monitor-command` and
//! `virsh qemu-monitor-event`. libvirt holds the monitor's socket itself, and passes on what it is given.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::sync::mpsc;

use super::connection::{Connection, VirshError};
use super::events::Events;
use crate::machine::process;
use crate::machine::qmp::{QmpError, QmpEvent, QmpFault};

/// How long libvirt's own word of the domain's end may come before QEMU's.
const TRAILING: Duration = Duration::from_millis(500);

/// The monitor of one domain.
#[derive(Debug, Clone)]
pub struct DomainMonitor {
    connection: Connection,
    domain: String,
}

impl DomainMonitor {
    /// Of a domain, by its name.
    pub fn new(connection: Connection, domain: &str) -> DomainMonitor {
        DomainMonitor { connection, domain: domain.to_owned() }
    }

    /// For errors.
    pub(in crate::machine) fn path(&self) -> PathBuf {
        PathBuf::from(format!("(libvirt's, domain {})", self.domain))
    }

    /// Runs any command with raw arguments.
    pub(in crate::machine) async fn execute(
        &self,
        name: &str,
        arguments: &Value,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        let line = match arguments.as_object() {
            Some(members) if !members.is_empty() => json!({ "execute": name, "arguments": arguments }),
            _ => json!({ "execute": name }),
        };
        let line = line.to_string();
        let reply = self.connection.virsh_within(&["qemu-monitor-command", &self.domain, &line], limit).await;
        let command = name.to_owned();
        let text = match reply {
            Ok(text) => text,
            Err(VirshError::Timeout { limit, .. }) => {
                return Err(QmpError::Timeout { command, path: self.path(), limit });
            }
            Err(error) => return Err(QmpError::Libvirt { command, error: Box::new(error) }),
        };
        let shape = |source| QmpError::Shape { command: name.to_owned(), source };
        let mut reply: Value = serde_json::from_str(&text).map_err(shape)?;
        match reply.get("error") {
            Some(error) => {
                let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
                Err(QmpError::Refused {
                    command,
                    fault: QmpFault { class: text("class"), description: text("desc") },
                })
            }
            None => Ok(reply.get_mut("return").map(Value::take).unwrap_or_default()),
        }
    }

    /// Brings a picture of the screen into `file` through libvirt: QEMU itself may not be able to write there.
    pub(in crate::machine) async fn screenshot(
        &self,
        file: &Path,
        limit: Duration,
    ) -> Result<(), VirshError> {
        let file = file.to_string_lossy();
        self.connection.virsh_within(&["screenshot", &self.domain, &file], limit).await.map(drop)
    }

    /// QEMU's events from now on; they end with the domain.
    pub(in crate::machine) async fn events(&self) -> Result<mpsc::Receiver<QmpEvent>, VirshError> {
        let command = self.connection.command(&["qemu-monitor-event", &self.domain, "--loop"]);
        let mut qemu = Listening::start(command).await?;
        let lifecycle = self.connection.command(&["event", &self.domain, "--event", "lifecycle", "--loop"]);
        let lifecycle = Events::listen(lifecycle).await;
        let mut lifecycle =
            lifecycle.map_err(|e| VirshError::Start(std::io::Error::other(format!("{e:#}"))))?;
        let (tell, events) = mpsc::channel(1024);
        tokio::spawn(async move {
            let stopped = async {
                while let Ok(Some(event)) = lifecycle.next().await {
                    if event.starts_with("Stopped ") {
                        break;
                    }
                }
                tokio::time::sleep(TRAILING).await;
            };
            let pass_on = async {
                while let Some(event) = qemu.next().await {
                    if tell.send(event).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = pass_on => {}
                () = stopped => {}
            }
        });
        Ok(events)
    }
}

/// A virsh that prints QEMU's events.
struct Listening {
    _virsh: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Listening {
    async fn start(command: tokio::process::Command) -> Result<Listening, VirshError> {
        let mut child = process::spawn(command).await.map_err(VirshError::Start)?;
        let gone = || VirshError::Start(std::io::Error::other("virsh has no standard output"));
        let stdout = child.stdout.take().ok_or_else(gone)?;
        Ok(Listening { _virsh: child, lines: BufReader::new(stdout).lines() })
    }

    async fn next(&mut self) -> Option<QmpEvent> {
        loop {
            let line = self.lines.next_line().await.ok().flatten()?;
            if let Some(event) = event(&line) {
                return Some(event);
            }
        }
    }
}

/// `event SHUTDOWN at 1700000000.123456 for domain 'x': {"guest":true,...}`, or `<null>` where an event has no data.
fn event(line: &str) -> Option<QmpEvent> {
    let rest = line.strip_prefix("event ")?;
    let (name, rest) = rest.split_once(" at ")?;
    let (stamp, rest) = rest.split_once(" for domain '")?;
    let (seconds, microseconds) = stamp.split_once('.')?;
    // A domain's name may hold what stands between it and the data, so the data is looked for from its brace.
    let data = rest.find("': {").and_then(|at| rest.get(at + 3..));
    let data = data.and_then(|data| serde_json::from_str(data).ok()).unwrap_or(Value::Null);
    Some(QmpEvent {
        name: name.to_owned(),
        data,
        seconds: seconds.parse().ok()?,
        microseconds: microseconds.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_virsh_prints_them() {
        let line = r#"event SHUTDOWN at 1764000000.012345 for domain 'a b': {"guest":true,"reason":"guest-shutdown"}"#;
        let shutdown = event(line).unwrap();
        assert_eq!(
            (shutdown.name.as_str(), shutdown.seconds, shutdown.microseconds),
            ("SHUTDOWN", 1_764_000_000, 12_345)
        );
        assert_eq!(shutdown.data, json!({ "guest": true, "reason": "guest-shutdown" }));
        let powerdown = event("event POWERDOWN at 1764000000.5 for domain 'x': <null>").unwrap();
        assert_eq!((powerdown.name.as_str(), powerdown.data), ("POWERDOWN", Value::Null));
        for other in
            ["events received: 3", "", "event X for domain 'y': {}", "event X at y for domain 'z': {}"]
        {
            assert!(event(other).is_none(), "{other}");
        }
    }
}
