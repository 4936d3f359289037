//! The order in which services are told, and how far the work of an update is.

use std::time::Duration;

/// Who is told together: first the services that PreshutdownOrder names, each after the one before it has
/// stopped; then all others at once. Names are compared as Windows does, without regard to case.
pub(crate) fn rounds(services: Vec<String>, order: &[String]) -> Vec<Vec<String>> {
    let mut rest = services;
    let mut rounds = Vec::new();
    for name in order {
        if let Some(at) = rest.iter().position(|service| service.eq_ignore_ascii_case(name)) {
            rounds.push(vec![rest.remove(at)]);
        }
    }
    if !rest.is_empty() {
        rounds.push(rest);
    }
    rounds
}

/// How far one service is with its stop, from what it tells the service manager. Times count from the moment it
/// was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    checkpoint: u32,
    since: Duration,
    /// What it still needs, as of `since`.
    needs: Duration,
}

impl Work {
    /// A service that has told nothing yet, and may take as long as `limit`.
    pub(crate) fn new(limit: Duration) -> Work {
        Work { checkpoint: 0, since: Duration::ZERO, needs: limit }
    }

    /// Takes dwCheckPoint and dwWaitHint as seen at `now`.
    pub(crate) fn seen(&mut self, now: Duration, checkpoint: u32, hint: Duration) {
        if hint.is_zero() || (checkpoint == self.checkpoint && !self.since.is_zero()) {
            return;
        }
        *self = Work { checkpoint, since: now, needs: hint };
    }

    /// The share that is done at `now`: 0 to 99, for only the end is the end.
    pub(crate) fn percent(&self, now: Duration) -> u32 {
        let total = self.since + self.needs.max(Duration::from_millis(1));
        let share = now.as_millis().saturating_mul(100) / total.max(now).as_millis().max(1);
        u32::try_from(share).unwrap_or(99).min(99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[rstest]
    #[case("a b c", "", &["a b c"])]
    #[case("a b c", "C missing A", &["c", "a", "b"])]
    #[case("a", "a a", &["a"])]
    #[case("", "a", &[])]
    fn the_named_come_first_and_alone(#[case] services: &str, #[case] order: &str, #[case] want: &[&str]) {
        let want: Vec<Vec<String>> = want.iter().map(|round| names(round)).collect();
        assert_eq!(rounds(names(services), &names(order)), want);
    }

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_service_that_tells_nothing_is_measured_by_its_limit() {
        let work = Work::new(S(20));
        assert_eq!([0, 5, 19, 20, 30].map(|now| work.percent(S(now))), [0, 25, 95, 99, 99]);
        assert_eq!(Work::new(Duration::ZERO).percent(S(1)), 99);
    }

    #[test]
    fn checkpoints_correct_the_estimate() {
        let mut work = Work::new(S(1000));
        work.seen(Duration::from_millis(1), 1, S(10));
        assert_eq!(work.percent(S(5)), 49);
        // The same checkpoint again says nothing new; a new one does.
        work.seen(S(5), 1, S(10));
        assert_eq!(work.percent(S(5)), 49);
        work.seen(S(5), 2, S(15));
        assert_eq!((work.percent(S(5)), work.percent(S(10))), (25, 50));
        work.seen(S(10), 3, Duration::ZERO);
        assert_eq!(work.percent(S(10)), 50);
    }
}
