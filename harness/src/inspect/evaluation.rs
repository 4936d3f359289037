//! An evaluation Windows past its expiry: it shuts down by itself every hour, and says nothing about the button.
//!
//! WLMS ends the system hourly once the period is over: 180 days, and up to six rearms that the disk does not tell
//! (fact sheet, fact 13). Its event 100 in the Application log is proof; age alone is only a sign.

use serde::Serialize;

use super::DiskReport;
use crate::guest::registry_facts::RegistryFacts;

/// The period of Windows Server evaluations.
const PERIOD_DAYS: u64 = 180;
/// Six rearms of that length.
const LONGEST_DAYS: u64 = PERIOD_DAYS * 7;
const DAY: u64 = 86_400;

/// Whether a Windows is an evaluation, and whether its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "evaluation", rename_all = "kebab-case")]
pub enum Evaluation {
    /// The edition is no evaluation.
    No,
    /// It is one, within its period.
    Running {
        /// Days since it was installed.
        days: u64,
    },
    /// It is one, and older than its period: expired unless it was rearmed.
    PerhapsExpired {
        /// Days since it was installed.
        days: u64,
    },
    /// It has said so itself, or is older than every rearm allows.
    Expired {
        /// What shows it.
        why: String,
    },
}

/// Whether the edition is an evaluation's, such as ServerStandardEval, EnterpriseEval, EnterpriseSEval.
pub fn is_evaluation(registry: &RegistryFacts) -> bool {
    registry.edition.as_deref().is_some_and(|edition| edition.to_ascii_lowercase().ends_with("eval"))
}

/// Judges a disk; `now` is in seconds since 1970.
pub fn evaluation(report: &DiskReport, registry: &RegistryFacts, now: u64) -> Evaluation {
    if !is_evaluation(registry) {
        return Evaluation::No;
    }
    let said = report.application_log.as_ref().and_then(|log| log.last("WLMS", 100));
    if let Some(event) = said {
        return Evaluation::Expired {
            why: format!("event 100 of WLMS in the Application log, {}", event.time),
        };
    }
    let days = registry.installed_at.map_or(0, |at| now.saturating_sub(u64::from(at)) / DAY);
    match days {
        ..=PERIOD_DAYS => Evaluation::Running { days },
        days if days <= LONGEST_DAYS => Evaluation::PerhapsExpired { days },
        days => Evaluation::Expired { why: format!("it was installed {days} days ago") },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::disk::event_log::{EventLogReport, LoggedEvent};

    fn facts(edition: &str) -> RegistryFacts {
        RegistryFacts {
            edition: Some(edition.into()),
            installed_at: Some(1_700_000_000),
            ..RegistryFacts::default()
        }
    }

    #[rstest]
    #[case::bought("ServerStandard", 2000, "No")]
    #[case::fresh("ServerStandardEval", 179, "Running")]
    #[case::old("EnterpriseEval", 200, "PerhapsExpired")]
    #[case::older_than_any("ServerDatacenterEval", 1300, "Expired")]
    fn age_is_a_sign(#[case] edition: &str, #[case] days: u64, #[case] expected: &str) {
        let found = evaluation(&DiskReport::default(), &facts(edition), 1_700_000_000 + days * DAY);
        assert!(format!("{found:?}").starts_with(expected), "{found:?}");
    }

    #[test]
    fn its_own_word_is_proof() {
        let event = LoggedEvent {
            record: 1,
            time: "2026-01-01T00:00:00Z".into(),
            provider: "WLMS".into(),
            id: 100,
            data: vec![],
        };
        let log = EventLogReport { events: vec![event], ..EventLogReport::default() };
        let report = DiskReport { application_log: Some(log), ..DiskReport::default() };
        let found = evaluation(&report, &facts("ServerStandardEval"), 1_700_000_000);
        assert!(matches!(found, Evaluation::Expired { .. }), "{found:?}");
    }
}
