//! Failures that are on file: each with why it is tolerated, where it is tracked, who looks after it, and until when.
//! A result that fails as described has the verdict `known-issue`. After its day an entry excuses nothing, and
//! fails the run itself: it is to be renewed or removed.

use std::path::{Path, PathBuf};

use globset::{Glob, GlobMatcher};
use serde::Deserialize;

use crate::outcome::Verdict;
use crate::record::schema::ScenarioRecord;
use crate::text::printable;

/// What the file holds, checked.
#[derive(Debug, Clone, Default)]
pub struct KnownIssues {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    scenario: GlobMatcher,
    image: GlobMatcher,
    issue: Written,
    expired: bool,
}

/// An entry as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    scenario: String,
    #[serde(default = "any")]
    image: String,
    pattern: String,
    reason: String,
    tracker: String,
    owner: String,
    expires: toml::value::Datetime,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issue: Vec<Written>,
}

fn any() -> String {
    "*".to_owned()
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KnownIssuesError {
    /// It could not be read.
    #[error("cannot read {path}: {source}; give --known-issues a file, see ci/known-issues.toml")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not fit the format.
    #[error("{path}: {why}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is right.
        why: String,
    },
}

impl KnownIssues {
    /// Reads the file. `today` is a date such as `2026-11-24`; an entry is good until the end of its day, UTC.
    pub fn load(path: &Path, today: &str) -> Result<KnownIssues, KnownIssuesError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KnownIssuesError::Read { path: path.to_owned(), source })?;
        KnownIssues::parse(&text, today)
            .map_err(|why| KnownIssuesError::Format { path: path.to_owned(), why })
    }

    fn parse(text: &str, today: &str) -> Result<KnownIssues, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let entries = file.issue.into_iter().map(|issue| Entry::new(issue, today));
        Ok(KnownIssues { entries: entries.collect::<Result<_, _>>()? })
    }

    /// Excuses a failure that is on file. What an expired entry would have excused says so.
    pub fn apply(&self, record: &mut ScenarioRecord) {
        if record.verdict != Verdict::Fail {
            return;
        }
        let Some(entry) = self.entries.iter().find(|e| e.describes(record)) else { return };
        let (issue, owner) = (&entry.issue, printable(&entry.issue.owner, 80));
        if entry.expired {
            record.reasons.push(format!("known issue, expired on {} ({owner})", issue.expires));
        } else {
            record.verdict = Verdict::KnownIssue;
            let (reason, tracker) = (printable(&issue.reason, 200), printable(&issue.tracker, 200));
            record
                .reasons
                .push(format!("known issue until {}: {reason} ({tracker}, {owner})", issue.expires));
        }
    }

    /// One line for each entry whose day has passed.
    pub fn expired(&self) -> Vec<String> {
        let line = |e: &Entry| {
            let issue = &e.issue;
            let (scenario, owner) = (printable(&issue.scenario, 80), printable(&issue.owner, 80));
            format!("known issue of {scenario} expired on {}: {owner} renews or removes it", issue.expires)
        };
        self.entries.iter().filter(|e| e.expired).map(line).collect()
    }
}

impl Entry {
    fn new(issue: Written, today: &str) -> Result<Entry, String> {
        let glob = |text: &str| Glob::new(text).map(|g| g.compile_matcher()).map_err(|e| e.to_string());
        let texts = [
            ("pattern", &issue.pattern),
            ("reason", &issue.reason),
            ("tracker", &issue.tracker),
            ("owner", &issue.owner),
        ];
        if let Some((name, _)) = texts.into_iter().find(|(_, text)| text.trim().is_empty()) {
            return Err(format!("`{name}` of the issue of {} is empty", printable(&issue.scenario, 80)));
        }
        let day = issue.expires.date.filter(|_| issue.expires.time.is_none());
        let day = day.ok_or("`expires` must be a date, such as 2027-01-31")?.to_string();
        // Dates of four-digit years are ordered as texts are.
        let expired = day.as_str() < today;
        Ok(Entry { scenario: glob(&issue.scenario)?, image: glob(&issue.image)?, issue, expired })
    }

    fn describes(&self, record: &ScenarioRecord) -> bool {
        self.scenario.is_match(&record.scenario.0)
            && self.image.is_match(&record.image.name)
            && record.reasons.iter().any(|r| r.contains(&self.issue.pattern))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::result;
    use rstest::rstest;

    const FILE: &str = r#"
[[issue]]
scenario = "windows-update-*"
pattern = "outcome is still-running"
reason = "the update stand-in hangs at 80 %"
tracker = "https://example.org/1"
owner = "update team"
expires = 2026-12-31
"#;

    fn failed(scenario: &str, why: &str) -> ScenarioRecord {
        let mut failed = result(scenario, 1);
        failed.verdict = Verdict::Fail;
        failed.reasons = vec![why.into()];
        failed
    }

    #[rstest]
    #[case::described(
        "windows-update-10",
        "outcome is still-running, expected",
        "2026-12-31",
        Verdict::KnownIssue
    )]
    #[case::expired("windows-update-10", "outcome is still-running, expected", "2027-01-01", Verdict::Fail)]
    #[case::other_scenario("control", "outcome is still-running, expected", "2026-12-31", Verdict::Fail)]
    #[case::other_reason("windows-update-10", "outcome is crashed", "2026-12-31", Verdict::Fail)]
    fn only_what_is_on_file_is_excused(
        #[case] scenario: &str,
        #[case] why: &str,
        #[case] today: &str,
        #[case] verdict: Verdict,
    ) {
        let known = KnownIssues::parse(FILE, today).unwrap();
        let mut record = failed(scenario, why);
        known.apply(&mut record);
        assert_eq!(record.verdict, verdict, "{:?}", record.reasons);
        assert_eq!(known.expired().len(), usize::from(today > "2026-12-31"));
    }

    #[test]
    fn a_pass_stays_a_pass() {
        let mut record = failed("windows-update-10", "outcome is still-running");
        record.verdict = Verdict::Pass;
        KnownIssues::parse(FILE, "2026-12-31").unwrap().apply(&mut record);
        assert_eq!(record.verdict, Verdict::Pass);
    }

    #[rstest]
    #[case::no_owner("owner = \"update team\"", "", "owner")]
    #[case::empty_reason("the update stand-in hangs at 80 %", "", "reason")]
    #[case::no_day("2026-12-31", "2026-12-31T10:00:00Z", "2027-01-31")]
    #[case::bad_glob("windows-update-*", "[", "[")]
    #[case::unknown_key("owner =", "ower =", "ower")]
    fn what_does_not_fit_is_refused(#[case] from: &str, #[case] to: &str, #[case] hint: &str) {
        let error = KnownIssues::parse(&FILE.replace(from, to), "2026-12-31").unwrap_err();
        assert!(error.contains(hint), "{error}");
    }

    #[test]
    fn the_projects_own_file_fits() {
        KnownIssues::parse(include_str!("../../ci/known-issues.toml"), "2026-01-01").unwrap();
    }
}
