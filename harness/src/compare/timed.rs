//! Which times may be held against each other. A guest from a saved state goes down slower than one that booted (QEMU
//! translates its code anew), and on a busy host the times are the host's: such differences are no regression.

use crate::outcome::OutcomeKind;
use crate::record::schema::{ScenarioRecord, StartMode};

type Side<'a> = Vec<&'a ScenarioRecord>;

/// The results of both runs whose times are alike in how the machine started, and undisturbed; of the start that more of
/// them have. Both sides are empty where there is no time to compare. The error says why times that are there are not
/// compared.
pub(super) fn alike<'a>(
    base: &[&'a ScenarioRecord],
    head: &[&'a ScenarioRecord],
) -> Result<(Side<'a>, Side<'a>), String> {
    let of = |side: &[&'a ScenarioRecord], mode: StartMode, quiet: bool| -> Side<'a> {
        let wanted = |r: &&&ScenarioRecord| r.start_mode() == mode && !(quiet && r.is_disturbed());
        side.iter().filter(wanted).copied().collect()
    };
    let pair = |mode: StartMode, quiet: bool| (of(base, mode, quiet), of(head, mode, quiet));
    let shared = |(b, h): &(Side, Side)| b.len().min(h.len());
    // The cold one first: of two with as many the last is taken, and warm starts are shorter to repeat.
    let modes = [StartMode::Cold, StartMode::Warm];
    let best = |quiet: bool| modes.map(|mode| pair(mode, quiet)).into_iter().max_by_key(shared);
    let found = best(true).unwrap_or_default();
    let off = |side: &[&ScenarioRecord]| side.iter().any(|r| r.outcome.kind() == OutcomeKind::PoweredOff);
    if shared(&found) > 0 || !(off(base) && off(head)) {
        return Ok(found);
    }
    Err(if best(false).is_some_and(|any| shared(&any) > 0) {
        "the host was busy in all of one run's results, so their times are not compared; next: repeat with --jobs 1"
            .into()
    } else {
        "one run's machines started cold, the other's warm, so their times are not compared; next: repeat with \
         --start cold"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::{Change, Terms, compare};
    use super::*;
    use crate::pressure::HostPressure;
    use crate::record::RunRecord;
    use crate::record::schema::StartRecord;
    use crate::report::testing::{result, run};

    fn side(mode: StartMode, slower: u64, disturbed: bool) -> RunRecord {
        run((1..=8).map(|n| {
            let mut one = result("control", n);
            one.start = Some(StartRecord { mode, ready_ms: None, state: None });
            one.host_pressure = Some(HostPressure { disturbed, ..HostPressure::default() });
            one.phases.powered_off_ms = one.phases.powered_off_ms.map(|ms| ms + slower + u64::from(n));
            one
        }))
    }

    #[rstest]
    // What a warm start costs here, and a busy host: no regression, and no proof that there is none.
    #[case::warm(StartMode::Warm, 3000, false, Change::Undecided, "--start cold")]
    #[case::busy(StartMode::Cold, 3000, true, Change::Undecided, "--jobs 1")]
    #[case::slower(StartMode::Cold, 3000, false, Change::New, "")]
    #[case::as_before(StartMode::Cold, 0, false, Change::Same, "")]
    fn only_like_times_are_compared(
        #[case] mode: StartMode,
        #[case] slower: u64,
        #[case] disturbed: bool,
        #[case] change: Change,
        #[case] next: &str,
    ) {
        let found =
            compare(&side(StartMode::Cold, 0, false), &side(mode, slower, disturbed), &Terms::default());
        let group = &found.groups[0];
        assert_eq!(group.change, change, "{group:?}");
        assert!(group.why.as_deref().unwrap_or_default().contains(next), "{group:?}");
        assert_eq!(group.why.is_some(), change == Change::Undecided);
    }

    #[test]
    fn the_start_that_both_have_is_compared() {
        let mut head = side(StartMode::Warm, 3000, false);
        head.results.extend(side(StartMode::Cold, 0, false).results);
        let found = compare(&side(StartMode::Cold, 0, false), &head, &Terms::default());
        assert_eq!(found.groups[0].change, Change::Same, "{:?}", found.groups);
    }
}
