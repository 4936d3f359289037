//! A hive's transaction logs: what Windows would bring into the hive when it loads it next.
//!
//! From Windows 8.1 on a hive on the disk is allowed to lag behind: changes go to `.LOG1` and `.LOG2`, and into
//! the hive an hour later or at the shutdown ("Windows registry file format specification" by M. Suhanov). After
//! a pulled plug the hive is dirty, and the logs hold the truth.

use std::io::Cursor;

use regf::transaction_log::OldFormatLog;

use super::cells::{Pages, SECTOR};
use super::error::guarded;
use super::hive::{BASE_BLOCK, HiveState};

/// Largest log that is looked at: a SYSTEM hive's have 3 MB when it is dirty.
pub(crate) const MAX_LOG: u64 = 16 << 20;
/// A log begins with the first sector of a base block.
const HEAD: usize = SECTOR as usize;
/// Size, sequence number, size of the bins, page count and two hashes stand before an entry's pages.
const ENTRY_HEADER: usize = 40;
/// File types of the base block: old logs (XP to 8) hold one set of pages, new ones a list of entries.
const OLD_LOGS: [u32; 2] = [1, 2];
const NEW_LOG: u32 = 6;

/// What can be brought into a dirty hive.
pub(crate) struct Recovery {
    /// The pages.
    pub(crate) pages: Pages,
    /// How many log entries they come from.
    pub(crate) entries: usize,
}

/// One log of the new kind.
struct Log<'b> {
    base: Vec<u8>,
    entries: Vec<Entry<'b>>,
}

/// One entry: changed pages, with the size of the hive's bins that goes with them.
struct Entry<'b> {
    sequence: u32,
    bins_size: u32,
    pages: Vec<(u32, &'b [u8])>,
}

/// Puts together what the logs hold for a dirty hive, or says why they are of no use.
///
/// Entries are taken in the order of their sequence numbers, from the first that is not older than the hive's
/// secondary number, up to the first gap; the log that begins earlier comes first.
pub(crate) fn recover(state: HiveState, logs: &[Vec<u8>]) -> Result<Recovery, String> {
    let mut why = Vec::new();
    let mut new = Vec::new();
    for (number, bytes) in (1..).zip(logs) {
        match guarded(|| read(bytes, state)).and_then(|log| log) {
            Ok(Kind::New(log)) => new.push(log),
            Ok(Kind::Old(recovery)) => return Ok(recovery),
            Err(reason) => why.push(format!("LOG{number}: {reason}")),
        }
    }
    new.sort_by_key(|log| log.entries.first().map_or(u32::MAX, |entry| entry.sequence));
    let mut pages = Pages::default();
    let (mut entries, mut next) = (0, None);
    for log in new {
        let from = if state.checksum_ok { state.sequence_2 } else { 0 };
        for entry in log.entries.into_iter().filter(|entry| entry.sequence >= from) {
            if next.is_some_and(|next| next != entry.sequence) {
                break;
            }
            next = Some(entry.sequence.wrapping_add(1));
            let mut base = log.base.clone();
            if let Some(size) = base.get_mut(40..44) {
                size.copy_from_slice(&entry.bins_size.to_le_bytes());
            }
            pages.base = Some(base);
            entries += 1;
            for (offset, page) in entry.pages {
                add(&mut pages, offset, page)?;
            }
        }
    }
    if entries == 0 {
        why.push("no entry fits the hive".to_owned());
        return Err(why.join("; "));
    }
    Ok(Recovery { pages, entries })
}

fn add(pages: &mut Pages, offset: u32, page: &[u8]) -> Result<(), String> {
    let (sectors, rest) = page.as_chunks::<{ SECTOR as usize }>();
    if !offset.is_multiple_of(SECTOR) || !rest.is_empty() {
        return Err(format!("a page of {} bytes at {offset:#x}", page.len()));
    }
    let places = (0u32..).map(|n| offset.saturating_add(n.saturating_mul(SECTOR)));
    pages.sectors.extend(places.zip(sectors.iter().copied()));
    Ok(())
}

enum Kind<'b> {
    New(Log<'b>),
    Old(Recovery),
}

fn read(bytes: &[u8], state: HiveState) -> Result<Kind<'_>, String> {
    let head = bytes.get(..HEAD).ok_or("it is empty")?;
    let mut base = head.to_vec();
    base.resize(BASE_BLOCK, 0);
    let parsed = regf::BaseBlock::parse(&base).map_err(|e| e.to_string())?;
    if !parsed.checksum_valid {
        return Err("the checksum of its base block is wrong".to_owned());
    }
    match parsed.file_type {
        NEW_LOG => {
            let entries = entries(bytes);
            Ok(Kind::New(Log { base, entries }))
        }
        // An old log belongs to the hive whose time it carries.
        kind if OLD_LOGS.contains(&kind)
            && state.checksum_ok
            && parsed.last_written != state.last_written =>
        {
            Err("it belongs to another state of the hive".to_owned())
        }
        kind if OLD_LOGS.contains(&kind) => old(bytes, base).map(Kind::Old),
        kind => Err(format!("it is of type {kind}, which is no log")),
    }
}

/// The entries from the beginning to the first that is damaged: behind it stand older ones.
fn entries(bytes: &[u8]) -> Vec<Entry<'_>> {
    let (mut found, mut at) = (Vec::new(), HEAD);
    while let Some((entry, size)) = bytes.get(at..).and_then(Entry::parse) {
        found.push(entry);
        at += size;
    }
    found
}

impl Entry<'_> {
    /// The entry that these bytes begin with, and its size; `None` when there is none, or its hashes are wrong.
    fn parse(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
        let size = usize::try_from(u32_at(bytes, 4)?).ok()?;
        let entry = bytes.get(..size).filter(|entry| {
            entry.starts_with(b"HvLE") && size > ENTRY_HEADER && size.is_multiple_of(SECTOR as usize)
        })?;
        let hash_at =
            |at: usize| Some(u64::from(u32_at(entry, at)?) | u64::from(u32_at(entry, at + 4)?) << 32);
        let right = hash_at(24)? == marvin32(entry.get(ENTRY_HEADER..)?)
            && hash_at(32)? == marvin32(entry.get(..32)?);
        if !right {
            return None;
        }
        let count = usize::try_from(u32_at(entry, 20)?).ok()?;
        let mut data = entry.get(ENTRY_HEADER.checked_add(count.checked_mul(8)?)?..)?;
        let mut pages = Vec::new();
        for number in 0..count {
            let place = ENTRY_HEADER + number * 8;
            let (offset, length) = (u32_at(entry, place)?, u32_at(entry, place + 4)?);
            let (page, rest) = data.split_at_checked(usize::try_from(length).ok()?)?;
            pages.push((offset, page));
            data = rest;
        }
        let (sequence, bins_size) = (u32_at(entry, 12)?, u32_at(entry, 16)?);
        Some((Entry { sequence, bins_size, pages }, size))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
}

/// The seed that Windows uses here.
const MARVIN_SEED: [u32; 2] = [0x7a4e_55c5, 0x82ef_4d88];

/// Marvin32, a published checksum of Microsoft's. That of `regf` 0.2 has the halves of its seed changed over and
/// rejects genuine logs (measured on one of Windows 10).
fn marvin32(bytes: &[u8]) -> u64 {
    let [mut low, mut high] = MARVIN_SEED;
    let mut mix = |word: u32| {
        low = low.wrapping_add(word);
        high ^= low;
        low = low.rotate_left(20).wrapping_add(high);
        high = high.rotate_left(9) ^ low;
        low = low.rotate_left(27).wrapping_add(high);
        high = high.rotate_left(19);
        u64::from(high) << 32 | u64::from(low)
    };
    let (words, rest) = bytes.as_chunks::<4>();
    words.iter().for_each(|word| {
        mix(u32::from_le_bytes(*word));
    });
    // The rest is closed by a single 0x80.
    let last = rest.iter().rev().fold(0x80, |word, byte| word << 8 | u32::from(*byte));
    mix(last);
    mix(0)
}

fn old(bytes: &[u8], base: Vec<u8>) -> Result<Recovery, String> {
    let log = OldFormatLog::parse(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let mut pages = Pages { base: Some(base), ..Pages::default() };
    for page in &log.dirty_pages {
        add(&mut pages, page.offset, &page.data)?;
    }
    if pages.sectors.is_empty() {
        return Err("it holds no page".to_owned());
    }
    Ok(Recovery { pages, entries: 1 })
}

#[cfg(test)]
pub(crate) mod tests {
    use rstest::rstest;

    use super::*;

    /// A page and its place behind the base block.
    pub(crate) type Page = (u32, Vec<u8>);

    /// A log of the new kind for a hive: one entry of pages for each sequence number.
    pub(crate) fn new_log(hive: &[u8], entries: &[(u32, Vec<Page>)]) -> Vec<u8> {
        let mut log = hive[..HEAD].to_vec();
        log[28..32].copy_from_slice(&NEW_LOG.to_le_bytes());
        let words = log[..508].as_chunks::<4>().0;
        let checksum = words.iter().fold(0, |sum, word| sum ^ u32::from_le_bytes(*word));
        log[508..512].copy_from_slice(&checksum.to_le_bytes());
        for (sequence, pages) in entries {
            let mut entry = b"HvLE".to_vec();
            let mut body: Vec<u8> = Vec::new();
            for (offset, page) in pages {
                body.extend(offset.to_le_bytes());
                body.extend((page.len() as u32).to_le_bytes());
            }
            pages.iter().for_each(|(_, page)| body.extend(page));
            body.resize((body.len() + ENTRY_HEADER).next_multiple_of(512) - ENTRY_HEADER, 0);
            entry.extend(((body.len() + ENTRY_HEADER) as u32).to_le_bytes());
            entry.extend(0u32.to_le_bytes());
            entry.extend(sequence.to_le_bytes());
            entry.extend_from_slice(&hive[40..44]);
            entry.extend((pages.len() as u32).to_le_bytes());
            entry.extend(marvin32(&body).to_le_bytes());
            entry.extend(marvin32(&entry.clone()).to_le_bytes());
            log.extend(entry);
            log.extend(body);
        }
        log
    }

    fn state() -> HiveState {
        HiveState { sequence_1: 8, sequence_2: 7, last_written: 0, checksum_ok: true }
    }

    fn hive() -> Vec<u8> {
        crate::disk::testing::hive(&[("Select", "Current", crate::disk::RegistryValue::Dword(1))])
    }

    fn page(byte: u8) -> Vec<Page> {
        vec![(512, vec![byte; 512])]
    }

    #[rstest]
    #[case::one_log(vec![vec![7, 8]], 2)]
    #[case::both_in_order(vec![vec![9], vec![7, 8]], 3)]
    #[case::up_to_a_gap(vec![vec![7, 9]], 1)]
    #[case::older_ones_do_not_count(vec![vec![5, 6, 7]], 1)]
    fn entries_are_taken_in_their_order(#[case] logs: Vec<Vec<u32>>, #[case] taken: usize) {
        let log = |numbers: &Vec<u32>| {
            let entries: Vec<_> = numbers.iter().map(|n| (*n, page(*n as u8))).collect();
            new_log(&hive(), &entries)
        };
        let logs: Vec<_> = logs.iter().map(log).collect();
        let recovery = recover(state(), &logs).unwrap();
        assert_eq!(recovery.entries, taken);
        let last = recovery.pages.sectors.values().next().unwrap();
        assert_eq!(usize::from(last[0]), 6 + taken);
    }

    #[rstest]
    #[case::only_older(new_log(&hive(), &[(3, page(1))]), "no entry fits")]
    #[case::damaged({ let mut log = new_log(&hive(), &[(7, page(1))]); log[600] ^= 1; log }, "no entry fits")]
    #[case::no_log(hive(), "which is no log")]
    #[case::cut(vec![0; 100], "it is empty")]
    fn logs_of_no_use_say_why(#[case] log: Vec<u8>, #[case] why: &str) {
        let error = recover(state(), &[log]).err().unwrap();
        assert!(error.contains(why), "{error}");
    }
}
