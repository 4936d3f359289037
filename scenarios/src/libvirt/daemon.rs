//! A libvirtd of our own: no systemd, no system instance touched, nothing left behind.
//!
//! It runs as a session daemon with all its XDG folders in one temporary folder, as root under the account
//! `nobody`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::folder::RunFolder;
use softoff_harness::machine::process;
use softoff_harness::text::printable;
use softoff_images::tools::find;
use tokio::process::{Child, Command};

use super::account::Account;
use super::domain::{Domain, NAME};
use super::events::Events;

/// What one command of virsh, and the daemon's start, may take. Its first look at QEMU needs 2 s alone.
const LIMIT: Duration = Duration::from_secs(120);

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

/// A running libvirtd; ended with all its domains when dropped.
#[derive(Debug)]
pub struct Libvirt {
    folder: RunFolder,
    account: Account,
    programs: Programs,
    daemon: Child,
    guard: std::process::Child,
}

#[derive(Debug)]
struct Programs {
    libvirtd: PathBuf,
    virsh: PathBuf,
}

impl Programs {
    fn find() -> anyhow::Result<Programs> {
        let program = |name: &str| find(name).with_context(|| format!("{name} is missing here; `{INSTALL}`"));
        Ok(Programs { libvirtd: program("libvirtd")?, virsh: program("virsh")? })
    }
}

impl Libvirt {
    /// Starts it, for domains of this accelerator, and waits until it answers. An error says which program is
    /// missing, or what libvirtd wrote.
    pub async fn start(accelerator: Accelerator) -> anyhow::Result<Libvirt> {
        let programs = Programs::find()?;
        let folder = RunFolder::create()?;
        let account = Account::of(folder.path(), accelerator)?;
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("config/libvirt"))
            .and_then(|()| std::fs::write(at("config/libvirt/qemu.conf"), QEMU_CONF))
            .and_then(|()| std::fs::create_dir(at("run")))
            .with_context(|| format!("cannot fill {}; is the disk full?", folder.path().display()))?;
        account.hand_over(folder.path())?;

        let mut guard = account.command("sh");
        guard.args(["-c", GUARD]).env("FOLDER", folder.path()).process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().context("cannot start sh, which cleans up after libvirtd")?;

        let log = std::fs::File::create(at("libvirtd.log")).context("cannot make libvirtd's log")?;
        let mut command = account.command(&programs.libvirtd);
        command.arg("--pid-file").arg(at("libvirtd.pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = process::spawn(Command::from(command)).await;
        let daemon = daemon.with_context(|| format!("cannot start {}", programs.libvirtd.display()))?;

        let mut libvirt = Libvirt { folder, account, programs, daemon, guard };
        libvirt.wait_until_it_answers().await?;
        Ok(libvirt)
    }

    async fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let ended = self.daemon.try_wait().context("looking after libvirtd")?;
            let Err(error) = self.virsh(&["uri"]).await else { return Ok(()) };
            if ended.is_some() || began.elapsed() > LIMIT {
                bail!(
                    "libvirtd does not answer after {:?} (ended: {ended:?}): {error:#}; it wrote:\n{}",
                    began.elapsed(),
                    self.log("libvirtd.log")
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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
    pub fn qemu_log(&self) -> String {
        self.log(&format!("cache/libvirt/qemu/log/{NAME}.log"))
    }

    fn virsh_command(&self, words: &[&str]) -> Command {
        let socket = self.folder().join("run/libvirt/libvirt-sock");
        let mut command = self.account.command(&self.programs.virsh);
        // The socket by name: without it virsh may start a daemon of its own.
        command.arg("-c").arg(format!("qemu+unix:///session?socket={}", socket.display())).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Command::from(command)
    }

    /// What `virsh WORDS` says. An error when it fails, with what it said then, or takes longer than 120 s.
    pub async fn virsh(&self, words: &[&str]) -> anyhow::Result<String> {
        let shown = || format!("virsh {}", words.join(" "));
        let child = process::spawn(self.virsh_command(words)).await.context("cannot start virsh")?;
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let output = output
            .map_err(|_| anyhow!("{}: no end within {LIMIT:?}; libvirtd may hang", shown()))?
            .with_context(shown)?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(said(&output.stdout));
        }
        bail!("{}: {}", shown(), printable(&said(&output.stderr), 600))
    }

    /// Defines a domain, whose files are given to libvirt's account.
    pub async fn define(&self, domain: &Domain<'_>) -> anyhow::Result<()> {
        let definition = domain.folder().join("domain.xml");
        std::fs::write(&definition, domain.xml()?)
            .with_context(|| format!("cannot write {}; is the disk full?", definition.display()))?;
        self.account.hand_over(domain.folder())?;
        self.virsh(&["define", &definition.to_string_lossy()]).await.map(drop)
    }

    /// Defines and starts a domain.
    pub async fn run(&self, domain: &Domain<'_>) -> anyhow::Result<Events> {
        self.define(domain).await?;
        self.virsh(&["start", NAME]).await?;
        // virsh says not when it listens; the guest needs seconds before anything can end it.
        Events::listen(self.virsh_command(&["event", NAME, "--event", "lifecycle", "--loop"])).await
    }

    /// What must be gone afterwards.
    pub fn traces(&self) -> anyhow::Result<Traces> {
        let place = self.folder().join("run/libvirt/qemu/run");
        let pids = std::fs::read_dir(&place)
            .with_context(|| format!("cannot list {}; was a domain started?", place.display()))?
            .flatten();
        let pids = pids.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "pid"));
        let read = |path: PathBuf| -> anyhow::Result<u32> {
            let pid = || format!("{} holds no pid", path.display());
            std::fs::read_to_string(&path).with_context(pid)?.trim().parse().with_context(pid)
        };
        Ok(Traces { folder: self.folder().to_owned(), pids: pids.map(read).collect::<Result<_, _>>()? })
    }
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
        let runs = |pid: &&u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&*folder)
        };
        let mut left: Vec<String> =
            self.pids.iter().filter(runs).map(|pid| format!("process {pid}")).collect();
        if self.folder.exists() {
            left.push(format!("folder {folder}"));
        }
        left
    }
}
