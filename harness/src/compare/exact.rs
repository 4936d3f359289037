//! Tests that need no assumption about a distribution: the exact test of a table, and the permutation test of times
//! that may be cut off by a deadline.

use fastrand::Rng;

/// Splits that are all tried; with more, a sample of them is drawn.
const ALL_SPLITS: f64 = 20_000.0;
/// Tables that are all tried; with more, permutations are drawn.
const ALL_TABLES: usize = 100_000;
/// Permutations drawn at most.
const MOST_DRAWS: u64 = 400_000;
/// Seed of every draw: two looks at the same records say the same.
const SEED: u64 = 0x050F_70FF;

/// What a test found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    /// Probability of a difference at least as great, if there were none.
    pub(super) p: f64,
    /// Whether every case was counted; otherwise `p` is estimated from draws, and not below the truth.
    pub(super) exact: bool,
}

/// Two rows of counts, one column for each category: the exact test of Fisher, Freeman and Halton. `p` is the
/// probability of all tables with these margins that are no likelier than this one.
#[derive(Debug, Clone)]
pub(super) struct Table {
    columns: Vec<(u32, u32)>,
}

impl Table {
    /// From the counts of each category in both samples.
    pub(super) fn new(columns: impl IntoIterator<Item = (u32, u32)>) -> Table {
        Table { columns: columns.into_iter().filter(|(a, b)| a + b > 0).collect() }
    }

    /// The smallest `p` that a table with these margins can give; 1 where there is but one category.
    pub(super) fn least_p(&self) -> f64 {
        match self.logs() {
            Some(logs) => {
                let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
                total(&logs, least)
            }
            // Too many to count: their least is below any level that is asked for.
            None => 0.0,
        }
    }

    /// The test. `level` tells how small a `p` matters.
    pub(super) fn test(&self, level: f64) -> Found {
        let log = self.columns.iter().map(|(a, b)| ln_choose(a + b, *a)).sum::<f64>();
        if let Some(logs) = self.logs() {
            return Found { p: total(&logs, log), exact: true };
        }
        // By permutations of the labels, with the table's probability as the statistic.
        let labels: Vec<usize> =
            self.columns.iter().enumerate().flat_map(|(n, (a, b))| vec![n; (a + b) as usize]).collect();
        let first = self.columns.iter().map(|(a, _)| *a as usize).sum();
        let sums: Vec<u32> = self.columns.iter().map(|(a, b)| a + b).collect();
        draw(labels, first, level, |chosen| {
            let mut counts = vec![0u32; sums.len()];
            for label in chosen {
                if let Some(count) = counts.get_mut(*label) {
                    *count += 1;
                }
            }
            let drawn: f64 = counts.iter().zip(&sums).map(|(a, sum)| ln_choose(*sum, *a)).sum();
            drawn <= log + 1e-9
        })
    }

    /// The logarithm of each possible table's weight; `None` when there are too many.
    fn logs(&self) -> Option<Vec<f64>> {
        let first: u32 = self.columns.iter().map(|(a, _)| a).sum();
        let mut partial = vec![(first, 0.0)];
        let mut rest: u32 = self.columns.iter().map(|(a, b)| a + b).sum();
        for (a, b) in &self.columns {
            let sum = a + b;
            rest -= sum;
            let mut next = Vec::new();
            for (left, log) in &partial {
                // What is left must fit into the columns that follow.
                for here in left.saturating_sub(rest)..=(*left).min(sum) {
                    next.push((left - here, log + ln_choose(sum, here)));
                    if next.len() > ALL_TABLES {
                        return None;
                    }
                }
            }
            partial = next;
        }
        Some(partial.into_iter().map(|(_, log)| log).collect())
    }
}

/// The share of all weights that are at most `limit`, given as logarithms.
fn total(logs: &[f64], limit: f64) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = |limit: f64| logs.iter().filter(|l| **l <= limit).map(|l| (l - most).exp()).sum::<f64>();
    (sum(limit + 1e-9) / sum(f64::INFINITY)).min(1.0)
}

fn ln_choose(n: u32, k: u32) -> f64 {
    let k = k.min(n - k.min(n));
    (0..k).map(|i| f64::from(n - i).ln() - f64::from(k - i).ln()).sum()
}

/// A time, or a wait that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// It happened after so many milliseconds.
    After(u64),
    /// It had not happened by then: right-censored.
    NotBy(u64),
}

impl Time {
    /// The milliseconds, of either kind.
    pub(super) fn ms(self) -> u64 {
        match self {
            Time::After(ms) | Time::NotBy(ms) => ms,
        }
    }

    /// 1 when this is surely longer than `other`, -1 when surely shorter, else 0.
    fn against(self, other: Time) -> i64 {
        match (self, other) {
            (Time::After(a), Time::After(b)) => i64::from(a > b) - i64::from(a < b),
            (Time::NotBy(a), Time::After(b)) => i64::from(a >= b),
            (Time::After(a), Time::NotBy(b)) => -i64::from(b >= a),
            (Time::NotBy(_), Time::NotBy(_)) => 0,
        }
    }
}

/// Two samples of times: a permutation test of Gehan's rank sums, which without censoring are Wilcoxon's.
#[derive(Debug, Clone)]
pub(super) struct Times {
    scores: Vec<i64>,
    first: usize,
}

impl Times {
    /// From both samples.
    pub(super) fn new(base: &[Time], head: &[Time]) -> Times {
        let all: Vec<Time> = base.iter().chain(head).copied().collect();
        let score = |t: &Time| all.iter().map(|other| t.against(*other)).sum();
        Times { scores: all.iter().map(score).collect(), first: base.len() }
    }

    /// A bound below the smallest `p` that samples of these sizes can give; 1 where nothing can be told.
    pub(super) fn least_p(&self) -> f64 {
        if self.scores.iter().all(|s| *s == 0) { 1.0 } else { 1.0 / self.splits() }
    }

    fn splits(&self) -> f64 {
        let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        ln_choose(size(self.scores.len()), size(self.first)).exp()
    }

    /// The two-sided test. `level` tells how small a `p` matters: draws end once `p` is surely above it.
    pub(super) fn test(&self, level: f64) -> Found {
        let sum: i64 = self.scores.iter().take(self.first).sum();
        let wanted = sum.abs();
        if self.splits() <= ALL_SPLITS {
            let (mut extreme, mut all) = (0u64, 0u64);
            let mut count = |sum: i64| {
                all += 1;
                extreme += u64::from(sum.abs() >= wanted);
            };
            each_split(&self.scores, self.first, 0, &mut count);
            return Found { p: extreme as f64 / all.max(1) as f64, exact: true };
        }
        draw(self.scores.clone(), self.first, level, |chosen| chosen.iter().sum::<i64>().abs() >= wanted)
    }
}

/// Calls `found` with the sum of each choice of `left` scores.
fn each_split(scores: &[i64], left: usize, sum: i64, found: &mut impl FnMut(i64)) {
    match scores.split_first() {
        _ if left == 0 => found(sum),
        Some((first, rest)) if scores.len() >= left => {
            each_split(rest, left - 1, sum + first, found);
            each_split(rest, left, sum, found);
        }
        _ => {}
    }
}

/// Draws permutations and counts how often the first `first` are as extreme. The observed order counts as one, so
/// that `p` is never 0.
fn draw<T>(mut all: Vec<T>, first: usize, level: f64, extreme: impl Fn(&[T]) -> bool) -> Found {
    let wanted = (8.0 / level.max(1e-9)).ceil();
    let draws = if wanted < MOST_DRAWS as f64 { (wanted as u64).max(9_999) } else { MOST_DRAWS };
    let enough = level * (draws as f64 + 1.0);
    let mut rng = Rng::with_seed(SEED);
    let (mut seen, mut done) = (1u64, 1u64);
    for _ in 0..draws {
        // Only the first places matter: a partial shuffle of Fisher and Yates.
        for place in 0..first.min(all.len()) {
            let other = rng.usize(place..all.len());
            all.swap(place, other);
        }
        done += 1;
        seen += u64::from(extreme(all.get(..first).unwrap_or_default()));
        if seen as f64 > enough {
            break;
        }
    }
    Found { p: seen as f64 / done as f64, exact: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    // Worked by hand: binomial coefficients over C(n+m, n).
    #[rstest]
    #[case::flip_at_three(&[(3, 0), (0, 3)], 2.0 / 20.0)]
    #[case::flip_at_five(&[(5, 0), (0, 5)], 2.0 / 252.0)]
    #[case::lady_tasting_tea(&[(3, 1), (1, 3)], 34.0 / 70.0)]
    #[case::same(&[(3, 3)], 1.0)]
    #[case::three_categories(&[(2, 0), (0, 2), (1, 1)], 12.0 / 20.0)]
    fn tables(#[case] columns: &[(u32, u32)], #[case] p: f64) {
        let found = Table::new(columns.iter().copied()).test(0.01);
        assert!(found.exact && (found.p - p).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn the_least_p_is_what_separation_gives() {
        assert!((Table::new([(3, 0), (0, 3)]).least_p() - 0.1).abs() < 1e-9);
        assert_eq!(Table::new([(20, 20)]).least_p(), 1.0);
        let same = [Time::NotBy(5); 4];
        assert_eq!(Times::new(&same, &same).least_p(), 1.0);
    }

    #[test]
    fn a_great_table_is_drawn_and_agrees_in_kind() {
        let columns: Vec<(u32, u32)> = (0..8).map(|n| if n < 4 { (60, 5) } else { (5, 60) }).collect();
        let found = Table::new(columns.clone()).test(0.001);
        assert!(!found.exact && found.p < 0.001, "{found:?}");
        let same = Table::new((0..8).map(|_| (30, 31))).test(0.001);
        assert!(!same.exact && same.p > 0.2, "{same:?}");
    }

    fn after(times: &[u64]) -> Vec<Time> {
        times.iter().map(|t| Time::After(*t)).collect()
    }

    #[test]
    fn without_censoring_it_is_wilcoxons_test() {
        // All of one sample below all of the other: 2 of C(6, 3) splits.
        let found = Times::new(&after(&[1, 2, 3]), &after(&[4, 5, 6])).test(0.01);
        assert_eq!(found, Found { p: 0.1, exact: true });
        // Rank sum 7 of ranks 1..6; sums as far from 10.5 or farther: 6, 7, 14, 15.
        let found = Times::new(&after(&[1, 2, 4]), &after(&[3, 5, 6])).test(0.01);
        assert_eq!(found, Found { p: 0.2, exact: true });
        let same = Times::new(&after(&[5, 5]), &after(&[5, 5])).test(0.01);
        assert_eq!(same.p, 1.0);
    }

    #[test]
    fn a_wait_that_was_given_up_is_no_number() {
        // Given up at 1 s: says nothing against 5 s; given up at 30 s: surely longer.
        let base = after(&[5000; 6]);
        assert_eq!(Times::new(&base, &[Time::NotBy(1000); 6]).test(0.01).p, 1.0);
        let late = Times::new(&base, &[Time::NotBy(30_000); 6]).test(0.01);
        assert!((late.p - 2.0 / 924.0).abs() < 1e-9, "{late:?}");
    }

    #[test]
    fn many_times_are_drawn() {
        let base: Vec<u64> = (0..30).map(|n| 1000 + n).collect();
        let slow: Vec<u64> = (0..30).map(|n| 1200 + n).collect();
        let found = Times::new(&after(&base), &after(&slow)).test(0.0001);
        assert!(!found.exact && found.p < 0.0001, "{found:?}");
        let same = Times::new(&after(&base), &after(&base)).test(0.0001);
        assert!(same.p > 0.5, "{same:?}");
    }
}
