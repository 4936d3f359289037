//! The applications of the session: their windows, asked and told.

use std::collections::BTreeSet;
use std::time::Duration;

use softoff_guest_probe::report::Reporter;
use softoff_guest_probe::win32::from_wide;
use softoff_guest_protocol::probe::ProbeEvent;
use windows_sys::Win32::Foundation::{HWND, LPARAM};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    EnumWindows, GWL_EXSTYLE, GetDesktopWindow, GetWindowLongPtrW, GetWindowTextW, GetWindowThreadProcessId,
    IsWindowVisible, SMTO_NORMAL, SendMessageTimeoutW, SendNotifyMessageW, WM_ENDSESSION, WM_QUERYENDSESSION,
    WS_EX_TOOLWINDOW,
};

use crate::flow::{Answer, Asked, Terminate};
use crate::policy::Limits;
use crate::process::{Process, wait_for_all};

/// How long a program that has handled WM_ENDSESSION may take to end by itself. Windows promises no time at all:
/// "the session can end any time after all applications have returned from processing this message".
const AFTER_END: Duration = Duration::from_secs(1);

/// A top-level window of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AppWindow {
    /// The HWND.
    handle: usize,
    title: String,
    process: u32,
}

impl AppWindow {
    fn hwnd(&self) -> HWND {
        self.handle as HWND
    }
}

/// The visible top-level windows of other processes on this desktop, from top to bottom. Not among them: tool
/// windows, and the windows of the process that owns the desktop itself (explorer and its task bar).
fn windows() -> Vec<AppWindow> {
    let mut found: Vec<AppWindow> = Vec::new();
    // SAFETY: `collect` gets the address of `found`, which outlives the call.
    unsafe { EnumWindows(Some(collect), (&raw mut found) as LPARAM) };
    // SAFETY: the desktop window always exists.
    let desktop = process_of(unsafe { GetDesktopWindow() });
    let own = std::process::id();
    found.retain(|window| window.process != own && window.process != desktop);
    found
}

unsafe extern "system" fn collect(window: HWND, found: LPARAM) -> i32 {
    // SAFETY: `found` is the address that `windows` gave; a window that has gone meanwhile makes the calls
    // return nothing.
    let (found, visible, style) = unsafe {
        (
            &mut *(found as *mut Vec<AppWindow>),
            IsWindowVisible(window) != 0,
            GetWindowLongPtrW(window, GWL_EXSTYLE) as u32,
        )
    };
    if visible && style & WS_EX_TOOLWINDOW == 0 {
        found.push(AppWindow {
            handle: window as usize,
            title: title_of(window),
            process: process_of(window),
        });
    }
    1
}

/// The title comes from the window manager, not from the program: it works for a hung window, too.
fn title_of(window: HWND) -> String {
    let mut title = [0u16; 256];
    // SAFETY: the length is that of the buffer.
    unsafe { GetWindowTextW(window, title.as_mut_ptr(), title.len() as i32) };
    from_wide(&title)
}

fn process_of(window: HWND) -> u32 {
    let mut process = 0;
    // SAFETY: `process` is valid for writing.
    unsafe { GetWindowThreadProcessId(window, &raw mut process) };
    process
}

/// Sends a message and waits for the answer, at most for `limit`; `None` if there was none.
fn send(window: &AppWindow, message: u32, wparam: usize, limit: Duration) -> Option<usize> {
    let mut answer = 0usize;
    let limit = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: `answer` is valid for writing; a window that has gone makes the call fail.
    let sent = unsafe {
        SendMessageTimeoutW(window.hwnd(), message, wparam, 0, SMTO_NORMAL, limit, &raw mut answer)
    };
    (sent != 0).then_some(answer)
}

/// Asks every window, one after the other as Windows does, and reports each question and answer.
pub(crate) fn query(limits: Limits, reporter: &Reporter) -> Vec<Asked> {
    let ask = |window: AppWindow| {
        reporter
            .report(ProbeEvent::QueryEndSession { window: window.title.clone(), window_pid: window.process });
        let answer = match send(&window, WM_QUERYENDSESSION, 0, limits.hung_app) {
            Some(0) => Answer::Refuses,
            Some(_) => Answer::Agrees,
            // A window that has closed meanwhile does not answer, but does not block either.
            None if process_of(window.hwnd()) == 0 => Answer::Agrees,
            None => Answer::Silent,
        };
        reporter.report(ProbeEvent::QueryEndSessionAnswer {
            window: window.title.clone(),
            answer: answer.word().to_owned(),
        });
        Asked { title: window.title, process: window.process, answer }
    };
    windows().into_iter().map(ask).collect()
}

/// Tells every window that the session goes on, without waiting for anyone.
pub(crate) fn release() {
    for window in windows() {
        // SAFETY: a window that has gone makes the call fail.
        unsafe { SendNotifyMessageW(window.hwnd(), WM_ENDSESSION, 0, 0) };
    }
}

/// Ends the applications: the named ones at once, the others by WM_ENDSESSION and, where that does not help
/// within WaitToKillAppTimeout, at once as well.
pub(crate) fn end(terminate: &Terminate, limits: Limits, reporter: &Reporter) {
    let all = windows();
    let processes: BTreeSet<u32> = all.iter().map(|window| window.process).collect();
    let at_once = |process: &u32| match terminate {
        Terminate::All => true,
        Terminate::Only(these) => these.contains(process),
    };
    let (victims, others): (Vec<u32>, Vec<u32>) = processes.into_iter().partition(at_once);
    for process in victims {
        terminate_one(process, reporter);
    }
    // Handles are opened before the message goes out: a process id may be used again once its owner has ended.
    let open: Vec<(u32, Process)> =
        others.into_iter().filter_map(|id| Process::open(id).map(|process| (id, process))).collect();
    for (id, process) in open {
        let told = all.iter().filter(|window| window.process == id);
        let answered =
            told.map(|window| send(window, WM_ENDSESSION, 1, limits.kill_app)).all(|answer| answer.is_some());
        let patience = if answered { AFTER_END } else { Duration::ZERO };
        if !process.wait(patience) && !process.terminate() {
            reporter.trouble(format!("process {id} did not end when it was terminated"));
        }
    }
}

fn terminate_one(id: u32, reporter: &Reporter) {
    if let Some(process) = Process::open(id)
        && !process.terminate()
    {
        reporter.trouble(format!("process {id} did not end when it was terminated"));
    }
}

/// Waits for the blocking processes to end by themselves; false if `limit` ran out first.
pub(crate) fn wait_for_blockers(processes: &[u32], limit: Duration) -> bool {
    let open: Vec<Process> = processes.iter().filter_map(|id| Process::open(*id)).collect();
    wait_for_all(&open, limit)
}
