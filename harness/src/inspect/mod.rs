//! What a stopped machine's disk tells of its shutdown: the damage of a run, and the facts of any image.
//!
//! Everything is read as far as it can be: what cannot be read is named in [`DiskReport::troubles`], and the rest
//! stands. That a part is absent from a report never means that all is well with it.

mod documents;
mod evaluation;
#[cfg(test)]
mod hostile_tests;
mod image;
#[cfg(test)]
mod tests;
mod updates;

use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use documents::{DocumentsReport, Survival, Written};
pub use evaluation::{Evaluation, evaluation, is_evaluation};
pub use image::{FileSystem, ImageReport, PartitionReport};
pub use updates::{ModelledUpdate, PendingUpdates};

use crate::disk::event_log::{EventLogReport, LogName};
use crate::disk::{
    DiskError, DiskImage, HibernationFile, Hive, HiveCondition, HiveState, JournalState, RegistryValue,
    Volume, hive_condition, registry, system_volume,
};
use crate::guest::registry_facts::RegistryFacts;
use crate::text::{printable, utc};

/// Folder and file of crash dumps (fact sheet C.3).
const MINIDUMPS: &str = r"\Windows\Minidump";
const FULL_DUMP: &str = r"\Windows\MEMORY.DMP";
/// Dumps that are listed.
const MAX_DUMPS: usize = 64;
/// Profiles that are looked at for a user's hive.
const MAX_PROFILES: usize = 64;
/// Seconds from 1601 to 1970, and the 100 ns ticks of a second: what a FILETIME is made of.
const FILETIME_EPOCH: u64 = 11_644_473_600;
const FILETIME_TICKS: u64 = 10_000_000;

/// What the system volume of a stopped machine tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DiskReport {
    /// The volume's flag word.
    pub volume_flags: Option<u16>,
    /// What `$LogFile` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalState>,
    /// SYSTEM, SOFTWARE and the hive of the user that logs on.
    pub hives: Vec<HiveReport>,
    /// `Control\Windows\ShutdownTime`: when the last clean shutdown was, UTC; `never` for zero. A dirty end leaves
    /// it as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_time: Option<String>,
    /// What `\hiberfil.sys` holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hibernation: Option<HibernationFile>,
    /// Updates that wait for a restart or were interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updates: Option<PendingUpdates>,
    /// The System event log; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_log: Option<EventLogReport>,
    /// The Application event log; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_log: Option<EventLogReport>,
    /// Crash dumps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dumps: Vec<Dump>,
    /// The documents of the lost-write check; absent where there are none and none were promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<DocumentsReport>,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// A hive and its condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HiveReport {
    /// Its path on the volume.
    pub hive: String,
    /// Its base block; absent when the file does not begin with one.
    pub state: Option<HiveState>,
    /// Its condition.
    #[serde(flatten)]
    pub condition: HiveCondition,
}

/// A crash dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dump {
    /// Its path on the volume, escaped.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A disk, read.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// What it tells.
    pub report: DiskReport,
    /// What its registry says about shutting down; `None` when that could not be read.
    pub registry: Option<RegistryFacts>,
}

impl DiskReport {
    /// Whether the system volume is marked dirty; `None` when that could not be read.
    pub fn volume_dirty(&self) -> Option<bool> {
        self.volume_flags.map(|word| crate::disk::VolumeFlags(word).is_dirty())
    }

    /// Keeps the value, or the trouble.
    fn kept<T, E: Display>(&mut self, what: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.troubles.push(format!("{what}: {}", printable(&error.to_string(), 400))))
            .ok()
    }
}

/// Reads an image's system volume. `written` is what the guest said of its documents, where it said something.
///
/// An error when the image has no readable system volume; a running QEMU that writes to it is one reason.
pub fn inspect(disk: &DiskImage, written: Option<Written>) -> Result<Inspection, DiskError> {
    let volume = system_volume(disk)?;
    let mut report = DiskReport::default();
    report.volume_flags = report.kept("the volume's flags", volume.flags()).map(|flags| flags.0);
    report.journal = report.kept("$LogFile", JournalState::read(&volume));
    report.hibernation = report.kept(r"\hiberfil.sys", volume.hibernation_file());
    let registry = report.kept("the registry", RegistryFacts::read(&volume));
    let user = registry.as_ref().and_then(|facts| facts.logon_user.clone());
    let user = report.kept("the profiles", user_hive(&volume, user.as_deref())).flatten();
    for hive in [Some(Hive::System), Some(Hive::Software), user].into_iter().flatten() {
        let condition = report.kept(&hive.path(), hive_condition(&volume, &hive));
        report.hives.extend(condition.map(|(state, condition)| HiveReport {
            hive: printable(&hive.path(), 200),
            state,
            condition,
        }));
    }
    report.shutdown_time = report.kept("ShutdownTime", shutdown_time(&volume)).flatten();
    report.updates = report.kept("pending updates", PendingUpdates::read(&volume));
    report.system_log =
        report.kept("the System log", EventLogReport::read(&volume, LogName::System)).flatten();
    let application = EventLogReport::read(&volume, LogName::Application);
    report.application_log = report.kept("the Application log", application).flatten();
    report.dumps = report.kept("crash dumps", dumps(&volume)).unwrap_or_default();
    let documents = DocumentsReport::read(&volume, written);
    report.documents = report.kept("the documents", documents).flatten();
    Ok(Inspection { report, registry })
}

/// The hive of the user that logs on; where nobody does by himself, that of the first profile that has one.
fn user_hive(volume: &Volume, user: Option<&str>) -> Result<Option<Hive>, DiskError> {
    if let Some(hive) = user.map(Hive::user)
        && volume.exists(&hive.path())?
    {
        return Ok(Some(hive));
    }
    for profile in volume.list(r"\Users", MAX_PROFILES)?.into_iter().filter(|entry| entry.is_folder) {
        let hive = Hive::user(&profile.name);
        if !profile.name.eq_ignore_ascii_case("Default") && volume.exists(&hive.path())? {
            return Ok(Some(hive));
        }
    }
    Ok(None)
}

fn shutdown_time(volume: &Volume) -> Result<Option<String>, DiskError> {
    let value = registry::read_hive(volume, &Hive::System, |hive| {
        hive.value(r"CurrentControlSet\Control\Windows", "ShutdownTime")
    })?;
    let Some(RegistryValue::Binary(bytes)) = value else { return Ok(None) };
    Ok(bytes.try_into().ok().map(u64::from_le_bytes).map(filetime))
}

/// A FILETIME as text.
fn filetime(ticks: u64) -> String {
    match (ticks / FILETIME_TICKS).checked_sub(FILETIME_EPOCH) {
        Some(seconds) => utc(seconds),
        None if ticks == 0 => "never".to_owned(),
        None => format!("before 1970 (FILETIME {ticks})"),
    }
}

fn dumps(volume: &Volume) -> Result<Vec<Dump>, DiskError> {
    let mut found = Vec::new();
    match volume.file_size(FULL_DUMP) {
        Ok(size) => found.push(Dump { path: FULL_DUMP.to_owned(), size }),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    for entry in volume.list(MINIDUMPS, MAX_DUMPS)? {
        if entry.name.to_ascii_lowercase().ends_with(".dmp") {
            let path = format!(r"{MINIDUMPS}\{}", printable(&entry.name, 100));
            found.push(Dump { path, size: entry.size });
        }
    }
    Ok(found)
}
