//! The documented path from its first step, with the real tools: a libvirtd of our own and domains of an image.
//!
//! The engine starts QEMU itself. What goes through libvirt here is what Softoff is held against: the tests in
//! `tests/libvirt.rs`, and the row `control-vs-peer` of `cargo xtask bench`.

mod account;
mod daemon;
mod domain;
mod events;

pub use daemon::{Libvirt, Traces};
pub use domain::{Domain, NAME};
pub use events::Events;
