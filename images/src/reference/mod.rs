//! The reference guest's image: a Linux kernel, Wine, Xorg and our session policy, on a disk laid out as
//! Windows lays its own out.
//!
//! [`build_or_open`] is the one entrance. The way of a build, one file each: [`packages`] and [`root`] and
//! [`prefix`] make the [`base`]; [`programs`] are ours and built meanwhile; [`initramfs`] boots; [`disks`] makes
//! the system disk of two layers, laid out by [`volume`] and filled, by booting the guest's own kernel
//! ([`populate`]), with Wine's tree and then with our [`contents`] and [`hives`]. [`recipe`] names the results.

mod base;
mod contents;
mod disks;
mod hives;
mod initramfs;
mod packages;
mod populate;
mod prefix;
mod programs;
mod recipe;
mod root;
mod volume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::ScopedJoinHandle;

use anyhow::Context;
use softoff_harness::image::{Boot, GuestFamily, Image, MANIFEST, MachineFacts, Manifest, Quirk, Sha256Hex};

pub(crate) use hives::GRANULARITY;
pub use packages::{PACKAGES, SUITE};
pub(crate) use volume::{SECTOR, TYPE_BASIC_DATA, copy_sparse};

use disks::{Disks, SYSTEM, VOLUME};
use recipe::Sources;

use crate::cache;
use crate::progress::{Progress, note, step};
use crate::toolchain::WindowsPrograms;
use crate::tools;

/// The catalogue name.
pub const NAME: &str = "reference";

const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initrd.zst";
const ROOT: &str = "root.erofs";
/// Everything that the manifest gives a hash.
const FILES: &[&str] = &[KERNEL, INITRD, ROOT, SYSTEM, VOLUME];

/// `-cpu` under TCG. See the quirks.
const TCG_CPU: &str = "qemu64";

/// COM2 is the console; COM1 belongs to the probe lines. The two initcalls left out (an entropy source beside
/// virtio-rng, certificates for modules that nobody checks) take a third of a second under TCG.
const CMDLINE: &str = "console=ttyS1 quiet loglevel=4 panic=-1 mitigations=off \
    initcall_blacklist=jent_mod_init,load_system_certificate_list";

/// Where the image of today's recipe is, built or not.
pub fn location(cache: &Path) -> anyhow::Result<PathBuf> {
    Ok(folder(cache, &Sources::read()?.image()))
}

fn folder(cache: &Path, recipe: &Sha256Hex) -> PathBuf {
    cache::images(cache).join(format!("{NAME}-{}", recipe.short()))
}

/// Opens the reference image of today's recipe, with every file checked against its hash; builds it first
/// where the cache does not hold it. Takes a minute or two then, some seconds where only a guest program changed,
/// and one process at a time.
pub fn build_or_open(cache: &Path, progress: &dyn Progress) -> anyhow::Result<Image> {
    let sources = Sources::read()?;
    let recipe = sources.image();
    let dir = folder(cache, &recipe);
    if let Some(image) = open(&dir)? {
        return Ok(image);
    }
    let _lock = cache::lock(cache, || note(progress, "another process builds an image; waiting for it"))?;
    // The other builder may have made this very image.
    if let Some(image) = open(&dir)? {
        return Ok(image);
    }
    tools::require_all()?;
    build(cache, &sources, &dir, progress)?;
    step(progress, "check the image", || Ok(Image::open(&dir)?))
}

fn open(dir: &Path) -> anyhow::Result<Option<Image>> {
    if !dir.join(MANIFEST).exists() {
        return Ok(None);
    }
    let opened = Image::open(dir)
        .with_context(|| format!("next step: remove the folder {} to have it built again", dir.display()))?;
    Ok(Some(opened))
}

fn build(cache: &Path, sources: &Sources, dir: &Path, progress: &dyn Progress) -> anyhow::Result<()> {
    let images = cache::images(cache);
    std::fs::create_dir_all(&images)?;
    remove_leftovers(&[&images, &cache.join("base"), &cache::disks(cache)]);
    let work = tempfile::Builder::new().prefix(".building-").tempdir_in(&images)?;
    let made = work.path().join("image");
    std::fs::create_dir_all(&made)?;

    // The base waits for the network, for disks and for Wine; the compiler works meanwhile. PID 1 comes first:
    // with it the disk can be filled while the Win32 programs are still being built.
    let (provenance, system) = std::thread::scope(|scope| {
        let (ready, init) = mpsc::channel();
        let windows = scope.spawn(move || {
            let built = programs::init(cache, progress)?;
            // Nobody listens when the base has failed: then the programs are not wanted either.
            ready.send(built).ok().context("the build has ended before its programs were ready")?;
            programs::windows(cache, progress)
        });
        let base = base::build_or_open(cache, sources, progress)?;
        let Ok(init) = init.recv() else {
            // Its thread ended without it, and says why.
            return joined(windows).and_then(|_| anyhow::bail!("the guest's init was not built"));
        };
        place(&base.kernel(), &made.join(KERNEL))?;
        place(&base.root(), &made.join(ROOT))?;
        step(progress, "pack the initial RAM disk", || {
            initramfs::make(&base.modules(), &init, &made.join(INITRD))
        })?;
        let boot = populate::Boot { kernel: &made.join(KERNEL), initrd: &made.join(INITRD), cpu: TCG_CPU };
        let disks = Disks { cache, sources, boot, progress };
        let volume = disks.volume(&base)?;
        let system = disks.system(&volume, &contents::own_files(&joined(windows)?, &sources.hives()?)?)?;
        place(&volume.file, &made.join(VOLUME))?;
        anyhow::Ok((base.provenance, system))
    })?;
    place(&system.file, &made.join(SYSTEM))?;
    step(progress, "write the manifest", || write_manifest(&made, &sources.image(), provenance))?;
    std::fs::rename(&made, dir).with_context(|| format!("cannot place the image in {}", dir.display()))
}

fn joined(
    programs: ScopedJoinHandle<'_, anyhow::Result<WindowsPrograms>>,
) -> anyhow::Result<WindowsPrograms> {
    programs.join().unwrap_or_else(|_| anyhow::bail!("the thread that builds the programs died"))
}

/// One file in two folders where the file system can, else a copy: what is placed is never written again.
fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

/// A killed builder leaves its temporary folder; under the lock no other can be using one.
fn remove_leftovers(folders: &[&Path]) {
    for entry in folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".building-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn write_manifest(
    dir: &Path,
    recipe: &Sha256Hex,
    provenance: BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let mut files = BTreeMap::new();
    for name in FILES {
        let path = dir.join(name);
        let hash = Sha256Hex::of_file(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.insert((*name).to_owned(), hash);
        let mut permissions = path.metadata()?.permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&path, permissions)?;
    }
    let manifest = Manifest {
        schema: 1,
        name: NAME.to_owned(),
        family: GuestFamily::Reference,
        machine: MachineFacts {
            machine: "pc".to_owned(),
            tcg_cpu: TCG_CPU.to_owned(),
            smp: 1,
            memory_mib: 1024,
            vga: "std".to_owned(),
            ..MachineFacts::default()
        },
        boot: Boot::Kernel {
            kernel: KERNEL.to_owned(),
            initrd: INITRD.to_owned(),
            cmdline: CMDLINE.to_owned(),
            root: ROOT.to_owned(),
        },
        system_disk: SYSTEM.to_owned(),
        system_format: Default::default(),
        system_backing: Some(VOLUME.to_owned()),
        files,
        recipe: recipe.clone(),
        quirks: QUIRKS.iter().map(|(what, why)| Quirk { what: (*what).into(), why: (*why).into() }).collect(),
        provenance,
    };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    std::fs::write(dir.join(MANIFEST), text)?;
    Ok(())
}

/// What is done differently for this guest, and why. All measured with QEMU 7.2 under TCG.
const QUIRKS: &[(&str, &str)] = &[
    (
        "machine `pc`, not `q35`",
        "on q35 the power button is dead after the first resume from S3; on pc 3 of 3 suspend cycles kept it",
    ),
    (
        "one virtual processor",
        "with two, about 1 cold boot in 30 ended in a kernel panic (Oops int3 in early boot, a race of \
         multi-threaded TCG)",
    ),
    (
        "`-cpu qemu64` under TCG",
        "with SMAP (`-cpu max`) Wine gets page faults it does not expect and never starts; and with fewer features \
         there is less to emulate: 12.0 s of processor time to the desktop, against 13.6 s with max,smap=off",
    ),
    (
        "`panic=-1`",
        "a kernel panic resets the machine at once: a RESET that nobody asked for, seen by QMP; with a pvpanic-pci \
         device GUEST_PANICKED comes first",
    ),
    (
        "S4 is Linux hibernation into a third partition",
        "QEMU emits a real SUSPEND_DISK, and the next boot from the same disk resumes; C:\\hiberfil.sys is modelled: it \
         has the four bytes that Windows writes (`HIBR` asleep, `wake` resumed) and no memory in it; the NTFS \
         volume looks clean while the machine is hibernated, because the kernel syncs on its way",
    ),
    (
        "the NTFS dirty flag is read from $MFT record 3, never from $MFTMirr",
        "the guest's ntfs3 driver writes only the first; ntfs-3g and ntfsinfo then refuse the volume",
    ),
    (
        "session policy is our own session.exe",
        "Wine's wineboot waits endlessly for a hung application and reads none of HungAppTimeout, \
         WaitToKillAppTimeout, AutoEndTasks; its SCM never delivers SHUTDOWN or PRESHUTDOWN",
    ),
    (
        "Wine's registry is made from the regf hives at each boot",
        "so that an offline edit of SYSTEM, SOFTWARE or NTUSER.DAT has the effect it has on Windows; what programs \
         write to the registry is lost with the guest's RAM; PID 1 alone writes into the hives: ShutdownTime at a clean \
         end, and the state of the modelled update",
    ),
    (
        "C:\\Windows\\System32\\winevt\\Logs\\System.evtx is written by PID 1",
        "Wine has no event log service; file and events are as Windows writes them (1074, 7043, 42 at once; 6006 at the \
         end; 6008, 6005, 12, 41 at a boot; 109 and 13 of a clean end reach the file at the next boot), each when our \
         own policy did that thing",
    ),
    (
        "update work has two steps on the disk",
        "modelled: staged at the boot, committed at half and at the end of the update work, rolled back at the next boot \
         after an interruption; step files in C:\\softoff\\Update, WinSxS\\pending.xml, a State value in the registry",
    ),
    (
        "the volume check at a boot takes the dirty mark away and repairs nothing",
        "modelled: ntfs3 refuses to mount a dirty volume for writing, and there is no free chkdsk; $MFT record 3 is read \
         and its mark cleared before the mount",
    ),
    (
        "the dirty mark is set again after every flush",
        "ntfs3 takes it away with fsync and syncfs (measured, Linux 6.12.107), so that a volume in use would look cleanly \
         unmounted; making and removing a file sets it again",
    ),
    (
        "unflushed files stay in memory: vm.dirty_writeback_centisecs is 0",
        "so that a pulled plug loses them however slow the host is; Windows' lazy writer has rules of its own",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_without_the_image_opens_nothing() {
        let cache = tempfile::tempdir().unwrap();
        assert!(open(&location(cache.path()).unwrap()).unwrap().is_none());
    }

    #[test]
    fn a_damaged_image_is_refused_with_a_next_step() {
        let cache = tempfile::tempdir().unwrap();
        let dir = location(cache.path()).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        for name in FILES {
            std::fs::write(dir.join(name), name).unwrap();
        }
        write_manifest(&dir, &Sources::read().unwrap().image(), BTreeMap::new()).unwrap();
        assert_eq!(open(&dir).unwrap().unwrap().manifest.name, NAME);
        std::fs::remove_file(dir.join(ROOT)).unwrap();
        std::fs::write(dir.join(ROOT), "other").unwrap();
        let error = format!("{:#}", open(&dir).unwrap_err());
        assert!(error.contains("remove the folder") && error.contains("is damaged"), "{error}");
    }

    #[test]
    fn leftovers_of_a_killed_builder_go_and_images_stay() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(".building-x/image")).unwrap();
        std::fs::create_dir_all(dir.path().join("reference-0")).unwrap();
        remove_leftovers(&[dir.path()]);
        assert!(!dir.path().join(".building-x").exists() && dir.path().join("reference-0").exists());
    }
}
