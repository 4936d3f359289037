//! Updates that wait for a restart, by the documented keys and files, and the reference guest's model of one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::disk::registry::{OpenHive, read_hive};
use crate::disk::{DiskError, Hive, RegistryValue, Volume};
use crate::guest::registry_facts::SERVICING;
use crate::text::printable;

/// Below HKLM\SOFTWARE (fact sheet B.1).
const REBOOT_REQUIRED: &str = r"Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired";
/// Below HKLM\SYSTEM.
const SESSION_MANAGER: &str = r"CurrentControlSet\Control\Session Manager";
const PENDING_XML: &str = r"\Windows\WinSxS\pending.xml";
/// What servicing puts into SetupExecute: the program that works off pending.xml at the shutdown and the next boot.
const WORKER: &str = "poqexec";
/// The reference guest's own: Windows has nothing there.
const MODEL: &str = r"Softoff\Reference\Update";
const MODEL_FOLDER: &str = r"\Softoff\Update";
const MAX_STEPS: usize = 256;

/// Work that updates have left for the shutdown and the next boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PendingUpdates {
    /// Component Based Servicing\RebootPending exists.
    pub reboot_pending: bool,
    /// Component Based Servicing\RebootInProgress exists: servicing was under way.
    pub reboot_in_progress: bool,
    /// Component Based Servicing\PackagesPending exists.
    pub packages_pending: bool,
    /// WindowsUpdate\Auto Update\RebootRequired exists.
    pub reboot_required: bool,
    /// Files that PendingFileRenameOperations names: installers use it too, not only updates.
    pub rename_operations: usize,
    /// SetupExecute starts the program that works off pending.xml.
    pub setup_execute: bool,
    /// `\Windows\WinSxS\pending.xml` exists.
    pub pending_xml: bool,
    /// The reference guest's modelled update; absent on Windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modelled: Option<ModelledUpdate>,
}

/// The reference guest's modelled two-step update: how far it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelledUpdate {
    /// `none`, `staged`, `committing`, `committed` or `rolled-back`; what the registry says, escaped.
    pub state: String,
    /// Steps whose file is still staged.
    pub staged: usize,
    /// Steps whose file is committed.
    pub committed: usize,
}

impl ModelledUpdate {
    /// Whether it stopped half-way.
    pub fn is_interrupted(&self) -> bool {
        self.state == "committing" || (self.staged > 0 && self.committed > 0)
    }
}

impl PendingUpdates {
    /// Reads them from a system volume.
    pub fn read(volume: &Volume) -> Result<PendingUpdates, DiskError> {
        let (mut found, model) = read_hive(volume, &Hive::Software, |hive| {
            let servicing = |name: &str| hive.has_key(&format!(r"{SERVICING}\{name}"));
            let found = PendingUpdates {
                reboot_pending: servicing("RebootPending"),
                reboot_in_progress: servicing("RebootInProgress"),
                packages_pending: servicing("PackagesPending"),
                reboot_required: hive.has_key(REBOOT_REQUIRED),
                ..PendingUpdates::default()
            };
            (found, hive.text(MODEL, "State"))
        })?;
        (found.rename_operations, found.setup_execute) = read_hive(volume, &Hive::System, |hive| {
            // Two names for each operation; the second is empty for a deletion, and `RegistryValue` ends a list
            // at its first empty text, so that the raw data is counted.
            let renames = match hive.value(SESSION_MANAGER, "PendingFileRenameOperations") {
                Some(value) => operations(&value.data()),
                None => 0,
            };
            (renames, works_at_shutdown(hive))
        })?;
        found.pending_xml = volume.exists(PENDING_XML)?;
        let steps = volume.list(MODEL_FOLDER, MAX_STEPS)?;
        let ending =
            |ending: &str| steps.iter().filter(|s| s.name.to_ascii_lowercase().ends_with(ending)).count();
        found.modelled = model.map(|state| ModelledUpdate {
            state: printable(&state, 40),
            staged: ending(".staged"),
            committed: ending(".committed"),
        });
        Ok(found)
    }

    /// Whether work waits for the shutdown or the next boot. Renames alone are no update.
    pub fn any(&self) -> bool {
        self.reboot_pending
            || self.reboot_in_progress
            || self.packages_pending
            || self.reboot_required
            || self.setup_execute
            || self.pending_xml
            || self.modelled.as_ref().is_some_and(|m| matches!(m.state.as_str(), "staged" | "committing"))
    }
}

fn works_at_shutdown(hive: &OpenHive<'_>) -> bool {
    match hive.value(SESSION_MANAGER, "SetupExecute") {
        Some(RegistryValue::MultiString(programs)) => {
            programs.iter().any(|program| program.to_ascii_lowercase().contains(WORKER))
        }
        _ => false,
    }
}

/// Source names in a list of pairs. A deletion's second name is empty, so that zeros do not end the list; each
/// source begins with `\??\`.
fn operations(data: &[u8]) -> usize {
    let units: Vec<u16> = data.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    let names: Vec<&[u16]> = units.split(|unit| *unit == 0).collect();
    names.chunks(2).filter(|pair| pair.first().is_some_and(|source| !source.is_empty())).count()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none("\0", 0)]
    #[case::a_deletion("\\??\\C:\\a\0\0\0", 1)]
    #[case::a_rename_and_a_deletion("\\??\\C:\\a\0!\\??\\C:\\b\0\\??\\C:\\c\0\0\0", 2)]
    fn renames_are_pairs(#[case] text: &str, #[case] count: usize) {
        let data: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(operations(&data), count);
    }
}
