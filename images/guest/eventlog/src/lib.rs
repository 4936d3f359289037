//! Writes genuine `.evtx` event logs, so that the reference guest leaves the traces of an end where Windows does.
//!
//! * [`events`]: the events that tell of an end, as Windows' providers write them.
//! * [`Event`] and [`Value`]: what an event holds.
//! * [`Log`]: the file: header, chunks, the dirty flag; opened again across boots.
//! * `chunk` and `template` and `layout`: 64 KiB chunks with their checksums and tables, binary XML, and where
//!   everything stands.
//!
//! The format is that of \[MS-EVEN6\] 2.2.12 and of files that Windows wrote; the tests hold what is written here
//! against a real System.evtx, and read it with an independent parser.

mod chunk;
mod event;
pub mod events;
mod layout;
mod log;
mod template;

pub use event::{Data, Event, FileTime, Guid, Provider, Value};
pub use log::{Found, Log, MAX_BYTES};

/// Why a log cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Reading or writing failed.
    #[error("the event log could not be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// The file is not an event log, or another version of one.
    #[error("not an event log that can be continued: {0}; move it away to have a new one made")]
    Foreign(&'static str),
    /// One event that does not fit into an empty chunk.
    #[error("an event of this size does not fit into a chunk of 64 KiB")]
    TooLarge,
    /// The log has its full size ([`MAX_BYTES`]). Windows would overwrite the oldest events.
    #[error("the event log is full ({MAX_BYTES} bytes); clear it")]
    Full,
}
