//! Whom libvirt's programs run as, and what they see of the host.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::accel::Accelerator;
use anyhow::Context;

/// User and group `nobody` on Debian, Ubuntu and Fedora.
const NOBODY: u32 = 65534;

const KVM: &str = "/dev/kvm";

/// The account of one folder: our own, or as root `nobody`, since a libvirtd of root's is the system's
/// instance, whose places are fixed.
#[derive(Debug, Clone)]
pub(super) struct Account {
    folder: PathBuf,
    /// The group of `nobody`; `None` when we are not root.
    other: Option<u32>,
}

impl Account {
    pub(super) fn of(folder: &Path, accelerator: Accelerator) -> anyhow::Result<Account> {
        let root = nix::unistd::geteuid().is_root();
        let group = || match accelerator {
            // Debian gives the device to the group `kvm` alone.
            Accelerator::Kvm => {
                let device = std::fs::metadata(KVM);
                device.map(|m| m.gid()).with_context(|| format!("cannot look at {KVM}; try without KVM"))
            }
            Accelerator::Tcg => Ok(NOBODY),
        };
        Ok(Account { folder: folder.to_owned(), other: root.then(group).transpose()? })
    }

    /// Gives a folder and what is in it to the account.
    pub(super) fn hand_over(&self, folder: &Path) -> anyhow::Result<()> {
        if self.other.is_none() {
            return Ok(());
        }
        let give = |path: &Path| {
            let given = chown(path, Some(NOBODY), Some(NOBODY));
            given.with_context(|| {
                format!("cannot give {} to the user `nobody`; run as an ordinary user", path.display())
            })
        };
        give(folder)?;
        let entries =
            std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries.flatten() {
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => self.hand_over(&entry.path())?,
                false => give(&entry.path())?,
            }
        }
        Ok(())
    }

    /// Whether it is another one than our own.
    pub(super) fn is_other(&self) -> bool {
        self.other.is_some()
    }

    /// Its name, for people.
    pub(super) fn name(&self) -> &'static str {
        if self.is_other() { "`nobody`" } else { "this user" }
    }

    /// A command that sees nothing of the user's own libvirt, and is not root.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env_clear().env("LC_ALL", "C").env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
        command.env("HOME", &self.folder).current_dir(&self.folder);
        let places = [
            ("RUNTIME_DIR", "run"),
            ("CONFIG_HOME", "config"),
            ("CACHE_HOME", "cache"),
            ("DATA_HOME", "data"),
        ];
        for (name, place) in places {
            command.env(format!("XDG_{name}"), self.folder.join(place));
        }
        if let Some(group) = self.other {
            command.uid(NOBODY).gid(group);
        }
        command
    }
}
