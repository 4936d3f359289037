//! Disk images: qcow2 with its backing chain, and raw.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};

use super::error::{DiskError, guarded};
use super::lock::is_written;
use super::view::View;

/// Longest backing chain that is followed; also what ends a chain that bites its own tail.
const MAX_LAYERS: usize = 32;
/// QEMU's own limit for an L1 table (QCOW_MAX_L1_SIZE) and for a refcount table (QCOW_MAX_REFTABLE_SIZE).
const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_REFTABLE_BYTES: u64 = 8 << 20;
const QCOW2_MAGIC: &[u8] = b"QFI\xfb";
/// Cache block. Reads of a few hundred bytes straight through the image layers are slow, and NTFS makes
/// many of them.
const BLOCK: u64 = 64 << 10;
/// 512 blocks: 32 MiB for each open image.
const MAX_BLOCKS: usize = 512;

/// Format of one file of a backing chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// QEMU's copy-on-write format.
    Qcow2,
    /// The disk's bytes and nothing else.
    Raw,
}

/// One file of a backing chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: ImageFormat,
}

/// A disk image opened for reading.
///
/// An image that a running QEMU writes to is refused ([`DiskError::InUse`]). No lock is taken, so that a machine
/// may be started while its disk is read: that gives errors or nonsense, but never a panic.
///
/// Cheap to clone: clones share the open files and the block cache.
#[derive(Clone)]
pub struct DiskImage {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    layers: Vec<Layer>,
    access: FormatAccess<ImagoFile>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    blocks: HashMap<u64, Arc<Vec<u8>>>,
    order: VecDeque<u64>,
}

impl fmt::Debug for DiskImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskImage")
            .field("layers", &self.inner.layers)
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl DiskImage {
    /// Opens an image with its whole backing chain, read-only. qcow2 is told from raw by its magic, so a
    /// raw disk that a hostile guest had for itself should go through [`DiskImage::open_as`].
    pub fn open(path: &Path) -> Result<DiskImage, DiskError> {
        DiskImage::open_as(path, probe(path)?)
    }

    /// Opens an image of a known format with its whole backing chain, read-only.
    pub fn open_as(path: &Path, format: ImageFormat) -> Result<DiskImage, DiskError> {
        let mut layers = Vec::new();
        let access = open_layer(path, format, false, &mut layers)?;
        let inner = Inner { path: path.to_owned(), layers, access, cache: Mutex::default() };
        Ok(DiskImage { inner: Arc::new(inner) })
    }

    /// The image that was opened: the top of the chain.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The files of the chain, top first.
    pub fn layers(&self) -> &[Layer] {
        &self.inner.layers
    }

    /// Size of the virtual disk in bytes.
    pub fn size(&self) -> u64 {
        self.inner.access.size()
    }

    /// Fills `buffer` from byte `offset` of the virtual disk; reading past its end is an error.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0usize;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.checked_add(done as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
            let block = self.block(at / BLOCK)?;
            let from = usize::try_from(at % BLOCK).unwrap_or(usize::MAX);
            let have =
                block.get(from..).filter(|have| !have.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
            let n = have.len().min(rest.len());
            if let (Some(to), Some(source)) = (rest.get_mut(..n), have.get(..n)) {
                to.copy_from_slice(source);
            }
            done += n;
        }
        Ok(())
    }

    /// A view of `length` bytes from `offset`, cut to the size of the disk.
    pub fn view(&self, offset: u64, length: u64) -> View {
        View::new(self.clone(), offset, length)
    }

    fn block(&self, number: u64) -> io::Result<Arc<Vec<u8>>> {
        if let Some(block) = self.lock_cache().blocks.get(&number) {
            return Ok(Arc::clone(block));
        }
        let start = number.checked_mul(BLOCK).ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = BLOCK.min(self.size().saturating_sub(start));
        let mut bytes = vec![0u8; usize::try_from(length).unwrap_or(0)];
        if !bytes.is_empty() {
            // imago unwraps a few values that it computes from qcow2 tables.
            guarded(|| self.inner.access.read(bytes.as_mut_slice(), start)).map_err(io::Error::other)??;
        }
        let block = Arc::new(bytes);
        let mut cache = self.lock_cache();
        if cache.blocks.insert(number, Arc::clone(&block)).is_none() {
            cache.order.push_back(number);
        }
        while cache.order.len() > MAX_BLOCKS {
            if let Some(oldest) = cache.order.pop_front() {
                cache.blocks.remove(&oldest);
            }
        }
        Ok(block)
    }

    fn lock_cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An overlay opened for writing; only `inject` has a use for it. Layers below the top are opened
/// read-only by the operating system's own flag.
pub(crate) struct WritableOverlay {
    path: PathBuf,
    access: FormatAccess<ImagoFile>,
}

impl WritableOverlay {
    /// Opens a qcow2 file that has a backing file.
    pub(crate) fn open(path: &Path) -> Result<WritableOverlay, DiskError> {
        if Header::read(path)?.backing.is_none() {
            return Err(unsupported(
                path,
                "it has no backing file, so it is no overlay and is never written",
            ));
        }
        let access = open_layer(path, ImageFormat::Qcow2, true, &mut Vec::new())?;
        Ok(WritableOverlay { path: path.to_owned(), access })
    }

    /// Writes at byte `offset` of the virtual disk.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.io(|| self.access.write(bytes, offset))
    }

    /// Brings everything to the disk and closes the overlay.
    pub(crate) fn finish(self) -> Result<(), DiskError> {
        self.io(|| self.access.flush())?;
        self.io(|| self.access.sync())
    }

    fn io(&self, work: impl FnOnce() -> io::Result<()>) -> Result<(), DiskError> {
        let result = guarded(work).map_err(io::Error::other).and_then(|done| done);
        result.map_err(|source| DiskError::Image { path: self.path.clone(), source })
    }
}

/// The backing file that a qcow2 image names, resolved as QEMU does; none for raw and stand-alone images.
pub fn backing_file(path: &Path) -> Result<Option<PathBuf>, DiskError> {
    match probe(path)? {
        ImageFormat::Raw => Ok(None),
        ImageFormat::Qcow2 => {
            Header::read(path)?.backing.map(|name| resolve_backing(path, &name)).transpose()
        }
    }
}

fn unsupported(path: &Path, why: impl Into<String>) -> DiskError {
    DiskError::Unsupported { path: path.to_owned(), why: why.into() }
}

fn image_error(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    |source| DiskError::Image { path: path.to_owned(), source }
}

/// Refuses what could block or never end when it is opened: a FIFO, a terminal, `/dev/zero`.
fn open_regular(path: &Path) -> Result<File, DiskError> {
    let kind = std::fs::metadata(path).map_err(image_error(path))?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(unsupported(path, "it is neither a regular file nor a block device"));
    }
    File::open(path).map_err(image_error(path))
}

fn probe(path: &Path) -> Result<ImageFormat, DiskError> {
    let mut magic = Vec::new();
    open_regular(path)?.take(4).read_to_end(&mut magic).map_err(image_error(path))?;
    Ok(if magic == QCOW2_MAGIC { ImageFormat::Qcow2 } else { ImageFormat::Raw })
}

/// The fields of a qcow2 header that must be judged before imago sees the file: it sizes its tables by them.
struct Header {
    backing: Option<String>,
}

impl Header {
    fn read(path: &Path) -> Result<Header, DiskError> {
        let mut bytes = Vec::new();
        open_regular(path)?.take(2 << 20).read_to_end(&mut bytes).map_err(image_error(path))?;
        let u32_at = |at: usize| {
            let field = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
            field.map(u32::from_be_bytes).ok_or_else(|| unsupported(path, "its qcow2 header is cut short"))
        };
        if !bytes.starts_with(QCOW2_MAGIC) {
            return Err(unsupported(path, "it is not a qcow2 file"));
        }
        let (cluster_bits, crypt, l1_entries) = (u32_at(20)?, u32_at(32)?, u32_at(36)?);
        let reftable_clusters = u32_at(56)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(unsupported(path, format!("its cluster size is 2^{cluster_bits} bytes")));
        }
        if crypt != 0 {
            return Err(unsupported(path, "it is encrypted; next: `qemu-img convert` it to a plain qcow2"));
        }
        if u64::from(l1_entries) * 8 > MAX_L1_BYTES
            || u64::from(reftable_clusters) << cluster_bits > MAX_REFTABLE_BYTES
        {
            return Err(unsupported(
                path,
                "its tables are larger than QEMU itself accepts: the header is damaged",
            ));
        }
        // Incompatible feature 3: clusters compressed with something other than zlib.
        if u32_at(4)? >= 3 && u32_at(76)? & 1 << 3 != 0 {
            let why = format!(
                "its clusters are compressed with zstd, and only zlib is read; next: `qemu-img convert -c -O qcow2 -o compression_type=zlib '{}' NEW`",
                path.display()
            );
            return Err(unsupported(path, why));
        }
        let (offset, length) = ((u64::from(u32_at(8)?) << 32) | u64::from(u32_at(12)?), u32_at(16)?);
        if offset == 0 {
            return Ok(Header { backing: None });
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let name = start.checked_add(length as usize).and_then(|end| bytes.get(start..end));
        let name = name.filter(|name| name.len() <= 1023 && !name.is_empty());
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        let name = name.ok_or_else(|| unsupported(path, "the name of its backing file is damaged"))?;
        Ok(Header { backing: Some(name.to_owned()) })
    }
}

fn resolve_backing(path: &Path, name: &str) -> Result<PathBuf, DiskError> {
    let plain = name.strip_prefix("file:").unwrap_or(name);
    let protocol = plain.split_once(':').is_some_and(|(head, _)| !head.contains('/'));
    if protocol {
        let why = format!(
            "its backing file `{name}` is not a plain file; next: `qemu-img rebase -u` to a plain path"
        );
        return Err(unsupported(path, why));
    }
    Ok(path.parent().unwrap_or(Path::new("")).join(plain))
}

fn open_layer(
    path: &Path,
    format: ImageFormat,
    writable: bool,
    layers: &mut Vec<Layer>,
) -> Result<FormatAccess<ImagoFile>, DiskError> {
    if layers.len() >= MAX_LAYERS {
        let why = format!("its backing chain is longer than {MAX_LAYERS} files, or is a circle");
        return Err(unsupported(path, why));
    }
    layers.push(Layer { path: path.to_owned(), format });
    if is_written(&open_regular(path)?).map_err(image_error(path))? {
        return Err(DiskError::InUse { path: path.to_owned() });
    }
    let guarded_open = |open: &mut dyn FnMut() -> io::Result<FormatAccess<ImagoFile>>| {
        guarded(open).map_err(io::Error::other).and_then(|opened| opened).map_err(image_error(path))
    };
    if format == ImageFormat::Raw {
        return guarded_open(&mut || Raw::<ImagoFile>::open_path(path, writable).map(FormatAccess::new));
    }
    let header = Header::read(path)?;
    let declared = guarded(|| {
        let top = Qcow2::<ImagoFile>::open_path(path, false)?;
        Ok((top.implicit_backing_format().cloned(), top.requires_external_data_file()))
    });
    let (declared, external) =
        declared.map_err(io::Error::other).and_then(|read| read).map_err(image_error(path))?;
    if external {
        return Err(unsupported(path, "it keeps its data in an external file; next: `qemu-img convert` it"));
    }
    let mut backing = None;
    if let Some(name) = header.backing {
        let below = resolve_backing(path, &name)?;
        let format = match declared.as_deref() {
            Some("qcow2") => ImageFormat::Qcow2,
            Some("raw") => ImageFormat::Raw,
            // Guessing would let a guest that owned a raw base name any file of the host as its backing file.
            other => {
                let why = format!(
                    "it gives the format of its backing file as {other:?}; next: `qemu-img rebase -u -b '{name}' -F qcow2 '{}'`",
                    path.display()
                );
                return Err(unsupported(path, why));
            }
        };
        backing = Some(open_layer(&below, format, false, layers)?);
    }
    guarded_open(&mut || {
        Qcow2::<ImagoFile>::builder_path(path)
            .write(writable)
            .data_file(None)
            .backing(backing.take())
            .open(PermissiveImplicitOpenGate::default())
            .map(FormatAccess::new)
    })
}
