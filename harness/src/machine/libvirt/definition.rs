//! A domain's XML, from the facts that QEMU's command line is made from: the same machine, in libvirt's words.

use std::path::Path;

use anyhow::bail;

use crate::image::{Boot, DiskBus, GuestFamily};
use crate::machine::accel::Accelerator;
use crate::machine::command_line::{Memory, Plan};

/// Where the guest's two serial ports go.
#[derive(Debug, Clone, Copy)]
pub enum Ports<'a> {
    /// To the plan's sockets.
    Sockets,
    /// To files: what is written there first (COM1) and second (COM2).
    Files(&'a Path, &'a Path),
}

/// What a domain is defined from.
#[derive(Debug)]
pub struct Definition<'a> {
    /// Its name.
    pub name: &'a str,
    /// QEMU's program.
    pub emulator: &'a Path,
    /// The machine.
    pub plan: &'a Plan<'a>,
    /// Its serial ports.
    pub ports: Ports<'a>,
}

impl Definition<'_> {
    /// The XML. An error when libvirt has no words for the image's facts, or for a saved state.
    pub fn xml(&self) -> anyhow::Result<String> {
        let plan = self.plan;
        let manifest = &plan.image.manifest;
        let facts = &manifest.machine;
        if !matches!(plan.memory, Memory::Anonymous) {
            bail!("a saved state is not started through libvirt; boot cold");
        }
        if !plan.discs.is_empty() {
            bail!("a machine with discs is not started through libvirt: systems are installed by QEMU alone");
        }
        if plan.accelerator == Accelerator::Kvm && !facts.hyperv.is_empty() {
            bail!(
                "the image's Hyper-V flags ({}) have no words here; run without libvirt",
                facts.hyperv.join(",")
            );
        }
        let (kind, cpu) = match plan.accelerator {
            Accelerator::Kvm => ("kvm", "<cpu mode='host-passthrough'/>".to_owned()),
            Accelerator::Tcg => ("qemu", cpu(&facts.tcg_cpu)?),
        };
        let clock = match manifest.family {
            GuestFamily::Reference => "utc",
            GuestFamily::Windows | GuestFamily::Reactos => "localtime",
        };
        let machine = escaped(&facts.machine);
        let mut out = format!(
            "<domain type='{kind}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{}</name>
  <memory unit='MiB'>{}</memory>
  <vcpu>{}</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>\n",
            escaped(self.name),
            facts.memory_mib,
            facts.smp
        );
        if let Boot::Kernel { kernel, initrd, cmdline, .. } = &manifest.boot {
            let file = |name: &str| text(&plan.image.file(name));
            out += &format!("    <kernel>{}</kernel>\n    <initrd>{}</initrd>\n", file(kernel), file(initrd));
            out += &format!("    <cmdline>{}</cmdline>\n", escaped(cmdline));
        }
        if let Some(firmware) = plan.firmware {
            let (code, variables) = (text(&firmware.code), text(&firmware.variables));
            let secure = if facts.secure_boot { " secure='yes'" } else { "" };
            out += &format!(
                "    <loader readonly='yes'{secure} type='pflash'>{code}</loader>\n    <nvram>{variables}</nvram>\n"
            );
        }
        let smm = if facts.secure_boot { "<smm state='on'/>" } else { "" };
        // A crashed guest stays for a look; a restart is told by QMP's RESET; S3 and S4 are offered, as by QEMU itself.
        out += &format!(
            "  </os>
  <features><acpi/>{smm}</features>
  {cpu}
  <clock offset='{clock}'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>preserve</on_crash>
  <pm><suspend-to-mem enabled='yes'/><suspend-to-disk enabled='yes'/></pm>
  <devices>
    <emulator>{}</emulator>\n",
            text(self.emulator)
        );
        let mut target = 'a'..='z';
        let mut next_disk = |serial, format, file: &Path, readonly, bus| {
            let target = target.next().unwrap_or('z');
            format!("    {}\n", disk(serial, target, format, file, readonly, bus))
        };
        if let Boot::Kernel { root, .. } = &manifest.boot {
            out += &next_disk("root", "raw", &plan.image.file(root), true, DiskBus::Virtio);
        }
        out += &next_disk("system", "qcow2", plan.overlay, false, facts.disk_bus);
        out += "    <controller type='usb' model='none'/>\n";
        for (number, socket) in [&plan.sockets.com1, &plan.sockets.com2].into_iter().enumerate() {
            out += &match (self.ports, number) {
                (Ports::Sockets, _) => serial("unix", "mode='bind' ", socket, number),
                (Ports::Files(first, _), 0) => serial("file", "", first, number),
                (Ports::Files(_, second), _) => serial("file", "", second, number),
            };
        }
        let vga = if facts.vga == "std" { "vga" } else { &facts.vga };
        out += &format!(
            "    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <input type='keyboard' bus='virtio'/>
    <input type='tablet' bus='virtio'/>
    <video><model type='{}'/></video>
    <memballoon model='none'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>\n",
            escaped(vga)
        );
        Ok(out + &self.further() + "</domain>\n")
    }

    /// What libvirt 9 has no words for: our own QMP socket beside libvirt's, pvpanic as a PCI device, and a TPM that
    /// somebody else started.
    fn further(&self) -> String {
        let qemu_value = |path: &Path| path.to_string_lossy().replace(',', ",,");
        let mut words = vec![
            "-qmp".to_owned(),
            format!("unix:{},server=on,wait=off", qemu_value(&self.plan.sockets.qmp)),
            "-device".to_owned(),
            // A slot far from those that libvirt gives away, of which QEMU knows nothing when it comes to this device.
            "pvpanic-pci,addr=0x1d".to_owned(),
        ];
        if let Some(socket) = self.plan.tpm {
            words.extend(["-chardev".to_owned(), format!("socket,id=tpm,path={}", qemu_value(socket))]);
            words.extend(
                ["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"]
                    .map(str::to_owned),
            );
        }
        let words: String =
            words.iter().map(|word| format!("    <qemu:arg value='{}'/>\n", escaped(word))).collect();
        format!("  <qemu:commandline>\n{words}  </qemu:commandline>\n")
    }
}

fn serial(kind: &str, mode: &str, path: &Path, port: usize) -> String {
    let path = text(path);
    format!("    <serial type='{kind}'><source {mode}path='{path}'/><target port='{port}'/></serial>\n")
}

/// A host that cannot read or write stops the machine: its trouble must not look like the guest's.
fn disk(serial: &str, target: char, format: &str, file: &Path, readonly: bool, bus: DiskBus) -> String {
    let (prefix, bus) = match bus {
        DiskBus::Virtio => ("vd", "virtio"),
        DiskBus::Sata => ("sd", "sata"),
        DiskBus::Ide => ("hd", "ide"),
    };
    let (readonly, policy) = match readonly {
        true => ("<readonly/>", ""),
        false => ("", " error_policy='stop' rerror_policy='stop'"),
    };
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='{format}'{policy}/><source file='{}'/>\
         <target dev='{prefix}{target}' bus='{bus}'/>{readonly}<serial>{serial}</serial></disk>",
        text(file)
    )
}

/// QEMU's `-cpu` value (`max,smap=off`) in libvirt's words.
fn cpu(qemu: &str) -> anyhow::Result<String> {
    let mut words = qemu.split(',');
    let model = words.next().unwrap_or_default();
    let feature = |word: &str| match word.split_once('=') {
        Some((name, "on")) => Ok(format!("<feature policy='require' name='{}'/>", escaped(name))),
        Some((name, "off")) => Ok(format!("<feature policy='disable' name='{}'/>", escaped(name))),
        _ => bail!("`{word}` of the image's tcg_cpu `{qemu}` is neither NAME=on nor NAME=off"),
    };
    let features: String = words.map(feature).collect::<Result<_, _>>()?;
    Ok(match model {
        "max" => format!("<cpu mode='maximum'>{features}</cpu>"),
        _ => format!(
            "<cpu mode='custom' match='exact' check='none'><model>{}</model>{features}</cpu>",
            escaped(model)
        ),
    })
}

fn text(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}
#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("max", Some("<cpu mode='maximum'></cpu>"))]
    #[case(
        "max,smap=off,x2apic=on",
        Some(
            "<cpu mode='maximum'><feature policy='disable' name='smap'/>\
             <feature policy='require' name='x2apic'/></cpu>"
        )
    )]
    #[case(
        "qemu64,a'b=on",
        Some(
            "<cpu mode='custom' match='exact' check='none'><model>qemu64</model>\
             <feature policy='require' name='a&apos;b'/></cpu>"
        )
    )]
    #[case("max,+smap", None)]
    #[case("max,smap", None)]
    #[case("max,phys-bits=40", None)]
    fn a_cpu_is_said_in_libvirts_words_or_refused(#[case] qemu: &str, #[case] libvirt: Option<&str>) {
        assert_eq!(cpu(qemu).ok().as_deref(), libvirt);
    }
}
