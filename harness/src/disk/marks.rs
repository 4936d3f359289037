//! What a volume says of itself: its flag word, its hibernation file, its folders' entries.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The flag word of `$VOLUME_INFORMATION`, as it stands in $MFT record 3 (`$Volume`).
///
/// Read from $MFT and never from $MFTMirr: the Linux driver ntfs3 writes only the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeFlags(pub u16);

impl VolumeFlags {
    /// The bit that asks for chkdsk. ntfs3 sets it while the volume is mounted; Windows sets it only when
    /// it has seen damage, so that a pulled plug often leaves it clear.
    pub const DIRTY: u16 = 0x0001;

    /// Whether the volume is marked dirty.
    pub fn is_dirty(self) -> bool {
        self.0 & VolumeFlags::DIRTY != 0
    }
}

impl fmt::Display for VolumeFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04x} ({})", self.0, if self.is_dirty() { "dirty" } else { "clean" })
    }
}

/// What `\hiberfil.sys` says by its first four bytes (fact sheet C.3; letter case varies).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HibernationFile {
    /// There is none.
    Absent,
    /// Zeros: nothing is saved in it.
    Empty,
    /// `WAKE`: it was resumed from, and is spent.
    Spent,
    /// `HIBR`, `RSTR` or `HORM`: a system is asleep in it. The volume is not what that system has in
    /// memory, so nothing may be written to it.
    Live,
    /// Something else.
    Unknown([u8; 4]),
}

/// A file or folder in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Size in bytes as the folder has it, which may lag behind the file.
    pub size: u64,
    /// Whether it is a folder.
    pub is_folder: bool,
}
