//! What the guest's programs say, and how.
//!
//! Two channels, and one thing that is left on the disk, one file each:
//!
//! * [`probe`]: one JSON line per event on COM1, read by the harness. The same lines come from the
//!   reference guest and from real Windows.
//! * [`control`]: the reference guest's own channel between its Linux side (`init`: button, volume, S5)
//!   and its Win32 side (`session`: policy, applications, services). Nothing outside the guest sees it.
//! * [`document`]: the documents of the lost-write check, which tell themselves whether they are whole.

pub mod control;
pub mod document;
pub mod probe;
