//! Correction for many comparisons. One comparison of two runs makes hundreds of tests; at 1 % each, some would
//! always cry. The level of each is lowered so that all together cry falsely in at most 1 % of comparisons.

/// The level of each test, for a family of tests with these least possible `p`, by Tarone's rule: a test that cannot
/// reach a level, because all its results are the same or too few, costs the others nothing. (R. E. Tarone,
/// "A modified Bonferroni method for discrete data", Biometrics 46, 1990.)
pub(super) fn level(family: f64, least: impl IntoIterator<Item = f64>) -> f64 {
    let least: Vec<f64> = least.into_iter().collect();
    let able = |k: usize| least.iter().filter(|p| **p <= family / k as f64).count();
    let k = (1..=least.len()).find(|k| able(*k) <= *k).unwrap_or(1);
    family / k as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing(&[], 0.01)]
    #[case::one(&[0.0], 0.01)]
    #[case::all_able(&[0.0, 0.0, 0.0, 0.0], 0.0025)]
    #[case::unable_ones_are_free(&[1.0, 1.0, 1.0, 0.001], 0.01)]
    // At 0.01 both could cry, at 0.005 only one could: 2 is enough for both.
    #[case::few_repeats(&[0.008, 0.001], 0.005)]
    fn levels(#[case] least: &[f64], #[case] expected: f64) {
        assert!((level(0.01, least.iter().copied()) - expected).abs() < 1e-12);
    }
}
