//! What is on screen: the desktop, the blocked shutdown resolver, "Shutting down".
//!
//! All windows belong to the main thread, which only paints: whoever wants another screen calls
//! [`Ui::show`]. So the screen stays alive while other threads wait for hung programs.

use std::ptr::{null, null_mut};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, OnceLock, PoisonError};

use softoff_guest_probe::win32::{fill, font, last_error, wide};
use windows_sys::Win32::Foundation::{COLORREF, HWND, LPARAM, LRESULT, RECT, WPARAM};
use windows_sys::Win32::Graphics::Gdi::{
    BeginPaint, DT_CENTER, DT_LEFT, DT_SINGLELINE, DT_VCENTER, DrawTextW, EndPaint, HDC, InvalidateRect,
    PAINTSTRUCT, SelectObject, SetBkMode, SetTextColor, TRANSPARENT, UpdateWindow,
};
use windows_sys::Win32::System::LibraryLoader::GetModuleHandleW;
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CreateWindowExW, DefWindowProcW, DestroyWindow, DispatchMessageW, GetClientRect, GetMessageW,
    GetSystemMetrics, HWND_BOTTOM, HWND_TOPMOST, IDC_ARROW, LoadCursorW, MSG, RegisterClassW, SM_CXSCREEN,
    SM_CYSCREEN, SMTO_NORMAL, SWP_NOACTIVATE, SWP_NOMOVE, SWP_NOSIZE, SendMessageTimeoutW, SendMessageW,
    SetWindowPos, SetWindowTextW, TranslateMessage, WINDOWPOS, WM_APP, WM_COMMAND, WM_PAINT, WM_SETFONT,
    WM_WINDOWPOSCHANGING, WNDCLASSW, WS_CHILD, WS_EX_NOACTIVATE, WS_EX_TOPMOST, WS_POPUP, WS_VISIBLE,
};

use crate::flow::{Input, Screen};

const DESKTOP_CLASS: &str = "SoftoffDesktop";
const PANEL_CLASS: &str = "SoftoffResolver";
/// Sent to the desktop window when the screen is to change.
const CHANGE: u32 = WM_APP;
/// Painting takes milliseconds; a stuck display must not stop the shutdown.
const PAINTED_MS: u32 = 3_000;
const FORCE: usize = 1;
const CANCEL: usize = 2;
/// The resolver lists this many titles.
const LISTED: usize = 3;

const WHITE: COLORREF = 0x00ff_ffff;
/// The blue of the Windows shutdown screens, as 0x00BBGGRR.
const BLUE: COLORREF = 0x00b0_5a00;
const NIGHT: COLORREF = 0x0040_2c18;

/// The window side of the session.
pub(crate) struct Ui {
    screen: Mutex<Screen>,
    inputs: Mutex<Sender<Input>>,
    desktop: OnceLock<usize>,
    panel: Mutex<Option<usize>>,
}

static UI: OnceLock<Ui> = OnceLock::new();

/// Opens and paints the desktop. Call it once, in the thread that then calls [`Ui::serve`].
pub(crate) fn open(inputs: Sender<Input>) -> Result<&'static Ui, String> {
    let ui = UI.get_or_init(|| Ui {
        screen: Mutex::new(Screen::Desktop("Starting".into())),
        inputs: Mutex::new(inputs),
        desktop: OnceLock::new(),
        panel: Mutex::new(None),
    });
    register(DESKTOP_CLASS, desktop_procedure);
    register(PANEL_CLASS, panel_procedure);
    let (width, height) = size();
    let style = WS_POPUP | WS_VISIBLE;
    let desktop = window(WS_EX_NOACTIVATE, DESKTOP_CLASS, style, [0, 0, width, height], null_mut(), 0);
    if desktop.is_null() {
        return Err(last_error("CreateWindowExW for the desktop"));
    }
    ui.desktop.set(desktop as usize).ok();
    // SAFETY: the window is this thread's own.
    unsafe { UpdateWindow(desktop) };
    Ok(ui)
}

impl Ui {
    /// Changes the screen, from any other thread; returns when it is painted, so that a line reported next is
    /// true of the picture.
    pub(crate) fn show(&self, screen: Screen) {
        *self.screen.lock().unwrap_or_else(PoisonError::into_inner) = screen;
        // SAFETY: no answer is asked for; a window that has gone makes the call fail.
        unsafe { SendMessageTimeoutW(self.desktop(), CHANGE, 0, 0, SMTO_NORMAL, PAINTED_MS, null_mut()) };
    }

    /// Paints and answers until the process ends.
    pub(crate) fn serve(&self) {
        let mut message = MSG::default();
        // SAFETY: `message` is valid for writing.
        unsafe {
            while GetMessageW(&raw mut message, null_mut(), 0, 0) > 0 {
                TranslateMessage(&raw const message);
                DispatchMessageW(&raw const message);
            }
        }
    }

    fn desktop(&self) -> HWND {
        self.desktop.get().map_or(null_mut(), |window| *window as HWND)
    }

    fn screen(&self) -> Screen {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, input: Input) {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).send(input).ok();
    }

    /// In the window thread: makes the windows fit the screen that is wanted.
    fn change(&self) {
        let mut panel = self.panel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = panel.take() {
            // SAFETY: the window is this thread's own.
            unsafe { DestroyWindow(old as HWND) };
        }
        match self.screen() {
            Screen::Desktop(_) => {}
            Screen::Blocked(_) => *panel = Some(open_panel() as usize),
            // SAFETY: the window is this thread's own.
            Screen::ShuttingDown => unsafe {
                let flags = SWP_NOMOVE | SWP_NOSIZE | SWP_NOACTIVATE;
                SetWindowPos(self.desktop(), HWND_TOPMOST, 0, 0, 0, 0, flags);
            },
        }
        // SAFETY: as above; a null area is the whole window.
        unsafe {
            InvalidateRect(self.desktop(), null(), 0);
            UpdateWindow(self.desktop());
        }
    }
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

/// `area` is left, top, width, height. The title of a window is its class name.
fn window(ex_style: u32, class: &str, style: u32, area: [i32; 4], parent: HWND, id: usize) -> HWND {
    let class = wide(class);
    let [left, top, width, height] = area;
    // SAFETY: the name outlives the call; a child window's menu handle is its number.
    unsafe {
        CreateWindowExW(
            ex_style,
            class.as_ptr(),
            class.as_ptr(),
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

/// A band over the middle half of the screen, so that the windows above and below it stay visible.
fn open_panel() -> HWND {
    let (width, height) = size();
    let band = [0, height / 4, width, height / 2];
    let panel = window(WS_EX_TOPMOST, PANEL_CLASS, WS_POPUP | WS_VISIBLE, band, null_mut(), 0);
    let top = height / 2 - 80;
    for (id, left, text) in [(FORCE, width / 2 - 290, "Shut down anyway"), (CANCEL, width / 2 + 10, "Cancel")]
    {
        let button = window(0, "BUTTON", WS_CHILD | WS_VISIBLE, [left, top, 280, 56], panel, id);
        let text = wide(text);
        // SAFETY: the button is this thread's own; the text outlives the call.
        unsafe {
            SendMessageW(button, WM_SETFONT, font(26) as usize, 1);
            SetWindowTextW(button, text.as_ptr());
        }
    }
    // SAFETY: the window is this thread's own.
    unsafe { UpdateWindow(panel) };
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
        WM_PAINT => painting(window, |context, area| match ui.screen() {
            Screen::ShuttingDown => {
                fill_all(context, area, BLUE);
                text(context, "Shutting down", 48, band(area, area.bottom / 2 - 50, 100), DT_CENTER);
            }
            Screen::Desktop(state) => paint_desktop(context, area, &state),
            Screen::Blocked(_) => paint_desktop(context, area, "Shutting down: blocked"),
        }),
        WM_WINDOWPOSCHANGING if ui.screen() != Screen::ShuttingDown => {
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
        (WM_PAINT, Some(ui)) => painting(window, |context, area| {
            if let Screen::Blocked(titles) = ui.screen() {
                paint_panel(context, area, &titles);
            }
        }),
        (WM_COMMAND, Some(ui)) => match wparam & 0xffff {
            FORCE => ui.tell(Input::ForceChosen),
            CANCEL => ui.tell(Input::CancelChosen),
            _ => {}
        },
        // SAFETY: the arguments are those that the system gave.
        _ => return unsafe { DefWindowProcW(window, message, wparam, lparam) },
    }
    0
}

fn painting(window: HWND, draw: impl FnOnce(HDC, RECT)) {
    let mut state = PAINTSTRUCT::default();
    let mut area = RECT::default();
    // SAFETY: BeginPaint and EndPaint enclose the drawing; both structures are valid for writing.
    unsafe {
        let context = BeginPaint(window, &raw mut state);
        GetClientRect(window, &raw mut area);
        draw(context, area);
        EndPaint(window, &raw const state);
    }
}

fn paint_desktop(context: HDC, area: RECT, state: &str) {
    fill_all(context, area, NIGHT);
    let middle = area.bottom / 2;
    text(context, "Softoff reference guest - not Windows", 36, band(area, middle - 60, 60), DT_CENTER);
    text(context, state, 26, band(area, middle + 10, 40), DT_CENTER);
}

fn paint_panel(context: HDC, area: RECT, titles: &[String]) {
    fill_all(context, area, BLUE);
    let apps = if titles.len() == 1 { "1 app".to_owned() } else { format!("{} apps", titles.len()) };
    text(context, &format!("Closing {apps} and shutting down"), 36, band(area, 20, 50), DT_CENTER);
    let mut list = titles.iter().take(LISTED).cloned().collect::<Vec<_>>();
    if titles.len() > LISTED {
        list.push(format!("and {} more", titles.len() - LISTED));
    }
    for (line, title) in (0..).zip(&list) {
        let area = RECT { left: area.right / 4, ..band(area, 84 + line * 36, 36) };
        text(context, title, 28, area, DT_LEFT);
    }
    let says = band(area, 88 + 36 * list.len() as i32, 36);
    let says = RECT { left: area.right / 4, ..says };
    text(context, "This app is preventing you from shutting down.", 22, says, DT_LEFT);
    let help = "To go back and save your work, click Cancel and finish what you need to.";
    text(context, help, 20, band(area, area.bottom - 124, 30), DT_CENTER);
}

fn band(area: RECT, top: i32, height: i32) -> RECT {
    RECT { top, bottom: top + height, ..area }
}

fn fill_all(context: HDC, area: RECT, colour: COLORREF) {
    // SAFETY: called while painting, with that context.
    unsafe { fill(context, &area, colour) };
}

fn text(context: HDC, text: &str, height: i32, mut area: RECT, align: u32) {
    let text = wide(text);
    // SAFETY: called while painting, with that context; the text ends with a zero (length -1).
    unsafe {
        SetBkMode(context, TRANSPARENT as i32);
        SetTextColor(context, WHITE);
        SelectObject(context, font(height));
        DrawTextW(context, text.as_ptr(), -1, &raw mut area, align | DT_SINGLELINE | DT_VCENTER);
    }
}
