//! Steps 2 and 3: unpack the packages and assemble the guest's root from them.
//!
//! The packages unpack to 2 GiB, of which the guest needs a tenth. The root takes the listed programs and
//! data, and for every ELF file the libraries it names (DT_NEEDED), until nothing is missing.

use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use super::packages::Archive;
use crate::tools;

const LIBS: &str = "usr/lib/x86_64-linux-gnu";
const WINE_UNIX: &str = "usr/lib/x86_64-linux-gnu/wine/x86_64-unix";
const WINE_WINDOWS: &str = "usr/lib/x86_64-linux-gnu/wine/x86_64-windows";

/// Files and folders of the packages that the guest uses by name.
const WANTED: &[&str] = &[
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/wine",
    WINE_WINDOWS,
    "usr/share/wine",
    "usr/lib/xorg/Xorg",
    "usr/lib/xorg/protocol.txt",
    "usr/lib/xorg/modules/drivers/modesetting_drv.so",
    "usr/lib/xorg/modules/libshadow.so",
    "usr/lib/xorg/modules/input",
    "usr/share/X11/xkb",
    "usr/bin/xkbcomp",
    // Wine reads every font at each boot: three are enough to write with.
    "usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
    "usr/share/fonts/truetype/liberation/LiberationSans-Bold.ttf",
    "usr/share/fonts/truetype/liberation/LiberationMono-Regular.ttf",
    "usr/share/fontconfig",
    "etc/fonts",
    "usr/sbin/qemu-ga",
    "usr/bin/busybox",
];

/// Libraries that are opened by name at run time: no DT_NEEDED leads to them.
const OPENED_BY_NAME: &[&str] = &[
    "libXfixes.so.3",
    "libXcursor.so.1",
    "libXi.so.6",
    "libXcomposite.so.1",
    "libXinerama.so.1",
    "libXrender.so.1",
    "libXrandr.so.2",
    "libXxf86vm.so.1",
    "libfreetype.so.6",
    "libfontconfig.so.1",
    "libnss_files.so.2",
    "libgnutls.so.30",
    "libgcc_s.so.1",
];

/// Wine's drivers for devices the guest does not have. Each would pull its stack of libraries in:
/// GStreamer, PulseAudio, CUPS, SANE, Mesa.
const NO_DEVICE: &[&str] = &[
    "capi2032.so",
    "gphoto2.so",
    "netapi32.so",
    "odbc32.so",
    "opencl.so",
    "opengl32.so",
    "sane.so",
    "winealsa.so",
    "winebus.so",
    "winecups.so",
    "winedmo.so",
    "winegstreamer.so",
    "winepulse.so",
    "winescard.so",
    "winscard.so",
    "winespool.so",
    "winspool.so",
    "wineusb.so",
    "winevulkan.so",
    "winewayland.so",
    "wpcap.so",
];

/// Folders that must exist as mount points or for programs that do not make them.
const FOLDERS: &[&str] = &[
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "var",
    "c",
    "mnt",
    "root",
    "etc",
    "usr/lib64",
    "usr/share/softoff/prefix",
];

/// No hot plugging of devices (there is no udev to ask): PID 1 writes the sections of keyboard and pointer at
/// boot. No blanking by X: when the display sleeps is the session's policy.
const XORG_CONF: &str = r#"Section "ServerFlags"
    Option "AutoAddDevices" "false"
    Option "AutoAddGPU" "false"
    Option "DontVTSwitch" "true"
    Option "BlankTime" "0"
    Option "StandbyTime" "0"
    Option "SuspendTime" "0"
    Option "OffTime" "0"
EndSection
Section "Device"
    Identifier "gpu"
    Driver "modesetting"
    Option "AccelMethod" "none"
    Option "ShadowFB" "true"
EndSection
"#;

/// The one user, the administrator that logs on by itself. Wine names the profile folder after it:
/// `C:\Users\Softoff`.
const PASSWD: &str = "Softoff:x:0:0:Softoff:/root:/bin/sh\n";

/// Unpacks every archive into one folder, two at a time. The largest come first: a few hold half of all bytes, and
/// one that is begun last leaves the other worker idle.
pub(crate) fn unpack(archives: &[Archive], into: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(into)?;
    let mut queue: Vec<&Archive> = archives.iter().collect();
    queue.sort_by_key(|archive| archive.path.metadata().map_or(0, |m| m.len()));
    let queue = Mutex::new(queue);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    std::thread::scope(|scope| {
        let work = || {
            while let Some(archive) = next() {
                tools::run(tools::command("dpkg-deb").arg("-x").arg(&archive.path).arg(into))?;
            }
            Ok(())
        };
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| anyhow::bail!("an unpacking thread died"))
        })
    })
}

/// Assembles the root in `dest` from the unpacked packages in `source`.
pub(crate) fn assemble(source: &Path, dest: &Path) -> anyhow::Result<()> {
    let mut closure = Closure { source, dest, done: HashSet::new() };
    for wanted in WANTED {
        closure.take(Path::new(wanted))?;
    }
    for name in OPENED_BY_NAME {
        let library = closure.library(name).with_context(|| format!("no package brings {name}"))?;
        closure.take(&library)?;
    }
    for entry in sorted_names(&source.join(WINE_UNIX))? {
        if !NO_DEVICE.contains(&entry.as_str()) {
            closure.take(&Path::new(WINE_UNIX).join(entry))?;
        }
    }
    for folder in FOLDERS {
        std::fs::create_dir_all(dest.join(folder))?;
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
        ("usr/bin/sh", "busybox"),
    ] {
        symlink(target, dest.join(link)).with_context(|| format!("cannot make the link {link}"))?;
    }
    std::fs::create_dir_all(dest.join("etc/X11"))?;
    std::fs::write(dest.join("etc/X11/xorg.conf"), XORG_CONF)?;
    std::fs::write(dest.join("etc/passwd"), PASSWD)?;
    std::fs::write(dest.join("etc/group"), "root:x:0:\n")?;
    std::fs::write(dest.join("etc/hosts"), "127.0.0.1 localhost reference\n")?;
    finish_wine(source, dest)
}

/// Wine's bitmap fonts for other code pages than the guest's: `coue1255.fon`, `ssef874.fon`, `jvgafix.fon`.
fn is_foreign_font(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".fon") else { return name.ends_with("_jp.ttf") };
    let own = ["coure", "courier", "cvgasys", "smalle", "sserife", "sseriff", "vgafix", "vgaoem", "vgasys"];
    !own.contains(&stem)
}

/// What libwine's maintainer scripts would do, and stripping: 767 MB of DLLs become 190.
fn finish_wine(source: &Path, dest: &Path) -> anyhow::Result<()> {
    // `wineserver` is a shell wrapper that picks a bitness; there is one.
    let wineserver = dest.join("usr/lib/wine/wineserver");
    std::fs::remove_file(&wineserver).context("libwine has no wineserver wrapper any more")?;
    symlink("wineserver64", &wineserver)?;

    let windows = dest.join(WINE_WINDOWS);
    let names: Vec<String> = sorted_names(&windows)?;
    let code = |name: &&String| {
        ![".tlb", ".msstyles", ".nls"].iter().any(|data| name.ends_with(data)) && name.as_str() != "zlib1.dll"
    };
    let files: Vec<PathBuf> = names.iter().filter(code).map(|name| windows.join(name)).collect();
    // A file that is no PE image makes strip complain and go on: its exit status says nothing here.
    std::thread::scope(|scope| {
        for half in files.chunks(files.len().div_ceil(2).max(1)) {
            scope.spawn(move || {
                for few in half.chunks(50) {
                    let _ = tools::command("x86_64-w64-mingw32-strip").args(few).output();
                }
            });
        }
    });

    let fonts = dest.join("usr/share/wine/fonts");
    for name in sorted_names(&fonts)?.iter().filter(|name| is_foreign_font(name)) {
        std::fs::remove_file(fonts.join(name))?;
    }

    let zlib = source.join("usr/x86_64-w64-mingw32/lib/zlib1.dll");
    let mut bytes = std::fs::read(&zlib).with_context(|| format!("cannot read {}", zlib.display()))?;
    mark_builtin(&mut bytes).with_context(|| format!("{} is no PE image", zlib.display()))?;
    let placed = windows.join("zlib1.dll");
    let _ = std::fs::remove_file(&placed);
    std::fs::write(placed, bytes)?;
    Ok(())
}

/// Marks a DLL as Wine's own: the text stands behind the DOS header, at offset 64.
fn mark_builtin(pe: &mut [u8]) -> Option<()> {
    let mut mark = [0u8; 32];
    mark.get_mut(..16)?.copy_from_slice(b"Wine builtin DLL");
    pe.get_mut(64..96)?.copy_from_slice(&mark);
    Some(())
}

fn sorted_names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

struct Closure<'a> {
    source: &'a Path,
    dest: &'a Path,
    done: HashSet<PathBuf>,
}

impl Closure<'_> {
    /// Copies a file, link or folder, whatever it links to, and the libraries that it names.
    fn take(&mut self, rel: &Path) -> anyhow::Result<()> {
        if !self.done.insert(rel.to_owned()) {
            return Ok(());
        }
        let (from, to) = (self.source.join(rel), self.dest.join(rel));
        let kind = from.symlink_metadata().with_context(|| format!("no package brings {}", rel.display()))?;
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(&from)?;
            symlink(&target, &to).with_context(|| format!("cannot make the link {}", to.display()))?;
            let resolved = normal(&rel.parent().unwrap_or(Path::new("")).join(&target));
            if self.source.join(&resolved).symlink_metadata().is_ok() {
                self.take(&resolved)?;
            }
            return Ok(());
        }
        if kind.is_dir() {
            std::fs::create_dir_all(&to)?;
            for name in sorted_names(&from)? {
                self.take(&rel.join(name))?;
            }
            return Ok(());
        }
        std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        for name in needed(&from)? {
            let library = self
                .library(&name)
                .with_context(|| format!("no package brings {name}, which {} needs", rel.display()))?;
            self.take(&library)?;
        }
        Ok(())
    }

    fn library(&self, name: &str) -> Option<PathBuf> {
        [LIBS, WINE_UNIX, "usr/lib", "usr/lib64"]
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|rel| self.source.join(rel).symlink_metadata().is_ok())
    }
}

/// A path inside the root without `.`, `..` and a leading slash.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir => out = PathBuf::new(),
            Component::ParentDir => drop(out.pop()),
            Component::Normal(name) => out.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// DT_NEEDED of an ELF file; nothing for any other file.
fn needed(path: &Path) -> anyhow::Result<Vec<String>> {
    use std::io::Read;
    let mut magic = [0u8; 4];
    let mut file = std::fs::File::open(path)?;
    if file.read_exact(&mut magic).is_err() || &magic != b"\x7fELF" {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(path)?;
    let elf = goblin::elf::Elf::parse(&bytes)
        .with_context(|| format!("cannot read the ELF file {}", path.display()))?;
    Ok(elf.libraries.iter().map(|name| (*name).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("usr/lib/wine/../x/./y", "usr/lib/x/y")]
    #[case("usr/bin//etc/alternatives/a", "usr/bin/etc/alternatives/a")]
    #[case("/etc/alternatives/a", "etc/alternatives/a")]
    #[case("../../a", "a")]
    fn links_resolve_inside_the_root(#[case] path: &str, #[case] wanted: &str) {
        assert_eq!(normal(Path::new(path)), Path::new(wanted));
    }

    #[rstest::rstest]
    #[case("coue1255.fon", true)]
    #[case("jvgafix.fon", true)]
    #[case("fixedsys_jp.ttf", true)]
    #[case("sserife.fon", false)]
    #[case("tahoma.ttf", false)]
    fn fonts_of_other_code_pages_stay_out(#[case] name: &str, #[case] foreign: bool) {
        assert_eq!(is_foreign_font(name), foreign);
    }

    #[test]
    fn needed_libraries_come_from_the_elf_file() {
        let own = std::env::current_exe().unwrap();
        assert!(needed(&own).unwrap().iter().any(|l| l.starts_with("libc.so")));
        assert_eq!(needed(Path::new("/proc/self/status")).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_builtin_mark_stands_at_offset_64() {
        let mut pe = vec![1u8; 128];
        mark_builtin(&mut pe).unwrap();
        assert_eq!(&pe[62..82], b"\x01\x01Wine builtin DLL\0\0");
        assert_eq!((pe[95], pe[96]), (0, 1));
        assert!(mark_builtin(&mut [0u8; 90]).is_none());
    }
}
