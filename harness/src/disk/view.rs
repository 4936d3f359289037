//! A byte range of a disk, as a reader.

use std::io::{self, Read, Seek, SeekFrom};

use super::image::DiskImage;

/// What a view may read before it is cut off, unless [`View::with_budget`] says otherwise.
const DEFAULT_BUDGET: u64 = 64 << 20;
/// The least that one read costs, so that endless tiny reads end too.
const READ_COST: u64 = 64;

/// A bounded [`Read`] + [`Seek`] over a byte range of a [`DiskImage`].
///
/// It never reads outside its range, and it has a budget of bytes: a directory tree that points into
/// itself would otherwise be walked for ever. When the budget is used up, reads fail.
#[derive(Debug, Clone)]
pub struct View {
    disk: DiskImage,
    start: u64,
    length: u64,
    position: u64,
    budget: u64,
}

impl View {
    pub(super) fn new(disk: DiskImage, offset: u64, length: u64) -> View {
        let length = length.min(disk.size().saturating_sub(offset));
        View { disk, start: offset, length, position: 0, budget: DEFAULT_BUDGET }
    }

    /// The same view from its beginning, able to read `budget` bytes in all.
    pub fn with_budget(mut self, budget: u64) -> View {
        self.budget = budget;
        self.position = 0;
        self
    }

    /// Size of the range in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// First byte of the range on the disk.
    pub fn start(&self) -> u64 {
        self.start
    }
}

impl Read for View {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let n = buffer.len().min(left);
        let cost = (n as u64).max(READ_COST);
        self.budget = self.budget.checked_sub(cost).ok_or_else(|| {
            io::Error::other(
                "more was read than the structure can need: it is damaged, or points into itself",
            )
        })?;
        if let Some(buffer) = buffer.get_mut(..n) {
            self.disk.read_exact_at(buffer, self.start + self.position)?;
        }
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for View {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.length.checked_add_signed(n),
            SeekFrom::Current(n) => self.position.checked_add_signed(n),
        };
        self.position = target.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "seek before the beginning of the view")
        })?;
        Ok(self.position)
    }
}
