//! S3 and S4, both real: the kernel writes the ACPI sleep type, and QEMU tells SUSPEND or SUSPEND_DISK.
//!
//! S4 is Linux hibernation into a partition of the system disk, where Windows uses C:\hiberfil.sys; the next
//! boot finds the image there and goes on with it ([`resume_if_hibernated`]). The file is modelled: it holds
//! no memory, only the first four bytes that Windows writes, which is what tools look at.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use softoff_guest_protocol::probe::ProbeEvent;

use crate::{block, log, volume, wine};

/// A sleep state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Suspend to RAM.
    S3,
    /// Suspend to disk.
    S4,
}

impl State {
    /// Its name in probe lines and on the control channel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::S3 => "s3",
            State::S4 => "s4",
        }
    }
}

/// Where the kernel marks a swap area, and how it marks one that holds an image (kernel/power/swap.c).
const MARK_AT: u64 = 4096 - 10;
const HIBERNATED: &[u8; 10] = b"S1SUSPEND\0";

/// At most this many bytes go to the disk; the kernel frees caches to keep to it. The partition has 512 MiB.
const IMAGE_BYTES: &str = "314572800";

/// What Windows keeps in hiberfil.sys: a live image, and one that was resumed from (ntfs-3g, and Windows exports).
const LIVE: &[u8; 4] = b"HIBR";
const RESUMED: &[u8; 4] = b"wake";

/// Sleeps, and returns when the machine is back (or could not sleep). The probe lines are written here, whoever
/// asked.
pub(crate) fn sleep(state: State) -> anyhow::Result<()> {
    log::probe(ProbeEvent::Suspending { state: state.name().to_owned() });
    // The last line shall not wait in the port until the machine is back.
    log::drain();
    match state {
        State::S3 => suspend(),
        State::S4 => hibernate(),
    }?;
    log::probe(ProbeEvent::Resumed { state: state.name().to_owned() });
    Ok(())
}

fn suspend() -> anyhow::Result<()> {
    // The kernel would sync first, and ntfs3 takes the dirty mark off the volume with a sync: a machine whose
    // plug is pulled while it sleeps would look cleanly shut down.
    let _ = std::fs::write("/sys/power/sync_on_suspend", "0");
    std::fs::write("/sys/power/state", "mem").context("the kernel refused S3")
}

fn hibernate() -> anyhow::Result<()> {
    let device = block::hibernation_partition().context("the system disk has no hibernation partition")?;
    mark_hiberfil(LIVE)?;
    let slept = hibernate_to(&device);
    mark_hiberfil(RESUMED)?;
    // The kernel synced on its way to sleep, and ntfs3 took the dirty mark away with it.
    volume::mark_in_use();
    slept
}

fn hibernate_to(device: &Path) -> anyhow::Result<()> {
    let area = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: the kernel reads a zero-ended path, which lives through the call.
    Errno::result(unsafe { libc::swapon(area.as_ptr(), 0) })
        .with_context(|| format!("cannot use {} as swap", device.display()))?;
    let slept = std::fs::write("/sys/power/image_size", IMAGE_BYTES)
        .and_then(|()| std::fs::write("/sys/power/disk", "platform"))
        .and_then(|()| std::fs::write("/sys/power/state", "disk"))
        .context("the kernel refused S4");
    // Back from sleep, or refused: the area is for sleeping only. A running guest never swaps.
    // SAFETY: as above.
    if let Err(error) = Errno::result(unsafe { libc::swapoff(area.as_ptr()) }) {
        log::trouble(&format!("{} stays in use as swap: {error}", device.display()));
    }
    slept
}

fn mark_hiberfil(mark: &[u8; 4]) -> anyhow::Result<()> {
    let mut block = [0u8; 4096];
    if let Some(head) = block.first_chunk_mut() {
        *head = *mark;
    }
    let path = Path::new(wine::DRIVE_C).join("hiberfil.sys");
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&block))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// In the initial RAM disk: gives the machine to the image of a hibernated one, if there is one. Returns where
/// there is none, or where the kernel does not want it.
pub(crate) fn resume_if_hibernated() {
    let Some(device) = block::hibernation_partition() else { return };
    match is_hibernated(&device) {
        Ok(false) => {}
        Ok(true) => {
            log::say("resuming from the hibernation image");
            if let Err(error) = resume(&device) {
                log::trouble(&format!("the hibernation image was not resumed from: {error:#}"));
            }
        }
        Err(error) => log::say(&format!("cannot read {}: {error}", device.display())),
    }
}

fn is_hibernated(area: &Path) -> std::io::Result<bool> {
    let mut file = File::open(area)?;
    file.seek(SeekFrom::Start(MARK_AT))?;
    let mut mark = [0u8; 10];
    file.read_exact(&mut mark)?;
    Ok(&mark == HIBERNATED)
}

fn resume(device: &Path) -> anyhow::Result<()> {
    let name = device.file_name().and_then(|n| n.to_str()).context("the device has no name")?;
    let number = std::fs::read_to_string(format!("/sys/class/block/{name}/dev"))?;
    std::fs::write("/sys/power/resume", number.trim())?;
    anyhow::bail!("the kernel went on booting")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_mark_means_hibernated() {
        let dir = tempfile::tempdir().unwrap();
        for (mark, hibernated) in [(&b"S1SUSPEND\0"[..], true), (b"SWAPSPACE2", false)] {
            let path = dir.path().join("area");
            let mut bytes = vec![0u8; 4086];
            bytes.extend_from_slice(mark);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(is_hibernated(&path).unwrap(), hibernated);
        }
        std::fs::write(dir.path().join("short"), "x").unwrap();
        assert!(is_hibernated(&dir.path().join("short")).is_err());
    }
}
