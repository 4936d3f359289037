//! Reports: what people and other programs look at after a run, made from its records alone.
//!
//! | file | for whom |
//! |---|---|
//! | `junit.xml` | CI servers |
//! | `summary.md` | a GitHub step summary, a chat |
//! | `report.html` | people: one file, offline |
//! | `soft-versus-hard.md`, `.svg` | people: damage against kill time, where the run has that family |
//!
//! Everything that came from a guest, and everything in a record from another machine, is escaped.

mod against;
mod drawing;
mod html;
mod junit;
mod nights;
mod page;
mod plot;
pub mod summary;
#[cfg(test)]
pub(crate) mod testing;

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::compare::Comparison;
use crate::record::{RunRecord, write_whole};
use crate::soft_versus_hard;
pub use nights::nights_svg;

/// Name of the JUnit report.
pub const JUNIT: &str = "junit.xml";
/// Name of the Markdown summary.
pub const SUMMARY: &str = "summary.md";
/// Name of the page.
pub const PAGE: &str = "report.html";

/// Name of what the run says against its baseline.
pub const COMPARISON: &str = "comparison.json";

/// Writes all reports into the run's folder and returns the page's path.
///
/// With a `comparison`, it is shown too, and kept beside them. The page comes last, whole: a run that has it has all.
///
/// # Errors
/// When a file cannot be written; the record itself is not touched.
pub fn write_all(dir: &Path, run: &RunRecord, comparison: Option<&Comparison>) -> anyhow::Result<PathBuf> {
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        write_whole(&path, text.as_bytes())?;
        anyhow::Ok(path)
    };
    soft_versus_hard::write(dir, run)?;
    let [page, junit, summary] = texts(dir, run, comparison)?;
    write(JUNIT, junit)?;
    write(SUMMARY, summary)?;
    if let Some(comparison) = comparison {
        write(COMPARISON, serde_json::to_string_pretty(comparison).context("writing JSON")?)?;
    }
    write(PAGE, page)
}

/// The page, the JUnit report and the summary.
pub(crate) fn texts(
    dir: &Path,
    run: &RunRecord,
    comparison: Option<&Comparison>,
) -> anyhow::Result<[String; 3]> {
    Ok([html::render(dir, run, comparison)?, junit::render(run)?, summary::render(run, comparison)])
}

/// The comparison that was kept beside a run's reports, if there is one.
///
/// # Errors
/// When the file is there and is no comparison.
pub fn kept_comparison(dir: &Path) -> anyhow::Result<Option<Comparison>> {
    let path = dir.join(COMPARISON);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let what = || format!("{} is no comparison; remove it to report without", path.display());
    serde_json::from_slice(&bytes).map(Some).with_context(what)
}
