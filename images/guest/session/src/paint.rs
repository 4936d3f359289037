//! The pictures themselves: GDI drawing, called while painting.

use softoff_guest_probe::win32::{fill, font, wide};
use windows_sys::Win32::Foundation::{COLORREF, HWND, RECT};
use windows_sys::Win32::Graphics::Gdi::{
    BeginPaint, DT_CENTER, DT_LEFT, DT_SINGLELINE, DT_VCENTER, DrawTextW, EndPaint, HDC, PAINTSTRUCT,
    SelectObject, SetBkMode, SetTextColor, TRANSPARENT,
};
use windows_sys::Win32::UI::WindowsAndMessaging::GetClientRect;

use crate::picture::Base;

/// The resolver lists this many titles.
const LISTED: usize = 3;

const WHITE: COLORREF = 0x00ff_ffff;
/// The blue of the Windows shutdown screens, as 0x00BBGGRR.
const BLUE: COLORREF = 0x00b0_5a00;
const NIGHT: COLORREF = 0x0040_2c18;
/// The dots that are not lit.
const FAINT: COLORREF = 0x00d0_9a60;

/// Shown on every screen that imitates one of Windows.
const NOT_WINDOWS: &str = "Softoff reference guest - not Windows";

/// Paints a window, between BeginPaint and EndPaint.
pub(crate) fn painting(window: HWND, draw: impl FnOnce(HDC, RECT)) {
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

/// Paints what fills the screen.
pub(crate) fn base(context: HDC, area: RECT, base: &Base) {
    match base {
        Base::Desktop(state) => desktop(context, area, state),
        Base::SignIn { user, locked } => sign_in(context, area, user, *locked),
        Base::ShuttingDown => {
            fill_all(context, area, BLUE);
            text(context, "Shutting down", 48, band(area, area.bottom / 2 - 50, 100), DT_CENTER);
        }
        Base::Updating { percent, beat } => updating(context, area, *percent, *beat),
    }
}

fn desktop(context: HDC, area: RECT, state: &str) {
    fill_all(context, area, NIGHT);
    let middle = area.bottom / 2;
    text(context, NOT_WINDOWS, 36, band(area, middle - 60, 60), DT_CENTER);
    text(context, state, 26, band(area, middle + 10, 40), DT_CENTER);
}

fn sign_in(context: HDC, area: RECT, user: &str, locked: bool) {
    fill_all(context, area, NIGHT);
    let middle = area.bottom / 2;
    text(context, "Press Ctrl+Alt+Delete to unlock.", 40, band(area, middle - 90, 60), DT_CENTER);
    text(context, user, 32, band(area, middle, 50), DT_CENTER);
    if locked {
        text(context, "Locked", 26, band(area, middle + 54, 40), DT_CENTER);
    }
    text(context, NOT_WINDOWS, 22, band(area, area.bottom - 60, 40), DT_CENTER);
}

/// Dots that go round show that the machine is alive, as in Windows.
fn updating(context: HDC, area: RECT, percent: u32, beat: u32) {
    const DOTS: u32 = 5;
    const SIDE: i32 = 12;
    fill_all(context, area, BLUE);
    let middle = area.bottom / 2;
    for dot in 0..DOTS {
        let left = area.right / 2 + (dot as i32 - 2) * 3 * SIDE - SIDE / 2;
        let top = middle - 110;
        let square = RECT { left, top, right: left + SIDE, bottom: top + SIDE };
        fill_all(context, square, if dot == beat % DOTS { WHITE } else { FAINT });
    }
    let line = format!("Working on updates  {percent}% complete");
    text(context, &line, 40, band(area, middle - 60, 60), DT_CENTER);
    text(context, "Don't turn off your computer.", 40, band(area, middle + 10, 60), DT_CENTER);
}

/// Paints the blocked shutdown resolver.
pub(crate) fn resolver(context: HDC, area: RECT, titles: &[String]) {
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
