//! Throw-away overlays: a machine never writes to an image.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::image::{DiskFormat, Image};

/// Makes a qcow2 overlay on the system disk of an image at `path`.
pub async fn of_image(image: &Image, path: &Path) -> anyhow::Result<()> {
    create(&image.file(&image.manifest.system_disk), image.manifest.system_format, path).await
}

/// Makes a qcow2 overlay on `base`, a disk of that format, at `path`.
pub async fn create(base: &Path, format: DiskFormat, path: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"]).arg(base).arg(path);
    let output = super::process::spawn(piped(command))
        .await
        .context("cannot start qemu-img; `cargo xtask doctor` tells how to get it")?
        .wait_with_output()
        .await
        .context("waiting for qemu-img")?;
    if !output.status.success() {
        let said = crate::text::printable(&String::from_utf8_lossy(&output.stderr), 400);
        bail!(
            "qemu-img could not make the overlay {}: {said}; is the disk full? (`df -h {}`)",
            path.display(),
            parent(path).display()
        );
    }
    Ok(())
}

fn piped(mut command: Command) -> Command {
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}
