//! Step 4: the Wine prefix, made by Wine itself in the assembled root.
//!
//! `wineboot --init` runs natively in a chroot inside a private mount namespace (and, for anyone but root,
//! inside a user namespace). It gives `drive_c`, the later C:, and Wine's registry as text.

use std::path::Path;

use anyhow::Context;

use crate::tools;

/// Name of the tree that becomes C:, inside the prefix.
pub(crate) const DRIVE_C: &str = "drive_c";

/// Wine's registry files, the substrate into which the guest merges its regf hives at boot.
pub(crate) const REGISTRY: &[&str] = &["system.reg", "user.reg", "userdef.reg"];

/// What is changed in Wine's fresh registry, and why.
///
/// * `Explorer\Desktop`: one virtual desktop as the whole screen, so that every program shares it.
///   WM_QUERYENDSESSION and EnumWindows reach only their own desktop.
/// * `Ports`: COM1 exists for Win32 programs only through this key; a dosdevices link alone does not do.
/// * `winebth`, `winebus`, `wineusb` disabled: the guest has no such devices, each costs a start-up.
/// * `Enum\ROOT` away: the root devices of those three; at each boot Wine would start a driver host for every one of
///   them, one after the other, only to have it fail. That was 7 s of 17.
/// * `Eventlog`, `NDIS`, `nsiproxy`, `PlugPlay` on demand: started at boot, each is one or two more processes, and a
///   process of Wine's costs the emulated processor a second. Nothing in the guest asks for them.
/// * `MenuBuilder`/`mscoree` are kept out by WINEDLLOVERRIDES instead: they would ask to be installed.
const TUNING: &str = r#"Windows Registry Editor Version 5.00

[HKEY_CURRENT_USER\Software\Wine\Explorer]
"Desktop"="shell"

[HKEY_CURRENT_USER\Software\Wine\Explorer\Desktops]
"shell"="1280x800"

[HKEY_LOCAL_MACHINE\Software\Wine\Ports]
"COM1"="/dev/ttyS0"

[-HKEY_LOCAL_MACHINE\System\CurrentControlSet\Enum\ROOT]

[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\winebth]
"Start"=dword:00000004

[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\winebus]
"Start"=dword:00000004

[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\wineusb]
"Start"=dword:00000004

[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\Eventlog]
"Start"=dword:00000003

[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\NDIS]
"Start"=dword:00000003

[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\nsiproxy]
"Start"=dword:00000003

[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\PlugPlay]
"Start"=dword:00000003
"#;

/// Runs on the host, in the new namespaces: `$1` the root, `$2` the folder for the prefix.
const OUTSIDE: &str = r#"set -e
PATH="$PATH:/usr/sbin:/sbin"
chroot=$(command -v chroot)
mount --bind "$1" "$1"
mount --make-rprivate "$1"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -t tmpfs tmp "$1/tmp"
mount -t tmpfs run "$1/run"
mount --bind "$2" "$1/mnt"
exec env -i PATH=/usr/lib/wine:/usr/bin HOME=/tmp WINEPREFIX=/mnt WINEARCH=win64 WINEDEBUG=-all \
    WINEDLLOVERRIDES="mscoree,mshtml,winemenubuilder.exe=" "$chroot" "$1" /usr/bin/busybox sh -ec "$3"
"#;

/// Runs in the chroot. wineserver writes the registry files when its last client has gone.
const INSIDE: &str = "/usr/lib/wine/wine64 wineboot --init
/usr/lib/wine/wineserver64 -w
/usr/lib/wine/wine64 regedit /S 'Z:\\mnt\\tuning.reg'
/usr/lib/wine/wineserver64 -k || true
/usr/lib/wine/wineserver64 -w
rm -f /mnt/tuning.reg
";

/// Makes the prefix in `prefix` (a new folder) with the Wine of `root`.
pub(crate) fn make(root: &Path, prefix: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(prefix)?;
    std::fs::write(prefix.join("tuning.reg"), TUNING)?;
    let mut command = tools::command("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    // Below a plain chroot the root folder is no mount point, and unshare cannot make it private; what is mounted
    // here is made private on its own.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/")) {
        command.args(["--propagation", "unchanged"]);
    }
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", OUTSIDE, "prefix"]);
    command.arg(root).arg(prefix).arg(INSIDE);
    tools::run(&mut command).context(
        "Wine could not make its prefix. It needs root, or user namespaces for users.\n\
         next step: where user namespaces are restricted (Ubuntu 24.04 and later), run\n  \
         sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0\n\
         in a container, allow CAP_SYS_ADMIN (docker run --privileged)",
    )?;
    for wanted in REGISTRY.iter().chain(&[DRIVE_C, "drive_c/windows/system32/kernel32.dll"]) {
        anyhow::ensure!(prefix.join(wanted).exists(), "Wine made a prefix without {wanted}");
    }
    let system = std::fs::read_to_string(prefix.join("system.reg"))?;
    anyhow::ensure!(system.contains("/dev/ttyS0"), "Wine did not take the changes to its registry");
    Ok(())
}
