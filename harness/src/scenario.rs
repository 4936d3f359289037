//! Scenario definitions: TOML files that say what to do to which image and what to expect.
//!
//! A definition that does not fit is refused with file, line, and the values that are allowed there. The
//! scenario's name is its file's name.

mod act;
mod policy;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::image::{GuestFamily, Sha256Hex, is_word};
pub use crate::outcome::RequestMeans;
use crate::outcome::{Cause, OutcomeKind, Phase};
pub use act::{FollowUp, HostAct, Moment};
pub use policy::{AT, Policy, PolicyRef, policies};

/// A scenario's name: its file's name without `.toml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ScenarioName(pub String);

impl fmt::Display for ScenarioName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A length of time in a definition, written as a number and a unit: `500ms`, `20s`, `2m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        // Through a value of any type, so that a bare number gets the same help as a wrong text.
        let value = toml::Value::deserialize(deserializer)?;
        let wrong = || {
            let hint =
                "write a positive number and a unit (ms, s, m, h), such as \"500ms\", \"20s\" or \"2m\"";
            serde::de::Error::custom(format!("{value} is no length of time; {hint}"))
        };
        let text = value.as_str().ok_or_else(wrong)?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        // A day is longer than any deadline that makes sense, and keeps sums of spans in bounds.
        let total = number.checked_mul(millis).filter(|t| *t <= 86_400_000).ok_or_else(wrong)?;
        Ok(Span(Duration::from_millis(total)))
    }
}

/// The request of a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// How the host asks.
    pub by: RequestMeans,
    /// How many times; 1 unless said.
    #[serde(default = "one")]
    pub presses: u32,
    /// A key to press before the first request (QKeyCode), so that a display that is off is lit and swallows
    /// no press. `gap` is the pause after it, too.
    #[serde(default)]
    pub wake_key: Option<String>,
    /// Time between two presses.
    #[serde(default = "no_span")]
    pub gap: Span,
    /// How long after the first press the outcome is waited for.
    pub deadline: Span,
    /// How long after the guest was proven ready the first request is made; at once unless said.
    #[serde(default = "no_span")]
    pub delay: Span,
    /// When the first request is made: when the guest is ready, or so long after the power came on.
    #[serde(default)]
    pub at: RequestMoment,
    /// What else the host does, each so long after the one before it.
    #[serde(default)]
    pub then: Vec<FollowUp>,
}

impl Request {
    /// Whether the host takes the power away sooner or later.
    pub fn is_hard(&self) -> bool {
        self.by.is_hard() || self.then.iter().any(|t| t.act.is_hard())
    }

    /// The key of the first value that contradicts another, and why.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        if self.deadline.0.is_zero() {
            return Some(("deadline", "`deadline` must be longer than 0".into()));
        }
        if !(1..=100).contains(&self.presses) {
            return Some(("presses", "`presses` must be between 1 and 100".into()));
        }
        let last_press = self.gap.0.saturating_mul(self.presses - 1);
        if last_press >= self.deadline.0 {
            return Some(("gap", "the last press would come after the deadline".into()));
        }
        if self.wake_key.is_some() && self.gap.0.is_zero() {
            let what = "`wake_key` needs a `gap`: the time from the key to the press, such as \"2s\"";
            return Some(("wake_key", what.into()));
        }
        self.then.iter().find_map(FollowUp::contradiction)
    }

    /// Whether only libvirt can ask so.
    pub fn needs_libvirt(&self) -> bool {
        self.by.needs_libvirt() || self.then.iter().any(|t| t.act.needs_libvirt())
    }
}

/// When the first request is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestMoment {
    /// The guest was proven ready.
    #[default]
    Ready,
    /// The firmware has just begun: no operating system listens yet.
    PowerOn,
}

/// When the guest counts as ready.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// How long the boot may take, under TCG on two busy cores.
    pub within: Span,
}

/// What must be observed for the verdict `pass`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The outcome.
    pub outcome: OutcomeKind,
    /// The last phase reached, and with it every earlier one.
    pub last_phase: Phase,
    /// The diagnosed cause.
    pub cause: Cause,
    /// Whether the system volume must be left marked dirty (true) or clean (false); not checked when absent.
    #[serde(default)]
    pub volume_dirty: Option<bool>,
    /// Time budget per phase, from the request; later than this is a failure.
    #[serde(default)]
    pub within: PhaseBudget,
}

impl Expectation {
    /// What is expected of a machine that nothing stands in the way of.
    pub fn healthy() -> Expectation {
        Expectation {
            outcome: OutcomeKind::PoweredOff,
            last_phase: Phase::PoweredOff,
            cause: Cause::None,
            volume_dirty: Some(false),
            within: PhaseBudget::default(),
        }
    }
}

/// The longest time a phase may take to be reached, from the request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each phase is documented at Phase")]
pub struct PhaseBudget {
    #[serde(default)]
    pub reacted: Option<Span>,
    #[serde(default)]
    pub session_ended: Option<Span>,
    #[serde(default)]
    pub services_stopped: Option<Span>,
    #[serde(default)]
    pub powered_off: Option<Span>,
}

impl PhaseBudget {
    /// The budget of one phase.
    pub fn of(&self, phase: Phase) -> Option<Duration> {
        let span = match phase {
            Phase::Request => None,
            Phase::Reacted => self.reacted,
            Phase::SessionEnded => self.session_ended,
            Phase::ServicesStopped => self.services_stopped,
            Phase::PoweredOff => self.powered_off,
        };
        span.map(|s| s.0)
    }
}

/// One scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file's name; not part of the file.
    #[serde(skip, default = "nameless")]
    pub name: ScenarioName,
    /// The file; not part of it.
    #[serde(skip)]
    pub path: PathBuf,
    /// Hash of the file's text; not part of it.
    #[serde(skip)]
    pub digest: Sha256Hex,
    /// One sentence for people.
    pub summary: String,
    /// The image classes it runs on.
    pub images: Vec<GuestFamily>,
    /// What is wrong in the guest; empty for a control.
    #[serde(default, rename = "condition")]
    pub conditions: Vec<Condition>,
    /// When the guest is ready.
    pub readiness: Readiness,
    /// How the host asks.
    pub request: Request,
    /// Boot the disk once more after the end, and record what the guest makes of what it finds.
    #[serde(default)]
    pub next_boot: bool,
    /// What must be observed.
    pub expect: Expectation,
    /// The policy in the place of the definition's request; not part of the file.
    #[serde(skip)]
    pub policy: Option<PolicyRef>,
    /// Whether `expect` does not hold, since it is the definition's and the request is another one.
    #[serde(skip)]
    pub unexpected: bool,
}

fn one() -> u32 {
    1
}

fn no_span() -> Span {
    Span(Duration::ZERO)
}

fn nameless() -> ScenarioName {
    ScenarioName(String::new())
}

/// Why a definition cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file could not be read.
    #[error("cannot read the scenario {path}: {source}; `cargo xtask list` shows the scenarios there are")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not fit the format; the message shows line and allowed values.
    #[error("{path}:{line}: {what}\nSee \"How to add a scenario\" in README.md.")]
    Format {
        /// Which file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong there, with the line itself.
        what: String,
    },
}

/// serde knows of a condition only where its table begins; the message names the word that is wrong. The
/// first line from there on that holds it is the one to look at.
fn named_line(text: &str, from: usize, message: &str) -> usize {
    let word = message.strip_prefix("unknown").and_then(|m| m.split('`').nth(1)).filter(|w| !w.is_empty());
    let holds = |line: &str| {
        word.is_some_and(|w| {
            line.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').any(|p| p == w)
        })
    };
    text.lines()
        .enumerate()
        .skip(from - 1)
        .find(|(_, line)| holds(line))
        .map_or(from, |(number, _)| number + 1)
}

impl Scenario {
    /// Reads and checks one definition.
    pub fn load(path: &Path) -> Result<Scenario, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Scenario::parse(&text, path, name)
    }

    /// Reads and checks a definition's text; `path` is for messages.
    pub fn parse(text: &str, path: &Path, name: String) -> Result<Scenario, ScenarioError> {
        // It becomes a folder's name, and is shown everywhere.
        if !is_word(&name, "") {
            let shown = crate::text::printable(&name, 60);
            let what = format!(
                "`{shown}` is no name for a scenario: letters, digits, `-`, `_` and `.`, at most 100"
            );
            return Err(ScenarioError::Format { path: path.to_owned(), line: 1, what });
        }
        let mut scenario: Scenario = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |s| s.start);
            let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
            let line = named_line(text, line, e.message());
            let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
            let what = format!("{}\n    {}", e.message(), crate::text::printable(shown, 100));
            ScenarioError::Format { path: path.to_owned(), line, what }
        })?;
        scenario.name = ScenarioName(name);
        scenario.path = path.to_owned();
        scenario.digest = Sha256Hex::of_bytes(text.as_bytes());
        if let Some((key, what)) = scenario.contradiction() {
            let line = text.lines().position(|l| l.trim_start().starts_with(key)).map_or(1, |n| n + 1);
            return Err(ScenarioError::Format { path: path.to_owned(), line, what });
        }
        Ok(scenario)
    }

    /// The key of the first value that contradicts another, and why.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        if self.images.is_empty() {
            return Some(("images", "`images` is empty; allowed: reference, windows".into()));
        }
        if let Some(wrong) = self.request.contradiction() {
            return Some(wrong);
        }
        let kinds: Vec<_> = self.conditions.iter().map(std::mem::discriminant).collect();
        if kinds.iter().enumerate().any(|(n, kind)| kinds.iter().take(n).any(|earlier| earlier == kind)) {
            let what =
                "two conditions of one kind: they write the same values, so that only the last would count";
            return Some(("kind", what.into()));
        }
        let hard = self.request.is_hard();
        if hard != (self.expect.outcome == OutcomeKind::HostKilled) {
            let what = "outcome `host-killed` goes with request or act `hard-power-off`, and only with it";
            return Some(("outcome", what.into()));
        }
        if self.next_boot && !matches!(self.expect.outcome, OutcomeKind::PoweredOff | OutcomeKind::HostKilled)
        {
            let what = "`next_boot` needs an end: outcome `powered-off` or `host-killed`";
            return Some(("next_boot", what.into()));
        }
        if (self.expect.outcome == OutcomeKind::PoweredOff) != (self.expect.last_phase == Phase::PoweredOff) {
            let what = "outcome `powered-off` goes with last_phase `powered-off`, and only with it";
            return Some(("last_phase", what.into()));
        }
        None
    }
}

#[cfg(test)]
mod tests;
