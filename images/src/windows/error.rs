//! Why an image is not built.

use std::path::PathBuf;

use softoff_harness::image::Sha256Hex;

use super::media::Lacks;
use super::stuck::Stuck;
use crate::answer::AnswerError;

/// What stands against a build. Up to [`BuildError::Stuck`] nothing has been booted.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A medium that was named is not there.
    #[error("{option} names {}, which is no file; the usual name is {usual}", path.display())]
    NoMedium {
        /// What was named.
        path: PathBuf,
        /// By which option.
        option: &'static str,
        /// What the file is usually called.
        usual: String,
    },
    /// A disc cannot be read.
    #[error("{} cannot be read as a disc: {why}", path.display())]
    NotADisc {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        why: String,
    },
    /// The installation disc is another one.
    #[error(
        "{} is not the disc that {whose} names: its SHA-256 is {found}, not {wanted} ({bytes} bytes{}); next: download it \
         again, or, if you trust this one, say so with --iso-sha256 {found}", iso.display(), expected(*expected_bytes)
    )]
    WrongDigest {
        /// The file.
        iso: PathBuf,
        /// Its digest.
        found: Sha256Hex,
        /// The digest on record.
        wanted: Sha256Hex,
        /// Whose record.
        whose: &'static str,
        /// Its size.
        bytes: u64,
        /// The size on record.
        expected_bytes: Option<u64>,
    },
    /// No drivers' disc was named.
    #[error(
        "{name} needs virtio drivers; next: download virtio-win.iso (the stable one of the virtio-win project) and name it \
         with --virtio-win"
    )]
    NoDriverDisc {
        /// The system.
        name: String,
    },
    /// The drivers' disc lacks something.
    #[error(
        "{} has no {folder}; next: take a newer virtio-win.iso: an older one does not know newer systems", disc.display()
    )]
    NoDriver {
        /// The disc.
        disc: PathBuf,
        /// What it lacks.
        folder: String,
    },
    /// The disk would be too small.
    #[error(
        "a disk of {wanted} GiB is too small: {name} needs {least} GiB; next: --disk-gib {least} or more"
    )]
    DiskTooSmall {
        /// The system.
        name: String,
        /// What was asked for, GiB.
        wanted: u32,
        /// What it needs, GiB.
        least: u32,
    },
    /// The host has not enough room.
    #[error(
        "{} has {free_gib} GiB free, and the installation may need {needed_gib}; next: free some, or set SOFTOFF_CACHE to a \
         folder elsewhere", folder.display()
    )]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// What is free, GiB.
        free_gib: u64,
        /// What may be needed, GiB.
        needed_gib: u64,
    },
    /// Programs or files of the host are missing.
    #[error("{lacks}; next: apt-get install --no-install-recommends {}", lacks.packages().join(" "))]
    HostLacks {
        /// What is missing.
        lacks: Lacks,
    },
    /// The disc of a system that brings its own answers has none.
    #[error(
        "{} has no unattend.inf: it is no boot CD of ReactOS; next: take its bootcd-*.iso", disc.display()
    )]
    NotABootCd {
        /// The disc.
        disc: PathBuf,
    },
    /// The system cannot be installed by this firmware.
    #[error("{name} is installed with {}", known.join(" or "))]
    Firmware {
        /// The system.
        name: String,
        /// What it can.
        known: Vec<String>,
    },
    /// That is for a Windows.
    #[error("{name} is no Windows, and {option} means nothing to it")]
    NotAWindows {
        /// The system.
        name: String,
        /// What was asked for.
        option: &'static str,
    },
    /// Another process builds this image.
    #[error("another process builds this image in {}; next: wait for it", folder.display())]
    Busy {
        /// Where.
        folder: PathBuf,
    },
    /// The answer file cannot be written.
    #[error(transparent)]
    Answers(#[from] AnswerError),
    /// The installation came to a stand.
    #[error("{0}")]
    Stuck(Box<Stuck>),
    /// Something else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

fn expected(bytes: Option<u64>) -> String {
    bytes.map_or(String::new(), |bytes| format!(", {bytes} on record"))
}
