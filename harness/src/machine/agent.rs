//! The QEMU guest agent.
//!
//! Commands come from the `qapi` crate's types; the conversation is our own: `guest-sync-delimited` with
//! the 0xFF mark first and after every time-out, as QEMU's documentation of the agent asks, so that a late
//! answer is never taken for the next one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use qapi::Command;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::libvirt::{GuestAgent, VirshError};
use super::lines::{Line, next_line};
use crate::text::printable;

/// The longest answer accepted, bytes: guest-exec-status carries up to 16 MiB of base64 (qga/commands.c).
const MAX_LINE: usize = 24 << 20;

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The answer did not come in time.
    #[error("the guest agent at {path} did not answer `{command}` within {limit:?} (last seen: {seen})")]
    Timeout {
        /// The command.
        command: String,
        /// Socket path.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
        /// The last thing that came.
        seen: String,
    },
    /// QEMU's end of the channel is gone.
    #[error("the guest agent's channel {path} is closed: {source}")]
    Closed {
        /// Socket path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The agent refused.
    #[error("the guest agent refused `{command}`: {description}")]
    Refused {
        /// The command.
        command: String,
        /// Its sentence, escaped.
        description: String,
    },
    /// libvirt could not be asked for it.
    #[error("the guest agent was not reached through libvirt: {0}")]
    Libvirt(#[from] VirshError),
    /// The answer has another shape.
    #[error("the guest agent answered `{command}` with an unexpected shape: {source}")]
    Shape {
        /// The command.
        command: String,
        /// Why it does not fit.
        source: serde_json::Error,
    },
}

/// What a program in the guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecResult {
    /// Its exit code, when it exited.
    pub code: Option<i64>,
    /// Its standard output, lossily decoded.
    pub stdout: String,
    /// Its standard error, lossily decoded.
    pub stderr: String,
}

#[derive(Debug)]
struct Conversation {
    stream: BufReader<UnixStream>,
    in_step: bool,
    next_sync: u64,
    seen: String,
}

/// The guest agent behind its socket, or behind libvirt; clones share it, one command at a time.
#[derive(Debug, Clone)]
pub struct Agent {
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Socket { path: Arc<PathBuf>, inner: Arc<Mutex<Conversation>> },
    Libvirt(GuestAgent),
}

impl Agent {
    /// Takes over QEMU's end of the channel. Whether an agent listens at the other end shows with the first
    /// command.
    pub fn new(path: PathBuf, stream: UnixStream) -> Agent {
        let stream = BufReader::new(stream);
        // Not 0: an agent that echoes uninitialised memory should not be in step by luck.
        let conversation =
            Conversation { stream, in_step: false, next_sync: 0x50f7_0001, seen: "nothing".into() };
        Agent { way: Way::Socket { path: Arc::new(path), inner: Arc::new(Mutex::new(conversation)) } }
    }

    /// By way of libvirt.
    pub fn through(libvirt: GuestAgent) -> Agent {
        Agent { way: Way::Libvirt(libvirt) }
    }

    /// `guest-ping`.
    pub async fn ping(&self, limit: Duration) -> Result<(), AgentError> {
        self.raw("guest-ping", json!({}), limit).await.map(drop)
    }

    /// Asks the agent to power the guest off. On success there is no answer (qga/qapi-schema.json); so
    /// silence for `limit` counts as sent, and only a refusal is an error.
    pub async fn shutdown(&self, mode: &str, limit: Duration) -> Result<(), AgentError> {
        match self.raw("guest-shutdown", json!({ "mode": mode }), limit).await {
            Ok(_) | Err(AgentError::Timeout { .. } | AgentError::Closed { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Runs a command of the agent's schema.
    pub async fn execute<C: Command>(&self, command: C, limit: Duration) -> Result<C::Ok, AgentError> {
        let shape = |source| AgentError::Shape { command: C::NAME.to_owned(), source };
        let arguments = serde_json::to_value(&command).map_err(shape)?;
        let answer = self.raw(C::NAME, arguments, limit).await?;
        serde_json::from_value(answer).map_err(shape)
    }

    /// Runs a program in the guest and waits for its end.
    pub async fn exec(
        &self,
        program: &str,
        args: &[&str],
        limit: Duration,
    ) -> Result<ExecResult, AgentError> {
        let arguments = json!({ "path": program, "arg": args, "capture-output": true });
        let began = std::time::Instant::now();
        let started = self.raw("guest-exec", arguments, limit).await?;
        let pid = started.get("pid").and_then(Value::as_i64).unwrap_or(-1);
        loop {
            let status = self.raw("guest-exec-status", json!({ "pid": pid }), limit).await?;
            if status.get("exited").and_then(Value::as_bool) == Some(true) {
                let text = |key: &str| {
                    let data = status.get(key).and_then(Value::as_str).unwrap_or_default();
                    let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default();
                    String::from_utf8_lossy(&bytes).into_owned()
                };
                let code = status.get("exitcode").and_then(Value::as_i64);
                return Ok(ExecResult { code, stdout: text("out-data"), stderr: text("err-data") });
            }
            if began.elapsed() > limit {
                let command = format!("guest-exec {program}");
                let seen = format!("pid {pid} still runs");
                return Err(AgentError::Timeout { command, path: self.path(), limit, seen });
            }
            // The agent has no notification for the end of a program. Through libvirt each question is a process.
            let pause = if matches!(self.way, Way::Libvirt(_)) { 300 } else { 50 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// The socket, for errors.
    fn path(&self) -> PathBuf {
        match &self.way {
            Way::Socket { path, .. } => path.to_path_buf(),
            Way::Libvirt(_) => PathBuf::from("(libvirt's)"),
        }
    }

    /// Runs any command; gives its `return` member.
    pub async fn raw(&self, command: &str, arguments: Value, limit: Duration) -> Result<Value, AgentError> {
        let inner = match &self.way {
            Way::Socket { inner, .. } => inner,
            Way::Libvirt(agent) => return agent.raw(command, arguments, limit).await,
        };
        let mut talk = inner.lock().await;
        let exchange = async {
            if !talk.in_step {
                talk.synchronise().await?;
            }
            // Until the answer is here, a cancelled or failed exchange leaves the stream out of step.
            talk.in_step = false;
            let line = json!({ "execute": command, "arguments": arguments });
            talk.send(format!("{line}\n").as_bytes()).await?;
            let answer = talk.next_object().await?;
            talk.in_step = true;
            Ok(answer)
        };
        let result = tokio::time::timeout(limit, exchange).await;
        let path = self.path();
        match result {
            Err(_) => {
                let seen = std::mem::replace(&mut talk.seen, "nothing".into());
                Err(AgentError::Timeout { command: command.to_owned(), path, limit, seen })
            }
            Ok(Err(source)) => Err(AgentError::Closed { path, source }),
            Ok(Ok(mut answer)) => match answer.get("error") {
                Some(error) => {
                    let description = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
                    let description = printable(description, 300);
                    Err(AgentError::Refused { command: command.to_owned(), description })
                }
                None => Ok(answer.get_mut("return").map(Value::take).unwrap_or_default()),
            },
        }
    }
}

impl Conversation {
    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// Sends 0xFF and guest-sync-delimited, then discards everything up to the answer with our number.
    async fn synchronise(&mut self) -> std::io::Result<()> {
        let id = self.next_sync;
        self.next_sync += 1;
        let line = json!({ "execute": "guest-sync-delimited", "arguments": { "id": id } });
        let mut bytes = vec![0xff];
        bytes.extend_from_slice(format!("{line}\n").as_bytes());
        self.send(&bytes).await?;
        loop {
            self.skip_past_mark().await?;
            let answer = self.next_object().await?;
            if answer.get("return").and_then(Value::as_u64) == Some(id) {
                return Ok(());
            }
        }
    }

    async fn skip_past_mark(&mut self) -> std::io::Result<()> {
        loop {
            let chunk = self.stream.fill_buf().await?;
            if chunk.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let mark = chunk.iter().position(|b| *b == 0xff);
            let used = mark.map_or(chunk.len(), |at| at + 1);
            self.stream.consume(used);
            if mark.is_some() {
                return Ok(());
            }
        }
    }

    async fn next_object(&mut self) -> std::io::Result<Value> {
        loop {
            match next_line(&mut self.stream, MAX_LINE).await? {
                Line::Whole(line) => {
                    let line = line.strip_prefix(b"\xff").unwrap_or(&line);
                    self.seen = printable(&String::from_utf8_lossy(line), 80);
                    if let Ok(value @ Value::Object(_)) = serde_json::from_slice(line) {
                        return Ok(value);
                    }
                }
                Line::TooLong { bytes } => self.seen = format!("a line of {bytes} bytes"),
                Line::End(_) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    const LIMIT: Duration = Duration::from_secs(10);

    /// An agent and the guest's end of its channel.
    fn pair() -> (Agent, BufReader<UnixStream>) {
        let (host, guest) = UnixStream::pair().unwrap();
        (Agent::new("agent.sock".into(), host), BufReader::new(guest))
    }

    async fn hear(guest: &mut BufReader<UnixStream>) -> Value {
        let mut line = Vec::new();
        guest.read_until(b'\n', &mut line).await.unwrap();
        serde_json::from_slice(line.strip_prefix(b"\xff").unwrap_or(&line)).unwrap()
    }

    async fn say(guest: &mut BufReader<UnixStream>, bytes: &[u8]) {
        guest.get_mut().write_all(bytes).await.unwrap();
    }

    async fn answer_sync(guest: &mut BufReader<UnixStream>) {
        let sync = hear(guest).await;
        assert_eq!(sync["execute"], "guest-sync-delimited");
        say(guest, b"left over from before\n\xff").await;
        say(guest, format!("{}\n", json!({ "return": sync["arguments"]["id"] })).as_bytes()).await;
    }

    #[tokio::test]
    async fn the_first_byte_is_the_mark_that_resets_the_agents_parser() {
        let (agent, mut guest) = pair();
        let ping = tokio::spawn(async move { agent.ping(LIMIT).await });
        let mut first = [0u8; 1];
        guest.read_exact(&mut first).await.unwrap();
        assert_eq!(first, [0xff]);
        ping.abort();
    }

    #[tokio::test]
    async fn a_late_answer_is_not_taken_for_the_next_one() {
        let (agent, mut guest) = pair();
        let (first, ()) =
            tokio::join!(agent.raw("guest-get-time", json!({}), Duration::from_millis(300)), async {
                answer_sync(&mut guest).await;
                hear(&mut guest).await;
            });
        assert!(matches!(first, Err(AgentError::Timeout { command, .. }) if command == "guest-get-time"));
        say(&mut guest, b"{\"return\": 12345}\n").await;
        let (second, ()) = tokio::join!(agent.raw("guest-info", json!({}), LIMIT), async {
            answer_sync(&mut guest).await;
            hear(&mut guest).await;
            say(&mut guest, b"{\"return\": {\"version\": \"9\"}}\n").await;
        });
        assert_eq!(second.unwrap()["version"], "9");
    }

    #[tokio::test]
    async fn answers_in_pieces_refusals_and_floods() {
        let (agent, mut guest) = pair();
        let (refused, ()) = tokio::join!(agent.ping(LIMIT), async {
            answer_sync(&mut guest).await;
            hear(&mut guest).await;
            say(&mut guest, b"noise\n[1]\n{\"error\": {\"class\": \"X\", ").await;
            say(&mut guest, b"\"desc\": \"\\u001b[2J no\"}}\n").await;
        });
        assert_eq!(refused.unwrap_err().to_string(), "the guest agent refused `guest-ping`: \\u{1b}[2J no");
        drop(guest);
        assert!(matches!(agent.ping(LIMIT).await, Err(AgentError::Closed { .. })));
    }
}
