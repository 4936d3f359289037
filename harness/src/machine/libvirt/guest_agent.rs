//! The guest agent by way of libvirt, which holds its channel: `virsh qemu-agent-command`.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::connection::{Connection, VirshError, Why};
use crate::machine::agent::AgentError;

/// How long virsh may take beside the agent's own time.
const BESIDE: Duration = Duration::from_secs(20);

/// The pause after libvirt said at once that no agent is connected: a guest boots faster when it is not asked twenty
/// times a second by a program that has to be started each time.
const PAUSE: Duration = Duration::from_millis(300);

/// The agent of one domain.
#[derive(Debug, Clone)]
pub struct GuestAgent {
    connection: Connection,
    domain: String,
}

impl GuestAgent {
    /// Of a domain, by its name.
    pub fn new(connection: Connection, domain: &str) -> GuestAgent {
        GuestAgent { connection, domain: domain.to_owned() }
    }

    /// Runs any command; gives its `return` member.
    pub(in crate::machine) async fn raw(
        &self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, AgentError> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        // virsh counts whole seconds; 0 would not wait at all.
        let seconds = limit.as_secs().max(1).to_string();
        let words = ["qemu-agent-command", &self.domain, &line, "--timeout", &seconds];
        let began = Instant::now();
        let answer = self.connection.virsh_within(&words, limit + BESIDE).await;
        let path = || PathBuf::from(format!("(libvirt's, domain {})", self.domain));
        let error = match answer {
            Ok(text) => {
                let shape = |source| AgentError::Shape { command: command.to_owned(), source };
                let mut value: Value = serde_json::from_str(&text).map_err(shape)?;
                return Ok(value.get_mut("return").map(Value::take).unwrap_or_default());
            }
            Err(error) => error,
        };
        let late = began.elapsed() >= limit;
        match error {
            VirshError::Refused { said, why: Why::Agent, .. }
                if said.contains("unable to execute QEMU agent") =>
            {
                let description = said.split_once("': ").map_or(said.as_str(), |(_, rest)| rest).to_owned();
                Err(AgentError::Refused { command: command.to_owned(), description })
            }
            // The guest slept or went away while the agent was to answer.
            VirshError::Refused { said, .. }
                if said.contains("disappeared") || said.contains("is not running") =>
            {
                Err(AgentError::Closed { path: path(), source: io::Error::other(said) })
            }
            VirshError::Refused { said, why: Why::Agent, .. } => {
                if !late {
                    tokio::time::sleep(PAUSE.min(limit)).await;
                }
                Err(AgentError::Timeout { command: command.to_owned(), path: path(), limit, seen: said })
            }
            error => Err(AgentError::Libvirt(error)),
        }
    }
}
