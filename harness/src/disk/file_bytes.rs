//! The bytes of a file on a volume, for random access.

use std::io;
use std::ops::Range;

use super::cells::Bytes;
use super::image::DiskImage;

/// The bytes of a file, in file order.
pub(crate) enum FileBytes {
    /// They are read from where they lie: byte ranges of the disk.
    OnDisk {
        /// The disk.
        disk: DiskImage,
        /// The ranges, together as long as the file.
        runs: Vec<Range<u64>>,
    },
    /// They were taken into memory.
    InMemory(Vec<u8>),
}

impl Bytes for FileBytes {
    fn len(&self) -> u64 {
        match self {
            FileBytes::OnDisk { runs, .. } => runs.iter().map(|run| run.end - run.start).sum(),
            FileBytes::InMemory(bytes) => bytes.len() as u64,
        }
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (disk, runs) = match self {
            FileBytes::OnDisk { disk, runs } => (disk, runs),
            FileBytes::InMemory(bytes) => return bytes.as_slice().read_at(at, buffer),
        };
        let (mut skip, mut done) = (at, 0usize);
        for run in runs {
            let length = run.end - run.start;
            let rest = buffer.len() - done;
            if rest == 0 {
                break;
            }
            if skip >= length {
                skip -= length;
                continue;
            }
            let take = rest.min(usize::try_from(length - skip).unwrap_or(usize::MAX));
            if let Some(part) = buffer.get_mut(done..done + take) {
                disk.read_exact_at(part, run.start + skip)?;
            }
            done += take;
            skip = 0;
        }
        if done < buffer.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
