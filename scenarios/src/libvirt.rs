//! What the engine's own libvirt backend is held against: a domain that nobody but virsh touches, with its serial ports
//! in files. Used by the tests in `tests/suite/libvirt.rs`, and the row `control-vs-peer` of `cargo xtask bench`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use softoff_guest_protocol::probe::ProbeLine;
use softoff_harness::host::find_program;
use softoff_harness::image::Image;
use softoff_harness::inject;
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::command_line::{AtRestart, Memory, Plan, Sockets};
use softoff_harness::machine::libvirt::{Definition, Events, Libvirt, Ports};
use softoff_harness::machine::{QEMU, overlay};
use softoff_harness::scenario::Scenario;

/// The domain's name.
pub const NAME: &str = "softoff";

/// The files of one domain, all in one folder.
#[derive(Debug)]
pub struct Domain {
    image: Arc<Image>,
    accelerator: Accelerator,
    folder: PathBuf,
}

impl Domain {
    /// Makes a new `folder` and the overlay in it, for an image whose files QEMU may read ([`Libvirt::image`]).
    pub async fn make(
        image: Arc<Image>,
        accelerator: Accelerator,
        folder: PathBuf,
    ) -> anyhow::Result<Domain> {
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let domain = Domain { image, accelerator, folder };
        domain.renew().await?;
        Ok(domain)
    }

    /// Makes the overlay, in place of one that a run has written to.
    pub async fn renew(&self) -> anyhow::Result<()> {
        overlay::of_image(&self.image, &self.overlay()).await
    }

    /// What the guest writes to.
    pub fn overlay(&self) -> PathBuf {
        self.folder.join("overlay.qcow2")
    }

    /// A QMP socket beside libvirt's own.
    pub fn qmp(&self) -> PathBuf {
        Sockets::within(&self.folder).qmp
    }

    /// Puts a scenario's conditions into the overlay, before the domain is started.
    pub fn inject(&self, scenario: &Scenario) -> anyhow::Result<()> {
        for condition in &scenario.conditions {
            let edits = condition.offline(self.image.manifest.family);
            inject::apply(&self.overlay(), &self.image.disk_paths(), &edits)?;
        }
        Ok(())
    }

    /// COM1: probe lines.
    pub fn com1(&self) -> PathBuf {
        self.folder.join("com1")
    }

    /// COM2: the guest's console.
    pub fn com2(&self) -> PathBuf {
        self.folder.join("com2")
    }

    /// What the guest has told on COM1 so far, in whole lines. An error when a line is none of the protocol's.
    pub fn told(&self) -> anyhow::Result<Vec<ProbeLine>> {
        let bytes = std::fs::read(self.com1())
            .with_context(|| format!("cannot read {}; was the domain started?", self.com1().display()))?;
        let whole = bytes.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n"));
        let parse = |l: &[u8]| ProbeLine::parse(l).with_context(|| format!("on COM1: {}", l.escape_ascii()));
        whole.map(parse).collect()
    }

    fn xml(&self) -> anyhow::Result<String> {
        let emulator = find_program(QEMU)
            .with_context(|| format!("{QEMU} is missing here; `cargo xtask doctor` tells how to get it"))?;
        let plan = Plan {
            image: &self.image,
            overlay: &self.overlay(),
            accelerator: self.accelerator,
            sockets: &Sockets::within(&self.folder),
            attach: None,
            firmware: None,
            tpm: None,
            memory: Memory::Anonymous,
            discs: &[],
            at_restart: AtRestart::GoesOn,
        };
        let (com1, com2) = (self.com1(), self.com2());
        let ports = Ports::Files(&com1, &com2);
        Definition { name: NAME, emulator: &emulator, plan: &plan, ports }.xml()
    }

    /// Defines it; its files are given to libvirt's account.
    pub async fn define(&self, libvirt: &Libvirt) -> anyhow::Result<()> {
        let definition = self.folder.join("domain.xml");
        std::fs::write(&definition, self.xml()?)
            .with_context(|| format!("cannot write {}; is the disk full?", definition.display()))?;
        libvirt.hand_over(&self.folder)?;
        libvirt.virsh(&["define", path(&definition)]).await?;
        Ok(())
    }

    /// Defines and starts it.
    pub async fn run(&self, libvirt: &Libvirt) -> anyhow::Result<Events> {
        self.define(libvirt).await?;
        libvirt.virsh(&["start", NAME]).await?;
        libvirt.events(NAME).await
    }
}

/// Our temporary folders' names are plain text.
fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
