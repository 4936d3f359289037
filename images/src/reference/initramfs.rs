//! Step 7: the initial RAM disk: PID 1, the kernel modules it loads, and in which order.
//!
//! A newc cpio archive, compressed by zstd.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;

use crate::tools;

/// Loaded before the root file system is mounted. crc32c_generic comes first: erofs fails without a crc32c and
/// nothing asks for one by name.
const FOR_ROOT: &[&str] = &["crc32c_generic", "virtio_pci", "virtio_blk", "erofs"];

/// Loaded for the rest of the guest.
const FOR_SYSTEM: &[&str] =
    &["ntfs3", "button", "evdev", "virtio_console", "virtio_rng", "virtio_input", "bochs"];

/// Loaded where the system volume is filled.
const FOR_POPULATE: &[&str] = &["crc32c_generic", "virtio_pci", "virtio_blk", "ntfs3"];

/// The lists' places in the archive; PID 1 reads them line by line, each line a file in `/modules`.
const LISTS: &[(&str, &[&str])] =
    &[("modules/root", FOR_ROOT), ("modules/system", FOR_SYSTEM), ("modules/populate", FOR_POPULATE)];

/// Writes the compressed archive to `out`.
pub(crate) fn make(modules: &Path, init: &Path, out: &Path) -> anyhow::Result<()> {
    let dep = std::fs::read_to_string(modules.join("modules.dep")).context("cannot read modules.dep")?;
    let builtin = std::fs::read_to_string(modules.join("modules.builtin")).unwrap_or_default();
    let tree = Dependencies::parse(&dep, &builtin);
    let mut cpio = Cpio::default();
    for folder in ["dev", "proc", "sys", "run", "newroot", "volume", "modules"] {
        cpio.folder(folder)?;
    }
    // Without a console node the kernel starts PID 1 with no standard output.
    cpio.character_device("dev/console", 5, 1)?;
    cpio.file("init", 0o755, &std::fs::read(init).with_context(|| format!("cannot read {}", init.display()))?)?;
    let mut packed = Vec::new();
    for (list, wanted) in LISTS {
        let order = tree.order(wanted)?;
        let mut text = String::new();
        for path in &order {
            let name = file_name(path);
            text += &format!("{name}\n");
            if !packed.contains(path) {
                cpio.file(&format!("modules/{name}"), 0o644, &read_module(&modules.join(path))?)?;
                packed.push(path.clone());
            }
        }
        cpio.file(list, 0o644, text.as_bytes())?;
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

/// `kernel/fs/erofs/erofs.ko.xz` is packed as `erofs.ko`.
fn file_name(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".xz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

/// A module's name as `modprobe` takes it: no folder, no ending, underscores.
fn module_name(path: &str) -> String {
    file_name(path).trim_end_matches(".ko").replace('-', "_")
}

/// `modules.dep`: each module with those it needs, nearest first.
#[derive(Debug)]
struct Dependencies {
    /// Path to the paths it needs.
    needs: BTreeMap<String, Vec<String>>,
    /// Name to path.
    paths: BTreeMap<String, String>,
    /// Names of what is compiled into the kernel.
    builtin: Vec<String>,
}

impl Dependencies {
    fn parse(dep: &str, builtin: &str) -> Dependencies {
        let lines = dep.lines().filter_map(|line| line.split_once(':'));
        let needs: BTreeMap<String, Vec<String>> = lines
            .map(|(path, rest)| (path.trim().to_owned(), rest.split_whitespace().map(str::to_owned).collect()))
            .collect();
        let paths = needs.keys().map(|path| (module_name(path), path.clone())).collect();
        Dependencies { needs, paths, builtin: builtin.lines().map(module_name).collect() }
    }

    /// Paths in loading order: whatever a module needs stands before it.
    fn order(&self, wanted: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut order = Vec::new();
        for name in wanted {
            match self.paths.get(*name) {
                Some(path) => self.add(path, &mut order, 0)?,
                None if self.builtin.iter().any(|b| b == name) => {}
                None => anyhow::bail!("the kernel has no module {name}"),
            }
        }
        Ok(order)
    }

    fn add(&self, path: &str, order: &mut Vec<String>, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(depth < 64, "modules.dep has a circle at {path}");
        if order.iter().any(|p| p == path) {
            return Ok(());
        }
        for needed in self.needs.get(path).into_iter().flatten().rev() {
            self.add(needed, order, depth + 1)?;
        }
        order.push(path.to_owned());
        Ok(())
    }
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

    const DEP: &str = "kernel/fs/a/my-fs.ko.xz: kernel/lib/b.ko.xz kernel/lib/c.ko.xz\n\
                       kernel/lib/b.ko.xz: kernel/lib/c.ko.xz\nkernel/lib/c.ko.xz:\n";

    #[test]
    fn modules_come_after_what_they_need() {
        let tree = Dependencies::parse(DEP, "kernel/x/inside.ko\n");
        let order = tree.order(&["inside", "my_fs", "c"]).unwrap();
        assert_eq!(order.iter().map(|p| file_name(p)).collect::<Vec<_>>(), ["c.ko", "b.ko", "my-fs.ko"]);
        assert_eq!(tree.order(&["absent"]).unwrap_err().to_string(), "the kernel has no module absent");
    }

    #[test]
    fn a_circle_is_an_error() {
        let tree = Dependencies::parse("a.ko: b.ko\nb.ko: a.ko\n", "");
        assert!(tree.order(&["a"]).unwrap_err().to_string().contains("circle"));
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
