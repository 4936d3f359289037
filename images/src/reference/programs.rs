//! Step 6: our own programs, built by cargo: PID 1 for Linux, the session and the probe for Win32.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::progress::{Progress, note, step};
use crate::toolchain::{self, WindowsPrograms};
use crate::tools;

/// The target of PID 1. glibc linked statically: the initial RAM disk has no libraries.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// PID 1 and its other names.
pub(crate) fn init(cache: &Path, progress: &dyn Progress) -> anyhow::Result<PathBuf> {
    step(progress, "build the guest's init", || build_init(cache))
}

/// The session and the probe.
pub(crate) fn windows(cache: &Path, progress: &dyn Progress) -> anyhow::Result<WindowsPrograms> {
    step(progress, "build the Win32 programs", || {
        toolchain::build_windows_programs(cache, &mut |text| note(progress, text))
    })
}

fn build_init(cache: &Path) -> anyhow::Result<PathBuf> {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the images crate has no workspace")?;
    let target_dir = cache.join("target-guest");
    let mut cargo = tools::command("cargo");
    // With --target the flags below reach the program only, not the build scripts of the host.
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--quiet",
            "--profile",
            "guest",
            "--package",
            "softoff-guest-init",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    tools::run(&mut cargo).context("softoff-guest-init does not build")?;
    let built = target_dir.join(TARGET).join("guest/softoff-guest-init");
    anyhow::ensure!(built.exists(), "cargo left no {}", built.display());
    Ok(built)
}
