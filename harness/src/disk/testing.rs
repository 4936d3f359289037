//! Small disks for tests, built by the real tools: mkntfs, ntfs-3g, qemu-img.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use gptman::{GPT, GPTPartitionEntry};
use regf::HiveBuilder;
use tempfile::TempDir;

use super::RegistryValue;

/// First byte of the NTFS partition on the disks of [`gpt_disk`].
pub(crate) const VOLUME_AT: u64 = 2 << 20;
/// Size of that partition in bytes.
pub(crate) const VOLUME_SIZE: u64 = 24 << 20;
const DISK_SIZE: u64 = 32 << 20;

/// Runs a tool; a missing one fails the test with what to install, for a skipped test proves nothing.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("PATH", search_path()).output();
    let output =
        output.unwrap_or_else(|e| panic!("cannot run {program}: {e}; next: apt-get install {package}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// mkntfs is in /usr/sbin, which is not in every user's PATH.
fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A hive with these values (key, name, value), made by the `regf` crate.
pub(crate) fn hive(values: &[(&str, &str, RegistryValue)]) -> Vec<u8> {
    let mut builder = HiveBuilder::new_with_version("ROOT", 5).unwrap();
    for (key, name, value) in values {
        let key = builder.create_key(key).unwrap();
        builder.add_value(key, name, regf::DataType::from(value.kind()), &value.data()).unwrap();
    }
    builder.to_bytes().unwrap()
}

/// The same with zeros behind the last bin, as hives of an installed Windows have them.
pub(crate) fn hive_with_room(values: &[(&str, &str, RegistryValue)]) -> Vec<u8> {
    let mut bytes = hive(values);
    bytes.resize(bytes.len().next_multiple_of(256 << 10), 0);
    bytes
}

pub(crate) use super::hive_log::tests::new_log;
pub(crate) use super::log_file::tests::page as restart_page;

/// Sets the checksum of a hive's base block.
pub(crate) fn base_block_sum(hive: &mut [u8]) {
    let words = hive[..508].as_chunks::<4>().0;
    let sum = words.iter().fold(0, |sum, word| sum ^ u32::from_le_bytes(*word));
    hive[508..512].copy_from_slice(&sum.to_le_bytes());
}

/// A hive with a text put in another's place; both have the same length.
pub(crate) fn change_value(hive: &[u8], from: &str, to: &str) -> Vec<u8> {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let (from, to) = (utf16(from), utf16(to));
    let at = hive.windows(from.len()).position(|bytes| bytes == from).unwrap();
    let mut changed = hive.to_vec();
    changed[at..at + to.len()].copy_from_slice(&to);
    changed
}

/// A System log as the reference guest writes it: some filling, then one of each watched event that its writer
/// knows.
pub(crate) fn event_log(filling: usize) -> Vec<u8> {
    use softoff_guest_eventlog::events::{self, Initiator};
    use softoff_guest_eventlog::{FileTime, Log};
    let time = |n: usize| FileTime(133_000_000_000_000_000 + n as u64 * 10_000_000);
    let computer = "REFERENCE";
    let by = Initiator { process: "winlogon.exe".into(), reason: 0x500ff, kind: "power off" };
    let mut all = vec![events::event_log_started(time(0), computer)];
    all.extend((0..filling).map(|n| events::service_timed_out(time(n), computer, "Filler")));
    let now = time(filling);
    all.extend([
        events::shutdown_initiated(now, computer, &by),
        events::entering_sleep(now, computer, 4),
        events::event_log_stopped(now, computer),
        events::shutdown_transition(now, computer, 6, 5),
        events::unclean_start(now, computer),
        events::unexpected_shutdown(now, time(0), computer),
    ]);
    let (mut log, _) = Log::open(std::io::Cursor::new(Vec::new())).unwrap();
    all.iter().for_each(|event| {
        log.append(event).unwrap();
    });
    log.close().unwrap().into_inner()
}

/// A file of the real samples, unpacked; `None`, and a line that says so, where they are not at hand.
pub(crate) fn sample(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples").join(name);
    if !path.exists() {
        // Straight to standard error: what goes through `println!` is kept back for a test that passes.
        let _nobody_may_listen = writeln!(
            std::io::stderr(),
            "NOT COVERED: the real sample {name} is not at {}; generated hives and logs stand in for it",
            path.display()
        );
        return None;
    }
    if !name.ends_with(".xz") {
        return Some(std::fs::read(&path).unwrap());
    }
    let output = Command::new("xz").arg("-dc").arg(&path).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run xz: {e}; next: apt-get install xz-utils"));
    assert!(output.status.success());
    Some(output.stdout)
}

/// A bare NTFS volume with these files (path with slashes, content).
pub(crate) fn ntfs_volume(dir: &Path, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let (image, mount, tree) = (dir.join("ntfs.raw"), dir.join("mount"), dir.join("tree"));
    File::create(&image).unwrap().set_len(VOLUME_SIZE).unwrap();
    run(
        "mkntfs",
        "ntfs-3g",
        &["-F", "-q", "-Q", "-s", "512", "-p", "4096", "-H", "255", "-S", "63", text(&image)],
    );
    std::fs::create_dir_all(&mount).unwrap();
    for (name, content) in files {
        let path = tree.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    if !files.is_empty() {
        // In a mount namespace (and as a user in a user namespace), so that nothing of it is seen
        // outside, and it goes when the shell goes.
        let namespace = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
        let script = r#"ntfs-3g "$1" "$2" && cp -r "$3"/. "$2"/ && umount "$2""#;
        // Below a plain chroot the root folder is no mount point, and cannot be made private.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let contained = mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"));
        let propagation = if contained { "private" } else { "unchanged" };
        let mut arguments = vec![namespace, "--propagation", propagation, "sh", "-c", script, "sh"];
        arguments.extend([text(&image), text(&mount), text(&tree)]);
        run("unshare", "ntfs-3g util-linux (and make /dev/fuse readable)", &arguments);
    }
    image
}

/// A Windows-like disk, raw: GPT, Microsoft reserved partition, NTFS at [`VOLUME_AT`] with these files.
pub(crate) fn gpt_disk(dir: &Path, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let volume = ntfs_volume(dir, files);
    let path = dir.join("disk.raw");
    let mut disk = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    disk.set_len(DISK_SIZE).unwrap();
    let mut table = GPT::new_from(&mut disk, 512, [7; 16]).unwrap();
    let mut add = |number, id: u8, name: &str, start: u64, length: u64| {
        table[number] = GPTPartitionEntry {
            partition_type_guid: [id; 16],
            unique_partition_guid: [id; 16],
            starting_lba: start / 512,
            ending_lba: (start + length) / 512 - 1,
            attribute_bits: 0,
            partition_name: name.into(),
        };
    };
    add(1, 1, "Microsoft reserved partition", 1 << 20, 1 << 20);
    add(2, 2, "Basic data partition", VOLUME_AT, VOLUME_SIZE);
    GPT::write_protective_mbr_into(&mut disk, 512).unwrap();
    table.write_into(&mut disk).unwrap();
    disk.seek(SeekFrom::Start(VOLUME_AT)).unwrap();
    std::io::copy(&mut File::open(volume).unwrap(), &mut disk).unwrap();
    path
}

/// A disk with a SYSTEM hive, as qcow2 base and an overlay on it: (base, overlay).
pub(crate) fn overlay_disk(dir: &Path, system_hive: Vec<u8>, more: &[(&str, Vec<u8>)]) -> (PathBuf, PathBuf) {
    let mut files = vec![("Windows/System32/config/SYSTEM", system_hive)];
    files.extend_from_slice(more);
    let raw = gpt_disk(dir, &files);
    let (base, overlay) = (dir.join("base.qcow2"), dir.join("overlay.qcow2"));
    run("qemu-img", "qemu-utils", &["convert", "-q", "-O", "qcow2", text(&raw), text(&base)]);
    run(
        "qemu-img",
        "qemu-utils",
        &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", text(&overlay)],
    );
    (base, overlay)
}

/// Changes bytes of a file in place.
pub(crate) fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(bytes).unwrap();
}

/// Sets the flag word in `$MFT` record 3 and nowhere else, as ntfs3 does; `volume_at` is where the volume
/// begins in the raw file.
pub(crate) fn set_volume_flags(raw: &Path, volume_at: u64, flags: u16) {
    let mut file = File::open(raw).unwrap();
    let mut read = |at: u64, length: usize| {
        let mut bytes = vec![0u8; length];
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        bytes
    };
    let boot = read(volume_at, 512);
    let cluster = 512 * u64::from(boot[13]);
    let mft = volume_at + cluster * u64::from_le_bytes(boot[48..56].try_into().unwrap());
    let record = read(mft + 3 * 1024, 1024);
    assert_eq!(&record[..4], b"FILE");
    let mut at = usize::from(u16::from_le_bytes(record[20..22].try_into().unwrap()));
    while record[at..at + 4] != 0x70u32.to_le_bytes() {
        at += u32::from_le_bytes(record[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    let value = at + usize::from(u16::from_le_bytes(record[at + 20..at + 22].try_into().unwrap()));
    patch(raw, mft + 3 * 1024 + value as u64 + 10, &flags.to_le_bytes());
}

/// Counts the memory that each thread holds, so that a test can say what its own code took at most.
pub(crate) mod memory {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static HELD: Cell<isize> = const { Cell::new(0) };
        static PEAK: Cell<isize> = const { Cell::new(0) };
    }

    struct Counting;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    fn count(bytes: isize) {
        // A thread that is ending has no counters any more.
        let _gone = HELD.try_with(|held| {
            held.set(held.get() + bytes);
            PEAK.try_with(|peak| peak.set(peak.get().max(held.get())))
        });
    }

    // SAFETY: everything is done by the system's allocator; counting neither allocates nor panics.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count(layout.size() as isize);
            // SAFETY: the caller's promise is handed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
            count(-(layout.size() as isize));
            // SAFETY: as above.
            unsafe { System.dealloc(place, layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            count(layout.size() as isize);
            // SAFETY: as above.
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // Both may be there for a moment.
            count(size as isize);
            count(-(layout.size() as isize));
            // SAFETY: as above.
            unsafe { System.realloc(place, layout, size) }
        }
    }

    /// What `work` gives, and how many bytes it held at most.
    pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = HELD.get();
        PEAK.set(before);
        let done = work();
        (done, usize::try_from(PEAK.get() - before).unwrap_or(0))
    }
}

/// A scratch folder.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}
