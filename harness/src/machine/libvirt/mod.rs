//! libvirt below a machine: the same QEMU on the same overlay, started and asked by a real libvirtd.
//!
//! [`Libvirt`] is a libvirtd of our own, [`Connection`] the way to any, [`Domain`] one machine of it. Everything is
//! done by `virsh` as a process, and not through a binding of libvirt's C library, for these reasons:
//!
//! * It is what operators type: what blocks, what is refused, and in which words, is what they see.
//! * A call into the library cannot be given up. `virsh shutdown` blocks for 60 s where the agent was asked and the guest stays,
//!   and for ever where libvirtd hangs; a process has a time limit and can be killed.
//! * A binding needs libvirt's headers wherever Softoff is built, and libvirt is needed for a part of it only.
//! * QEMU's own events come by libvirt-qemu.so, which the crate `virt` does not bind. We do not need them through
//!   libvirt: a domain of ours has a further QMP socket, with QEMU's own timestamps.
//!
//! A call of virsh costs some 30 ms under TCG (measured), which no time of a guest depends on: requests count from
//! their beginning, ends from QEMU's event.

mod account;
mod connection;
mod daemon;
mod definition;
mod domain;
mod events;
mod guest_agent;
mod monitor;
mod sent;

pub use connection::{Connection, VirshError, Why};
pub use daemon::{Libvirt, Traces};
pub use definition::{Definition, Ports};
pub use domain::{Answer, Domain, ShutdownMode};
pub use events::Events;
pub use guest_agent::GuestAgent;
pub use monitor::DomainMonitor;
