//! Reaching the control sockets of a machine that somebody else runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::machine::acpi::PmBase;
use crate::machine::agent::{Agent, AgentError};
use crate::machine::button;
use crate::machine::libvirt::{Connection, DomainMonitor, GuestAgent, VirshError};
use crate::machine::qmp::{QmpClient, QmpError, QmpEvent};
use crate::settle::{AGENT, DESTROY, PRESS, QUIT};
use crate::text::printable;
use crate::timeline::{Seen, Source, Timeline};

/// How long a command may take that goes through libvirt, or ends QEMU.
const THROUGH_LIMIT: Duration = Duration::from_secs(20);

/// How long the agent's silence after its request counts as obedience; on success it gives no answer.
const AGENT_LIMIT: Duration = Duration::from_secs(5);

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
    /// libvirt refused, or could not be asked.
    #[error(transparent)]
    Virsh(#[from] VirshError),
    /// The guest agent refused.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The domain does not run.
    #[error("the domain {name} is shut off: there is nothing to ask; `virsh list --all` shows the domains")]
    Off {
        /// Its name.
        name: String,
    },
    /// No place for pictures.
    #[error("{0:#}")]
    Folder(anyhow::Error),
}

impl LiveError {
    /// Whether the machine can be reached, and this one request was refused or came to no end.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            LiveError::Virsh(error) | LiveError::Agent(AgentError::Libvirt(error)) => {
                error.is_refusal() || matches!(error, VirshError::Timeout { .. })
            }
            LiveError::Agent(_) => true,
            _ => false,
        }
    }
}

/// How a machine is reached.
#[derive(Debug, Clone)]
pub enum Reach {
    /// By sockets of its own that no other client holds.
    Sockets {
        /// QMP.
        qmp: PathBuf,
        /// The guest agent's.
        qga: Option<PathBuf>,
    },
    /// By libvirt, which holds both.
    Domain {
        /// The libvirtd.
        connection: Connection,
        /// The domain's name.
        name: String,
    },
}

/// A machine that was reached.
pub(super) struct Reached {
    pub(super) qmp: QmpClient,
    pub(super) events: mpsc::Receiver<QmpEvent>,
    pub(super) agent: Option<Agent>,
}

impl Reach {
    pub(super) async fn connect(&self) -> Result<Reached, LiveError> {
        match self {
            Reach::Sockets { qmp: path, qga } => {
                let (qmp, events) = qmp(path).await?;
                let agent = match qga {
                    Some(path) => Some(agent(path).await?),
                    None => None,
                };
                Ok(Reached { qmp, events, agent })
            }
            Reach::Domain { connection, name } => {
                // Its own word first: a domain that is not there, or off, is told in libvirt's words.
                let state = connection.virsh(&["domstate", name]).await?;
                if state == "shut off" {
                    return Err(LiveError::Off { name: printable(name, 60) });
                }
                let monitor = DomainMonitor::new(connection.clone(), name);
                let (qmp, events) = QmpClient::through(monitor, THROUGH_LIMIT).await?;
                let agent = Agent::through(GuestAgent::new(connection.clone(), name));
                Ok(Reached { qmp, events, agent: Some(agent) })
            }
        }
    }

    /// Presses the button: by QMP, or `virsh shutdown --mode acpi`.
    pub(super) async fn press(
        &self,
        qmp: &QmpClient,
        base: Option<PmBase>,
        timeline: &Timeline,
        number: u32,
    ) -> Result<(), LiveError> {
        match self {
            Reach::Sockets { .. } => button::press(qmp, base, timeline, number).await.map(drop)?,
            Reach::Domain { connection, name } => {
                let send = async { connection.virsh(&["shutdown", name, "--mode", "acpi"]).await.map(drop) };
                button::press_by(qmp, base, timeline, (PRESS, number), send).await.map(drop)?;
            }
        }
        Ok(())
    }

    /// Has the guest agent asked: `guest-shutdown`, or `virsh shutdown --mode agent`.
    pub(super) async fn ask_agent(
        &self,
        agent: &Agent,
        timeline: &Timeline,
        number: u32,
    ) -> Result<(), LiveError> {
        timeline.add(Source::Host, Seen::Requested { by: AGENT.into(), number });
        match self {
            Reach::Sockets { .. } => Ok(agent.shutdown("powerdown", AGENT_LIMIT).await?),
            Reach::Domain { connection, name } => {
                Ok(connection.virsh(&["shutdown", name, "--mode", "agent"]).await.map(drop)?)
            }
        }
    }

    /// Takes the power away: QMP `quit`, or `virsh destroy`.
    pub(super) async fn pull_the_plug(
        &self,
        qmp: &QmpClient,
        timeline: &Timeline,
        number: u32,
    ) -> Result<(), LiveError> {
        let by = match self {
            Reach::Sockets { .. } => QUIT,
            Reach::Domain { .. } => DESTROY,
        };
        timeline.add(Source::Host, Seen::Requested { by: by.into(), number });
        match self {
            Reach::Sockets { .. } => drop(qmp.execute_raw("quit", json!({}), THROUGH_LIMIT).await?),
            Reach::Domain { connection, name } => drop(connection.virsh(&["destroy", name]).await?),
        }
        Ok(())
    }

    /// Wakes a machine in S3.
    pub(super) async fn wake(&self, qmp: &QmpClient) -> Result<(), LiveError> {
        match self {
            Reach::Sockets { .. } => drop(qmp.execute_raw("system_wakeup", json!({}), THROUGH_LIMIT).await?),
            Reach::Domain { connection, name } => drop(connection.virsh(&["dompmwakeup", name]).await?),
        }
        Ok(())
    }
}

/// Connects to QMP.
async fn qmp(path: &Path) -> Result<(QmpClient, mpsc::Receiver<QmpEvent>), LiveError> {
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
async fn agent(path: &Path) -> Result<Agent, LiveError> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Agent::new(path.to_owned(), stream)),
        Err(why) => Err(LiveError::Connect { what: "guest-agent", path: path.to_owned(), why }),
    }
}
