//! A file of the host's, put into a guest through its agent.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::machine::agent::{Agent, AgentError};

/// One guest-file-write carries so much: a line of two thirds of a MiB, well below what an agent takes.
const CHUNK: usize = 512 << 10;
/// How long one of them may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Writes the file at `to`, a path of the guest's. Binary (`wb`): Windows' C library changes line ends otherwise.
pub async fn upload(agent: &Agent, from: &Path, to: &str) -> Result<(), AgentError> {
    let refused =
        |command: &str, description: String| AgentError::Refused { command: command.to_owned(), description };
    let local =
        |e: std::io::Error| refused("guest-file-write", format!("{} cannot be read: {e}", from.display()));
    let mut file = tokio::fs::File::open(from).await.map_err(local)?;
    let opened = agent.raw("guest-file-open", json!({ "path": to, "mode": "wb" }), LIMIT).await?;
    let handle = opened.as_i64().ok_or_else(|| refused("guest-file-open", "it gave no handle".into()))?;
    let written = write_all(agent, handle, &mut file, local).await;
    // Closed in any case: the agent keeps handles for ever.
    let closed = agent.raw("guest-file-close", json!({ "handle": handle }), LIMIT).await;
    written?;
    closed.map(drop)
}

async fn write_all(
    agent: &Agent,
    handle: i64,
    file: &mut tokio::fs::File,
    local: impl Fn(std::io::Error) -> AgentError,
) -> Result<(), AgentError> {
    let mut buffer = vec![0u8; CHUNK];
    loop {
        let count = file.read(&mut buffer).await.map_err(&local)?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let data = base64::engine::general_purpose::STANDARD.encode(rest);
            let arguments = json!({ "handle": handle, "buf-b64": data });
            let answer = agent.raw("guest-file-write", arguments, LIMIT).await?;
            let taken = answer.get("count").and_then(Value::as_u64).unwrap_or(0);
            let taken = usize::try_from(taken).unwrap_or(usize::MAX);
            if taken == 0 || taken > rest.len() {
                let description = format!("it says that it wrote {taken} of {} bytes", rest.len());
                return Err(AgentError::Refused { command: "guest-file-write".into(), description });
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
}
