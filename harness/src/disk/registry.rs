//! Registry values, read offline.

use std::cell::RefCell;
use std::path::Path;

use super::cells::{Bytes, Cells, Key, Pages};
use super::error::{DiskError, guarded};
use super::hive::pending_pages;
pub use super::value::{Hive, RegistryValue};
use super::volume::Volume;

/// Largest hive that is taken into memory, to be edited. A SYSTEM hive has 10 to 30 MB, a SOFTWARE hive up to
/// 150 MB; an edit holds it twice.
pub const MAX_HIVE: u64 = 96 << 20;
/// The key that exists only in a running system.
const CURRENT_CONTROL_SET: &str = "CurrentControlSet";

/// Reads one value of a hive on a volume.
///
/// `key` is relative to the hive's root; in [`Hive::System`] it may begin with `CurrentControlSet`, which
/// is resolved through `Select\Current`. Names are compared without regard to case; the empty `name` is
/// the key's default value. What the transaction logs of a dirty hive hold is seen as Windows would see it.
pub fn read_value(volume: &Volume, hive: &Hive, key: &str, name: &str) -> Result<RegistryValue, DiskError> {
    let value = read_hive(volume, hive, |hive| hive.value(key, name))?;
    value.ok_or_else(|| DiskError::NoSuchValue {
        path: volume.disk_path().to_owned(),
        hive: hive.path(),
        wanted: format!("{key}\\{name}"),
    })
}

/// A hive, for whoever reads many values of it. Damage that a read meets is kept, and makes [`read_hive`] fail.
pub struct OpenHive<'a> {
    cells: Cells<'a>,
    damage: RefCell<Option<String>>,
}

impl OpenHive<'_> {
    /// A value, as [`read_value`] finds it; `None` when it does not exist or cannot be read.
    pub fn value(&self, key: &str, name: &str) -> Option<RegistryValue> {
        self.noted(lookup(&self.cells, key, name)).flatten()
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

    /// Whether a key exists.
    pub fn has_key(&self, key: &str) -> bool {
        self.noted(find(&self.cells, key)).flatten().is_some()
    }

    /// The names of a key's subkeys; `None` when the key does not exist or cannot be read.
    pub fn subkeys(&self, key: &str) -> Option<Vec<String>> {
        Some(self.children(key)?.iter().map(Key::name).collect())
    }

    /// A REG_DWORD of that name in each subkey that has one, with the subkey's name.
    pub fn dwords_below(&self, key: &str, name: &str) -> Vec<(String, u32)> {
        let children = self.children(key).unwrap_or_default();
        let number = |child: &Key| {
            let (kind, data) = self.noted(self.cells.value(child, name)).flatten()?;
            match RegistryValue::from_data(kind, &data) {
                RegistryValue::Dword(number) => Some((child.name(), number)),
                _ => None,
            }
        };
        children.iter().filter_map(number).collect()
    }

    fn children(&self, key: &str) -> Option<Vec<Key>> {
        let key = self.noted(find(&self.cells, key)).flatten()?;
        self.noted(self.cells.children(&key))
    }

    /// Keeps what is wrong with the hive.
    fn noted<T>(&self, read: Result<T, String>) -> Option<T> {
        read.map_err(|why| self.damage.borrow_mut().get_or_insert(why).clone()).ok()
    }
}

/// Opens a hive of a volume and lets `work` read from it; only what it asks for is read. What the transaction
/// logs of a dirty hive hold is seen as Windows would see it. A hive that turns out to be damaged is an error.
pub fn read_hive<T>(
    volume: &Volume,
    hive: &Hive,
    work: impl FnOnce(&OpenHive<'_>) -> T,
) -> Result<T, DiskError> {
    let bytes = volume.file_bytes(&hive.path())?;
    let pages = pending_pages(volume, hive)?;
    open(volume.disk_path(), &hive.path(), &bytes, pages, work)
}

fn open<T>(
    path: &Path,
    hive: &str,
    bytes: &dyn Bytes,
    pages: Pages,
    work: impl FnOnce(&OpenHive<'_>) -> T,
) -> Result<T, DiskError> {
    let read = guarded(|| {
        let hive = OpenHive { cells: Cells::open(bytes, pages)?, damage: RefCell::default() };
        let read = work(&hive);
        match hive.damage.into_inner() {
            None => Ok(read),
            Some(why) => Err(why),
        }
    });
    read.and_then(|read| read).map_err(|why| DiskError::Hive {
        path: path.to_owned(),
        hive: hive.to_owned(),
        why,
    })
}

/// A key as an edit needs to know it.
pub(crate) struct KeyPlan {
    /// The key with `CurrentControlSet` resolved.
    pub(crate) key: String,
    /// The key itself and those above it that do not exist, topmost first.
    pub(crate) missing: Vec<String>,
}

/// Resolves keys in the bytes of one hive and finds what must be created for them. The whole hive is checked:
/// what is about to be edited must be sound.
pub(crate) fn plan_keys(
    path: &Path,
    hive: &str,
    bytes: &[u8],
    keys: &[String],
) -> Result<Vec<KeyPlan>, DiskError> {
    let damaged = |why: String| DiskError::Hive { path: path.to_owned(), hive: hive.to_owned(), why };
    let plan = || {
        let cells = Cells::open(&bytes, Pages::default())?;
        cells.check()?;
        keys.iter().map(|key| plan_key(&cells, key)).collect()
    };
    guarded(plan).and_then(|plans| plans).map_err(damaged)
}

fn plan_key(cells: &Cells<'_>, key: &str) -> Result<KeyPlan, String> {
    let key = resolve(cells, key)?;
    let (mut missing, mut above) = (Vec::new(), String::new());
    for part in key.split('\\').filter(|part| !part.is_empty()) {
        if !above.is_empty() {
            above.push('\\');
        }
        above.push_str(part);
        if cells.find(&above)?.is_none() {
            missing.push(above.clone());
        }
    }
    Ok(KeyPlan { key: above, missing })
}

/// Looks up several values in the bytes of one hive; `None` for those that do not exist. `path` and
/// `hive` only name the source in errors. The whole hive is checked first.
pub(crate) fn values_in(
    path: &Path,
    hive: &str,
    bytes: &[u8],
    wanted: &[(String, String)],
) -> Result<Vec<Option<RegistryValue>>, DiskError> {
    open(path, hive, &bytes, Pages::default(), |hive| {
        hive.noted(hive.cells.check());
        wanted.iter().map(|(key, name)| hive.value(key, name)).collect()
    })
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

fn lookup(cells: &Cells<'_>, key: &str, name: &str) -> Result<Option<RegistryValue>, String> {
    let Some(key) = find(cells, key)? else { return Ok(None) };
    let value = cells.value(&key, name)?;
    Ok(value.map(|(kind, data)| RegistryValue::from_data(kind, &data)))
}

fn find(cells: &Cells<'_>, key: &str) -> Result<Option<Key>, String> {
    cells.find(&resolve(cells, key)?)
}

fn resolve(cells: &Cells<'_>, key: &str) -> Result<String, String> {
    Ok(match after_current_control_set(key) {
        Some(_) => with_control_set(key, control_set(cells)?),
        None => key.to_owned(),
    })
}

fn control_set(cells: &Cells<'_>) -> Result<u32, String> {
    match lookup(cells, "Select", "Current")? {
        Some(RegistryValue::Dword(number)) => Ok(number),
        other => Err(format!("Select\\Current is {other:?}, not a REG_DWORD")),
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
        let values = values_in(Path::new("test"), "SYSTEM", &bytes, &wanted).unwrap();
        assert_eq!(values, [Some(RegistryValue::String("5000".into()))]);
    }

    #[test]
    fn a_real_hive_is_read_through_its_control_set() {
        let Some(bytes) = sample("SYSTEM.xz") else { return };
        let wanted = [("CurrentControlSet\\Control\\Windows".to_owned(), "ShutdownTime".to_owned())];
        let values = values_in(Path::new("sample"), "SYSTEM", &bytes, &wanted).unwrap();
        assert!(
            matches!(values.as_slice(), [Some(RegistryValue::Binary(time))] if time.len() == 8),
            "{values:?}"
        );
    }

    #[test]
    fn a_damaged_real_hive_is_an_error() {
        let Some(bytes) = sample("SYSTEM_corrupt.xz") else { return };
        let wanted = [("Select".to_owned(), "Current".to_owned())];
        let error = values_in(Path::new("sample"), "SYSTEM", &bytes, &wanted).unwrap_err();
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
            let _either_is_fine = values_in(Path::new("test"), "SYSTEM", &bytes, &wanted);
        }
    }
}
