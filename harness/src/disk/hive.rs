//! Is a registry hive whole, and if not, do its transaction logs help?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cells::{Bytes, Cells, Pages};
use super::error::{DiskError, guarded};
use super::hive_log::{MAX_LOG, Recovery, recover};
use super::registry::Hive;
use super::volume::Volume;

/// Size of the base block that begins every hive.
pub(crate) const BASE_BLOCK: usize = 4096;
const CHECKSUM_AT: usize = 508;

/// What a hive's base block says about the hive ("Windows registry file format specification" by
/// M. Suhanov: sequence numbers at bytes 4 and 8, time of the last write at 12, checksum at 508).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HiveState {
    /// Primary sequence number: counted up when writing begins.
    pub sequence_1: u32,
    /// Secondary sequence number: made equal when writing is complete.
    pub sequence_2: u32,
    /// FILETIME of the last write; newer Windows leaves it 0.
    pub last_written: u64,
    /// Whether the base block's checksum is right.
    pub checksum_ok: bool,
}

/// In what condition a hive is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "condition", rename_all = "kebab-case")]
pub enum HiveCondition {
    /// Written completely. Log entries that may be there are older.
    Clean,
    /// Not written completely, and the transaction logs hold the rest: Windows mends it at its next start.
    DirtyWithLogs {
        /// How many log entries are to be brought in.
        entries: usize,
    },
    /// Not written completely, and no log helps: what was written last is lost.
    DirtyWithoutUsableLogs {
        /// Why the logs do not help.
        why: String,
    },
    /// Its structures do not fit together, with what logs there are.
    Corrupt {
        /// What does not fit.
        why: String,
    },
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
            last_written: u64::from(u32_at(12)?) | u64::from(u32_at(16)?) << 32,
            checksum_ok: u32_at(CHECKSUM_AT)? == checksum,
        })
    }

    /// Reads the base block of a hive on a volume.
    pub fn read(volume: &Volume, hive: &Hive) -> Result<HiveState, DiskError> {
        let head = volume.read_prefix(&hive.path(), BASE_BLOCK as u64)?;
        HiveState::parse(&head).ok_or_else(|| damaged(volume, hive, NO_HIVE.to_owned()))
    }

    /// Whether the transaction logs beside the hive hold what the hive itself does not yet.
    pub fn is_dirty(self) -> bool {
        self.sequence_1 != self.sequence_2 || !self.checksum_ok
    }
}

const NO_HIVE: &str = "it does not begin with a `regf` base block";

/// The state of a hive on a volume, and its condition, for which the hive is walked from end to end.
///
/// An error when the hive does not exist or the volume cannot be read; what is wrong with the hive itself is
/// its condition.
pub fn hive_condition(volume: &Volume, hive: &Hive) -> Result<(Option<HiveState>, HiveCondition), DiskError> {
    let head = volume.read_prefix(&hive.path(), BASE_BLOCK as u64)?;
    let Some(state) = HiveState::parse(&head) else {
        return Ok((None, HiveCondition::Corrupt { why: NO_HIVE.to_owned() }));
    };
    let bytes = volume.file_bytes(&hive.path())?;
    let logs = if state.is_dirty() { logs(volume, hive) } else { Vec::new() };
    Ok((Some(state), condition(state, &bytes, &logs)))
}

/// The condition of a hive's bytes, with what its logs hold.
fn condition(state: HiveState, bytes: &dyn Bytes, logs: &[Vec<u8>]) -> HiveCondition {
    let recovery = state.is_dirty().then(|| recover(state, logs));
    let (pages, condition) = match recovery {
        None => (Pages::default(), HiveCondition::Clean),
        Some(Ok(Recovery { pages, entries })) => (pages, HiveCondition::DirtyWithLogs { entries }),
        Some(Err(why)) => (Pages::default(), HiveCondition::DirtyWithoutUsableLogs { why }),
    };
    let checked = guarded(|| Cells::open(bytes, pages).and_then(|cells| cells.check()));
    match checked.and_then(|checked| checked) {
        Ok(()) => condition,
        Err(why) => HiveCondition::Corrupt { why },
    }
}

/// The pages that the logs of a hive on a volume hold; none for a clean hive, and where no log helps.
pub(crate) fn pending_pages(volume: &Volume, hive: &Hive) -> Result<Pages, DiskError> {
    let state = HiveState::read(volume, hive)?;
    if !state.is_dirty() {
        return Ok(Pages::default());
    }
    Ok(recover(state, &logs(volume, hive)).map(|recovery| recovery.pages).unwrap_or_default())
}

/// The logs that are there and can be read. Their place is beside the hive.
fn logs(volume: &Volume, hive: &Hive) -> Vec<Vec<u8>> {
    let names = [".LOG1", ".LOG2"].map(|ending| hive.path() + ending);
    names.iter().filter_map(|name| volume.read_file(name, MAX_LOG).ok()).collect()
}

fn damaged(volume: &Volume, hive: &Hive, why: String) -> DiskError {
    DiskError::Hive { path: volume.disk_path().to_owned(), hive: hive.path(), why }
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

    /// The kind of condition, without what is said about it.
    fn kind(condition: &HiveCondition) -> &'static str {
        match condition {
            HiveCondition::Clean => "clean",
            HiveCondition::DirtyWithLogs { .. } => "dirty with logs",
            HiveCondition::DirtyWithoutUsableLogs { .. } => "dirty without usable logs",
            HiveCondition::Corrupt { .. } => "corrupt",
        }
    }

    #[rstest]
    #[case::clean("SYSTEM.xz", &[], "clean")]
    #[case::logs("SYSTEM_dirty.xz", &["SYSTEM_dirty.LOG1.xz", "SYSTEM_dirty.LOG2.xz"], "dirty with logs")]
    #[case::no_logs("SYSTEM_dirty.xz", &[], "dirty without usable logs")]
    #[case::corrupt("SYSTEM_corrupt.xz", &[], "corrupt")]
    fn real_hives_are_in_these_conditions(#[case] name: &str, #[case] logs: &[&str], #[case] expected: &str) {
        let Some(bytes) = sample(name) else { return };
        let logs: Vec<_> = logs.iter().filter_map(|log| sample(log)).collect();
        let found = condition(HiveState::parse(&bytes).unwrap(), &bytes.as_slice(), &logs);
        println!("{name}: {found:?}");
        assert_eq!(kind(&found), expected, "{found:?}");
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
