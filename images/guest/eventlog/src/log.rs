//! The file: a header, and chunks behind it.

use std::io::{Read, Seek, SeekFrom, Write};

use crate::LogError;
use crate::chunk::Chunk;
use crate::event::{Event, FileTime};
use crate::layout::{CHUNK, FILE_HEADER, number, put, word};

/// The size of the System log by default (its MaxSize on Windows 10 and Server), bytes.
pub const MAX_BYTES: u64 = 20 << 20;

const MAGIC: &[u8; 8] = b"ElfFile\0";
/// Fields of the header.
const LAST_CHUNK: usize = 0x10;
const NEXT_RECORD: usize = 0x18;
const HEADER_SIZE: usize = 0x20;
const MINOR: usize = 0x24;
const MAJOR: usize = 0x26;
const BLOCK_SIZE: usize = 0x28;
const CHUNK_COUNT: usize = 0x2a;
const FLAGS: usize = 0x78;
const CRC: usize = 0x7c;
/// The log is in use: set while it is open, cleared when the event log service stops.
const DIRTY: u32 = 1;

/// How the log was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There was none.
    New,
    /// It was closed.
    Closed,
    /// It was in use when the system ended, so the end was not a clean one.
    InUse {
        /// When its last event happened; `None` for a log without any.
        last: Option<FileTime>,
    },
}

/// An open event log.
///
/// Every event is written at once with its chunk's header; whether it also reaches the disk is up to the file's owner.
#[derive(Debug)]
pub struct Log<F> {
    file: F,
    header: Vec<u8>,
    /// The chunk that is being filled, and which one it is, from 0.
    chunk: Chunk,
    index: u64,
}

impl<F: Read + Write + Seek> Log<F> {
    /// Opens a log that may be there already (an empty file is a new log), marks it as in use, and tells how it was
    /// left. What a pulled plug has cut is dropped.
    pub fn open(mut file: F) -> Result<(Log<F>, Found), LogError> {
        let length = file.seek(SeekFrom::End(0))?;
        if length == 0 {
            let mut log = Log { file, header: new_header(), chunk: Chunk::new(1), index: 0 };
            log.write_header(true)?;
            log.write_chunk()?;
            return Ok((log, Found::New));
        }
        let mut header = vec![0u8; FILE_HEADER];
        file.rewind()?;
        file.read_exact(&mut header).map_err(|_| LogError::Foreign("it is shorter than its header"))?;
        check(&header)?;
        let in_use = word(&header, FLAGS).unwrap_or(0) & DIRTY != 0;
        let (index, chunk) = last_chunk(&mut file, length)?.unwrap_or((0, Chunk::new(1)));
        let last = chunk.last_time().map(FileTime);
        let mut log = Log { file, header, chunk, index };
        log.write_header(true)?;
        log.write_chunk()?;
        Ok((log, if in_use { Found::InUse { last } } else { Found::Closed }))
    }

    /// Writes an event; gives its number.
    pub fn append(&mut self, event: &Event) -> Result<u64, LogError> {
        let number = self.chunk.next_number().ok_or(LogError::Full)?;
        if self.chunk.append(number, event).is_err() {
            let mut next = Chunk::new(number);
            next.append(number, event).map_err(|_| LogError::TooLarge)?;
            if place(self.index + 2) > MAX_BYTES {
                return Err(LogError::Full);
            }
            (self.chunk, self.index) = (next, self.index + 1);
        }
        self.write_chunk()?;
        self.write_header(true)?;
        Ok(number)
    }

    /// The file, to be flushed.
    pub fn file(&self) -> &F {
        &self.file
    }

    /// Closes the log: it is not in use any more. Gives the file back, to be flushed.
    pub fn close(mut self) -> Result<F, LogError> {
        self.write_header(false)?;
        Ok(self.file)
    }

    fn write_chunk(&mut self) -> Result<(), LogError> {
        self.file.seek(SeekFrom::Start(place(self.index)))?;
        self.file.write_all(self.chunk.bytes())?;
        Ok(())
    }

    fn write_header(&mut self, in_use: bool) -> Result<(), LogError> {
        let header = &mut self.header;
        let count = u16::try_from(self.index + 1).map_err(|_| LogError::Full)?;
        put(header, LAST_CHUNK, &self.index.to_le_bytes());
        put(header, NEXT_RECORD, &self.chunk.next_number().unwrap_or(0).to_le_bytes());
        put(header, CHUNK_COUNT, &count.to_le_bytes());
        put(header, FLAGS, &(if in_use { DIRTY } else { 0 }).to_le_bytes());
        let crc = crc32fast::hash(header.get(..FLAGS).unwrap_or_default());
        put(header, CRC, &crc.to_le_bytes());
        self.file.rewind()?;
        self.file.write_all(header)?;
        self.file.flush()?;
        Ok(())
    }
}

/// Where a chunk begins in the file.
fn place(index: u64) -> u64 {
    FILE_HEADER as u64 + index * CHUNK as u64
}

fn new_header() -> Vec<u8> {
    let mut header = vec![0u8; FILE_HEADER];
    put(&mut header, 0, MAGIC);
    put(&mut header, HEADER_SIZE, &0x80u32.to_le_bytes());
    // Version 3.1.
    put(&mut header, MINOR, &1u16.to_le_bytes());
    put(&mut header, MAJOR, &3u16.to_le_bytes());
    put(&mut header, BLOCK_SIZE, &(FILE_HEADER as u16).to_le_bytes());
    header
}

fn check(header: &[u8]) -> Result<(), LogError> {
    let is = |at, length, wanted| number(header, at, length) == Some(wanted);
    if header.get(..8) != Some(MAGIC) {
        return Err(LogError::Foreign("it does not begin with ElfFile"));
    }
    if !is(MAJOR, 2, 3) || !is(BLOCK_SIZE, 2, FILE_HEADER as u64) {
        return Err(LogError::Foreign("its version is not 3"));
    }
    Ok(())
}

/// The last chunk with records, and which one it is. The header is not asked: while the log is in use it lags behind
/// (seen in a real System.evtx: its header counts 3 chunks, the file holds 15).
fn last_chunk<F: Read + Seek>(file: &mut F, length: u64) -> Result<Option<(u64, Chunk)>, LogError> {
    let chunks = length.min(MAX_BYTES).saturating_sub(FILE_HEADER as u64) / CHUNK as u64;
    let mut last = None;
    for index in 0..chunks {
        let mut bytes = vec![0u8; CHUNK];
        file.seek(SeekFrom::Start(place(index)))?;
        file.read_exact(&mut bytes)?;
        match Chunk::load(bytes) {
            Some(chunk) => last = Some((index, chunk)),
            None => break,
        }
    }
    Ok(last)
}
