//! Reports: what people and other programs look at after a run, made from its records alone.
//!
//! | file | for whom |
//! |---|---|
//! | `junit.xml` | CI servers |
//! | `summary.md` | a GitHub step summary, a chat |
//! | `report.html` | people: one file, offline |
//!
//! Everything that came from a guest, and everything in a record from another machine, is escaped.

mod drawing;
mod html;
mod junit;
mod page;
mod plot;
pub mod summary;
#[cfg(test)]
pub(crate) mod testing;

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::record::RunRecord;

/// Name of the JUnit report.
pub const JUNIT: &str = "junit.xml";
/// Name of the Markdown summary.
pub const SUMMARY: &str = "summary.md";
/// Name of the page.
pub const PAGE: &str = "report.html";

/// Writes all reports into the run's folder and returns the page's path.
///
/// # Errors
/// When a file cannot be written; the record itself is not touched.
pub fn write_all(dir: &Path, run: &RunRecord) -> anyhow::Result<PathBuf> {
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text)
            .with_context(|| format!("cannot write {}; is the disk full?", path.display()))?;
        anyhow::Ok(path)
    };
    write(JUNIT, junit::render(run)?)?;
    write(SUMMARY, summary::render(run))?;
    write(PAGE, html::render(dir, run)?)
}
