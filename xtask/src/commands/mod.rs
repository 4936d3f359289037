//! One file per command.

pub(crate) mod advise;
pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod compare;
pub(crate) mod diagnose;
pub(crate) mod doctor;
pub(crate) mod fuzz;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod lint;
pub(crate) mod list;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod soak;
pub(crate) mod stop;
pub(crate) mod test;
pub(crate) mod torture;
