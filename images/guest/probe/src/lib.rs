//! What the guest's Win32 programs share, and the probe's own parts.
//!
//! * [`arguments`]: the command line of `probe.exe`.
//! * [`report`]: probe lines to COM1, without ever holding up the thread that reports.
//! * [`win32`]: strings, fonts and errors for Win32 calls (Windows only).
//!
//! `probe.exe` runs in the reference guest (Wine) and in real Windows from Server 2016 on, so it uses nothing
//! but documented Win32 calls. `session.exe` belongs to the reference guest alone.

pub mod arguments;
pub mod report;
#[cfg(windows)]
pub mod serial;
#[cfg(windows)]
pub mod win32;
