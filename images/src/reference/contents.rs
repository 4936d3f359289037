//! What C: holds of ours: the Win32 programs and the registry hives. It lies on the upper layer of the system disk.

use std::path::Path;

use anyhow::Context;
use softoff_harness::image::Sha256Hex;

use super::hives::HIVES;
use super::volume::{Archive, Content};
use crate::toolchain::WindowsPrograms;

/// Folders that Wine does not make.
const FOLDERS: &[&str] =
    &["softoff", "windows/system32/config", "windows/system32/winevt", "windows/system32/winevt/Logs"];

/// One file of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnFile {
    /// Path on C:, with slashes.
    pub(crate) path: String,
    /// Content.
    pub(crate) bytes: Vec<u8>,
    /// Hash of what decides it. Not always of its bytes: regf writes the time into each key of a hive.
    pub(crate) decided_by: Sha256Hex,
}

/// All of them, in a fixed order; `hives` is the hash of what decides the hives.
pub(crate) fn own_files(programs: &WindowsPrograms, hives: &Sha256Hex) -> anyhow::Result<Vec<OwnFile>> {
    let mut files = Vec::new();
    for (path, name) in [(&programs.session, "session.exe"), (&programs.probe, "probe.exe")] {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let decided_by = Sha256Hex::of_bytes(&bytes);
        files.push(OwnFile { path: format!("softoff/{name}"), bytes, decided_by });
    }
    for hive in HIVES {
        files.push(OwnFile { path: hive.path.to_owned(), bytes: hive.file()?, decided_by: hives.clone() });
    }
    Ok(files)
}

/// Packs them, with their folders, into a tar archive.
pub(crate) fn pack(files: &[OwnFile], out: &Path) -> anyhow::Result<Content> {
    let mut archive = Archive::create(out)?;
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    for file in files {
        archive.file(&file.path, &file.bytes)?;
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_hives_are_packed_with_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("x.exe");
        std::fs::write(&exe, "MZ").unwrap();
        let programs = WindowsPrograms { session: exe.clone(), probe: exe };
        let hives = Sha256Hex::of_bytes(b"hives");
        let files = own_files(&programs, &hives).unwrap();
        let identities = |files: Vec<OwnFile>| files.into_iter().map(|f| f.decided_by).collect::<Vec<_>>();
        assert_eq!(
            identities(own_files(&programs, &hives).unwrap()),
            identities(files.clone()),
            "at any time"
        );
        let out = dir.path().join("files.tar");
        let content = pack(&files, &out).unwrap();
        assert_eq!(content.files, files.len() as u64);
        let mut archive = tar::Archive::new(std::fs::File::open(&out).unwrap());
        let names: Vec<String> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        for wanted in ["softoff/session.exe", "softoff/probe.exe", "Users/Softoff/NTUSER.DAT"] {
            assert!(names.iter().any(|n| n == wanted), "{wanted} is not in {names:?}");
        }
        for folder in FOLDERS {
            assert!(names.iter().any(|n| n.trim_end_matches('/') == *folder), "{folder} is not in {names:?}");
        }
    }
}
