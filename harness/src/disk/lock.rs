//! Is a disk image held by a QEMU that runs?
//!
//! QEMU marks what it does to an image file by read locks on single bytes of it (`block/file-posix.c`): byte
//! 100 + n says "I use permission n", byte 200 + n "I let nobody else use permission n"; n is a BLK_PERM_* bit of
//! `include/block/block-common.h`. They are "open file description" locks, so that who holds them cannot be
//! told, and asking (F_OFD_GETLK) takes none.

use std::fs::File;
use std::io;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// RAW_LOCK_PERM_BASE.
const USES: i64 = 100;
/// BLK_PERM_WRITE is bit 1, BLK_PERM_WRITE_UNCHANGED bit 2 and BLK_PERM_RESIZE bit 3.
const WRITING: std::ops::RangeInclusive<i64> = 1..=3;

/// Whether a process has the file open as an image that it writes to.
pub fn is_written(file: &File) -> io::Result<bool> {
    for bit in WRITING {
        if is_locked(file, USES + bit, 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether any lock at all is on the file: a QEMU reads or writes it, or another program has it to itself.
pub fn is_held(file: &File) -> io::Result<bool> {
    is_locked(file, 0, 0)
}

/// Whether a byte range has a lock that is not ours; a length of 0 reaches to the end.
fn is_locked(file: &File, start: i64, length: i64) -> io::Result<bool> {
    // SAFETY: all-zero bytes are a valid `flock`: a struct of integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    (lock.l_start, lock.l_len) = (start, length);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(lock.l_type != libc::F_UNLCK as i16)
}
