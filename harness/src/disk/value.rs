//! Hives by name, and registry values by type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
