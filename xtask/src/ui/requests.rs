//! Cause against policy, and libvirt against plain QMP, where a run has the results for it.

use softoff_harness::record::RunRecord;
use softoff_harness::request_matrix::{FILE, LEGEND, matrices};
use softoff_harness::two_backends::{HEADER, pairs};

use super::table;

/// One table for the press policies and one for the platforms; `None` for a run without such results.
pub(crate) fn matrix(run: &RunRecord) -> Option<String> {
    let tables: Vec<String> = matrices(run)
        .iter()
        .map(|matrix| {
            let header = [vec!["scenario"], matrix.policies.iter().map(String::as_str).collect()].concat();
            let rows = matrix.rows.iter().map(|(scenario, cells)| {
                let cells =
                    cells.iter().map(|cell| cell.map_or("not run".to_owned(), |c| c.lines().join("\n")));
                [vec![scenario.clone()], cells.collect()].concat()
            });
            table(&header, rows.collect()).to_string()
        })
        .collect();
    (!tables.is_empty())
        .then(|| format!("{}\n{LEGEND}\nas a file: {FILE} beside the records", tables.join("\n")))
}

/// libvirt's results against plain QMP's; `None` for a run that has no pairs.
pub(crate) fn backends(run: &RunRecord) -> Option<String> {
    let pairs = pairs(run);
    if pairs.is_empty() {
        return None;
    }
    let same = pairs.iter().filter(|pair| pair.same()).count();
    let rows = pairs.iter().map(|pair| pair.cells().to_vec()).collect();
    Some(format!(
        "{}\n{same} of {} the same through libvirt as through plain QMP: outcome, last phase and cause",
        table(&HEADER, rows),
        pairs.len()
    ))
}
