//! Damage against kill time, where a run has the scenarios for it.

use softoff_harness::record::RunRecord;
use softoff_harness::soft_versus_hard::{HEADER, arms};

use super::table;

/// The table; `None` for a run without such results.
pub(crate) fn render(run: &RunRecord) -> Option<String> {
    let arms = arms(run);
    let rows = arms.iter().map(|arm| arm.cells().to_vec()).collect();
    (!arms.is_empty())
        .then(|| format!("{}\nas a plot: soft-versus-hard.svg beside the records", table(&HEADER, rows)))
}
