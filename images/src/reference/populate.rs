//! Puts files on the system volume, by booting the guest's own kernel on it.
//!
//! The guest's ntfs3 driver writes the volume that it will later mount. PID 1 in its `populate` mode mounts the
//! volume, unpacks the tar archive that lies raw on a second disk, unmounts cleanly and powers off. The host
//! needs neither privileges nor an NTFS driver for it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::volume::Content;
use crate::progress::{Progress, note};
use crate::tools;

/// Boots tried before giving up: under TCG an early kernel panic comes about once in 30 boots.
const TRIES: u32 = 3;

/// 8 s are usual on two cores, 16 s on busy ones.
const DEADLINE: Duration = Duration::from_secs(300);

/// What PID 1 prints when everything is on the volume and the volume is unmounted.
const DONE: &str = "softoff-populate: done";

/// What to boot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boot<'a> {
    /// bzImage.
    pub(crate) kernel: &'a Path,
    /// Initial RAM disk.
    pub(crate) initrd: &'a Path,
    /// `-cpu` value.
    pub(crate) cpu: &'a str,
}

/// The disk that is to be filled.
pub(crate) struct Target<'a> {
    /// Its file.
    pub(crate) path: &'a Path,
    /// Its format, as QEMU names it.
    pub(crate) format: &'static str,
    /// Makes the file as it is before anything is written to it.
    pub(crate) fresh: &'a dyn Fn() -> anyhow::Result<()>,
}

/// Makes the disk and writes the archive's content onto its volume.
pub(crate) fn fill(
    boot: &Boot,
    disk: &Target,
    archive: &Path,
    wanted: &Content,
    progress: &dyn Progress,
) -> anyhow::Result<()> {
    let mut tries = 1;
    loop {
        (disk.fresh)()?;
        match fill_once(boot, disk, archive, wanted) {
            Ok(()) => return Ok(()),
            Err(error) if tries < TRIES => {
                note(progress, format!("try {tries} of {TRIES} did not fill the volume: {error:#}"));
                tries += 1;
                // A half-filled volume is no ground for another try.
                std::fs::remove_file(disk.path)?;
            }
            Err(error) => {
                return Err(error.context(format!("the system volume was not filled in {TRIES} boots")));
            }
        }
    }
}

fn fill_once(boot: &Boot, disk: &Target, archive: &Path, wanted: &Content) -> anyhow::Result<()> {
    let console = disk.path.with_extension("console");
    let mut qemu = tools::command("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "pc", "-accel", "tcg", "-smp", "1", "-m", "512", "-cpu", boot.cpu])
        .arg("-kernel")
        .arg(boot.kernel)
        .arg("-initrd")
        .arg(boot.initrd)
        .args(["-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off softoff.mode=populate"]);
    for (file, format, serial, more) in [
        (disk.path, disk.format, "system", "cache=unsafe,discard=unmap"),
        (archive, "raw", "files", "readonly=on"),
    ] {
        let path = file.to_str().context("the cache's path is not UTF-8")?.replace(',', ",,");
        qemu.arg("-drive").arg(format!("file={path},format={format},if=none,id={serial},{more}"));
        qemu.arg("-device").arg(format!("virtio-blk-pci,drive={serial},serial={serial}"));
    }
    let path = console.to_str().context("the cache's path is not UTF-8")?.replace(',', ",,");
    qemu.arg("-serial").arg(format!("file:{path}")).stdout(Stdio::null()).stderr(Stdio::piped());

    softoff_harness::machine::process::die_with_thread(&mut qemu);
    let mut child = qemu.spawn().context("cannot start qemu-system-x86_64")?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begun.elapsed() > DEADLINE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = String::from_utf8_lossy(&std::fs::read(&console).unwrap_or_default()).into_owned();
    let tail = tools::tail(&said, 12);
    match status {
        None => anyhow::bail!(
            "QEMU did not power off within {} s while it filled {}; console:\n{tail}",
            DEADLINE.as_secs(),
            disk.path.display()
        ),
        Some(status) if !status.success() => {
            let mut errors = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = std::io::Read::read_to_string(&mut stderr, &mut errors);
            }
            anyhow::bail!("QEMU ended with {status}: {}; console:\n{tail}", errors.trim())
        }
        Some(_) => {}
    }
    let found =
        done(&said).with_context(|| format!("the guest powered off without `{DONE}`; console:\n{tail}"))?;
    anyhow::ensure!(found == *wanted, "the volume holds {found:?}, packed were {wanted:?}");
    Ok(())
}

/// Reads `softoff-populate: done files=N folders=N bytes=N`.
fn done(console: &str) -> Option<Content> {
    let line = console.lines().find_map(|line| line.split_once(DONE).map(|(_, rest)| rest))?;
    let field = |name: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    Some(Content { files: field("files")?, folders: field("folders")?, bytes: field("bytes")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::whole("x\n[ 1.0] softoff-populate: done files=3 folders=2 bytes=10\r\n", Some((3, 2, 10)))]
    #[case::cut("softoff-populate: done files=3 fol", None)]
    #[case::other("softoff-populate: failed: no space\n", None)]
    fn the_marker_is_read(#[case] console: &str, #[case] wanted: Option<(u64, u64, u64)>) {
        let wanted = wanted.map(|(files, folders, bytes)| Content { files, folders, bytes });
        assert_eq!(done(console), wanted);
    }
}
