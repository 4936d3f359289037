//! How long reading a disk takes, and how long its peers take for the same reads: libguestfs' appliance
//! (`guestfish --ro`), and `qemu-nbd` with ntfs-3g. Each is a whole process, from start to end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::folder::RunFolder;
use softoff_images::tools::find;

use crate::commands::run::{Accel, accelerator};
use crate::host_tools;

/// What a peer's runs took, or why there are none.
#[derive(Debug)]
pub(super) enum Peer {
    /// Wall time of each run.
    Measured(Vec<Duration>),
    /// Why it could not be measured here.
    Unavailable(String),
}

/// All sides, measured one after another on the same disk.
#[derive(Debug)]
pub(super) struct Comparison {
    /// `cargo xtask inspect DISK --json`, release build, the program alone.
    pub(super) ours: Vec<Duration>,
    /// `guestfish --ro`, which copies the same files out and parses none of them.
    pub(super) guestfish: Peer,
    /// `qemu-nbd` and ntfs-3g, which do the same.
    pub(super) qemu_nbd: Peer,
}

/// The files that ours reads and judges; the peers only copy them.
const FILES: [&str; 3] = [
    "Windows/System32/config/SYSTEM",
    "Windows/System32/config/SOFTWARE",
    "Windows/System32/winevt/Logs/System.evtx",
];

/// Makes the disk, installs what is missing where that may be done, and measures. Our side runs `samples` times, each
/// peer up to 3 times.
pub(super) fn measure(samples: u32) -> anyhow::Result<Comparison> {
    let dir = RunFolder::create()?;
    eprintln!("making a disk of 10 GiB");
    let disk = softoff_images::measure_disk::build(dir.path())?;
    let program = release_program()?;
    // Once without counting, so that nobody is the one who fills the page cache.
    ours(&program, &disk)?;
    let mine = (0..samples).map(|_| ours(&program, &disk)).collect::<anyhow::Result<Vec<_>>>()?;
    let runs = samples.clamp(1, 3);
    let kvm = accelerator(Accel::Auto)? == Accelerator::Kvm;
    let guestfish = match appliance_kernel() {
        Ok(()) => peer("guestfish", "libguestfs-tools", runs, || guestfish(&disk, dir.path(), kvm)),
        Err(error) => Peer::Unavailable(format!("its appliance has no kernel: {error:#}")),
    };
    let qemu_nbd = match Path::new("/dev/nbd0").exists() {
        true => peer("qemu-nbd", "qemu-utils", runs, || qemu_nbd(&disk, dir.path())),
        false => Peer::Unavailable("there is no /dev/nbd0 here; next: modprobe nbd, as root".into()),
    };
    Ok(Comparison { ours: mine, guestfish, qemu_nbd })
}

/// libguestfs makes its appliance of the host's own kernel; a container has none.
fn appliance_kernel() -> anyhow::Result<()> {
    let kernel = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("vmlinuz");
    if std::fs::read_dir("/boot").is_ok_and(|entries| entries.flatten().any(kernel)) {
        return Ok(());
    }
    host_tools::install(&["linux-image-cloud-amd64"], false)
}

/// This program as release build; built now where this one is not.
fn release_program() -> anyhow::Result<PathBuf> {
    if !cfg!(debug_assertions) {
        return std::env::current_exe().context("finding this program");
    }
    eprintln!("building the release program");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--locked", "--package", "xtask"])
        .current_dir(host_tools::workspace())
        .status()
        .context("cannot start cargo")?;
    anyhow::ensure!(
        status.success(),
        "the release program does not build; try `cargo build --release -p xtask`"
    );
    Ok(host_tools::workspace().join("target/release/xtask"))
}

fn ours(program: &Path, disk: &Path) -> anyhow::Result<Duration> {
    let mut command = Command::new(program);
    command.arg("inspect").arg(disk).arg("--json");
    timed(&mut command, |said| {
        let report: serde_json::Value = serde_json::from_str(said)?;
        let records = report.pointer("/system/system_log/records").and_then(serde_json::Value::as_u64);
        anyhow::ensure!(records.is_some_and(|n| n > 0), "inspect did not read the log: {said:.400}");
        Ok(())
    })
}

fn peer(program: &str, package: &'static str, runs: u32, run: impl Fn() -> anyhow::Result<Duration>) -> Peer {
    if find(program).is_none()
        && let Err(error) = host_tools::install(&[package], false)
    {
        return Peer::Unavailable(format!(
            "{program} is missing, and {package} cannot be installed: {error:#}"
        ));
    }
    let measured = (0..runs).map(|n| {
        eprintln!("{program}: {} of {runs}", n + 1);
        run()
    });
    match measured.collect::<anyhow::Result<Vec<_>>>() {
        Ok(times) => Peer::Measured(times),
        Err(error) => Peer::Unavailable(format!("{error:#}")),
    }
}

fn guestfish(disk: &Path, dir: &Path, kvm: bool) -> anyhow::Result<Duration> {
    let mut command = Command::new("guestfish");
    command.arg("--ro").arg("--format=qcow2").arg("-a").arg(disk).args([
        "run",
        ":",
        "mount-ro",
        "/dev/sda1",
        "/",
    ]);
    for (number, file) in FILES.iter().enumerate() {
        let out = dir.join(format!("copy{number}"));
        command.args([":", "download", &format!("/{file}")]).arg(out);
    }
    command.args([":", "exists", "/hiberfil.sys", ":", "exists", "/Windows/WinSxS/pending.xml"]);
    command.env("LIBGUESTFS_BACKEND", "direct");
    if !kvm {
        // It takes KVM wherever the device opens, and then waits for ever where KVM is broken.
        command.env("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg");
    }
    timed(&mut command, |_| copied(dir))
}

/// The device is attached and mounted in one shell, and given back by it whatever happens.
fn qemu_nbd(disk: &Path, dir: &Path) -> anyhow::Result<Duration> {
    let script = r#"set -e
trap 'umount "$2/nbd" 2>/dev/null; qemu-nbd -q -d /dev/nbd0 >/dev/null' EXIT
mkdir -p "$2/nbd"
qemu-nbd -r -f qcow2 -c /dev/nbd0 "$1"
partprobe /dev/nbd0 2>/dev/null || blockdev --rereadpt /dev/nbd0
ntfs-3g -o ro /dev/nbd0p1 "$2/nbd"
n=0; shift 2; for file in "$@"; do cp "$OUT/nbd/$file" "$OUT/copy$n"; n=$((n+1)); done"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(disk).arg(dir).args(FILES).env("OUT", dir);
    timed(&mut command, |_| copied(dir))
}

/// Whether a peer has read what it was to read.
fn copied(dir: &Path) -> anyhow::Result<()> {
    for number in 0..FILES.len() {
        let copy = dir.join(format!("copy{number}"));
        let size =
            std::fs::metadata(&copy).with_context(|| format!("{} was not copied", copy.display()))?.len();
        anyhow::ensure!(size > 4096, "{} has {size} bytes only", copy.display());
        std::fs::remove_file(copy)?;
    }
    Ok(())
}

/// Runs a command to its end and checks what came of it; the check is not part of the time.
fn timed(command: &mut Command, check: impl FnOnce(&str) -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let name = command.get_program().to_string_lossy().into_owned();
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    let time = began.elapsed();
    let error = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{name} ended with {}: {}", output.status, error.trim());
    check(&String::from_utf8_lossy(&output.stdout))?;
    Ok(time)
}
