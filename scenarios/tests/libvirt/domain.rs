//! A libvirt domain made from an image's facts: the same machine that the engine's own command line makes.

use std::path::{Path, PathBuf};

use softoff_harness::image::{Boot, Image};
use softoff_harness::machine::overlay;

/// The domain's name.
pub(crate) const NAME: &str = "softoff";

/// The files of one domain, all in one folder.
#[derive(Debug)]
pub(crate) struct Domain<'a> {
    image: &'a Image,
    folder: PathBuf,
    emulator: PathBuf,
}

impl<'a> Domain<'a> {
    /// Copies the image's files into `folder`, readable for QEMU's account (a cache in root's home is not),
    /// and makes the overlay.
    pub(crate) async fn make(image: &'a Image, folder: PathBuf, emulator: PathBuf) -> Domain<'a> {
        std::fs::create_dir(&folder).unwrap();
        for name in image.manifest.named_files() {
            let copy = folder.join(name);
            std::fs::copy(image.file(name), &copy).unwrap();
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o444)).unwrap();
        }
        let domain = Domain { image, folder, emulator };
        overlay::create(&domain.file(&image.manifest.system_disk), &domain.overlay()).await.unwrap();
        domain
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the guest writes to.
    pub(crate) fn overlay(&self) -> PathBuf {
        self.file("overlay.qcow2")
    }

    /// COM1: probe lines.
    pub(crate) fn com1(&self) -> PathBuf {
        self.file("com1")
    }

    /// COM2: the guest's console.
    pub(crate) fn com2(&self) -> PathBuf {
        self.file("com2")
    }

    /// The definition. `type='qemu'`: every host can emulate.
    pub(crate) fn xml(&self) -> String {
        let facts = &self.image.manifest.machine;
        let Boot::Kernel { kernel, initrd, cmdline, root } = &self.image.manifest.boot else {
            panic!("the reference image boots by its kernel");
        };
        let vga = if facts.vga == "std" { "vga" } else { &facts.vga };
        let path = |name: &str| text(&self.file(name));
        format!(
            "<domain type='qemu'>
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
            cpu = cpu(&facts.tcg_cpu),
            emulator = text(&self.emulator),
            root = disk("root", "vda", "raw", &self.file(root), true),
            system = disk("system", "vdb", "qcow2", &self.overlay(), false),
            com1 = text(&self.com1()),
            com2 = text(&self.com2()),
        )
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
fn cpu(qemu: &str) -> String {
    let mut words = qemu.split(',');
    let model = words.next().unwrap_or_default();
    let feature = |word: &str| match word.split_once('=') {
        Some((name, "on")) => format!("<feature policy='require' name='{name}'/>"),
        Some((name, "off")) => format!("<feature policy='disable' name='{name}'/>"),
        _ => panic!("`{word}` of the image's tcg_cpu `{qemu}` is neither NAME=on nor NAME=off"),
    };
    let features: String = words.map(feature).collect();
    match model {
        "max" => format!("<cpu mode='maximum'>{features}</cpu>"),
        _ => format!("<cpu mode='custom' match='exact' check='none'><model>{model}</model>{features}</cpu>"),
    }
}

fn text(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}
