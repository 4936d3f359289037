//! The Shutdown Event Tracker's dialog: a real dialog window (class #32770), answered by mouse or keyboard.

use std::ptr::{null, null_mut};

use softoff_guest_probe::win32::wide;
use windows_sys::Win32::Foundation::{HWND, LPARAM, WPARAM};
use windows_sys::Win32::System::LibraryLoader::GetModuleHandleW;
use windows_sys::Win32::UI::WindowsAndMessaging::{
    BS_DEFPUSHBUTTON, BS_GROUPBOX, CB_ADDSTRING, CB_SETCURSEL, CBS_DROPDOWNLIST, CreateDialogIndirectParamW,
    DLGTEMPLATE, DS_MODALFRAME, ES_AUTOVSCROLL, ES_MULTILINE, GetClientRect, HWND_TOPMOST, IDCANCEL, IDOK,
    SWP_NOACTIVATE, SendMessageW, SetWindowPos, WM_COMMAND, WM_INITDIALOG, WS_BORDER, WS_CAPTION, WS_POPUP,
    WS_SYSMENU, WS_TABSTOP, WS_VSCROLL,
};

use crate::flow::Input;
use crate::picture::TRACKER_TITLE;
use crate::screen::{control, reveal, ui};

const WIDTH: i32 = 840;
const HEIGHT: i32 = 440;
const MARGIN: i32 = 24;
/// Letters of the texts, in pixels.
const LETTERS: i32 = 22;
/// The planned ones of Windows' own list (learn: System Shutdown Reason Codes).
const REASONS: [&str; 5] = [
    "Other (Planned)",
    "Hardware: Maintenance (Planned)",
    "Operating System: Reconfiguration (Planned)",
    "Application: Maintenance (Planned)",
    "Security issue",
];

/// Opens the dialog in the middle of a screen of that size, with the keyboard in its list. OK is its default
/// button. In the thread that owns the desktop window and serves its messages.
pub(crate) fn open((width, height): (i32, i32)) -> HWND {
    let template = template();
    // SAFETY: the template is whole, aligned and outlives the call; the procedure is a function of this program.
    let dialog = unsafe {
        let instance = GetModuleHandleW(null());
        CreateDialogIndirectParamW(instance, template.as_ptr().cast(), null_mut(), Some(procedure), 0)
    };
    // SAFETY: the window is this thread's own; a null one makes the calls fail.
    unsafe {
        let [left, top] = [(width - WIDTH) / 2, (height - HEIGHT) / 2];
        SetWindowPos(dialog, HWND_TOPMOST, left, top, WIDTH, HEIGHT, SWP_NOACTIVATE);
        let list = fill(dialog);
        reveal(dialog, list);
    }
    dialog
}

/// The controls; gives the list.
fn fill(dialog: HWND) -> HWND {
    let mut inside = Default::default();
    // SAFETY: `inside` is valid for writing.
    unsafe { GetClientRect(dialog, &raw mut inside) };
    let (width, bottom) = (inside.right - 2 * MARGIN, inside.bottom);
    let text = |text, top| control("STATIC", text, 0, [MARGIN, top, width, 34], dialog, 0, LETTERS);
    let group = [MARGIN / 2, 10, width + MARGIN, bottom - MARGIN - 74];
    control("BUTTON", TRACKER_TITLE, BS_GROUPBOX as u32, group, dialog, 0, LETTERS);
    text("Choose a reason that best describes why you want to shut down this PC", 46);
    let list_style = CBS_DROPDOWNLIST as u32 | WS_TABSTOP | WS_VSCROLL;
    // Its height is that of the opened list.
    let list = control("COMBOBOX", "", list_style, [MARGIN, 88, width, 300], dialog, 101, LETTERS);
    for reason in REASONS {
        let reason = wide(reason);
        // SAFETY: the text outlives the call.
        unsafe { SendMessageW(list, CB_ADDSTRING, 0, reason.as_ptr() as LPARAM) };
    }
    // SAFETY: the list is this thread's own.
    unsafe { SendMessageW(list, CB_SETCURSEL, 0, 0) };
    text("Comment:", 138);
    let edit_style = (ES_MULTILINE | ES_AUTOVSCROLL) as u32 | WS_BORDER | WS_TABSTOP;
    control("EDIT", "", edit_style, [MARGIN, 174, width, 100], dialog, 102, LETTERS);
    let button = |id: i32, text, from_right, style: u32| {
        let area = [inside.right - MARGIN - from_right, bottom - MARGIN - 48, 150, 48];
        control("BUTTON", text, style | WS_TABSTOP, area, dialog, id as usize, LETTERS);
    };
    button(IDOK, "OK", 310, BS_DEFPUSHBUTTON as u32);
    button(IDCANCEL, "Cancel", 150, 0);
    list
}

/// A dialog without controls: DLGTEMPLATE, then no menu, the standard class, and the title.
fn template() -> Vec<u32> {
    const HEADER: usize = size_of::<DLGTEMPLATE>() / 2;
    let style = DS_MODALFRAME as u32 | WS_POPUP | WS_CAPTION | WS_SYSMENU;
    let mut units = vec![0u16; HEADER + 2];
    if let [low, high, ..] = units.as_mut_slice() {
        (*low, *high) = (style as u16, (style >> 16) as u16);
    }
    units.extend(wide(TRACKER_TITLE));
    // Whole double words: the manager wants that alignment.
    let pairs = units.chunks(2).map(|pair| match pair {
        [low, high] => u32::from(*low) | u32::from(*high) << 16,
        rest => rest.first().copied().unwrap_or(0).into(),
    });
    pairs.collect()
}

unsafe extern "system" fn procedure(_dialog: HWND, message: u32, wparam: WPARAM, _lparam: LPARAM) -> isize {
    match message {
        // The focus is set when the controls are there.
        WM_INITDIALOG => 0,
        WM_COMMAND => {
            let answer = match (wparam & 0xffff) as i32 {
                IDOK => Some(true),
                IDCANCEL => Some(false),
                _ => None,
            };
            if let (Some(ok), Some(ui)) = (answer, ui()) {
                ui.tell(Input::Tracker { ok });
            }
            isize::from(answer.is_some())
        }
        _ => 0,
    }
}
