//! A machine: one QEMU process on a throw-away overlay, with everything it says on one timeline.
//!
//! [`Machine::prepare`] spawns QEMU stopped (`-S`) and connects QMP, COM1, COM2 and the agent's channel; only
//! [`Machine::run`] lets the guest run: no line and no event is lost. Between the two a saved state may be loaded
//! ([`migration`]). What comes in goes to the run's
//! [`Timeline`]; nothing here decides what it means.

pub mod accel;
pub mod acpi;
pub mod agent;
pub mod backend;
pub(crate) mod button;
mod channels;
pub mod command_line;
pub mod confine;
mod events;
pub mod firmware;
pub mod folder;
pub mod libvirt;
pub(crate) mod lines;
pub(crate) mod migration;
pub mod ocr;
pub mod overlay;
pub mod port;
pub mod process;
mod qemu_log;
pub mod qmp;
pub mod screen;
pub mod tpm;
pub(crate) mod watcher;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::image::{Boot, Image};
use crate::timeline::{Seen, Source, Timeline};
use accel::Accelerator;
use acpi::PmBase;
use agent::Agent;
use backend::{Backend, Kill, Started};
pub(crate) use channels::read_probe;
pub use channels::{INSTALL_MARKER, LastNumbers};
use command_line::{AtRestart, Disc, Memory, Plan, Sockets};
use confine::Bounds;
pub(crate) use events::read_events;
use folder::RunFolder;
use libvirt::Domain;
use qmp::{QmpClient, QmpError, QmpEvent};
use tpm::Tpm;

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";

/// How long QEMU may take to open its sockets and answer a command. TCG with every core busy was seen to
/// need 2 s; a minute without an answer is a broken host.
pub const QMP_LIMIT: Duration = Duration::from_secs(60);

/// What a machine is started with.
#[derive(Debug)]
pub struct MachineConfig<'a> {
    /// The image to boot.
    pub image: &'a Image,
    /// The overlay to write to, inside `folder`.
    pub overlay: &'a Path,
    /// How to run the guest's instructions.
    pub accelerator: Accelerator,
    /// Where pictures and logs are kept.
    pub record_dir: &'a Path,
    /// Whether people will attach to it: a second QMP socket and VNC.
    pub attach: bool,
    /// What its memory is.
    pub memory: Memory<'a>,
    /// Numbers of probe lines that were used before, by a guest whose state is loaded.
    pub spoken: LastNumbers,
    /// Who starts QEMU.
    pub backend: &'a Backend,
    /// Discs in CD drives.
    pub discs: &'a [Disc],
    /// What a restart by the guest does.
    pub at_restart: AtRestart,
}

/// A running (or ended) machine.
#[derive(Debug)]
pub struct Machine {
    /// The control socket.
    pub qmp: QmpClient,
    /// The guest agent's channel.
    pub agent: Agent,
    /// Where the firmware put the ACPI registers.
    pub pm_base: PmBase,
    /// QEMU's process id.
    pub pid: u32,
    /// The sockets, for people who want to attach.
    pub sockets: Sockets,
    timeline: Timeline,
    kill: mpsc::Sender<Kill>,
    waiter: JoinHandle<()>,
    readers: Vec<JoinHandle<()>>,
    screen: watcher::ScreenWatcher,
    tpm: Option<Tpm>,
    /// The domain that it is, when libvirt runs it.
    domain: Option<Arc<Domain>>,
}

impl Machine {
    /// Starts QEMU and connects every channel; the guest does not run yet.
    pub async fn prepare(
        config: MachineConfig<'_>,
        folder: &RunFolder,
        timeline: Timeline,
    ) -> anyhow::Result<Machine> {
        let image = config.image.clone();
        tokio::task::spawn_blocking(move || image.unchanged()).await??;
        let sockets = Sockets::within(folder.path());
        let uefi = config.image.manifest.boot == Boot::Uefi;
        let firmware = if uefi {
            Some(firmware::prepare(folder.path(), config.image.manifest.machine.secure_boot)?)
        } else {
            None
        };
        // Before QEMU, so that a missing swtpm is one clear error.
        let tpm = match config.image.manifest.machine.tpm {
            true => Some(Tpm::start(folder.path(), &config.record_dir.join("swtpm.log")).await?),
            false => None,
        };
        let plan = Plan {
            image: config.image,
            overlay: config.overlay,
            accelerator: config.accelerator,
            sockets: &sockets,
            attach: config.attach.then(|| folder.path()),
            firmware: firmware.as_ref(),
            tpm: tpm.as_ref().map(Tpm::socket),
            memory: config.memory,
            discs: config.discs,
            at_restart: config.at_restart,
        };
        let log = config.record_dir.join("qemu.log");
        let bounds = bounds(&plan, folder.path());
        let Started { pid, domain, waiter, kill } =
            backend::start(config.backend, &plan, folder, &bounds, &log, &timeline).await?;

        let (qmp, events) = connect_qmp(&sockets.qmp, &waiter, &log).await?;
        let com1 = channels::connect(&sockets.com1, QMP_LIMIT).await?;
        let com2 = channels::connect(&sockets.com2, QMP_LIMIT).await?;
        let agent = match &domain {
            // libvirt holds the agent's channel itself.
            Some(domain) => Agent::through(domain.agent()),
            None => Agent::new(sockets.agent.clone(), channels::connect(&sockets.agent, QMP_LIMIT).await?),
        };
        let serial_log = config.record_dir.join("serial.log");
        let console_timeline = timeline.clone();
        let mut readers = vec![
            tokio::spawn(read_events(events, timeline.clone())),
            tokio::spawn(channels::read_probe(com1, timeline.clone(), config.spoken)),
            tokio::spawn(async move {
                if let Err(e) = channels::read_console(com2, serial_log, console_timeline.clone()).await {
                    console_timeline.add(Source::Host, Seen::Note { what: format!("{e:#}") });
                }
            }),
        ];
        if let Some(domain) = &domain {
            readers.push(tokio::spawn(backend::follow_domain(domain.clone(), timeline.clone())));
        }
        let screen =
            watcher::ScreenWatcher::new(qmp.clone(), folder.path(), config.record_dir, timeline.clone());
        let pm_base = if uefi && config.image.manifest.machine.machine.starts_with("pc") {
            PmBase::OVMF_PIIX4
        } else {
            PmBase::COMMON
        };
        let machine = Machine {
            qmp,
            agent,
            pm_base,
            pid,
            sockets,
            timeline,
            kill,
            waiter,
            readers,
            screen,
            tpm,
            domain,
        };
        Ok(machine)
    }

    /// Lets the guest run.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        self.screen.start();
        match &self.domain {
            Some(domain) => domain.resume().await.context("starting the guest")?,
            None => {
                drop(self.qmp.execute_raw("cont", json!({}), QMP_LIMIT).await.context("starting the guest")?)
            }
        }
        Ok(())
    }

    /// The domain that it is, when libvirt runs it.
    pub fn domain(&self) -> Option<&Arc<Domain>> {
        self.domain.as_ref()
    }

    /// QEMU's run state. libvirt ends QEMU as soon as the guest has powered off or hibernated, where a QEMU of our own
    /// stays in run state `shutdown`: a domain that libvirt calls `shut off` is told as that.
    pub async fn run_state(&self, limit: Duration) -> Result<String, QmpError> {
        let told = self.qmp.run_state(limit).await;
        if let (Err(_), Some(domain)) = (&told, &self.domain)
            && domain.state().await.is_ok_and(|state| state == "shut off")
        {
            return Ok("shutdown".to_owned());
        }
        told
    }

    /// Wakes it from S3.
    pub async fn wake(&self) -> anyhow::Result<()> {
        match &self.domain {
            Some(domain) => domain.wake().await?,
            None => drop(self.qmp.execute_raw("system_wakeup", json!({}), QMP_LIMIT).await?),
        }
        Ok(())
    }

    /// Presses and releases one key, by QEMU's name of it (QKeyCode).
    pub async fn press_key(&self, key: &str) -> Result<(), QmpError> {
        for down in [true, false] {
            let event =
                json!({ "type": "key", "data": { "down": down, "key": { "type": "qcode", "data": key } } });
            self.qmp.execute_raw("input-send-event", json!({ "events": [event] }), QMP_LIMIT).await?;
            // Faster than a person, slow enough for a guest that polls its keyboard under TCG.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Takes the power away (SIGKILL, or through libvirt `virsh destroy`) and waits for the process to end.
    pub async fn pull_the_plug(&mut self) {
        let _ended = self.kill.send(Kill).await;
        self.wait().await;
    }

    /// Whether QEMU's process has not ended.
    pub fn is_running(&self) -> bool {
        !self.waiter.is_finished()
    }

    /// Ends QEMU: `quit` first so that it closes its files in order, SIGKILL
    /// when it does not obey. The outcome must have been settled before.
    pub async fn clean_up(&mut self) {
        self.screen.stop().await;
        if !self.waiter.is_finished() && self.domain.is_some() {
            self.pull_the_plug().await;
        }
        if !self.waiter.is_finished() {
            let quit = self.qmp.execute_raw("quit", json!({}), Duration::from_secs(5)).await;
            let gone = tokio::time::timeout(Duration::from_secs(5), &mut self.waiter).await;
            if quit.is_err() || gone.is_err() {
                self.pull_the_plug().await;
            }
        }
        self.wait().await;
    }

    /// Keeps a picture of the screen as it is now, if it differs from the last one.
    pub async fn look(&self) {
        self.screen.look().await;
    }

    /// Gives what follows pictures of its own, however many were kept so far.
    pub async fn new_chapter(&self) {
        self.screen.new_chapter().await;
    }

    /// Whether nothing but black is on the screen now.
    pub async fn screen_is_dark(&self) -> bool {
        self.screen.is_dark().await
    }

    /// The watching of its screen.
    pub(crate) fn screen(&self) -> &watcher::ScreenWatcher {
        &self.screen
    }

    /// Waits until QEMU has gone and everything it wrote was read.
    async fn wait(&mut self) {
        if !self.waiter.is_finished() {
            let _done = (&mut self.waiter).await;
        }
        for reader in self.readers.drain(..) {
            // The sockets closed with QEMU; what is still buffered is read in moments.
            let given_up = reader.abort_handle();
            if tokio::time::timeout(Duration::from_secs(5), reader).await.is_err() {
                given_up.abort();
            }
        }
        self.screen.stop().await;
        if let Some(tpm) = self.tpm.take() {
            tpm.stop().await;
        }
    }

    /// The timeline it reports to.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
}

/// What QEMU reads and writes for this machine.
fn bounds(plan: &Plan<'_>, folder: &Path) -> Bounds {
    let mut bounds = Bounds {
        read: [vec![plan.image.dir.clone()], confine::program(QEMU)].concat(),
        write: vec![folder.to_owned(), confine::folder_of(plan.overlay)],
    };
    bounds.read.extend(plan.discs.iter().map(|disc| disc.file.clone()));
    match plan.memory {
        Memory::Anonymous => {}
        Memory::Shared(file) => bounds.write.push(confine::folder_of(file)),
        // Mapped copy-on-write; but QEMU opens it for writing (7.2, file_ram_open). That nothing was written shows
        // when the state is next used.
        Memory::Saved(file) => {
            bounds.read.push(confine::folder_of(file));
            bounds.write.push(file.to_owned());
        }
    }
    bounds
}

/// Connects to QMP, or says what QEMU wrote when it ended instead.
async fn connect_qmp(
    path: &Path,
    waiter: &JoinHandle<()>,
    log: &Path,
) -> anyhow::Result<(QmpClient, mpsc::Receiver<QmpEvent>)> {
    let began = std::time::Instant::now();
    while !path.exists() && began.elapsed() < QMP_LIMIT && !waiter.is_finished() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut result = QmpClient::connect(path, QMP_LIMIT).await;
    while matches!(result, Err(QmpError::Connect { .. }))
        && began.elapsed() < QMP_LIMIT
        && !waiter.is_finished()
    {
        // The socket's file exists a moment before QEMU listens on it.
        tokio::time::sleep(Duration::from_millis(2)).await;
        result = QmpClient::connect(path, QMP_LIMIT).await;
    }
    result.with_context(|| {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        format!("QEMU did not come up; it wrote: {}", crate::text::printable(said.trim(), 500))
    })
}

/// Where a picture of this run goes.
fn picture_name(number: usize) -> PathBuf {
    PathBuf::from(format!("screen-{number:03}.png"))
}
