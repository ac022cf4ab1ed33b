//! Sinks that need no server.
//!
//! - [`jsonl`]: files of one record per line, exactly-once, with the position in the same manifest
//!   that commits the lines.
//! - [`stdout`]: one record per line on standard output, at-least-once.
//! - [`discard`]: throws everything away, to measure all that comes before a sink.
//!
//! None of them keeps tombstones, keys or headers: a line is an envelope, which carries all of it.

pub mod discard;
mod error;
mod handoff;
pub mod jsonl;
mod lines;
pub mod stdout;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
mod units;

pub use units::{Age, ByteSize};
