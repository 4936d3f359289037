//! QEMU's command line, made from an image's facts. A pure function, so that a test can show it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::accel::Accelerator;
use crate::image::{Boot, DiskBus, GuestFamily, Image};

/// The sockets of a machine, inside its folder.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// QMP.
    pub qmp: PathBuf,
    /// COM1: probe lines.
    pub com1: PathBuf,
    /// COM2: the guest's console.
    pub com2: PathBuf,
    /// The guest agent's virtio-serial port.
    pub agent: PathBuf,
}

impl Sockets {
    /// The sockets' places in a machine's folder.
    pub fn within(folder: &Path) -> Sockets {
        let at = |name: &str| folder.join(name);
        Sockets { qmp: at("qmp.sock"), com1: at("com1.sock"), com2: at("com2.sock"), agent: at("agent.sock") }
    }
}

/// Firmware files of a UEFI machine.
#[derive(Debug, Clone)]
pub struct Firmware {
    /// OVMF's code, read-only.
    pub code: PathBuf,
    /// This machine's own copy of the variable store.
    pub variables: PathBuf,
}

/// A second QMP socket, for people, in the folder of a machine that is kept.
pub const ATTACH_QMP: &str = "attach-qmp.sock";
/// The screen as VNC, for people, in the folder of a machine that is kept.
pub const ATTACH_VNC: &str = "attach-vnc.sock";

/// What the guest's memory is.
#[derive(Debug, Clone, Copy)]
pub enum Memory<'a> {
    /// Memory of the QEMU process.
    Anonymous,
    /// This file, made here and written to: a state is to be saved of the machine.
    Shared(&'a Path),
    /// This file of a saved state, copy-on-write; the machine waits for its devices (`-incoming defer`).
    Saved(&'a Path),
}

/// A disc in a CD drive of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disc {
    /// The ISO file; never written.
    pub file: PathBuf,
    /// Whether the firmware boots it, after the system disk: an empty disk is passed over, and one that a system was
    /// put on comes first, so that the same command line serves before and after.
    pub boots: bool,
}

/// What a machine does when its guest restarts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AtRestart {
    /// It restarts.
    #[default]
    GoesOn,
    /// It stops, with a SHUTDOWN event of reason `guest-reset`: its disk is at rest then.
    Stops,
}

/// What a command line is made from.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The image's facts.
    pub image: &'a Image,
    /// The overlay that stands for the system disk.
    pub overlay: &'a Path,
    /// Kernel accelerator or emulation.
    pub accelerator: Accelerator,
    /// Where the sockets go.
    pub sockets: &'a Sockets,
    /// The folder for the sockets that let people attach, when the machine is to be kept.
    pub attach: Option<&'a Path>,
    /// For UEFI images.
    pub firmware: Option<&'a Firmware>,
    /// swtpm's control socket, for images that want a TPM.
    pub tpm: Option<&'a Path>,
    /// What the guest's memory is.
    pub memory: Memory<'a>,
    /// Discs in CD drives.
    pub discs: &'a [Disc],
    /// What a restart by the guest does.
    pub at_restart: AtRestart,
}

/// QEMU's option syntax separates by commas and doubles those that belong to a value.
fn value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// The arguments for `qemu-system-x86_64`.
pub fn arguments(plan: &Plan<'_>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| out.extend(words.iter().map(OsString::from));
    let manifest = &plan.image.manifest;
    let facts = &manifest.machine;

    add(&["-name", &format!("softoff-{}", manifest.name)]);
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none"]);
    add(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    // Stopped until every channel has its listener; and kept after S5, so that it can be looked at.
    add(&["-S", "-no-shutdown"]);
    if plan.at_restart == AtRestart::Stops {
        add(&["-no-reboot"]);
    }
    let (accel, cpu) = match plan.accelerator {
        Accelerator::Kvm => ("kvm", [&["host".to_owned()], facts.hyperv.as_slice()].concat().join(",")),
        Accelerator::Tcg => ("tcg", facts.tcg_cpu.clone()),
    };
    let backing = match plan.memory {
        Memory::Anonymous => None,
        Memory::Shared(file) => Some((file, "on")),
        Memory::Saved(file) => Some((file, "off")),
    };
    let kind = if facts.secure_boot { format!("{},smm=on", facts.machine) } else { facts.machine.clone() };
    let machine = match backing {
        Some((file, share)) => {
            let (file, size) = (value(file), facts.memory_mib);
            add(&[
                "-object",
                &format!("memory-backend-file,id=ram,size={size}M,mem-path={file},share={share}"),
            ]);
            format!("{kind},memory-backend=ram")
        }
        None => kind,
    };
    if matches!(plan.memory, Memory::Saved(_)) {
        add(&["-incoming", "defer"]);
    }
    add(&["-machine", &machine, "-accel", accel, "-cpu", &cpu]);
    add(&["-smp", &facts.smp.to_string(), "-m", &facts.memory_mib.to_string()]);
    add(&["-vga", &facts.vga]);
    // Windows keeps the hardware clock in local time unless told otherwise.
    let rtc = match manifest.family {
        GuestFamily::Reference => "base=utc",
        GuestFamily::Windows | GuestFamily::Reactos => "base=localtime",
    };
    add(&["-rtc", rtc]);

    add(&["-qmp", &format!("unix:{},server=on,wait=off", value(&plan.sockets.qmp))]);
    for (id, path) in
        [("com1", &plan.sockets.com1), ("com2", &plan.sockets.com2), ("agent", &plan.sockets.agent)]
    {
        add(&["-chardev", &format!("socket,id={id},path={},server=on,wait=off", value(path))]);
    }
    if let Some(folder) = plan.attach {
        add(&["-qmp", &format!("unix:{},server=on,wait=off", value(&folder.join(ATTACH_QMP)))]);
        add(&["-vnc", &format!("unix:{}", value(&folder.join(ATTACH_VNC)))]);
    }
    add(&["-serial", "chardev:com1", "-serial", "chardev:com2"]);
    add(&["-device", "virtio-serial-pci"]);
    add(&["-device", "virtserialport,chardev=agent,id=agent,name=org.qemu.guest_agent.0"]);
    // A guest whose kernel dies tells QEMU so (GUEST_PANICKED), where it has the driver.
    add(&["-device", "pvpanic-pci"]);
    add(&["-device", "virtio-rng-pci", "-device", "virtio-keyboard-pci", "-device", "virtio-tablet-pci"]);

    if let Boot::Kernel { kernel, initrd, cmdline, root } = &manifest.boot {
        let file = |name: &str| plan.image.file(name).to_string_lossy().into_owned();
        add(&["-kernel", &file(kernel), "-initrd", &file(initrd), "-append", cmdline]);
        let root = value(&plan.image.file(root));
        add(&["-drive", &format!("if=none,id=root,format=raw,readonly=on,file={root}")]);
        add(&["-device", "virtio-blk-pci,drive=root,serial=root"]);
    }
    if let Some(firmware) = plan.firmware {
        if facts.secure_boot {
            // Only code in system management mode may write the variables: the guest cannot switch the checks off.
            add(&["-global", "driver=cfi.pflash01,property=secure,value=on"]);
        }
        add(&["-drive", &format!("if=pflash,format=raw,readonly=on,file={}", value(&firmware.code))]);
        add(&["-drive", &format!("if=pflash,format=raw,file={}", value(&firmware.variables))]);
    }
    if let Some(socket) = plan.tpm {
        add(&["-chardev", &format!("socket,id=tpm,path={}", value(socket))]);
        add(&["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"]);
    }
    // A host that cannot read or write stops the machine: its trouble must not look like the guest's.
    let system = value(plan.overlay);
    add(&["-drive", &format!("if=none,id=system,format=qcow2,werror=stop,rerror=stop,file={system}")]);
    let first = if plan.discs.is_empty() { "" } else { ",bootindex=0" };
    let system = match facts.disk_bus {
        DiskBus::Virtio => "virtio-blk-pci,drive=system,serial=system".to_owned(),
        DiskBus::Sata | DiskBus::Ide => {
            format!("ide-hd,drive=system,serial=system,{}", ide_place(&facts.machine, 0))
        }
    };
    add(&["-device", &(system + first)]);
    for (number, disc) in plan.discs.iter().enumerate() {
        let place = ide_place(&facts.machine, number + 1);
        let boots = if disc.boots { ",bootindex=1" } else { "" };
        let file = value(&disc.file);
        add(&[
            "-drive",
            &format!("if=none,id=disc{number},format=raw,media=cdrom,readonly=on,file={file}"),
            "-device",
            &format!("ide-cd,drive=disc{number},{place}{boots}"),
        ]);
    }
    out
}

/// Where a drive goes: `q35` has six ports with one drive each, `pc` two cables with two.
fn ide_place(machine: &str, number: usize) -> String {
    match machine.starts_with("q35") {
        true => format!("bus=ide.{number}"),
        false => format!("bus=ide.{},unit={}", number / 2, number % 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{MachineFacts, Manifest, Sha256Hex};

    #[test]
    fn the_reference_machine_is_contained_and_reproducible() {
        let image = Image {
            dir: "/images/reference".into(),
            id: Sha256Hex(String::new()),
            stamps: Default::default(),
            manifest: Manifest {
                schema: 1,
                name: "reference".into(),
                family: GuestFamily::Reference,
                machine: MachineFacts {
                    machine: "pc".into(),
                    tcg_cpu: "max,smap=off".into(),
                    smp: 1,
                    memory_mib: 1024,
                    vga: "std".into(),
                    ..MachineFacts::default()
                },
                boot: Boot::Kernel {
                    kernel: "vmlinuz".into(),
                    initrd: "initrd".into(),
                    cmdline: "console=ttyS1".into(),
                    root: "root.erofs".into(),
                },
                system_disk: "system.qcow2".into(),
                system_format: Default::default(),
                system_backing: None,
                files: Default::default(),
                recipe: Sha256Hex(String::new()),
                quirks: vec![],
                provenance: Default::default(),
            },
        };
        let sockets = Sockets::within(Path::new("/run/a,b"));
        let plan = Plan {
            image: &image,
            overlay: Path::new("/run/a,b/system.qcow2"),
            accelerator: Accelerator::Tcg,
            sockets: &sockets,
            attach: None,
            firmware: None,
            tpm: None,
            memory: Memory::Anonymous,
            discs: &[],
            at_restart: AtRestart::GoesOn,
        };
        let line: Vec<String> = arguments(&plan).iter().map(|a| a.to_string_lossy().into_owned()).collect();
        insta::assert_snapshot!(line.join("\n"));

        let added = |plan: &Plan<'_>| -> Vec<String> {
            let more = arguments(plan).into_iter().map(|a| a.to_string_lossy().into_owned());
            more.filter(|a| !line.contains(a)).collect()
        };
        let plan = Plan { tpm: Some(Path::new("/run/a,b/tpm.sock")), ..plan };
        let added_by_tpm = added(&plan);
        assert_eq!(
            added_by_tpm,
            [
                "socket,id=tpm,path=/run/a,,b/tpm.sock",
                "-tpmdev",
                "emulator,id=tpm,chardev=tpm",
                "tpm-crb,tpmdev=tpm"
            ]
        );
        let discs = [
            Disc { file: "/iso/setup, 1.iso".into(), boots: true },
            Disc { file: "/iso/answers.iso".into(), boots: false },
        ];
        let plan = Plan { tpm: None, discs: &discs, at_restart: AtRestart::Stops, ..plan };
        assert_eq!(
            added(&plan),
            [
                "-no-reboot",
                "virtio-blk-pci,drive=system,serial=system,bootindex=0",
                "if=none,id=disc0,format=raw,media=cdrom,readonly=on,file=/iso/setup,, 1.iso",
                "ide-cd,drive=disc0,bus=ide.0,unit=1,bootindex=1",
                "if=none,id=disc1,format=raw,media=cdrom,readonly=on,file=/iso/answers.iso",
                "ide-cd,drive=disc1,bus=ide.1,unit=0",
            ]
        );
    }

    #[test]
    fn drives_of_q35_have_a_port_each() {
        assert_eq!(
            (ide_place("q35", 2), ide_place("pc", 3)),
            ("bus=ide.2".into(), "bus=ide.1,unit=1".into())
        );
    }
}
