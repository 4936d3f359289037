//! One domain of our own libvirtd: defined, started, asked and ended through libvirt.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::connection::{VirshError, Why};
use super::daemon::Libvirt;
use super::definition::{Definition, Ports};
use super::events::Events;
use super::guest_agent::GuestAgent;
use super::sent;
use crate::host::find_program;
use crate::machine::QEMU;
use crate::machine::command_line::Plan;
use crate::text::printable;

/// How long a domain may take to be gone after libvirt was told to end it: QEMU obeys SIGTERM in under 0.1 s;
/// libvirt sends SIGKILL after 15 s (qemuProcessKill), and its call returns then.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Between two looks at QEMU's process. libvirt's QEMU is a daemon and no child of ours, so that nothing tells its end.
const LOOK: Duration = Duration::from_millis(10);

/// How a soft shutdown is asked for: the modes of `virsh shutdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownMode {
    /// `--mode acpi`: QMP `system_powerdown`.
    Acpi,
    /// `--mode agent`: `guest-shutdown` by the agent, or nothing.
    Agent,
    /// None named: the agent where the domain has one, and ACPI when that fails.
    Default,
}

impl ShutdownMode {
    /// The words after `virsh shutdown DOMAIN`.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            ShutdownMode::Acpi => &["--mode", "acpi"],
            ShutdownMode::Agent => &["--mode", "agent"],
            ShutdownMode::Default => &[],
        }
    }
}

/// What libvirt made of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How long the call took.
    pub took: Duration,
    /// The QMP commands that libvirt sent to QEMU meanwhile, by its own log.
    pub sent: Vec<String>,
    /// Why libvirt did not do it, in its words.
    pub refused: Option<String>,
}

/// A domain; it has to be ended with [`Domain::end`] and [`Domain::forget`]. The daemon's guard ends it when we die first.
#[derive(Debug)]
pub struct Domain {
    libvirt: Arc<Libvirt>,
    name: String,
    /// QEMU's process id.
    pub pid: u32,
    /// libvirt's name of the domain's monitor in its log.
    monitor: Option<String>,
}

impl Domain {
    /// Defines the domain of `plan`, whose files are in `folder`, and starts it paused: no event of the guest is
    /// lost before every channel has its listener.
    pub async fn start(libvirt: Arc<Libvirt>, plan: &Plan<'_>, folder: &Path) -> anyhow::Result<Domain> {
        // The folder's name is unique on this host, as libvirt wants its domains.
        let name = folder.file_name().map_or("softoff".into(), |name| name.to_string_lossy().into_owned());
        let emulator = find_program(QEMU)
            .with_context(|| format!("{QEMU} is missing here; `cargo xtask doctor` tells how to get it"))?;
        let definition = Definition { name: &name, emulator: &emulator, plan, ports: Ports::Sockets };
        let xml = folder.join("domain.xml");
        std::fs::write(&xml, definition.xml()?)
            .with_context(|| format!("cannot write {}; is the disk full?", xml.display()))?;
        libvirt.hand_over(folder)?;
        libvirt
            .virsh(&["define", &xml.to_string_lossy()])
            .await
            .context("libvirt did not take the domain")?;
        let mut domain = Domain { libvirt, name, pid: 0, monitor: None };
        if let Err(error) = domain.begin().await {
            let log = domain.libvirt.qemu_log(&domain.name);
            let _ended = domain.virsh("destroy", &[]).await;
            domain.forget().await;
            let said = log.trim().lines().rev().take(3).collect::<Vec<_>>().join(" | ");
            let said = printable(&said, 400);
            return Err(error.context(format!(
                "libvirt did not start the domain (QEMU runs as {}; its log ends: {said})",
                domain.libvirt.account_name()
            )));
        }
        Ok(domain)
    }

    async fn begin(&mut self) -> anyhow::Result<()> {
        self.libvirt.virsh(&["start", "--paused", &self.name]).await?;
        self.pid = self.libvirt.qemu_pid(&self.name)?;
        // The log names monitors by number; the answer to this one tells which is ours.
        self.virsh("qemu-monitor-command", &[r#"{"execute":"query-name"}"#]).await?;
        self.monitor = sent::monitor_of(&self.libvirt.monitor_log(0), &self.name);
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The libvirtd it belongs to.
    pub fn libvirt(&self) -> &Arc<Libvirt> {
        &self.libvirt
    }

    async fn virsh(&self, command: &str, words: &[&str]) -> Result<String, VirshError> {
        self.libvirt.virsh(&[&[command, &self.name], words].concat()).await
    }

    /// Lets its processors run.
    pub async fn resume(&self) -> Result<(), VirshError> {
        self.virsh("resume", &[]).await.map(drop)
    }

    /// Wakes it from S3.
    pub async fn wake(&self) -> Result<(), VirshError> {
        self.virsh("dompmwakeup", &[]).await.map(drop)
    }

    /// libvirt's word of its state, such as `running`, `pmsuspended` or `shut off`.
    pub async fn state(&self) -> Result<String, VirshError> {
        self.virsh("domstate", &[]).await
    }

    /// Its guest agent.
    pub fn agent(&self) -> GuestAgent {
        GuestAgent::new(self.libvirt.connection().clone(), &self.name)
    }

    /// Its events.
    pub async fn events(&self) -> anyhow::Result<Events> {
        self.libvirt.events(&self.name).await
    }

    /// `virsh shutdown`. libvirt's refusal is an answer; that libvirt could not be asked is an error.
    pub async fn shutdown(&self, mode: ShutdownMode) -> Result<Answer, VirshError> {
        self.ask("shutdown", mode.words()).await
    }

    /// `virsh destroy`: SIGTERM to QEMU, and SIGKILL when that does not help, unless `graceful`.
    pub async fn destroy(&self, graceful: bool) -> Result<Answer, VirshError> {
        self.ask("destroy", if graceful { &["--graceful"] } else { &[] }).await
    }

    async fn ask(&self, command: &str, words: &[&str]) -> Result<Answer, VirshError> {
        let from = self.libvirt.monitor_log_len();
        let began = Instant::now();
        let result = self.virsh(command, words).await;
        let took = began.elapsed();
        let refused = match result {
            Ok(_) => None,
            Err(e) => {
                // A guest that ended, or sleeps on its disk, has taken its transient domain with it.
                let has_gone = e.why() == Some(Why::NoDomain) && !self.is_running();
                match e {
                    VirshError::Refused { ref said, .. } if has_gone || e.is_refusal() => Some(said.clone()),
                    e => return Err(e),
                }
            }
        };
        let sent = match &self.monitor {
            Some(monitor) => sent::commands(&self.libvirt.monitor_log(from), monitor),
            None => Vec::new(),
        };
        Ok(Answer { took, sent, refused })
    }

    /// Whether QEMU's process is there.
    pub fn is_running(&self) -> bool {
        runs(self.pid, self.libvirt.folder())
    }

    /// Returns when QEMU's process has gone.
    pub async fn gone(&self) {
        while self.is_running() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends it whatever it takes: `destroy` first; where libvirt cannot be asked any more, SIGKILL to the process.
    pub async fn end(&self) {
        if !self.is_running() {
            return;
        }
        let destroyed = tokio::time::timeout(END_LIMIT, self.destroy(false)).await;
        let obeyed = matches!(destroyed, Ok(Ok(Answer { refused: None, .. })));
        if (!obeyed || tokio::time::timeout(END_LIMIT, self.gone()).await.is_err()) && self.is_running() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid).unwrap_or(i32::MAX));
            let _killed = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            let _gone = tokio::time::timeout(END_LIMIT, self.gone()).await;
        }
    }

    /// Removes it from libvirt, once it has ended. A libvirtd that has gone forgets it with its folder.
    pub async fn forget(&self) {
        let _forgotten = self.virsh("undefine", &["--keep-nvram"]).await;
    }
}

/// Whether a process is there and works in `folder`: a pid alone may be somebody else's by now.
pub(super) fn runs(pid: u32, folder: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&*folder.to_string_lossy())
}
