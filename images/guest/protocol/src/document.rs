//! Documents that tell whether they survived: written by the guest before the request, read from its disk afterwards.
//!
//! A document is one line and a payload:
//!
//! ```text
//! SOFTOFF-DOC <flushed|unflushed> <number> <payload length in bytes> <CRC-32 of the payload, 8 hexadecimal digits>
//! ```
//!
//! A flushed one was written and flushed (FlushFileBuffers, fsync) before the guest said so: it must survive anything.
//! An unflushed one was left to the system's cache, as most programs leave theirs: a pulled plug loses it.

use std::fmt;

/// The folder of the documents on C:, with slashes.
pub const FOLDER: &str = "softoff/LostWrite";

/// First word of a document.
const MAGIC: &str = "SOFTOFF-DOC";

/// The first line is at most so long, in bytes.
const MAX_HEAD: usize = 80;

/// How a document was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Flushed to the disk.
    Flushed,
    /// Left to the cache.
    Unflushed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Flushed => "flushed",
            Kind::Unflushed => "unflushed",
        })
    }
}

/// A document's name and nature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Document {
    /// How it was written.
    pub kind: Kind,
    /// From 1.
    pub number: u32,
}

/// What is wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It begins with no document's line.
    NoHead,
    /// It is shorter or longer than its line says.
    Length {
        /// What the line says, in bytes.
        said: u64,
        /// What is there, in bytes.
        found: u64,
    },
    /// The payload is not the one that was written.
    Checksum,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::NoHead => write!(f, "no {MAGIC} line at its beginning"),
            Flaw::Length { said, found } => write!(f, "{found} of {said} bytes"),
            Flaw::Checksum => write!(f, "another payload than was written"),
        }
    }
}

impl std::error::Error for Flaw {}

impl Document {
    /// Its file name, such as `flushed-003.txt`.
    pub fn file_name(&self) -> String {
        format!("{}-{:03}.txt", self.kind, self.number)
    }

    /// The file's content.
    pub fn encode(&self, payload: &[u8]) -> Vec<u8> {
        let Document { kind, number } = self;
        let crc = crc32fast::hash(payload);
        let mut bytes = format!("{MAGIC} {kind} {number} {} {crc:08x}\n", payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Reads a file's content; an error tells what of it was lost.
    pub fn parse(bytes: &[u8]) -> Result<Document, Flaw> {
        let end = bytes.iter().take(MAX_HEAD).position(|b| *b == b'\n').ok_or(Flaw::NoHead)?;
        let (head, rest) = bytes.split_at_checked(end).ok_or(Flaw::NoHead)?;
        let payload = rest.get(1..).unwrap_or_default();
        let words: Vec<&str> = std::str::from_utf8(head).map_err(|_| Flaw::NoHead)?.split(' ').collect();
        let [MAGIC, kind, number, length, crc] = words.as_slice() else { return Err(Flaw::NoHead) };
        let kind = match *kind {
            "flushed" => Kind::Flushed,
            "unflushed" => Kind::Unflushed,
            _ => return Err(Flaw::NoHead),
        };
        let number = number.parse().map_err(|_| Flaw::NoHead)?;
        let said: u64 = length.parse().map_err(|_| Flaw::NoHead)?;
        let crc = u32::from_str_radix(crc, 16).map_err(|_| Flaw::NoHead)?;
        let found = payload.len() as u64;
        if found != said {
            return Err(Flaw::Length { said, found });
        }
        if crc32fast::hash(payload) != crc {
            return Err(Flaw::Checksum);
        }
        Ok(Document { kind, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIRD: Document = Document { kind: Kind::Flushed, number: 3 };

    #[test]
    fn a_document_survives_the_disk() {
        let bytes = THIRD.encode(b"123456789");
        // CRC-32/ISO-HDLC's check value.
        assert_eq!(bytes, b"SOFTOFF-DOC flushed 3 9 cbf43926\n123456789");
        assert_eq!(Document::parse(&bytes), Ok(THIRD));
        assert_eq!(THIRD.file_name(), "flushed-003.txt");
    }

    #[test]
    fn what_a_pulled_plug_leaves_is_told_apart() {
        let whole = THIRD.encode(&[7; 5000]);
        assert_eq!(Document::parse(&[]), Err(Flaw::NoHead));
        assert_eq!(Document::parse(&vec![0; whole.len()]), Err(Flaw::NoHead));
        assert_eq!(Document::parse(&whole[..4096]), Err(Flaw::Length { said: 5000, found: 4060 }));
        let mut zeroed = whole.clone();
        zeroed[4096..].fill(0);
        assert_eq!(Document::parse(&zeroed), Err(Flaw::Checksum));
    }

    #[test]
    fn foreign_heads_are_refused() {
        for head in
            ["SOFTOFF-DOC other 1 0 0\n", "SOFTOFF-DOC flushed x 0 0\n", "SOFTOFF-DOC flushed 1 0\n", "\n"]
        {
            assert_eq!(Document::parse(head.as_bytes()), Err(Flaw::NoHead), "{head}");
        }
    }
}
