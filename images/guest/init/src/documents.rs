//! The documents of the lost-write check, written at each boot before the session starts.

use std::path::Path;

use anyhow::Context;
use softoff_guest_protocol::document::{Document, FOLDER, Kind};
use softoff_guest_protocol::probe::ProbeEvent;

use crate::{log, volume};

/// So many of each kind.
const COUNT: u32 = 5;
/// Bytes of a payload: more than a file record holds, so that the content has clusters of its own, and no multiple
/// of a cluster.
const PAYLOAD: usize = 10_000;

/// Writes them anew and tells: whoever wants those of an earlier boot reads the disk before this.
pub(crate) fn write() {
    match write_to(&volume::on_c(FOLDER)) {
        Ok(()) => log::probe(ProbeEvent::DocumentsWritten { flushed: COUNT, unflushed: COUNT }),
        Err(error) => log::trouble(&format!("the documents were not written: {error:#}")),
    }
    // Flushing took the mark away.
    volume::mark_in_use();
}

/// The names go to the disk first, empty: what is lost later is content, and never half a folder, which ntfs3 (without
/// a journal) would leave behind and could not read again.
fn write_to(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let documents: Vec<Document> = [Kind::Flushed, Kind::Unflushed]
        .into_iter()
        .flat_map(|kind| (1..=COUNT).map(move |number| Document { kind, number }))
        .collect();
    for document in &documents {
        let path = folder.join(document.file_name());
        volume::write_flushed(&path, &[]).with_context(|| format!("cannot make {}", path.display()))?;
    }
    for document in &documents {
        let path = folder.join(document.file_name());
        let bytes = document.encode(&payload(document.number));
        match document.kind {
            Kind::Flushed => volume::write_flushed(&path, &bytes),
            Kind::Unflushed => std::fs::write(&path, &bytes),
        }
        .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Text that no two documents share, so that one cannot pass for another.
fn payload(number: u32) -> Vec<u8> {
    let line = format!("document {number}: what somebody worked on\r\n");
    line.bytes().cycle().take(PAYLOAD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_reads_back_and_earlier_ones_are_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("LostWrite");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("flushed-001.txt"), "x".repeat(20_000)).unwrap();
        write_to(&folder).unwrap();
        let mut found: Vec<Document> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let document = Document::parse(&std::fs::read(&path).unwrap()).unwrap();
                assert_eq!(path.file_name().unwrap().to_str(), Some(document.file_name().as_str()));
                document
            })
            .collect();
        found.sort();
        assert_eq!(found.len(), 2 * COUNT as usize);
        assert_eq!(found.last(), Some(&Document { kind: Kind::Unflushed, number: COUNT }));
    }
}
