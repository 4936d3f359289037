//! The windows of the session: what fills the screen, the blocked shutdown resolver, the event tracker.
//!
//! All windows belong to the main thread, which only paints: whoever wants another screen calls
//! [`Ui::show`]. So the screen stays alive while other threads wait for hung programs.

use std::ptr::{null, null_mut};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, OnceLock, PoisonError};

use softoff_guest_probe::win32::{font, last_error, wide};
use windows_sys::Win32::Foundation::{HWND, LPARAM, LRESULT, WPARAM};
use windows_sys::Win32::Graphics::Gdi::{InvalidateRect, UpdateWindow};
use windows_sys::Win32::System::LibraryLoader::GetModuleHandleW;
use windows_sys::Win32::UI::Input::KeyboardAndMouse::{GetFocus, SetFocus};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CreateWindowExW, DefWindowProcW, DestroyWindow, DispatchMessageW, GA_ROOT, GetAncestor, GetDlgCtrlID,
    GetMessageW, GetSystemMetrics, HWND_BOTTOM, HWND_TOPMOST, IDC_ARROW, IDCANCEL, IDOK, IsDialogMessageW,
    LoadCursorW, MSG, PostMessageW, RegisterClassW, SM_CXSCREEN, SM_CYSCREEN, SMTO_NORMAL, SW_SHOWNOACTIVATE,
    SWP_NOACTIVATE, SWP_NOMOVE, SWP_NOSIZE, SendMessageTimeoutW, SendMessageW, SetForegroundWindow,
    SetWindowPos, ShowWindow, TranslateMessage, WINDOWPOS, WM_APP, WM_COMMAND, WM_PAINT, WM_SETFONT,
    WM_WINDOWPOSCHANGING, WNDCLASSW, WS_CHILD, WS_EX_NOACTIVATE, WS_EX_TOPMOST, WS_POPUP, WS_TABSTOP,
    WS_VISIBLE,
};

use crate::flow::Input;
use crate::picture::{Base, Overlay, Picture};
use crate::{paint, tracker};

const DESKTOP_CLASS: &str = "SoftoffDesktop";
const PANEL_CLASS: &str = "SoftoffResolver";
/// Sent to the desktop window when the screen is to change.
const CHANGE: u32 = WM_APP;
/// Posted to the desktop window: the control in `lparam` is to have the keyboard.
const FOCUS: u32 = WM_APP + 1;
/// Painting takes milliseconds; a stuck display must not stop the shutdown.
const PAINTED_MS: u32 = 3_000;
const FORCE: usize = 100;
/// Escape sends this one.
const CANCEL: usize = IDCANCEL as usize;

/// The window side of the session.
pub(crate) struct Ui {
    picture: Mutex<Picture>,
    inputs: Mutex<Sender<Input>>,
    desktop: OnceLock<usize>,
    /// The window of the overlay, and what it shows.
    above: Mutex<Option<(Overlay, usize)>>,
}

static UI: OnceLock<Ui> = OnceLock::new();

/// Opens and paints the desktop. Call it once, in the thread that then calls [`Ui::serve`].
pub(crate) fn open(inputs: Sender<Input>) -> Result<&'static Ui, String> {
    let ui = UI.get_or_init(|| Ui {
        picture: Mutex::new(Base::Desktop("Starting".into()).into()),
        inputs: Mutex::new(inputs),
        desktop: OnceLock::new(),
        above: Mutex::new(None),
    });
    register(DESKTOP_CLASS, desktop_procedure);
    register(PANEL_CLASS, panel_procedure);
    let (width, height) = size();
    let style = WS_POPUP | WS_VISIBLE;
    let desktop =
        window(WS_EX_NOACTIVATE, DESKTOP_CLASS, DESKTOP_CLASS, style, [0, 0, width, height], null_mut(), 0);
    if desktop.is_null() {
        return Err(last_error("CreateWindowExW for the desktop"));
    }
    ui.desktop.set(desktop as usize).ok();
    // SAFETY: the window is this thread's own.
    unsafe { UpdateWindow(desktop) };
    Ok(ui)
}

impl Ui {
    /// Changes the screen or paints it again, from any other thread; returns when it is painted, so that a line
    /// reported next is true of the picture.
    pub(crate) fn show(&self, picture: Picture) {
        *self.picture.lock().unwrap_or_else(PoisonError::into_inner) = picture;
        // SAFETY: no answer is asked for; a window that has gone makes the call fail.
        unsafe { SendMessageTimeoutW(self.desktop(), CHANGE, 0, 0, SMTO_NORMAL, PAINTED_MS, null_mut()) };
    }

    /// Paints and answers until the process ends.
    pub(crate) fn serve(&self) {
        let mut message = MSG::default();
        // SAFETY: `message` is valid for writing; a window that has gone is no dialog any more.
        unsafe {
            while GetMessageW(&raw mut message, null_mut(), 0, 0) > 0 {
                // Tab, Enter and Escape in the overlay.
                let above = self.above.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|a| a.1);
                if above.is_some_and(|above| IsDialogMessageW(above as HWND, &raw const message) != 0) {
                    continue;
                }
                TranslateMessage(&raw const message);
                DispatchMessageW(&raw const message);
            }
        }
    }

    fn desktop(&self) -> HWND {
        self.desktop.get().map_or(null_mut(), |window| *window as HWND)
    }

    fn picture(&self) -> Picture {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes on what was chosen on the screen.
    pub(crate) fn tell(&self, input: Input) {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).send(input).ok();
    }

    /// In the window thread: makes the windows fit the picture that is wanted.
    fn change(&self) {
        let Picture { base, overlay } = self.picture();
        let mut above = self.above.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = above.as_ref().map(|(shows, _)| shows) == overlay.as_ref();
        if !stays && let Some((_, old)) = above.take() {
            // SAFETY: the window is this thread's own.
            unsafe { DestroyWindow(old as HWND) };
        }
        let order = if base.covers() { HWND_TOPMOST } else { HWND_BOTTOM };
        let flags = SWP_NOMOVE | SWP_NOSIZE | SWP_NOACTIVATE;
        // SAFETY: as above; a null area is the whole window.
        unsafe {
            SetWindowPos(self.desktop(), order, 0, 0, 0, 0, flags);
            InvalidateRect(self.desktop(), null(), 0);
            UpdateWindow(self.desktop());
        }
        if !stays && let Some(overlay) = overlay {
            let window = match overlay {
                Overlay::Blocked(_) => open_panel(),
                Overlay::Tracker => tracker::open(size()),
            };
            *above = Some((overlay, window as usize));
        } else if let Some((_, window)) = &*above {
            let window = *window as HWND;
            // SAFETY: as above.
            unsafe {
                SetWindowPos(window, HWND_TOPMOST, 0, 0, 0, 0, flags);
                InvalidateRect(window, null(), 1);
            }
        }
    }
}

/// The window side, once it is open.
pub(crate) fn ui() -> Option<&'static Ui> {
    UI.get()
}

/// The button that a command means: Enter comes as IDOK, and means the one with the keyboard.
fn chosen(command: usize) -> usize {
    if command != IDOK as usize {
        return command;
    }
    // SAFETY: no preconditions; a null window has the number 0.
    unsafe { GetDlgCtrlID(GetFocus()) as usize }
}

fn size() -> (i32, i32) {
    // SAFETY: no preconditions.
    unsafe { (GetSystemMetrics(SM_CXSCREEN), GetSystemMetrics(SM_CYSCREEN)) }
}

type Procedure = unsafe extern "system" fn(HWND, u32, WPARAM, LPARAM) -> LRESULT;

fn register(class: &str, procedure: Procedure) {
    let class = wide(class);
    // SAFETY: the structure and the name outlive the call.
    unsafe {
        let window_class = WNDCLASSW {
            lpfnWndProc: Some(procedure),
            hInstance: GetModuleHandleW(null()),
            hCursor: LoadCursorW(null_mut(), IDC_ARROW),
            lpszClassName: class.as_ptr(),
            ..Default::default()
        };
        RegisterClassW(&raw const window_class);
    }
}

/// Makes a window. `area` is left, top, width, height; a child's `id` is what its WM_COMMAND says.
pub(crate) fn window(
    ex_style: u32,
    class: &str,
    title: &str,
    style: u32,
    area: [i32; 4],
    parent: HWND,
    id: usize,
) -> HWND {
    let (class, title) = (wide(class), wide(title));
    let [left, top, width, height] = area;
    // SAFETY: the names outlive the call; a child window's menu handle is its number.
    unsafe {
        CreateWindowExW(
            ex_style,
            class.as_ptr(),
            title.as_ptr(),
            style,
            left,
            top,
            width,
            height,
            parent,
            id as *mut _,
            GetModuleHandleW(null()),
            null(),
        )
    }
}

/// Makes a visible child control with a font of that height.
pub(crate) fn control(
    class: &str,
    title: &str,
    style: u32,
    area: [i32; 4],
    parent: HWND,
    id: usize,
    height: i32,
) -> HWND {
    let control = window(0, class, title, WS_CHILD | WS_VISIBLE | style, area, parent, id);
    // SAFETY: the control is this thread's own; the font lives for ever.
    unsafe { SendMessageW(control, WM_SETFONT, font(height) as usize, 1) };
    control
}

/// Shows a window, and gives the keyboard to one of its controls, a moment later: a window that takes the
/// keyboard while it is being shown gets it from Wine, but not from X, which then sends the keys elsewhere.
pub(crate) fn reveal(window: HWND, control: HWND) {
    let desktop = ui().map_or(null_mut(), Ui::desktop);
    // SAFETY: the windows are this thread's own; a null one makes the calls fail.
    unsafe {
        ShowWindow(window, SW_SHOWNOACTIVATE);
        PostMessageW(desktop, FOCUS, 0, control as LPARAM);
    }
}

/// A band over the middle half of the screen, so that the windows above and below it stay visible. The keyboard
/// starts on "Shut down anyway"; Tab changes the button, Escape cancels.
fn open_panel() -> HWND {
    let (width, height) = size();
    let band = [0, height / 4, width, height / 2];
    let panel = window(WS_EX_TOPMOST, PANEL_CLASS, PANEL_CLASS, WS_POPUP, band, null_mut(), 0);
    let top = height / 2 - 80;
    let button = |id, left, text| control("BUTTON", text, WS_TABSTOP, [left, top, 280, 56], panel, id, 26);
    let force = button(FORCE, width / 2 - 290, "Shut down anyway");
    button(CANCEL, width / 2 + 10, "Cancel");
    reveal(panel, force);
    // SAFETY: the window is this thread's own.
    unsafe {
        UpdateWindow(panel);
    }
    panel
}

unsafe extern "system" fn desktop_procedure(
    window: HWND,
    message: u32,
    wparam: WPARAM,
    lparam: LPARAM,
) -> LRESULT {
    let Some(ui) = UI.get() else {
        // SAFETY: the arguments are those that the system gave.
        return unsafe { DefWindowProcW(window, message, wparam, lparam) };
    };
    match message {
        CHANGE => ui.change(),
        FOCUS => {
            let control = lparam as HWND;
            // SAFETY: a window that has gone makes the calls fail.
            unsafe {
                SetForegroundWindow(GetAncestor(control, GA_ROOT));
                SetFocus(control);
            }
        }
        WM_PAINT => paint::painting(window, |context, area| paint::base(context, area, &ui.picture().base)),
        WM_WINDOWPOSCHANGING if !ui.picture().base.covers() => {
            // A click would bring the desktop in front of the applications.
            // SAFETY: for this message, lparam is a WINDOWPOS that may be changed.
            unsafe { (*(lparam as *mut WINDOWPOS)).hwndInsertAfter = HWND_BOTTOM };
        }
        // SAFETY: the arguments are those that the system gave.
        _ => return unsafe { DefWindowProcW(window, message, wparam, lparam) },
    }
    0
}

unsafe extern "system" fn panel_procedure(
    window: HWND,
    message: u32,
    wparam: WPARAM,
    lparam: LPARAM,
) -> LRESULT {
    let ui = UI.get();
    match (message, ui) {
        (WM_PAINT, Some(ui)) => paint::painting(window, |context, area| {
            if let Some(Overlay::Blocked(titles)) = ui.picture().overlay {
                paint::resolver(context, area, &titles);
            }
        }),
        (WM_COMMAND, Some(ui)) => match chosen(wparam & 0xffff) {
            FORCE => ui.tell(Input::ForceChosen),
            CANCEL => ui.tell(Input::CancelChosen),
            _ => {}
        },
        // SAFETY: the arguments are those that the system gave.
        _ => return unsafe { DefWindowProcW(window, message, wparam, lparam) },
    }
    0
}
