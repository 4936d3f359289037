//! A comparison as people read it: a table of what is not the same, each difference with its evidence, suspects.

use console::style;
use softoff_harness::compare::{Change, Comparison, Direction, ENOUGH, Finding, Group};
use softoff_harness::text::printable;

/// The comparison in lines.
pub(crate) fn lines(comparison: &Comparison) -> Vec<String> {
    let mut out = vec![format!(
        "{} held against {} (differences from {:.0} % and {} ms on)",
        printable(&comparison.head, 60),
        printable(&comparison.base, 60),
        comparison.floors.share * 100.0,
        comparison.floors.ms
    )];
    for group in comparison.groups.iter().filter(|g| g.change != Change::Same) {
        out.extend(shown(group));
    }
    let all = [Change::New, Change::Changed, Change::Undecided, Change::Fixed, Change::Same];
    let counts: Vec<String> = all
        .into_iter()
        .map(|change| (comparison.count(change), change))
        .filter(|(count, _)| *count > 0)
        .map(|(count, change)| format!("{count} {change}"))
        .collect();
    out.push(if counts.is_empty() { "nothing to compare".to_owned() } else { counts.join(", ") });
    if comparison.groups.iter().any(Group::is_base_too_small) {
        out.push(format!(
            "BASE has too few repeats for this many comparisons: {ENOUGH} more of HEAD would not decide either. Next: a \
             BASE of `cargo xtask run --repeat {ENOUGH}`"
        ));
    }
    let differs = comparison.groups.iter().any(|g| g.change != Change::Same);
    if differs {
        out.extend(suspects(comparison));
    }
    out
}

fn shown(group: &Group) -> Vec<String> {
    let what = printable(&group.subject(), 140);
    let mut counts = format!("{} against {} results", group.head_count, group.base_count);
    if group.head_left_out > 0 {
        counts.push_str(&format!(", {} of HEAD say nothing", group.head_left_out));
    }
    let change = style(format!("{:9}", group.change.to_string())).for_stdout().bold();
    let change = match group.change {
        Change::New => change.red(),
        Change::Changed | Change::Undecided => change.yellow(),
        Change::Fixed => change.green(),
        Change::Same => change,
    };
    let mut out = vec![format!("{change}  {what}  ({counts})")];
    out.extend(group.why.iter().map(|why| format!("           {why}")));
    out.extend(group.findings.iter().map(finding));
    out
}

fn finding(finding: &Finding) -> String {
    let worse = match finding.direction {
        Direction::Worse => "worse",
        Direction::Better => "better",
        Direction::Other => "other",
    };
    let sign = if finding.decided { "<=" } else { ">" };
    format!(
        "           {}: {} -> {}  ({worse}; p {:.2e} {sign} {:.1e})",
        finding.aspect,
        printable(&finding.base, 120),
        printable(&finding.head, 120),
        finding.p,
        finding.level
    )
}

fn suspects(comparison: &Comparison) -> Vec<String> {
    let Some((first, rest)) = comparison.suspects.split_first() else {
        return vec![
            "first suspect: nothing on record differs (image, definitions, firmware, QEMU, host): look at the load of the host, or at chance"
                .to_owned(),
        ];
    };
    let told = |s: &softoff_harness::compare::Suspect| {
        format!(
            "{}: {} -> {} (differs in {} of {} that changed, and in {} that did not)",
            printable(&s.what, 80),
            printable(&s.base, 100),
            printable(&s.head, 100),
            s.changed_with_it,
            s.changed_with_it + s.changed_without_it,
            s.same_with_it
        )
    };
    let mut out = vec![format!("first suspect: {}", told(first))];
    out.extend(rest.iter().map(|s| format!("also differs:  {}", told(s))));
    out
}
