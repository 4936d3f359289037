//! The documented shape of `run.json`, schema 1. `harness/schema/run.schema.json` is generated from these
//! types; a test holds the two together. Fields are only ever added, with defaults, so that older files
//! stay readable.

mod damage;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnose::Diagnosis;
use crate::host::HostFingerprint;
use crate::image::{GuestFamily, Sha256Hex};
use crate::machine::accel::Accelerator;
use crate::outcome::{BackendKind, Cause, Outcome, Phase, SettledBy, Verdict};
use crate::pressure::HostPressure;
use crate::scenario::{PolicyRef, RequestMeans, ScenarioName};
use crate::settle::{Reached, RequestMade, TookEffect};
use crate::timeline::Source;
pub use damage::{Damage, NextBoot};

/// The schema that this Softoff writes.
pub const SCHEMA: u32 = 1;

/// One run: many scenario records and the host they ran on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// Version of this shape.
    pub schema: u32,
    /// The run's id: its folder's name, UTC of its start.
    pub id: String,
    /// Seconds since 1970 when it began, UTC.
    pub started_at: u64,
    /// Wall time of the whole run, milliseconds.
    pub wall_ms: u64,
    /// The host.
    pub host: HostFingerprint,
    /// Whether the run was cut short by the user; `results` is then partial.
    #[serde(default)]
    pub interrupted: bool,
    /// How many times it was interrupted and went on; 0 when it ran in one go.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resumed: u32,
    /// Which part of a run this is; absent when it was not shared among machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardRef>,
    /// The runs that this was merged from; empty when it ran on one machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<MergedShard>,
    /// Folders of planned results that no shard brought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// One entry per scenario, image and repeat.
    pub results: Vec<ScenarioRecord>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One part of a run that is shared among machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardRef {
    /// From 1.
    pub index: u32,
    /// How many shards there are.
    pub of: u32,
    /// The whole run: every result that all shards together must bring, in order.
    pub plan: Vec<PlannedResult>,
}

/// A result that is planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedResult {
    /// Its folder's name: `<scenario>.<image>.<n>`.
    pub dir: String,
    /// The shard that runs it.
    pub shard: u32,
}

/// A run that is part of a merged one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MergedShard {
    /// Which shard.
    pub index: u32,
    /// The run's id on its machine.
    pub id: String,
    /// That machine.
    pub host: HostFingerprint,
    /// Wall time there, milliseconds.
    pub wall_ms: u64,
}

/// What a result rests on, beside image, accelerator and host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Basis {
    /// Hash of the scenario's definition.
    pub definition: Sha256Hex,
    /// The machine's facts, as text.
    pub machine: String,
    /// The firmware: its kind, and for a file of its own its hash.
    pub firmware: String,
}

/// Which image a result belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageRef {
    /// Catalogue name.
    pub name: String,
    /// Hash over its files.
    pub id: Sha256Hex,
    /// Family: a `reference` result is never a Windows result.
    pub family: GuestFamily,
}

/// How the host asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestRef {
    /// The means.
    pub by: RequestMeans,
    /// How many times.
    pub presses: u32,
    /// Between two presses, milliseconds.
    pub gap_ms: u64,
    /// How long after the first the outcome was waited for, milliseconds.
    pub deadline_ms: u64,
    /// Whether that is not the definition's but comes from earlier runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deadline_from_history: bool,
    /// The press policy or platform that was put in the place of the definition's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyRef>,
}

/// When each phase was reached, milliseconds from the first request; absent when it was not observed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTimes {
    /// Always 0 when there was a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_ms: Option<u64>,
    /// The guest began to act on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reacted_ms: Option<u64>,
    /// All applications had gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ended_ms: Option<u64>,
    /// All services had gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services_stopped_ms: Option<u64>,
    /// S5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub powered_off_ms: Option<u64>,
}

/// What showed a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseSource {
    /// The phase.
    pub phase: Phase,
    /// The source of its time.
    pub source: Source,
    /// How far that time may be off, milliseconds; 0 in older records, where it is not told.
    #[serde(default)]
    pub error_ms: u64,
}

/// A condition looked for before the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProofRecord {
    /// The condition.
    pub condition: String,
    /// Whether it was found.
    pub present: bool,
    /// What showed it, or what was found instead.
    pub evidence: String,
}

/// What the ACPI registers showed of the press.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// PWRBTN_EN before the press: the guest listened.
    pub listening: Option<bool>,
    /// PWRBTN_STS was set and cleared: the guest's ACPI driver took it.
    pub taken: Option<bool>,
}

/// How a machine came to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartMode {
    /// It booted.
    Cold,
    /// It began from a saved state.
    Warm,
}

/// The start of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartRecord {
    /// How.
    pub mode: StartMode,
    /// From QEMU's start (cold: from the first instruction) to readiness, milliseconds; absent when it never was
    /// ready, or was asked before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// The saved state, of a warm start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Sha256Hex>,
}

/// A file of this result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attachment {
    /// What it is: `screen`, `timeline`, `console`, `qemu-log`.
    pub kind: String,
    /// Path inside the run's folder.
    pub path: String,
}

/// Everything about one scenario on one image.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioRecord {
    /// The scenario.
    pub scenario: ScenarioName,
    /// The image.
    pub image: ImageRef,
    /// 1 for the first repeat.
    pub repeat: u32,
    /// For a retry: the repeat that had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<u32>,
    /// What the result rests on; absent in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// How the host asked.
    pub request: RequestRef,
    /// Who started the machine and was asked; in older records Softoff itself.
    #[serde(default)]
    pub backend: BackendKind,
    /// Every request that was made; empty in older records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestMade>,
    /// Which of them took effect.
    #[serde(default)]
    pub took_effect: TookEffect,
    /// How the guest's instructions were run.
    pub accel: Accelerator,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is not a pass.
    pub reasons: Vec<String>,
    /// What became of the machine.
    pub outcome: Outcome,
    /// What ended the wait for it; absent when nothing was asked, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_by: Option<SettledBy>,
    /// Why.
    pub diagnosis: Diagnosis,
    /// The cause that the scenario's definition expects; absent in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_cause: Option<Cause>,
    /// The last phase reached; absent when there was no request.
    pub last_phase: Option<Phase>,
    /// When each phase was reached.
    pub phases: PhaseTimes,
    /// What showed each phase.
    pub phase_sources: Vec<PhaseSource>,
    /// Whether every condition was proven before the request; absent when the scenario has none.
    pub condition_proven: Option<bool>,
    /// Each proof.
    pub proofs: Vec<ProofRecord>,
    /// What the ACPI registers showed.
    pub delivery: Delivery,
    /// What the disk shows afterwards.
    pub damage: Damage,
    /// When the host pulled the plug, milliseconds from the first request; absent when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plug_pulled_ms: Option<u64>,
    /// What the next boot of the same disk made of it; absent when the scenario asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_boot: Option<NextBoot>,
    /// Cold boot to readiness, milliseconds; absent when it never was ready, or started warm.
    pub boot_ms: Option<u64>,
    /// How the machine came to be ready; absent in older records, and when it was never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartRecord>,
    /// How many boots were needed: more than 1 after an early kernel panic of the reference guest.
    pub boots: u32,
    /// Probe lines lost or damaged on COM1.
    pub probe_lines_damaged: u32,
    /// What else the host had to do between the request and the outcome; absent in older records, and when
    /// nothing was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_pressure: Option<HostPressure>,
    /// Memory of its own that QEMU had when the outcome was settled, MiB; absent in older records, and when it had
    /// gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_memory_mib: Option<u64>,
    /// Wall time of the whole scenario, milliseconds.
    pub wall_ms: u64,
    /// Factor on every time limit.
    pub deadline_scale: f64,
    /// Folder of this result inside the run's folder.
    pub dir: String,
    /// Its files.
    pub attachments: Vec<Attachment>,
}

impl PhaseTimes {
    /// From the phases reached.
    pub fn from_reached(reached: &[Reached]) -> PhaseTimes {
        let of = |phase| {
            let found = reached.iter().find(|r| r.phase == phase);
            found.map(|r| u64::try_from(r.after.as_millis()).unwrap_or(u64::MAX))
        };
        PhaseTimes {
            request_ms: of(Phase::Request),
            reacted_ms: of(Phase::Reacted),
            session_ended_ms: of(Phase::SessionEnded),
            services_stopped_ms: of(Phase::ServicesStopped),
            powered_off_ms: of(Phase::PoweredOff),
        }
    }

    /// When one phase was reached, milliseconds from the first request.
    pub fn of(&self, phase: Phase) -> Option<u64> {
        match phase {
            Phase::Request => self.request_ms,
            Phase::Reacted => self.reacted_ms,
            Phase::SessionEnded => self.session_ended_ms,
            Phase::ServicesStopped => self.services_stopped_ms,
            Phase::PoweredOff => self.powered_off_ms,
        }
    }

    /// How long a phase took: from the phase before it, milliseconds; `None` unless both were observed.
    pub fn step(&self, phase: Phase) -> Option<u64> {
        let before = Phase::ALL.into_iter().rfind(|p| *p < phase)?;
        self.of(phase)?.checked_sub(self.of(before)?)
    }
}

impl ScenarioRecord {
    /// What times and results belong to, for people: the image, and libvirt where it ran the machine. The two are never
    /// mixed.
    pub fn subject(&self) -> String {
        match self.backend {
            BackendKind::Qemu => self.image.name.clone(),
            BackendKind::Libvirt => format!("{} (libvirt)", self.image.name),
        }
    }

    /// The same where times count: a guest from a saved state goes down slower under TCG than one that booted.
    pub fn timed_subject(&self) -> String {
        match self.start_mode() {
            StartMode::Cold => self.subject(),
            StartMode::Warm => format!("{} (warm)", self.subject()),
        }
    }

    /// How the machine came to be ready. Records without it are older than warm starts.
    pub fn start_mode(&self) -> StartMode {
        self.start.as_ref().map_or(StartMode::Cold, |start| start.mode)
    }

    /// Whether the host was so busy that the times are no measurement of the guest.
    pub fn is_disturbed(&self) -> bool {
        self.host_pressure.as_ref().is_some_and(|pressure| pressure.disturbed)
    }

    /// Whether this says something of the guest: it was asked, and neither the host nor an unproven condition
    /// stands in between.
    pub fn is_asked(&self) -> bool {
        let said = !matches!(self.verdict, Verdict::Inconclusive | Verdict::Infra | Verdict::Skipped);
        said && self.last_phase.is_some()
    }
}

/// The JSON schema of `run.json`, as text.
pub fn json_schema() -> String {
    let mut value = schemars::schema_for!(RunRecord).to_value();
    // By name, whatever order the crates that are built in have serde_json keep; a schema's own words then get
    // their customary order again.
    value.sort_all_objects();
    let schema = schemars::Schema::try_from(value).ok();
    schema.and_then(|schema| serde_json::to_string_pretty(&schema).ok()).map(|s| s + "\n").unwrap_or_default()
}
