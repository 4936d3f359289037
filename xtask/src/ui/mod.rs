//! What people see: live lines in a terminal, plain lines elsewhere, tables at the end.

pub(crate) mod build;
pub(crate) mod comparison;
mod confusion;
pub(crate) mod diagnosis;
pub(crate) mod hardening;
pub(crate) mod inspection;
pub(crate) mod lint;
pub(crate) mod live;
mod medians;
pub(crate) mod soft_versus_hard;
pub(crate) mod summary;
#[cfg(test)]
pub(crate) mod testing;

use comfy_table::{ContentArrangement, Table, presets};

/// A table as wide as the terminal allows.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    table
}

/// Seconds with one decimal.
pub(crate) fn seconds(duration: std::time::Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Whether standard error is a terminal where lines may be redrawn.
pub(crate) fn is_live() -> bool {
    console::user_attended_stderr() && std::env::var_os("CI").is_none()
}
