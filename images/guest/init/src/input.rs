//! Keyboards and pointers: which the machine has, what Xorg is told of them, and the news that one was used.
//!
//! There is no udev in the guest to ask, so Xorg gets a static configuration, made at each boot from the
//! names that the kernel's drivers give their devices.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use crate::log;
use crate::serve::Event;

/// Where the kernel lists input devices.
pub(crate) const CLASS: &str = "/sys/class/input";

/// A folder for Xorg's `-configdir`.
pub(crate) const XORG_FOLDER: &str = "/run/xorg.conf.d";

/// Milliseconds between two reports of input: the session starts its idle time anew, more often serves
/// nothing.
const REPORT_EVERY: u64 = 1000;

/// Names of the kernel's drivers for QEMU's keyboards: virtio-keyboard, PS/2, USB.
const KEYBOARDS: &[&str] =
    &["QEMU Virtio Keyboard", "AT Translated Set 2 keyboard", "QEMU QEMU USB Keyboard"];

/// The same for pointers: virtio-tablet, virtio-mouse, USB.
const POINTERS: &[&str] = &["QEMU Virtio Tablet", "QEMU Virtio Mouse", "QEMU QEMU USB Tablet"];

/// What a device is to Xorg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Keyboard,
    Pointer,
}

/// The `eventN` devices under `/sys/class/input` with their drivers' names, in order of N.
pub(crate) fn devices(class: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(class).into_iter().flatten().flatten();
    let mut found: Vec<(u32, String)> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("event")?.parse().ok()?;
            let name = std::fs::read_to_string(entry.path().join("device/name")).ok()?;
            Some((number, name.trim().to_owned()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(n, name)| (PathBuf::from(format!("/dev/input/event{n}")), name)).collect()
}

fn kind(name: &str) -> Option<Kind> {
    if KEYBOARDS.contains(&name) {
        Some(Kind::Keyboard)
    } else if POINTERS.contains(&name) {
        Some(Kind::Pointer)
    } else {
        None
    }
}

fn people(class: &Path) -> Vec<(PathBuf, Kind)> {
    let devices = devices(class).into_iter();
    devices.filter_map(|(path, name)| Some((path, kind(&name)?))).collect()
}

/// Writes Xorg's sections for the devices of this machine into [`XORG_FOLDER`].
pub(crate) fn configure_x() -> anyhow::Result<()> {
    std::fs::create_dir_all(XORG_FOLDER)?;
    std::fs::write(Path::new(XORG_FOLDER).join("input.conf"), sections(&people(Path::new(CLASS))))?;
    Ok(())
}

fn sections(devices: &[(PathBuf, Kind)]) -> String {
    let mut sections = String::new();
    let mut layout = String::from("Section \"ServerLayout\"\n    Identifier \"guest\"\n");
    let mut cored = Vec::new();
    for (number, (path, kind)) in devices.iter().enumerate() {
        // Xorg wants one of each kind as the core device; any other sends its events beside it.
        let core = match kind {
            _ if cored.contains(kind) => "SendCoreEvents",
            Kind::Keyboard => "CoreKeyboard",
            Kind::Pointer => "CorePointer",
        };
        cored.push(*kind);
        // Writing to a String has no failing case.
        let _ = write!(
            sections,
            "Section \"InputDevice\"\n    Identifier \"input{number}\"\n    Driver \"evdev\"\n    \
             Option \"Device\" \"{}\"\nEndSection\n",
            path.display()
        );
        let _ = writeln!(layout, "    InputDevice \"input{number}\" \"{core}\"");
    }
    format!("{sections}{layout}EndSection\n")
}

/// Reads every keyboard and pointer in a thread of its own; gives their number.
pub(crate) fn watch(events: &Sender<Event>) -> usize {
    let reported = Arc::new(AtomicU64::new(0));
    let mut watched = 0;
    for (path, _) in people(Path::new(CLASS)) {
        let Ok(mut device) = File::open(&path) else { continue };
        let (events, reported) = (events.clone(), Arc::clone(&reported));
        std::thread::spawn(move || {
            // A read gives as many whole events as fit; what they say is the X server's business.
            let mut buffer = [0u8; 64 * 24];
            while device.read(&mut buffer).is_ok_and(|count| count > 0) {
                if is_due(&reported, log::up_ms()) && events.send(Event::Input).is_err() {
                    return;
                }
            }
        });
        watched += 1;
    }
    watched
}

/// Whether input may be reported again; if so, that is noted. Zero stands for "never reported".
fn is_due(reported: &AtomicU64, now: u64) -> bool {
    let noted = reported.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        (last == 0 || now.saturating_sub(last) >= REPORT_EVERY).then_some(now.max(1))
    });
    noted.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(devices: &[(&str, &str)]) -> tempfile::TempDir {
        let class = tempfile::tempdir().unwrap();
        for (event, name) in devices {
            let device = class.path().join(event).join("device");
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("name"), format!("{name}\n")).unwrap();
        }
        class
    }

    #[test]
    fn only_what_people_touch_becomes_a_section() {
        let class = class(&[
            ("event10", "QEMU Virtio Tablet"),
            ("event2", "QEMU Virtio Keyboard"),
            ("event1", "AT Translated Set 2 keyboard"),
            ("event0", "Power Button"),
            ("input3", "QEMU Virtio Keyboard"),
        ]);
        let text = sections(&people(class.path()));
        assert_eq!(text.matches("Section \"InputDevice\"").count(), 3);
        assert!(!text.contains("event0\""), "{text}");
        assert!(text.contains("InputDevice \"input0\" \"CoreKeyboard\""), "{text}");
        assert!(text.contains("InputDevice \"input1\" \"SendCoreEvents\""), "{text}");
        assert!(text.contains("InputDevice \"input2\" \"CorePointer\""), "{text}");
        assert!(text.find("event1\"").unwrap() < text.find("event10\"").unwrap());
    }

    #[test]
    fn input_is_reported_at_most_once_a_second() {
        let last = AtomicU64::new(0);
        let due: Vec<bool> = [5, 6, 1004, 1005, 1006, 9000].map(|now| is_due(&last, now)).to_vec();
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
