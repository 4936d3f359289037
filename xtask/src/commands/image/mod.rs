//! `cargo xtask image`

mod build;
mod catalog;
mod harden;
mod list;

pub(crate) use build::Firmware;

use crate::Failure;

/// Build, harden and show images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask image build reference
  cargo xtask image catalog
  cargo xtask image build windows-server-2022 --iso SERVER_EVAL.iso --virtio-win virtio-win.iso
  cargo xtask image harden overlay.qcow2
  cargo xtask image list")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build an image: the reference guest, or a Windows from your installation disc
    Build(Box<build::Args>),
    /// Show what can be built from a disc of yours, and what is known of each
    Catalog(catalog::Args),
    /// Apply the hardening profile to an overlay of a stopped machine, or write it as files
    Harden(harden::Args),
    /// Show the images in the cache
    List,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Build(args) => build::execute(args),
        Command::Catalog(args) => catalog::execute(args),
        Command::Harden(args) => harden::execute(args),
        Command::List => list::execute(),
    }
}
