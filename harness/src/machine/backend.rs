//! Who starts a machine's QEMU and owns its process: we ourselves, or a libvirtd.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::command_line::{self, Plan};
use super::confine::{self, Bounds};
use super::folder::RunFolder;
use super::libvirt::{Domain, Libvirt};
use super::qemu_log::QemuLog;
use super::{QEMU, process};
use crate::image::Image;
use crate::outcome::BackendKind;
use crate::timeline::{Seen, Source, Timeline};

/// Who starts QEMU.
#[derive(Debug, Clone, Default)]
pub enum Backend {
    /// We do, and ask through QMP.
    #[default]
    Qemu,
    /// This libvirtd does, and is asked.
    Libvirt(Arc<Libvirt>),
}

impl Backend {
    /// Its name.
    pub fn kind(&self) -> BackendKind {
        match self {
            Backend::Qemu => BackendKind::Qemu,
            Backend::Libvirt(_) => BackendKind::Libvirt,
        }
    }

    /// A folder for one machine.
    pub fn folder(&self) -> anyhow::Result<RunFolder> {
        match self {
            Backend::Qemu => RunFolder::create(),
            Backend::Libvirt(libvirt) => libvirt.machine_folder(),
        }
    }

    /// The image with its files where QEMU may read them.
    pub fn image(&self, image: &Arc<Image>) -> anyhow::Result<Arc<Image>> {
        match self {
            Backend::Qemu => Ok(image.clone()),
            Backend::Libvirt(libvirt) => libvirt.image(image),
        }
    }
}

/// The order to end QEMU's process.
pub(super) struct Kill;

/// A QEMU that was started, and the task that owns it: the task ends with QEMU's process, and ends it when it is told
/// to, or when its order's sender is dropped.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) domain: Option<Arc<Domain>>,
    pub(super) waiter: JoinHandle<()>,
    pub(super) kill: mpsc::Sender<Kill>,
}

/// Starts QEMU stopped. Ours may read and write what `bounds` says; libvirt's is confined as libvirt was set up.
pub(super) async fn start(
    backend: &Backend,
    plan: &Plan<'_>,
    folder: &RunFolder,
    bounds: &Bounds,
    log: &Path,
    timeline: &Timeline,
) -> anyhow::Result<Started> {
    let (kill, orders) = mpsc::channel(1);
    let (pid, domain, waiter) = match backend {
        Backend::Qemu => {
            let (child, log) = start_qemu(plan, bounds, log).await?;
            let pid = child.id().unwrap_or_default();
            timeline.add(Source::Host, Seen::MachineStarted { pid });
            (pid, None, tokio::spawn(wait_for_child(child, log, orders, timeline.clone())))
        }
        Backend::Libvirt(libvirt) => {
            let domain = Arc::new(Domain::start(libvirt.clone(), plan, folder.path()).await?);
            timeline.add(Source::Host, Seen::MachineStarted { pid: domain.pid });
            let waiter = wait_for_domain(domain.clone(), orders, timeline.clone(), log.to_owned());
            (domain.pid, Some(domain), tokio::spawn(waiter))
        }
    };
    Ok(Started { pid, domain, waiter, kill })
}

async fn start_qemu(plan: &Plan<'_>, bounds: &Bounds, log: &Path) -> anyhow::Result<(Child, QemuLog)> {
    std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let (words, output) = std::io::pipe().context("a pipe for QEMU's words")?;
    let words = pipe::Receiver::from_owned_fd(words.into()).context("a pipe for QEMU's words")?;
    let mut command = Command::new(QEMU);
    command.args(command_line::arguments(plan));
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    confine::confine(command.as_std_mut(), bounds).context("confining QEMU")?;
    let child = process::spawn(command)
        .await
        .with_context(|| format!("cannot start {QEMU}; `cargo xtask doctor` tells how to get it"))?;
    Ok((child, QemuLog::begin(words, log.to_owned())))
}

async fn wait_for_child(mut child: Child, log: QemuLog, mut kill: mpsc::Receiver<Kill>, timeline: Timeline) {
    use std::os::unix::process::ExitStatusExt;
    tokio::select! {
        _ended = child.wait() => {}
        _order_or_dropped = kill.recv() => drop(child.start_kill()),
    }
    let status = child.wait().await.ok();
    // Whoever hears of the end may read the log.
    log.end().await;
    let (code, signal) = (status.and_then(|s| s.code()), status.and_then(|s| s.signal()));
    timeline.add(Source::Process, Seen::ProcessExited { code, signal });
}

/// How QEMU ended is not told to us: it is no child of ours.
async fn wait_for_domain(
    domain: Arc<Domain>,
    mut kill: mpsc::Receiver<Kill>,
    timeline: Timeline,
    log: std::path::PathBuf,
) {
    tokio::select! {
        () = domain.gone() => {}
        _order_or_dropped = kill.recv() => domain.end().await,
    }
    timeline.add(Source::Process, Seen::ProcessExited { code: None, signal: None });
    domain.forget().await;
    let _kept = std::fs::write(log, domain.libvirt().qemu_log(domain.name()));
}

/// Brings what libvirt tells of a domain to the timeline, and that libvirtd itself has gone.
pub(super) async fn follow_domain(domain: Arc<Domain>, timeline: Timeline) {
    let told = async {
        let mut events = match domain.events().await {
            Ok(events) => events,
            Err(e) => {
                timeline.add(Source::Host, Seen::Note { what: format!("no events of libvirt: {e:#}") });
                return std::future::pending().await;
            }
        };
        while let Ok(Some(event)) = events.next().await {
            let last = event.starts_with("Stopped ");
            timeline.add(Source::Libvirt, Seen::DomainEvent { event });
            if last {
                return;
            }
        }
        // virsh ended without the domain's end: so has libvirtd, which the other arm tells.
        std::future::pending().await
    };
    tokio::select! {
        () = told => {}
        what = domain.libvirt().ended() => timeline.add(Source::Libvirt, Seen::HypervisorGone { what }),
    }
}
