//! The contract between Rowtide's host and its connectors.
//!
//! A *source* reads a database's log and hands over [`Batch`]es; the host turns each entry into an
//! envelope; a *sink* publishes the resulting [`RecordBatch`]es and reports when they are durable.
//! Progress flows the other way as one committed [`Position`].
//!
//! ```text
//! Source ── Batch (raw bytes, cells, resume position) ──► host: encode, validate
//!                                                            │ RecordBatch + Completion
//!        ◄── committed: watch<Position> ── save position ◄── Sink (durable, in any order)
//! ```
//!
//! The order of truth is always: *told to the source ≤ saved ≤ durable in the sink ≤ submitted ≤
//! received*. The host counts batches; it never interprets or compares a [`Position`].
//!
//! A connector needs this crate alone.

pub mod base64;
mod batch;
mod check;
mod error;
mod filter;
mod json;
mod note;
mod position;
mod report;
mod sightings;
mod sink;
mod source;
mod table;
mod thread;
mod value;

pub use batch::{
    Batch, Cell, Change, ContentEncoding, Entry, Image, ImageKind, LogMessage, NotReselected, Op,
    Poisoned, Reselected, Span, Tx,
};
pub use check::{
    Finding, KeyLookup, Preflight, Provider, ReselectLookup, ReselectRules, Secret, Severity,
};
pub use error::{Class, Code, Error, Origin, Result};
pub use filter::{PatternWords, TableFilter, TablePattern};
pub use json::{JsonWriter, Written, unescaped_run};
pub use note::Note;
pub use position::{Checkpoint, Position};
pub use report::{Fact, FactValue, Known, Reporter};
pub use sightings::{Sighting, Sightings};
pub use sink::{
    AllHeaders, BufferPool, Completion, Held, KEYLESS_COMPACTED, Outcome, Record, RecordBatch,
    RecordHeaders, Sink, TopicInfo, TopicSpec,
};
pub use source::{
    BatchSender, Claims, Hidden, Hiding, KnownTable, Limits, LogStart, PositionWriter, Reselection,
    Source, SourceContext, SourceInfo, TableReview, batch_channel,
};
pub use table::{Column, Identity, Table};
pub use thread::on_own_thread;
pub use value::{Decode, Form, StringKind, ValueError};

/// A boxed future, as trait objects need it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
