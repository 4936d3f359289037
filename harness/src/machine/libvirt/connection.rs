//! The way to a libvirtd: `virsh` with a URI, and what its refusals mean.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

use super::account::Account;
use crate::host::find_program;
use crate::machine::process;
use crate::text::printable;

/// What one command of virsh may take unless told otherwise. A domain's start takes 1 s under TCG, libvirt's first
/// look at QEMU 2 s; libvirt itself waits 60 s for what it asked the agent for.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

const INSTALL: &str = "sudo apt-get install --no-install-recommends libvirt-clients";

/// Why virsh did not do it.
#[derive(Debug, thiserror::Error)]
pub enum VirshError {
    /// It could not be started.
    #[error("cannot start virsh: {0}; next: {INSTALL}")]
    Start(std::io::Error),
    /// It did not end.
    #[error("`virsh {command}` did not end within {limit:?}; libvirtd may hang: see its log")]
    Timeout {
        /// The command.
        command: String,
        /// How long was waited.
        limit: Duration,
    },
    /// libvirt refused, or could not be asked.
    #[error("`virsh {command}`: {said}{}", why.next())]
    Refused {
        /// The command.
        command: String,
        /// What virsh said, escaped.
        said: String,
        /// What that means.
        why: Why,
    },
}

impl VirshError {
    /// What a refusal means; `None` when there was none.
    pub fn why(&self) -> Option<Why> {
        match self {
            VirshError::Refused { why, .. } => Some(*why),
            VirshError::Start(_) | VirshError::Timeout { .. } => None,
        }
    }

    /// Whether libvirt was reached, has the domain, and said no to this one thing.
    pub fn is_refusal(&self) -> bool {
        matches!(self.why(), Some(Why::NotRunning | Why::Agent | Why::Other))
    }
}

/// What virsh's words mean. The words are libvirt's own (src/qemu, src/rpc), seen with version 9.0 and `LC_ALL=C`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is no libvirtd at the URI, or it went away.
    Unreachable,
    /// It is there, and this user may not.
    Denied,
    /// It has no such domain.
    NoDomain,
    /// The domain does not run.
    NotRunning,
    /// The guest's agent is not connected, or does not answer.
    Agent,
    /// Something else.
    Other,
}

impl Why {
    fn of(said: &str) -> Why {
        let has = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
        // A missing daemon and a closed door are both told as "failed to connect", so the door comes first.
        if has(&["Permission denied", "authentication", "access denied", "Operation not permitted"]) {
            Why::Denied
        } else if has(&[
            "failed to connect",
            "Failed to connect",
            "End of file while reading",
            "Cannot write data",
        ]) || has(&[
            "Cannot recv data",
            "Connection refused",
            "client socket is closed",
            "Connection reset",
        ]) {
            Why::Unreachable
        } else if has(&["failed to get domain", "no domain with matching"]) {
            Why::NoDomain
        } else if has(&["agent"]) {
            Why::Agent
        } else if has(&["domain is not running"]) {
            Why::NotRunning
        } else {
            Why::Other
        }
    }

    /// What to do about it, as the end of a sentence.
    fn next(self) -> &'static str {
        match self {
            Why::Unreachable => {
                "; next: see that libvirtd runs (`systemctl status libvirtd`), or name it with --connect URI"
            }
            Why::Denied => {
                "; next: run as a user who may (group `libvirt`), or name your own libvirtd: --connect \
                 qemu:///session"
            }
            Why::NoDomain => {
                "; next: `virsh list --all` shows the domains there are; a domain that was renamed has the new name"
            }
            Why::NotRunning | Why::Agent | Why::Other => "",
        }
    }
}

/// The way to one libvirtd.
#[derive(Debug, Clone)]
pub struct Connection {
    virsh: PathBuf,
    uri: Option<String>,
    account: Option<Account>,
}

impl Connection {
    /// To the libvirtd at a URI; without one, to virsh's own default (root: the system's, else the user's).
    pub fn to(uri: Option<&str>) -> anyhow::Result<Connection> {
        Ok(Connection { virsh: virsh()?, uri: uri.map(str::to_owned), account: None })
    }

    /// To the libvirtd of an account of its own.
    pub(super) fn of(account: Account, uri: String) -> anyhow::Result<Connection> {
        Ok(Connection { virsh: virsh()?, uri: Some(uri), account: Some(account) })
    }

    /// The URI, where one was named.
    pub fn uri(&self) -> Option<&str> {
        self.uri.as_deref()
    }

    /// virsh with these words.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = match &self.account {
            Some(account) => account.command(&self.virsh),
            None => std::process::Command::new(&self.virsh),
        };
        command.env("LC_ALL", "C");
        // By name: without one virsh may start a daemon of its own.
        if let Some(uri) = &self.uri {
            command.args(["-c", uri]);
        }
        command.args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Command::from(command)
    }

    /// What `virsh WORDS` says, within 120 s.
    pub async fn virsh(&self, words: &[&str]) -> Result<String, VirshError> {
        self.virsh_within(words, LIMIT).await
    }

    /// What `virsh WORDS` says. It is killed when it takes longer than `limit`.
    pub async fn virsh_within(&self, words: &[&str], limit: Duration) -> Result<String, VirshError> {
        let shown = || printable(&words.join(" "), 200);
        let child = process::spawn(self.command(words)).await.map_err(VirshError::Start)?;
        let output = tokio::time::timeout(limit, child.wait_with_output()).await;
        let output = match output {
            Err(_) => return Err(VirshError::Timeout { command: shown(), limit }),
            Ok(output) => output.map_err(VirshError::Start)?,
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said =
            said.lines().map(|line| line.trim().trim_start_matches("error: ")).collect::<Vec<_>>().join("; ");
        Err(VirshError::Refused { command: shown(), why: Why::of(&said), said: printable(said.trim(), 600) })
    }
}

fn virsh() -> anyhow::Result<PathBuf> {
    find_program("virsh").with_context(|| format!("virsh is missing here; next: {INSTALL}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "failed to connect to the hypervisor; Failed to connect socket to '/x': No such file",
        Why::Unreachable
    )]
    #[case(
        "failed to connect to the hypervisor; Failed to connect socket to '/x': Permission denied",
        Why::Denied
    )]
    #[case(
        "Disconnected from qemu:///session due to end of file; End of file while reading data",
        Why::Unreachable
    )]
    #[case("failed to get domain 'softoff'", Why::NoDomain)]
    #[case(
        "Failed to shutdown domain 'x'; Requested operation is not valid: domain is not running",
        Why::NotRunning
    )]
    #[case(
        "Failed to shutdown domain 'x'; Guest agent is not responding: QEMU guest agent is not connected",
        Why::Agent
    )]
    #[case("something new", Why::Other)]
    fn refusals_are_told_apart(#[case] said: &str, #[case] why: Why) {
        assert_eq!(Why::of(said), why);
    }

    #[tokio::test]
    async fn a_libvirtd_that_is_not_there_is_told_with_the_next_step() {
        let Ok(virsh) = virsh() else { panic!("virsh; `cargo xtask doctor` tells how to get it") };
        let uri = Some("qemu+unix:///session?socket=/nonexistent/libvirt-sock".to_owned());
        let connection = Connection { virsh, uri, account: None };
        let error = connection.virsh(&["list"]).await.unwrap_err();
        assert_eq!(error.why(), Some(Why::Unreachable), "{error}");
        assert!(error.to_string().contains("--connect"), "{error}");
    }
}
