//! KVM or TCG, after finding out whether KVM really works.
//!
//! Some hosts (virtual machines with broken nested virtualisation) open /dev/kvm, create virtual machines,
//! and then stop at the first exception of a real boot; QEMU does not even exit. So a boot-sector payload
//! (`kvm-preflight/staged.S`) is booted first, which does what a boot does and reports its stages.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::{HostError, kernel_release, qemu_version};
use crate::image::Sha256Hex;

/// How long the preflight may take before KVM counts as broken: it takes 0.5 s under TCG.
pub const PREFLIGHT_LIMIT: Duration = Duration::from_secs(8);
/// File in the cache folder that keeps the last answer.
pub const CACHE_FILE: &str = "kvm-preflight.json";

const DEVICE: &str = "/dev/kvm";
const PAYLOAD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kvm-preflight.bin"));
/// What a complete run writes to COM1, and the status QEMU then ends with (isa-debug-exit: 0x10 << 1 | 1).
const ALL_STAGES: &str = "123456789";
const PASSED: i32 = 33;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor itself, through /dev/kvm.
    Kvm,
    /// QEMU's emulation, which runs everywhere and is many times slower.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        })
    }
}

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccelChoice {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG, without looking at KVM.
    Tcg,
}

/// The state of KVM on this host, for this user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kvm", rename_all = "kebab-case")]
pub enum KvmState {
    /// The whole payload ran.
    Works,
    /// There is no /dev/kvm.
    Absent,
    /// This user may not open /dev/kvm.
    NoPermission,
    /// The payload did not get through.
    Broken {
        /// Digit of the last stage reached; `0` when there was none.
        stage: char,
        /// How it ended, and what QEMU said.
        detail: String,
    },
}

impl fmt::Display for KvmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvmState::Works => f.write_str("KVM works"),
            KvmState::Absent => f.write_str(
                "there is no /dev/kvm (next: switch virtualisation on in the firmware, `modprobe kvm_intel` or `kvm_amd`)",
            ),
            KvmState::NoPermission => {
                f.write_str("/dev/kvm may not be opened (next: `sudo usermod -aG kvm $USER`, then log in again)")
            }
            KvmState::Broken { stage, detail } => {
                write!(f, "KVM is broken on this host: a test boot got to stage {stage} of 9 ({}), {detail}", stage_name(*stage))
            }
        }
    }
}

/// What is done when a stage's digit is written.
fn stage_name(stage: char) -> &'static str {
    match stage {
        '1' => "the BIOS started it",
        '2' => "read from disk",
        '3' => "timer in real mode",
        '4' => "protected mode",
        '5' => "exception in protected mode",
        '6' => "timer in protected mode",
        '7' => "long mode",
        '8' => "exception in long mode",
        '9' => "timer in long mode",
        _ => "not even the BIOS",
    }
}

/// Why no accelerator could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum AccelError {
    /// KVM was demanded, and does not work.
    #[error("KVM was asked for, but {0}; next: --accel auto or --accel tcg")]
    NotUsable(KvmState),
    /// The test boot could not be made.
    #[error("cannot test KVM: {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The host could not be described.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Chooses the accelerator, and says why in one sentence for the terminal and the record.
///
/// `cache` is the cache folder, see [`preflight`]. Blocks for up to `limit`.
pub fn choose(
    choice: AccelChoice,
    qemu: &Path,
    cache: Option<&Path>,
    limit: Duration,
) -> Result<(Accelerator, String), AccelError> {
    if choice == AccelChoice::Tcg {
        return Ok((Accelerator::Tcg, "Running under TCG (emulation), as asked.".to_owned()));
    }
    decide(choice, preflight(qemu, cache, limit)?)
}

fn decide(choice: AccelChoice, state: KvmState) -> Result<(Accelerator, String), AccelError> {
    match (choice, state) {
        (AccelChoice::Tcg, _) => {
            Ok((Accelerator::Tcg, "Running under TCG (emulation), as asked.".to_owned()))
        }
        (_, KvmState::Works) => {
            Ok((Accelerator::Kvm, "Running under KVM, which passed its test boot.".to_owned()))
        }
        (AccelChoice::Kvm, state) => Err(AccelError::NotUsable(state)),
        (AccelChoice::Auto, state) => {
            Ok((Accelerator::Tcg, format!("Running under TCG (emulation, many times slower): {state}")))
        }
    }
}

/// Finds out whether KVM works, by booting the payload under it.
///
/// The answer of a boot is kept in `<cache>/kvm-preflight.json` until QEMU, the kernel, the boot of the
/// host, /dev/kvm or the payload changes. QEMU is killed after `limit`. It dies with the calling thread,
/// which waits for it: call this from any thread, but not from within an async task.
pub fn preflight(qemu: &Path, cache: Option<&Path>, limit: Duration) -> Result<KvmState, AccelError> {
    let device = match OpenOptions::new().read(true).write(true).open(DEVICE).and_then(|file| file.metadata())
    {
        Ok(device) if device.file_type().is_char_device() => device,
        Ok(_) => return Ok(KvmState::Absent),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(KvmState::NoPermission),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(KvmState::Absent),
        Err(e) => {
            return Ok(KvmState::Broken { stage: '0', detail: format!("{DEVICE} cannot be opened: {e}") });
        }
    };
    let key = Key {
        qemu: qemu_version(qemu)?,
        kernel: kernel_release()?,
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        device: format!("{}:{}:{}", device.dev(), device.ino(), device.rdev()),
        payload: Sha256Hex::of_bytes(PAYLOAD),
    };
    let file = cache.map(|cache| cache.join(CACHE_FILE));
    if let Some(kept) = file.as_deref().and_then(|file| read_cache(file, &key)) {
        return Ok(kept);
    }
    let run = boot(qemu, &["-accel", "kvm", "-cpu", "host"], PAYLOAD, limit)?;
    let state = run.state();
    if let Some(file) = file {
        write_cache(&file, &Kept { key, state: state.clone() })?;
    }
    Ok(state)
}

/// What an answer depends on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    qemu: String,
    kernel: String,
    /// The kernel's boot id: KVM may be repaired or broken by moving a virtual machine, with a reboot.
    boot: String,
    device: String,
    payload: Sha256Hex,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    key: Key,
    state: KvmState,
}

/// A cache that is missing, damaged or about something else is no answer, and no error.
fn read_cache(file: &Path, key: &Key) -> Option<KvmState> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (kept.key == *key).then_some(kept.state)
}

fn write_cache(file: &Path, kept: &Kept) -> Result<(), AccelError> {
    let io = |source| AccelError::Io { doing: format!("keeping the answer in {}", file.display()), source };
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(io)?;
    let mut new = tempfile::NamedTempFile::new_in(dir).map_err(io)?;
    serde_json::to_writer_pretty(&mut new, kept).map_err(|e| io(e.into()))?;
    new.persist(file).map_err(|e| io(e.error))?;
    Ok(())
}

/// How a test boot went.
struct Boot {
    stages: String,
    /// `None`: killed at the limit.
    status: Option<ExitStatus>,
    limit: Duration,
    said: String,
}

impl Boot {
    fn state(&self) -> KvmState {
        if self.stages == ALL_STAGES && self.status.and_then(|status| status.code()) == Some(PASSED) {
            return KvmState::Works;
        }
        let end = match self.status {
            Some(status) => format!("then QEMU ended ({status})"),
            None => {
                format!("then nothing came until QEMU was killed after {:.1} s", self.limit.as_secs_f64())
            }
        };
        // One sentence for people: QEMU's first words are enough.
        let first = self.said.lines().next().unwrap_or_default().trim().trim_end_matches('.');
        let said = match first {
            "" => String::new(),
            first => format!("; QEMU said: {}", crate::text::printable(first, 100)),
        };
        KvmState::Broken { stage: self.stages.chars().last().unwrap_or('0'), detail: format!("{end}{said}") }
    }
}

/// A QEMU that is killed, by its own pid, wherever this module returns early.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // Fails only if it has been waited for already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn boot(qemu: &Path, accel: &[&str], payload: &[u8], limit: Duration) -> Result<Boot, AccelError> {
    let io = |doing: &'static str| move |source| AccelError::Io { doing: doing.to_owned(), source };
    let mut disk = tempfile::NamedTempFile::new().map_err(io("writing the test disk"))?;
    disk.write_all(payload).and_then(|()| disk.flush()).map_err(io("writing the test disk"))?;
    let mut errors = tempfile::tempfile().map_err(io("making a file for QEMU's messages"))?;
    let stderr = errors.try_clone().map_err(io("making a file for QEMU's messages"))?;

    let started = Instant::now();
    let mut child = start(qemu, accel, disk.path(), stderr)?;
    let (sender, receiver) = mpsc::channel();
    let mut serial =
        child.0.stdout.take().ok_or_else(|| io("reading COM1")(io::ErrorKind::BrokenPipe.into()))?;
    let reader = std::thread::Builder::new().name("kvm-preflight".to_owned()).spawn(move || {
        let mut byte = [0u8];
        while serial.read_exact(&mut byte).is_ok() && sender.send(byte).is_ok() {}
    });
    reader.map_err(io("reading COM1"))?;

    let mut stages = String::new();
    let left = |started: Instant| limit.saturating_sub(started.elapsed());
    loop {
        match receiver.recv_timeout(left(started)) {
            Ok([digit]) if stages.len() < ALL_STAGES.len() => stages.push(char::from(digit)),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
        if left(started).is_zero() {
            break;
        }
    }
    let status = loop {
        match child.0.try_wait().map_err(io("waiting for QEMU"))? {
            None if left(started).is_zero() => break None,
            None => std::thread::sleep(Duration::from_millis(2)),
            ended => break ended,
        }
    };
    drop(child);
    let said = first_lines(&mut errors).map_err(io("reading QEMU's messages"))?;
    Ok(Boot { stages, status, limit, said })
}

fn start(qemu: &Path, accel: &[&str], disk: &Path, stderr: File) -> Result<Qemu, AccelError> {
    let mut command = Command::new(qemu);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-machine",
        "pc",
        "-m",
        "32",
    ]);
    command.args(accel);
    command.args(["-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
    command.args(["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    // A virtio disk would need more of the BIOS than is to be tested.
    command.arg("-drive").arg(format!("if=none,id=disk,format=raw,file={}", escape(disk)));
    command.args(["-device", "ide-hd,drive=disk,bootindex=0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    super::process::die_with_thread(&mut command);
    let child = command.spawn();
    child.map(Qemu).map_err(|source| AccelError::Io { doing: format!("starting {}", qemu.display()), source })
}

/// QEMU splits option values at commas; a doubled comma is one.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The first lines of QEMU's error output, joined; the registers it dumps after them are of no use here.
fn first_lines(errors: &mut File) -> io::Result<String> {
    let mut said = Vec::new();
    errors.seek(SeekFrom::Start(0))?;
    errors.take(4096).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().filter(|line| !line.trim().is_empty()).take(2).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests;
