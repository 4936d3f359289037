//! The registry hives of C:, as data: genuine regf files where Windows keeps them.
//!
//! They are the only truth about these settings: at boot PID 1 merges them into Wine's registry. Sources of
//! names and defaults stand beside each value; `learn` is learn.microsoft.com.

use anyhow::Context;
use regf::{DataType, HiveBuilder, KeyTreeNode, KeyTreeValue};

/// The one user's hive belongs to the profile `C:\Users\Softoff`.
pub(crate) const USER: &str = "Softoff";

/// Hive files are padded with zero bytes to a multiple of this many bytes. What follows the last bin is
/// ignored by every reader, and a small offline addition then leaves the file's size as it was: it can be
/// written back in place.
pub(crate) const GRANULARITY: usize = 256 * 1024;

/// A value's content.
#[derive(Debug, Clone, Copy)]
enum Data {
    /// REG_SZ.
    Text(&'static str),
    /// REG_DWORD.
    Number(u32),
    /// REG_BINARY.
    Bytes(&'static [u8]),
    /// No value: only the key.
    Key,
}

/// A key, a value's name, and its content.
type Entry = (&'static str, &'static str, Data);

/// One hive: its path on C: and what it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hive {
    /// Path on C:, with slashes.
    pub(crate) path: &'static str,
    /// Name of the root key, as Windows writes it.
    root: &'static str,
    entries: &'static [Entry],
}

/// All hives of the image.
pub(crate) const HIVES: &[Hive] = &[
    Hive { path: "windows/system32/config/SYSTEM", root: "ROOT", entries: SYSTEM },
    Hive { path: "windows/system32/config/SOFTWARE", root: "ROOT", entries: SOFTWARE },
    Hive { path: "Users/Softoff/NTUSER.DAT", root: "ROOT", entries: NTUSER },
];

/// SUB_BUTTONS 4f971e89..., PBUTTONACTION 7648efa3..., scheme Balanced 381b4222... (learn: Power button and lid
/// settings; power scheme GUIDs in winnt.h).
const PBUTTONACTION_DEFAULT: &str = r"ControlSet001\Control\Power\PowerSettings\4f971e89-eebd-4455-a8de-9e59040e7347\7648efa3-dd9c-4e3e-b566-50f929386280\DefaultPowerSchemeValues\381b4222-f694-41f0-9685-ff5bb260df2e";

const SYSTEM: &[Entry] = &[
    // Which control set is current; CurrentControlSet exists only while Windows runs (learn: HKLM\SYSTEM\Select).
    ("Select", "Current", Data::Number(1)),
    ("Select", "Default", Data::Number(1)),
    ("Select", "Failed", Data::Number(0)),
    ("Select", "LastKnownGood", Data::Number(1)),
    // The active power scheme, and the user layer above the defaults (observed in registry exports of Windows
    // 10 and Server 2019).
    (
        r"ControlSet001\Control\Power\User\PowerSchemes",
        "ActivePowerScheme",
        Data::Text("381b4222-f694-41f0-9685-ff5bb260df2e"),
    ),
    // 3 is shut down: what `powercfg /qh` shows on a desktop and on Server 2016, Balanced.
    (PBUTTONACTION_DEFAULT, "ACSettingIndex", Data::Number(3)),
    (PBUTTONACTION_DEFAULT, "DCSettingIndex", Data::Number(3)),
    // Milliseconds, as text; 5000 on current Windows (learn: WaitToKillServiceTimeout).
    (r"ControlSet001\Control", "WaitToKillServiceTimeout", Data::Text("5000")),
    // FILETIME of the last clean shutdown, UTC. Zero: there was none yet.
    (r"ControlSet001\Control\Windows", "ShutdownTime", Data::Bytes(&[0; 8])),
    // Fast startup, which would turn a shutdown into a hibernation; off, as on servers.
    (r"ControlSet001\Control\Session Manager\Power", "HiberbootEnabled", Data::Number(0)),
    // Hibernation is off until it is switched on (`powercfg /h on`).
    (r"ControlSet001\Control\Power", "HibernateEnabled", Data::Number(0)),
    (r"ControlSet001\Control\ComputerName\ComputerName", "ComputerName", Data::Text("REFERENCE")),
    (r"ControlSet001\Services", "", Data::Key),
];

const SOFTWARE: &[Entry] = &[
    // Not a Windows product name: no reader shall take this image for Windows.
    (r"Microsoft\Windows NT\CurrentVersion", "ProductName", Data::Text("Softoff reference guest")),
    // The user is logged on by itself (learn: Automatic logon).
    (r"Microsoft\Windows NT\CurrentVersion\Winlogon", "AutoAdminLogon", Data::Text("1")),
    (r"Microsoft\Windows NT\CurrentVersion\Winlogon", "DefaultUserName", Data::Text(USER)),
    // Programs started at logon, for every user (learn: Run and RunOnce).
    (r"Microsoft\Windows\CurrentVersion\Run", "", Data::Key),
    // 1: shutting down needs no logon (learn: Shutdown: Allow system to be shut down without having to log on).
    (r"Microsoft\Windows\CurrentVersion\Policies\System", "ShutdownWithoutLogon", Data::Number(1)),
    // Modelled: where the guest's update of two steps stands; the guest itself writes it.
    (r"Softoff\Reference\Update", "State", Data::Text("none")),
    // Parents of the policies that conditions write: button action, event tracker.
    (r"Policies\Microsoft\Power\PowerSettings", "", Data::Key),
    (r"Policies\Microsoft\Windows NT\Reliability", "", Data::Key),
];

const NTUSER: &[Entry] = &[
    // Milliseconds, as text (learn: HungAppTimeout, WaitToKillAppTimeout; defaults observed on Windows 10).
    (r"Control Panel\Desktop", "HungAppTimeout", Data::Text("5000")),
    (r"Control Panel\Desktop", "WaitToKillAppTimeout", Data::Text("20000")),
    // 1: applications that do not answer are ended without asking (learn: AutoEndTasks).
    (r"Control Panel\Desktop", "AutoEndTasks", Data::Text("0")),
    // Programs started at this user's logon.
    (r"Software\Microsoft\Windows\CurrentVersion\Run", "", Data::Key),
];

impl Hive {
    /// The hive's file, padded to [`GRANULARITY`]. Version 1.5, that of the Windows hives in question.
    pub(crate) fn file(&self) -> anyhow::Result<Vec<u8>> {
        let mut root = KeyTreeNode::new(self.root);
        for (key, name, data) in self.entries {
            let node = root.get_or_create_path(key);
            let (data_type, bytes) = match data {
                Data::Key => continue,
                Data::Text(text) => (DataType::String, utf16(text)),
                Data::Number(number) => (DataType::Dword, number.to_le_bytes().to_vec()),
                Data::Bytes(bytes) => (DataType::Binary, bytes.to_vec()),
            };
            node.values.push(KeyTreeValue { name: (*name).to_owned(), data_type, data: bytes });
        }
        let mut bytes = HiveBuilder::from_tree_with_version(root, 1, 5)
            .and_then(|mut builder| Ok(builder.to_bytes()?))
            .with_context(|| format!("cannot make the hive {}", self.path))?;
        bytes.resize(bytes.len().next_multiple_of(GRANULARITY), 0);
        Ok(bytes)
    }
}

/// UTF-16LE with its closing zero.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use regf::RegistryHive;

    fn hive(path: &str) -> RegistryHive {
        let hive = HIVES.iter().find(|h| h.path.ends_with(path)).unwrap();
        RegistryHive::from_bytes(hive.file().unwrap()).unwrap()
    }

    #[test]
    fn every_entry_reads_back() {
        for hive in HIVES {
            let file = hive.file().unwrap();
            assert_eq!(file.len() % GRANULARITY, 0);
            let read = RegistryHive::from_bytes(file).unwrap();
            assert!(!read.is_dirty());
            for (key, name, data) in hive.entries {
                let key = read.open_key(key).unwrap();
                match data {
                    Data::Key => assert_eq!(key.value_count(), Some(0)),
                    Data::Text(text) => assert_eq!(key.value(name).unwrap().string_data().unwrap(), *text),
                    Data::Number(number) => {
                        assert_eq!(key.value(name).unwrap().dword_data().unwrap(), *number)
                    }
                    Data::Bytes(bytes) => assert_eq!(key.value(name).unwrap().raw_data().unwrap(), *bytes),
                }
            }
        }
    }

    #[test]
    fn the_button_shuts_down_by_default() {
        let system = hive("SYSTEM");
        let scheme = system.open_key(r"ControlSet001\Control\Power\User\PowerSchemes").unwrap();
        let active = scheme.value("ActivePowerScheme").unwrap().string_data().unwrap();
        let default = PBUTTONACTION_DEFAULT.rsplit('\\').next().unwrap();
        assert_eq!(active, default);
    }
}
