//! Wine's surroundings: its prefix in RAM, its registry made from the hives, its environment.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use softoff_guest_registry::{Mount, merge_hive};

use crate::log;

/// WINEPREFIX: in RAM, because the hives on C: are the truth and Wine's registry a product of the boot.
const PREFIX: &str = "/run/prefix";
/// Wine's own registry files, as the image builder left them.
const PRISTINE: &str = "/usr/share/softoff/prefix";
/// Where C: is mounted.
pub(crate) const DRIVE_C: &str = "/c";

/// Hive on C:, the registry file it goes into, and where in it.
const HIVES: &[(&str, &str, Mount)] = &[
    ("windows/system32/config/SYSTEM", "system.reg", Mount::System),
    ("windows/system32/config/SOFTWARE", "system.reg", Mount::Software),
    ("Users/Softoff/NTUSER.DAT", "user.reg", Mount::User),
];

/// Makes the prefix. A hive that cannot be merged is reported, and Wine runs without it: a damaged hive is
/// something that a scenario may want to look at.
pub(crate) fn make_prefix() -> anyhow::Result<()> {
    let prefix = Path::new(PREFIX);
    let devices = prefix.join("dosdevices");
    std::fs::create_dir_all(&devices).with_context(|| format!("cannot make {}", devices.display()))?;
    for (link, target) in [("c:", DRIVE_C), ("z:", "/"), ("com1", "/dev/ttyS0")] {
        symlink(target, devices.join(link)).with_context(|| format!("cannot make the drive {link}"))?;
    }
    // Wine compares this with the age of its own wine.inf and would set up the prefix anew.
    std::fs::write(prefix.join(".update-timestamp"), "disable\n")?;
    for name in ["system.reg", "user.reg", "userdef.reg"] {
        let from = Path::new(PRISTINE).join(name);
        let mut text =
            std::fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
        for (hive, _, mount) in HIVES.iter().filter(|(_, file, _)| *file == name) {
            let path = Path::new(DRIVE_C).join(hive);
            let merged = std::fs::read(&path)
                .map_err(anyhow::Error::from)
                .and_then(|bytes| Ok(merge_hive(&mut text, &bytes, *mount)?));
            if let Err(error) = merged {
                log::trouble(&format!("the hive {hive} was not merged: {error:#}"));
            }
        }
        std::fs::write(prefix.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

/// A command with Wine's environment and nothing else in it.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs([
        ("PATH", "/usr/lib/wine:/usr/bin:/usr/sbin"),
        ("HOME", "/run/home"),
        ("LANG", "C.UTF-8"),
        ("DISPLAY", ":0"),
        ("WINEPREFIX", PREFIX),
        ("WINEDEBUG", "-all"),
        // mscoree and mshtml would offer to install Mono and Gecko; there is no menu to build.
        ("WINEDLLOVERRIDES", "mscoree,mshtml,winemenubuilder.exe="),
    ]);
    command
}

/// `winrun PROGRAM ARGS`: becomes Wine with that program.
pub(crate) fn winrun_main(args: impl Iterator<Item = String>) -> ExitCode {
    let args: Vec<String> = args.collect();
    if args.is_empty() {
        eprintln!(
            "usage: winrun PROGRAM [ARGUMENT]...\nRuns a Win32 program, such as: winrun reg query HKLM\\System"
        );
        return ExitCode::FAILURE;
    }
    let error = command("/usr/lib/wine/wine64").args(args).exec();
    eprintln!("winrun: cannot start Wine: {error}");
    ExitCode::FAILURE
}
