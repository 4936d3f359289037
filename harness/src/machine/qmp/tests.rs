//! The transport against a peer that misbehaves as no real QEMU can be made to.
//! (Against real QEMU: `harness/tests/qmp_real.rs`.)

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);
const GREETING: &str =
    r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":[]}}"#;

struct Peer {
    reader: BufReader<tokio::net::unix::OwnedReadHalf>,
    writer: tokio::net::unix::OwnedWriteHalf,
}

impl Peer {
    async fn say(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn answer(&mut self, value: Value) -> Value {
        let command = self.hear().await;
        self.say(&format!("{}\n", json!({"return": value, "id": command["id"]}))).await;
        command
    }
}

/// A connected pair: client, its events, and the peer after the handshake.
async fn pair() -> (QmpClient, mpsc::Receiver<QmpEvent>, Peer) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let accept = async {
        let stream: UnixStream = listener.accept().await.unwrap().0;
        let (read, writer) = stream.into_split();
        let mut peer = Peer { reader: BufReader::new(read), writer };
        peer.say(&format!("{GREETING}\n")).await;
        peer.answer(json!({})).await;
        peer
    };
    let (connected, peer) = tokio::join!(QmpClient::connect(&path, LIMIT), accept);
    let (client, events) = connected.unwrap();
    (client, events, peer)
}

#[tokio::test]
async fn garbage_unknown_events_and_foreign_replies_do_not_end_the_stream() {
    let (client, mut events, mut peer) = pair().await;
    assert_eq!(client.version(), "7.2.22");
    peer.say("not json\n{\"half\":\n\n[]\n{\"return\":1,\"id\":99999}\n").await;
    peer.say("{\"event\":\"QUANTUM_LEAP\",\"data\":{\"to\":\"elsewhere\"}}\n").await;
    let (answer, _) = tokio::join!(client.run_state(LIMIT), peer.answer(json!({"status": "levitating"})));
    assert_eq!(answer.unwrap(), "levitating");
    assert_eq!(events.recv().await.unwrap().name, "QUANTUM_LEAP");
}

#[tokio::test]
async fn a_late_reply_is_dropped_and_does_not_answer_the_next_command() {
    let (client, _events, mut peer) = pair().await;
    let short = Duration::from_millis(20);
    let error = client.run_state(short).await.unwrap_err();
    assert!(
        matches!(&error, QmpError::Timeout { command, limit, .. } if command == "query-status" && *limit == short)
    );
    let late = peer.hear().await;
    peer.say(&format!("{}\n", json!({"return": {"status": "late"}, "id": late["id"]}))).await;
    let (answer, _) = tokio::join!(client.run_state(LIMIT), peer.answer(json!({"status": "running"})));
    assert_eq!(answer.unwrap(), "running");
}

#[tokio::test]
async fn a_closed_socket_ends_waiting_commands_at_once() {
    let (client, mut events, mut peer) = pair().await;
    let (answer, ()) = tokio::join!(client.run_state(LIMIT), async {
        peer.hear().await;
        drop(peer);
    });
    assert!(matches!(answer.unwrap_err(), QmpError::Closed { .. }));
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn refusals_and_unexpected_shapes_are_told_apart() {
    let (client, _events, mut peer) = pair().await;
    let (answer, ()) = tokio::join!(client.execute(qapi::qmp::system_powerdown {}, LIMIT), async {
        let command = peer.hear().await;
        assert_eq!(command["execute"], "system_powerdown");
        let fault = json!({"error": {"class": "GenericError", "desc": "no\u{1b}[31m"}, "id": command["id"]});
        peer.say(&format!("{fault}\n")).await;
    });
    assert_eq!(
        answer.unwrap_err().to_string(),
        "QEMU refused `system_powerdown`: no\\u{1b}[31m (GenericError)"
    );
    let status = client.execute(qapi::qmp::query_status {}, LIMIT);
    let (answer, _) = tokio::join!(status, peer.answer(json!({"status": 7})));
    assert!(matches!(answer.unwrap_err(), QmpError::Shape { .. }));
}

#[tokio::test]
async fn something_that_is_not_qmp_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let serve = async {
        let mut stream = listener.accept().await.unwrap().0;
        stream.write_all(b"SSH-2.0-OpenSSH\n").await.unwrap();
        stream
    };
    let (connected, _stream) = tokio::join!(QmpClient::connect(&path, LIMIT), serve);
    assert!(connected.unwrap_err().to_string().contains("SSH-2.0"));
    assert!(matches!(
        QmpClient::connect(&dir.path().join("none"), LIMIT).await,
        Err(QmpError::Connect { .. })
    ));
}
