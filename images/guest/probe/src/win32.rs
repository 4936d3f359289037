//! Small helpers for Win32 calls.

use std::sync::Mutex;
use std::time::Duration;

use windows_sys::Win32::Foundation::{COLORREF, RECT};
use windows_sys::Win32::Graphics::Gdi::{
    CLEARTYPE_QUALITY, CreateFontW, DC_BRUSH, DEFAULT_CHARSET, FF_SWISS, FW_NORMAL, FillRect, GetStockObject,
    HDC, HFONT, OUT_TT_PRECIS, SetDCBrushColor,
};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;

/// A string as Win32 takes it: UTF-16 with a final zero.
pub fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// The text before the first zero.
pub fn from_wide(text: &[u16]) -> String {
    let end = text.iter().position(|unit| *unit == 0).unwrap_or(text.len());
    String::from_utf16_lossy(text.get(..end).unwrap_or(text))
}

/// The text at a pointer to a zero-terminated string; empty for a null pointer.
///
/// # Safety
/// `text` is null or points to UTF-16 units that end with a zero.
pub unsafe fn from_wide_pointer(text: *const u16) -> String {
    if text.is_null() {
        return String::new();
    }
    let mut units = Vec::new();
    let mut at = text;
    // SAFETY: every unit up to and with the final zero may be read, says the caller.
    unsafe {
        while *at != 0 {
            units.push(*at);
            at = at.add(1);
        }
    }
    String::from_utf16_lossy(&units)
}

/// Time since the guest started.
pub fn uptime() -> Duration {
    // SAFETY: no preconditions.
    Duration::from_millis(unsafe { GetTickCount64() })
}

/// What the last Win32 call of this thread complained about, with the call's name.
pub fn last_error(call: &str) -> String {
    format!("{call}: {}", std::io::Error::last_os_error())
}

/// A plain sans-serif font with letters about `height` pixels high. It lives as long as the process; asking
/// again gives the same one.
pub fn font(height: i32) -> HFONT {
    static FONTS: Mutex<Vec<(i32, usize)>> = Mutex::new(Vec::new());
    let mut fonts = FONTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, font)) = fonts.iter().find(|(have, _)| *have == height) {
        return *font as HFONT;
    }
    let family = wide("Segoe UI");
    let (charset, quality) = (u32::from(DEFAULT_CHARSET), u32::from(CLEARTYPE_QUALITY));
    let precision = u32::from(OUT_TT_PRECIS);
    // SAFETY: the name is zero-terminated and outlives the call. Where the family is missing (the reference
    // guest), the font mapper takes another sans-serif one.
    let font = unsafe {
        let weight = FW_NORMAL as i32;
        let pitch = u32::from(FF_SWISS);
        CreateFontW(-height, 0, 0, 0, weight, 0, 0, 0, charset, precision, 0, quality, pitch, family.as_ptr())
    };
    fonts.push((height, font as usize));
    font
}

/// Fills `area` with one colour (0x00BBGGRR), without a brush of its own that would have to be freed.
///
/// # Safety
/// `context` is a device context to draw into.
pub unsafe fn fill(context: HDC, area: &RECT, colour: COLORREF) {
    // SAFETY: the stock brush always exists; the area is valid for reading.
    unsafe {
        SetDCBrushColor(context, colour);
        FillRect(context, area, GetStockObject(DC_BRUSH));
    }
}
