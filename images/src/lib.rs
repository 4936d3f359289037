//! The image catalogue and its builders.
//!
//! An image is a folder with a `manifest.json` ([`softoff_harness::image`]). This crate makes such
//! folders in the cache:
//!
//! * [`mod@reference`]: the reference guest, built from Debian packages and our own programs. Anyone can build
//!   it, no licence is needed. It is never called Windows.
//! * [`catalog`]: the systems that can be built from a user's media, as data with sources.
//! * [`answer`]: answer files for Windows Setup.
//! * [`hardening`]: settings that make a Windows obey the power button.
//! * [`windows`]: the unattended installation, from media to image.
//! * [`toolchain`]: the Win32 programs that run in the reference guest and in real Windows.
//!
//! Around them: [`cache`] (where things are kept, one builder at a time), [`tools`] (the host programs a
//! builder starts, with their packages), [`progress`] (what a builder tells while it works; nothing here
//! prints).

pub mod answer;
pub mod cache;
pub mod catalog;
pub mod hardening;
#[cfg(test)]
mod injection_tests;
pub mod measure_disk;
pub mod progress;
pub mod reference;
#[cfg(test)]
mod registry_diff;
pub mod toolchain;
pub mod tools;
pub mod windows;

pub use cache::cache_root;
