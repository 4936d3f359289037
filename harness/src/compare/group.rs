//! One scenario on one image in both runs: its samples, and what the tests say of them.

use std::collections::BTreeMap;

use super::exact::{Table, Time, Times};
use super::{Aspect, Change, Direction, Finding, Floors, Group, Key, timed};
use crate::outcome::{OutcomeKind, Phase, Verdict};
use crate::record::schema::ScenarioRecord;
use crate::record::words::{median, seconds};

/// Share of the results whose answer must differ for a difference to be suspicious.
const SUSPICIOUS: f64 = 0.2;

/// A difference is suspicious when it would come up less often than this by chance, or when there are too few results
/// for any difference to be beyond chance.
const SUGGESTIVE: f64 = 0.1;

fn is_suspicious(p: f64, least_p: f64, level: f64) -> bool {
    p <= SUGGESTIVE || least_p > level
}

/// What both runs say of one thing.
pub(super) struct Samples {
    key: Key,
    counts: (usize, usize),
    left_out: (usize, usize),
    answers: Vec<Answers>,
    times: Vec<Measured>,
    /// Why times that both runs have are not compared.
    untimed: Option<String>,
}

/// Counts of each answer, in both runs; an answer with whether it is bad news.
struct Answers {
    aspect: Aspect,
    counts: BTreeMap<String, (u32, u32)>,
    bad: fn(&str) -> bool,
}

struct Measured {
    aspect: Aspect,
    base: Vec<Time>,
    head: Vec<Time>,
    test: Times,
}

impl Samples {
    /// `None` when neither run has such results.
    pub(super) fn new(key: &Key, base: &[&ScenarioRecord], head: &[&ScenarioRecord]) -> Option<Samples> {
        base.iter().chain(head).next()?;
        let asked = |side: &&ScenarioRecord| side.is_asked();
        let b: Vec<&ScenarioRecord> = base.iter().copied().filter(asked).collect();
        let h: Vec<&ScenarioRecord> = head.iter().copied().filter(asked).collect();
        let (times, untimed) = match timed::alike(&b, &h) {
            Ok((b, h)) => (times(&b, &h), None),
            Err(why) => (Vec::new(), Some(why)),
        };
        Some(Samples {
            key: key.clone(),
            counts: (b.len(), h.len()),
            left_out: (base.len() - b.len(), head.len() - h.len()),
            answers: answers(&b, &h),
            times,
            untimed,
        })
    }

    pub(super) fn least_p_of_answers(&self) -> Vec<f64> {
        self.answers.iter().map(|a| a.table().least_p()).collect()
    }

    pub(super) fn least_p_of_times(&self) -> Vec<f64> {
        self.times.iter().map(|t| t.test.least_p()).collect()
    }

    /// The group's result at these levels.
    pub(super) fn compare(self, floors: &Floors, answers: f64, times: f64) -> Group {
        let mut findings: Vec<Finding> = self.answers.iter().filter_map(|a| a.finding(answers)).collect();
        findings.extend(self.times.iter().filter_map(|t| t.finding(floors, times)));
        let why = self.why();
        let lost = self.mostly_lost().or_else(|| self.untimed.clone());
        let is = |direction: Direction| findings.iter().any(|f| f.decided && f.direction == direction);
        let change = match () {
            () if why.is_some() => Change::Undecided,
            () if is(Direction::Worse) => Change::New,
            // A cause or an outcome that is another one: for the better only where the verdict is.
            () if is(Direction::Other) && !is(Direction::Better) => Change::Changed,
            () if findings.iter().any(|f| !f.decided && f.direction != Direction::Better) => {
                Change::Undecided
            }
            () if is(Direction::Better) => Change::Fixed,
            () if !findings.is_empty() => Change::Undecided,
            () if lost.is_some() => Change::Undecided,
            () => Change::Same,
        };
        Group {
            scenario: self.key.scenario,
            image: self.key.image,
            request: self.key.request,
            backend: self.key.backend,
            base_count: self.counts.0,
            head_count: self.counts.1,
            head_left_out: self.left_out.1,
            change,
            findings,
            is_added: self.counts.0 + self.left_out.0 == 0,
            why: why.or(lost),
        }
    }

    fn why(&self) -> Option<String> {
        let told = |count: usize, left_out: usize, side: &str| match (count, left_out) {
            (0, 0) => Some(format!("{side} has no such result")),
            (0, n) => Some(format!("none of {side}'s {n} results says anything of the guest")),
            _ => None,
        };
        told(self.counts.0, self.left_out.0, "BASE").or(told(self.counts.1, self.left_out.1, "HEAD"))
    }

    /// More of HEAD says nothing than says something, and of BASE it was not so: what is left may be a choice.
    fn mostly_lost(&self) -> Option<String> {
        let mostly = |count: usize, left_out: usize| left_out > count;
        let lost = mostly(self.counts.1, self.left_out.1) && !mostly(self.counts.0, self.left_out.0);
        let all = self.counts.1 + self.left_out.1;
        lost.then(|| format!("{} of HEAD's {all} results say nothing of the guest", self.left_out.1))
    }
}

fn answers(base: &[&ScenarioRecord], head: &[&ScenarioRecord]) -> Vec<Answers> {
    type Question = (Aspect, fn(&ScenarioRecord) -> Option<String>, fn(&str) -> bool);
    let questions: [Question; 5] = [
        (Aspect::Verdict, |r| Some(verdict(r).to_string()), |v| v == "fail"),
        (Aspect::Outcome, |r| Some(r.outcome.kind().to_string()), |_| false),
        (Aspect::Cause, |r| Some(r.diagnosis.cause.to_string()), |_| false),
        (Aspect::LastPhase, |r| r.last_phase.map(|p| p.to_string()), |_| false),
        (
            Aspect::Damage,
            |r| r.damage.volume_dirty.map(|d| if d { "dirty" } else { "clean" }.into()),
            |d| d == "dirty",
        ),
    ];
    let all = questions.into_iter().map(|(aspect, answer, bad)| {
        let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for told in base.iter().filter_map(|r| answer(r)) {
            counts.entry(told).or_default().0 += 1;
        }
        for told in head.iter().filter_map(|r| answer(r)) {
            counts.entry(told).or_default().1 += 1;
        }
        Answers { aspect, counts, bad }
    });
    all.collect()
}

/// What it was before anybody excused it: a known issue failed, and what passed on a retry failed first.
fn verdict(result: &ScenarioRecord) -> Verdict {
    match result.verdict {
        Verdict::KnownIssue | Verdict::Flaky => Verdict::Fail,
        other => other,
    }
}

impl Answers {
    fn table(&self) -> Table {
        Table::new(self.counts.values().copied())
    }

    fn finding(&self, level: f64) -> Option<Finding> {
        let total = self.counts.values().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
        if total.0 == 0 || total.1 == 0 {
            return None;
        }
        let share = |n: u32, of: u32| f64::from(n) / f64::from(of);
        let apart = |n: &(u32, u32)| share(n.1, total.1) - share(n.0, total.0);
        let distance: f64 = self.counts.values().map(|n| apart(n).abs()).sum::<f64>() / 2.0;
        if distance == 0.0 {
            return None;
        }
        let found = self.table().test(level);
        let decided = found.p <= level;
        if !decided && (distance < SUSPICIOUS || !is_suspicious(found.p, self.table().least_p(), level)) {
            return None;
        }
        let bad: f64 = self.counts.iter().filter(|(name, _)| (self.bad)(name)).map(|(_, n)| apart(n)).sum();
        let direction = match bad {
            b if b > 0.0 => Direction::Worse,
            b if b < 0.0 => Direction::Better,
            _ => Direction::Other,
        };
        let told = |side: fn(&(u32, u32)) -> u32, of: u32| -> String {
            let some = self.counts.iter().filter(|(_, n)| side(n) > 0);
            some.map(|(name, n)| format!("{name} {}/{of}", side(n))).collect::<Vec<_>>().join(", ")
        };
        Some(Finding {
            aspect: self.aspect,
            direction,
            decided,
            p: found.p,
            level,
            base: told(|n| n.0, total.0),
            head: told(|n| n.1, total.1),
        })
    }
}

fn times(base: &[&ScenarioRecord], head: &[&ScenarioRecord]) -> Vec<Measured> {
    let steps = Phase::ALL.into_iter().skip(1).map(Aspect::Time);
    steps
        .chain([Aspect::RequestToOff])
        .map(|aspect| {
            let of =
                |side: &[&ScenarioRecord]| side.iter().filter_map(|r| time(r, aspect)).collect::<Vec<_>>();
            let (base, head) = (of(base), of(head));
            Measured { aspect, test: Times::new(&base, &head), base, head }
        })
        .filter(|m| !m.base.is_empty() && !m.head.is_empty())
        .collect()
}

/// How long it took, or how long it was waited for in vain. Only a machine that still runs or sleeps may yet get
/// there; of one that ended otherwise the outcome tells, and of a phase that was passed unseen nothing is known.
fn time(result: &ScenarioRecord, aspect: Aspect) -> Option<Time> {
    let (phase, took, from) = match aspect {
        Aspect::Time(phase) => {
            let before = Phase::ALL.into_iter().rfind(|p| *p < phase)?;
            (phase, result.phases.step(phase), result.phases.of(before)?)
        }
        Aspect::RequestToOff => (Phase::PoweredOff, result.phases.powered_off_ms, 0),
        _ => return None,
    };
    if let Some(took) = took {
        return Some(Time::After(took));
    }
    let waits = matches!(result.outcome.kind(), OutcomeKind::StillRunning | OutcomeKind::Suspended);
    let passed = result.last_phase.is_some_and(|last| last >= phase);
    (waits && !passed).then(|| Time::NotBy(result.request.deadline_ms.saturating_sub(from)))
}

impl Measured {
    fn finding(&self, floors: &Floors, level: f64) -> Option<Finding> {
        let (base, head) = (middle(&self.base)?, middle(&self.head)?);
        // A median that was not reached is at least that wait; two such cannot be told apart.
        let (longer, shorter) = if head.ms() >= base.ms() { (head, base) } else { (base, head) };
        let Time::After(least) = shorter else { return None };
        let apart = longer.ms() - least;
        let share = apart as f64 / (base.ms().max(1)) as f64;
        if apart < floors.ms || share < floors.share {
            return None;
        }
        let found = self.test.test(level);
        if !is_suspicious(found.p, self.test.least_p(), level) {
            return None;
        }
        Some(Finding {
            aspect: self.aspect,
            direction: if head.ms() >= base.ms() { Direction::Worse } else { Direction::Better },
            decided: found.p <= level,
            p: found.p,
            level,
            base: told(base, &self.base),
            head: told(head, &self.head),
        })
    }
}

/// The median. Waits in vain count as longer than any time that was reached: with one deadline for all they are.
fn middle(times: &[Time]) -> Option<Time> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by_key(|t| (matches!(t, Time::NotBy(_)), t.ms()));
    let reached = sorted.iter().filter(|t| matches!(t, Time::After(_)));
    match *sorted.get(sorted.len().checked_sub(1)? / 2)? {
        Time::After(_) if reached.clone().count() == sorted.len() => {
            median(reached.map(|t| t.ms())).map(Time::After)
        }
        Time::After(ms) => Some(Time::After(ms)),
        Time::NotBy(_) => sorted.iter().filter(|t| matches!(t, Time::NotBy(_))).copied().next(),
    }
}

fn told(middle: Time, all: &[Time]) -> String {
    let waits = all.iter().filter(|t| matches!(t, Time::NotBy(_))).count();
    let text = match middle {
        Time::After(ms) => format!("median {} of {}", seconds(ms), all.len()),
        Time::NotBy(ms) => format!("not within {}", seconds(ms)),
    };
    if waits > 0 { format!("{text}, {waits} of {} not by the deadline", all.len()) } else { text }
}
