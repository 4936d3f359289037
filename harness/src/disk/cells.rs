//! The cells of a registry hive, read one by one where they are needed.
//!
//! A hive of 12 MB is asked for some twenty values; reading and checking all of it first costs 60 ms and more,
//! and with a hostile hive a minute and a gigabyte (measured with `regf` 0.2, which checks every key's list
//! when a hive is opened). Here nothing is read but what a path leads through, and every read is paid for from
//! a budget, so that a hive whose lists point into themselves ends in an error.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;

use regf::{BigData, DataSegmentsList, KeyNode, KeyValue, SubkeysList};

use super::hive::BASE_BLOCK;

/// Largest cell that is read: a leaf of 65 535 subkeys takes 512 KiB, and bigger values are cut in pieces.
const MAX_CELL: u32 = 1 << 20;
/// A key's own cell: 76 bytes and a name of 255 characters.
const KEY_CELL: u32 = 1024;
/// Bytes that one open hive may read in all. A SYSTEM hive's services take about 1 MB.
const BUDGET: u64 = 64 << 20;
/// The least that a read costs.
const READ_COST: u64 = 32;
const MAX_VALUE: u32 = 1 << 20;
/// Most subkeys of one key; CLSID of a SOFTWARE hive has some 10 000.
const MAX_CHILDREN: usize = 1 << 16;
/// Largest hive that is walked from end to end. A SYSTEM hive has 10 to 30 MB, a SOFTWARE hive up to 150 MB.
const MAX_CHECKED: u32 = 256 << 20;
/// Windows makes bins of 4 KiB, and larger ones for a value of up to 1 MB.
const MAX_BIN: u32 = 16 << 20;
/// Granularity of a transaction log.
pub(crate) const SECTOR: u32 = 512;
/// No key; the format's own mark.
const NONE: u32 = u32::MAX;

/// Where a hive's bytes are.
pub(crate) trait Bytes {
    /// How many there are.
    fn len(&self) -> u64;
    /// Fills `buffer` from `at`; reading past the end is an error.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Bytes for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..));
        let have = from.and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(have.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What stands in the transaction logs and not yet in the hive.
#[derive(Default)]
pub(crate) struct Pages {
    /// Sectors by their place behind the base block.
    pub(crate) sectors: BTreeMap<u32, [u8; SECTOR as usize]>,
    /// The base block that goes with them, and with it the size of the hive once they are in place.
    pub(crate) base: Option<Vec<u8>>,
}

/// A key: where its cell is, and the cell.
pub(crate) struct Key {
    offset: u32,
    node: KeyNode,
}

impl Key {
    pub(crate) fn name(&self) -> String {
        self.node.name()
    }
}

/// A hive that is read lazily.
pub(crate) struct Cells<'b> {
    bytes: &'b dyn Bytes,
    pages: Pages,
    /// Bytes of the bins, behind the base block.
    size: u32,
    root: u32,
    minor: u32,
    left: Cell<u64>,
}

impl<'b> Cells<'b> {
    /// Reads the base block, and no more. `pages` go before the hive's own bytes.
    pub(crate) fn open(bytes: &'b dyn Bytes, pages: Pages) -> Result<Cells<'b>, String> {
        let mut block = vec![0u8; BASE_BLOCK];
        bytes.read_at(0, &mut block).map_err(|e| format!("its base block: {e}"))?;
        let base =
            regf::BaseBlock::parse(pages.base.as_ref().unwrap_or(&block)).map_err(|e| e.to_string())?;
        if base.major_version != 1 || !(3..=6).contains(&base.minor_version) {
            return Err(format!("version {}.{} is not read", base.major_version, base.minor_version));
        }
        let size = base.hive_bins_data_size;
        if pages.sectors.is_empty() && bytes.len() < u64::from(size) + BASE_BLOCK as u64 {
            return Err(format!("it is cut short: {} bytes for bins of {size}", bytes.len()));
        }
        let (root, minor) = (base.root_cell_offset, base.minor_version);
        Ok(Cells { bytes, pages, size, root, minor, left: Cell::new(BUDGET) })
    }

    /// The root key.
    pub(crate) fn root(&self) -> Result<Key, String> {
        self.key(self.root)
    }

    /// The key that a path leads to, names compared without regard to case; `None` when there is none.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Key>, String> {
        let mut key = self.root()?;
        for part in path.split('\\').filter(|part| !part.is_empty()) {
            match self.child(&key, part)? {
                Some(below) => key = below,
                None => return Ok(None),
            }
        }
        Ok(Some(key))
    }

    /// The keys below a key.
    pub(crate) fn children(&self, key: &Key) -> Result<Vec<Key>, String> {
        self.below(key, None)?.into_iter().map(|at| self.key(at)).collect()
    }

    /// A value of a key; the empty name is the default value.
    pub(crate) fn value(&self, key: &Key, name: &str) -> Result<Option<(u32, Vec<u8>)>, String> {
        let node = &key.node;
        if !node.has_values() || node.is_predef_handle() {
            return Ok(None);
        }
        let list = self.cell(node.values_list_offset, MAX_CELL)?;
        let offsets = list.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let count = usize::try_from(node.num_values).unwrap_or(usize::MAX);
        if list.len() / 4 < count {
            return Err(format!("the values of `{}` are cut short", crate::text::printable(&key.name(), 60)));
        }
        for offset in offsets.take(count) {
            let cell = self.cell(offset, MAX_CELL)?;
            let value = KeyValue::parse(&cell).map_err(|e| e.to_string())?;
            let found = value.name();
            if found.is_empty() == name.is_empty() && found.to_uppercase() == name.to_uppercase() {
                return self.data(&value).map(|data| Some((value.data_type, data)));
            }
        }
        Ok(None)
    }

    fn data(&self, value: &KeyValue) -> Result<Vec<u8>, String> {
        let size = value.actual_data_size();
        if value.is_data_resident() {
            return value.get_resident_data().ok_or_else(|| "a value's own data is damaged".to_owned());
        }
        if size == 0 {
            return Ok(Vec::new());
        }
        if size > MAX_VALUE {
            return Err(format!("a value of {size} bytes"));
        }
        let cell = self.cell(value.data_offset, MAX_CELL)?;
        let wanted = size as usize;
        if wanted <= regf::BIG_DATA_THRESHOLD || self.minor <= 3 {
            let data = cell.get(..wanted).ok_or("a value is cut short")?;
            return Ok(data.to_vec());
        }
        let big = BigData::parse(&cell).map_err(|e| e.to_string())?;
        let list = self.cell(big.segments_list_offset, MAX_CELL)?;
        let list = DataSegmentsList::parse(&list, big.num_segments).map_err(|e| e.to_string())?;
        let mut data = Vec::new();
        for offset in list.offsets {
            let piece = self.cell(offset, MAX_CELL)?;
            let take = (wanted - data.len()).min(regf::MAX_DATA_SEGMENT_SIZE);
            data.extend_from_slice(piece.get(..take).ok_or("a piece of a value is cut short")?);
        }
        (data.len() == wanted).then_some(data).ok_or_else(|| "pieces of a value are missing".to_owned())
    }

    fn child(&self, key: &Key, name: &str) -> Result<Option<Key>, String> {
        let wanted = name.to_uppercase();
        for offset in self.below(key, Some(name))? {
            let child = self.key(offset)?;
            if child.name().to_uppercase() == wanted {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// Where the keys below a key are. With a name, those are left out that the list's hash tells apart.
    fn below(&self, key: &Key, name: Option<&str>) -> Result<Vec<u32>, String> {
        if key.node.num_subkeys == 0 {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        match self.list(key.node.subkeys_list_offset)? {
            SubkeysList::IndexRoot(root) => {
                for element in &root.elements {
                    let list = self.list(element.subkeys_list_offset)?;
                    if list.is_index_root() {
                        return Err("a list of subkeys points at another list of lists".to_owned());
                    }
                    found.extend(candidates(&list, name));
                    if found.len() > MAX_CHILDREN {
                        return Err(format!("more than {MAX_CHILDREN} subkeys"));
                    }
                }
            }
            list => found.extend(candidates(&list, name)),
        }
        Ok(found)
    }

    fn list(&self, offset: u32) -> Result<SubkeysList, String> {
        SubkeysList::parse(&self.cell(offset, MAX_CELL)?).map_err(|e| e.to_string())
    }

    fn key(&self, offset: u32) -> Result<Key, String> {
        let node = KeyNode::parse(&self.cell(offset, KEY_CELL)?).map_err(|e| e.to_string())?;
        Ok(Key { offset, node })
    }

    /// The content of an allocated cell, at most `limit` bytes of it.
    fn cell(&self, offset: u32, limit: u32) -> Result<Vec<u8>, String> {
        if offset == NONE {
            return Err("a pointer to nothing".to_owned());
        }
        let mut size = [0u8; 4];
        self.read(offset, &mut size)?;
        // Allocated cells have their size as a negative number.
        let size = i32::from_le_bytes(size);
        let length = size.checked_neg().and_then(|n| u32::try_from(n).ok()).and_then(|n| n.checked_sub(4));
        let Some(length) = length else { return Err(format!("no allocated cell at {offset:#x}")) };
        let mut content = vec![0u8; length.min(limit) as usize];
        self.read(offset.checked_add(4).ok_or("a pointer past the end")?, &mut content)?;
        Ok(content)
    }

    fn read(&self, offset: u32, buffer: &mut [u8]) -> Result<(), String> {
        let end = u64::from(offset) + buffer.len() as u64;
        if end > u64::from(self.size) {
            return Err(format!("a pointer past the end: {end:#x} of {:#x}", self.size));
        }
        let cost = (buffer.len() as u64).max(READ_COST);
        let left = self.left.get().checked_sub(cost);
        self.left.set(left.ok_or("more was read than a hive can need: it points into itself")?);
        if self.pages.sectors.is_empty() {
            let at = u64::from(offset) + BASE_BLOCK as u64;
            return self.bytes.read_at(at, buffer).map_err(|e| e.to_string());
        }
        self.read_patched(offset, buffer)
    }

    /// The hive's bytes where the file has them, zeros behind its end, and the logs' sectors over both.
    fn read_patched(&self, offset: u32, buffer: &mut [u8]) -> Result<(), String> {
        let at = u64::from(offset) + BASE_BLOCK as u64;
        let have = usize::try_from(self.bytes.len().saturating_sub(at)).unwrap_or(usize::MAX);
        let inside = have.min(buffer.len());
        if let Some(head) = buffer.get_mut(..inside) {
            self.bytes.read_at(at, head).map_err(|e| e.to_string())?;
        }
        let from = offset as usize;
        let end = from + buffer.len();
        let first = offset - offset % SECTOR;
        for (start, sector) in self.pages.sectors.range(first..u32::try_from(end).unwrap_or(u32::MAX)) {
            let start = *start as usize;
            let (low, high) = (start.max(from), (start + sector.len()).min(end));
            if let (Some(to), Some(source)) =
                (buffer.get_mut(low - from..high - from), sector.get(low - start..high - start))
            {
                to.copy_from_slice(source);
            }
        }
        Ok(())
    }

    /// Walks all bins and their cells, and says what does not fit: every byte of a bin belongs to a cell.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.size == 0 || self.size > MAX_CHECKED {
            return Err(format!("bins of {} bytes", self.size));
        }
        self.left.set(BUDGET + 2 * u64::from(self.size));
        let mut at = 0u32;
        while at < self.size {
            let mut head = [0u8; 32];
            self.read(at, &mut head)?;
            let field =
                |n: usize| head.get(n..n + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
            let (own, size) = (field(4), field(8));
            if !head.starts_with(b"hbin") || own != at {
                return Err(format!("there is no bin at {at:#x}"));
            }
            if size == 0 || size % 4096 != 0 || size > self.size - at || size > MAX_BIN {
                return Err(format!("the bin at {at:#x} has {size} bytes"));
            }
            let mut bin = vec![0u8; size as usize];
            self.read(at, &mut bin)?;
            cells_fill(&bin).map_err(|why| format!("the bin at {at:#x}: {why}"))?;
            at += size;
        }
        let root = self.root()?;
        root.node
            .is_root()
            .then_some(())
            .ok_or_else(|| format!("the key at {:#x} is not the root", root.offset))
    }
}

fn cells_fill(bin: &[u8]) -> Result<(), String> {
    let mut at = 32usize;
    while at < bin.len() {
        let size = bin.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_le_bytes);
        let size = usize::try_from(size.unsigned_abs()).unwrap_or(0);
        if size < 8 || !size.is_multiple_of(8) || size > bin.len() - at {
            return Err(format!("a cell of {size} bytes at {at:#x}"));
        }
        at += size;
    }
    Ok(())
}

/// Subkeys that may have this name. The hashes of names outside ASCII are not trusted: hivex makes others than
/// Windows.
fn candidates(list: &SubkeysList, name: Option<&str>) -> Vec<u32> {
    match (list, name.filter(|name| name.is_ascii())) {
        (SubkeysList::HashLeaf(leaf), Some(name)) => {
            let hash = regf::calculate_name_hash(name);
            let fits = leaf.elements.iter().filter(|e| e.name_hash == hash);
            fits.map(|e| e.key_node_offset).collect()
        }
        _ => list.get_offsets(),
    }
}
