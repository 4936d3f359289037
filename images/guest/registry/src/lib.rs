//! The registry of the reference guest.
//!
//! On disk the guest has genuine hives (`SYSTEM`, `SOFTWARE`, `NTUSER.DAT` in regf format), at the places where
//! Windows has them, so that offline editing and post-mortem run the same code for both. Wine keeps its registry
//! as text instead. At each boot `init` copies what the hives say into that text ([`merge_hive`]); the hives are
//! the source, the text lives in memory and is thrown away.
//!
//! * [`Key`], [`Value`]: a typed tree, made by the image builder.
//! * [`write_hive`], [`read_hive`]: the tree as regf bytes, through the crate `regf`.
//! * [`merge_hive`]: from a hive into Wine's `system.reg` or `user.reg`.
//!
//! A hive that comes from a disk is foreign: a damaged, dirty or hostile one gives a [`HiveError`].

mod hive;
mod tree;
mod wine;

pub use hive::{HiveError, MAX_DEPTH, MAX_ENTRIES, MAX_HIVE_BYTES, read_hive, write_hive};
pub use tree::{Key, Value};
pub use wine::{MergeError, Mount, merge_hive};
