//! `$LogFile`, the journal of an NTFS volume: was the volume dismounted cleanly?
//!
//! It begins with two restart pages (`logfile.h` of the Linux NTFS drivers describes them): the one with the
//! newer LSN counts. NTFS closes the journal when it is dismounted; since XP it may leave it open and set a flag
//! instead, so that either sign is enough.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::DiskError;
use super::volume::Volume;

const PATH: &str = r"\$LogFile";
/// Both restart pages: the pages are 4 KiB, and the second follows the first.
const HEAD: u64 = 2 * PAGE as u64;
const PAGE: usize = 4096;
/// No client has the journal open: 0xffff in `client_in_use_list`.
const NOBODY: u16 = 0xffff;
/// RESTART_VOLUME_IS_CLEAN in the restart area's flags.
const VOLUME_IS_CLEAN: u16 = 0x0002;

/// What the journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum JournalState {
    /// Closed, or marked clean: the volume was dismounted.
    Clean,
    /// Open: the volume was mounted when its writer went. The next mount replays the journal.
    NotClean,
    /// Filled with 0xff: nobody has written to it since mkfs, ntfsfix or ntfs-3g emptied it.
    Empty,
    /// `CHKD`: chkdsk has worked on the volume since.
    ByChkdsk,
    /// Neither page can be read.
    Damaged {
        /// What is wrong.
        why: String,
    },
}

impl JournalState {
    /// Reads it from a volume.
    pub fn read(volume: &Volume) -> Result<JournalState, DiskError> {
        Ok(JournalState::parse(&volume.read_prefix(PATH, HEAD)?))
    }

    /// Judges the journal's first bytes.
    pub fn parse(head: &[u8]) -> JournalState {
        if head.len() >= PAGE && head.iter().all(|byte| *byte == 0xff) {
            return JournalState::Empty;
        }
        let pages = head.chunks(PAGE).map(Restart::parse);
        let (read, wrong): (Vec<_>, Vec<_>) = pages.partition(Result::is_ok);
        match read.into_iter().flatten().max_by_key(|page| page.lsn) {
            Some(page) if page.by_chkdsk => JournalState::ByChkdsk,
            Some(page) if page.users == NOBODY || page.flags & VOLUME_IS_CLEAN != 0 => JournalState::Clean,
            Some(_) => JournalState::NotClean,
            None => {
                let why: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
                JournalState::Damaged {
                    why: if why.is_empty() { "it is empty".to_owned() } else { why.join("; ") },
                }
            }
        }
    }
}

/// What counts of a restart page.
struct Restart {
    lsn: u64,
    users: u16,
    flags: u16,
    by_chkdsk: bool,
}

impl Restart {
    fn parse(page: &[u8]) -> Result<Restart, String> {
        let by_chkdsk = page.starts_with(b"CHKD");
        if !page.starts_with(b"RSTR") && !by_chkdsk {
            let magic = page.get(..4).unwrap_or_default();
            return Err(format!("a page begins with `{}`", magic.escape_ascii()));
        }
        let page = with_fixups(page).ok_or("a restart page was written in part")?;
        let area = field(&page, 24).map(|at| usize::from(u16::from_le_bytes(at)));
        let area = area.and_then(|at| page.get(at..)).ok_or("the restart area lies outside its page")?;
        let parts = (field(area, 0), field(area, 12), field(area, 14));
        let (Some(lsn), Some(users), Some(flags)) = parts else {
            return Err("the restart area is cut short".to_owned());
        };
        Ok(Restart {
            lsn: u64::from_le_bytes(lsn),
            users: u16::from_le_bytes(users),
            flags: u16::from_le_bytes(flags),
            by_chkdsk,
        })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Puts back the last two bytes of each 512-byte stride, whose place an update number takes on the disk; `None`
/// where a stride has another number: it was not written with the others.
fn with_fixups(page: &[u8]) -> Option<Vec<u8>> {
    let mut whole = page.to_vec();
    let array = usize::from(u16::from_le_bytes(field(page, 4)?));
    let count = usize::from(u16::from_le_bytes(field(page, 6)?));
    let number: [u8; 2] = field(page, array)?;
    for stride in 1..count {
        let saved: [u8; 2] = field(page, array.checked_add(2 * stride)?)?;
        let end = whole.get_mut(stride * 512 - 2..stride * 512)?;
        if end != number {
            return None;
        }
        end.copy_from_slice(&saved);
    }
    Some(whole)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// A restart page with its fixups.
    pub(crate) fn page(magic: &[u8; 4], lsn: u64, users: u16, flags: u16) -> Vec<u8> {
        let mut page = vec![0u8; PAGE];
        page[..4].copy_from_slice(magic);
        page[4..6].copy_from_slice(&30u16.to_le_bytes());
        page[6..8].copy_from_slice(&9u16.to_le_bytes());
        page[24..26].copy_from_slice(&64u16.to_le_bytes());
        page[64..72].copy_from_slice(&lsn.to_le_bytes());
        page[64 + 12..64 + 14].copy_from_slice(&users.to_le_bytes());
        page[64 + 14..64 + 16].copy_from_slice(&flags.to_le_bytes());
        page[30..32].copy_from_slice(&[7, 0]);
        for stride in 1..9 {
            page[stride * 512 - 2..stride * 512].copy_from_slice(&[7, 0]);
        }
        page
    }

    fn two(first: Vec<u8>, second: Vec<u8>) -> Vec<u8> {
        [first, second].concat()
    }

    #[rstest]
    #[case::closed(two(page(b"RSTR", 9, 0xffff, 0), page(b"RSTR", 8, 0, 0)), JournalState::Clean)]
    #[case::flagged(two(page(b"RSTR", 9, 0, 2), page(b"RSTR", 8, 0, 0)), JournalState::Clean)]
    #[case::open(two(page(b"RSTR", 9, 0, 0), page(b"RSTR", 8, 0xffff, 0)), JournalState::NotClean)]
    #[case::the_second_is_newer(
        two(page(b"RSTR", 9, 0, 0), page(b"RSTR", 10, 0xffff, 0)),
        JournalState::Clean
    )]
    #[case::one_is_damaged(two(vec![0; PAGE], page(b"RSTR", 1, 0, 0)), JournalState::NotClean)]
    #[case::chkdsk(two(page(b"CHKD", 9, 0, 0), page(b"RSTR", 8, 0, 0)), JournalState::ByChkdsk)]
    #[case::empty(vec![0xff; 2 * PAGE], JournalState::Empty)]
    fn states(#[case] head: Vec<u8>, #[case] expected: JournalState) {
        assert_eq!(JournalState::parse(&head), expected);
    }

    #[test]
    fn a_page_written_in_part_does_not_count() {
        let mut torn = page(b"RSTR", 10, 0xffff, 0);
        torn[1023] ^= 1;
        let open = page(b"RSTR", 9, 0, 0);
        assert_eq!(JournalState::parse(&two(torn.clone(), open)), JournalState::NotClean);
        assert!(matches!(JournalState::parse(&torn), JournalState::Damaged { .. }));
        assert!(matches!(JournalState::parse(&[]), JournalState::Damaged { .. }));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let mut bytes = bytes;
            for magic in [b"RSTR", b"CHKD"] {
                if let Some(head) = bytes.get_mut(..4) {
                    head.copy_from_slice(magic);
                }
                let _whatever_comes = JournalState::parse(&bytes);
            }
        }
    }
}
