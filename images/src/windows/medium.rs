//! The answer disc: answer file, drivers, guest agent, probe, the script of the first logon.
//!
//! A disc and not a stick: Setup numbers sticks among the disks, and the answer file wipes disk 0.

use std::path::{Path, PathBuf};

use anyhow::Context;
use softoff_harness::guest::quoting::Unquotable;

use super::media::{CheckedMedia, XORRISO};
use crate::answer::{ANSWER_FILE, Answers, FIRST_LOGON, FOLDER, GENERALIZED};
use crate::catalog::Catalog;
use crate::tools;

/// Label of the disc.
const LABEL: &str = "SOFTOFF";

/// Debug symbols: large, and of no use to an installation.
const LEFT_OUT: &str = "pdb";

/// What goes onto the disc besides what the media hold.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The answers.
    pub answers: &'a Answers<'a>,
    /// `probe.exe` for 64 bits.
    pub probe: &'a Path,
}

/// Makes the disc at `out`, by way of a folder of that name with `.tree` behind it.
pub fn make(
    catalog: &Catalog,
    contents: &Contents<'_>,
    media: &CheckedMedia,
    out: &Path,
) -> anyhow::Result<()> {
    let tree = PathBuf::from(format!("{}.tree", out.display()));
    if tree.exists() {
        std::fs::remove_dir_all(&tree).context("removing an old answer disc")?;
    }
    let folder = tree.join(FOLDER);
    std::fs::create_dir_all(folder.join("drivers")).context("making the answer disc's folders")?;
    let agent = catalog.driver_disc.agent.rsplit('/').next().unwrap_or_default();
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    write(&tree.join(ANSWER_FILE), contents.answers.document()?.as_bytes())?;
    let script =
        contents.answers.first_logon_script(agent).map_err(|why: Unquotable| anyhow::anyhow!(why))?;
    write(&folder.join(FIRST_LOGON), script.as_bytes())?;
    if let Some(next_start) = contents.answers.generalized_document()? {
        write(&folder.join(GENERALIZED), next_start.as_bytes())?;
    }
    std::fs::copy(contents.probe, folder.join("probe.exe"))
        .with_context(|| format!("cannot copy {}", contents.probe.display()))?;
    if let Some((disc, _)) = &media.drivers {
        extract(disc, &catalog.driver_disc.agent, &folder.join(agent))?;
        for driver in &media.driver_folders {
            let name = driver.split('/').next().unwrap_or_default();
            let place = folder.join("drivers").join(name);
            extract(disc, driver, &place)?;
            remove_symbols(&place)?;
        }
    }
    tools::run(
        tools::command(XORRISO)
            .args(["-as", "mkisofs", "-quiet", "-V", LABEL, "-J", "-joliet-long", "-r", "-o"])
            .arg(out)
            .arg(&tree),
    )
    .context("making the answer disc")?;
    std::fs::remove_dir_all(&tree).context("removing the answer disc's folder")
}

/// Takes a file or a folder from a disc.
pub(super) fn extract(disc: &Path, from: &str, to: &Path) -> anyhow::Result<()> {
    tools::run(
        tools::command(XORRISO)
            .args(["-osirrox", "on", "-indev"])
            .arg(disc)
            .args(["-extract", &format!("/{from}")])
            .arg(to),
    )
    .with_context(|| format!("taking {from} from {}", disc.display()))?;
    writable(to)
}

/// Files of a disc are read-only, and so are the folders that they lie in.
fn writable(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = path.is_dir();
    let mode = if folder { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("making {} writable", path.display()))?;
    if folder {
        for entry in std::fs::read_dir(path)? {
            writable(&entry?.path())?;
        }
    }
    Ok(())
}

fn remove_symbols(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let symbols = path.extension().is_some_and(|e| e.eq_ignore_ascii_case(LEFT_OUT));
        if symbols && path.is_file() {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
