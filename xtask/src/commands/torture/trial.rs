//! One trial: a whole `cargo xtask run` in a process of its own, something done to it on the way, and a look at
//! everything it leaves.

use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use softoff_harness::machine::process;

/// A trial that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(300);

/// How long QEMU's process may take to come after the harness has said that it starts it.
const QEMU_COMES: Duration = Duration::from_secs(2);

/// Whether somebody asked torture itself to stop: the trial under way is ended then.
static ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);

/// Ends the trial under way, and any that begins afterwards.
pub(super) fn stop() {
    ASKED_TO_STOP.store(true, Ordering::SeqCst);
}

/// Whether [`stop`] was called.
pub(super) fn stopped() -> bool {
    ASKED_TO_STOP.load(Ordering::SeqCst)
}

/// Who starts a trial, where, and a password of theirs: no record may hold it.
pub(super) const SECRET: &str = "torture-told-nobody";

/// The folders of one trial.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// TMPDIR of the harness: whatever it leaves there shows.
    pub(super) tmp: PathBuf,
    /// Its records.
    pub(super) out: PathBuf,
    /// Its cache; the user's own where `None`.
    pub(super) cache: Option<PathBuf>,
}

/// What is run.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub(super) place: Place,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    /// A program before it, such as `prlimit`, with its arguments.
    pub(super) before: Vec<String>,
    /// Whether its words go to a terminal, in colour and live, as a person would see them.
    pub(super) terminal: bool,
}

/// A harness under way.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) pid: Pid,
    pub(super) place: Place,
}

impl Living {
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.pid, signal).with_context(|| format!("{signal} to {}", self.pid))
    }

    /// The QEMU processes of this trial, by the folder that they name: QEMU's own comes a moment after the harness' words.
    /// None when it does not come, or has gone.
    pub(super) fn qemus(&self) -> Vec<Pid> {
        let until = Instant::now() + QEMU_COMES;
        loop {
            let named = processes(&self.place.tmp).into_iter();
            let qemus: Vec<Pid> =
                named.filter(|(_, line)| line.contains("qemu-system")).map(|(pid, _)| pid).collect();
            if !qemus.is_empty() || Instant::now() > until {
                return qemus;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn signal_qemu(&self, signal: Signal) -> anyhow::Result<()> {
        let qemus = self.qemus();
        anyhow::ensure!(!qemus.is_empty(), "no QEMU runs at that moment");
        // One that ends meanwhile is as good as reached.
        for pid in qemus {
            let _ended = kill(pid, signal);
        }
        Ok(())
    }

    /// The machine's temporary folder.
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        leftovers(&self.place.tmp).into_iter().next().context("the machine has no folder at that moment")
    }
}

/// Processes whose command line names this folder; zombies have none.
pub(super) fn processes(folder: &Path) -> Vec<(Pid, String)> {
    let wanted = folder.to_string_lossy().into_owned();
    let me = std::process::id();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|e| e.file_name().to_string_lossy().parse::<i32>().ok());
    numbers
        .filter(|pid| u32::try_from(*pid).is_ok_and(|pid| pid != me))
        .filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&wanted).then_some((Pid::from_raw(pid), line))
        })
        .collect()
}

/// Folders of machines below TMPDIR.
pub(super) fn leftovers(tmp: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(tmp).into_iter().flatten().flatten().map(|e| e.path());
    entries.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("softoff-"))).collect()
}

/// A trial that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
    pub(super) wall: Duration,
    /// The most memory that the harness had, KiB.
    pub(super) peak_kib: u64,
    pub(super) place: Place,
    /// Whether it spoke to a terminal.
    pub(super) terminal: bool,
}

/// What is done when a line of the harness' own words shows a moment: `None` when it was never seen.
pub(super) type Act<'a> = (&'a str, Box<dyn FnMut(&Living) -> anyhow::Result<()> + 'a>);

impl Trial {
    /// The first scenario that comes to mind, from a saved state.
    pub(super) fn control(place: Place) -> Trial {
        Trial::of(place, &["--scenario", "control", "--start", "warm"])
    }

    /// A run with these options, one machine at a time, under emulation.
    pub(super) fn of(place: Place, options: &[&str]) -> Trial {
        let fixed = ["run", "--jobs", "1", "--accel", "tcg", "--json"];
        let mut arguments: Vec<String> = fixed.iter().chain(options).map(|s| (*s).to_owned()).collect();
        arguments.extend(["--out".to_owned(), place.out.display().to_string()]);
        Trial { place, arguments, environment: Vec::new(), before: Vec::new(), terminal: false }
    }

    /// The same with more options.
    pub(super) fn with(mut self, options: &[&str]) -> Trial {
        self.arguments.extend(options.iter().map(|s| (*s).to_owned()));
        self
    }

    /// Starts it; its standard error comes line by line.
    pub(super) fn start(&self) -> anyhow::Result<Running> {
        std::fs::create_dir_all(&self.place.tmp)?;
        let me = std::env::current_exe().context("where is this program?")?;
        let mut words = self.before.iter().map(std::ffi::OsString::from).collect::<Vec<_>>();
        words.push(me.into());
        words.extend(self.arguments.iter().map(Into::into));
        let (program, rest) = words.split_first().context("nothing to run")?;
        let stdout = tempfile::tempfile()?;
        let mut command = Command::new(program);
        command.args(rest).env("TMPDIR", &self.place.tmp);
        command.envs(["USER", "LOGNAME", "HOSTNAME", "AWS_SECRET_ACCESS_KEY"].map(|name| (name, SECRET)));
        match self.terminal {
            true => command.env_remove("NO_COLOR").env_remove("CI").env("TERM", "xterm-256color"),
            false => command.env("NO_COLOR", "1").env("CI", "1"),
        };
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        if let Some(cache) = &self.place.cache {
            command.env("SOFTOFF_CACHE", cache);
        }
        command.stdin(Stdio::null());
        let said: Box<dyn Read + Send> = if self.terminal {
            let size = Winsize { ws_row: 50, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };
            let OpenptyResult { master, slave } = openpty(&size, None)?;
            for end in [&master, &slave] {
                fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            }
            command.stdout(slave.try_clone()?).stderr(slave);
            Box::new(std::fs::File::from(master))
        } else {
            let (from, to) = std::io::pipe()?;
            command.stdout(stdout.try_clone()?).stderr(to);
            Box::new(from)
        };
        process::die_with_thread(&mut command);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {program:?}"))?;
        // The last writer's end closes with the harness, not with this.
        drop(command);
        let child = Harness(child);
        let pid = Pid::from_raw(i32::try_from(child.0.id())?);
        let (say, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(said);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                if say.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let living = Living { pid, place: self.place.clone() };
        let terminal = self.terminal;
        Ok(Running { child, living, lines, began, stdout, stderr: String::new(), peak_kib: 0, terminal })
    }

    /// Runs it to its end; each act is done once, when its words are first seen.
    pub(super) fn run(&self, acts: Vec<Act<'_>>) -> anyhow::Result<Ended> {
        self.start()?.finish(acts)
    }
}

/// A trial under way.
pub(super) struct Running {
    child: Harness,
    pub(super) living: Living,
    lines: Receiver<String>,
    began: Instant,
    stdout: std::fs::File,
    stderr: String,
    peak_kib: u64,
    terminal: bool,
}

/// A harness' process, which does not outlive the trial; the kernel ends its QEMU with it.
struct Harness(std::process::Child);

impl Drop for Harness {
    fn drop(&mut self) {
        // Neither does anything to one that has been waited for.
        let _killed = self.0.kill();
        let _gone = self.0.wait();
    }
}

impl Running {
    /// Waits for its end, acting on the way.
    pub(super) fn finish(mut self, mut acts: Vec<Act<'_>>) -> anyhow::Result<Ended> {
        loop {
            self.peak_kib = self.peak_kib.max(peak_kib(self.living.pid));
            if stopped() {
                bail!("torture was asked to stop");
            }
            match self.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    self.stderr.push_str(&line);
                    let Some(at) = acts.iter().position(|(words, _)| line.contains(words)) else { continue };
                    let (words, mut act) = acts.remove(at);
                    act(&self.living).with_context(|| format!("at `{words}`"))?;
                }
                Err(RecvTimeoutError::Timeout) if self.began.elapsed() < LONGEST => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the harness hung for {LONGEST:?}; it said last: {}", tail(&self.stderr));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.0.wait()?;
        if let Some((words, _)) = acts.first() {
            bail!("the moment `{words}` never came; the harness said: {}", tail(&self.stderr));
        }
        let mut stdout = Vec::new();
        self.stdout.rewind()?;
        self.stdout.read_to_end(&mut stdout)?;
        Ok(Ended {
            status,
            stdout,
            stderr: self.stderr,
            wall: self.began.elapsed(),
            peak_kib: self.peak_kib,
            place: self.living.place,
            terminal: self.terminal,
        })
    }
}

/// The most memory that a process had so far, KiB.
fn peak_kib(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The last lines of what was said, as one line.
pub(super) fn tail(said: &str) -> String {
    let mut lines: Vec<&str> = said.lines().rev().take(6).collect();
    lines.reverse();
    softoff_harness::text::printable(&lines.join(" / "), 900)
}
