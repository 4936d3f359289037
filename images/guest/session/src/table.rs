//! Registry values for tests.

use std::collections::HashMap;

use crate::policy::{Root, Values};

/// Values by root and lower-case path. Data is text; `dword:` before a decimal number makes a REG_DWORD, and
/// `multi:` before words with commas a REG_MULTI_SZ.
#[derive(Debug, Default)]
pub(crate) struct Table(HashMap<(Root, String), String>);

impl Table {
    /// With one more value; `path` ends with the value's name.
    pub(crate) fn with(mut self, root: Root, path: &str, data: &str) -> Table {
        self.0.insert((root, path.to_lowercase()), data.to_owned());
        self
    }

    fn raw(&self, root: Root, key: &str, name: &str) -> Option<&str> {
        self.0.get(&(root, format!(r"{key}\{name}").to_lowercase())).map(String::as_str)
    }
}

impl Values for Table {
    fn dword(&self, root: Root, key: &str, name: &str) -> Option<u32> {
        self.raw(root, key, name)?.strip_prefix("dword:")?.parse().ok()
    }

    fn text(&self, root: Root, key: &str, name: &str) -> Option<String> {
        let data = self.raw(root, key, name)?;
        (!data.starts_with("dword:") && !data.starts_with("multi:")).then(|| data.to_owned())
    }

    fn list(&self, root: Root, key: &str, name: &str) -> Vec<String> {
        let data = self.raw(root, key, name).and_then(|data| data.strip_prefix("multi:"));
        data.map(|data| data.split(',').map(str::to_owned).collect()).unwrap_or_default()
    }

    fn has_key(&self, root: Root, key: &str) -> bool {
        let key = format!(r"{key}\").to_lowercase();
        self.0.keys().any(|(have, path)| *have == root && path.starts_with(&key))
    }
}
