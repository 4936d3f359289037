//! The hardening matrix: cause by cause, what became of the stock image and of the hardened one.

use softoff_harness::outcome::{OutcomeKind, Verdict};
use softoff_harness::record::{RunRecord, ScenarioRecord};
use softoff_images::hardening::{Profile, SUFFIX};

/// What one scenario came to on both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    cells: [String; 6],
}

/// The rows, for every scenario that something was written down about and that ran on both.
pub(crate) fn rows(run: &RunRecord, profile: &Profile) -> Vec<Row> {
    let mut rows = Vec::new();
    for hardened in run.results.iter().filter(|r| r.repeat == 1) {
        let Some(stock) = hardened.image.name.strip_suffix(SUFFIX) else { continue };
        let Some(expected) = profile.expected(&hardened.scenario.0) else { continue };
        let before = run
            .results
            .iter()
            .find(|r| r.repeat == 1 && r.image.name == stock && r.scenario == hardened.scenario);
        let Some(before) = before else { continue };
        let shown = match (said(before), said(hardened)) {
            (true, true) if cured(before, hardened) == expected.cured => "as expected",
            (true, true) => "NOT AS EXPECTED",
            _ => "nothing was shown",
        };
        rows.push(Row {
            cells: [
                hardened.scenario.to_string(),
                before.outcome.kind().to_string(),
                hardened.outcome.kind().to_string(),
                if expected.cured { "cured" } else { "not cured" }.to_owned(),
                shown.to_owned(),
                expected.because.clone(),
            ],
        });
    }
    rows
}

/// Whether a record says something of its guest.
fn said(record: &ScenarioRecord) -> bool {
    !matches!(record.verdict, Verdict::Inconclusive | Verdict::Infra | Verdict::Skipped)
}

/// Cured is what powers off at one press and did not, or needed a second.
fn cured(before: &ScenarioRecord, hardened: &ScenarioRecord) -> bool {
    let off = |record: &ScenarioRecord| record.outcome.kind() == OutcomeKind::PoweredOff;
    off(hardened) && (!off(before) || before.verdict == Verdict::Pass && hardened.verdict == Verdict::Pass)
}

/// As a table; `None` where nothing ran on both.
pub(crate) fn render(run: &RunRecord, profile: &Profile) -> Option<comfy_table::Table> {
    let rows = rows(run, profile);
    let header = ["scenario", "stock", "hardened", "expected", "shown", "because"];
    (!rows.is_empty()).then(|| super::table(&header, rows.into_iter().map(|row| row.cells.into()).collect()))
}
