//! Batches of raw log entries, as a source hands them over.
//!
//! A batch owns the bytes that came from the wire; rows are spans into them, so that no value is
//! copied or allocated before the envelope is written.

use std::sync::Arc;

use crate::error::Code;
use crate::position::Position;
use crate::table::Table;

/// A range of [`Batch::bytes`] or [`Batch::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The bytes of this span in `bytes`, or an empty slice where it lies outside.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start.saturating_add(self.len as usize)).unwrap_or_default()
    }
}

/// One column of one row image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// The log says the value did not change and does not carry it (unchanged TOAST).
    Unchanged,
    /// The log's image does not hold this column (key-only image).
    Absent,
    /// The raw value: a span of [`Batch::bytes`].
    Value(Span),
}

/// What kind of change an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A row read by a snapshot.
    Read,
    /// An insert.
    Create,
    /// An update.
    Update,
    /// A delete.
    Delete,
    /// A truncated table.
    Truncate,
    /// A message that an application wrote into the log.
    Message,
}

impl Op {
    /// The letter in the envelope: `r`, `c`, `u`, `d`, `t`, `m`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Truncate => "t",
            Self::Message => "m",
        }
    }
}

/// Whether an image holds the whole row or only its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// Every column.
    Row,
    /// The identity's columns; the others are [`Cell::Absent`].
    Key,
}

/// A row image: as many cells as the table has columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Index of the first cell in [`Batch::cells`].
    pub first_cell: u32,
    /// What it holds.
    pub kind: ImageKind,
}

/// The transaction of a change, as far as it is known at that change. Spans are of [`Batch::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tx {
    /// The transaction's id as text; empty for what stands outside any transaction.
    pub id: Span,
    /// The commit position as text: the middle part of the event id. Outside a transaction, the
    /// entry's own place.
    pub commit: Span,
    /// The file of the log that the changes stand in, UTF-8, where the log is made of files.
    pub log: Span,
    /// When it committed, in microseconds since 1970, by the database's clock; meaningless outside
    /// a transaction.
    pub commit_ts_us: i64,
    /// The node that the transaction came from, UTF-8; empty where it is the database's own.
    pub origin: Span,
    /// The W3C trace context that the application gave it: ASCII without quotes and backslashes, or
    /// empty.
    pub traceparent: Span,
    /// What the application noted about it: a JSON object written by a [`crate::JsonWriter`], or
    /// empty.
    pub annotation: Span,
    /// The beginning of the statement that made the changes, as far as it was asked for, or empty.
    pub statement: Span,
}

/// One change of one row (or one truncated table).
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// What happened.
    pub op: Op,
    /// Index into [`Batch::tables`].
    pub table: u32,
    /// Index into [`Batch::txs`].
    pub tx: u32,
    /// The place of the change in the log (an LSN, a binlog offset); rendered by the source's
    /// [`crate::PositionWriter`], never compared.
    pub offset: u64,
    /// The raw change's index in its transaction, counted as the log sends them, from 0.
    pub index: u64,
    /// The event's number among those of the same raw change, and whether there are several (a
    /// truncate of several tables). The host splits a key change itself and needs no part.
    pub part: Option<u32>,
    /// The old row, as far as the log carried it.
    pub before: Option<Image>,
    /// The new row.
    pub after: Option<Image>,
}

/// A change that cannot be handed over, such as one larger than the limit. The table's policy
/// decides whether the connector stops or a dead letter is written.
#[derive(Debug, Clone)]
pub struct Poisoned {
    /// The change without images.
    pub change: Change,
    /// Why, as a code.
    pub code: Code,
    /// Why, in words; no row value.
    pub reason: String,
    /// What lets this very change pass, which is in the log as it is.
    pub remedy: &'static str,
}

/// What became of reading back the values that an entry's new row lacks in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reselected {
    /// Index into [`Batch::entries`].
    pub entry: u32,
    /// The columns that were read back, as indexes into the table's. Their cells hold the values, no
    /// older than the entry. None where it failed.
    pub columns: Vec<u32>,
    /// A place in the log that the read came after: a JSON object in [`Batch::text`], written by a
    /// [`crate::JsonWriter`], as the source's positions are. Empty where it failed.
    pub position: Span,
    /// Why it failed.
    pub reason: Option<NotReselected>,
}

/// Why a value was not read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReselected {
    /// The row was deleted since, or no row has the key any more.
    Gone,
    /// The row with that key is not as the entry left it: it was changed since, or it is another.
    Changed,
    /// The table was altered since, so that the column or the key is not the same.
    Altered,
    /// The row is larger than half of what an event may be.
    TooLarge,
    /// The change did not become visible to other sessions in time, as where its commit waits for a
    /// standby.
    NotVisible,
}

impl NotReselected {
    /// The name in the event.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Changed => "changed",
            Self::Altered => "altered",
            Self::TooLarge => "too_large",
            Self::NotVisible => "not_visible",
        }
    }
}

/// A message that an application wrote into the log, beside any table.
#[derive(Debug, Clone)]
pub struct LogMessage {
    /// Its place: without images, and `table` names none.
    pub change: Change,
    /// The database.
    pub db: Arc<str>,
    /// Whether it is part of its transaction; else it took effect at once, and its [`Tx`] has no id.
    pub is_transactional: bool,
    /// The prefix that names its kind, UTF-8 in [`Batch::text`].
    pub prefix: Span,
    /// How the content is written.
    pub encoding: ContentEncoding,
    /// The content as one JSON value in [`Batch::text`], written by a [`crate::JsonWriter`].
    pub content: Span,
}

/// How a message's content stands in its event. A function of the content alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    /// It is a JSON object or array that a strict parser accepts, and stands as such.
    Json,
    /// It is other UTF-8, and stands as a string.
    Text,
    /// It is neither, and stands as a string of standard base64 with padding.
    Base64,
}

impl ContentEncoding {
    /// The name in the event: `json`, `text`, `base64`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
            Self::Base64 => "base64",
        }
    }
}

/// One entry of a batch.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A row change.
    Change(Change),
    /// A change that can never pass.
    Poisoned(Box<Poisoned>),
    /// A message that is wanted as an event.
    Message(Box<LogMessage>),
}

/// Raw log entries with the position to resume from once all of them are durable.
///
/// A batch without entries is progress alone (an idle log): it takes the same way, so that its
/// position is saved before the source is told.
#[derive(Debug, Default)]
pub struct Batch {
    /// The entries, in log order.
    pub entries: Vec<Entry>,
    /// The cells of all images, row after row.
    pub cells: Vec<Cell>,
    /// The raw bytes that [`Cell::Value`] points into.
    pub bytes: Vec<u8>,
    /// What was read back, by ascending entry.
    pub reselected: Vec<Reselected>,
    /// Text rendered by the source that [`Tx`], [`LogMessage`] and [`Reselected`] point into.
    pub text: Vec<u8>,
    /// The table versions that the entries name.
    pub tables: Vec<Arc<Table>>,
    /// The transactions that the entries name.
    pub txs: Vec<Tx>,
    /// Where to resume after this batch. Always set on a batch that is sent.
    pub resume: Option<Position>,
    /// When the newest bytes were read, in microseconds since 1970, by our clock.
    pub received_ts_us: i64,
}

impl Batch {
    /// Empties the batch and keeps its allocations, but lets go of ones above `bytes_max`.
    pub fn clear(&mut self, bytes_max: usize) {
        self.entries.clear();
        self.cells.clear();
        self.reselected.clear();
        self.tables.clear();
        self.txs.clear();
        self.resume = None;
        self.received_ts_us = 0;
        for buffer in [&mut self.bytes, &mut self.text] {
            if buffer.capacity() > bytes_max {
                *buffer = Vec::new();
            } else {
                buffer.clear();
            }
        }
    }

    /// The cells of an image of a table with `count` columns; empty where the image lies outside.
    pub fn image(&self, image: Image, count: usize) -> &[Cell] {
        let start = image.first_cell as usize;
        self.cells.get(start..start.saturating_add(count)).unwrap_or_default()
    }
}
