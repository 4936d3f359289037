//! COM1, shared by several programs that each write whole lines.
//!
//! In Windows a COM port is exclusive: while one program has it open, others get ERROR_ACCESS_DENIED. So every
//! line opens the port, writes, and closes it, under a named mutex; should a stranger hold the port, opening is
//! tried again for a while.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, WAIT_ABANDONED, WAIT_OBJECT_0};
use windows_sys::Win32::Security::{
    InitializeSecurityDescriptor, PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES, SECURITY_DESCRIPTOR,
    SetSecurityDescriptorDacl,
};
use windows_sys::Win32::Storage::FileSystem::FILE_SHARE_READ;
use windows_sys::Win32::System::SystemServices::SECURITY_DESCRIPTOR_REVISION;
use windows_sys::Win32::System::Threading::{CreateMutexW, ReleaseMutex, WaitForSingleObject};

use crate::report::Reporter;
use crate::win32::{uptime, wide};

/// Names a plain file that takes the lines instead of COM1: a test door, for runs without a serial port.
pub const FILE_VARIABLE: &str = "SOFTOFF_COM1";
const PORT: &str = r"\\.\COM1";
const MUTEX: &str = r"Global\SoftoffCom1";
/// A line of 4096 bytes takes 0.36 s at 115200 baud; this leaves room for a queue of other programs.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reporter to COM1 (or to the file that `SOFTOFF_COM1` names).
pub fn reporter(source: &str) -> Reporter {
    let file = std::env::var(FILE_VARIABLE).ok().filter(|path| !path.is_empty());
    let path = file.unwrap_or_else(|| PORT.to_owned());
    let lock = Lock::new();
    Reporter::new(source, uptime, Box::new(move |line| lock.during(|| write_line(&path, line).is_ok())))
}

fn write_line(path: &str, line: &[u8]) -> std::io::Result<()> {
    let mut port = open(path)?;
    port.write_all(line)?;
    // FlushFileBuffers waits until the bytes have left; where a port cannot tell, they are on their way anyhow.
    port.sync_data().ok();
    Ok(())
}

fn open(path: &str) -> std::io::Result<File> {
    let started = Instant::now();
    loop {
        let opened = if path.starts_with(r"\\.\") {
            OpenOptions::new().write(true).share_mode(0).open(path)
        } else {
            OpenOptions::new().append(true).create(true).share_mode(FILE_SHARE_READ).open(path)
        };
        match opened {
            // Nothing tells when another program closes the port, so this has to look again.
            Err(error) if busy(&error) && started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// ERROR_ACCESS_DENIED (a COM port) or ERROR_SHARING_VIOLATION (a file).
fn busy(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied || error.raw_os_error() == Some(32)
}

/// The named mutex. Without it (creation failed), writers rely on the port being exclusive.
struct Lock(HANDLE);

// SAFETY: a mutex handle may be used from any thread; it is owned by the thread that waits and releases.
unsafe impl Send for Lock {}

impl Lock {
    /// Opens or makes the mutex. Everyone may use it: a service (LocalSystem) must not lock out the programs of
    /// the logged-on user, which the default protection of an object made by LocalSystem would do.
    fn new() -> Lock {
        let name = wide(MUTEX);
        let mut descriptor = SECURITY_DESCRIPTOR::default();
        let pointer: PSECURITY_DESCRIPTOR = (&raw mut descriptor).cast();
        // SAFETY: descriptor, attributes and name outlive the calls; an empty (null) access list is allowed.
        unsafe {
            InitializeSecurityDescriptor(pointer, SECURITY_DESCRIPTOR_REVISION);
            SetSecurityDescriptorDacl(pointer, 1, std::ptr::null(), 0);
            let attributes = SECURITY_ATTRIBUTES {
                nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
                lpSecurityDescriptor: pointer,
                bInheritHandle: 0,
            };
            Lock(CreateMutexW(&raw const attributes, 0, name.as_ptr()))
        }
    }

    fn during(&self, work: impl FnOnce() -> bool) -> bool {
        // SAFETY: waiting on and releasing this handle is sound; a null handle makes the wait fail at once.
        let owned = unsafe { WaitForSingleObject(self.0, PATIENCE.as_millis() as u32) };
        let done = work();
        if owned == WAIT_OBJECT_0 || owned == WAIT_ABANDONED {
            // SAFETY: this thread owns the mutex.
            unsafe { ReleaseMutex(self.0) };
        }
        done
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: the handle is closed once, here.
        unsafe { CloseHandle(self.0) };
    }
}
