//! What a saved state belongs to: a machine with anything different must not be given it.

use std::path::Path;

use crate::host;
use crate::image::{Image, Sha256Hex};
use crate::machine::accel::Accelerator;
use crate::machine::command_line::{AtRestart, Firmware, Memory, Plan, Sockets, arguments};
use crate::machine::firmware;

/// Version of what is saved and how; another one means other states.
const FORMAT: u32 = 2;

/// The identity of a machine that a state was saved of: a hash over image, devices, CPU, QEMU and accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StateKey {
    /// The hash.
    pub hash: Sha256Hex,
    /// What was hashed, for people: one fact a line.
    pub facts: String,
}

impl StateKey {
    /// The key of an image's machine. `qemu` is its version with the packager's suffix
    /// ([`host::qemu_version`]); the machine type `pc` means another one in each. Under KVM the guest sees the
    /// host's own processor, so that it counts, with the kernel that presents it.
    pub fn of(image: &Image, accelerator: Accelerator, qemu: &str) -> StateKey {
        let mut facts = format!("format {FORMAT}\nimage {}\nqemu {qemu}\n", image.id);
        if accelerator == Accelerator::Kvm {
            let kernel = host::kernel_release().unwrap_or_default();
            facts += &format!("processor {}\nkernel {kernel}\n", host::cpu_model());
        }
        // The command line itself, with places in it that are the same for every machine.
        let folder = Path::new("/machine");
        let firmware = firmware::installed(image.manifest.machine.secure_boot)
            .map(|(code, variables)| Firmware { code, variables });
        let plan = Plan {
            image: &Image { dir: "/image".into(), ..image.clone() },
            overlay: &folder.join("system.qcow2"),
            accelerator,
            sockets: &Sockets::within(folder),
            attach: None,
            firmware: firmware.as_ref().filter(|_| image.manifest.boot == crate::image::Boot::Uefi),
            tpm: None,
            memory: Memory::Saved(Path::new("/memory")),
            discs: &[],
            at_restart: AtRestart::GoesOn,
        };
        for argument in arguments(&plan) {
            facts += &argument.to_string_lossy();
            facts.push('\n');
        }
        StateKey { hash: Sha256Hex::of_bytes(facts.as_bytes()), facts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{GuestFamily, MachineFacts, Manifest};

    fn image(memory_mib: u32, dir: &str) -> Image {
        let hash = |text: &str| Sha256Hex::of_bytes(text.as_bytes());
        Image {
            dir: dir.into(),
            id: hash("image"),
            stamps: Default::default(),
            manifest: Manifest {
                schema: 1,
                name: "x".into(),
                family: GuestFamily::Reference,
                machine: MachineFacts {
                    machine: "pc".into(),
                    tcg_cpu: "qemu64".into(),
                    smp: 1,
                    memory_mib,
                    vga: "std".into(),
                    ..MachineFacts::default()
                },
                boot: crate::image::Boot::Bios,
                system_disk: "system.qcow2".into(),
                system_format: Default::default(),
                system_backing: None,
                files: Default::default(),
                recipe: hash(""),
                quirks: vec![],
                provenance: Default::default(),
            },
        }
    }

    #[test]
    fn another_machine_is_another_key_and_another_place_is_not() {
        let key = |image: &Image, qemu: &str, accel| StateKey::of(image, accel, qemu).hash;
        let same = key(&image(512, "/a"), "7.2.22", Accelerator::Tcg);
        assert_eq!(key(&image(512, "/b"), "7.2.22", Accelerator::Tcg), same);
        assert_ne!(key(&image(513, "/a"), "7.2.22", Accelerator::Tcg), same);
        assert_ne!(key(&image(512, "/a"), "7.2.23", Accelerator::Tcg), same);
        assert_ne!(key(&image(512, "/a"), "7.2.22", Accelerator::Kvm), same);
        let mut other = image(512, "/a");
        other.id = Sha256Hex::of_bytes(b"other");
        assert_ne!(key(&other, "7.2.22", Accelerator::Tcg), same);
    }
}
