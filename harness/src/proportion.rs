//! How sure a share is: so many of so many.

/// The exact interval of Clopper and Pearson for a share of `hits` in `of`, at this confidence (0.95, say): no true share
/// outside it would give so many, or so few, more often than `(1 - confidence) / 2`. `(0, 1)` of nothing.
pub fn clopper_pearson(hits: u64, of: u64, confidence: f64) -> (f64, f64) {
    let hits = hits.min(of);
    let tail = (1.0 - confidence) / 2.0;
    // At least `hits` at the lower end, at most `hits` at the upper one.
    let lower = if hits == 0 { 0.0 } else { solve(|p| 1.0 - at_most(hits - 1, of, p) > tail) };
    let upper = if hits == of { 1.0 } else { solve(|p| at_most(hits, of, p) < tail) };
    (lower, upper)
}

/// The share from which on `holds` is true; it is false below.
fn solve(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    // As many halvings as a double has bits.
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if holds(middle) { high = middle } else { low = middle }
    }
    (low + high) / 2.0
}

/// Probability of at most `hits` in `of` independent tries of probability `p`, strictly between 0 and 1.
fn at_most(hits: u64, of: u64, p: f64) -> f64 {
    let (log_p, log_q) = (p.ln(), (-p).ln_1p());
    let mut log_choose = 0.0;
    let mut sum = 0.0;
    for k in 0..=hits {
        sum += (log_choose + k as f64 * log_p + (of - k) as f64 * log_q).exp();
        log_choose += ((of - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Against published tables (the rule of three among them) and the closed forms at the ends.
    #[rstest]
    #[case(0, 500, 0.0, 0.007_351)]
    #[case(500, 500, 0.992_649, 1.0)]
    #[case(5, 10, 0.187_086, 0.812_914)]
    #[case(1, 10, 0.002_529, 0.445_016)]
    #[case(0, 0, 0.0, 1.0)]
    fn intervals(#[case] hits: u64, #[case] of: u64, #[case] lower: f64, #[case] upper: f64) {
        let found = clopper_pearson(hits, of, 0.95);
        assert!((found.0 - lower).abs() < 1e-5 && (found.1 - upper).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn more_tries_make_it_surer() {
        let width = |of| {
            let (low, high) = clopper_pearson(of / 10, of, 0.95);
            high - low
        };
        assert!(width(1000) < width(100) && width(100) < width(20));
    }
}
