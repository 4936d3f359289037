//! A lock on a file (flock): one process at a time, and the kernel gives it back however its holder ends.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A lock that is held until this is dropped.
///
/// Dropping unlocks, and does not only close: a program that another thread starts holds a copy of the open file between
/// fork and exec, and with it a lock that was only closed (seen once, in a test program whose other
/// tests start programs).
#[derive(Debug)]
pub struct FileLock {
    _flock: Flock<File>,
}

impl FileLock {
    /// Takes the lock on the file at `path`, which is made when it is not there; `None` when somebody else holds it.
    pub fn take(path: &Path) -> io::Result<Option<FileLock>> {
        lock(open(path)?, FlockArg::LockExclusiveNonblock)
    }

    /// The same for a file that must be there.
    pub fn take_existing(path: &Path) -> io::Result<Option<FileLock>> {
        lock(File::open(path)?, FlockArg::LockExclusiveNonblock)
    }

    /// Takes it when everybody else has given it back.
    pub fn wait(path: &Path) -> io::Result<FileLock> {
        let never = || io::Error::other("a lock that was waited for did not come");
        lock(open(path)?, FlockArg::LockExclusive)?.ok_or_else(never)
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

fn lock(file: File, how: FlockArg) -> io::Result<Option<FileLock>> {
    match Flock::lock(file, how) {
        Ok(flock) => Ok(Some(FileLock { _flock: flock })),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_dropped_lock_is_free_whatever_other_threads_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(FileLock::take_existing(&path).is_err());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // With a closure before exec the standard library forks, and the copy lives a while.
                    let mut program = Command::new("true");
                    // SAFETY: sleeping is async-signal-safe.
                    unsafe {
                        std::os::unix::process::CommandExt::pre_exec(&mut program, || {
                            std::thread::sleep(std::time::Duration::from_millis(2));
                            Ok(())
                        });
                    }
                    program.status().unwrap();
                }
            });
            let mut lost = 0;
            for _ in 0..200 {
                let held = FileLock::take(&path).unwrap();
                lost += usize::from(held.is_none());
                assert!(FileLock::take_existing(&path).unwrap().is_none());
                drop(held);
            }
            done.store(true, Ordering::Relaxed);
            assert_eq!(lost, 0);
        });
        drop(FileLock::wait(&path).unwrap());
    }
}
