//! Disks by the serial number that the machine's command line gave them: the order of `/dev/vd*` is none.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Probing a virtio disk takes milliseconds; a machine without the disk shall say so soon.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the disk with this serial and gives its device name, such as `vda`.
pub(crate) fn disk(serial: &str) -> anyhow::Result<String> {
    let begun = Instant::now();
    loop {
        if let Some(name) = find(Path::new("/sys/block"), serial) {
            return Ok(name);
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "no disk with serial `{serial}` came up within {} s; attach one with virtio-blk-pci,serial={serial}",
            PATIENCE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn find(sys_block: &Path, serial: &str) -> Option<String> {
    std::fs::read_dir(sys_block).ok()?.flatten().find_map(|entry| {
        let found = std::fs::read_to_string(entry.path().join("serial")).ok()?;
        (found.trim() == serial).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

/// The device of a whole disk.
pub(crate) fn device(serial: &str) -> anyhow::Result<PathBuf> {
    Ok(Path::new("/dev").join(disk(serial)?))
}

/// The partition that holds C: the largest one, as on any disk that Windows setup made.
pub(crate) fn system_partition() -> anyhow::Result<PathBuf> {
    let disk = disk("system")?;
    let name = largest_partition(&Path::new("/sys/block").join(&disk), &disk)
        .with_context(|| format!("the system disk {disk} has no partition"))?;
    Ok(Path::new("/dev").join(name))
}

/// Name of the partition for the hibernation image, as the image builder writes it into the partition table.
const HIBERNATION: &str = "Softoff hibernation";

/// The partition that S4 writes to; `None` where the disk has none.
pub(crate) fn hibernation_partition() -> Option<PathBuf> {
    let sys = Path::new("/sys/block");
    let disk = find(sys, "system")?;
    named_partition(&sys.join(&disk), HIBERNATION).map(|name| Path::new("/dev").join(name))
}

/// The kernel gives the name in the GPT as a line of the partition's `uevent`.
fn named_partition(sys_disk: &Path, name: &str) -> Option<String> {
    let line = format!("PARTNAME={name}");
    std::fs::read_dir(sys_disk).ok()?.flatten().find_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("uevent")).ok()?;
        text.lines().any(|l| l == line).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

fn largest_partition(sys_disk: &Path, disk: &str) -> Option<String> {
    let entries = std::fs::read_dir(sys_disk).ok()?.flatten();
    let sized = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = std::fs::read_to_string(entry.path().join("size")).ok()?;
        name.starts_with(disk).then_some((size.trim().parse::<u64>().ok()?, name))
    });
    sized.max().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_told_apart_by_serial_and_partitions_by_size() {
        let sys = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("vda/serial", "root"),
            ("vda/size", "10"),
            ("vdb/serial", "system\n"),
            ("vdb/vdb1/size", "32768\n"),
            ("vdb/vdb2/size", "2000000\n"),
            ("vdb/queue/size", "99999999"),
            ("vdb/uevent", "DISKSEQ=2\n"),
            ("vdb/vdb2/uevent", "PARTN=2\nPARTNAME=Basic data partition\n"),
            ("vdb/vdb3/uevent", "PARTN=3\nPARTNAME=Softoff hibernation\n"),
        ] {
            let path = sys.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        assert_eq!(find(sys.path(), "system").as_deref(), Some("vdb"));
        assert_eq!(find(sys.path(), "absent"), None);
        assert_eq!(largest_partition(&sys.path().join("vdb"), "vdb").as_deref(), Some("vdb2"));
        assert_eq!(named_partition(&sys.path().join("vdb"), HIBERNATION).as_deref(), Some("vdb3"));
        assert_eq!(named_partition(&sys.path().join("vdb"), "Basic data"), None);
    }
}
