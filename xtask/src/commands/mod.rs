//! One file per command.

pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod diagnose;
pub(crate) mod doctor;
pub(crate) mod fuzz;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod lint;
pub(crate) mod list;
pub(crate) mod run;
pub(crate) mod test;
