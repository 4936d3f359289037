//! A program that does not want the machine to be shut down, and does what the documentation offers for it.

use std::ptr::{null, null_mut};
use std::time::Duration;

use softoff_guest_probe::report::Reporter;
use softoff_guest_probe::win32::last_error;
use windows_sys::Win32::Foundation::{CloseHandle, ERROR_SUCCESS, GetLastError, HANDLE};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, SE_PRIVILEGE_ENABLED,
    SE_SHUTDOWN_NAME, TOKEN_ADJUST_PRIVILEGES, TOKEN_PRIVILEGES, TOKEN_QUERY,
};
use windows_sys::Win32::System::Shutdown::AbortSystemShutdownW;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

const PERIOD: Duration = Duration::from_secs(1);

/// Calls AbortSystemShutdownW every second, for ever. That there is nothing to abort (the usual answer) is no
/// trouble; that the privilege is missing is.
pub(crate) fn repeat(reporter: &Reporter) -> ! {
    if let Err(why) = take_privilege() {
        reporter.trouble(why);
    }
    loop {
        // SAFETY: null is this machine.
        unsafe { AbortSystemShutdownW(null()) };
        std::thread::sleep(PERIOD);
    }
}

/// Switches on SeShutdownPrivilege, which AbortSystemShutdownW needs.
fn take_privilege() -> Result<(), String> {
    let mut token: HANDLE = null_mut();
    // SAFETY: `token` is valid for writing and closed below; the structures outlive the calls.
    unsafe {
        if OpenProcessToken(GetCurrentProcess(), TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY, &raw mut token) == 0 {
            return Err(last_error("OpenProcessToken"));
        }
        let mut wanted = TOKEN_PRIVILEGES {
            PrivilegeCount: 1,
            Privileges: [LUID_AND_ATTRIBUTES { Attributes: SE_PRIVILEGE_ENABLED, ..Default::default() }],
        };
        let known = LookupPrivilegeValueW(null(), SE_SHUTDOWN_NAME, &raw mut wanted.Privileges[0].Luid) != 0;
        let taken = known
            && AdjustTokenPrivileges(token, 0, &raw const wanted, 0, null_mut(), null_mut()) != 0
            // The call succeeds, too, when it could not give the privilege.
            && GetLastError() == ERROR_SUCCESS;
        let why = last_error("AdjustTokenPrivileges");
        CloseHandle(token);
        if taken { Ok(()) } else { Err(why) }
    }
}
