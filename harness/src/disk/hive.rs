//! The header of a registry hive: is it whole?

use super::error::DiskError;
use super::registry::Hive;
use super::volume::Volume;

/// Size of the base block that begins every hive.
const BASE_BLOCK: usize = 4096;
const CHECKSUM_AT: usize = 508;

/// What a hive's base block says about the hive ("Windows registry file format specification" by
/// M. Suhanov: sequence numbers at bytes 4 and 8, checksum at 508).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiveState {
    /// Primary sequence number: counted up when writing begins.
    pub sequence_1: u32,
    /// Secondary sequence number: made equal when writing is complete.
    pub sequence_2: u32,
    /// Whether the base block's checksum is right.
    pub checksum_ok: bool,
}

impl HiveState {
    /// Reads the base block; `None` if these bytes do not begin a hive.
    pub fn parse(bytes: &[u8]) -> Option<HiveState> {
        let block = bytes.get(..BASE_BLOCK).filter(|block| block.starts_with(b"regf"))?;
        let u32_at = |at: usize| {
            let field = block.get(at..at + 4).and_then(|b| b.try_into().ok());
            field.map(u32::from_le_bytes)
        };
        let words = block.get(..CHECKSUM_AT)?.as_chunks::<4>().0.iter();
        let checksum = match words.fold(0, |sum, word| sum ^ u32::from_le_bytes(*word)) {
            // The two values that the format keeps free.
            0 => 1,
            u32::MAX => u32::MAX - 1,
            sum => sum,
        };
        Some(HiveState {
            sequence_1: u32_at(4)?,
            sequence_2: u32_at(8)?,
            checksum_ok: u32_at(CHECKSUM_AT)? == checksum,
        })
    }

    /// Reads the base block of a hive on a volume.
    pub fn read(volume: &Volume, hive: &Hive) -> Result<HiveState, DiskError> {
        let head = volume.read_prefix(&hive.path(), BASE_BLOCK as u64)?;
        HiveState::parse(&head).ok_or_else(|| DiskError::Hive {
            path: volume.disk_path().to_owned(),
            hive: hive.path(),
            why: "it does not begin with a `regf` base block".to_owned(),
        })
    }

    /// Whether the transaction logs beside the hive hold what the hive itself does not yet.
    pub fn is_dirty(self) -> bool {
        self.sequence_1 != self.sequence_2 || !self.checksum_ok
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::disk::testing::sample;

    #[rstest]
    #[case::clean("SYSTEM.xz", false)]
    #[case::dirty("SYSTEM_dirty.xz", true)]
    fn real_hives_tell_clean_from_dirty(#[case] name: &str, #[case] dirty: bool) {
        let Some(bytes) = sample(name) else { return };
        let state = HiveState::parse(&bytes).unwrap();
        assert_eq!(state.is_dirty(), dirty, "{state:?}");
        assert!(state.checksum_ok);
        assert_eq!(state.sequence_1 != state.sequence_2, dirty);
    }

    #[test]
    fn a_flipped_bit_in_the_base_block_makes_it_dirty() {
        let mut bytes = crate::disk::testing::hive(&[]);
        assert!(!HiveState::parse(&bytes).unwrap().is_dirty());
        bytes[40] ^= 1;
        let state = HiveState::parse(&bytes).unwrap();
        assert!(!state.checksum_ok && state.is_dirty());
    }

    #[test]
    fn other_bytes_are_no_hive() {
        assert_eq!(HiveState::parse(b"regf"), None);
        assert_eq!(HiveState::parse(&[0; 8192]), None);
    }
}
