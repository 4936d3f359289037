//! One chunk: 64 KiB with records, and what they share: names and templates, each written where it is first used.

use crate::event::{Event, Guid};
use crate::layout::{
    CHUNK, RECORD_HEADER, RECORD_MAGIC, RECORDS, STRINGS, TEMPLATES, header_crc, name_hash, number, put, word,
};
use crate::template::{ALWAYS, Element, Filled, Node, data, outer, utf16};

const MAGIC: &[u8; 8] = b"ElfChnk\0";
/// Fields of the header.
const FIRST_NUMBER: usize = 0x08;
const LAST_NUMBER: usize = 0x10;
const FIRST_ID: usize = 0x18;
const LAST_ID: usize = 0x20;
const HEADER_SIZE: usize = 0x28;
const LAST_RECORD: usize = 0x2c;
const FREE: usize = 0x30;
const RECORDS_CRC: usize = 0x34;
const FLAGS: usize = 0x78;
const HEADER_CRC: usize = 0x7c;

/// Tokens of binary XML (\[MS-EVEN6\] 2.2.12).
mod token {
    pub(super) const END: u8 = 0x00;
    pub(super) const OPEN: u8 = 0x01;
    pub(super) const CLOSE_START: u8 = 0x02;
    pub(super) const CLOSE_EMPTY: u8 = 0x03;
    pub(super) const CLOSE: u8 = 0x04;
    pub(super) const VALUE: u8 = 0x05;
    pub(super) const ATTRIBUTE: u8 = 0x06;
    pub(super) const TEMPLATE: u8 = 0x0c;
    pub(super) const PLACE: u8 = 0x0d;
    pub(super) const OPTIONAL_PLACE: u8 = 0x0e;
    pub(super) const FRAGMENT: [u8; 4] = [0x0f, 1, 1, 0];
    /// Beside another token: attributes follow, or one more attribute.
    pub(super) const MORE: u8 = 0x40;
}

/// It does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// A chunk in memory.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    free: usize,
    records: u64,
}

impl Chunk {
    /// An empty one, whose first record will have this number.
    pub(crate) fn new(first: u64) -> Chunk {
        let mut chunk = Chunk { bytes: vec![0; CHUNK], free: RECORDS, records: 0 };
        put(&mut chunk.bytes, 0, MAGIC);
        put(&mut chunk.bytes, HEADER_SIZE, &0x80u32.to_le_bytes());
        put(&mut chunk.bytes, FIRST_NUMBER, &first.to_le_bytes());
        put(&mut chunk.bytes, FIRST_ID, &first.to_le_bytes());
        chunk.seal();
        chunk
    }

    /// One that was written before. Only whole records in a row are kept: a plug that was pulled leaves the last of
    /// them cut, or a header from before them. `None` for what is no chunk, or has no record.
    pub(crate) fn load(mut bytes: Vec<u8>) -> Option<Chunk> {
        if bytes.len() != CHUNK || bytes.get(..8)? != MAGIC {
            return None;
        }
        let first = number(&bytes, RECORDS + 8, 8)?;
        let (mut free, mut records) = (RECORDS, 0);
        while let Some(next) = whole_record(&bytes, free, first.checked_add(records)?) {
            (free, records) = (next, records + 1);
        }
        if records == 0 {
            return None;
        }
        bytes.get_mut(free..)?.fill(0);
        put(&mut bytes, FIRST_NUMBER, &first.to_le_bytes());
        put(&mut bytes, FIRST_ID, &first.to_le_bytes());
        let mut chunk = Chunk { bytes, free, records };
        chunk.forget_what_was_cut();
        chunk.seal();
        Some(chunk)
    }

    /// The tables may lead behind the last record, or, in a damaged chunk, in circles: such a bucket is emptied, and
    /// what it led to will be written once more.
    fn forget_what_was_cut(&mut self) {
        for bucket in STRINGS.all().chain(TEMPLATES.all()) {
            let mut at = word(&self.bytes, bucket).unwrap_or(0) as usize;
            let mut before = self.free;
            while at != 0 {
                // An older entry lies before a newer one.
                if at < RECORDS || at >= before {
                    put(&mut self.bytes, bucket, &[0; 4]);
                    break;
                }
                (before, at) = (at, word(&self.bytes, at).unwrap_or(0) as usize);
            }
        }
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number that the next record will have; `None` for one that cannot be counted.
    pub(crate) fn next_number(&self) -> Option<u64> {
        number(&self.bytes, FIRST_NUMBER, 8)?.checked_add(self.records)
    }

    /// The time of the last record, as a FILETIME.
    pub(crate) fn last_time(&self) -> Option<u64> {
        let at = word(&self.bytes, LAST_RECORD)? as usize;
        (self.records > 0).then(|| number(&self.bytes, at + 16, 8))?
    }

    /// Writes an event behind the others; on an error the chunk is as it was.
    pub(crate) fn append(&mut self, number: u64, event: &Event) -> Result<(), NoRoom> {
        let tables = self.bytes.get(..RECORDS).unwrap_or_default().to_vec();
        let start = self.free;
        let mut writer = Writer { bytes: &mut self.bytes, at: start };
        match writer.record(number, event) {
            Ok(end) => {
                self.free = end;
                self.records += 1;
                put(&mut self.bytes, LAST_RECORD, &(start as u32).to_le_bytes());
                self.seal();
                Ok(())
            }
            Err(NoRoom) => {
                put(&mut self.bytes, 0, &tables);
                if let Some(rest) = self.bytes.get_mut(start..) {
                    rest.fill(0);
                }
                Err(NoRoom)
            }
        }
    }

    /// Brings the header in line with the records.
    fn seal(&mut self) {
        let last = self.next_number().unwrap_or(0).saturating_sub(1);
        put(&mut self.bytes, LAST_NUMBER, &last.to_le_bytes());
        put(&mut self.bytes, LAST_ID, &last.to_le_bytes());
        put(&mut self.bytes, FREE, &(self.free as u32).to_le_bytes());
        let records = self.bytes.get(RECORDS..self.free).unwrap_or_default();
        let crc = crc32fast::hash(records);
        put(&mut self.bytes, RECORDS_CRC, &crc.to_le_bytes());
        // As in every chunk that Windows wrote.
        put(&mut self.bytes, FLAGS, &1u32.to_le_bytes());
        let crc = header_crc(&self.bytes);
        put(&mut self.bytes, HEADER_CRC, &crc.to_le_bytes());
    }
}

/// Where the next record begins, if a whole one with this number stands here.
fn whole_record(bytes: &[u8], at: usize, wanted: u64) -> Option<usize> {
    let size = word(bytes, at.checked_add(4)?)? as usize;
    let end = at.checked_add(size).filter(|end| *end <= CHUNK && size >= RECORD_HEADER + 4)?;
    let whole = word(bytes, at)? == RECORD_MAGIC
        && number(bytes, at + 8, 8)? == wanted
        && word(bytes, end - 4)? as usize == size;
    whole.then_some(end)
}

/// Writes into a chunk from one place on.
struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn push(&mut self, new: &[u8]) -> Result<(), NoRoom> {
        let end = self.at.checked_add(new.len()).filter(|end| *end <= CHUNK).ok_or(NoRoom)?;
        put(self.bytes, self.at, new);
        self.at = end;
        Ok(())
    }

    /// Leaves room for a number of four bytes that is known later; gives its place.
    fn reserve(&mut self) -> Result<usize, NoRoom> {
        let at = self.at;
        self.push(&[0; 4])?;
        Ok(at)
    }

    /// Fills the room with the count of bytes since it.
    fn count_from(&mut self, room: usize) {
        let count = self.at.saturating_sub(room + 4) as u32;
        put(self.bytes, room, &count.to_le_bytes());
    }

    /// A whole record; gives where it ends.
    fn record(&mut self, number: u64, event: &Event) -> Result<usize, NoRoom> {
        let start = self.at;
        self.push(&RECORD_MAGIC.to_le_bytes())?;
        let size = self.reserve()?;
        self.push(&number.to_le_bytes())?;
        self.push(&event.time.0.to_le_bytes())?;
        self.push(&token::FRAGMENT)?;
        let inner = data(&event.data);
        // Where the data will stand is known only when all before it is written, and its own size stands before it.
        let filled = outer(event, number, Vec::new());
        let sizes = self.template(&filled)?;
        let data_at = self.at;
        self.push(&token::FRAGMENT)?;
        self.template(&inner)?;
        self.push(&[token::END])?;
        let length = u16::try_from(self.at - data_at).map_err(|_| NoRoom)?;
        put(self.bytes, sizes, &length.to_le_bytes());
        self.push(&[token::END])?;
        // Records are whole numbers of eight bytes.
        let end = (self.at + 4).next_multiple_of(8);
        self.push(&vec![0; end - 4 - self.at])?;
        let length = (end - start) as u32;
        self.push(&length.to_le_bytes())?;
        put(self.bytes, size, &length.to_le_bytes());
        Ok(end)
    }

    /// A template, by reference where the chunk has it, with its values. Gives the place of the last value's size.
    fn template(&mut self, filled: &Filled) -> Result<usize, NoRoom> {
        let id = filled.id();
        self.push(&[token::TEMPLATE, 1])?;
        self.push(&id.0.to_le_bytes())?;
        let known = self.find_template(id);
        let here = self.at + 4;
        self.push(&(known.unwrap_or(here) as u32).to_le_bytes())?;
        if known.is_none() {
            self.definition(id, &filled.root)?;
        }
        self.push(&(filled.values.len() as u32).to_le_bytes())?;
        let mut last = self.at;
        for value in &filled.values {
            last = self.at;
            self.push(&u16::try_from(value.bytes.len()).map_err(|_| NoRoom)?.to_le_bytes())?;
            self.push(&[value.kind, 0])?;
        }
        filled.values.iter().try_for_each(|value| self.push(&value.bytes))?;
        Ok(last)
    }

    fn definition(&mut self, id: Guid, root: &Element) -> Result<(), NoRoom> {
        let (bucket, start) = (TEMPLATES.bucket(id.0), self.at);
        self.push(&word(self.bytes, bucket).unwrap_or(0).to_le_bytes())?;
        self.push(&id.bytes())?;
        let size = self.reserve()?;
        self.push(&token::FRAGMENT)?;
        self.element(root)?;
        self.push(&[token::END])?;
        self.count_from(size);
        put(self.bytes, bucket, &(start as u32).to_le_bytes());
        Ok(())
    }

    fn element(&mut self, element: &Element) -> Result<(), NoRoom> {
        let attributes = &element.attributes;
        self.push(&[token::OPEN | if attributes.is_empty() { 0 } else { token::MORE }])?;
        self.push(&element.needs.to_le_bytes())?;
        let size = self.reserve()?;
        self.name(element.name)?;
        if let Some(last) = attributes.len().checked_sub(1) {
            let size = self.reserve()?;
            for (number, (name, value)) in attributes.iter().enumerate() {
                self.push(&[token::ATTRIBUTE | if number == last { 0 } else { token::MORE }])?;
                self.name(name)?;
                self.node(value)?;
            }
            self.count_from(size);
        }
        if element.content.is_empty() {
            self.push(&[token::CLOSE_EMPTY])?;
        } else {
            self.push(&[token::CLOSE_START])?;
            element.content.iter().try_for_each(|node| self.node(node))?;
            self.push(&[token::CLOSE])?;
        }
        self.count_from(size);
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<(), NoRoom> {
        match node {
            Node::Element(element) => self.element(element),
            Node::Text(text) => {
                let units = utf16(text);
                self.push(&[token::VALUE, crate::template::kind::TEXT])?;
                self.push(&u16::try_from(units.len() / 2).map_err(|_| NoRoom)?.to_le_bytes())?;
                self.push(&units)
            }
            Node::Place { number, kind, optional } => {
                debug_assert_ne!(*number, ALWAYS, "a place needs a number");
                self.push(&[if *optional { token::OPTIONAL_PLACE } else { token::PLACE }])?;
                self.push(&number.to_le_bytes())?;
                self.push(&[*kind])
            }
        }
    }

    /// The place of a name; the name itself follows where the chunk has it not.
    fn name(&mut self, name: &str) -> Result<(), NoRoom> {
        let hash = name_hash(name);
        if let Some(known) = self.find_name(name, hash) {
            return self.push(&(known as u32).to_le_bytes());
        }
        let here = self.at + 4;
        self.push(&(here as u32).to_le_bytes())?;
        let bucket = STRINGS.bucket(hash.into());
        self.push(&word(self.bytes, bucket).unwrap_or(0).to_le_bytes())?;
        self.push(&hash.to_le_bytes())?;
        let units = utf16(name);
        self.push(&u16::try_from(units.len() / 2).map_err(|_| NoRoom)?.to_le_bytes())?;
        self.push(&units)?;
        self.push(&[0, 0])?;
        put(self.bytes, bucket, &(here as u32).to_le_bytes());
        Ok(())
    }

    fn find_name(&self, name: &str, hash: u16) -> Option<usize> {
        let units = utf16(name);
        self.find(STRINGS.bucket(hash.into()), |at| {
            number(self.bytes, at + 6, 2) == Some(units.len() as u64 / 2)
                && self.bytes.get(at + 8..at + 8 + units.len()) == Some(&units)
        })
    }

    fn find_template(&self, id: Guid) -> Option<usize> {
        let id_bytes = id.bytes();
        self.find(TEMPLATES.bucket(id.0), |at| self.bytes.get(at + 4..at + 20) == Some(&id_bytes))
    }

    /// Follows a bucket from the newest entry to the oldest.
    fn find(&self, bucket: usize, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let mut before = self.at;
        let mut at = word(self.bytes, bucket)? as usize;
        while at != 0 && at < before {
            if is_it(at) {
                return Some(at);
            }
            (before, at) = (at, word(self.bytes, at)? as usize);
        }
        None
    }
}
