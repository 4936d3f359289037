//! Why a disk could not be read.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::sync::Once;

/// Why a disk image, or something on it, could not be read.
///
/// Everything below the image file was written by a guest and may be damaged or hostile: such bytes end
/// here, as an error, and never in a panic.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The image file itself cannot be opened or read.
    #[error(
        "cannot read disk image {path}: {source}; next: check it with `qemu-img info --backing-chain {path}`"
    )]
    Image {
        /// The image, or the file of its backing chain.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image is of a kind that is not read here.
    #[error("disk image {path} is not usable: {why}")]
    Unsupported {
        /// The image, or the file of its backing chain.
        path: PathBuf,
        /// What about it, and what to do next.
        why: String,
    },
    /// A running QEMU writes to the image, or to a file of its backing chain.
    #[error(
        "disk image {path} is in use: a running QEMU writes to it; next: stop that machine (`fuser {path}` names its process), or ask it while it runs with `cargo xtask diagnose --qmp SOCKET`"
    )]
    InUse {
        /// The file that is held.
        path: PathBuf,
    },
    /// The partition table makes no sense.
    #[error(
        "{path}: the partition table is damaged: {why}; next: look at it with `fdisk -l` on a raw copy (`qemu-img convert -O raw {path} copy.raw`)"
    )]
    PartitionTable {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No partition holds `\Windows\System32\config\SYSTEM`.
    #[error("{path} has no Windows system volume: {}; next: check that this is the guest's system disk", if candidates.is_empty() { "it has no partitions".to_owned() } else { candidates.join("; ") })]
    NoSystemVolume {
        /// The image.
        path: PathBuf,
        /// One sentence for each partition: why it is not the one.
        candidates: Vec<String>,
    },
    /// The NTFS structures are damaged, or are no NTFS at all.
    #[error(
        "{path}: cannot read NTFS at byte {offset} while {doing}: {why}; next: `ntfsfix --no-action` on a raw copy tells more, or restore the image"
    )]
    Ntfs {
        /// The image.
        path: PathBuf,
        /// Where the volume begins on the disk, in bytes.
        offset: u64,
        /// What was being read.
        doing: String,
        /// What is wrong.
        why: String,
    },
    /// A file or folder does not exist on the volume.
    #[error("{path}: no file `{file}` on the volume at byte {offset} (`{missing}` not found)")]
    NotFound {
        /// The image.
        path: PathBuf,
        /// Where the volume begins on the disk, in bytes.
        offset: u64,
        /// The file that was wanted.
        file: String,
        /// The first part of its path that does not exist.
        missing: String,
    },
    /// A file is larger than the caller is ready to hold in memory.
    #[error("{path}: `{file}` has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The image.
        path: PathBuf,
        /// The file.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file is stored in a way that is not read or written here.
    #[error("{path}: `{file}` is {how}, which is not supported; next: {next}")]
    Storage {
        /// The image.
        path: PathBuf,
        /// The file.
        file: String,
        /// Such as `compressed`.
        how: String,
        /// What to do about it.
        next: String,
    },
    /// A registry hive cannot be parsed.
    #[error(
        "{path}: hive `{hive}` is damaged: {why}; next: extract it and look with `hivexsh -d`, or restore the image"
    )]
    Hive {
        /// The image, or the hive's own file.
        path: PathBuf,
        /// Path of the hive on the volume.
        hive: String,
        /// What is wrong.
        why: String,
    },
    /// A key or value does not exist.
    #[error("{path}: hive `{hive}` has no `{wanted}`")]
    NoSuchValue {
        /// The image, or the hive's own file.
        path: PathBuf,
        /// Path of the hive on the volume.
        hive: String,
        /// Key, or key and value.
        wanted: String,
    },
}

impl DiskError {
    /// Whether the wanted file, key or value does not exist (as opposed to: could not be read).
    pub fn is_not_found(&self) -> bool {
        matches!(self, DiskError::NotFound { .. } | DiskError::NoSuchValue { .. })
    }
}

thread_local! {
    /// Whether a panic of this thread is about to become an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of a parser crate on foreign bytes; a panic inside becomes the error text.
///
/// The crates used here check most of what they read, but not all of it: `ntfs` 0.4 indexes and adds
/// without checks in a few places. Nothing that was being changed is used after a panic, and nobody is told of it
/// but by the error: the process' panic hook is left out.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    GUARDED.set(outer);
    done.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("the parser gave up on damaged data ({text})")
    })
}
