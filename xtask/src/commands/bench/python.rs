//! Peers from PyPI, each in a virtual environment of its own below the target folder.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::host_tools;

/// The Python of an environment that has this package; made and filled where it is missing.
pub(super) async fn with(package: &str) -> anyhow::Result<PathBuf> {
    let folder = host_tools::workspace().join("target/softoff/bench").join(package);
    let python = folder.join("bin/python");
    // Written last: a half-filled environment is filled again.
    let done = folder.join("installed");
    if done.exists() {
        return Ok(python);
    }
    eprintln!("installing {package} from PyPI into {}", folder.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder)).await?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", package])).await?;
    std::fs::write(&done, package)?;
    Ok(python)
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{:?}", command.as_std());
    let output = command.output().await.with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{shown}: {}", said.lines().last().unwrap_or("no reason given"));
    }
    Ok(())
}
