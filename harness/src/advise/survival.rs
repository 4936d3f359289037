//! Survival curves: what share of shutdowns is not over after a time. A run that was given up at its deadline counts
//! as not over until then, and as unknown afterwards; it is never taken for a shutdown that takes as long.

use serde::Serialize;

/// Confidence of all bounds.
const CONFIDENCE: f64 = 0.95;

/// How one shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// Off after so many milliseconds.
    Off(u64),
    /// Not off by then, when it was given up.
    NotBy(u64),
    /// The evidence showed that it would not go off by itself: at no time.
    Never,
}

/// What share a platform that waits so long would kill.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Killed {
    /// The estimate of Kaplan and Meier; absent beyond what was observed.
    pub estimate: Option<f64>,
    /// What is certain of these runs: not off by then.
    pub least: f64,
    /// The same, if all that were given up earlier would not have gone off either.
    pub most: f64,
    /// 95 % confidence bounds on the share in general, from `least` and `most`.
    pub between: (f64, f64),
}

/// The wait that lets a share of shutdowns end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentile {
    /// The estimate, milliseconds.
    pub ms: u64,
    /// With 95 % confidence it is no longer than this; absent when there are too few runs to say so.
    pub at_most_ms: Option<u64>,
    /// Runs that are needed for such a bound.
    pub needs_runs: usize,
}

/// The curve of some shutdowns.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    waits: Vec<Wait>,
    /// After so many milliseconds, this share is not over.
    steps: Vec<(u64, f64)>,
}

impl Curve {
    /// From at least one shutdown; `None` of none.
    pub fn new(waits: impl IntoIterator<Item = Wait>) -> Option<Curve> {
        let mut waits: Vec<Wait> = waits.into_iter().collect();
        waits.sort_unstable_by_key(|w| match w {
            Wait::Off(ms) => (0, *ms),
            Wait::NotBy(ms) => (1, *ms),
            Wait::Never => (2, 0),
        });
        if waits.is_empty() {
            return None;
        }
        let mut steps: Vec<(u64, f64)> = Vec::new();
        let mut survival = 1.0;
        let mut times: Vec<u64> = waits.iter().filter_map(off).collect();
        times.dedup();
        for time in times {
            // Whoever was given up earlier is no longer watched; whoever never ends is watched for ever.
            let watched = waits.iter().filter(|w| match w {
                Wait::Off(ms) | Wait::NotBy(ms) => *ms >= time,
                Wait::Never => true,
            });
            let watched = watched.count() as f64;
            let ended = waits.iter().filter(|w| **w == Wait::Off(time)).count() as f64;
            survival *= 1.0 - ended / watched;
            steps.push((time, survival));
        }
        Some(Curve { waits, steps })
    }

    /// How many shutdowns.
    pub fn count(&self) -> usize {
        self.waits.len()
    }

    /// Those that were not over when they were given up, and those that would never have been.
    pub fn unfinished(&self) -> (usize, usize) {
        let given_up = self.waits.iter().filter(|w| matches!(w, Wait::NotBy(_))).count();
        (given_up, self.waits.iter().filter(|w| **w == Wait::Never).count())
    }

    /// The steps of the curve: milliseconds, share that is not over.
    pub fn steps(&self) -> &[(u64, f64)] {
        &self.steps
    }

    /// What share a platform kills that waits so long.
    pub fn killed(&self, wait_ms: u64) -> Killed {
        let count = self.waits.len();
        let surely = |w: &&Wait| match w {
            Wait::Off(ms) => *ms > wait_ms,
            Wait::NotBy(ms) => *ms >= wait_ms,
            Wait::Never => true,
        };
        let least = self.waits.iter().filter(surely).count();
        let most =
            least + self.waits.iter().filter(|w| matches!(w, Wait::NotBy(ms) if *ms < wait_ms)).count();
        let share = |n: usize| n as f64 / count as f64;
        // Beyond the last wait that was watched nothing is known, unless none was given up.
        let estimate = (least == most || self.watched_to() >= wait_ms).then(|| self.survival(wait_ms));
        let between = (lower(least, count), 1.0 - lower(count - most, count));
        Killed { estimate, least: share(least), most: share(most), between }
    }

    fn watched_to(&self) -> u64 {
        let ms = |w: &Wait| match w {
            Wait::Off(ms) | Wait::NotBy(ms) => *ms,
            Wait::Never => 0,
        };
        self.waits.iter().map(ms).max().unwrap_or(0)
    }

    fn survival(&self, at: u64) -> f64 {
        self.steps.iter().take_while(|(ms, _)| *ms <= at).last().map_or(1.0, |(_, s)| *s)
    }

    /// The wait that lets this share of shutdowns end; `None` when so many never did.
    pub fn percentile(&self, share: f64) -> Option<Percentile> {
        let (ms, _) = self.steps.iter().find(|(_, survival)| 1.0 - survival >= share - 1e-12)?;
        let count = self.waits.len();
        // The r-th shortest is above the percentile with this confidence when fewer than r are expected below it.
        let rank = (1..=count).find(|r| below(*r, count, share) >= CONFIDENCE);
        let at_most_ms = rank.and_then(|r| self.waits.get(r - 1)).and_then(|w| match w {
            // Sorted by kind: the r-th shortest of all is known only if no wait was given up before it.
            Wait::Off(ms) if self.given_up_before(*ms) => None,
            Wait::Off(ms) => Some(*ms),
            _ => None,
        });
        let needs = ((1.0 - CONFIDENCE).ln() / share.ln()).ceil();
        let needs_runs = if needs.is_finite() && needs >= 0.0 { needs as usize } else { usize::MAX };
        Some(Percentile { ms: *ms, at_most_ms, needs_runs })
    }

    fn given_up_before(&self, ms: u64) -> bool {
        self.waits.iter().any(|w| matches!(w, Wait::NotBy(at) if *at < ms))
    }
}

fn off(wait: &Wait) -> Option<u64> {
    match wait {
        Wait::Off(ms) => Some(*ms),
        _ => None,
    }
}

/// Probability that fewer than `r` of `n` fall below a percentile.
fn below(r: usize, n: usize, share: f64) -> f64 {
    (0..r).map(|k| binomial(k, n, share)).sum()
}

fn binomial(k: usize, n: usize, p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return f64::from(u8::from((p <= 0.0 && k == 0) || (p >= 1.0 && k == n)));
    }
    let choose: f64 = (0..k).map(|i| ((n - i) as f64).ln() - ((k - i) as f64).ln()).sum();
    (choose + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp()
}

/// The lower bound of Clopper and Pearson: the share below which `k` or more of `n` would come up too rarely.
fn lower(k: usize, n: usize) -> f64 {
    let too_rare = (1.0 - CONFIDENCE) / 2.0;
    let (mut low, mut high) = (0.0, k as f64 / n.max(1) as f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        let chance = 1.0 - below(k, n, middle);
        if chance < too_rare { low = middle } else { high = middle }
    }
    if k == 0 { 0.0 } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn curve(waits: &[Wait]) -> Curve {
        Curve::new(waits.iter().copied()).unwrap()
    }

    #[test]
    fn the_curve_of_a_textbook() {
        // 6, 7, 10 ended, 9 given up: 1 - 1/4, then 1 - 1/3, then 1 - 1/1.
        use Wait::{NotBy, Off};
        let curve = curve(&[Off(6), Off(7), NotBy(9), Off(10)]);
        let steps: Vec<(u64, f64)> =
            curve.steps().iter().map(|(ms, s)| (*ms, (s * 1000.0).round() / 1000.0)).collect();
        assert_eq!(steps, [(6, 0.75), (7, 0.5), (10, 0.0)]);
    }

    #[test]
    fn what_was_given_up_is_not_known_beyond() {
        let curve = curve(&[Wait::Off(1000), Wait::Off(2000), Wait::NotBy(30_000), Wait::NotBy(30_000)]);
        let early = curve.killed(10_000);
        assert_eq!((early.estimate, early.least, early.most), (Some(0.5), 0.5, 0.5));
        let late = curve.killed(60_000);
        assert_eq!((late.estimate, late.least, late.most), (None, 0.0, 0.5));
        assert_eq!(curve.percentile(0.9), None);
        assert_eq!(curve.percentile(0.5).unwrap().ms, 2000);
    }

    #[test]
    fn what_never_ends_is_killed_by_everybody() {
        let curve = curve(&[Wait::Off(1000), Wait::Never]);
        let killed = curve.killed(3_600_000);
        assert_eq!((killed.estimate, killed.least, killed.most), (Some(0.5), 0.5, 0.5));
    }

    #[rstest]
    // Clopper and Pearson's bounds as tables of the binomial distribution give them.
    #[case(0, 10, 0.0, 0.3085)]
    #[case(5, 10, 0.1871, 0.8129)]
    #[case(10, 10, 0.6915, 1.0)]
    fn bounds_are_exact(#[case] killed: usize, #[case] of: usize, #[case] low: f64, #[case] high: f64) {
        let waits = (0..of).map(|n| Wait::Off(if n < killed { 2000 } else { 500 }));
        let found = Curve::new(waits).unwrap().killed(1000);
        assert!((found.between.0 - low).abs() < 1e-3 && (found.between.1 - high).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn a_bound_on_a_percentile_needs_enough_runs() {
        let of = |n: u64| Curve::new((1..=n).map(Wait::Off)).unwrap().percentile(0.95).unwrap();
        assert_eq!((of(58).at_most_ms, of(58).needs_runs), (None, 59));
        assert_eq!((of(59).ms, of(59).at_most_ms), (57, Some(59)));
    }

    proptest! {
        #[test]
        fn bounds_hold_each_other(
            waits in proptest::collection::vec((0u8..3, 0u64..100), 1..40), at in 0u64..120
        ) {
            let waits: Vec<Wait> = waits.into_iter().map(|(kind, ms)| match kind {
                0 => Wait::Off(ms),
                1 => Wait::NotBy(ms),
                _ => Wait::Never,
            }).collect();
            let killed = curve(&waits).killed(at);
            prop_assert!(killed.between.0 <= killed.least && killed.least <= killed.most);
            prop_assert!(killed.most <= killed.between.1 + 1e-9);
            if let Some(estimate) = killed.estimate {
                prop_assert!(estimate >= killed.least - 1e-9 && estimate <= killed.most + 1e-9, "{killed:?} {estimate}");
            }
        }
    }
}
