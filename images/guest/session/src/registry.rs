//! The registry, as [`Values`]; and the programs of the Run keys.

use std::ptr::{null, null_mut};

use softoff_guest_probe::win32::{from_wide, wide};
use windows_sys::Win32::Foundation::{ERROR_MORE_DATA, ERROR_SUCCESS};
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_CURRENT_USER, HKEY_LOCAL_MACHINE, KEY_READ, REG_ROUTINE_FLAGS, RRF_RT_REG_DWORD,
    RRF_RT_REG_MULTI_SZ, RRF_RT_REG_SZ, RegCloseKey, RegEnumValueW, RegGetValueW, RegOpenKeyExW,
};

use crate::policy::{Root, Values};

const RUN: &str = r"Software\Microsoft\Windows\CurrentVersion\Run";
/// Longest text that is read, in UTF-16 units; a command line has at most 32767.
const MAX_TEXT: usize = 32_768;
/// Longest value name (the limit of Windows), with its final zero.
const MAX_NAME: usize = 16_384;

/// The live registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registry;

fn handle(root: Root) -> HKEY {
    match root {
        Root::Machine => HKEY_LOCAL_MACHINE,
        Root::User => HKEY_CURRENT_USER,
    }
}

impl Values for Registry {
    fn dword(&self, root: Root, key: &str, name: &str) -> Option<u32> {
        let (key, name) = (wide(key), wide(name));
        let mut value = 0u32;
        let mut size = size_of::<u32>() as u32;
        // SAFETY: both strings end with a zero; `size` is the size of `value`.
        let status = unsafe {
            RegGetValueW(
                handle(root),
                key.as_ptr(),
                name.as_ptr(),
                RRF_RT_REG_DWORD,
                null_mut(),
                (&raw mut value).cast(),
                &raw mut size,
            )
        };
        (status == ERROR_SUCCESS).then_some(value)
    }

    fn text(&self, root: Root, key: &str, name: &str) -> Option<String> {
        // With this type RegGetValueW also takes REG_EXPAND_SZ and expands it (asking for both types is an error).
        units(root, key, name, RRF_RT_REG_SZ).map(|text| from_wide(&text))
    }

    fn list(&self, root: Root, key: &str, name: &str) -> Vec<String> {
        let units = units(root, key, name, RRF_RT_REG_MULTI_SZ).unwrap_or_default();
        units.split(|unit| *unit == 0).take_while(|text| !text.is_empty()).map(from_wide).collect()
    }

    fn has_key(&self, root: Root, key: &str) -> bool {
        open(root, key).is_some_and(|key| {
            // SAFETY: closed once.
            unsafe { RegCloseKey(key) };
            true
        })
    }
}

/// The units of a text value of this type, followed by zeros.
fn units(root: Root, key: &str, name: &str, kind: REG_ROUTINE_FLAGS) -> Option<Vec<u16>> {
    let (key, name) = (wide(key), wide(name));
    let mut text = vec![0u16; MAX_TEXT];
    let mut size = (text.len() * 2) as u32;
    // SAFETY: both strings end with a zero; `size` is the size of `text` in bytes. RegGetValueW adds missing
    // final zeros.
    let status = unsafe {
        RegGetValueW(
            handle(root),
            key.as_ptr(),
            name.as_ptr(),
            kind,
            null_mut(),
            text.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    (status == ERROR_SUCCESS).then_some(text)
}

/// Opens a key for reading; the caller closes it.
fn open(root: Root, key: &str) -> Option<HKEY> {
    let key = wide(key);
    let mut open: HKEY = null_mut();
    // SAFETY: the path ends with a zero; `open` receives the handle.
    let status = unsafe { RegOpenKeyExW(handle(root), key.as_ptr(), 0, KEY_READ, &raw mut open) };
    (status == ERROR_SUCCESS).then_some(open)
}

/// The command lines of the machine's and then the user's Run key.
pub(crate) fn run_programs() -> Vec<String> {
    let commands = |root| {
        value_names(root, RUN)
            .into_iter()
            .filter_map(move |name| Registry.text(root, RUN, &name))
            .filter(|command| !command.trim().is_empty())
    };
    commands(Root::Machine).chain(commands(Root::User)).collect()
}

/// The names of all values of a key; empty if there is no such key.
fn value_names(root: Root, key: &str) -> Vec<String> {
    let mut names = Vec::new();
    let Some(open) = open(root, key) else { return names };
    for index in 0.. {
        let mut name = vec![0u16; MAX_NAME];
        let mut length = name.len() as u32;
        // SAFETY: `length` is the size of `name` in units; type and data are not asked for.
        let status = unsafe {
            RegEnumValueW(
                open,
                index,
                name.as_mut_ptr(),
                &raw mut length,
                null(),
                null_mut(),
                null_mut(),
                null_mut(),
            )
        };
        match status {
            ERROR_SUCCESS => names.push(from_wide(&name)),
            ERROR_MORE_DATA => {}
            _ => break,
        }
    }
    // SAFETY: closed once.
    unsafe { RegCloseKey(open) };
    names
}
