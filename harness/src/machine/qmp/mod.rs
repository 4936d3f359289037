//! QMP: QEMU's control socket.
//!
//! Command and reply types come from the `qapi` crate; the transport is our own, because the crate's stream
//! ends at the first event or enum value that its schema (about QEMU 9.1) does not know, and its driver dies
//! of a late reply (measured, QEMU 7.2). Here every command has an id and a deadline, replies that come late
//! are dropped, and events stay names with raw JSON data.

mod message;
mod wire;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qapi::Command;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::BufReader;
use tokio::sync::{mpsc, oneshot};

use super::libvirt::{DomainMonitor, VirshError};
use super::lines::{Line, next_line};
use message::Incoming;
pub use message::{QmpEvent, QmpFault};

/// The longest line accepted from QEMU, in bytes. `query-qmp-schema` of QEMU 9 answers with 300 KB.
const MAX_LINE: usize = 16 << 20;

/// Events that may wait for their reader before the socket is read no further.
const EVENT_QUEUE: usize = 1024;

/// Why a QMP command gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket could not be reached.
    #[error("cannot connect to QMP at {path}: {source}")]
    Connect {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Connected, and no greeting came: QEMU serves one client per socket, and may be serving another.
    #[error("no QMP greeting at {path} within {limit:?}; nothing came")]
    Silent {
        /// Socket path.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// The first line was not a QMP greeting.
    #[error("no QMP greeting at {path} within {limit:?}; first came {seen}")]
    Greeting {
        /// Socket path.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
        /// What came instead.
        seen: String,
    },
    /// No reply in time.
    #[error("QMP `{command}` at {path} was not answered within {limit:?}")]
    Timeout {
        /// The command.
        command: String,
        /// Socket path.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection ended first.
    #[error("QMP at {path} closed before `{command}` was answered")]
    Closed {
        /// The command.
        command: String,
        /// Socket path.
        path: PathBuf,
    },
    /// libvirt, by which it goes, did not pass it on.
    #[error("QMP `{command}` through libvirt: {error}")]
    Libvirt {
        /// The command.
        command: String,
        /// Why.
        error: Box<VirshError>,
    },
    /// QEMU refused.
    #[error("QEMU refused `{command}`: {fault}")]
    Refused {
        /// The command.
        command: String,
        /// Class and description.
        fault: QmpFault,
    },
    /// The reply has another shape than the schema's.
    #[error("QMP `{command}` was answered with an unexpected shape: {source}")]
    Shape {
        /// The command.
        command: String,
        /// Why it does not fit.
        source: serde_json::Error,
    },
}

/// A command as it goes to QEMU.
#[derive(Serialize)]
struct Outgoing<'a> {
    execute: &'a str,
    id: u64,
    #[serde(skip_serializing_if = "is_empty")]
    arguments: &'a Value,
}

fn is_empty(arguments: &&Value) -> bool {
    arguments.as_object().is_none_or(serde_json::Map::is_empty)
}

type Reply = Result<Value, QmpFault>;
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Reply>>>>;

/// A connected QMP client. Clones share the connection.
#[derive(Debug, Clone)]
pub struct QmpClient {
    way: Way,
    /// QEMU's version as the greeting says it, such as `7.2.22`.
    version: Arc<str>,
}

#[derive(Debug, Clone)]
enum Way {
    Socket(Socket),
    Libvirt(DomainMonitor),
}

#[derive(Debug, Clone)]
struct Socket {
    path: Arc<PathBuf>,
    writer: Arc<tokio::sync::Mutex<wire::Writer>>,
    waiting: Waiting,
    next_id: Arc<AtomicU64>,
}

impl QmpClient {
    /// Connects, reads the greeting, leaves capabilities negotiation. Events go to the returned receiver;
    /// it ends when the connection does.
    pub async fn connect(
        path: &Path,
        limit: Duration,
    ) -> Result<(QmpClient, mpsc::Receiver<QmpEvent>), QmpError> {
        let (read, write) =
            wire::connect(path).map_err(|source| QmpError::Connect { path: path.to_owned(), source })?;
        let mut reader = BufReader::new(read);
        let greeting = |seen: String| QmpError::Greeting { path: path.to_owned(), limit, seen };
        let first = match tokio::time::timeout(limit, next_line(&mut reader, MAX_LINE)).await {
            Err(_) => return Err(QmpError::Silent { path: path.to_owned(), limit }),
            Ok(Err(e)) => return Err(greeting(e.to_string())),
            Ok(Ok(Line::Whole(line))) => line,
            Ok(Ok(other)) => return Err(greeting(format!("{other:?}").chars().take(80).collect())),
        };
        let Some(version) = message::greeting_version(&first) else {
            return Err(greeting(crate::text::printable(&String::from_utf8_lossy(&first), 80)));
        };
        let waiting = Waiting::default();
        let (events_in, events) = mpsc::channel(EVENT_QUEUE);
        tokio::spawn(pump(reader, waiting.clone(), events_in));
        let socket = Socket {
            path: Arc::new(path.to_owned()),
            writer: Arc::new(tokio::sync::Mutex::new(write)),
            waiting,
            next_id: Arc::new(AtomicU64::new(1)),
        };
        let client = QmpClient { way: Way::Socket(socket), version: version.into() };
        client.execute_raw("qmp_capabilities", json!({}), limit).await?;
        Ok((client, events))
    }

    /// By way of libvirt, for a domain whose monitor it holds. Events go to the returned receiver; it ends with the
    /// domain.
    pub async fn through(
        monitor: DomainMonitor,
        limit: Duration,
    ) -> Result<(QmpClient, mpsc::Receiver<QmpEvent>), QmpError> {
        let failed = |error| QmpError::Libvirt { command: "events".into(), error: Box::new(error) };
        let events = monitor.events().await.map_err(failed)?;
        let version = monitor.execute("query-version", &json!({}), limit).await?;
        let part =
            |key: &str| version.get("qemu").and_then(|v| v.get(key)).and_then(Value::as_u64).unwrap_or(0);
        let version = format!("{}.{}.{}", part("major"), part("minor"), part("micro"));
        Ok((QmpClient { way: Way::Libvirt(monitor), version: version.into() }, events))
    }

    /// QEMU's version, from the greeting.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Runs a command of the schema and decodes its reply.
    pub async fn execute<C: Command>(&self, command: C, limit: Duration) -> Result<C::Ok, QmpError> {
        let shape = |source| QmpError::Shape { command: C::NAME.to_owned(), source };
        let arguments = serde_json::to_value(&command).map_err(shape)?;
        let reply = self.execute_raw(C::NAME, arguments, limit).await?;
        serde_json::from_value(reply).map_err(shape)
    }

    /// Runs any command with raw arguments; the reply's `return` member comes back undecoded, so that a
    /// newer QEMU's values survive.
    pub async fn execute_raw(
        &self,
        name: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        match &self.way {
            Way::Socket(socket) => socket.execute(name, arguments, limit).await,
            Way::Libvirt(monitor) => monitor.execute(name, &arguments, limit).await,
        }
    }

    /// Brings a picture of the screen into `file`, as PPM.
    pub(crate) async fn picture(&self, file: &Path, limit: Duration) -> Result<(), QmpError> {
        match &self.way {
            Way::Socket(_) => {
                self.execute_raw("screendump", json!({ "filename": file }), limit).await.map(drop)
            }
            Way::Libvirt(monitor) => {
                let failed =
                    |error| QmpError::Libvirt { command: "screendump".into(), error: Box::new(error) };
                monitor.screenshot(file, limit).await.map_err(failed)
            }
        }
    }

    /// The machine's run state as QEMU names it (`running`, `suspended`, `shutdown`, ...). A string, because
    /// a newer QEMU may know more states than our schema.
    pub async fn run_state(&self, limit: Duration) -> Result<String, QmpError> {
        let reply = self.execute_raw("query-status", json!({}), limit).await?;
        let state = reply.get("status").and_then(Value::as_str).unwrap_or("?");
        Ok(state.to_owned())
    }
}

impl Socket {
    async fn execute(&self, name: &str, arguments: Value, limit: Duration) -> Result<Value, QmpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (tell, reply) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, tell);
        let exchange = async {
            let mut line = serde_json::to_vec(&Outgoing { execute: name, id, arguments: &arguments }).ok()?;
            line.push(b'\n');
            self.writer.lock().await.write_all(&line).await.ok()?;
            reply.await.ok()
        };
        let answer = tokio::time::timeout(limit, exchange).await;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let command = name.to_owned();
        match answer {
            Err(_) => Err(QmpError::Timeout { command, path: self.path.to_path_buf(), limit }),
            Ok(None) => Err(QmpError::Closed { command, path: self.path.to_path_buf() }),
            Ok(Some(Err(fault))) => Err(QmpError::Refused { command, fault }),
            Ok(Some(Ok(value))) => Ok(value),
        }
    }
}

/// Reads until the connection ends; then every waiting command learns of it by its dropped sender.
async fn pump(mut reader: BufReader<wire::Reader>, waiting: Waiting, events: mpsc::Sender<QmpEvent>) {
    while let Ok(line) = next_line(&mut reader, MAX_LINE).await {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong { bytes } => {
                tracing::warn!(bytes, "QMP line over the limit dropped");
                continue;
            }
            Line::End(_) => break,
        };
        match message::parse(&line) {
            Incoming::Reply { id, result } => {
                let teller = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                match teller {
                    Some(teller) => drop(teller.send(result)),
                    None => tracing::debug!(id, "late or foreign QMP reply dropped"),
                }
            }
            Incoming::Event(event) => {
                if events.send(event).await.is_err() {
                    tracing::debug!("QMP event without a listener dropped");
                }
            }
            Incoming::Garbage => tracing::warn!("QMP line that is no message dropped"),
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The events in a stream of bytes, read as from the socket.
pub(crate) async fn events_of(mut bytes: &[u8]) -> Vec<QmpEvent> {
    let mut events = Vec::new();
    loop {
        match next_line(&mut bytes, MAX_LINE).await {
            Ok(Line::Whole(line)) => {
                let _version = message::greeting_version(&line);
                if let Incoming::Event(event) = message::parse(&line) {
                    events.push(event);
                }
            }
            Ok(Line::TooLong { .. }) => {}
            Ok(Line::End(_)) | Err(_) => return events,
        }
    }
}

#[cfg(test)]
mod tests;
