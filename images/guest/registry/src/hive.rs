//! The tree as regf bytes and back.

use regf::{DataType, HiveBuilder, KeyTreeNode, KeyTreeValue, RegistryHive};

use crate::{Key, Value};

/// Hives larger than this are refused, in bytes. The guest's own are below 1 MB; a SOFTWARE hive of real Windows
/// has about 100 MB, which never comes here.
pub const MAX_HIVE_BYTES: usize = 64 << 20;
/// Deeper trees are refused. Windows itself stops at 512 levels.
pub const MAX_DEPTH: usize = 512;
/// More keys and values than this together are refused.
pub const MAX_ENTRIES: usize = 500_000;
/// regf 1.5, which Windows 10 and Server 2016 to 2025 write for SYSTEM and SOFTWARE.
const VERSION: (u32, u32) = (1, 5);
/// The name that the root key of the machine hives has in Windows.
const ROOT: &str = "ROOT";

/// Why bytes are not a usable hive, or a tree cannot become one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HiveError {
    /// Larger than [`MAX_HIVE_BYTES`].
    #[error("the hive has {0} bytes, more than the {MAX_HIVE_BYTES} that are read")]
    TooLarge(usize),
    /// Deeper than [`MAX_DEPTH`].
    #[error("the hive is nested deeper than {MAX_DEPTH} keys")]
    TooDeep,
    /// More than [`MAX_ENTRIES`].
    #[error("the hive has more than {MAX_ENTRIES} keys and values")]
    TooMany,
    /// Its writer did not finish: the sequence numbers differ or the header's checksum is wrong.
    #[error("the hive is dirty (its last writer did not finish); replay its transaction logs or restore it")]
    Dirty,
    /// Damaged, or not a hive.
    #[error("the hive is damaged: {0}")]
    Damaged(#[from] regf::error::Error),
    /// Writing failed.
    #[error("the hive could not be written: {0}")]
    Write(#[from] std::io::Error),
}

/// The tree as the bytes of a clean hive file.
pub fn write_hive(root: &Key) -> Result<Vec<u8>, HiveError> {
    let mut builder = HiveBuilder::from_tree_with_version(node(ROOT, root, 0)?, VERSION.0, VERSION.1)?;
    Ok(builder.to_bytes()?)
}

fn node(name: &str, key: &Key, depth: usize) -> Result<KeyTreeNode, HiveError> {
    if depth > MAX_DEPTH {
        return Err(HiveError::TooDeep);
    }
    let mut node = KeyTreeNode::new(name);
    node.values = key
        .values()
        .map(|(name, value)| {
            let (kind, data) = value.encode();
            KeyTreeValue { name: name.to_owned(), data_type: DataType::from(kind), data }
        })
        .collect();
    node.children =
        key.keys().map(|(name, key)| self::node(name, key, depth + 1)).collect::<Result<_, _>>()?;
    Ok(node)
}

/// The tree of a clean hive file.
pub fn read_hive(bytes: &[u8]) -> Result<Key, HiveError> {
    if bytes.len() > MAX_HIVE_BYTES {
        return Err(HiveError::TooLarge(bytes.len()));
    }
    let hive = RegistryHive::from_bytes(bytes.to_vec())?;
    if hive.is_dirty() {
        return Err(HiveError::Dirty);
    }
    let mut root = Key::new();
    let mut budget = MAX_ENTRIES;
    copy(&hive.root_key()?, &mut root, 0, &mut budget)?;
    Ok(root)
}

/// `regf` has refused cycles by now: it checks the whole key graph when it opens a hive.
fn copy(
    from: &regf::hive::RegistryKey<'_>,
    to: &mut Key,
    depth: usize,
    budget: &mut usize,
) -> Result<(), HiveError> {
    if depth > MAX_DEPTH {
        return Err(HiveError::TooDeep);
    }
    for value in from.values()? {
        *budget = budget.checked_sub(1).ok_or(HiveError::TooMany)?;
        to.set(&value.name(), Value::decode(value.raw_data_type(), value.raw_data()?));
    }
    for key in from.subkeys()? {
        *budget = budget.checked_sub(1).ok_or(HiveError::TooMany)?;
        // A name with a backslash cannot be addressed by a path, and Windows cannot make one.
        let name = key.name();
        if name.is_empty() || name.contains('\\') {
            return Err(regf::error::Error::CorruptHive(format!("a key is named {name:?}")).into());
        }
        copy(&key, to.key(&name), depth + 1, budget)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn sample() -> Key {
        let mut root = Key::new();
        root.key("Select").dword("Current", 1);
        root.key(r"ControlSet001\Control").sz("WaitToKillServiceTimeout", "5000");
        root.key(r"ControlSet001\Services\Stubborn")
            .set("ImagePath", Value::ExpandSz(r"%SystemDrive%\softoff\probe.exe".into()))
            .set("DependOnService", Value::MultiSz(vec!["RpcSs".into()]));
        root
    }

    #[test]
    fn a_written_hive_reads_back() {
        let bytes = write_hive(&sample()).unwrap();
        assert_eq!(&bytes[..4], b"regf");
        assert_eq!(read_hive(&bytes).unwrap().sorted(), sample().sorted());
    }

    #[test]
    fn dirty_hives_are_refused() {
        let mut bytes = write_hive(&sample()).unwrap();
        // The primary sequence number alone counts on: a write had begun.
        bytes[4] = bytes[4].wrapping_add(1);
        assert!(matches!(read_hive(&bytes), Err(HiveError::Dirty)), "{:?}", read_hive(&bytes));
    }

    #[test]
    fn cut_and_foreign_files_are_errors() {
        let bytes = write_hive(&sample()).unwrap();
        assert!(read_hive(&bytes[..bytes.len() / 2]).is_err());
        assert!(read_hive(b"WINE REGISTRY Version 2").is_err());
        assert!(read_hive(&[]).is_err());
    }

    #[test]
    fn a_tree_too_deep_for_windows_is_refused() {
        let mut root = Key::new();
        root.key(&"x\\".repeat(MAX_DEPTH + 1));
        assert!(matches!(write_hive(&root), Err(HiveError::TooDeep)));
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = "[^\\x00]{0,40}";
        prop_oneof![
            any::<u32>().prop_map(Value::Dword),
            any::<u64>().prop_map(Value::Qword),
            text.prop_map(Value::Sz),
            text.prop_map(Value::ExpandSz),
            vec("[^\\x00]{1,20}", 0..4).prop_map(Value::MultiSz),
            vec(any::<u8>(), 0..200).prop_map(Value::Binary),
            // Beyond 16344 bytes the data goes into several cells ("big data").
            vec(any::<u8>(), 16340..16350).prop_map(Value::Binary),
        ]
    }

    pub(crate) fn tree() -> impl Strategy<Value = Key> {
        let values = || btree_map("[a-z0-9 ._{}-]{0,12}", value(), 0..5);
        let leaf = values().prop_map(|values| build(values, Vec::new()));
        leaf.prop_recursive(4, 40, 5, move |inner| {
            (values(), vec(("[a-z0-9 ._{}-]{1,12}", inner), 0..5))
                .prop_map(|(values, keys)| build(values, keys))
        })
    }

    fn build(values: std::collections::BTreeMap<String, Value>, keys: Vec<(String, Key)>) -> Key {
        let mut root = Key::new();
        for (name, value) in values {
            root.set(&name, value);
        }
        for (name, key) in keys {
            *root.key(&name) = key;
        }
        root
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_tree_survives(tree in tree()) {
            let bytes = write_hive(&tree).unwrap();
            prop_assert_eq!(read_hive(&bytes).unwrap().sorted(), tree.sorted());
        }

        #[test]
        fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..9000), signed in any::<bool>()) {
            if signed {
                for (at, byte) in bytes.iter_mut().zip(b"regf") {
                    *at = *byte;
                }
            }
            let _ = read_hive(&bytes);
        }

        #[test]
        fn damage_anywhere_never_panics(hits in vec((0usize..1 << 13, any::<u8>()), 1..8)) {
            let mut bytes = write_hive(&sample()).unwrap();
            for (at, byte) in hits {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = read_hive(&bytes);
        }
    }
}
