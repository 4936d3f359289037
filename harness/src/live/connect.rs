//! Reaching the control sockets of a machine that somebody else runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::machine::agent::Agent;
use crate::machine::qmp::{QmpClient, QmpError, QmpEvent};

/// How long QEMU may take to greet. It greets as soon as it accepts, in under 1 ms; a QEMU under load with TCG
/// was seen to need 2 s for an answer.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// Why nothing can be said of a machine that somebody else runs.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The socket is there, and nobody greets: QEMU talks to one client per socket.
    #[error(
        "QMP at {path} does not greet within {limit:?}: QEMU talks to one client per socket, and another one \
         holds this one. libvirt holds its own (and `virsh qemu-monitor-command` is no socket). Give the machine \
         a further one: start QEMU with `-qmp unix:PATH,server=on,wait=off` once more, or under libvirt put \
         <qemu:commandline><qemu:arg value='-qmp'/><qemu:arg value='unix:PATH,server=on,wait=off'/>\
         </qemu:commandline> into the domain"
    )]
    Held {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// The socket cannot be opened.
    #[error(
        "cannot connect to {path}: {why}; give the path of QEMU's {what} socket, as a user who may open it"
    )]
    Connect {
        /// What it should be.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// Something else than QMP, or QMP failed later.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// No place for pictures.
    #[error("{0:#}")]
    Folder(anyhow::Error),
}

/// Connects to QMP.
pub(super) async fn qmp(path: &Path) -> Result<(QmpClient, mpsc::Receiver<QmpEvent>), LiveError> {
    let path_owned = || path.to_owned();
    QmpClient::connect(path, GREETING_LIMIT).await.map_err(|e| match e {
        QmpError::Connect { source, .. } => {
            LiveError::Connect { what: "QMP", path: path_owned(), why: source }
        }
        QmpError::Silent { limit, .. } => LiveError::Held { path: path_owned(), limit },
        other => LiveError::Qmp(other),
    })
}

/// Connects to QEMU's end of the guest agent's channel. Whether an agent answers shows later.
pub(super) async fn agent(path: &Path) -> Result<Agent, LiveError> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Agent::new(path.to_owned(), stream)),
        Err(why) => Err(LiveError::Connect { what: "guest-agent", path: path.to_owned(), why }),
    }
}
