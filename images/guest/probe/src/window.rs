//! The probe window: it shows what it is, and answers the end of the session as told.

use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::time::Duration;

use softoff_guest_probe::arguments::Behaviour;
use softoff_guest_probe::report::Reporter;
use softoff_guest_probe::win32::{fill, font, last_error, wide};
use softoff_guest_protocol::probe::ProbeEvent;
use windows_sys::Win32::Foundation::{COLORREF, HWND, LPARAM, LRESULT, RECT, WPARAM};
use windows_sys::Win32::Graphics::Gdi::{
    BeginPaint, DT_LEFT, DT_SINGLELINE, DT_VCENTER, DrawTextW, EndPaint, PAINTSTRUCT, SelectObject,
    SetBkMode, SetTextColor, TRANSPARENT, UpdateWindow,
};
use windows_sys::Win32::System::LibraryLoader::GetModuleHandleW;
use windows_sys::Win32::System::Shutdown::{ShutdownBlockReasonCreate, ShutdownBlockReasonDestroy};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CreateWindowExW, DefWindowProcW, DestroyWindow, DispatchMessageW, FindWindowExW, GetMessageW, IDC_ARROW,
    LoadCursorW, MSG, PostQuitMessage, RegisterClassW, SW_SHOWNORMAL, ShowWindow, TranslateMessage,
    WM_DESTROY, WM_ENDSESSION, WM_PAINT, WM_QUERYENDSESSION, WNDCLASSW, WS_OVERLAPPEDWINDOW,
};

use crate::abort;

const CLASS: &str = "SoftoffProbe";
const WIDTH: i32 = 420;
const HEIGHT: i32 = 160;
/// What must be on COM1 before the thread hangs or the process ends.
const FLUSH: Duration = Duration::from_secs(2);

/// What the window procedure needs; a process has one probe window.
struct Probe {
    behaviour: Behaviour,
    title: Vec<u16>,
    text: Vec<u16>,
    reporter: &'static Reporter,
}

static PROBE: OnceLock<Probe> = OnceLock::new();

/// Shows the window and serves it until it is closed.
pub(crate) fn run(behaviour: Behaviour, title: &str, text: &str, reporter: &'static Reporter) {
    let probe = PROBE.get_or_init(|| Probe { behaviour, title: wide(title), text: wide(text), reporter });
    if open(&probe.title).is_null() {
        reporter.trouble(last_error("CreateWindowExW"));
        reporter.flush(FLUSH);
        return;
    }
    reporter.report(ProbeEvent::WindowShown { behaviour: behaviour.word().into(), title: title.into() });
    if behaviour == Behaviour::Aborts {
        std::thread::spawn(move || abort::repeat(reporter));
    }
    let mut message = MSG::default();
    // SAFETY: `message` is valid for writing; null takes the messages of all windows of this thread.
    unsafe {
        while GetMessageW(&raw mut message, null_mut(), 0, 0) > 0 {
            TranslateMessage(&raw const message);
            DispatchMessageW(&raw const message);
        }
    }
    reporter.flush(FLUSH);
}

/// Opens the window, and paints it before it returns: a hung window cannot paint later.
fn open(title: &[u16]) -> HWND {
    let class = wide(CLASS);
    // SAFETY: all strings and structures outlive the calls that take them.
    unsafe {
        let (left, top) = place(slot(&class));
        let instance = GetModuleHandleW(null());
        let window_class = WNDCLASSW {
            lpfnWndProc: Some(procedure),
            hInstance: instance,
            hCursor: LoadCursorW(null_mut(), IDC_ARROW),
            lpszClassName: class.as_ptr(),
            ..Default::default()
        };
        RegisterClassW(&raw const window_class);
        let window = CreateWindowExW(
            0,
            class.as_ptr(),
            title.as_ptr(),
            WS_OVERLAPPEDWINDOW,
            left,
            top,
            WIDTH,
            HEIGHT,
            null_mut(),
            null_mut(),
            instance,
            null(),
        );
        if !window.is_null() {
            ShowWindow(window, SW_SHOWNORMAL);
            UpdateWindow(window);
        }
        window
    }
}

/// How many probe windows there are already.
///
/// # Safety
/// `class` ends with a zero.
unsafe fn slot(class: &[u16]) -> i32 {
    let (mut last, mut count) = (null_mut(), 0);
    loop {
        // SAFETY: a stale `last` makes the call fail, which ends the loop.
        last = unsafe { FindWindowExW(null_mut(), last, class.as_ptr(), null()) };
        if last.is_null() {
            return count;
        }
        count += 1;
    }
}

/// Three windows in the top quarter of a 1280 x 800 screen, three in the bottom one: a shutdown panel in the
/// middle leaves them visible.
fn place(slot: i32) -> (i32, i32) {
    let (column, row) = (slot % 3, slot / 3 % 2);
    (10 + column * (WIDTH + 2), 20 + row * 600)
}

fn paint(window: HWND, probe: &Probe) {
    const PAPER: COLORREF = 0x00ff_ffff;
    const INK: COLORREF = 0x0000_0000;
    let mut state = PAINTSTRUCT::default();
    // SAFETY: BeginPaint and EndPaint enclose the drawing; the texts end with a zero (length -1).
    unsafe {
        let context = BeginPaint(window, &raw mut state);
        fill(context, &state.rcPaint, PAPER);
        SetBkMode(context, TRANSPARENT as i32);
        SetTextColor(context, INK);
        SelectObject(context, font(24));
        for (text, top) in [(&probe.title, 12), (&probe.text, 58)] {
            let mut area = RECT { left: 16, top, right: WIDTH - 16, bottom: top + 36 };
            DrawTextW(context, text.as_ptr(), -1, &raw mut area, DT_LEFT | DT_SINGLELINE | DT_VCENTER);
        }
        EndPaint(window, &raw const state);
    }
}

unsafe extern "system" fn procedure(window: HWND, message: u32, wparam: WPARAM, lparam: LPARAM) -> LRESULT {
    // SAFETY: the arguments are those that the system gave.
    let default = || unsafe { DefWindowProcW(window, message, wparam, lparam) };
    let Some(probe) = PROBE.get() else { return default() };
    match message {
        WM_PAINT => paint(window, probe),
        WM_QUERYENDSESSION => return asked(window, probe),
        WM_ENDSESSION => ending(window, probe, wparam != 0),
        // SAFETY: no preconditions.
        WM_DESTROY => unsafe { PostQuitMessage(0) },
        _ => return default(),
    }
    0
}

fn asked(window: HWND, probe: &Probe) -> LRESULT {
    probe.reporter.report(ProbeEvent::ProbeAsked);
    match probe.behaviour {
        Behaviour::Answers | Behaviour::Slow(_) | Behaviour::Aborts => 1,
        Behaviour::Refuses => {
            let reason = wide("This probe refuses to end.");
            // SAFETY: the window is this thread's own; the reason ends with a zero.
            unsafe { ShutdownBlockReasonCreate(window, reason.as_ptr()) };
            0
        }
        Behaviour::Hangs(time) => {
            probe.reporter.flush(FLUSH);
            if let Some(time) = time {
                std::thread::sleep(time);
                return 1;
            }
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
}

fn ending(window: HWND, probe: &Probe, ending: bool) {
    probe.reporter.report(ProbeEvent::ProbeEnding { ending });
    // SAFETY: the window is this thread's own.
    unsafe {
        if ending {
            if let Behaviour::Slow(time) = probe.behaviour {
                std::thread::sleep(time);
            }
            // The system may end the process as soon as this returns.
            probe.reporter.flush(FLUSH);
            DestroyWindow(window);
        } else {
            ShutdownBlockReasonDestroy(window);
        }
    }
}
