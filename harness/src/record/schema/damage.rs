//! What the end has left on the disk, and what the next boot made of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inspect::DiskReport;
use crate::outcome::Outcome;

/// What the disk shows afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Damage {
    /// Whether the system volume is marked dirty; absent when it could not be read.
    pub volume_dirty: Option<bool>,
    /// The NTFS volume flags as hexadecimal text.
    pub volume_flags: Option<String>,
    /// Why something could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Everything that the system volume tells; absent in older records, and when it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskReport>,
}

/// What the guest made of its disk when it was booted once more after the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextBoot {
    /// Cold boot to readiness, milliseconds; absent when it did not become ready.
    pub boot_ms: Option<u64>,
    /// The volume's flag word that the guest's check found; absent when the guest told of no check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_check: Option<u16>,
    /// What the guest told of its update's state: `rolled-back` after an interruption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_state: Option<String>,
    /// Events 41 and 6008 that this boot wrote into the System log, in their order.
    #[serde(default)]
    pub unexpected_shutdown_events: Vec<u32>,
    /// The outcome of the soft shutdown that ends this boot.
    pub outcome: Option<Outcome>,
    /// What the disk shows after it.
    pub damage: Damage,
    /// Why this boot tells less than it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
