//! Keys and values as a tree.

/// A registry key: its values and its subkeys. Names compare without regard to case, as in Windows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key {
    values: Vec<(String, Value)>,
    keys: Vec<(String, Key)>,
}

/// The data of a value. The names are those of the Windows types without `REG_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// REG_DWORD.
    Dword(u32),
    /// REG_QWORD.
    Qword(u64),
    /// REG_SZ.
    Sz(String),
    /// REG_EXPAND_SZ.
    ExpandSz(String),
    /// REG_MULTI_SZ: strings that are not empty.
    MultiSz(Vec<String>),
    /// REG_BINARY.
    Binary(Vec<u8>),
    /// Any other type, or data that does not have the form of its type (such as a string without its final
    /// zero, which Windows allows).
    Other {
        /// The type's number: 0 is REG_NONE, 6 is REG_LINK.
        kind: u32,
        /// The data as stored.
        data: Vec<u8>,
    },
}

impl Key {
    /// A key without values and subkeys.
    pub fn new() -> Key {
        Key::default()
    }

    /// The key at `path` below this one (parts joined by `\`); what is missing on the way is made.
    pub fn key(&mut self, path: &str) -> &mut Key {
        let mut at = self;
        for part in path.split('\\').filter(|part| !part.is_empty()) {
            at = at.child(part);
        }
        at
    }

    fn child(&mut self, name: &str) -> &mut Key {
        let found = self.keys.iter().position(|(have, _)| same(have, name));
        let index = found.unwrap_or_else(|| {
            self.keys.push((name.to_owned(), Key::new()));
            self.keys.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the index was found or made above")]
        &mut self.keys[index].1
    }

    /// Sets a value; the empty name is the key's default value.
    pub fn set(&mut self, name: &str, value: Value) -> &mut Key {
        match self.values.iter_mut().find(|(have, _)| same(have, name)) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.to_owned(), value)),
        }
        self
    }

    /// Sets a REG_DWORD.
    pub fn dword(&mut self, name: &str, value: u32) -> &mut Key {
        self.set(name, Value::Dword(value))
    }

    /// Sets a REG_SZ.
    pub fn sz(&mut self, name: &str, value: &str) -> &mut Key {
        self.set(name, Value::Sz(value.to_owned()))
    }

    /// The key at `path`, if it is there.
    pub fn get(&self, path: &str) -> Option<&Key> {
        path.split('\\')
            .filter(|part| !part.is_empty())
            .try_fold(self, |at, part| at.keys.iter().find(|(name, _)| same(name, part)).map(|(_, key)| key))
    }

    /// Removes the key at `path` with all below it; true if it was there.
    pub fn remove(&mut self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('\\').filter(|part| !part.is_empty()).collect();
        let Some((last, parents)) = parts.split_last() else { return false };
        let parent = parents.iter().try_fold(self, |at, part| {
            at.keys.iter_mut().find(|(name, _)| same(name, part)).map(|(_, key)| key)
        });
        let Some(parent) = parent else { return false };
        let before = parent.keys.len();
        parent.keys.retain(|(name, _)| !same(name, last));
        parent.keys.len() < before
    }

    /// The value of that name, if it is there.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(have, _)| same(have, name)).map(|(_, value)| value)
    }

    /// The values, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The subkeys, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &Key)> {
        self.keys.iter().map(|(name, key)| (name.as_str(), key))
    }

    /// The same tree with values and subkeys in the order of their names; two trees with the same content are
    /// equal after this.
    #[must_use]
    pub fn sorted(mut self) -> Key {
        self.values.sort_by_cached_key(|(name, _)| name.to_uppercase());
        self.keys = self.keys.into_iter().map(|(name, key)| (name, key.sorted())).collect();
        self.keys.sort_by_cached_key(|(name, _)| name.to_uppercase());
        self
    }
}

/// Registry names ignore case. Windows uses its own upcase table, which agrees with Unicode's simple mapping on
/// all names that matter here.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || one.to_uppercase() == other.to_uppercase()
}

impl Value {
    /// The type's number and the data as a hive stores them.
    pub fn encode(&self) -> (u32, Vec<u8>) {
        match self {
            Value::Sz(text) => (1, utf16(text)),
            Value::ExpandSz(text) => (2, utf16(text)),
            Value::Binary(data) => (3, data.clone()),
            Value::Dword(number) => (4, number.to_le_bytes().to_vec()),
            Value::MultiSz(texts) => (7, texts.iter().flat_map(|text| utf16(text)).chain([0, 0]).collect()),
            Value::Qword(number) => (11, number.to_le_bytes().to_vec()),
            Value::Other { kind, data } => (*kind, data.clone()),
        }
    }

    /// The value with that type number and data. What would not come back the same from [`Value::encode`]
    /// becomes [`Value::Other`].
    pub fn decode(kind: u32, data: Vec<u8>) -> Value {
        let typed = match kind {
            1 => text(&data).map(Value::Sz),
            2 => text(&data).map(Value::ExpandSz),
            3 => Some(Value::Binary(data.clone())),
            4 => data.as_slice().try_into().ok().map(|bytes| Value::Dword(u32::from_le_bytes(bytes))),
            7 => text(&data).map(|joined| {
                let items = joined.split('\0').filter(|item| !item.is_empty());
                Value::MultiSz(items.map(str::to_owned).collect())
            }),
            11 => data.as_slice().try_into().ok().map(|bytes| Value::Qword(u64::from_le_bytes(bytes))),
            _ => None,
        };
        match typed {
            Some(value) if value.encode() == (kind, data.clone()) => value,
            _ => Value::Other { kind, data },
        }
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// The text before the final zero, if the data is valid UTF-16 with one.
fn text(data: &[u8]) -> Option<String> {
    let (units, rest) = data.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    let (last, units) = units.split_last()?;
    if *last != 0 || !rest.is_empty() {
        return None;
    }
    String::from_utf16(units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn paths_ignore_case_and_are_made_on_the_way() {
        let mut root = Key::new();
        root.key(r"ControlSet001\Control").sz("WaitToKillServiceTimeout", "5000");
        root.key(r"CONTROLSET001\control").sz("waittokillservicetimeout", "9000");
        let control = root.get(r"controlset001\Control").unwrap();
        assert_eq!(control.value("WaitToKillServiceTimeout"), Some(&Value::Sz("9000".into())));
        assert_eq!((root.keys().count(), control.values().count()), (1, 1));
        assert_eq!(root.get("ControlSet002"), None);
    }

    #[test]
    fn a_removed_key_is_gone_with_all_below_it() {
        let mut root = Key::new();
        root.key(r"A\B\C").dword("x", 1);
        root.key(r"A\D");
        assert!(root.remove(r"a\b"));
        assert_eq!((root.get(r"A\B\C"), root.get(r"A\D").is_some()), (None, true));
        assert!(!root.remove(r"A\B") && !root.remove("") && !root.remove(r"none\B"));
    }

    #[rstest]
    #[case::sz(Value::Sz("5000".into()))]
    #[case::expand(Value::ExpandSz(r"%SystemRoot%\x.exe".into()))]
    #[case::multi(Value::MultiSz(vec!["UsoSvc".into(), "gpsvc".into()]))]
    #[case::no_strings(Value::MultiSz(vec![]))]
    #[case::dword(Value::Dword(3))]
    #[case::qword(Value::Qword(u64::MAX))]
    #[case::binary(Value::Binary(vec![1, 2, 3]))]
    #[case::none(Value::Other { kind: 0, data: vec![] })]
    fn values_survive_their_encoding(#[case] value: Value) {
        let (kind, data) = value.encode();
        assert_eq!(Value::decode(kind, data), value);
    }

    #[rstest]
    #[case::no_final_zero(1, vec![b'a', 0])]
    #[case::odd_length(1, vec![b'a', 0, 0])]
    #[case::lone_surrogate(1, vec![0, 0xd8, 0, 0])]
    #[case::short_number(4, vec![1, 0])]
    #[case::text_after_the_list(7, vec![b'a', 0, 0, 0])]
    fn malformed_data_is_kept_as_it_is(#[case] kind: u32, #[case] data: Vec<u8>) {
        assert_eq!(Value::decode(kind, data.clone()), Value::Other { kind, data });
    }
}
