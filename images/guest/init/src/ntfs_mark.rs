//! The dirty mark of an NTFS volume, read and taken away on its block device.
//!
//! The mark is bit 0 of the flag word in `$VOLUME_INFORMATION` of `$MFT` record 3 (`$Volume`). Only that word is
//! touched: `$MFTMirr` is left as it is, for ntfs3 never writes it either.

use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::Context;

/// The bit that asks for a check.
pub(crate) const DIRTY: u16 = 0x0001;

/// The record of `$Volume`.
const VOLUME_RECORD: u64 = 3;
/// Type of `$VOLUME_INFORMATION`.
const VOLUME_INFORMATION: u32 = 0x70;
/// Where the flag word stands in its value: after eight reserved bytes and two of the version.
const FLAGS_AT: usize = 10;
/// File records are 1 or 4 KiB.
const MAX_RECORD: u64 = 4096;
/// The last two bytes of each of these are replaced on the disk (the update sequence array keeps the true ones).
const STRIDE: u64 = 512;

/// The flag word of a volume, and where it stands on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    at: u64,
    /// The flag word.
    pub(crate) flags: u16,
}

impl Mark {
    /// Finds it. While ntfs3 has the volume mounted this still tells the truth: the driver writes its records through
    /// the device's own cache.
    pub(crate) fn read(device: &mut (impl Read + Seek)) -> anyhow::Result<Mark> {
        let mut boot = [0u8; 512];
        device.seek(SeekFrom::Start(0))?;
        device.read_exact(&mut boot).context("the boot sector cannot be read")?;
        anyhow::ensure!(
            boot.get(3..11) == Some(b"NTFS    "),
            "the boot sector is not that of an NTFS volume"
        );
        let sector = number(&boot, 0x0b, 2).context("no sector size")?;
        let cluster = sector * number(&boot, 0x0d, 1).context("no cluster size")?;
        // Negative: the power of two of the bytes; else clusters.
        let size = match i8::from_le_bytes([*boot.get(0x40).context("no record size")?]) {
            exponent @ -12..=-1 => 1 << exponent.unsigned_abs(),
            clusters @ 1.. => u64::from(clusters.unsigned_abs()) * cluster,
            other => anyhow::bail!("file records of 2^{other} bytes cannot be"),
        };
        anyhow::ensure!((STRIDE..=MAX_RECORD).contains(&size), "file records of {size} bytes cannot be");
        let mft =
            number(&boot, 0x30, 8).and_then(|lcn| lcn.checked_mul(cluster)).context("no place of $MFT")?;
        let start = mft.checked_add(VOLUME_RECORD * size).context("no place of $Volume")?;
        let mut record = vec![0u8; usize::try_from(size)?];
        device.seek(SeekFrom::Start(start))?;
        device.read_exact(&mut record).context("$MFT record 3 cannot be read")?;
        let inside = flags_in(&record).context("$MFT record 3 has no $VOLUME_INFORMATION")?;
        anyhow::ensure!(inside as u64 % STRIDE < STRIDE - 2, "the flag word lies under the update sequence");
        let flags = number(&record, inside, 2).context("the flag word is cut")?;
        Ok(Mark { at: start + inside as u64, flags: u16::try_from(flags)? })
    }

    /// Whether the volume is marked dirty.
    pub(crate) fn is_dirty(self) -> bool {
        self.flags & DIRTY != 0
    }

    /// Takes the mark away. The volume must not be mounted.
    pub(crate) fn clear(self, device: &mut (impl Write + Seek)) -> std::io::Result<()> {
        device.seek(SeekFrom::Start(self.at))?;
        device.write_all(&(self.flags & !DIRTY).to_le_bytes())
    }
}

/// Where the flag word stands in a file record.
fn flags_in(record: &[u8]) -> Option<usize> {
    if record.get(..4)? != b"FILE" {
        return None;
    }
    let mut at = usize::try_from(number(record, 0x14, 2)?).ok()?;
    loop {
        let kind = number(record, at, 4)?;
        let length = usize::try_from(number(record, at.checked_add(4)?, 4)?).ok().filter(|l| *l >= 0x18)?;
        let attribute = record.get(at..at.checked_add(length)?)?;
        if kind == u64::from(VOLUME_INFORMATION) {
            let value = usize::try_from(number(attribute, 0x14, 2)?).ok()?;
            return attribute.get(value + FLAGS_AT..value + FLAGS_AT + 2).map(|_| at + value + FLAGS_AT);
        }
        at = at.checked_add(length)?;
    }
}

/// A little-endian number of 1 to 8 bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::io::Cursor;

    const RECORD_AT: usize = 4 * 4096 + 3 * 1024;

    /// A volume with clusters of 4 KiB, records of 1 KiB, $MFT in cluster 4, and one attribute before the flags.
    fn volume(flags: u16) -> Vec<u8> {
        let mut bytes = vec![0u8; 64 << 10];
        bytes[3..11].copy_from_slice(b"NTFS    ");
        bytes[0x0b..0x0d].copy_from_slice(&512u16.to_le_bytes());
        (bytes[0x0d], bytes[0x30], bytes[0x40]) = (8, 4, (-10i8) as u8);
        let record = &mut bytes[RECORD_AT..];
        record[..4].copy_from_slice(b"FILE");
        record[0x14] = 0x38;
        record[0x38..0x40].copy_from_slice(&[0x10, 0, 0, 0, 0x60, 0, 0, 0]);
        record[0x98..0xa0].copy_from_slice(&[0x70, 0, 0, 0, 0x28, 0, 0, 0]);
        record[0xac] = 0x18;
        record[0xba..0xbc].copy_from_slice(&flags.to_le_bytes());
        bytes
    }

    #[test]
    fn the_mark_is_found_and_only_the_mark_is_taken_away() {
        let mut bytes = volume(0x8001);
        let mark = Mark::read(&mut Cursor::new(&bytes)).unwrap();
        assert_eq!((mark.flags, mark.is_dirty()), (0x8001, true));
        mark.clear(&mut Cursor::new(&mut bytes)).unwrap();
        assert_eq!(bytes, volume(0x8000));
        assert!(!Mark::read(&mut Cursor::new(&bytes)).unwrap().is_dirty());
    }

    #[rstest]
    #[case::no_ntfs(3, 0)]
    #[case::no_sector_size(0x0c, 0xff)]
    #[case::wild_record_size(0x40, 0x80)]
    #[case::huge_records(0x40, 100)]
    #[case::wild_place_of_the_mft(0x37, 0xff)]
    #[case::no_record(RECORD_AT, 0)]
    #[case::attribute_without_end(RECORD_AT + 0x3c, 0)]
    #[case::attribute_past_the_record(RECORD_AT + 0x3f, 0xff)]
    #[case::value_past_the_attribute(RECORD_AT + 0xac, 0x28)]
    fn damage_is_an_error(#[case] at: usize, #[case] byte: u8) {
        let mut bytes = volume(1);
        bytes[at] = byte;
        Mark::read(&mut Cursor::new(&bytes)).unwrap_err();
    }

    proptest! {
        #[test]
        fn damage_anywhere_never_panics(hits in vec((0usize..64 << 10, any::<u8>()), 1..30), cut in 0usize..64 << 10) {
            let mut bytes = volume(1);
            for (at, byte) in hits {
                bytes[at] = byte;
            }
            bytes.truncate(cut);
            let _ = Mark::read(&mut Cursor::new(&bytes));
        }

        /// The hits of the other one seldom meet what counts.
        #[test]
        fn damage_where_it_counts_never_panics(boot in vec((0x0busize..0x48, any::<u8>()), 0..4), record in vec((0usize..0x100, any::<u8>()), 0..6)) {
            let mut bytes = volume(1);
            boot.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            record.iter().for_each(|(at, byte)| bytes[RECORD_AT + *at] = *byte);
            if let Ok(mark) = Mark::read(&mut Cursor::new(&bytes)) {
                mark.clear(&mut Cursor::new(&mut bytes)).unwrap();
            }
        }
    }
}
