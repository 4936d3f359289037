//! The control scenario as cloud platforms do it: virsh, and a look each second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use softoff_guest_protocol::probe::ProbeEvent;
use softoff_harness::image::Image;
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::libvirt::Libvirt;
use softoff_scenarios::libvirt::{Domain, NAME};

use crate::host_tools;

/// Between two looks: OpenStack's nova looks at a domain that is to shut down once a second.
const POLL: Duration = Duration::from_secs(1);

/// From the start to an agent that answers; 15 to 60 s were seen under TCG.
const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// From the request to the end; 1 to 10 s were seen.
const END_LIMIT: Duration = Duration::from_secs(300);

/// A libvirtd with the image's files beside it, both there before anything is timed, as on a cloud's host.
pub(super) struct Virsh {
    domain: Domain,
    libvirt: Libvirt,
}

impl Virsh {
    /// Installs libvirt where that may be done, and starts it.
    pub(super) async fn start(image: &Image, accelerator: Accelerator) -> anyhow::Result<Virsh> {
        host_tools::ensure(host_tools::By::Libvirt, false)?;
        let libvirt = Libvirt::start(accelerator).await?;
        let domain = Domain::make(
            libvirt.image(&Arc::new(image.clone()))?,
            accelerator,
            libvirt.folder().join("guest"),
        )
        .await?;
        Ok(Virsh { domain, libvirt })
    }

    /// One control scenario: overlay, define, start, agent, press, off, undefine. An error when it did not end
    /// in a soft shutdown.
    pub(super) async fn control(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.domain.renew().await?;
        self.domain.define(&self.libvirt).await?;
        self.libvirt.virsh(&["start", NAME]).await?;
        self.until_ready().await?;
        self.libvirt.virsh(&["shutdown", NAME, "--mode", "acpi"]).await?;
        self.until_off().await?;
        self.libvirt.virsh(&["undefine", NAME]).await?;
        std::fs::remove_file(self.domain.overlay()).context("removing the overlay")?;
        Ok(began.elapsed())
    }

    /// Our own readiness, looked for each second: the agent answers, and the session tells its desktop on COM1.
    /// A press at the agent's first answer was seen to end nothing within two minutes.
    async fn until_ready(&self) -> anyhow::Result<()> {
        const PING: [&str; 5] = ["qemu-agent-command", NAME, r#"{"execute":"guest-ping"}"#, "--timeout", "5"];
        let began = Instant::now();
        loop {
            let answer = self.libvirt.virsh(&PING).await;
            if answer.is_ok() && self.told_desktop()? {
                return Ok(());
            }
            let state = self.state().await?;
            if !state.starts_with("running") || began.elapsed() > BOOT_LIMIT {
                bail!(
                    "the guest was not ready within {:?}: its agent: {answer:?}; the domain is {state}; QEMU wrote:\n{}",
                    began.elapsed(),
                    self.libvirt.qemu_log(NAME)
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn told_desktop(&self) -> anyhow::Result<bool> {
        let told = self.domain.told()?;
        Ok(told.iter().any(|line| matches!(line.event, ProbeEvent::DesktopReady { .. })))
    }

    async fn until_off(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            match self.state().await?.as_str() {
                "shut off (shutdown)" => return Ok(()),
                state if state.starts_with("running") || state.starts_with("in shutdown") => {
                    if began.elapsed() > END_LIMIT {
                        bail!("the domain is still {state} {END_LIMIT:?} after `virsh shutdown --mode acpi`");
                    }
                }
                other => bail!("the domain is {other}: no soft shutdown"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// libvirt's word with its reason, such as `running (booted)`.
    async fn state(&self) -> anyhow::Result<String> {
        Ok(self.libvirt.virsh(&["domstate", "--reason", NAME]).await?)
    }
}
