//! Where everything stands in a file and in a chunk. Little-endian numbers throughout.

/// Bytes before the first chunk.
pub(crate) const FILE_HEADER: usize = 4096;
/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 65_536;
/// Where the records of a chunk begin: after header, string table and template table.
pub(crate) const RECORDS: usize = 0x200;
/// The table of names, by hash: the newest of each bucket; each name leads to the one before it.
pub(crate) const STRINGS: Table = Table { at: 0x80, buckets: 64 };
/// The table of templates, by identifier.
pub(crate) const TEMPLATES: Table = Table { at: 0x180, buckets: 32 };
/// First word of a record.
pub(crate) const RECORD_MAGIC: u32 = 0x0000_2a2a;
/// Magic, size, identifier, time; the size stands at the end again.
pub(crate) const RECORD_HEADER: usize = 24;

/// A table of offsets in a chunk's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    at: usize,
    buckets: u32,
}

impl Table {
    /// Where the bucket of a hash stands.
    pub(crate) fn bucket(self, hash: u32) -> usize {
        self.at + (hash % self.buckets) as usize * 4
    }

    /// Where all buckets stand.
    pub(crate) fn all(self) -> impl Iterator<Item = usize> {
        (0..self.buckets).map(move |bucket| self.bucket(bucket))
    }
}

/// A number of up to eight bytes; `None` outside of the bytes.
pub(crate) fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A number of four bytes; `None` outside of the bytes.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at, 4).and_then(|n| u32::try_from(n).ok())
}

/// Writes bytes over others. What would reach past the end is left out; the callers have checked.
pub(crate) fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    let place = bytes.iter_mut().skip(at);
    for (to, from) in place.zip(new) {
        *to = *from;
    }
}

/// The hash of a name, as it stands beside it.
pub(crate) fn name_hash(name: &str) -> u16 {
    let hash = name.encode_utf16().fold(0u32, |h, unit| h.wrapping_mul(65599).wrapping_add(unit.into()));
    (hash & 0xffff) as u16
}

/// The checksum of a chunk's header with its tables, without the flags and the checksum itself.
pub(crate) fn header_crc(chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(chunk.get(..0x78).unwrap_or_default());
    hasher.update(chunk.get(0x80..RECORDS).unwrap_or_default());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hash_as_in_files_that_windows_wrote() {
        // From a real System.evtx.
        assert_eq!((name_hash("Event"), name_hash("xmlns")), (0x0cba, 0x0fbc));
    }
}
