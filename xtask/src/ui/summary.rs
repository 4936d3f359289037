//! The closing report of a run: a table of results and, where scenarios were repeated, how the causes were
//! named and how the times spread.

use std::time::Duration;

use softoff_harness::image::GuestFamily;
use softoff_harness::outcome::{Cause, Verdict};
use softoff_harness::record::{RunRecord, ScenarioRecord};
use softoff_harness::report::summary::ORDER;
use softoff_harness::text::printable;

use super::confusion::Confusion;
use super::{live, medians, seconds, table};

/// From the request to S5, with a mark where the host disturbed it.
fn time_to_off(result: &ScenarioRecord) -> String {
    let mark = if result.is_disturbed() { " ~" } else { "" };
    match result.phases.powered_off_ms {
        Some(ms) => format!("{}{mark}", seconds(Duration::from_millis(ms))),
        None => "-".to_owned(),
    }
}

/// The tables, and one line of counts.
pub(crate) fn render(run: &RunRecord) -> String {
    let rows = run.results.iter().map(|r| {
        let cause = match r.diagnosis.cause {
            Cause::None => "-".to_owned(),
            cause => cause.to_string(),
        };
        vec![
            r.scenario.to_string(),
            r.subject(),
            r.outcome.kind().to_string(),
            live::verdict(r.verdict),
            time_to_off(r),
            r.last_phase.map_or("-".to_owned(), |p| p.to_string()),
            cause,
        ]
    });
    let header = ["scenario", "image", "outcome", "verdict", "request to off", "last phase", "cause"];
    let mut out = table(&header, rows.collect()).to_string();
    if run.results.iter().any(|r| r.repeat > 1) {
        let confusion = Confusion::of(run);
        if let Some(table) = confusion.table() {
            out.push_str(&format!("\n{table}\n{}", confusion.line()));
        }
        if let Some(table) = medians::spreads(run) {
            out.push_str(&format!("\n{table}"));
        }
    }
    let count = |verdict: Verdict| run.results.iter().filter(|r| r.verdict == verdict).count();
    let counts: Vec<String> =
        ORDER.into_iter().filter(|v| count(*v) > 0).map(|v| format!("{} {v}", count(v))).collect();
    let wall = seconds(Duration::from_millis(run.wall_ms));
    out.push_str(&format!(
        "\n{} in {wall}",
        if counts.is_empty() { "nothing ran".into() } else { counts.join(", ") }
    ));
    if run.interrupted {
        out.push_str("; interrupted, so this is partial");
    }
    let marked = run.results.iter().filter(|r| r.is_disturbed()).count();
    if marked > 0 {
        out.push_str(&format!(
            "\n~ {marked} timings were disturbed: the guest waited for a processor; --jobs 1 measures"
        ));
    }
    if !run.missing.is_empty() {
        let missing: Vec<String> = run.missing.iter().take(20).map(|name| printable(name, 120)).collect();
        out.push_str(&format!("\nmissing: {} planned results: {}", run.missing.len(), missing.join(", ")));
    }
    if run.results.iter().any(|r| r.image.family == GuestFamily::Reference) {
        out.push_str("\nreference results come from Softoff's reference guest; they are not Windows results");
    }
    out
}

#[cfg(test)]
mod tests {
    use softoff_harness::pressure::HostPressure;

    use super::*;
    use crate::ui::testing::{result, run};

    #[test]
    fn a_disturbed_time_is_marked() {
        let quiet = result("control", 1, Cause::None, Cause::None);
        let mut slow = result("control", 2, Cause::None, Cause::None);
        slow.host_pressure = Some(HostPressure { disturbed: true, ..HostPressure::default() });
        assert!(!render(&run([quiet.clone()])).contains('~'));
        let text = render(&run([quiet, slow]));
        assert!(text.contains(" s ~") && text.contains("1 timings were disturbed"), "{text}");
    }

    #[test]
    fn only_repeats_are_compared() {
        let once = render(&run([result("control", 1, Cause::None, Cause::None)]));
        assert!(!once.contains("causes named as expected"), "{once}");
        let twice = render(&run([1, 2].map(|n| result("control", n, Cause::None, Cause::None))));
        assert!(twice.contains("2 of 2 causes named as expected"), "{twice}");
        assert!(twice.contains("since the phase before"), "{twice}");
    }
}
