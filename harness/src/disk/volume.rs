//! An NTFS volume: its flags, its files, and where their bytes lie on the disk.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use ntfs::attribute_value::NtfsAttributeValue;
use ntfs::indexes::NtfsFileNameIndex;
use ntfs::structured_values::NtfsFileNamespace;
use ntfs::{
    KnownNtfsFileRecordNumber, Ntfs, NtfsAttribute, NtfsAttributeFlags, NtfsAttributeType, NtfsFile,
    NtfsReadSeek,
};

use super::error::{DiskError, guarded};
use super::file_bytes::FileBytes;
use super::image::DiskImage;
use super::marks::{Entry, HibernationFile, VolumeFlags};
use super::view::View;

/// What finding one file may read: folders of 100 000 files stay well below it.
const METADATA_BUDGET: u64 = 64 << 20;
/// A file that must be taken into memory to be read at random.
const MAX_IN_MEMORY: u64 = 64 << 20;
/// A file in more pieces than this is not overwritten in place.
const MAX_RUNS: usize = 4096;
/// File records are 1 or 4 KiB; the boot sector could ask for 254 MiB.
const MAX_RECORD: u32 = 64 << 10;
/// Offsets in an attribute's header with a non-resident value: size, and initialised size.
const INITIALIZED_SIZE_AT: usize = 0x38;

/// An NTFS volume on a disk image, read-only.
#[derive(Debug)]
pub struct Volume {
    view: View,
    disk: DiskImage,
    ntfs: Ntfs,
}

impl Volume {
    /// Opens the NTFS volume that fills `length` bytes from `start`.
    pub fn open(disk: &DiskImage, start: u64, length: u64) -> Result<Volume, DiskError> {
        let view = disk.view(start, length).with_budget(METADATA_BUDGET);
        let error = |why: String| ntfs_error(disk.path(), start, "opening the volume", why);
        // `Ntfs::new` panics where the boot sector cannot be read.
        let mut boot_sector = [0u8; 512];
        view.clone().read_exact(&mut boot_sector).map_err(|e| error(format!("its boot sector: {e}")))?;
        let opened = guarded(|| {
            let mut view = view.clone();
            let mut ntfs = Ntfs::new(&mut view)?;
            if ntfs.file_record_size() <= MAX_RECORD {
                ntfs.read_upcase_table(&mut view)?;
            }
            Ok::<_, ntfs::NtfsError>(ntfs)
        });
        let ntfs = opened.map_err(error)?.map_err(|e| error(e.to_string()))?;
        if ntfs.file_record_size() > MAX_RECORD {
            return Err(error(format!("file records of {} bytes cannot be", ntfs.file_record_size())));
        }
        Ok(Volume { view, disk: disk.clone(), ntfs })
    }

    /// The image the volume is on.
    pub fn disk_path(&self) -> &Path {
        self.disk.path()
    }

    /// First byte of the volume on the disk.
    pub fn start(&self) -> u64 {
        self.view.start()
    }

    /// The volume's flag word.
    pub fn flags(&self) -> Result<VolumeFlags, DiskError> {
        self.with("reading the volume flags", 0, |view| {
            let record = self.ntfs.file(view, KnownNtfsFileRecordNumber::Volume as u64)?;
            for attribute in record.attributes_raw() {
                let attribute = attribute?;
                if attribute.ty()? != NtfsAttributeType::VolumeInformation {
                    continue;
                }
                // Eight reserved bytes, major and minor version, then the flags. The crate's own
                // accessor drops the bits that it has no name for.
                let mut value = [0u8; 12];
                attribute.value(view)?.read_exact(view, &mut value)?;
                let [.., low, high] = value;
                return Ok(Ok(VolumeFlags(u16::from_le_bytes([low, high]))));
            }
            Ok(Err("$MFT record 3 has no $VOLUME_INFORMATION".to_owned()))
        })
    }

    /// Size of a file in bytes; `path` is like `\Windows\System32\config\SYSTEM`, in any case, with
    /// either slash.
    pub fn file_size(&self, path: &str) -> Result<u64, DiskError> {
        self.with_data(path, 0, |_, _, data| Ok(Ok(data.value_length())))
    }

    /// Whether a file or folder exists.
    pub fn exists(&self, path: &str) -> Result<bool, DiskError> {
        match self.with_file(path, 0, |_, _| Ok(Ok(()))) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The entries of a folder by their long names, at most `limit` of them; empty where the folder is missing.
    pub fn list(&self, path: &str, limit: usize) -> Result<Vec<Entry>, DiskError> {
        let listed = self.with_file(path, 0, |view, folder| {
            let index = folder.directory_index(view)?;
            let (mut entries, mut found) = (index.entries(), Vec::new());
            while let Some(entry) = entries.next(view) {
                let entry = entry?;
                let Some(key) = entry.key() else { continue };
                let key = key?;
                // A file with a short name has two entries.
                if key.namespace() == NtfsFileNamespace::Dos || found.len() >= limit {
                    continue;
                }
                let (name, size) = (key.name().to_string_lossy(), key.data_size());
                found.push(Entry { name, size, is_folder: key.is_directory() });
            }
            Ok(Ok(found))
        });
        match listed {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Reads a whole file of at most `limit` bytes.
    pub fn read_file(&self, path: &str, limit: u64) -> Result<Vec<u8>, DiskError> {
        let size = self.plain_size(path)?;
        if size > limit {
            return Err(self.too_large(path, size, limit));
        }
        self.read_prefix(path, limit)
    }

    /// Reads at most the first `limit` bytes of a file.
    pub fn read_prefix(&self, path: &str, limit: u64) -> Result<Vec<u8>, DiskError> {
        self.plain_size(path)?;
        self.with_data(path, limit.saturating_mul(2), |view, file, data| {
            let wanted = usize::try_from(data.value_length().min(limit)).unwrap_or(usize::MAX);
            let initialized = initialized_size(&self.ntfs, view, file, &data)?;
            let mut value = data.value(view)?;
            // Memory grows with what was really read: a damaged size field costs nothing.
            let mut bytes = Vec::new();
            let mut chunk = vec![0u8; 256 << 10];
            while bytes.len() < wanted {
                let take = chunk.len().min(wanted - bytes.len());
                let n = value.read(view, chunk.get_mut(..take).unwrap_or_default())?;
                if n == 0 {
                    return Ok(Err(format!("`{path}` ends after {} of {wanted} bytes", bytes.len())));
                }
                bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
            }
            // What lies behind the initialised size reads as zeros, whatever the clusters hold.
            if let Some(end) = initialized.and_then(|end| usize::try_from(end).ok()) {
                bytes.iter_mut().skip(end).for_each(|byte| *byte = 0);
            }
            Ok(Ok(bytes))
        })
    }

    /// Where the bytes of a file lie: byte ranges of the **disk** (not of the volume), in file order,
    /// together exactly as long as the file.
    ///
    /// An error for a file whose bytes cannot be overwritten where they lie: resident in its record,
    /// compressed, encrypted, sparse, with an uninitialised tail, or with its runs spread over records.
    pub fn data_runs(&self, path: &str) -> Result<Vec<Range<u64>>, DiskError> {
        let size = self.plain_size(path)?;
        let runs = self.with_data(path, 0, |view, file, data| {
            let initialized = initialized_size(&self.ntfs, view, file, &data)?;
            let value = match data.value(view)? {
                NtfsAttributeValue::NonResident(value) if initialized == Some(size) => value,
                NtfsAttributeValue::NonResident(_) => return Ok(Ok(Err("only partly initialised"))),
                NtfsAttributeValue::Resident(_) => {
                    return Ok(Ok(Err("so small that it is resident in its record")));
                }
                NtfsAttributeValue::AttributeListNonResident(_) => {
                    return Ok(Ok(Err("fragmented over several file records")));
                }
            };
            let (mut runs, mut left) = (Vec::new(), size);
            for run in value.data_runs().take(MAX_RUNS) {
                let run = run?;
                let length = run.allocated_size().min(left);
                if length == 0 {
                    break;
                }
                let Some(at) = run.data_position().value() else { return Ok(Ok(Err("sparse"))) };
                let end = at.get().checked_add(length).filter(|end| *end <= self.view.len());
                let Some(end) = end else {
                    return Ok(Err(format!("`{path}` reaches past the end of the volume")));
                };
                runs.push(self.start() + at.get()..self.start() + end);
                left -= length;
            }
            Ok(if left == 0 {
                Ok(Ok(runs))
            } else {
                Err(format!("the runs of `{path}` are {left} bytes short"))
            })
        })?;
        runs.map_err(|how| DiskError::Storage {
            path: self.disk.path().to_owned(),
            file: path.to_owned(),
            how: how.to_owned(),
            next: "rebuild the image so that the file lies plainly on the disk".to_owned(),
        })
    }

    /// A file for random access. Its bytes are read from where they lie; only where that cannot be, it is taken
    /// into memory.
    pub(crate) fn file_bytes(&self, path: &str) -> Result<FileBytes, DiskError> {
        match self.data_runs(path) {
            Ok(runs) => Ok(FileBytes::OnDisk { disk: self.disk.clone(), runs }),
            Err(DiskError::Storage { .. }) => Ok(FileBytes::InMemory(self.read_file(path, MAX_IN_MEMORY)?)),
            Err(error) => Err(error),
        }
    }

    /// What `\hiberfil.sys` holds.
    pub fn hibernation_file(&self) -> Result<HibernationFile, DiskError> {
        let head = match self.read_prefix(r"\hiberfil.sys", 4) {
            Ok(head) => head,
            Err(error) if error.is_not_found() => return Ok(HibernationFile::Absent),
            Err(error) => return Err(error),
        };
        let Ok(magic) = <[u8; 4]>::try_from(head) else { return Ok(HibernationFile::Empty) };
        Ok(match &magic.map(|b| b.to_ascii_lowercase()) {
            [0, 0, 0, 0] => HibernationFile::Empty,
            b"wake" => HibernationFile::Spent,
            b"hibr" | b"rstr" | b"horm" => HibernationFile::Live,
            _ => HibernationFile::Unknown(magic),
        })
    }

    fn too_large(&self, path: &str, size: u64, limit: u64) -> DiskError {
        DiskError::TooLarge { path: self.disk.path().to_owned(), file: path.to_owned(), size, limit }
    }

    /// Size of a file that is neither compressed nor encrypted: for those the crate gives the stored bytes.
    fn plain_size(&self, path: &str) -> Result<u64, DiskError> {
        let (size, flags) =
            self.with_data(path, 0, |_, _, data| Ok(Ok((data.value_length(), data.flags()))))?;
        let how = if flags.contains(NtfsAttributeFlags::COMPRESSED) {
            "compressed"
        } else if flags.contains(NtfsAttributeFlags::ENCRYPTED) {
            "encrypted"
        } else {
            return Ok(size);
        };
        Err(DiskError::Storage {
            path: self.disk.path().to_owned(),
            file: path.to_owned(),
            how: how.to_owned(),
            next: "start the guest and run `compact /u` or `cipher /d` on it".to_owned(),
        })
    }

    fn with_data<T>(
        &self,
        path: &str,
        extra_budget: u64,
        work: impl FnOnce(&mut View, &NtfsFile<'_>, NtfsAttribute<'_, '_>) -> ntfs::Result<Result<T, String>>,
    ) -> Result<T, DiskError> {
        self.with_file(path, extra_budget, |view, file| {
            let Some(item) = file.data(view, "") else { return Ok(Err(format!("`{path}` is no file"))) };
            let item = item?;
            work(view, file, item.to_attribute()?)
        })
    }

    fn with_file<T>(
        &self,
        path: &str,
        extra_budget: u64,
        work: impl FnOnce(&mut View, &NtfsFile<'_>) -> ntfs::Result<Result<T, String>>,
    ) -> Result<T, DiskError> {
        let found = self.with(&format!("looking for `{path}`"), extra_budget, |view| {
            let mut file = self.ntfs.root_directory(view)?;
            for part in path.split(['\\', '/']).filter(|part| !part.is_empty()) {
                let next = {
                    let index = file.directory_index(view)?;
                    let mut finder = index.finder();
                    match NtfsFileNameIndex::find(&mut finder, &self.ntfs, view, part) {
                        Some(entry) => entry?.file_reference().file_record_number(),
                        None => return Ok(Ok(Err(part.to_owned()))),
                    }
                };
                file = self.ntfs.file(view, next)?;
            }
            Ok(work(view, &file)?.map(Ok))
        })?;
        found.map_err(|missing| DiskError::NotFound {
            path: self.disk.path().to_owned(),
            offset: self.start(),
            file: path.to_owned(),
            missing,
        })
    }

    fn with<T>(
        &self,
        doing: &str,
        extra_budget: u64,
        work: impl FnOnce(&mut View) -> ntfs::Result<Result<T, String>>,
    ) -> Result<T, DiskError> {
        let mut view = self.view.clone().with_budget(METADATA_BUDGET.saturating_add(extra_budget));
        let result = guarded(|| work(&mut view))
            .and_then(|done| done.map_err(|e| e.to_string()).and_then(|done| done));
        result.map_err(|why| ntfs_error(self.disk.path(), self.start(), doing, why))
    }
}

fn ntfs_error(path: &Path, offset: u64, doing: &str, why: String) -> DiskError {
    DiskError::Ntfs { path: path.to_owned(), offset, doing: doing.to_owned(), why }
}

/// How much of a non-resident attribute in the file's base record was ever written, which the crate does
/// not tell; `None` when the attribute is resident or lives in another record.
fn initialized_size(
    ntfs: &Ntfs,
    view: &mut View,
    file: &NtfsFile<'_>,
    attribute: &NtfsAttribute<'_, '_>,
) -> ntfs::Result<Option<u64>> {
    let (Some(record_at), Some(at)) = (file.position().value(), attribute.position().value()) else {
        return Ok(None);
    };
    let within = at.get().checked_sub(record_at.get()).filter(|n| *n < u64::from(ntfs.file_record_size()));
    let Some(within) = within.and_then(|n| usize::try_from(n).ok()).filter(|_| !attribute.is_resident())
    else {
        return Ok(None);
    };
    let mut record = vec![0u8; ntfs.file_record_size() as usize];
    view.seek(SeekFrom::Start(record_at.get()))?;
    view.read_exact(&mut record)?;
    apply_fixups(&mut record);
    let field = record.get(within + INITIALIZED_SIZE_AT..).and_then(|rest| rest.get(..8));
    Ok(field.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes))
}

/// Puts back the last two bytes of each 512-byte stride, which NTFS keeps in the record's head. The crate
/// has checked this record's fixups before.
fn apply_fixups(record: &mut [u8]) {
    let u16_at = |record: &[u8], at: usize| {
        record
            .get(at..at + 2)
            .and_then(|b| b.try_into().ok())
            .map_or(0, |b| usize::from(u16::from_le_bytes(b)))
    };
    let (array, count) = (u16_at(record, 4), u16_at(record, 6));
    for index in 1..count {
        let saved: Option<[u8; 2]> =
            record.get(array + 2 * index..).and_then(|b| b.get(..2)).and_then(|b| b.try_into().ok());
        if let (Some(saved), Some(end)) = (saved, record.get_mut(index * 512 - 2..index * 512)) {
            end.copy_from_slice(&saved);
        }
    }
}
