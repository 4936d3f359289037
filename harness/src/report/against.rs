//! A comparison in words, as the page and the summary show it.

use serde::Serialize;

use crate::compare::{Change, Comparison, Direction, Finding, Suspect};

/// What is shown of a comparison: everything but what is the same.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) base: String,
    pub(super) counts: String,
    pub(super) groups: Vec<Differs>,
    pub(super) suspects: Vec<String>,
}

/// One group that is not the same.
#[derive(Debug, Serialize)]
pub(super) struct Differs {
    pub(super) change: String,
    pub(super) scenario: String,
    pub(super) image: String,
    pub(super) lines: Vec<String>,
}

impl Shown {
    pub(super) fn new(comparison: &Comparison) -> Shown {
        let all = [Change::New, Change::Changed, Change::Undecided, Change::Fixed, Change::Same];
        let counts = all.map(|change| (comparison.count(change), change));
        let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, change)| format!("{n} {change}"));
        let differing = comparison.groups.iter().filter(|g| g.change != Change::Same);
        let groups = differing.map(|g| Differs {
            change: g.change.to_string(),
            scenario: g.scenario.clone(),
            image: g.image.clone(),
            lines: g.why.iter().cloned().chain(g.findings.iter().map(finding)).collect(),
        });
        Shown {
            base: comparison.base.clone(),
            counts: counts.collect::<Vec<_>>().join(", "),
            groups: groups.collect(),
            suspects: comparison.suspects.iter().map(suspect).collect(),
        }
    }
}

fn finding(finding: &Finding) -> String {
    let direction = match finding.direction {
        Direction::Worse => "worse",
        Direction::Better => "better",
        Direction::Other => "other",
    };
    let chance = if finding.decided { "beyond chance" } else { "may be chance" };
    let Finding { aspect, base, head, p, level, .. } = finding;
    format!("{aspect}: {base} -> {head} ({direction}, {chance}: p {p:.2e}, level {level:.1e})")
}

fn suspect(s: &Suspect) -> String {
    let all = s.changed_with_it + s.changed_without_it;
    format!(
        "{}: {} -> {} (differs in {} of {all} that changed, and in {} that did not)",
        s.what, s.base, s.head, s.changed_with_it, s.same_with_it
    )
}
