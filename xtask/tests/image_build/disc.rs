//! Discs made for the tests: one that behaves like Setup's first screen, by BIOS and by UEFI, one that looks like the
//! drivers', one that installs something as ReactOS' boot CD does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use softoff_images::tools;

use super::bios::{self, Installed};

/// Size of the volume that the ReactOS stand-in pretends to make: the least that is FAT32 with one sector a cluster.
const VOLUME: u32 = 64 << 20;

/// Sectors of it that are written: the reserved ones, and the first of the table.
const VOLUME_HEAD: usize = 33 * 512;

/// Runs a program of the host's; a missing one fails the test with what to do.
fn run(program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let found =
        tools::find(program).unwrap_or_else(|| panic!("no {program}; next: cargo xtask doctor --install"));
    let output = Command::new(found).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn mkisofs(tree: &Path, out: &Path, more: &[&str]) {
    let usual = ["-as", "mkisofs", "-quiet", "-J", "-r", "-V", "TEST"];
    let paths = [Path::new("-o"), out, tree].map(Path::as_os_str);
    let words = usual.iter().chain(more).map(OsStr::new);
    run("xorriso", words.chain(paths));
}

/// El Torito entries: a program for the BIOS, and a FAT image for UEFI.
const BY_BIOS: [&str; 4] = ["-no-emul-boot", "-boot-load-size", "4", "-eltorito-alt-boot"];
const BY_UEFI: [&str; 3] = ["-e", "efi.img", "-no-emul-boot"];

/// A disc that shows `prompt` and waits for a key, whichever firmware boots it.
pub(crate) fn setup(dir: &Path, prompt: &str) -> PathBuf {
    let loader = dir.join("bootx64.efi");
    compile_loader(prompt, &loader);
    let bios = bios::waits_for_a_key(prompt, "Setup is starting", "softoff-install: windows-pe");
    bootable(dir, &bios, &[("BOOTX64.EFI", loader)])
}

/// A disc with a boot image for the BIOS, and with these files in `EFI/BOOT` for UEFI.
pub(crate) fn bootable(dir: &Path, bios: &[u8], loaders: &[(&str, PathBuf)]) -> PathBuf {
    let tree = dir.join("setup");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("boot.bin"), bios).unwrap();
    efi_image(loaders, &tree.join("efi.img"));
    let iso = dir.join("setup.iso");
    mkisofs(&tree, &iso, &[&["-b", "boot.bin"][..], &BY_BIOS, &BY_UEFI].concat());
    iso
}

/// `setup-efi.c` as a UEFI program. No library, no start-up code; the file says nothing of when it was made.
fn compile_loader(prompt: &str, out: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/image_build/setup-efi.c");
    let define = format!("-DPROMPT=L\"{prompt}\"");
    let flags =
        ["-Wall", "-Wextra", "-Werror", "-O1", "-ffreestanding", "-fno-stack-protector", "-mno-red-zone"];
    let link = ["-nostdlib", "-Wl,--subsystem,10", "-Wl,-e,efi_main", "-Wl,--no-insert-timestamp"];
    let words = [&flags[..], &[define.as_str()], &link, &["-o"]].concat();
    run("x86_64-w64-mingw32-gcc", words.iter().map(OsStr::new).chain([out.as_os_str(), source.as_os_str()]));
}

/// A FAT image with these files in `EFI/BOOT`, where every UEFI firmware looks for a loader.
fn efi_image(loaders: &[(&str, PathBuf)], out: &Path) {
    let kib: u64 = 1024 + loaders.iter().map(|(_, file)| file.metadata().unwrap().len() >> 10).sum::<u64>();
    let _gone = std::fs::remove_file(out);
    run("mkfs.fat", [OsStr::new("-C"), out.as_os_str(), OsStr::new(&kib.to_string())]);
    let image = [OsStr::new("-i"), out.as_os_str()];
    run("mmd", image.iter().copied().chain(["::EFI", "::EFI/BOOT"].map(OsStr::new)));
    for (name, file) in loaders {
        let place = format!("::EFI/BOOT/{name}");
        run("mcopy", image.iter().copied().chain([file.as_os_str(), OsStr::new(&place)]));
    }
}

/// A disc with these folders, each with a driver's files in it, and the agent's installer.
pub(crate) fn drivers(dir: &Path, folders: &[&str]) -> PathBuf {
    let tree = dir.join("drivers");
    for folder in folders {
        let place = tree.join(folder);
        std::fs::create_dir_all(&place).unwrap();
        for file in ["driver.inf", "driver.sys", "driver.cat", "driver.pdb"] {
            std::fs::write(place.join(file), format!("{folder}/{file}\n")).unwrap();
        }
    }
    std::fs::create_dir_all(tree.join("guest-agent")).unwrap();
    std::fs::write(tree.join("guest-agent/qemu-ga-x86_64.msi"), "an installer").unwrap();
    let iso = dir.join("drivers.iso");
    mkisofs(&tree, &iso, &[]);
    iso
}

/// A disc that is laid out as ReactOS' boot CD, with an answer file that answers nothing. It fills the disk and restarts
/// the machine; what is then on the disk powers off.
pub(crate) fn reactos(dir: &Path, installed: Installed) -> PathBuf {
    let (tree, volume) = (dir.join("reactos-cd"), dir.join("volume.fat"));
    for folder in ["loader", "reactos", "I386"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    std::fs::File::create(&volume).unwrap().set_len(VOLUME.into()).unwrap();
    run(
        "mkfs.fat",
        [OsStr::new("-F"), OsStr::new("32"), OsStr::new("-s"), OsStr::new("1"), volume.as_os_str()],
    );
    let head = std::fs::read(&volume).unwrap()[..VOLUME_HEAD].to_vec();
    let image = bios::installs("Copying files", "The desktop", installed, &head, VOLUME / 512);
    let sectors = (image.len() / 512).to_string();
    std::fs::write(tree.join("loader/isoboot.bin"), image).unwrap();
    for folder in ["reactos", "I386"] {
        std::fs::write(tree.join(folder).join("unattend.inf"), "[Unattend]\r\nUnattendSetupEnabled = no\r\n")
            .unwrap();
    }
    let loader = "[FREELOADER]\r\nDefaultOS=Live\r\nTimeOut=5\r\n\r\n[Operating Systems]\r\nLive=\"Live\"\r\n\
                  Setup=\"Setup\"\r\n\r\n[Live]\r\nBootType=Windows2003\r\n\r\n[Setup]\r\nBootType=ReactOSSetup\r\n";
    std::fs::write(tree.join("freeldr.ini"), loader).unwrap();
    let iso = dir.join("reactos.iso");
    mkisofs(&tree, &iso, &["-b", "loader/isoboot.bin", "-no-emul-boot", "-boot-load-size", &sectors]);
    iso
}
