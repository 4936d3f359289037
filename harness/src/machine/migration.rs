//! A machine's state, out of QEMU and into another one.
//!
//! QEMU calls both migration. Memory stays in the file that backs it (capability `x-ignore-shared`,
//! docs/devel/migration: shared RAM blocks are left out of the stream), so that the stream holds the devices and
//! the video memory only: 5 MB, against 117 MB compressed with memory in it (measured, QEMU 7.2). The stream goes
//! through a socket in the machine's folder: QEMU's sandbox denies `exec:`, and `file:` came with QEMU 8.2 only.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

use super::QMP_LIMIT;
use super::qmp::QmpClient;

/// How long a transfer may take: 27 ms for the stream of the reference guest, seconds for a busy host.
const LIMIT: Duration = Duration::from_secs(30);

/// The socket of the stream, in the machine's folder.
const SOCKET: &str = "migration.sock";

/// The longest stream accepted, bytes: devices and video memory of the largest machine fit many times.
const MAX_STREAM: u64 = 1 << 30;

/// Stops the machine and writes its devices to `stream`; its memory is in its backing file then. The machine
/// cannot go on afterwards.
pub(crate) async fn save(qmp: &QmpClient, folder: &Path, stream: &Path) -> anyhow::Result<()> {
    qmp.execute_raw("stop", json!({}), QMP_LIMIT).await.context("stopping the machine")?;
    ignore_shared(qmp).await?;
    let socket = folder.join(SOCKET);
    let listener =
        UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    let received = async {
        let (from, _) = listener.accept().await?;
        let mut file = File::create(stream).await?;
        let bytes = tokio::io::copy(&mut tokio::io::AsyncReadExt::take(from, MAX_STREAM), &mut file).await?;
        file.sync_all().await?;
        std::io::Result::Ok(bytes)
    };
    let sent = async {
        let uri = json!({ "uri": uri(&socket) });
        qmp.execute_raw("migrate", uri, QMP_LIMIT).await.context("starting the migration")?;
        until_completed(qmp).await
    };
    let both = async { tokio::try_join!(async { received.await.context("reading the stream") }, sent) };
    let (bytes, ()) = tokio::time::timeout(LIMIT, both)
        .await
        .with_context(|| format!("the machine's state was not written within {LIMIT:?}"))??;
    anyhow::ensure!(bytes > 0 && bytes < MAX_STREAM, "the machine's state has {bytes} bytes");
    Ok(())
}

/// Gives a machine that was started with `-incoming defer` the devices of `stream`. It stays stopped.
pub(crate) async fn load(qmp: &QmpClient, folder: &Path, stream: &Path) -> anyhow::Result<()> {
    ignore_shared(qmp).await?;
    let socket = folder.join(SOCKET);
    let uri = json!({ "uri": uri(&socket) });
    qmp.execute_raw("migrate-incoming", uri, QMP_LIMIT).await.context("opening the machine for its state")?;
    let work = async {
        let mut file = File::open(stream).await.with_context(|| format!("reading {}", stream.display()))?;
        let mut into = UnixStream::connect(&socket).await.context("connecting to QEMU")?;
        tokio::io::copy(&mut file, &mut into).await.context("sending the state")?;
        into.shutdown().await.context("ending the stream")?;
        until_completed(qmp).await
    };
    tokio::time::timeout(LIMIT, work)
        .await
        .with_context(|| format!("QEMU did not take the machine's state within {LIMIT:?}"))?
}

async fn ignore_shared(qmp: &QmpClient) -> anyhow::Result<()> {
    let on = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
    qmp.execute_raw("migrate-set-capabilities", on, QMP_LIMIT)
        .await
        .context("QEMU cannot leave memory out of a saved state (x-ignore-shared)")?;
    Ok(())
}

/// Asked, not waited for: the MIGRATION event needs a capability of its own, and the answer comes in well
/// under a millisecond.
async fn until_completed(qmp: &QmpClient) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let reply =
            qmp.execute_raw("query-migrate", json!({}), QMP_LIMIT).await.context("QEMU took no state")?;
        let text = |key: &str| reply.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("status") {
            "completed" => return Ok(()),
            "failed" | "cancelled" => {
                bail!("QEMU refused the state: {}", crate::text::printable(text("error-desc"), 200))
            }
            other if began.elapsed() > LIMIT => bail!("QEMU's migration is still `{other}` after {LIMIT:?}"),
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

fn uri(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}
