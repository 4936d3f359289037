//! A libvirt domain made from an image's facts: the same machine that the engine's own command line makes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use softoff_guest_protocol::probe::ProbeLine;
use softoff_harness::image::{Boot, Image};
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::{QEMU, overlay};
use softoff_images::tools::find;

/// The domain's name.
pub const NAME: &str = "softoff";

/// The files of one domain, all in one folder.
#[derive(Debug)]
pub struct Domain<'a> {
    image: &'a Image,
    accelerator: Accelerator,
    folder: PathBuf,
    emulator: PathBuf,
}

impl<'a> Domain<'a> {
    /// Copies the image's files into a new `folder`, readable for QEMU's account (a cache in root's home is
    /// not), and makes the overlay.
    pub async fn make(
        image: &'a Image,
        accelerator: Accelerator,
        folder: PathBuf,
    ) -> anyhow::Result<Domain<'a>> {
        let emulator = find(QEMU)
            .with_context(|| format!("{QEMU} is missing here; `cargo xtask doctor` tells how to get it"))?;
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for name in image.manifest.named_files() {
            let copy = folder.join(name);
            std::fs::copy(image.file(name), &copy)
                .and_then(|_| std::fs::set_permissions(&copy, Permissions::from_mode(0o444)))
                .with_context(|| format!("cannot copy {name} to {}; is the disk full?", copy.display()))?;
        }
        let domain = Domain { image, accelerator, folder, emulator };
        domain.renew().await?;
        Ok(domain)
    }

    /// Makes the overlay, in place of one that a run has written to.
    pub async fn renew(&self) -> anyhow::Result<()> {
        overlay::of_image(self.image, &self.overlay()).await
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the guest writes to.
    pub fn overlay(&self) -> PathBuf {
        self.file("overlay.qcow2")
    }

    /// COM1: probe lines.
    pub fn com1(&self) -> PathBuf {
        self.file("com1")
    }

    /// COM2: the guest's console.
    pub fn com2(&self) -> PathBuf {
        self.file("com2")
    }

    /// What the guest has told on COM1 so far, in whole lines. An error when a line is none of the protocol's.
    pub fn told(&self) -> anyhow::Result<Vec<ProbeLine>> {
        let bytes = std::fs::read(self.com1())
            .with_context(|| format!("cannot read {}; was the domain started?", self.com1().display()))?;
        let whole = bytes.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n"));
        let parse = |l: &[u8]| ProbeLine::parse(l).with_context(|| format!("on COM1: {}", l.escape_ascii()));
        whole.map(parse).collect()
    }

    /// The definition. An error when libvirt has no words for the image's facts.
    pub fn xml(&self) -> anyhow::Result<String> {
        let facts = &self.image.manifest.machine;
        let Boot::Kernel { kernel, initrd, cmdline, root } = &self.image.manifest.boot else {
            bail!(
                "{} does not boot by its kernel; only such images are put into domains",
                self.image.manifest.name
            );
        };
        let vga = if facts.vga == "std" { "vga" } else { &facts.vga };
        let path = |name: &str| text(&self.file(name));
        let (kind, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "<cpu mode='host-passthrough'/>".to_owned()),
            Accelerator::Tcg => ("qemu", cpu(&facts.tcg_cpu)?),
        };
        Ok(format!(
            "<domain type='{kind}'>
  <name>{NAME}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{smp}</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  {cpu}
  <clock offset='utc'/>
  <devices>
    <emulator>{emulator}</emulator>
    {root}
    {system}
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{com1}'/><target port='0'/></serial>
    <serial type='file'><source path='{com2}'/><target port='1'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <input type='keyboard' bus='virtio'/>
    <input type='tablet' bus='virtio'/>
    <video><model type='{vga}'/></video>
    <memballoon model='none'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
",
            memory = facts.memory_mib,
            smp = facts.smp,
            machine = facts.machine,
            kernel = path(kernel),
            initrd = path(initrd),
            cmdline = escaped(cmdline),
            emulator = text(&self.emulator),
            root = disk("root", "vda", "raw", &self.file(root), true),
            system = disk("system", "vdb", "qcow2", &self.overlay(), false),
            com1 = text(&self.com1()),
            com2 = text(&self.com2()),
        ))
    }
}

fn disk(serial: &str, target: &str, format: &str, file: &Path, readonly: bool) -> String {
    let readonly = if readonly { "<readonly/>" } else { "" };
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{}'/>\
         <target dev='{target}' bus='virtio'/>{readonly}<serial>{serial}</serial></disk>",
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
