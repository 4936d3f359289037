//! A disk image in memory, for readers that want a file.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};
use softoff_harness::disk::{DiskImage, ImageFormat};

/// A file without a name.
pub struct Memory(File);

impl Memory {
    pub fn new() -> Memory {
        Memory(memfd_create(c"disk", MFdFlags::MFD_CLOEXEC).expect("memory").into())
    }

    /// Makes these bytes the file's content, and the disk `size` bytes long.
    pub fn set(&self, bytes: &[u8], size: u64) {
        self.0.set_len(0).expect("cut");
        self.0.set_len(size).expect("grow");
        self.0.write_all_at(bytes, 0).expect("write");
    }

    /// Changes bytes of it.
    pub fn patch(&self, bytes: &[u8], at: u64) {
        self.0.write_all_at(bytes, at).expect("write");
    }

    pub fn open(&self) -> Option<DiskImage> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        DiskImage::open_as(&path, ImageFormat::Raw).ok()
    }
}
