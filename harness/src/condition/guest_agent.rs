//! The guest agent does not do its part: it is not there, it is there and silent, or it dies while it is asked.
//!
//! None of the seven documented causes, and nothing that stops a press; but hosts that prefer the agent wait for it.
//! libvirt takes the state of the agent's virtio-serial port for whether there is one: with the port closed it falls
//! back to ACPI at once, with a silent agent behind an open port after 5 s, and where the agent took the request but the
//! guest stays, after 60 s (measured, libvirt 9.0).

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Part, Proof, Realism, Subject, WindowsMeans};
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::machine::port;
use crate::outcome::Cause;

/// How long an agent may be silent before it counts as that. One that runs answers in milliseconds.
const SILENCE: Duration = Duration::from_secs(3);

/// How long QEMU may take to tell the port's state.
const LIMIT: Duration = Duration::from_secs(20);

/// How the agent fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failing {
    /// It was ended: nobody has the port open.
    Absent,
    /// It is stopped (SIGSTOP): the port is open, and nothing answers.
    Frozen,
    /// It is stopped, and killed 6 s later: while it is asked, and before libvirt has given it up.
    Dies,
}

/// The condition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestAgent {
    /// How the agent fails.
    pub failing: Failing,
}

impl GuestAgent {
    /// Has the agent start a shell that deals with it a second later, so that it can still answer.
    pub(super) async fn enter(&self, subject: &Subject<'_>) -> Result<(), AgentError> {
        let signals = match self.failing {
            Failing::Absent => "kill -TERM $p",
            Failing::Frozen => "kill -STOP $p",
            Failing::Dies => "kill -STOP $p; /usr/bin/busybox sleep 6; kill -KILL $p",
        };
        // guest-exec's programs are children of the agent, which writes no pid file unless it is a daemon.
        let script = format!("p=$PPID; /usr/bin/busybox sleep 1; {signals}");
        let arguments = json!({ "path": "/usr/bin/busybox", "arg": ["sh", "-c", script] });
        subject.machine.agent.raw("guest-exec", arguments, LIMIT).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    pub(super) async fn prove(&self, subject: &Subject<'_>) -> Result<Proof, AgentError> {
        let silent = subject.machine.agent.ping(SILENCE).await.is_err();
        let open = port::agent_open(&subject.machine.qmp, LIMIT).await.ok().flatten();
        let wanted = self.failing != Failing::Absent;
        let answers = if silent { "does not answer" } else { "answers" };
        let state = match open {
            Some(true) => "open",
            Some(false) => "closed",
            None => "not told",
        };
        let evidence = format!("the agent {answers} within {SILENCE:?}; its port is {state}");
        Ok(Proof { present: silent && open == Some(wanted), evidence })
    }
}

impl Part for GuestAgent {
    fn id(&self) -> String {
        "guest-agent".into()
    }

    fn cause(&self) -> Cause {
        Cause::None
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        Vec::new()
    }

    fn windows_means(&self) -> WindowsMeans {
        WindowsMeans::None
    }

    fn realism_in_windows(&self) -> Realism {
        self.realism_in_reference()
    }

    fn realism_in_reference(&self) -> Realism {
        Realism { real: "qemu-ga, its port, and the signal that stops or ends it", modelled: "nothing" }
    }
}
