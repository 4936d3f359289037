//! What is run after the first round: retries of what failed, and more repeats of what a comparison left undecided.
//! Both are off unless asked for, and bounded.

use std::collections::BTreeMap;

use softoff_harness::compare::{Change, Comparison};
use softoff_harness::outcome::{BackendKind, Verdict};
use softoff_harness::record::ScenarioRecord;
use softoff_harness::run::Job;

/// A scenario on an image, and who ran it.
type Name = (String, String, BackendKind);

fn name(result: &ScenarioRecord) -> Name {
    (result.scenario.0.clone(), result.image.name.clone(), result.backend)
}

fn job_name(job: &Job) -> Name {
    (job.scenario.name.0.clone(), job.image.manifest.name.clone(), job.backend.kind())
}

/// Whether a result is of a scenario and image that these jobs run.
pub(crate) fn is_of(jobs: &[Job], result: &ScenarioRecord) -> bool {
    let name = name(result);
    jobs.iter().any(|j| job_name(j) == name)
}

/// Numbers for new repeats: each scenario and image goes on where its results end.
fn next_number(results: &[ScenarioRecord], of: &Name, taken: &mut BTreeMap<Name, u32>) -> u32 {
    let last = results.iter().filter(|r| name(r) == *of).map(|r| r.repeat).max().unwrap_or(0);
    let number = taken.get(of).copied().unwrap_or(last) + 1;
    taken.insert(of.clone(), number);
    number
}

/// One retry for each result that failed and has not passed since.
pub(crate) fn retries(jobs: &[Job], results: &[ScenarioRecord]) -> Vec<Job> {
    let mut taken = BTreeMap::new();
    let failed = results.iter().filter(|r| r.verdict == Verdict::Fail && r.retry_of.is_none());
    let retry = |result: &ScenarioRecord| {
        let name = name(result);
        let job = jobs.iter().find(|j| job_name(j) == name)?;
        let repeat = next_number(results, &name, &mut taken);
        Some(Job { repeat, retry_of: Some(result.repeat), ..job.clone() })
    };
    failed.filter_map(retry).collect()
}

/// A result whose retry passed becomes `flaky`; the retry stays on record beside it.
pub(crate) fn mark_flaky(results: &mut [ScenarioRecord]) {
    let passed: Vec<(Name, u32, u32)> = results
        .iter()
        .filter(|r| r.verdict == Verdict::Pass)
        .filter_map(|r| Some((name(r), r.retry_of?, r.repeat)))
        .collect();
    for result in results.iter_mut().filter(|r| r.verdict == Verdict::Fail && r.retry_of.is_none()) {
        let of = name(result);
        if let Some((_, _, number)) = passed.iter().find(|(n, first, _)| *n == of && *first == result.repeat)
        {
            result.verdict = Verdict::Flaky;
            result.reasons.push(format!("failed, then passed as #{number}"));
        }
    }
}

/// As many repeats again of what is undecided, up to `most` of each.
pub(crate) fn more_repeats(
    jobs: &[Job],
    results: &[ScenarioRecord],
    comparison: &Comparison,
    most: u32,
) -> Vec<Job> {
    let mut taken = BTreeMap::new();
    let mut more = Vec::new();
    for group in comparison.groups.iter().filter(|g| g.change == Change::Undecided && !g.findings.is_empty())
    {
        let of = (group.scenario.clone(), group.image.clone(), group.backend);
        let Some(job) = jobs.iter().find(|j| job_name(j) == of) else { continue };
        let ran = results.iter().filter(|r| name(r) == of && r.retry_of.is_none()).count();
        let ran = u32::try_from(ran).unwrap_or(u32::MAX);
        for _ in 0..ran.min(most.saturating_sub(ran)) {
            let repeat = next_number(results, &of, &mut taken);
            more.push(Job { repeat, retry_of: None, ..job.clone() });
        }
    }
    more
}

/// How often one looks when the repeats double from `first` to `most`.
pub(crate) fn looks(first: u32, most: u32) -> u32 {
    let mut looks = 1;
    let mut repeats = first.max(1);
    while repeats < most {
        repeats = repeats.saturating_mul(2);
        looks += 1;
    }
    looks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::testing::{result, run};
    use rstest::rstest;
    use softoff_harness::compare::{Terms, compare};
    use softoff_harness::image::{Boot, GuestFamily, Image, MachineFacts, Manifest, Sha256Hex};
    use softoff_harness::machine::accel::Accelerator;
    use softoff_harness::outcome::{Cause, Outcome};
    use std::sync::Arc;

    fn job(scenario: &str) -> Job {
        let all = softoff_scenarios::load_all().unwrap();
        let machine = MachineFacts {
            machine: "pc".into(),
            tcg_cpu: "qemu64".into(),
            smp: 1,
            memory_mib: 64,
            vga: "std".into(),
            ..MachineFacts::default()
        };
        let manifest = Manifest {
            schema: 1,
            name: "reference".into(),
            family: GuestFamily::Reference,
            machine,
            boot: Boot::Bios,
            system_disk: "system.qcow2".into(),
            system_format: Default::default(),
            system_backing: None,
            files: BTreeMap::new(),
            recipe: Sha256Hex::default(),
            quirks: vec![],
            provenance: BTreeMap::new(),
        };
        let scenario = all.into_iter().find(|s| s.name.0 == scenario).unwrap();
        let image = Image { dir: "/nowhere".into(), id: manifest.id(), manifest, stamps: Default::default() };
        Job::new(Arc::new(scenario), Arc::new(image), Accelerator::Tcg)
    }

    fn numbers(jobs: &[Job]) -> Vec<(String, u32, Option<u32>)> {
        jobs.iter().map(|j| (j.scenario.name.0.clone(), j.repeat, j.retry_of)).collect()
    }

    #[test]
    fn only_what_failed_is_tried_again_and_what_passes_then_is_flaky() {
        let jobs = [job("control"), job("hard-power-off")];
        let named = |scenario: &str, n, cause| result(scenario, n, Cause::None, cause);
        let mut results = vec![
            named("control", 1, Cause::Unknown),
            named("control", 2, Cause::None),
            named("control", 3, Cause::Unknown),
            named("hard-power-off", 1, Cause::None),
        ];
        let again = retries(&jobs, &results);
        assert_eq!(numbers(&again), [("control".into(), 4, Some(1)), ("control".into(), 5, Some(3))]);
        let mut passed = named("control", 4, Cause::None);
        passed.retry_of = Some(1);
        let mut failed = named("control", 5, Cause::Unknown);
        failed.retry_of = Some(3);
        results.extend([passed, failed]);
        mark_flaky(&mut results);
        let verdicts: Vec<Verdict> = results.iter().map(|r| r.verdict).collect();
        use Verdict::{Fail, Flaky, Pass};
        assert_eq!(verdicts, [Flaky, Pass, Fail, Pass, Pass, Fail]);
        // A second round tries what still fails, under a new number.
        assert_eq!(numbers(&retries(&jobs, &results)), [("control".into(), 6, Some(3))]);
    }

    #[rstest]
    #[case::doubles(2, 20, 2)]
    #[case::bounded(2, 3, 1)]
    #[case::at_the_bound(2, 2, 0)]
    fn more_repeats_only_where_something_is_undecided(
        #[case] ran: u32,
        #[case] most: u32,
        #[case] more: usize,
    ) {
        let both = |outcome: Outcome| {
            run((1..=ran).flat_map(|n| {
                let mut flips = result("hard-power-off", n, Cause::None, Cause::None);
                flips.outcome = outcome.clone();
                [result("control", n, Cause::None, Cause::None), flips]
            }))
        };
        let (base, head) = (both(Outcome::PoweredOff), both(Outcome::StillRunning));
        let comparison = compare(&base, &head, &Terms::default());
        let jobs = [job("control"), job("hard-power-off")];
        assert!(is_of(&jobs, &head.results[0]) && !is_of(&jobs[1..], &head.results[0]));
        let added = more_repeats(&jobs, &head.results, &comparison, most);
        assert_eq!(added.len(), more);
        assert!(added.iter().all(|j| j.scenario.name.0 == "hard-power-off" && j.repeat > ran));
    }

    #[rstest]
    #[case(3, 3, 1)]
    #[case(3, 20, 4)]
    #[case(0, u32::MAX, 33)]
    fn looks_are_counted(#[case] first: u32, #[case] most: u32, #[case] count: u32) {
        assert_eq!(looks(first, most), count);
    }
}
