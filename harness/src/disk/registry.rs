//! Registry values, read offline.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use regf::RegistryHive;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::DiskError;
use super::volume::Volume;

/// Largest hive that is read. A SYSTEM hive has 10 to 30 MB, a SOFTWARE hive up to 150 MB.
pub const MAX_HIVE: u64 = 256 << 20;
/// How long one hive may take: 12 MB take less than 0.5 s. The parser's time is bounded by nothing else.
const PARSE_LIMIT: Duration = Duration::from_secs(60);
/// The key that exists only in a running system.
const CURRENT_CONTROL_SET: &str = "CurrentControlSet";

/// A hive file of an installed system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hive {
    /// `HKEY_LOCAL_MACHINE\SYSTEM`.
    System,
    /// `HKEY_LOCAL_MACHINE\SOFTWARE`.
    Software,
    /// `HKEY_USERS\.DEFAULT`: what runs as LocalSystem, the logon screen among it.
    Default,
    /// The template that a new user's hive is copied from.
    DefaultUser,
    /// `HKEY_CURRENT_USER` of a user; the string is the hive's path on the volume.
    User(String),
}

impl Hive {
    /// The hive of a user whose profile folder has its usual place, `\Users\<name>`.
    pub fn user(name: &str) -> Hive {
        Hive::User(format!(r"\Users\{name}\NTUSER.DAT"))
    }

    /// Path of the file on the volume.
    pub fn path(&self) -> String {
        match self {
            Hive::System => r"\Windows\System32\config\SYSTEM".to_owned(),
            Hive::Software => r"\Windows\System32\config\SOFTWARE".to_owned(),
            Hive::Default => r"\Windows\System32\config\DEFAULT".to_owned(),
            Hive::DefaultUser => r"\Users\Default\NTUSER.DAT".to_owned(),
            Hive::User(path) => path.clone(),
        }
    }
}

/// A registry value: its type and its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryValue {
    /// REG_SZ.
    String(String),
    /// REG_EXPAND_SZ.
    ExpandString(String),
    /// REG_BINARY.
    Binary(Vec<u8>),
    /// REG_DWORD.
    Dword(u32),
    /// REG_MULTI_SZ.
    MultiString(Vec<String>),
    /// REG_QWORD.
    Qword(u64),
    /// Any other type, and data that does not fit its type.
    Other {
        /// The type number.
        kind: u32,
        /// The bytes.
        data: Vec<u8>,
    },
}

impl RegistryValue {
    /// The type number of winnt.h (REG_SZ is 1).
    pub fn kind(&self) -> u32 {
        match self {
            RegistryValue::String(_) => 1,
            RegistryValue::ExpandString(_) => 2,
            RegistryValue::Binary(_) => 3,
            RegistryValue::Dword(_) => 4,
            RegistryValue::MultiString(_) => 7,
            RegistryValue::Qword(_) => 11,
            RegistryValue::Other { kind, .. } => *kind,
        }
    }

    /// The data as it stands in a hive: little-endian, strings in UTF-16 with their final zero.
    pub fn data(&self) -> Vec<u8> {
        let utf16 =
            |text: &str| text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        match self {
            RegistryValue::String(text) | RegistryValue::ExpandString(text) => utf16(text),
            RegistryValue::Binary(data) | RegistryValue::Other { data, .. } => data.clone(),
            RegistryValue::Dword(n) => n.to_le_bytes().to_vec(),
            RegistryValue::Qword(n) => n.to_le_bytes().to_vec(),
            RegistryValue::MultiString(texts) => {
                texts.iter().flat_map(|text| utf16(text)).chain([0, 0]).collect()
            }
        }
    }

    /// Reads type and data back. Strings may lack their final zero (Windows tolerates that).
    pub fn from_data(kind: u32, data: &[u8]) -> RegistryValue {
        let text = || {
            let (units, rest) = data.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            String::from_utf16(&units).ok().filter(|_| rest.is_empty())
        };
        let single = || text().map(|text| text.split('\0').next().unwrap_or_default().to_owned());
        let value = match kind {
            1 => single().map(RegistryValue::String),
            2 => single().map(RegistryValue::ExpandString),
            3 => Some(RegistryValue::Binary(data.to_vec())),
            4 => data.try_into().ok().map(u32::from_le_bytes).map(RegistryValue::Dword),
            7 => text().map(|text| {
                let texts = text.split('\0').take_while(|part| !part.is_empty());
                RegistryValue::MultiString(texts.map(str::to_owned).collect())
            }),
            11 => data.try_into().ok().map(u64::from_le_bytes).map(RegistryValue::Qword),
            _ => None,
        };
        value.unwrap_or_else(|| RegistryValue::Other { kind, data: data.to_vec() })
    }
}

/// Reads one value of a hive on a volume.
///
/// `key` is relative to the hive's root; in [`Hive::System`] it may begin with `CurrentControlSet`, which
/// is resolved through `Select\Current`. Names are compared without regard to case; the empty `name` is
/// the key's default value. The transaction logs are not looked at: see [`super::HiveState`].
pub fn read_value(volume: &Volume, hive: &Hive, key: &str, name: &str) -> Result<RegistryValue, DiskError> {
    let bytes = volume.read_file(&hive.path(), MAX_HIVE)?;
    let wanted = [(key.to_owned(), name.to_owned())];
    let mut values = values_in(volume.disk_path(), &hive.path(), bytes, &wanted)?;
    values.pop().flatten().ok_or_else(|| DiskError::NoSuchValue {
        path: volume.disk_path().to_owned(),
        hive: hive.path(),
        wanted: format!("{key}\\{name}"),
    })
}

/// A parsed hive, for whoever reads many values of it.
pub struct OpenHive<'a>(&'a RegistryHive);

impl OpenHive<'_> {
    /// A value, as [`read_value`] finds it; `None` when it does not exist or cannot be read.
    pub fn value(&self, key: &str, name: &str) -> Option<RegistryValue> {
        lookup(self.0, key, name).ok().flatten()
    }

    /// A REG_DWORD.
    pub fn dword(&self, key: &str, name: &str) -> Option<u32> {
        match self.value(key, name) {
            Some(RegistryValue::Dword(number)) => Some(number),
            _ => None,
        }
    }

    /// A REG_SZ.
    pub fn text(&self, key: &str, name: &str) -> Option<String> {
        match self.value(key, name) {
            Some(RegistryValue::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The names of a key's subkeys; `None` when the key does not exist or cannot be read.
    pub fn subkeys(&self, key: &str) -> Option<Vec<String>> {
        let key = self.0.open_key(&resolve(self.0, key).ok()?).ok()?;
        Some(key.subkeys().ok()?.iter().map(|k| k.name()).collect())
    }
}

/// Parses a hive of a volume once and lets `work` read from it.
pub fn read_hive<T: Send + 'static>(
    volume: &Volume,
    hive: &Hive,
    work: impl FnOnce(&OpenHive<'_>) -> T + Send + 'static,
) -> Result<T, DiskError> {
    let bytes = volume.read_file(&hive.path(), MAX_HIVE)?;
    parse(volume.disk_path(), &hive.path(), bytes, move |hive| Ok(work(&OpenHive(hive))))
}

/// A key as an edit needs to know it.
pub(crate) struct KeyPlan {
    /// The key with `CurrentControlSet` resolved.
    pub(crate) key: String,
    /// The key itself and those above it that do not exist, topmost first.
    pub(crate) missing: Vec<String>,
}

/// Resolves keys in the bytes of one hive and finds what must be created for them.
pub(crate) fn plan_keys(
    path: &Path,
    hive: &str,
    bytes: Vec<u8>,
    keys: Vec<String>,
) -> Result<Vec<KeyPlan>, DiskError> {
    parse(path, hive, bytes, move |hive| keys.iter().map(|key| plan_key(hive, key)).collect())
}

fn plan_key(hive: &RegistryHive, key: &str) -> regf::Result<KeyPlan> {
    let key = resolve(hive, key)?;
    let (mut missing, mut above) = (Vec::new(), String::new());
    for part in key.split('\\').filter(|part| !part.is_empty()) {
        if !above.is_empty() {
            above.push('\\');
        }
        above.push_str(part);
        match hive.open_key(&above) {
            Ok(_) => {}
            Err(regf::Error::KeyNotFound(_)) => missing.push(above.clone()),
            Err(error) => return Err(error),
        }
    }
    Ok(KeyPlan { key: above, missing })
}

/// Looks up several values in the bytes of one hive; `None` for those that do not exist. `path` and
/// `hive` only name the source in errors.
pub(crate) fn values_in(
    path: &Path,
    hive: &str,
    bytes: Vec<u8>,
    wanted: &[(String, String)],
) -> Result<Vec<Option<RegistryValue>>, DiskError> {
    let wanted = wanted.to_vec();
    parse(path, hive, bytes, move |hive| wanted.iter().map(|(key, name)| lookup(hive, key, name)).collect())
}

/// Replaces a leading `CurrentControlSet` by the control set it stands for.
fn with_control_set(key: &str, number: u32) -> String {
    match after_current_control_set(key) {
        Some(rest) => format!("ControlSet{number:03}{rest}"),
        None => key.to_owned(),
    }
}

/// What follows `CurrentControlSet` in a key that begins with it.
fn after_current_control_set(key: &str) -> Option<&str> {
    let (head, rest) = key.split_at_checked(CURRENT_CONTROL_SET.len())?;
    (head.eq_ignore_ascii_case(CURRENT_CONTROL_SET) && (rest.is_empty() || rest.starts_with('\\')))
        .then_some(rest)
}

fn lookup(hive: &RegistryHive, key: &str, name: &str) -> regf::Result<Option<RegistryValue>> {
    let key = match hive.open_key(&resolve(hive, key)?) {
        Ok(key) => key,
        Err(regf::Error::KeyNotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    for value in key.values()? {
        let found = value.name();
        let is_default = name.is_empty() && value.is_default();
        if is_default || (!name.is_empty() && found.to_uppercase() == name.to_uppercase()) {
            return Ok(Some(RegistryValue::from_data(value.raw_data_type(), &value.raw_data()?)));
        }
    }
    Ok(None)
}

fn resolve(hive: &RegistryHive, key: &str) -> regf::Result<String> {
    Ok(match after_current_control_set(key) {
        Some(_) => with_control_set(key, control_set(hive)?),
        None => key.to_owned(),
    })
}

fn control_set(hive: &RegistryHive) -> regf::Result<u32> {
    match lookup(hive, "Select", "Current")? {
        Some(RegistryValue::Dword(number)) => Ok(number),
        other => Err(regf::Error::CorruptHive(format!("Select\\Current is {other:?}, not a REG_DWORD"))),
    }
}

/// Parses a hive on a thread of its own: a panic there becomes an error, and so does a hive that takes too
/// long (a hostile one can make the parser's whole-hive check quadratic). Such a thread is left behind.
fn parse<T: Send + 'static>(
    path: &Path,
    hive: &str,
    bytes: Vec<u8>,
    work: impl FnOnce(&RegistryHive) -> regf::Result<T> + Send + 'static,
) -> Result<T, DiskError> {
    let damaged = |why: String| DiskError::Hive { path: path.to_owned(), hive: hive.to_owned(), why };
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("hive-parser".to_owned()).spawn(move || {
        let done = super::error::guarded(|| RegistryHive::from_bytes(bytes).and_then(|hive| work(&hive)));
        let _receiver_may_have_given_up = sender.send(done.and_then(|read| read.map_err(|e| e.to_string())));
    });
    thread.map_err(|e| damaged(format!("no thread to parse it: {e}")))?;
    match receiver.recv_timeout(PARSE_LIMIT) {
        Ok(done) => done.map_err(damaged),
        Err(_) => Err(damaged(format!("parsing it took longer than {} s", PARSE_LIMIT.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::disk::testing::{hive, sample};

    #[rstest]
    #[case(RegistryValue::String("Grüße".into()))]
    #[case(RegistryValue::ExpandString("%SystemRoot%".into()))]
    #[case(RegistryValue::Binary(vec![1, 2, 3]))]
    #[case(RegistryValue::Dword(3))]
    #[case(RegistryValue::Qword(1 << 40))]
    #[case(RegistryValue::MultiString(vec!["a".into(), "bc".into()]))]
    #[case(RegistryValue::Other { kind: 5, data: vec![0, 0, 0, 1] })]
    fn data_and_back(#[case] value: RegistryValue) {
        assert_eq!(RegistryValue::from_data(value.kind(), &value.data()), value);
    }

    #[rstest]
    #[case("CurrentControlSet\\Control", "ControlSet002\\Control")]
    #[case("currentcontrolset", "ControlSet002")]
    #[case("CurrentControlSetX\\Y", "CurrentControlSetX\\Y")]
    #[case("Select", "Select")]
    fn the_current_control_set_is_resolved(#[case] key: &str, #[case] resolved: &str) {
        assert_eq!(with_control_set(key, 2), resolved);
    }

    #[test]
    fn values_are_found_without_regard_to_case() {
        let bytes = hive(&[
            ("Select", "Current", RegistryValue::Dword(2)),
            ("ControlSet002\\Control", "WaitToKillServiceTimeout", RegistryValue::String("5000".into())),
        ]);
        let wanted = [("CURRENTCONTROLSET\\control".to_owned(), "waittokillservicetimeout".to_owned())];
        let values = values_in(Path::new("test"), "SYSTEM", bytes, &wanted).unwrap();
        assert_eq!(values, [Some(RegistryValue::String("5000".into()))]);
    }

    #[test]
    fn a_real_hive_is_read_through_its_control_set() {
        let Some(bytes) = sample("SYSTEM.xz") else { return };
        let wanted = [("CurrentControlSet\\Control\\Windows".to_owned(), "ShutdownTime".to_owned())];
        let values = values_in(Path::new("sample"), "SYSTEM", bytes, &wanted).unwrap();
        assert!(
            matches!(values.as_slice(), [Some(RegistryValue::Binary(time))] if time.len() == 8),
            "{values:?}"
        );
    }

    #[test]
    fn a_damaged_real_hive_is_an_error() {
        let Some(bytes) = sample("SYSTEM_corrupt.xz") else { return };
        let wanted = [("Select".to_owned(), "Current".to_owned())];
        let error = values_in(Path::new("sample"), "SYSTEM", bytes, &wanted).unwrap_err();
        assert!(matches!(error, DiskError::Hive { .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_hives_never_panic(
            cut in 0usize..16384,
            changes in prop::collection::vec((0usize..16384, any::<u8>()), 0..24),
        ) {
            let mut bytes = hive(&[("Select", "Current", RegistryValue::Dword(1)), ("A\\B", "c", RegistryValue::Qword(7))]);
            for (at, to) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = to;
                }
            }
            bytes.truncate(cut.max(bytes.len() / 2));
            let wanted = [("CurrentControlSet\\X".to_owned(), "y".to_owned()), ("A\\B".to_owned(), "c".to_owned())];
            let _either_is_fine = values_in(Path::new("test"), "SYSTEM", bytes, &wanted);
        }
    }
}
