//! What a saved state belongs to: a machine with anything different must not be given it.

use std::path::Path;

use crate::host;
use crate::image::{Image, Sha256Hex};
use crate::machine::accel::Accelerator;
use crate::machine::command_line::{Firmware, Memory, Plan, Sockets, arguments};
use crate::machine::firmware;

/// Version of what is saved and how; another one means other states.
const FORMAT: u32 = 1;

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
        let firmware = firmware::installed().map(|(code, variables)| Firmware { code, variables });
        let plan = Plan {
            image: &Image { dir: "/image".into(), ..image.clone() },
            overlay: &folder.join("system.qcow2"),
            accelerator,
            sockets: &Sockets::within(folder),
            attach: None,
            firmware: firmware.as_ref().filter(|_| image.manifest.boot == crate::image::Boot::Uefi),
            tpm: None,
            memory: Memory::Saved(Path::new("/memory")),
        };
        for argument in arguments(&plan) {
            facts += &argument.to_string_lossy();
            facts.push('\n');
        }
        StateKey { hash: Sha256Hex::of_bytes(facts.as_bytes()), facts }
    }
}
