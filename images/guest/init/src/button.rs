//! The ACPI power button: the kernel's button driver gives KEY_POWER on an input device of its own.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use crate::input;
use crate::serve::Event;

/// Name of the kernel's input device for the button (drivers/acpi/button.c).
const NAME: &str = "Power Button";

/// Size of `struct input_event` on x86-64: 16 bytes of time, then type, code, value.
const EVENT: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// Reads every power button in a thread of its own; gives their number.
pub(crate) fn watch(events: &Sender<Event>) -> usize {
    let mut watched = 0;
    for path in buttons(Path::new(input::CLASS)) {
        let Ok(mut device) = File::open(&path) else { continue };
        let events = events.clone();
        std::thread::spawn(move || {
            let mut buffer = [0u8; EVENT];
            while device.read_exact(&mut buffer).is_ok() {
                if is_press(&buffer) && events.send(Event::Button).is_err() {
                    return;
                }
            }
        });
        watched += 1;
    }
    watched
}

fn buttons(class: &Path) -> Vec<PathBuf> {
    let devices = input::devices(class).into_iter();
    devices.filter(|(_, name)| name == NAME).map(|(path, _)| path).collect()
}

/// A press, not a release: value 1.
fn is_press(event: &[u8; EVENT]) -> bool {
    matches!(event, [.., t0, t1, c0, c1, v0, v1, v2, v3]
        if u16::from_ne_bytes([*t0, *t1]) == EV_KEY
            && u16::from_ne_bytes([*c0, *c1]) == KEY_POWER
            && i32::from_ne_bytes([*v0, *v1, *v2, *v3]) == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> [u8; EVENT] {
        let mut bytes = [0xffu8; EVENT];
        bytes[16..18].copy_from_slice(&kind.to_ne_bytes());
        bytes[18..20].copy_from_slice(&code.to_ne_bytes());
        bytes[20..24].copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_press(&event(EV_KEY, 30, 1)));
        assert!(!is_press(&event(0, 0, 0)));
    }

    #[test]
    fn keyboards_are_not_buttons() {
        let class = tempfile::tempdir().unwrap();
        for (event, name) in
            [("event0", "Power Button"), ("event1", "QEMU Virtio Keyboard"), ("input3", "Power Button")]
        {
            let device = class.path().join(event).join("device");
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("name"), format!("{name}\n")).unwrap();
        }
        assert_eq!(buttons(class.path()), [PathBuf::from("/dev/input/event0")]);
    }
}
