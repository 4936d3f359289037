//! A disk to measure disk readers on: 10 GiB, GPT, NTFS, with a SYSTEM hive and a System log of the size that an
//! installed Windows has.

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use gptman::{GPT, GPTPartitionEntry};
use regf::{DataType, HiveBuilder, KeyTreeNode, KeyTreeValue};
use softoff_guest_eventlog::{FileTime, Log, events};

use crate::reference::{GRANULARITY, SECTOR, TYPE_BASIC_DATA, copy_sparse};
use crate::tools;

/// Size of the virtual disk.
const DISK: u64 = 10 << 30;
/// First sector of the volume.
const START: u64 = 2048;
/// Services in the hive, each with as many keys below it; together some 12 MB.
const SERVICES: u32 = 800;
const KEYS: u32 = 60;
/// Records in the log: about 1 MB.
const RECORDS: u64 = 2400;

/// Makes the disk in `dir` as qcow2 and gives its path. Needs mkntfs, ntfs-3g, unshare and qemu-img.
pub fn build(dir: &Path) -> anyhow::Result<PathBuf> {
    let files = [
        ("Windows/System32/config/SYSTEM", system()?),
        ("Windows/System32/config/SOFTWARE", software()?),
        ("Windows/System32/winevt/Logs/System.evtx", log()?),
    ];
    build_with(dir, DISK, &files)
}

/// The same disk with another size, bytes, and with other files on its volume.
pub fn build_with(dir: &Path, size: u64, files: &[(&str, Vec<u8>)]) -> anyhow::Result<PathBuf> {
    // The last MiB is the backup table's.
    let end = size / SECTOR - 2048 - 1;
    let (raw, volume, tree) = (dir.join("measure.raw"), dir.join("measure.ntfs"), dir.join("tree"));
    for (path, bytes) in files {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&tree)).context("making folders")?;
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }

    File::create(&volume)?.set_len((end - START + 1) * SECTOR)?;
    tools::run(
        tools::command("mkntfs")
            .args(["--force", "--quick", "--quiet", "--cluster-size", "4096", "--sector-size", "512"])
            .args(["--heads", "255", "--sectors-per-track", "63", "--partition-start", &START.to_string()])
            .arg(&volume),
    )?;
    // In a mount namespace (and as a user in a user namespace): nothing of it is seen outside.
    let mount = dir.join("mount");
    std::fs::create_dir_all(&mount)?;
    let namespace = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    let script = r#"ntfs-3g "$1" "$2" && cp -r "$3"/. "$2"/ && umount "$2""#;
    tools::run(
        tools::command("unshare")
            .args([namespace, "--propagation", "unchanged", "sh", "-c", script, "sh"])
            .args([&volume, &mount, &tree])
            .stdin(Stdio::null()),
    )
    .context("filling the volume; /dev/fuse must be readable")?;

    let mut disk = File::options().create_new(true).read(true).write(true).open(&raw)?;
    disk.set_len(size)?;
    let mut table = GPT::new_from(&mut disk, SECTOR, [7; 16])?;
    let (_, entry) = table.iter_mut().next().context("the GPT has no entries")?;
    *entry = GPTPartitionEntry {
        partition_type_guid: TYPE_BASIC_DATA,
        unique_partition_guid: [8; 16],
        starting_lba: START,
        ending_lba: end,
        attribute_bits: 0,
        partition_name: "Basic data partition".into(),
    };
    table.write_into(&mut disk)?;
    GPT::write_protective_mbr_into(&mut disk, SECTOR)?;
    copy_sparse(&volume, &mut disk, START * SECTOR)?;
    drop(disk);
    let out = dir.join("measure.qcow2");
    tools::run(tools::command("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&out))?;
    std::fs::remove_file(&raw)?;
    std::fs::remove_file(&volume)?;
    Ok(out)
}

fn value(node: &mut KeyTreeNode, name: &str, data_type: DataType, data: Vec<u8>) {
    node.values.push(KeyTreeValue { name: name.to_owned(), data_type, data });
}

fn hive(root: KeyTreeNode) -> anyhow::Result<Vec<u8>> {
    let mut bytes = HiveBuilder::from_tree_with_version(root, 1, 5)?.to_bytes()?;
    // Zeros behind the last bin, as an installed Windows has them: room for an edit.
    bytes.resize(bytes.len().next_multiple_of(GRANULARITY), 0);
    Ok(bytes)
}

fn system() -> anyhow::Result<Vec<u8>> {
    let mut root = KeyTreeNode::new("ROOT");
    value(root.get_or_create_path("Select"), "Current", DataType::Dword, vec![1, 0, 0, 0]);
    let control = root.get_or_create_path(r"ControlSet001\Control\Windows");
    value(control, "ShutdownTime", DataType::Binary, vec![0, 0x80, 0x3e, 0xd5, 0xde, 0xb1, 0x9d, 1]);
    for service in 0..SERVICES {
        let node = root.get_or_create_path(&format!(r"ControlSet001\Services\Service{service:04}"));
        value(node, "PreshutdownTimeout", DataType::Dword, 10_000u32.to_le_bytes().to_vec());
        for key in 0..KEYS {
            let below = node.get_or_create_path(&format!("Parameters{key:03}"));
            value(below, "Value", DataType::Binary, vec![7; 40]);
        }
    }
    hive(root)
}

fn software() -> anyhow::Result<Vec<u8>> {
    let mut root = KeyTreeNode::new("ROOT");
    let policies = root.get_or_create_path(r"Microsoft\Windows\CurrentVersion\Policies\System");
    value(policies, "ShutdownWithoutLogon", DataType::Dword, vec![1, 0, 0, 0]);
    hive(root)
}

fn log() -> anyhow::Result<Vec<u8>> {
    let (mut log, _) = Log::open(Cursor::new(Vec::new()))?;
    for number in 0..RECORDS {
        let time = FileTime(133_000_000_000_000_000 + number * 10_000_000);
        log.append(&events::service_timed_out(time, "MEASURE", &format!("Service{number:04}")))?;
    }
    Ok(log.close()?.into_inner())
}
