//! `cargo xtask doctor`

use std::path::Path;

use softoff_harness::machine::QEMU;
use softoff_harness::machine::accel::KvmState;
use softoff_harness::{host, machine};

use crate::host_tools::{self, By, apt_line, missing_packages, needs};
use crate::ui::table;
use crate::{Failure, commands::run::PREFLIGHT_LIMIT};

/// Check what this machine has, and print the command that gets what is missing
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask doctor\n  cargo xtask doctor --install")]
pub(crate) struct Args {
    /// Install what is missing
    #[arg(long)]
    install: bool,
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    if args.install {
        host_tools::ensure(host_tools::By::Test, true)?;
    }
    let needs = needs();
    let rows = needs.iter().map(|need| {
        let by = match need.by {
            By::Run => "every run",
            By::Libvirt => "runs through libvirt",
            By::Disc => "images from a disc",
            By::Test => "xtask test",
            By::SomeImages => "some images",
        };
        let state = match &need.found {
            Some(path) => path.display().to_string(),
            None => format!("MISSING: apt-get install {}", need.package),
        };
        vec![need.what.clone(), state, by.to_owned(), need.used_for.to_owned()]
    });
    println!("{}", table(&["what", "state", "needed by", "to"], rows.collect()));
    let swept = machine::folder::sweep();
    if swept > 0 {
        println!("removed {swept} temporary folders of runs that were killed");
    }
    let packages = missing_packages(&needs, host_tools::By::Test);
    if needs.iter().any(|n| n.what == QEMU && n.found.is_some()) {
        tell_host();
    }
    if packages.is_empty() {
        println!("everything needed is here; next: cargo xtask run");
        return Ok(());
    }
    println!("next: {}\n  or: cargo xtask doctor --install", apt_line(&packages));
    Err(Failure::Infra(None))
}

fn tell_host() {
    let qemu = Path::new(QEMU);
    match host::HostFingerprint::collect(qemu) {
        Ok(host) => println!(
            "host: {}, kernel {}, {} x {}, {} MiB, QEMU {}",
            host.distribution, host.kernel, host.cpus, host.cpu_model, host.memory_mib, host.qemu
        ),
        Err(e) => println!("host: {e}"),
    }
    println!("QEMU is confined by: {}", machine::confine::describe());
    let cache = softoff_images::cache::cache_root();
    match machine::accel::preflight(qemu, Some(&cache), PREFLIGHT_LIMIT) {
        Ok(KvmState::Works) => println!("accelerator: KVM works (a test boot passed)"),
        Ok(state) => println!("accelerator: TCG (emulation), because {state}"),
        Err(e) => println!("accelerator: {e}"),
    }
}
