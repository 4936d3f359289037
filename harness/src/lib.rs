//! Softoff's engine: when the hypervisor asks a guest to shut down, does it, how fast, and if not, why?
//!
//! # Orientation
//!
//! Read from the top of this list to follow a run; read from the bottom to see what stands on what. A module
//! uses only those below it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`live`] | a machine that somebody else runs: read it, press when told to, diagnose |
//! | [`schedule`] | many scenarios on one host: how many machines at a time, which first |
//! | [`lint`] | will a press be obeyed? by an image's disk alone |
//! | [`run`] | the story of one scenario: inject, boot, prove, ask, watch, settle, clean up, judge |
//! | [`warm`] | a machine that begins where another one was ready |
//! | [`readiness`] | from QEMU's start to a guest that is proven ready |
//! | [`verdict`] | outcome, phases and cause held against the expectation |
//! | [`history`] | the runs of many nights in one file |
//! | [`advise`] | how long a platform should wait, from repeated runs |
//! | [`shard`] | one run on many machines, and together again |
//! | [`compare`] | two runs held against each other: what differs beyond chance |
//! | [`known_issues`] | failures that are on file, with owner and expiry |
//! | [`report`] | junit.xml, summary.md, report.html: made from the records |
//! | [`witness`] | from observations, pictures and registry to evidence: for a run, and for an old record |
//! | [`request_matrix`] | cause against policy: what every way to ask comes to |
//! | [`two_backends`] | libvirt's results held against plain QMP's |
//! | [`soft_versus_hard`] | damage against kill time: table and plot of one family of results |
//! | [`record`] | what is written of a run, and its documented schema |
//! | [`scenario`] | definitions: TOML files with errors that name line and allowed values |
//! | [`mod@diagnose`] | the cause from evidence alone |
//! | [`condition`] | one file per cause: inject, prove, detect, remedy |
//! | [`evidence`] | what a diagnosis may look at |
//! | [`inspect`] | what a stopped disk tells: the damage of a run, the facts of an image |
//! | [`inject`] | the only writer to disks, and to overlays only |
//! | [`guest`] | how things are done inside a guest, and what its registry says |
//! | [`machine`] | one QEMU process: command line, QMP, agent, serial ports, screen, accelerator |
//! | [`disk`] | reading a stopped disk: partitions, NTFS, FAT's marks, registry hives, event logs |
//! | [`screen_texts`] | what Windows shows, per language, with how sure each text is |
//! | [`settle`] | from the timeline to outcome and phases |
//! | [`image`], [`host`], [`pressure`] | what runs, where, and what else the host had to do |
//! | [`proportion`] | how sure a share is |
//! | [`timeline`], [`outcome`], [`text`], [`file_lock`] | plain types at the ground |
//!
//! Three words are kept apart everywhere: the *outcome* is what became of the machine, the *cause* is why,
//! the *verdict* is whether that was expected. The outcome is settled before anything is cleaned up, so that
//! a machine which had to be killed is never called powered-off.
//!
//! The engine prints nothing. It tells [`run::RunEvent`]s to a listener and writes records; the terminal, the
//! JSON and the reports are made from these.

pub mod advise;
pub mod compare;
pub mod condition;
pub mod diagnose;
pub mod disk;
pub mod evidence;
pub mod file_lock;
#[doc(hidden)]
pub mod fuzzing;
pub mod guest;
pub mod history;
pub mod host;
pub mod image;
pub mod inject;
pub mod inspect;
pub mod known_issues;
pub mod lint;
pub mod live;
pub mod machine;
pub mod outcome;
pub mod pressure;
pub mod proportion;
mod readiness;
pub mod record;
pub mod report;
pub mod request_matrix;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod screen_texts;
pub mod settle;
pub mod shard;
pub mod soft_versus_hard;
pub mod text;
pub mod timeline;
pub mod two_backends;
pub mod verdict;
pub mod warm;
pub mod witness;
