//! Everything that needs the reference guest, in one program: its tests share the host by one gate, so that a guest that
//! only waits makes room for another suite's.
//!
//! `cargo xtask test -- blind` runs one suite alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "an absent key of JSON is null")]

mod blind;
mod common;
mod full_deadline;
mod hardening;
mod libvirt;
mod negative;
mod outside;
mod readme;
mod requests;
mod scenarios;
mod stop;
mod through_libvirt;
mod warm;
