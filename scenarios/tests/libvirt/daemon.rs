//! A libvirtd of our own: no systemd, no system instance touched, nothing left behind.
//!
//! It runs as a session daemon with all its XDG folders in one temporary folder. A libvirtd that runs as root
//! is the system's instance, whose places are fixed; so as root it is started under the account `nobody`.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use softoff_harness::machine::folder::RunFolder;
use softoff_harness::machine::process;
use softoff_images::tools::find;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// What one command of virsh, and the daemon's start, may take. Its first look at QEMU needs 2 s alone.
const LIMIT: Duration = Duration::from_secs(120);

/// User and group `nobody` on Debian, Ubuntu and Fedora.
const NOBODY: u32 = 65534;

const INSTALL: &str =
    "sudo apt-get install --no-install-recommends libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu";

/// No virtlogd (it would be one more daemon to stay behind), no AppArmor or SELinux profile for the guest.
const QEMU_CONF: &str = "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n";

/// Waits until its standard input closes, which the kernel sees to however the test ends, then ends libvirtd
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
pub(crate) struct Libvirt {
    folder: RunFolder,
    programs: Programs,
    _daemon: Child,
    guard: std::process::Child,
}

#[derive(Debug)]
struct Programs {
    libvirtd: PathBuf,
    virsh: PathBuf,
}

impl Programs {
    fn find() -> Programs {
        let program =
            |name: &str| find(name).unwrap_or_else(|| panic!("{name} is missing here; `{INSTALL}`"));
        Programs { libvirtd: program("libvirtd"), virsh: program("virsh") }
    }
}

impl Libvirt {
    /// Starts it and waits until it answers.
    pub(crate) async fn start() -> Libvirt {
        let programs = Programs::find();
        let folder = RunFolder::create().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("config/libvirt")).unwrap();
        std::fs::write(at("config/libvirt/qemu.conf"), QEMU_CONF).unwrap();
        std::fs::create_dir(at("run")).unwrap();
        hand_over(folder.path());

        let mut guard = as_account(std::process::Command::new("sh"), folder.path());
        guard.args(["-c", GUARD]).env("FOLDER", folder.path()).process_group(0);
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();

        let log = std::fs::File::create(at("libvirtd.log")).unwrap();
        let mut command = as_account(std::process::Command::new(&programs.libvirtd), folder.path());
        command.arg("--pid-file").arg(at("libvirtd.pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = process::spawn(Command::from(command)).await.expect("libvirtd");

        let mut libvirt = Libvirt { folder, programs, _daemon: daemon, guard };
        libvirt.wait_until_it_answers().await;
        libvirt
    }

    async fn wait_until_it_answers(&mut self) {
        let began = Instant::now();
        loop {
            let ended = self._daemon.try_wait().unwrap();
            let answer = self.try_virsh(&["uri"]).await;
            let Err(error) = answer else { return };
            if ended.is_some() || began.elapsed() > LIMIT {
                panic!(
                    "libvirtd does not answer after {:?} (ended: {ended:?}): {error}; it wrote:\n{}",
                    began.elapsed(),
                    self.log("libvirtd.log")
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The folder that goes with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A log in its folder, for an error's text.
    pub(crate) fn log(&self, name: &str) -> String {
        let bytes = std::fs::read(self.folder().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn virsh_command(&self, words: &[&str]) -> Command {
        let socket = self.folder().join("run/libvirt/libvirt-sock");
        let mut command = as_account(std::process::Command::new(&self.programs.virsh), self.folder());
        // The socket by name: without it virsh may start a daemon of its own.
        command.arg("-c").arg(format!("qemu+unix:///session?socket={}", socket.display())).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Command::from(command)
    }

    async fn try_virsh(&self, words: &[&str]) -> Result<String, String> {
        let child = process::spawn(self.virsh_command(words)).await.expect("virsh");
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let output = output.map_err(|_| format!("no end of virsh within {LIMIT:?}"))?.unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    /// What `virsh WORDS` says; it must succeed.
    pub(crate) async fn virsh(&self, words: &[&str]) -> String {
        self.try_virsh(words).await.unwrap_or_else(|e| panic!("virsh {}: {e}", words.join(" ")))
    }

    /// Defines and starts the domain of `xml`, whose files are in `files`.
    pub(crate) async fn run(&self, domain: &str, xml: &str, files: &Path) -> Events {
        let definition = files.join("domain.xml");
        std::fs::write(&definition, xml).unwrap();
        hand_over(files);
        self.virsh(&["define", &definition.to_string_lossy()]).await;
        self.virsh(&["start", domain]).await;
        // virsh says not when it listens; the guest needs seconds before anything can end it.
        let mut child =
            process::spawn(self.virsh_command(&["event", domain, "--event", "lifecycle", "--loop"]))
                .await
                .expect("virsh");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Events { _virsh: child, lines }
    }

    /// What must be gone afterwards.
    pub(crate) fn traces(&self) -> Traces {
        let pids = std::fs::read_dir(self.folder().join("run/libvirt/qemu/run")).unwrap().flatten();
        let pids = pids.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "pid"));
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap().trim().parse().unwrap();
        Traces { folder: self.folder().to_owned(), pids: pids.map(read).collect() }
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ended = self.guard.wait();
    }
}

/// The domain's lifecycle events, as `virsh event` prints them.
#[derive(Debug)]
pub(crate) struct Events {
    _virsh: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Events {
    /// The events up to `Stopped`, such as `Shutdown Finished after guest request`.
    pub(crate) async fn until_stopped(&mut self, limit: Duration) -> Vec<String> {
        let mut seen = Vec::new();
        let stopped = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                let Some((_, event)) = line.split_once("': ") else { continue };
                seen.push(event.trim().to_owned());
                if event.starts_with("Stopped ") {
                    return;
                }
            }
        };
        let end = tokio::time::timeout(limit, stopped).await;
        assert!(end.is_ok(), "the domain did not stop within {limit:?}; libvirt told {seen:?}");
        seen
    }
}

/// A daemon's folder and the processes that worked in it.
#[derive(Debug)]
pub(crate) struct Traces {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// libvirtd and QEMU.
    pub(crate) pids: Vec<u32>,
}

impl Traces {
    /// What is still there; a zombie is not.
    pub(crate) fn left(&self) -> Vec<String> {
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

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Gives a folder and what is in it to the account that libvirtd runs under.
fn hand_over(folder: &Path) {
    if !is_root() {
        return;
    }
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            hand_over(&entry.path());
        } else {
            chown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

/// A command that sees nothing of the user's own libvirt, and is not root.
fn as_account(mut command: std::process::Command, folder: &Path) -> std::process::Command {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("LC_ALL", "C").env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
    command.env("HOME", folder).current_dir(folder);
    for (name, place) in [("RUNTIME_DIR", "run"), ("CONFIG_HOME", "config"), ("CACHE_HOME", "cache")] {
        command.env(format!("XDG_{name}"), folder.join(place));
    }
    command.env("XDG_DATA_HOME", folder.join("data"));
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
