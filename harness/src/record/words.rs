//! Words and numbers as every report shows them.

/// Milliseconds as seconds, in as many digits as say something: `0.84 s`, `12.3 s`.
pub fn seconds(ms: u64) -> String {
    let value = ms as f64 / 1000.0;
    if ms < 10_000 { format!("{value:.2} s") } else { format!("{value:.1} s") }
}

/// The middle of some numbers: of an even count the mean of the two in the middle; `None` of none.
pub fn median(numbers: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut all: Vec<u64> = numbers.into_iter().collect();
    all.sort_unstable();
    let upper = *all.get(all.len() / 2)?;
    let lower = *all.get(all.len().checked_sub(1)? / 2)?;
    Some(lower.midpoint(upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[], None)]
    #[case(&[7], Some(7))]
    #[case(&[9, 1, 4], Some(4))]
    #[case(&[9, 1, 4, 6], Some(5))]
    #[case(&[u64::MAX, u64::MAX], Some(u64::MAX))]
    fn the_middle(#[case] numbers: &[u64], #[case] middle: Option<u64>) {
        assert_eq!(median(numbers.iter().copied()), middle);
    }
}
