//! For tests that edit a disk's registry: every key and every value of its hives, before and after, and what differs from
//! what was intended. Read by a library that has no part in the writing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use regf::hive::RegistryKey;
use regf::{DataType, HiveBuilder, RegistryHive};
use softoff_harness::disk::{DiskImage, Hive, RegistryValue, system_volume};
use softoff_harness::inject::HiveEdit;

use crate::measure_disk::build_with;
use crate::reference::GRANULARITY;

/// Size of a disk with such hives, bytes.
pub(crate) const DISK: u64 = 64 << 20;

/// (key, name), both in capitals, to (type, data). Keys begin with a backslash; the root's is empty.
pub(crate) type Values = BTreeMap<(String, String), (u32, Vec<u8>)>;

/// All of a hive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) keys: BTreeSet<String>,
    pub(crate) values: Values,
}

impl Contents {
    /// A hive on a disk; one that was not written completely fails the test.
    pub(crate) fn read(disk: &Path, hive: &Hive) -> Contents {
        let volume = system_volume(&DiskImage::open(disk).unwrap()).unwrap();
        Contents::of(volume.read_file(&hive.path(), 256 << 20).unwrap())
    }

    pub(crate) fn of(bytes: Vec<u8>) -> Contents {
        let hive = RegistryHive::from_bytes(bytes).unwrap();
        assert!(!hive.is_dirty());
        let mut all = Contents::default();
        all.collect(&hive.root_key().unwrap(), "");
        all
    }

    fn collect(&mut self, key: &RegistryKey<'_>, path: &str) {
        self.keys.insert(path.to_owned());
        for value in key.values().unwrap() {
            let data = (value.raw_data_type(), value.raw_data().unwrap());
            self.values.insert((path.to_owned(), value.name().to_uppercase()), data);
        }
        for child in key.subkeys().unwrap() {
            self.collect(&child, &format!("{path}\\{}", child.name().to_uppercase()));
        }
    }

    /// What `CurrentControlSet` stands for in a SYSTEM hive.
    pub(crate) fn control_set(&self) -> String {
        let current = &self.values[&(r"\SELECT".to_owned(), "CURRENT".to_owned())];
        format!(r"\CONTROLSET{:03}", current.1[0])
    }

    /// What is not as it was before, or else as it was intended to be; nothing where all is well. A key is intended when
    /// an intended value lies in it or below it.
    pub(crate) fn unintended(&self, before: &Contents, intended: &Values) -> Vec<String> {
        let mut expected = before.clone();
        expected.values.extend(intended.clone());
        for (key, _) in intended.keys() {
            let ends = key.match_indices('\\').map(|(at, _)| at).chain([key.len()]);
            expected.keys.extend(ends.filter_map(|at| key.get(..at)).map(str::to_owned));
        }
        let value = |id, value: &(u32, Vec<u8>)| match self.values.get(id) {
            Some(found) if found == value => None,
            found => Some(format!("{id:?} is {found:?}, not {value:?}")),
        };
        let wrong = expected.values.iter().filter_map(|(id, wanted)| value(id, wanted));
        let new = self.values.keys().filter(|id| !expected.values.contains_key(*id));
        let keys = self.keys.symmetric_difference(&expected.keys);
        wrong
            .chain(new.map(|id| format!("{id:?} is new")))
            .chain(keys.map(|key| format!("key {key:?} came or went")))
            .collect()
    }

    /// How many values are new or others.
    pub(crate) fn changed(&self, before: &Contents) -> usize {
        self.values.iter().filter(|(id, value)| before.values.get(*id) != Some(value)).count()
    }
}

/// The values that these edits set in one hive; of several edits of one value the last one counts.
pub(crate) fn intended(edits: &[HiveEdit], hive: &Hive, control_set: &str) -> Values {
    let of_hive = edits.iter().filter(|edit| edit.hive == *hive);
    let value = |edit: &HiveEdit| {
        let key = format!(r"\{}", edit.key).to_uppercase();
        let key = match key.strip_prefix(r"\CURRENTCONTROLSET") {
            Some(rest) => format!("{control_set}{rest}"),
            None => key,
        };
        ((key, edit.name.to_uppercase()), (edit.value.kind(), edit.value.data()))
    };
    of_hive.map(value).collect()
}

/// A hive with these values (key, name, value), and with zeros behind them, as those of an installed Windows have them.
pub(crate) fn hive(values: &[(&str, &str, RegistryValue)]) -> Vec<u8> {
    let mut builder = HiveBuilder::new_with_version("ROOT", 5).unwrap();
    for (key, name, value) in values {
        let key = builder.create_key(key).unwrap();
        builder.add_value(key, name, DataType::from(value.kind()), &value.data()).unwrap();
    }
    with_room(builder.to_bytes().unwrap())
}

fn with_room(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(GRANULARITY), 0);
    bytes
}

/// The real SYSTEM hive where it is at hand (then true); a generated one, and a line that says so, elsewhere.
pub(crate) fn system() -> (Vec<u8>, bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples/SYSTEM.xz");
    if path.exists() {
        let output =
            Command::new("xz").arg("-dc").arg(&path).output().expect("next: apt-get install xz-utils");
        return (with_room(output.stdout), true);
    }
    let _nobody_may_listen = writeln!(
        std::io::stderr(),
        "NOT COVERED: the real sample SYSTEM.xz is not at {}; a generated hive stands in for it",
        path.display()
    );
    (generated_system(), false)
}

/// Two control sets, so that an edit in the wrong one shows.
pub(crate) fn generated_system() -> Vec<u8> {
    hive(&[
        ("Select", "Current", RegistryValue::Dword(1)),
        (r"ControlSet001\Control\Session Manager\Power", "HiberbootEnabled", RegistryValue::Dword(1)),
        (r"ControlSet001\Services\X", "Start", RegistryValue::Dword(2)),
        (r"ControlSet002\Control\Session Manager\Power", "HiberbootEnabled", RegistryValue::Dword(1)),
        (r"ControlSet002\Services\X", "Start", RegistryValue::Dword(2)),
    ])
}

/// An overlay on a disk.
pub(crate) fn overlay(base: &Path, overlay: &Path) -> PathBuf {
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .args([base, overlay])
        .status();
    assert!(made.expect("next: apt-get install qemu-utils").success());
    overlay.to_owned()
}

/// A disk with these files, and an overlay on it: (base, overlay).
pub(crate) fn overlaid(dir: &Path, files: &[(&str, Vec<u8>)]) -> (PathBuf, PathBuf) {
    let base = build_with(dir, DISK, files).unwrap();
    let overlay = overlay(&base, &dir.join("overlay.qcow2"));
    (base, overlay)
}

/// The comparison must see each way in which more than intended can change.
#[test]
fn whatever_was_not_intended_is_seen() {
    let before = Contents::of(generated_system());
    let id = |key: &str, name: &str| (key.to_owned(), name.to_owned());
    let (start, number) = (id(r"\CONTROLSET001\SERVICES\X", "START"), (4u32, vec![3, 0, 0, 0]));
    let wanted = Values::from([(start.clone(), number.clone()), (id(r"\A\B", "N"), (4, vec![0; 4]))]);
    let mut after = before.clone();
    after.values.extend(wanted.clone());
    after.keys.extend([r"\A".to_owned(), r"\A\B".to_owned()]);
    assert_eq!(after.unintended(&before, &wanted), Vec::<String>::new());
    assert_eq!(after.changed(&before), 2);

    let other_set = id(r"\CONTROLSET002\SERVICES\X", "START");
    let changes: [&dyn Fn(&mut Contents); 7] = [
        &|c| drop(c.values.insert(id(r"\A", "M"), (4, vec![0; 4]))),
        &|c| drop(c.values.insert(start.clone(), (1, number.1.clone()))),
        &|c| drop(c.values.insert(other_set.clone(), number.clone())),
        &|c| drop(c.values.remove(&other_set)),
        &|c| drop(c.values.remove(&start)),
        &|c| assert!(c.keys.insert(r"\A\C".to_owned())),
        &|c| assert!(c.keys.remove(r"\CONTROLSET002")),
    ];
    for change in changes {
        let mut other = after.clone();
        change(&mut other);
        let told = other.unintended(&before, &wanted);
        assert_eq!(told.len(), 1, "{told:?}");
    }
}
