//! Doors for the fuzz targets in `fuzz/`, which are a workspace of their own: whole paths that foreign bytes take through
//! this crate, without sockets or files where the path itself needs none. Nothing else uses them.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use crate::machine::agent::Agent;
use crate::machine::qmp::{self, QmpEvent};
use crate::machine::{LastNumbers, read_probe};
use crate::outcome::RequestMeans;
use crate::record::schema::RunRecord;
use crate::report;
use crate::settle;
use crate::timeline::{Observation, Seen, Source, Timeline};

fn runtime() -> Runtime {
    #[allow(clippy::expect_used, reason = "without a runtime nothing can be fuzzed")]
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

thread_local!(static RUNTIME: Runtime = runtime());

/// What a stream of observations comes to; nothing of it may panic, and what people read holds no control character.
fn judge(timeline: &Timeline) {
    let observations = timeline.snapshot();
    let _outcome = (settle::at_deadline(&observations), settle::phases(&observations));
    let _tie = settle::tie(&observations, RequestMeans::AcpiButton);
    for observation in &observations {
        assert!(!observation.what.brief().chars().any(char::is_control), "{observation:?}");
        let Ok(line) = serde_json::to_string(observation) else { continue };
        let back: Result<Observation, _> = serde_json::from_str(&line);
        assert!(back.is_ok(), "a timeline that cannot be read again: {line}");
    }
}

/// Bytes as QEMU would send them on QMP: lines, messages, events on a timeline, outcome.
pub fn qmp(bytes: &[u8]) {
    RUNTIME.with(|runtime| {
        let timeline = Timeline::start();
        timeline.add(Source::Host, Seen::Requested { by: "system_powerdown".into(), number: 1 });
        let events: Vec<QmpEvent> = runtime.block_on(qmp::events_of(bytes));
        runtime.block_on(async {
            let (say, hear) = tokio::sync::mpsc::channel(events.len().max(1));
            for event in events {
                let _sent = say.send(event).await;
            }
            drop(say);
            crate::machine::read_events(hear, timeline.clone()).await;
        });
        judge(&timeline);
    });
}

/// Bytes as a guest would answer on the agent's channel, to two commands. The second waits between its questions: a
/// target gives it a clock that does not.
pub async fn agent(bytes: &[u8]) {
    // What the socket's buffer holds: nobody reads while it is written.
    let bytes = bytes.get(..bytes.len().min(100_000)).unwrap_or_default();
    let Ok((host, mut guest)) = UnixStream::pair() else { return };
    if guest.write_all(bytes).await.is_err() || guest.shutdown().await.is_err() {
        return;
    }
    let agent = Agent::new("agent.sock".into(), host);
    for result in [
        agent.ping(Duration::from_secs(5)).await.err(),
        agent.exec("reg.exe", &["query"], Duration::from_millis(100)).await.err(),
    ] {
        let said = result.map(|e| e.to_string()).unwrap_or_default();
        assert!(!said.chars().any(char::is_control), "{said:?}");
    }
}

/// Bytes as a guest would write them to COM1: lines, numbering, timeline, phases.
pub fn probe(bytes: &[u8]) {
    let bytes = bytes.get(..bytes.len().min(100_000)).unwrap_or_default();
    RUNTIME.with(|runtime| {
        let timeline = Timeline::start();
        timeline.add(Source::Host, Seen::Requested { by: "system_powerdown".into(), number: 1 });
        runtime.block_on(async {
            let Ok((host, mut guest)) = UnixStream::pair() else { return };
            if guest.write_all(bytes).await.is_ok() && guest.shutdown().await.is_ok() {
                read_probe(host, timeline.clone(), LastNumbers::new()).await;
            }
        });
        judge(&timeline);
    });
}

/// The page, the JUnit report and the summary of a record.
pub fn reports(run: &RunRecord) -> anyhow::Result<[String; 3]> {
    report::texts(Path::new("/nonexistent"), run, None)
}
