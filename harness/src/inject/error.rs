//! Why an overlay was not changed.

use std::path::PathBuf;
use std::time::Duration;

use crate::disk::{DiskError, VolumeFlags};

/// What stands against writing to a disk. Nothing has been written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file stands on its own: it may be an image that others build on.
    #[error(
        "it is no overlay (a qcow2 with a backing file); next: `qemu-img create -f qcow2 -F qcow2 -b BASE OVERLAY`, and change that"
    )]
    NotAnOverlay,
    /// The caller listed the file as read-only.
    #[error("it belongs to an image, and images are never changed; next: make an overlay on it")]
    ReadOnly,
    /// Another process, QEMU as a rule, holds a lock on the file. Which one, such a lock does not tell.
    #[error(
        "a process holds a lock on it: the machine is still running; next: stop it first (`fuser` names it)"
    )]
    InUse,
    /// The volume is marked dirty.
    #[error("its NTFS volume is marked dirty, flags {0}; next: boot the guest, let chkdsk run, shut it down")]
    DirtyVolume(VolumeFlags),
    /// The journal was left open: what is replayed from it at the next mount is not on the volume yet.
    #[error(
        "its NTFS journal ($LogFile) was left open: the volume was not dismounted; next: boot the guest and shut it down"
    )]
    OpenJournal,
    /// A hive's logs hold what the hive does not; an edit would lose it.
    #[error("hive `{hive}` is dirty (sequence numbers {sequence_1} and {sequence_2}, checksum {}); next: boot the guest and shut it down", if *checksum_ok { "right" } else { "wrong" })]
    DirtyHive {
        /// Path on the volume.
        hive: String,
        /// Primary sequence number.
        sequence_1: u32,
        /// Secondary sequence number.
        sequence_2: u32,
        /// Whether the base block's checksum is right.
        checksum_ok: bool,
    },
    /// A system is asleep on the disk and has its own idea of the hives in memory.
    #[error(
        "\\hiberfil.sys holds a sleeping system ({0}); next: boot the guest and run `powercfg /h off`, or shut it down with `shutdown /s /f /t 0`"
    )]
    Hibernated(String),
}

/// Why registry values could not be put into an overlay.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The disk must not be written to, or not now.
    #[error("{overlay} is not changed: {refusal}")]
    Refused {
        /// The file.
        overlay: PathBuf,
        /// Why.
        refusal: Refusal,
    },
    /// The disk could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An edit cannot be written down.
    #[error("registry edit `{key}` `{name}` is not possible: {why}")]
    BadEdit {
        /// The key.
        key: String,
        /// The value's name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// hivexregedit cannot be started, or says no.
    #[error("hivexregedit on a copy of `{hive}`: {why}; next: {next}")]
    Tool {
        /// Path of the hive on the volume.
        hive: String,
        /// What happened.
        why: String,
        /// What to do.
        next: String,
    },
    /// hivexregedit did not end.
    #[error(
        "waited {limit:?} for hivexregedit to merge into a copy of `{hive}`, then killed it; it had said: {said:?}; next: look at the hive with `hivexsh`"
    )]
    Timeout {
        /// Path of the hive on the volume.
        hive: String,
        /// How long.
        limit: Duration,
        /// Its error output so far.
        said: String,
    },
    /// The edited hive is longer than the file, whose place on the disk is fixed.
    #[error(
        "hive `{hive}` has no room for the change: it grew from {old} to {new} bytes; next: build the image with zeros behind the hive's last bin, up to a multiple of 256 KiB, as Windows has them"
    )]
    Grew {
        /// Path of the hive on the volume.
        hive: String,
        /// Size of the file.
        old: u64,
        /// Size that it would need.
        new: u64,
    },
    /// What was read back is not what was to be written. The overlay is of no use any more.
    #[error(
        "{overlay}: after writing, `{hive}` is not as intended: {why}; next: delete the overlay, and report this"
    )]
    NotVerified {
        /// The overlay.
        overlay: PathBuf,
        /// Path of the hive on the volume.
        hive: String,
        /// What differs.
        why: String,
    },
    /// A file outside the overlay could not be handled.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
}
