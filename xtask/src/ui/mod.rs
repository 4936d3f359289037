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
pub(crate) mod requests;
pub(crate) mod soft_versus_hard;
pub(crate) mod summary;
#[cfg(test)]
pub(crate) mod testing;

use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets};
use softoff_harness::text::is_hidden;

/// A table as wide as the terminal allows.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    table
}

/// JSON for people and programs: what could move a cursor or reorder a line is written as an escape, which means the same
/// to a program. It can only stand in strings.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value).context("writing JSON")?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_hidden(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)))
        } else {
            out.push(c)
        }
    }
    Ok(out)
}

/// Seconds with one decimal.
pub(crate) fn seconds(duration: std::time::Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Whether standard error is a terminal where lines may be redrawn.
pub(crate) fn is_live() -> bool {
    console::user_attended_stderr() && std::env::var_os("CI").is_none()
}

#[cfg(test)]
mod tests {
    #[test]
    fn json_means_the_same_and_moves_no_cursor() {
        let value = serde_json::json!({ "a": "\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\n plain 이" });
        let text = super::json(&value).unwrap();
        assert!(!text.chars().any(|c| c != '\n' && softoff_harness::text::is_hidden(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
