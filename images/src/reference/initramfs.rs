//! Step 7: the initial RAM disk: PID 1, the kernel modules it loads, and in which order.
//!
//! A newc cpio archive, compressed by zstd.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;

use crate::tools;

/// Loaded before the root file system is mounted. crc32c_generic comes first: erofs fails without a crc32c and
/// nothing asks for one by name.
const FOR_ROOT: &[&str] = &["crc32c_generic", "virtio_pci", "virtio_blk", "erofs"];

/// Loaded for the rest of the guest.
const FOR_SYSTEM: &[&str] =
    &["ntfs3", "button", "evdev", "virtio_console", "virtio_rng", "virtio_input", "bochs", "pvpanic_pci"];

/// Loaded where the system volume is filled.
const FOR_POPULATE: &[&str] = &["crc32c_generic", "virtio_pci", "virtio_blk", "ntfs3"];

/// The lists' places in the archive; PID 1 reads them line by line, each line a module: `/modules/NAME.ko`.
const LISTS: &[(&str, &[&str])] =
    &[("modules/root", FOR_ROOT), ("modules/system", FOR_SYSTEM), ("modules/populate", FOR_POPULATE)];

/// Writes the compressed archive to `out`.
pub(crate) fn make(modules: &Path, init: &Path, out: &Path) -> anyhow::Result<()> {
    let kernel = Modules::find(modules)?;
    let mut cpio = Cpio::default();
    for folder in ["dev", "proc", "sys", "run", "newroot", "volume", "modules"] {
        cpio.folder(folder)?;
    }
    // Without a console node the kernel starts PID 1 with no standard output.
    cpio.character_device("dev/console", 5, 1)?;
    cpio.file(
        "init",
        0o755,
        &std::fs::read(init).with_context(|| format!("cannot read {}", init.display()))?,
    )?;
    let mut loaded = Loaded::default();
    for (list, wanted) in LISTS {
        let order = kernel.order(wanted, &mut loaded)?;
        cpio.file(list, 0o644, order.iter().map(|name| format!("{name}\n")).collect::<String>().as_bytes())?;
    }
    for (name, bytes) in &loaded.0 {
        cpio.file(&format!("modules/{name}.ko"), 0o644, bytes)?;
    }
    compress(&cpio.finish()?, out)
}

/// A module's content, unpacked: what the kernel takes is a plain ELF file.
fn read_module(path: &Path) -> anyhow::Result<Vec<u8>> {
    let program = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return std::fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output = tools::command(program).arg("-dc").arg(path).output()?;
    anyhow::ensure!(output.status.success(), "{program} cannot unpack {}", path.display());
    Ok(output.stdout)
}

fn compress(bytes: &[u8], out: &Path) -> anyhow::Result<()> {
    let mut zstd = tools::command("zstd")
        .args(["-q", "-9", "-f", "-o"])
        .arg(out)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start zstd")?;
    let written = zstd.stdin.take().context("zstd has no input")?.write_all(bytes);
    let status = zstd.wait()?;
    written.context("cannot write to zstd")?;
    anyhow::ensure!(status.success(), "zstd ended with {status}");
    Ok(())
}

/// A module's name as the kernel uses it: `crc32c-intel.ko.xz` is `crc32c_intel`.
fn module_name(file: &str) -> Option<String> {
    file.split_once(".ko").map(|(stem, _)| stem.replace('-', "_"))
}

/// Unpacked modules by name, each read once.
#[derive(Debug, Default)]
struct Loaded(BTreeMap<String, Vec<u8>>);

/// The kernel's modules. What each one needs stands in the module itself (`.modinfo`, `depends=`), so that no
/// `modules.dep` is wanted, which only an installed kernel has.
#[derive(Debug)]
struct Modules {
    /// Name to file.
    files: BTreeMap<String, PathBuf>,
    /// Names of what is compiled into the kernel.
    builtin: Vec<String>,
}

impl Modules {
    fn find(folder: &Path) -> anyhow::Result<Modules> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.join("kernel")];
        while let Some(next) = folders.pop() {
            let entries =
                std::fs::read_dir(&next).with_context(|| format!("cannot list {}", next.display()))?;
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
                    files.insert(name, entry.path());
                }
            }
        }
        let builtin = std::fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let file_name = |path: &str| path.rsplit('/').next().and_then(module_name);
        Ok(Modules { files, builtin: builtin.lines().filter_map(file_name).collect() })
    }

    /// Names in loading order: whatever a module needs stands before it.
    fn order(&self, wanted: &[&str], loaded: &mut Loaded) -> anyhow::Result<Vec<String>> {
        let mut order = Vec::new();
        for name in wanted {
            self.add(name, &mut order, loaded, 0)?;
        }
        Ok(order)
    }

    fn add(
        &self,
        name: &str,
        order: &mut Vec<String>,
        loaded: &mut Loaded,
        depth: usize,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(depth < 64, "the kernel's modules need each other in a circle, at {name}");
        if order.iter().any(|n| n == name) {
            return Ok(());
        }
        let Some(file) = self.files.get(name) else {
            anyhow::ensure!(self.builtin.iter().any(|b| b == name), "the kernel has no module {name}");
            return Ok(());
        };
        if !loaded.0.contains_key(name) {
            loaded.0.insert(name.to_owned(), read_module(file)?);
        }
        let needed = loaded.0.get(name).map(|bytes| depends(bytes)).unwrap_or_default();
        for other in needed {
            self.add(&other, order, loaded, depth + 1)?;
        }
        order.push(name.to_owned());
        Ok(())
    }
}

/// The names in a module's `depends=`: its `.modinfo` is a row of zero-ended `key=value` texts.
fn depends(module: &[u8]) -> Vec<String> {
    let texts = module.split(|byte| *byte == 0).filter_map(|text| text.strip_prefix(b"depends="));
    let names = texts.flat_map(|list| list.split(|byte| *byte == b','));
    names.filter(|n| !n.is_empty()).map(|n| String::from_utf8_lossy(n).replace('-', "_")).collect()
}

/// A cpio archive in the kernel's `newc` format (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Debug, Default)]
struct Cpio {
    bytes: Vec<u8>,
    inodes: u32,
}

impl Cpio {
    fn folder(&mut self, name: &str) -> anyhow::Result<()> {
        self.entry(name, 0o040_755, (0, 0), &[])
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.entry(name, 0o100_000 | mode, (0, 0), content)
    }

    fn character_device(&mut self, name: &str, major: u32, minor: u32) -> anyhow::Result<()> {
        self.entry(name, 0o020_600, (major, minor), &[])
    }

    fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    /// Thirteen fields of eight hexadecimal digits behind the magic; name and content each end on a
    /// multiple of four.
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> anyhow::Result<()> {
        self.inodes += 1;
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large for newc"))?;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let name_size = u32::try_from(name.len() + 1)?;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [self.inodes, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(modules: &[(&str, &str)]) -> (tempfile::TempDir, Modules) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("kernel/fs")).unwrap();
        for (file, needs) in modules {
            let text = format!("ELF\0license=GPL\0depends={needs}\0name=x\0");
            std::fs::write(dir.path().join("kernel/fs").join(file), text).unwrap();
        }
        std::fs::write(dir.path().join("modules.builtin"), "kernel/x/in-side.ko\n").unwrap();
        let found = Modules::find(dir.path()).unwrap();
        (dir, found)
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let (_dir, kernel) = kernel(&[("my-fs.ko", "b,c"), ("b.ko", "c"), ("c.ko", "")]);
        let mut loaded = Loaded::default();
        assert_eq!(kernel.order(&["in_side", "my_fs", "c"], &mut loaded).unwrap(), ["c", "b", "my_fs"]);
        assert_eq!(loaded.0.len(), 3);
        let error = kernel.order(&["absent"], &mut loaded).unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no module absent");
    }

    #[test]
    fn a_circle_is_an_error() {
        let (_dir, kernel) = kernel(&[("a.ko", "b"), ("b.ko", "a")]);
        assert!(kernel.order(&["a"], &mut Loaded::default()).unwrap_err().to_string().contains("circle"));
    }

    #[test]
    fn the_archive_is_what_cpio_reads() {
        let mut cpio = Cpio::default();
        cpio.folder("modules").unwrap();
        cpio.file("modules/list", 0o644, b"erofs.ko\n").unwrap();
        let bytes = cpio.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 3);
        let at = text.find("modules/list").unwrap();
        assert_eq!(&text[at - 110..at - 110 + 6], "070701");
        assert_eq!(&text[at - 110 + 54..at - 110 + 62], "00000009", "file size");
        assert!(text[at..].starts_with("modules/list\0\0"), "the name field ends on a multiple of four");
    }
}
