//! The verdict: outcome, phases and cause held against the scenario's expectation.

use std::time::Duration;

use crate::diagnose::Diagnosis;
use crate::image::GuestFamily;
use crate::outcome::{Outcome, OutcomeKind, Phase, Verdict};
use crate::scenario::Expectation;
use crate::settle::{Reached, Tie};

/// Everything a verdict is made from.
#[derive(Debug)]
pub struct Findings<'a> {
    /// Whose result it is.
    pub family: GuestFamily,
    /// Why there was no request at all, if so.
    pub not_asked: Option<&'a str>,
    /// What became of the machine.
    pub outcome: &'a Outcome,
    /// The phases reached.
    pub phases: &'a [Reached],
    /// Conditions that were not proven, each with what was found instead.
    pub unproven: &'a [String],
    /// What the guest's own programs reported as gone wrong.
    pub troubles: &'a [String],
    /// Whether the end can be tied to the request.
    pub tie: &'a Tie,
    /// The diagnosis.
    pub diagnosis: &'a Diagnosis,
    /// Whether the system volume is marked dirty, when it could be read.
    pub volume_dirty: Option<bool>,
    /// What is wrong with the overlay itself, below the guest's volume, or with the image below that.
    pub overlay_trouble: Option<&'a str>,
    /// Whether a press was made that no ACPI register shows as taken, of a guest that was not seen to be deaf to it.
    pub press_lost: bool,
    /// Lines on COM1 that were no probe lines, and gaps in their numbering.
    pub probe_lines_damaged: u32,
    /// Factor on every time budget, from `--deadline-scale`.
    pub scale: f64,
}

/// A verdict with its reasons; a pass has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is not a pass.
    pub reasons: Vec<String>,
}

/// Judges. The order matters: a failed host says nothing about the guest, an unproven condition nothing
/// about the cause, and only what is left can fail or pass.
///
/// Without an expectation nothing passes: what was observed stands in the record, and is held against nothing.
pub fn judge(expect: Option<&Expectation>, found: &Findings<'_>) -> Judgement {
    let one = |verdict, reason: String| Judgement { verdict, reasons: vec![reason] };
    if let Outcome::HostFailed { what } = found.outcome {
        return one(Verdict::Infra, what.clone());
    }
    if let Outcome::Crashed { evidence } = found.outcome
        && found.family == GuestFamily::Reference
        && expect.is_none_or(|expect| expect.outcome != OutcomeKind::Crashed)
    {
        return one(Verdict::Infra, format!("the reference guest's kernel died: {evidence}"));
    }
    if let Some(what) = found.overlay_trouble {
        return one(Verdict::Infra, format!("the disk is damaged below the guest's volume: {what}"));
    }
    if let Some(why) = found.not_asked {
        return one(Verdict::Inconclusive, why.to_owned());
    }
    if let Some(unproven) = found.unproven.first() {
        return one(Verdict::Inconclusive, format!("the condition was not proven: {unproven}"));
    }
    if let Some(trouble) = found.troubles.first() {
        return one(Verdict::Inconclusive, format!("a program of the guest itself failed: {trouble}"));
    }
    let ended_itself = matches!(
        found.outcome,
        Outcome::PoweredOff | Outcome::Hibernated | Outcome::Suspended | Outcome::Rebooted
    );
    let began_to_end = found.phases.last().is_some_and(|r| r.phase > Phase::Request);
    if (ended_itself || began_to_end)
        && let Tie::Loose(why) = found.tie
    {
        return one(Verdict::Inconclusive, format!("what the guest did is not tied to the request: {why}"));
    }
    let Some(expect) = expect else {
        return one(Verdict::Inconclusive, "nothing is on file that this could be held against".to_owned());
    };
    // A press that is lost on its way looks as one that the guest discards: the same silence.
    let silent = found.outcome == &Outcome::StillRunning && !began_to_end;
    if silent && found.press_lost {
        return one(Verdict::Inconclusive, "nothing shows that the guest took the press".to_owned());
    }
    let mut reasons = differences(expect, found);
    let unseen = unseen_phases(expect, found);
    let verdict = match (reasons.is_empty(), unseen.is_empty()) {
        (true, true) => Verdict::Pass,
        // Phases are known by the guest's lines: where lines were lost, a phase may have been lost with them.
        (true, false) if found.probe_lines_damaged > 0 => Verdict::Inconclusive,
        _ => Verdict::Fail,
    };
    reasons.extend(unseen);
    if verdict == Verdict::Inconclusive {
        reasons.push(format!("{} probe lines were damaged or lost", found.probe_lines_damaged));
    }
    Judgement { verdict, reasons }
}

/// Phases that should have been seen, or should not.
fn unseen_phases(expect: &Expectation, found: &Findings<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    let last = found.phases.last().map_or(Phase::Request, |r| r.phase);
    if last != expect.last_phase {
        reasons.push(format!("last phase is {last}, expected {}", expect.last_phase));
    }
    for phase in Phase::ALL.into_iter().filter(|phase| expect.within.of(*phase).is_some()) {
        if !found.phases.iter().any(|r| r.phase == phase) {
            reasons.push(format!("{phase} has a time budget and was not observed"));
        }
    }
    reasons
}

/// What else is not as expected.
fn differences(expect: &Expectation, found: &Findings<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    let outcome = found.outcome.kind();
    if outcome != expect.outcome {
        reasons.push(format!("outcome is {outcome}, expected {}", expect.outcome));
    }
    if found.diagnosis.cause != expect.cause {
        reasons.push(format!("cause is {}, expected {}", found.diagnosis.cause, expect.cause));
    }
    let mark = |dirty| if dirty { "dirty" } else { "clean" };
    match (expect.volume_dirty, found.volume_dirty) {
        (Some(wanted), Some(is)) if wanted != is => {
            reasons.push(format!("the system volume is marked {}, expected {}", mark(is), mark(wanted)));
        }
        (Some(_), None) => reasons.push("the system volume could not be read".into()),
        _ => {}
    }
    for phase in Phase::ALL {
        let Some(budget) = expect.within.of(phase).map(|b| b.mul_f64(found.scale)) else { continue };
        let Some(reached) = found.phases.iter().find(|r| r.phase == phase) else { continue };
        if reached.after > budget {
            let seconds = |d: Duration| d.as_secs_f64();
            let (after, budget) = (seconds(reached.after), seconds(budget));
            reasons.push(format!("{phase} came after {after:.1} s, its budget is {budget:.1} s"));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Cause;
    use crate::scenario::{PhaseBudget, Span};
    use crate::timeline::Source;
    use rstest::rstest;

    fn expectation() -> Expectation {
        Expectation {
            outcome: OutcomeKind::PoweredOff,
            last_phase: Phase::PoweredOff,
            cause: Cause::None,
            volume_dirty: Some(false),
            within: PhaseBudget {
                powered_off: Some(Span(Duration::from_secs(10))),
                ..PhaseBudget::default()
            },
        }
    }

    /// A passing run, changed by `change`, judged.
    fn judged(change: impl FnOnce(&mut Run)) -> Judgement {
        judged_against(&expectation(), change)
    }

    fn judged_against(expect: &Expectation, change: impl FnOnce(&mut Run)) -> Judgement {
        let mut run = Run {
            family: GuestFamily::Reference,
            outcome: Outcome::PoweredOff,
            seconds: 5,
            last: Phase::PoweredOff,
            unproven: vec![],
            troubles: vec![],
            tie: Tie::Tied("x".into()),
            cause: Cause::None,
            dirty: Some(false),
            not_asked: None,
            overlay: None,
            lost: false,
            damaged: 0,
        };
        change(&mut run);
        let after = Duration::from_secs(run.seconds);
        let phases = [Reached { phase: run.last, after, source: Source::Qmp }];
        let diagnosis =
            Diagnosis { cause: run.cause, confidence: None, also: vec![], evidence: vec![], lacks: vec![] };
        judge(
            Some(expect),
            &Findings {
                family: run.family,
                not_asked: run.not_asked,
                outcome: &run.outcome,
                phases: &phases,
                unproven: &run.unproven,
                troubles: &run.troubles,
                tie: &run.tie,
                diagnosis: &diagnosis,
                volume_dirty: run.dirty,
                overlay_trouble: run.overlay,
                press_lost: run.lost,
                probe_lines_damaged: run.damaged,
                scale: 1.0,
            },
        )
    }

    struct Run {
        family: GuestFamily,
        outcome: Outcome,
        seconds: u64,
        last: Phase,
        unproven: Vec<String>,
        troubles: Vec<String>,
        tie: Tie,
        cause: Cause,
        dirty: Option<bool>,
        not_asked: Option<&'static str>,
        overlay: Option<&'static str>,
        lost: bool,
        damaged: u32,
    }

    #[test]
    fn what_was_expected_passes() {
        assert_eq!(judged(|_| {}), Judgement { verdict: Verdict::Pass, reasons: vec![] });
    }

    #[test]
    fn the_whole_budget_may_be_used() {
        assert_eq!(judged(|r| r.seconds = 10).verdict, Verdict::Pass);
    }

    #[test]
    fn a_crash_of_the_reference_guest_passes_only_where_it_is_what_was_asked_for() {
        let expect = Expectation {
            outcome: OutcomeKind::Crashed,
            last_phase: Phase::Request,
            cause: Cause::Unknown,
            volume_dirty: None,
            within: PhaseBudget::default(),
        };
        let crashed = |run: &mut Run| {
            run.outcome = Outcome::Crashed { evidence: "x".into() };
            (run.last, run.cause) = (Phase::Request, Cause::Unknown);
        };
        assert_eq!(judged_against(&expect, crashed).verdict, Verdict::Pass);
        assert_eq!(judged(crashed).verdict, Verdict::Infra);
    }

    #[rstest]
    #[case::other_outcome(|r: &mut Run| r.outcome = Outcome::StillRunning, Verdict::Fail)]
    #[case::rebooted(|r: &mut Run| r.outcome = Outcome::Rebooted, Verdict::Fail)]
    #[case::hibernated(|r: &mut Run| r.outcome = Outcome::Hibernated, Verdict::Fail)]
    #[case::host_killed(|r: &mut Run| r.outcome = Outcome::HostKilled, Verdict::Fail)]
    #[case::other_phase(|r: &mut Run| r.last = Phase::Reacted, Verdict::Fail)]
    #[case::other_cause(|r: &mut Run| r.cause = Cause::Unknown, Verdict::Fail)]
    #[case::left_dirty(|r: &mut Run| r.dirty = Some(true), Verdict::Fail)]
    #[case::disk_unread(|r: &mut Run| r.dirty = None, Verdict::Fail)]
    #[case::too_late(|r: &mut Run| r.seconds = 11, Verdict::Fail)]
    #[case::unproven(|r: &mut Run| r.unproven = vec!["x".into()], Verdict::Inconclusive)]
    #[case::guest_in_trouble(|r: &mut Run| r.troubles = vec!["x".into()], Verdict::Inconclusive)]
    #[case::blocked_and_not_tied(
        |r: &mut Run| { r.outcome = Outcome::StillRunning; r.last = Phase::Reacted; r.tie = Tie::Loose("x".into()) },
        Verdict::Inconclusive
    )]
    #[case::not_tied(|r: &mut Run| r.tie = Tie::Loose("x".into()), Verdict::Inconclusive)]
    #[case::phase_lost_with_its_line(|r: &mut Run| { r.last = Phase::Reacted; r.damaged = 1 }, Verdict::Inconclusive)]
    #[case::damaged_lines_excuse_no_other_outcome(
        |r: &mut Run| { r.outcome = Outcome::StillRunning; r.last = Phase::Reacted; r.damaged = 9 },
        Verdict::Fail
    )]
    #[case::damaged_lines_excuse_no_late_end(|r: &mut Run| { r.seconds = 11; r.damaged = 9 }, Verdict::Fail)]
    #[case::damaged_overlay(|r: &mut Run| { r.overlay = Some("x"); r.dirty = None }, Verdict::Infra)]
    #[case::press_lost(
        |r: &mut Run| { r.outcome = Outcome::StillRunning; r.last = Phase::Request; r.lost = true },
        Verdict::Inconclusive
    )]
    #[case::press_not_lost_and_nothing_done(
        |r: &mut Run| { r.outcome = Outcome::StillRunning; r.last = Phase::Request },
        Verdict::Fail
    )]
    #[case::stayed_without_a_sign_and_not_tied(
        |r: &mut Run| { r.outcome = Outcome::StillRunning; r.last = Phase::Request; r.tie = Tie::Loose("x".into()) },
        Verdict::Fail
    )]
    #[case::it_reacted_so_no_press_was_lost(
        |r: &mut Run| { r.outcome = Outcome::StillRunning; r.last = Phase::Reacted; r.lost = true },
        Verdict::Fail
    )]
    #[case::never_asked(|r: &mut Run| r.not_asked = Some("x"), Verdict::Inconclusive)]
    #[case::host_failed(|r: &mut Run| r.outcome = Outcome::HostFailed { what: "x".into() }, Verdict::Infra)]
    #[case::reference_panic(|r: &mut Run| r.outcome = Outcome::Crashed { evidence: "x".into() }, Verdict::Infra)]
    #[case::windows_crash(
        |r: &mut Run| { r.family = GuestFamily::Windows; r.outcome = Outcome::Crashed { evidence: "x".into() } },
        Verdict::Fail
    )]
    #[case::failed_host_beats_unproven(
        |r: &mut Run| { r.unproven = vec!["x".into()]; r.outcome = Outcome::HostFailed { what: "x".into() } },
        Verdict::Infra
    )]
    fn anything_else_does_not_pass(#[case] change: fn(&mut Run), #[case] verdict: Verdict) {
        let judgement = judged(change);
        assert_eq!(judgement.verdict, verdict);
        assert!(!judgement.reasons.is_empty());
    }
}
