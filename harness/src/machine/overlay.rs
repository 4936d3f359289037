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

/// Checks the metadata of the overlay at `path`; an error says what is damaged. Clusters that nobody uses (QEMU was
/// killed) are no damage.
pub async fn check(path: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["check", "-q", "-f", "qcow2"]).arg(path);
    let output = super::process::spawn(piped(command)).await.context("cannot start qemu-img")?;
    let output = output.wait_with_output().await.context("waiting for qemu-img")?;
    // 3: leaked clusters only (qemu-img(1), check).
    if output.status.success() || output.status.code() == Some(3) {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    bail!("qemu-img check: {}", crate::text::printable(String::from_utf8_lossy(&said).trim(), 300))
}

fn piped(mut command: Command) -> Command {
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn damage_below_the_volume_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (base, top) = (dir.path().join("base.qcow2"), dir.path().join("top.qcow2"));
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&base)
            .arg("8M")
            .status()
            .unwrap();
        assert!(made.success());
        create(&base, DiskFormat::Qcow2, &top).await.unwrap();
        check(&top).await.unwrap();
        let file = std::fs::File::options().write(true).open(&top).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 4096], 0).unwrap();
        let error = check(&top).await.unwrap_err();
        assert!(error.to_string().starts_with("qemu-img check: "), "{error}");
    }
}
