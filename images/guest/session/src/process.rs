//! Processes: start, wait, terminate.

use std::ptr::null;
use std::time::{Duration, Instant};

use softoff_guest_probe::win32::{last_error, wide};
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{
    CreateProcessW, INFINITE, OpenProcess, PROCESS_INFORMATION, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE,
    STARTUPINFOW, TerminateProcess, WaitForInputIdle, WaitForSingleObject,
};

/// How long a started program may take until it waits for input.
const IDLE_LIMIT_MS: u32 = 10_000;

/// A handle to another process.
#[derive(Debug)]
pub(crate) struct Process(HANDLE);

// SAFETY: a process handle may be used from any thread.
unsafe impl Send for Process {}

impl Process {
    /// Opens a process; `None` if it has gone.
    pub(crate) fn open(id: u32) -> Option<Process> {
        // SAFETY: no preconditions.
        let handle = unsafe { OpenProcess(PROCESS_SYNCHRONIZE | PROCESS_TERMINATE, 0, id) };
        (!handle.is_null()).then_some(Process(handle))
    }

    /// Waits until it has ended; false if `limit` ran out first.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        // INFINITE is not a limit that a caller can mean.
        let limit = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).min(INFINITE - 1);
        // SAFETY: the handle is open.
        unsafe { WaitForSingleObject(self.0, limit) == WAIT_OBJECT_0 }
    }

    /// Ends it at once, and waits until it has gone (a terminated process is gone within milliseconds).
    pub(crate) fn terminate(&self) -> bool {
        // SAFETY: the handle is open for termination.
        unsafe { TerminateProcess(self.0, 1) };
        self.wait(Duration::from_secs(5))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: closed once.
        unsafe { CloseHandle(self.0) };
    }
}

/// Waits until all have ended; false if `limit` ran out first.
pub(crate) fn wait_for_all(processes: &[Process], limit: Duration) -> bool {
    let started = Instant::now();
    processes.iter().all(|process| process.wait(limit.saturating_sub(started.elapsed())))
}

/// Starts a command line on this desktop.
pub(crate) fn start(command: &str) -> Result<Started, String> {
    let mut line = wide(command);
    let startup = STARTUPINFOW { cb: size_of::<STARTUPINFOW>() as u32, ..Default::default() };
    let mut process = PROCESS_INFORMATION::default();
    // SAFETY: the command line is writable and ends with a zero; both structures outlive the call.
    let started = unsafe {
        CreateProcessW(
            null(),
            line.as_mut_ptr(),
            null(),
            null(),
            0,
            0,
            null(),
            null(),
            &raw const startup,
            &raw mut process,
        )
    };
    if started == 0 {
        return Err(format!("{command}: {}", last_error("CreateProcessW")));
    }
    // SAFETY: closed once.
    unsafe { CloseHandle(process.hThread) };
    Ok(Started(Process(process.hProcess)))
}

/// A program that was just started.
#[derive(Debug)]
pub(crate) struct Started(Process);

impl Started {
    /// Waits until its first window waits for input. A program without windows is not waited for.
    pub(crate) fn wait_until_idle(&self) {
        // SAFETY: the handle is open.
        unsafe { WaitForInputIdle((self.0).0, IDLE_LIMIT_MS) };
    }
}
