//! UEFI firmware: OVMF's code is shared, its variable store is copied for each machine and thrown away.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::command_line::Firmware;

/// Code and variable store as the distributions install them (Debian and Ubuntu `ovmf`, Fedora
/// `edk2-ovmf`); the 4 MiB builds first, since Debian 13 ships only those.
const PLACES: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
];

/// The same for Secure Boot: the build that needs SMM, and a variable store with Microsoft's keys in it (file lists of
/// Debian's `ovmf` and Fedora's `edk2-ovmf`).
const SECURE_PLACES: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/OVMF/OVMF_CODE.ms.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
];

/// The firmware installed here: code, pristine variables.
pub fn installed(secure_boot: bool) -> Option<(PathBuf, PathBuf)> {
    let places = if secure_boot { SECURE_PLACES } else { PLACES };
    let pair =
        places.iter().find(|(code, variables)| Path::new(code).exists() && Path::new(variables).exists());
    pair.map(|(code, variables)| (code.into(), variables.into()))
}

/// Copies the variable store into a machine's folder.
pub(super) fn prepare(folder: &Path, secure_boot: bool) -> anyhow::Result<Firmware> {
    let (code, pristine) = installed(secure_boot)
        .context("this image boots by UEFI, and OVMF is not installed; `apt-get install ovmf`")?;
    let variables = folder.join("efi-variables.fd");
    std::fs::copy(&pristine, &variables).with_context(|| format!("cannot copy {}", pristine.display()))?;
    Ok(Firmware { code, variables })
}
