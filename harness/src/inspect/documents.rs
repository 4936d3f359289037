//! Lost writes: which of the documents that the guest wrote before the request survived.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use softoff_guest_protocol::document::{Document, FOLDER, Kind};
use softoff_guest_protocol::probe::ProbeEvent;

use crate::disk::{DiskError, Volume};
pub use crate::timeline::Written;
use crate::timeline::{Observation, Seen};

/// Documents of a kind that are looked for.
const MAX_DOCUMENTS: u32 = 1000;
/// Largest document that is read.
const MAX_SIZE: u64 = 1 << 20;

impl Written {
    /// What the guest said in its newest boot.
    pub fn from_timeline(observations: &[Observation]) -> Option<Written> {
        observations.iter().rev().find_map(|o| match &o.what {
            // Written before the state was saved.
            Seen::StateLoaded { documents, .. } => *documents,
            Seen::Probe(line) => match line.event {
                ProbeEvent::DocumentsWritten { flushed, unflushed } => Some(Written { flushed, unflushed }),
                _ => None,
            },
            _ => None,
        })
    }
}

/// What became of the documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentsReport {
    /// Those that were flushed before the request: one that is lost is the disk's or the file system's fault.
    pub flushed: Survival,
    /// Those that were left to the cache: what a person had not saved for good.
    pub unflushed: Survival,
}

/// What became of the documents of one kind, by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Survival {
    /// How many the guest said it wrote; absent when it said nothing. Only gaps between numbers show then.
    pub written: Option<u32>,
    /// Whole, with the right checksum.
    pub intact: Vec<u32>,
    /// There, but cut short, empty, or with another payload than was written.
    pub torn: Vec<u32>,
    /// Not there.
    pub missing: Vec<u32>,
}

impl Survival {
    /// How many are lost in whole or in part.
    pub fn lost(&self) -> usize {
        self.torn.len() + self.missing.len()
    }
}

impl DocumentsReport {
    /// Reads them; `None` when there are none and the guest said nothing of any.
    pub fn read(volume: &Volume, written: Option<Written>) -> Result<Option<DocumentsReport>, DiskError> {
        let folder = format!(r"\{}", FOLDER.replace('/', r"\"));
        if written.is_none() && !volume.exists(&folder)? {
            return Ok(None);
        }
        let names: Vec<String> = volume
            .list(&folder, 4 * MAX_DOCUMENTS as usize)?
            .into_iter()
            .map(|entry| entry.name.to_ascii_lowercase())
            .collect();
        let survival = |kind, said: Option<u32>| survival(volume, &folder, &names, kind, said);
        Ok(Some(DocumentsReport {
            flushed: survival(Kind::Flushed, written.map(|w| w.flushed))?,
            unflushed: survival(Kind::Unflushed, written.map(|w| w.unflushed))?,
        }))
    }
}

fn survival(
    volume: &Volume,
    folder: &str,
    names: &[String],
    kind: Kind,
    written: Option<u32>,
) -> Result<Survival, DiskError> {
    let there = |number: u32| names.contains(&Document { kind, number }.file_name());
    let last = (1..=MAX_DOCUMENTS).rev().find(|number| there(*number)).unwrap_or(0);
    let mut survival = Survival { written, ..Survival::default() };
    for number in 1..=last.max(written.unwrap_or(0).min(MAX_DOCUMENTS)) {
        let document = Document { kind, number };
        if !there(number) {
            survival.missing.push(number);
            continue;
        }
        let path = format!(r"{folder}\{}", document.file_name());
        // A file whose content cannot be read is no better than a torn one.
        let whole = volume.read_file(&path, MAX_SIZE).ok().and_then(|bytes| Document::parse(&bytes).ok());
        match whole == Some(document) {
            true => survival.intact.push(number),
            false => survival.torn.push(number),
        }
    }
    Ok(survival)
}
