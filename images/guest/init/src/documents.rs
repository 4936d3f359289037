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

/// Writes them anew and tells. Those of an earlier boot go first: whoever wants them reads the disk before this.
pub(crate) fn write() {
    match write_to(&volume::on_c(FOLDER)) {
        Ok(()) => log::probe(ProbeEvent::DocumentsWritten { flushed: COUNT, unflushed: COUNT }),
        Err(error) => log::trouble(&format!("the documents were not written: {error:#}")),
    }
    // Flushing took the mark away.
    volume::mark_in_use();
}

fn write_to(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).context("the documents of an earlier boot stay")?;
    }
    std::fs::create_dir_all(folder)?;
    for number in 1..=COUNT {
        for kind in [Kind::Flushed, Kind::Unflushed] {
            let document = Document { kind, number };
            let path = folder.join(document.file_name());
            let bytes = document.encode(&payload(number));
            match kind {
                Kind::Flushed => volume::write_flushed(&path, &bytes),
                Kind::Unflushed => std::fs::write(&path, &bytes),
            }
            .with_context(|| format!("cannot write {}", path.display()))?;
        }
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
    fn every_document_reads_back_and_earlier_ones_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("LostWrite");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("flushed-099.txt"), "old").unwrap();
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
