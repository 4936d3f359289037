//! `cargo xtask image build`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use softoff_harness::image::Sha256Hex;
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::folder;
use softoff_images::catalog::{Catalog, FirmwareKind};
use softoff_images::windows::media::{self, Lacks, Media};
use softoff_images::windows::{Build, BuildError};
use tokio::sync::watch;

use crate::commands::run::{Accel, accelerator};
use crate::{Failure, host_tools, runtime, stopping, ui};

/// Patience where the guest runs on the processor itself, and where it is emulated: some of Setup's steps show and write
/// nothing for minutes.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
const PATIENCE_TCG: Duration = Duration::from_secs(90 * 60);

/// Build an image: the reference guest, or a Windows from your installation disc
///
/// `reference` needs nothing and takes a few minutes; `cargo xtask run` builds it, too. A Windows is installed
/// unattended from an evaluation disc of yours, under QEMU, without a network: the media are checked, an answer disc is
/// made, the key that the disc asks for is pressed, milestones are told with the screen saved at each, guest agent
/// and Softoff's probe are installed. How long that takes, nobody has measured yet. What fails or is
/// stopped goes on from the guest's last restart when the same command is given again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask image build reference
  cargo xtask image build windows-server-2022 --iso SERVER_EVAL.iso --virtio-win virtio-win.iso
  cargo xtask image build windows-11 --iso WIN11_EVAL.iso --virtio-win virtio-win.iso --hardened
  cargo xtask image build windows-10 --iso W10.iso --iso-sha256 DIGEST --virtio-win virtio-win.iso --firmware bios
  cargo xtask image build reactos --iso bootcd.iso

Exit codes: 0 the image is there (its folder is printed), 2 wrong usage or media that do not fit, 3 the host lacks
something, or the installation came to a stand.")]
pub(super) struct Args {
    /// `reference`, or a name of `cargo xtask image catalog`
    name: String,
    /// The installation disc
    #[arg(long, value_name = "FILE")]
    iso: Option<PathBuf>,
    /// Its SHA-256, where the catalogue has none or another
    #[arg(long, value_name = "DIGEST", requires = "iso", value_parser = digest)]
    iso_sha256: Option<Sha256Hex>,
    /// The disc with virtio drivers, virtio-win.iso
    #[arg(long, value_name = "FILE", requires = "iso")]
    virtio_win: Option<PathBuf>,
    /// A catalogue of your own instead of Softoff's
    #[arg(long, value_name = "FILE", requires = "iso")]
    catalog: Option<PathBuf>,
    /// Apply the hardening profile
    #[arg(long, requires = "iso")]
    hardened: bool,
    /// Generalise it by sysprep in the end: an image for handing out, not for runs
    ///
    /// Each start on a fresh overlay then configures Windows anew and goes through the out-of-box experience, unattended,
    /// which takes minutes.
    #[arg(long, requires = "iso")]
    sysprep: bool,
    /// Its firmware; the system's usual one when absent
    #[arg(long, value_enum, requires = "iso")]
    firmware: Option<Firmware>,
    /// Index of the edition in the disc's sources\install.wim
    #[arg(long, value_name = "N", requires = "iso")]
    edition_index: Option<u32>,
    /// Size of its disk in GiB
    #[arg(long, value_name = "GIB", requires = "iso", value_parser = clap::value_parser!(u32).range(1..=4096))]
    disk_gib: Option<u32>,
    /// How long nothing may happen before the installation counts as stuck, in seconds; 20 minutes with KVM, 90 without
    #[arg(long, value_name = "SECONDS", requires = "iso", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: Option<u64>,
    /// Begin anew, whatever was done before
    #[arg(long, requires = "iso")]
    restart: bool,
    /// How the guest's instructions are run
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
    /// Install missing packages without asking whether this is a machine for it
    #[arg(long)]
    install: bool,
}

/// Firmware on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Firmware {
    /// OVMF, GPT
    Uefi,
    /// SeaBIOS, MBR
    Bios,
}

impl From<Firmware> for FirmwareKind {
    fn from(firmware: Firmware) -> FirmwareKind {
        match firmware {
            Firmware::Uefi => FirmwareKind::Uefi,
            Firmware::Bios => FirmwareKind::Bios,
        }
    }
}

fn digest(text: &str) -> Result<Sha256Hex, String> {
    let text = text.to_ascii_lowercase();
    let hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { Ok(Sha256Hex(text)) } else { Err("a SHA-256 has 64 hexadecimal digits".into()) }
}

pub(super) fn execute(args: &Args) -> Result<(), Failure> {
    if args.name == "reference" {
        if args.iso.is_some() {
            return Err(Failure::Usage(anyhow!(
                "the reference image is built from Debian packages, not from a disc"
            )));
        }
        host_tools::ensure(host_tools::By::Run, args.install)?;
        let image = ui::build::reference()?;
        println!("{}", image.dir.display());
        return Ok(());
    }
    from_disc(args)
}

fn from_disc(args: &Args) -> Result<(), Failure> {
    let usage = |e| Failure::Usage(anyhow::Error::from(e));
    let catalog = Catalog::load(args.catalog.as_deref()).map_err(usage)?;
    let named = || "give `reference`, or a name of the catalogue";
    let entry = catalog.get(&args.name).with_context(named).map_err(Failure::Usage)?;
    let Some(iso) = &args.iso else {
        let what = format!(
            "{} is built from its installation disc: give --iso FILE (usually {})",
            entry.name, entry.iso.file
        );
        return Err(Failure::Usage(anyhow!(what)));
    };
    let usual = entry.firmware.first().copied().context("the catalogue names no firmware")?;
    let firmware = args.firmware.map_or(usual, FirmwareKind::from);
    let lacks = Lacks(media::host_lacks(entry, firmware));
    if !lacks.0.is_empty() && entry.firmware.contains(&firmware) {
        if !args.install {
            return Err(failure(BuildError::HostLacks { lacks }));
        }
        host_tools::install(&lacks.packages(), true)?;
    }
    let accelerator = accelerator(args.accel)?;
    let patience = args.patience.map(Duration::from_secs).unwrap_or(match accelerator {
        Accelerator::Kvm => PATIENCE,
        Accelerator::Tcg => PATIENCE_TCG,
    });
    let _left_by_killed_ones = folder::sweep();
    let cache = softoff_images::cache::cache_root();
    let build = Build {
        catalog: &catalog,
        entry,
        firmware,
        edition: args.edition_index,
        disk_gib: args.disk_gib,
        hardened: args.hardened,
        sysprep: args.sysprep,
        media: Media {
            iso: iso.clone(),
            iso_sha256: args.iso_sha256.clone(),
            drivers: args.virtio_win.clone(),
        },
        accelerator,
        patience,
        restart: args.restart,
        cache: &cache,
    };
    let runtime = runtime::start()?;
    let built = ui::build::showing(&build.image_name(), |progress| {
        runtime.block_on(async {
            let (stop, mut asked) = watch::channel(false);
            stopping::when_asked("stopping: ending the machine", move || {
                stop.send_replace(true);
            })?;
            tokio::select! {
                built = build.run(progress) => anyhow::Ok(Some(built)),
                _ = asked.wait_for(|asked| *asked) => Ok(None),
            }
        })
    })?;
    // Dropping the machine has ended QEMU; the newest overlay is lost, the restarts before it are not.
    let Some(built) = built? else {
        eprintln!("stopped; the same command goes on from the guest's last restart");
        return Err(Failure::Interrupted);
    };
    let image = built.map_err(failure)?;
    eprintln!("image {} ({})", image.manifest.name, image.id.short());
    println!("{}", image.dir.display());
    Ok(())
}

/// Media and options that do not fit are the user's; the rest says nothing about the guest.
fn failure(error: BuildError) -> Failure {
    match error {
        BuildError::NoMedium { .. }
        | BuildError::NotADisc { .. }
        | BuildError::NotABootCd { .. }
        | BuildError::WrongDigest { .. }
        | BuildError::NoDriverDisc { .. }
        | BuildError::NoDriver { .. }
        | BuildError::DiskTooSmall { .. }
        | BuildError::NotAWindows { .. }
        | BuildError::Firmware { .. } => Failure::Usage(error.into()),
        BuildError::NoRoom { .. }
        | BuildError::HostLacks { .. }
        | BuildError::Busy { .. }
        | BuildError::Answers(_)
        | BuildError::Stuck(_)
        | BuildError::Other(_) => Failure::Infra(Some(error.into())),
    }
}
