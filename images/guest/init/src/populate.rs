//! `softoff.mode=populate`: fills a new system volume, once, when the image is built.
//!
//! The host packs what C: shall hold as a tar archive and attaches it raw, as the disk with serial `files`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};

use crate::block;

const VOLUME: &str = "/volume";

/// What was written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Written {
    files: u64,
    folders: u64,
    bytes: u64,
}

/// Powers the machine off, whatever happened; the line on the console tells which.
pub(crate) fn main() -> anyhow::Result<()> {
    let line = match fill() {
        Ok(Written { files, folders, bytes }) => {
            format!("softoff-populate: done files={files} folders={folders} bytes={bytes}\n")
        }
        Err(error) => format!("softoff-populate: failed: {error:#}\n"),
    };
    if let Ok(mut console) = File::options().write(true).open("/dev/console") {
        let _ = console.write_all(line.as_bytes());
        let _ = nix::sys::termios::tcdrain(&console);
    }
    reboot(RebootMode::RB_POWER_OFF).context("cannot power off")?;
    Ok(())
}

fn fill() -> anyhow::Result<Written> {
    let partition = block::system_partition()?;
    let source = block::device("files")?;
    mount(Some(&partition), VOLUME, Some("ntfs3"), MsFlags::MS_NOATIME, None::<&str>)
        .with_context(|| format!("cannot mount {} as ntfs3", partition.display()))?;
    let archive = File::open(&source).with_context(|| format!("cannot open {}", source.display()))?;
    let written = unpack(BufReader::with_capacity(1 << 20, archive), Path::new(VOLUME))?;
    umount2(VOLUME, MntFlags::empty()).context("cannot unmount the filled volume")?;
    Ok(written)
}

fn unpack(archive: impl Read, into: &Path) -> anyhow::Result<Written> {
    let mut written = Written::default();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry.context("the archive is damaged")?;
        let name = entry.path()?.into_owned();
        let path = inside(into, &name).with_context(|| format!("{} leaves the volume", name.display()))?;
        let context = || format!("cannot write {}", name.display());
        if entry.header().entry_type().is_dir() {
            std::fs::create_dir_all(&path).with_context(context)?;
            written.folders += 1;
        } else {
            // The hives' folders exist under Wine's own names; the archive lists parents before children.
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).with_context(context)?;
            }
            let mut file = BufWriter::with_capacity(1 << 18, File::create(&path).with_context(context)?);
            written.bytes += std::io::copy(&mut entry, &mut file).with_context(context)?;
            file.flush().with_context(context)?;
            written.files += 1;
        }
    }
    Ok(written)
}

/// The place of an archive's name below a folder; `None` for a name that would leave it.
fn inside(folder: &Path, name: &Path) -> Option<PathBuf> {
    let plain = name.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    plain.then(|| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_unpacks_and_is_counted() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        builder.append_data(&mut header, "windows", &[][..]).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, "windows/a.txt", &b"abc"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let written = unpack(&bytes[..], dir.path()).unwrap();
        assert_eq!(written, Written { files: 1, folders: 1, bytes: 3 });
        assert_eq!(std::fs::read(dir.path().join("windows/a.txt")).unwrap(), b"abc");
    }

    #[test]
    fn names_stay_on_the_volume() {
        assert_eq!(inside(Path::new("/v"), Path::new("a/b")), Some(PathBuf::from("/v/a/b")));
        assert_eq!(inside(Path::new("/v"), Path::new("../b")), None);
        assert_eq!(inside(Path::new("/v"), Path::new("/b")), None);
    }
}
