//! In the initial RAM disk: kernel modules, the root file system, and over to it.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot, execv};

use crate::{block, log, populate, sleep};

/// Where this program puts itself, for the links `/sbin/shutdown` and `/usr/bin/winrun` of the root.
pub(crate) const OWN_PLACE: &str = "/run/softoff/init";

const NEW_ROOT: &str = "/newroot";

/// Does not return, except with an error.
pub(crate) fn main() -> anyhow::Result<()> {
    mount_fs("devtmpfs", "/dev", MsFlags::MS_NOSUID, "")?;
    mount_fs("proc", "/proc", MsFlags::empty(), "")?;
    mount_fs("sysfs", "/sys", MsFlags::empty(), "")?;
    mount_fs("tmpfs", "/run", MsFlags::empty(), "mode=0755")?;
    let cmdline = std::fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    if cmdline.split_whitespace().any(|word| word == "softoff.mode=populate") {
        load_modules("populate")?;
        return populate::main();
    }
    load_modules("root")?;
    // Before anything is mounted: the image knows the volume as it was left.
    sleep::resume_if_hibernated();
    let root = block::device("root")?;
    mount(Some(&root), NEW_ROOT, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>)
        .with_context(|| format!("cannot mount the root from {}", root.display()))?;
    load_modules("system")?;
    std::fs::create_dir_all("/run/softoff").context("cannot make /run/softoff")?;
    std::fs::copy("/init", OWN_PLACE).context("cannot copy /init")?;
    log::say("changing to the root file system");
    switch_root().context("cannot change to the root file system")
}

/// A kernel file system on a folder of the same name.
pub(crate) fn mount_fs(kind: &str, at: &str, flags: MsFlags, options: &str) -> anyhow::Result<()> {
    match mount(Some(kind), at, Some(kind), flags, Some(options)) {
        Ok(()) => Ok(()),
        // devtmpfs may be there already: kernels with CONFIG_DEVTMPFS_MOUNT do it.
        Err(Errno::EBUSY) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot mount {kind} on {at}")),
    }
}

/// Loads the modules of one list, in its order. One that fails is reported; what needs it will say more.
fn load_modules(list: &str) -> anyhow::Result<()> {
    let folder = Path::new("/modules");
    let names =
        std::fs::read_to_string(folder.join(list)).with_context(|| format!("no module list {list}"))?;
    for name in names.lines() {
        let loaded = File::open(folder.join(format!("{name}.ko")))
            .map_err(anyhow::Error::from)
            .and_then(|file| Ok(finit_module(file, c"", ModuleInitFlags::empty())?));
        match loaded {
            Ok(()) => {}
            Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::EEXIST) => {}
            Err(error) => log::say(&format!("module {name}: {error}")),
        }
    }
    Ok(())
}

fn switch_root() -> anyhow::Result<()> {
    for at in ["/dev", "/proc", "/sys", "/run"] {
        mount(Some(at), format!("{NEW_ROOT}{at}").as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .with_context(|| format!("cannot move {at}"))?;
    }
    chdir(NEW_ROOT)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")?;
    let own = CString::new(Path::new(OWN_PLACE).as_os_str().as_bytes())?;
    execv(&own, &[&own])?;
    Ok(())
}
