//! QEMU's own words in a file. A guest can make QEMU complain without end, so what is kept has a limit.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::task::JoinHandle;

/// What is kept, bytes; the rest is read and dropped, so that QEMU is never stopped by a full pipe.
const LIMIT: u64 = 8 << 20;

/// How long its last words may take after its end. They are in the pipe by then.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Reads until nobody can write any more.
async fn keep(mut from: impl AsyncRead + Unpin, path: PathBuf) {
    if let Ok(mut file) = tokio::fs::File::create(&path).await {
        // A full disk is told by what cannot do without it; QEMU must be read all the same.
        let kept = copy(&mut (&mut from).take(LIMIT), &mut file).await;
        if kept.is_ok_and(|bytes| bytes == LIMIT) {
            let _told = file.write_all(b"\n(8 MiB are kept, no more)\n").await;
        }
        let _flushed = file.flush().await;
    }
    let _dropped = copy(&mut from, &mut sink()).await;
}

/// The task that keeps the log.
#[derive(Debug)]
pub(super) struct QemuLog(JoinHandle<()>);

impl QemuLog {
    /// Begins to read.
    pub(super) fn begin(from: impl AsyncRead + Unpin + Send + 'static, path: PathBuf) -> QemuLog {
        QemuLog(tokio::spawn(keep(from, path)))
    }

    /// Waits for what is still on its way.
    pub(super) async fn end(self) {
        let _read = tokio::time::timeout(LAST_WORDS, self.0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn words_are_kept_and_a_flood_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu.log");
        QemuLog::begin(&b"qemu: terminating"[..], path.clone()).end().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "qemu: terminating");
        let (mut qemu, reader) = tokio::io::duplex(64 << 10);
        let log = QemuLog::begin(reader, path.clone());
        // More than is kept goes through: nobody is stopped by it.
        for _ in 0..160 {
            qemu.write_all(&[b'x'; 64 << 10]).await.unwrap();
        }
        drop(qemu);
        log.end().await;
        let size = path.metadata().unwrap().len();
        assert!(size > LIMIT && size < LIMIT + 100, "{size}");
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_stops_nobody() {
        let (mut qemu, reader) = tokio::io::duplex(1024);
        let log = QemuLog::begin(reader, "/nowhere/qemu.log".into());
        qemu.write_all(&[b'x'; 64 << 10]).await.unwrap();
        drop(qemu);
        log.end().await;
    }
}
