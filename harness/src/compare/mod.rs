//! Two runs held against each other: what differs, and whether that is more than chance.
//!
//! * Answers (outcome, cause, verdict, last phase, damage) by an exact test of their counts.
//! * Times, phase by phase, by a permutation test; a difference must also be greater than a floor, both in share and
//!   in seconds, since a significant millisecond concerns nobody. A run that had not finished when it was given up is
//!   a wait of unknown length, never a number.
//! * Each of the two families of tests cries falsely in at most [`FAMILY`] of all comparisons.
//!
//! What differs and is not beyond chance is `undecided`: more repeats decide it.

mod exact;
mod family;
mod group;
mod suspect;
mod timed;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outcome::{BackendKind, Phase, RequestMeans};
use crate::record::schema::{RunRecord, ScenarioRecord};
pub use suspect::Suspect;

/// Share of comparisons without a difference in which a family of tests may cry.
pub const FAMILY: f64 = 0.01;

/// Repeats that are enough on both sides, for a whole suite: a fifth more in one phase is found then (`simulation.rs`).
pub const ENOUGH: usize = 20;

/// The least difference that is told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Floors {
    /// As a share of BASE's median.
    pub share: f64,
    /// In milliseconds.
    pub ms: u64,
}

impl Default for Floors {
    /// A tenth, and 250 ms: under emulation on two busy processors, the medians of eight repeats of one thing lay up
    /// to some 100 ms apart.
    fn default() -> Floors {
        Floors { share: 0.10, ms: 250 }
    }
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// The least difference that is told.
    pub floors: Floors,
    /// How often one may look, more repeats being added after each look; each look then has its share of [`FAMILY`].
    pub looks: u32,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms { floors: Floors::default(), looks: 1 }
    }
}

impl Terms {
    /// Floors in other units.
    pub fn with_floors(share: f64, least: Duration) -> Terms {
        let ms = u64::try_from(least.as_millis()).unwrap_or(u64::MAX);
        Terms { floors: Floors { share, ms }, ..Terms::default() }
    }
}

/// What a comparison says of one scenario on one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Worse than in BASE: a regression.
    New,
    /// Different in kind, neither better nor worse.
    Changed,
    /// Something differs, and chance may be all there is to it.
    Undecided,
    /// Better than in BASE.
    Fixed,
    /// Nothing differs beyond the floors.
    Same,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Change::New => "new",
            Change::Changed => "changed",
            Change::Undecided => "undecided",
            Change::Fixed => "fixed",
            Change::Same => "same",
        })
    }
}

/// What a gate makes of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Nothing is worse or of another kind.
    Open,
    /// Something is.
    Differs,
    /// Something may be: more repeats are needed.
    Undecided,
}

/// What of a result is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// The verdict.
    Verdict,
    /// What became of the machine.
    Outcome,
    /// The diagnosed cause.
    Cause,
    /// How far the shutdown came.
    LastPhase,
    /// How the system volume was left.
    Damage,
    /// How long a phase took, from the one before it.
    Time(Phase),
    /// From the request to the power being off.
    RequestToOff,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aspect::Verdict => f.pad("verdict"),
            Aspect::Outcome => f.pad("outcome"),
            Aspect::Cause => f.pad("cause"),
            Aspect::LastPhase => f.pad("last phase"),
            Aspect::Damage => f.pad("system volume"),
            Aspect::Time(phase) => f.pad(&format!("time to {phase}")),
            Aspect::RequestToOff => f.pad("request to off"),
        }
    }
}

/// Whether a difference is for the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// HEAD is worse.
    Worse,
    /// HEAD is better.
    Better,
    /// Neither: another cause, another outcome.
    Other,
}

/// One difference with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What differs.
    pub aspect: Aspect,
    /// For better or worse.
    pub direction: Direction,
    /// Whether it is beyond chance.
    pub decided: bool,
    /// Probability of such a difference, if there were none.
    pub p: f64,
    /// The level that `p` had to reach.
    pub level: f64,
    /// In BASE, for people.
    pub base: String,
    /// In HEAD, for people.
    pub head: String,
}

/// One scenario on one image, asked one way, in both runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// The scenario.
    pub scenario: String,
    /// The image.
    pub image: String,
    /// How the host asked.
    pub request: RequestMeans,
    /// Who started the machine and was asked.
    #[serde(default)]
    pub backend: BackendKind,
    /// Results of BASE that say something of the guest.
    pub base_count: usize,
    /// The same of HEAD.
    pub head_count: usize,
    /// Results of HEAD that say nothing: a failed host, an unproven condition.
    #[serde(default)]
    pub head_left_out: usize,
    /// The result.
    pub change: Change,
    /// What differs.
    pub findings: Vec<Finding>,
    /// Whether it is in HEAD only: there is nothing to hold it against, and nothing was lost.
    pub is_added: bool,
    /// Why nothing can be said, where nothing can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Two runs held against each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// BASE's id.
    pub base: String,
    /// HEAD's id.
    pub head: String,
    /// The least difference that is told.
    pub floors: Floors,
    /// Every group of both, the worst first.
    pub groups: Vec<Group>,
    /// What differs between what the runs rest on, the likelier to be to blame first.
    pub suspects: Vec<Suspect>,
}

impl Comparison {
    /// What a gate makes of it.
    pub fn gate(&self) -> Gate {
        let any = |wanted: fn(&&Group) -> bool| self.groups.iter().any(|g| wanted(&g));
        if any(|g| matches!(g.change, Change::New | Change::Changed)) {
            Gate::Differs
        } else if any(|g| g.change == Change::Undecided && !g.is_added) {
            Gate::Undecided
        } else {
            Gate::Open
        }
    }

    /// How many groups have this result.
    pub fn count(&self, change: Change) -> usize {
        self.groups.iter().filter(|g| g.change == change).count()
    }
}

/// What results must have in common to be held against each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The scenario.
    pub scenario: String,
    /// The image.
    pub image: String,
    /// How the host asked.
    pub request: RequestMeans,
    /// Who was asked.
    pub backend: BackendKind,
}

impl Key {
    /// A result's.
    pub fn of(result: &ScenarioRecord) -> Key {
        Key {
            scenario: result.scenario.0.clone(),
            image: result.image.name.clone(),
            request: result.request.by,
            backend: result.backend,
        }
    }
}

impl Group {
    /// What its results have in common.
    pub fn key(&self) -> Key {
        Key {
            scenario: self.scenario.clone(),
            image: self.image.clone(),
            request: self.request,
            backend: self.backend,
        }
    }

    /// Whether BASE has so few results that no number of repeats up to [`ENOUGH`] can decide what differs.
    pub fn is_base_too_small(&self) -> bool {
        let n = self.base_count;
        // All of one run above all of the other: one of so many orders.
        let orders: f64 = (1..=n).map(|k| (ENOUGH + k) as f64 / k as f64).product();
        self.findings.iter().any(|f| !f.decided && 1.0 / orders > f.level)
    }

    /// For people: scenario and image, and libvirt where it ran the machines.
    pub fn subject(&self) -> String {
        let by = if self.backend == BackendKind::Libvirt { " (libvirt)" } else { "" };
        format!("{} on {}{by}", self.scenario, self.image)
    }
}

fn groups(run: &RunRecord) -> BTreeMap<Key, Vec<&ScenarioRecord>> {
    let mut groups: BTreeMap<Key, Vec<&ScenarioRecord>> = BTreeMap::new();
    // Retries were made because something had failed; to count them would favour what passes.
    for result in run.results.iter().filter(|r| r.retry_of.is_none()) {
        groups.entry(Key::of(result)).or_default().push(result);
    }
    groups
}

/// Compares two runs.
pub fn compare(base: &RunRecord, head: &RunRecord, terms: &Terms) -> Comparison {
    let (bases, heads) = (groups(base), groups(head));
    let keys: std::collections::BTreeSet<&Key> = bases.keys().chain(heads.keys()).collect();
    let samples: Vec<group::Samples> = keys
        .into_iter()
        .filter_map(|key| {
            let of = |side: &BTreeMap<Key, Vec<_>>| side.get(key).map_or(&[][..], Vec::as_slice).to_vec();
            group::Samples::new(key, &of(&bases), &of(&heads))
        })
        .collect();
    let share = FAMILY / f64::from(terms.looks.max(1));
    let answers = family::level(share, samples.iter().flat_map(group::Samples::least_p_of_answers));
    let times = family::level(share, samples.iter().flat_map(group::Samples::least_p_of_times));
    let mut groups: Vec<Group> =
        samples.into_iter().map(|s| s.compare(&terms.floors, answers, times)).collect();
    groups.sort_by_key(|g| g.change);
    let suspects = suspect::suspects(base, head, &groups);
    Comparison { base: base.id.clone(), head: head.id.clone(), floors: terms.floors, groups, suspects }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
