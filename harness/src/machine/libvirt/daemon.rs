//! A libvirtd of our own: no systemd, no system instance touched, nothing left behind.
//!
//! It runs as a session daemon with all its XDG folders in one temporary folder, as root under the account
//! `nobody`. Machines of a run have their folders inside it.

use std::fs::Permissions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use tokio::process::Command;
use tokio::sync::watch;

use super::account::Account;
use super::connection::{Connection, LIMIT, VirshError};
use super::domain::runs;
use super::events::Events;
use super::sent;
use crate::host::find_program;
use crate::image::Image;
use crate::machine::accel::Accelerator;
use crate::machine::folder::RunFolder;
use crate::machine::process;

const INSTALL: &str =
    "sudo apt-get install --no-install-recommends libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu";

/// No virtlogd (it would be one more daemon to stay behind), no AppArmor or SELinux profile for the guest.
const QEMU_CONF: &str = "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n";

/// Waits until its standard input closes, which the kernel sees to however we end, then ends libvirtd
/// and the QEMUs it started (they are libvirtd's daemons and would outlive all of us), and removes the folder.
/// A pid counts only while its command line names the folder.
const GUARD: &str = r#"
cat
ours() { grep -qsF -- "$FOLDER" "/proc/$1/cmdline"; }
for file in "$FOLDER"/libvirtd.pid "$FOLDER"/run/libvirt/qemu/run/*.pid; do
  pid=$(cat "$file" 2>/dev/null) || continue
  ours "$pid" && kill -KILL "$pid"
  for i in $(seq 200); do ours "$pid" || break; sleep 0.05; done
done
rm -rf -- "$FOLDER"
"#;

/// The folder of the machines' folders.
const MACHINES: &str = "machines";

/// Where libvirt keeps the pids of its QEMUs, and its own session daemon's pid in one more file.
const PIDS: &str = "run/libvirt/qemu/run";

/// Its log of what it says to QEMU.
const MONITOR_LOG: &str = "monitor.log";

/// A running libvirtd; ended with all its domains when dropped.
#[derive(Debug)]
pub struct Libvirt {
    folder: RunFolder,
    account: Account,
    connection: Connection,
    /// libvirtd's process id.
    pub pid: u32,
    ended: watch::Receiver<Option<String>>,
    guard: std::process::Child,
    images: Mutex<Vec<Arc<Image>>>,
}

impl Libvirt {
    /// Starts it, for domains of this accelerator, and waits until it answers. An error says which program is
    /// missing, or what libvirtd wrote.
    pub async fn start(accelerator: Accelerator) -> anyhow::Result<Libvirt> {
        let libvirtd = find_program("libvirtd");
        let libvirtd = libvirtd.with_context(|| format!("libvirtd is missing here; `{INSTALL}`"))?;
        let folder = RunFolder::create()?;
        let account = Account::of(folder.path(), accelerator)?;
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("config/libvirt"))
            .and_then(|()| std::fs::write(at("config/libvirt/qemu.conf"), QEMU_CONF))
            .and_then(|()| {
                ["run", "images", MACHINES].into_iter().try_for_each(|name| std::fs::create_dir(at(name)))
            })
            .with_context(|| format!("cannot fill {}; is the disk full?", folder.path().display()))?;
        account.hand_over(folder.path())?;

        let mut guard = account.command("sh");
        guard.args(["-c", GUARD]).env("FOLDER", folder.path()).process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().context("cannot start sh, which cleans up after libvirtd")?;

        let log = std::fs::File::create(at("libvirtd.log")).context("cannot make libvirtd's log")?;
        let mut command = account.command(&libvirtd);
        command.arg("--pid-file").arg(at("libvirtd.pid"));
        let outputs = format!("2:file:{} 3:stderr", at(MONITOR_LOG).display());
        command.env("LIBVIRT_LOG_FILTERS", sent::FILTER).env("LIBVIRT_LOG_OUTPUTS", outputs);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut daemon = process::spawn(Command::from(command))
            .await
            .with_context(|| format!("cannot start {}", libvirtd.display()))?;
        let pid = daemon.id().unwrap_or_default();
        let (tell, ended) = watch::channel(None);
        tokio::spawn(async move {
            let how = match daemon.wait().await {
                Ok(status) => format!("libvirtd (pid {pid}) has ended: {status}"),
                Err(e) => format!("libvirtd (pid {pid}) cannot be looked after: {e}"),
            };
            tell.send_replace(Some(how));
        });
        let socket = at("run/libvirt/libvirt-sock");
        let uri = format!("qemu+unix:///session?socket={}", socket.display());
        let connection = Connection::of(account.clone(), uri)?;
        let libvirt = Libvirt { folder, account, connection, pid, ended, guard, images: Mutex::default() };
        libvirt.wait_until_it_answers().await?;
        Ok(libvirt)
    }

    async fn wait_until_it_answers(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let ended = self.ended.borrow().clone();
            let Err(error) = self.virsh(&["uri"]).await else { return Ok(()) };
            if ended.is_some() || began.elapsed() > LIMIT {
                let ended = ended.unwrap_or("it still runs".into());
                bail!(
                    "libvirtd does not answer after {:?} ({ended}): {error:#}; it wrote:\n{}",
                    began.elapsed(),
                    self.log("libvirtd.log")
                );
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The way to it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns with a sentence when libvirtd has ended.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let told = ended.wait_for(Option::is_some).await;
        told.ok().and_then(|how| how.clone()).unwrap_or("libvirtd is looked after no more".into())
    }

    /// A folder for one machine, inside the daemon's.
    pub(in crate::machine) fn machine_folder(&self) -> anyhow::Result<RunFolder> {
        RunFolder::create_in(&self.folder().join(MACHINES))
    }

    /// Gives a folder and what is in it to libvirt's account.
    pub fn hand_over(&self, folder: &Path) -> anyhow::Result<()> {
        self.account.hand_over(folder)
    }

    /// Whom QEMU runs as, for an error's text.
    pub(super) fn account_name(&self) -> &'static str {
        self.account.name()
    }

    /// The image with its files where QEMU may read them: a cache in root's home is closed to the account that
    /// stands for root. Copied once.
    pub fn image(&self, image: &Arc<Image>) -> anyhow::Result<Arc<Image>> {
        if !self.account.is_other() {
            return Ok(image.clone());
        }
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copied) = images.iter().find(|copied| copied.id == image.id) {
            return Ok(copied.clone());
        }
        let dir = self.folder().join("images").join(image.id.short());
        let hint = || format!("cannot copy the image's files to {}; is the disk full?", dir.display());
        std::fs::create_dir_all(&dir).with_context(hint)?;
        for name in image.manifest.files.keys() {
            let copy = dir.join(name);
            std::fs::copy(image.file(name), &copy)
                .and_then(|_| std::fs::set_permissions(&copy, Permissions::from_mode(0o444)))
                .with_context(hint)?;
        }
        self.hand_over(&dir)?;
        let copied = Arc::new(Image::of_hashed(dir, image.id.clone(), image.manifest.clone())?);
        images.push(copied.clone());
        Ok(copied)
    }

    /// The folder that goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A log in its folder, for an error's text; empty when there is none.
    pub fn log(&self, name: &str) -> String {
        let bytes = std::fs::read(self.folder().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What QEMU wrote, for an error's text.
    pub fn qemu_log(&self, domain: &str) -> String {
        self.log(&format!("cache/libvirt/qemu/log/{domain}.log"))
    }

    /// QEMU's process id, by libvirt's own file.
    pub(super) fn qemu_pid(&self, domain: &str) -> anyhow::Result<u32> {
        pid_in(&self.folder().join(PIDS).join(format!("{domain}.pid")))
    }

    /// How long the log of what it says to QEMU is, bytes.
    pub(super) fn monitor_log_len(&self) -> u64 {
        std::fs::metadata(self.folder().join(MONITOR_LOG)).map_or(0, |m| m.len())
    }

    /// That log from a place on.
    pub(super) fn monitor_log(&self, from: u64) -> String {
        let log = || -> std::io::Result<Vec<u8>> {
            let mut file = std::fs::File::open(self.folder().join(MONITOR_LOG))?;
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&log().unwrap_or_default()).into_owned()
    }

    /// What `virsh WORDS` says.
    pub async fn virsh(&self, words: &[&str]) -> Result<String, VirshError> {
        self.connection.virsh(words).await
    }

    /// The lifecycle events of a domain from now on.
    pub async fn events(&self, domain: &str) -> anyhow::Result<Events> {
        // virsh says not when it listens; a guest needs seconds before anything can end it.
        Events::listen(self.connection.command(&["event", domain, "--event", "lifecycle", "--loop"])).await
    }

    /// What must be gone afterwards.
    pub fn traces(&self) -> anyhow::Result<Traces> {
        let place = self.folder().join(PIDS);
        let pids = std::fs::read_dir(&place)
            .with_context(|| format!("cannot list {}; was a domain started?", place.display()))?
            .flatten();
        let pids = pids.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "pid"));
        let pids = pids.map(|path| pid_in(&path)).collect::<anyhow::Result<_>>()?;
        Ok(Traces { folder: self.folder().to_owned(), pids })
    }
}

fn pid_in(path: &Path) -> anyhow::Result<u32> {
    let hint = || format!("{} holds no pid", path.display());
    std::fs::read_to_string(path).with_context(hint)?.trim().parse().with_context(hint)
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ended = self.guard.wait();
    }
}

/// A daemon's folder and the processes that worked in it.
#[derive(Debug)]
pub struct Traces {
    /// The folder.
    pub folder: PathBuf,
    /// libvirtd and QEMU.
    pub pids: Vec<u32>,
}

impl Traces {
    /// What is still there; a zombie is not.
    pub fn left(&self) -> Vec<String> {
        let folder = self.folder.to_string_lossy();
        let runs = |pid: &&u32| runs(**pid, &self.folder);
        let mut left: Vec<String> =
            self.pids.iter().filter(runs).map(|pid| format!("process {pid}")).collect();
        if self.folder.exists() {
            left.push(format!("folder {folder}"));
        }
        left
    }
}
