//! `summary.md`: what must be looked at comes first. Fits a GitHub step summary, which is cut at 1 MiB.

use std::fmt::Write;

use super::against::Shown;
use crate::compare::Comparison;
use crate::image::GuestFamily;
use crate::outcome::Verdict;
use crate::record::RunRecord;
use crate::record::schema::ScenarioRecord;
use crate::record::words::seconds;
use crate::soft_versus_hard;
use crate::text::printable;
use crate::{request_matrix, two_backends};

/// Bytes of a table; what does not fit is counted. Two tables and the rest stay below GitHub's 1 MiB.
const TABLE_LIMIT: usize = 300_000;

/// Verdicts in the order in which they are told.
pub const ORDER: [Verdict; 7] = [
    Verdict::Fail,
    Verdict::Infra,
    Verdict::Inconclusive,
    Verdict::Flaky,
    Verdict::KnownIssue,
    Verdict::Skipped,
    Verdict::Pass,
];

/// The run as Markdown.
pub fn render(run: &RunRecord, comparison: Option<&Comparison>) -> String {
    let mut out = String::from("# Softoff: does the guest obey the power button?\n\n");
    let counts: Vec<String> = ORDER
        .into_iter()
        .map(|verdict| (verdict, run.results.iter().filter(|r| r.verdict == verdict).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| format!("**{count} {verdict}**"))
        .collect();
    let counts = if counts.is_empty() { "nothing ran".to_owned() } else { counts.join(", ") };
    let _ = writeln!(out, "{counts} in {} (run {})", seconds(run.wall_ms), safe(&run.id, 60));
    if run.interrupted {
        out.push_str("\nInterrupted: this is partial.\n");
    }
    if !run.missing.is_empty() {
        let _ = writeln!(out, "\n## Missing: {} planned results that no shard brought\n", run.missing.len());
        for name in run.missing.iter().take(100) {
            let _ = writeln!(out, "- {}", safe(name, 120));
        }
        if run.missing.len() > 100 {
            let _ = writeln!(out, "- and {} more", run.missing.len() - 100);
        }
    }
    let of = |verdict: Verdict| run.results.iter().filter(move |r| r.verdict == verdict);
    let troubled: Vec<&ScenarioRecord> =
        ORDER.into_iter().filter(|v| *v != Verdict::Pass).flat_map(of).collect();
    if !troubled.is_empty() {
        out.push_str("\n## To look at\n\n");
        table(&mut out, &troubled, true);
    }
    if let Some(comparison) = comparison {
        against(&mut out, &Shown::new(comparison));
    }
    family(&mut out, run);
    if of(Verdict::Pass).next().is_some() {
        out.push_str("\n<details><summary>What passed</summary>\n\n");
        table(&mut out, &of(Verdict::Pass).collect::<Vec<_>>(), false);
        out.push_str("\n</details>\n");
    }
    for (title, table) in [
        ("Cause against policy", request_matrix::markdown(run)),
        ("Through libvirt, against plain QMP", two_backends::markdown(run)),
    ] {
        if !table.is_empty() {
            let _ = writeln!(out, "\n## {title}\n\n{}", table.trim_end());
        }
    }
    let host = &run.host;
    let _ = writeln!(
        out,
        "\nQEMU {}; {}; kernel {}; Softoff {}",
        safe(&host.qemu, 80),
        safe(&host.distribution, 80),
        safe(&host.kernel, 80),
        safe(&host.softoff, 40)
    );
    if run.results.iter().any(|r| r.image.family == GuestFamily::Reference) {
        out.push_str(
            "\nReference results come from Softoff's reference guest; they are not Windows results.\n",
        );
    }
    out
}

/// Damage against kill time, where the run has that family of scenarios.
fn family(out: &mut String, run: &RunRecord) {
    let arms = soft_versus_hard::arms(run);
    if arms.is_empty() {
        return;
    }
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| safe(cell, 80)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let header = soft_versus_hard::HEADER.map(str::to_owned);
    let _ = writeln!(
        out,
        "\n## Damage against kill time\n\n{}\n{}",
        line(&header),
        "|---".repeat(header.len()) + "|"
    );
    for arm in arms.iter().take(100) {
        let _ = writeln!(out, "{}", line(&arm.cells()));
    }
}

fn against(out: &mut String, shown: &Shown) {
    let _ = writeln!(out, "\n## Against the baseline {}: {}\n", safe(&shown.base, 60), shown.counts);
    for group in shown.groups.iter().take(200) {
        let (scenario, image) = (safe(&group.scenario, 80), safe(&group.image, 40));
        let _ = writeln!(out, "- **{}** {scenario} on {image}", group.change);
        for line in &group.lines {
            let _ = writeln!(out, "  - {}", safe(line, 300));
        }
    }
    if let Some(suspect) = shown.suspects.first() {
        let _ = writeln!(out, "\nFirst suspect: {}", safe(suspect, 300));
    }
}

fn table(out: &mut String, results: &[&ScenarioRecord], reasons: bool) {
    let (head, line) = if reasons { (" why |", "---|") } else { ("", "") };
    let _ = writeln!(out, "| verdict | scenario | image | outcome | cause | request to off |{head}");
    let _ = writeln!(out, "|---|---|---|---|---|---|{line}");
    let begin = out.len();
    for (shown, result) in results.iter().enumerate() {
        if out.len() - begin > TABLE_LIMIT {
            let _ = writeln!(out, "\nand {} more; run.json has them all", results.len() - shown);
            return;
        }
        let repeat = if result.repeat > 1 { format!(" #{}", result.repeat) } else { String::new() };
        let _ = write!(
            out,
            "| {} | {}{repeat} | {} | {} | {} | {} |",
            result.verdict,
            safe(&result.scenario.0, 80),
            safe(&result.subject(), 50),
            result.outcome.kind(),
            result.diagnosis.cause,
            result.phases.powered_off_ms.map_or("-".to_owned(), seconds),
        );
        if reasons {
            let why: Vec<String> = result.reasons.iter().take(5).map(|r| safe(r, 300)).collect();
            let _ = write!(out, " {} |", why.join("<br>"));
        }
        out.push('\n');
    }
}

/// Foreign text for Markdown: control characters shown, and whatever Markdown or HTML would act on written as a
/// character reference.
pub(crate) fn safe(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for c in printable(text, limit).chars() {
        // Hyphens and full stops act only at a line's start, where no foreign text stands.
        if c.is_ascii_punctuation() && !matches!(c, '-' | '.' | ',' | ';' | '+' | '/' | '%' | '=') {
            let _ = write!(out, "&#{};", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{result, run};
    use proptest::prelude::*;

    fn failed(scenario: &str, why: &str) -> ScenarioRecord {
        let mut failed = result(scenario, 1);
        failed.verdict = Verdict::Fail;
        failed.reasons = vec![why.to_owned()];
        failed
    }

    #[test]
    fn failures_come_first() {
        let mut infra = failed("logon-required", "QEMU was killed by signal 9");
        infra.verdict = Verdict::Infra;
        let mut run = run([result("control", 1), infra, failed("auto-end-tasks", "outcome still-running")]);
        run.missing = vec!["control.reference.2".into()];
        insta::assert_snapshot!(render(&run, None));
    }

    #[test]
    fn a_great_run_fits() {
        let run = run(vec![failed("control", &"*".repeat(400)); 4000]);
        let text = render(&run, None);
        assert!(text.len() < 1 << 20, "{}", text.len());
        assert!(text.contains("more; run.json has them all"));
    }

    proptest! {
        #[test]
        fn nothing_foreign_acts(text in "\\PC*|[<>|`*_\\[\\]()!#&\\\\\n\u{1b}]{0,20}") {
            let safe = safe(&text, 1000);
            prop_assert!(!safe.contains(['<', '>', '|', '`', '*', '_', '[', '\n', '\\', '\u{1b}']), "{safe}");
        }
    }
}
