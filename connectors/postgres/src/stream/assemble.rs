//! From the bytes of the replication stream to batches; no I/O.
//!
//! The read buffer is the batch: bytes from the socket are appended to [`Batch::bytes`], whole
//! frames are parsed in place, and rows become spans into it. When a batch leaves, the unparsed tail
//! is copied to the next one's buffer. Values that came in binary are put into text apart, which is
//! appended to the batch when it leaves. A streamed transaction that commits is replayed through the same
//! buffer (see `streamed`).
//!
//! Protocol: "Streaming Replication Protocol" (XLogData, keepalive) and "Message Formats" (CopyData)
//! in the PostgreSQL manual.

mod messages;
mod streamed;

use std::sync::Arc;

use rowtide_sdk::{
    Batch, Cell, Change, Entry, Error, Limits, Op, Origin, Poisoned, Position, Result, Table,
};

pub(crate) use self::streamed::Fill;
use self::streamed::Replay;
use super::codes;
use super::relations::{Relations, Wanted};
use super::spool::Spool;
use super::transaction::Progress;
use crate::family::Family;
use crate::lsn::Lsn;
use crate::message::MessageRules;
use crate::pgoutput::{self, IN_TEXT, Message, NOT_TEXT, ParseError, RowChange, Truncate};
use crate::position::{InTx, Renderer};
use crate::relation::{Described, RelationMessage};
use crate::wire::{server_error, stream_notice, tag};

/// Tag and length of a frame.
const FRAME_HEADER: usize = 5;
/// Tag, three 64-bit numbers before the message of an XLogData.
const XLOG_HEADER: usize = 25;
/// What must be held of a change to know its kind and table.
const CHANGE_HEAD: usize = FRAME_HEADER + XLOG_HEADER + 5;

/// What the stream's driver does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Everything whole is parsed: read more.
    More,
    /// The batch must leave before more can be read.
    Full,
    /// A wanted table was described: make its [`Table`] and call [`Assembler::learn`].
    Describe(RelationMessage),
    /// The server asks for a status now.
    Reply,
    /// The server has ended the stream.
    Ended,
    /// Memory holds too much of streamed transactions: move what [`Assembler::largest`] gives to
    /// disk.
    Spill,
    /// Append more of a transaction's file to [`Assembler::buffer`] and call [`Assembler::filled`].
    Fill(Fill),
    /// Remove the file of a streamed transaction, of this many bytes.
    Forget(u32, u64),
}

/// Chooses the tables whose changes are handed over, by schema and name.
pub(crate) type Filter = Box<dyn Fn(&str, &str) -> bool + Send>;

/// Takes a stream apart.
pub(crate) struct Assembler {
    batch: Batch,
    /// The text of values that came in binary.
    text: Vec<u8>,
    /// Everything before this offset of the buffer is parsed.
    parsed: usize,
    /// The length of the incomplete frame at `parsed`, where its header is there.
    wanted: usize,
    /// So many bytes of an oversized frame are still to be thrown away.
    discard: usize,
    progress: Progress,
    relations: Relations,
    renderer: Renderer,
    filter: Filter,
    /// What to do with messages; `None` where they were not asked for.
    messages: Option<MessageRules>,
    limits: Limits,
    /// The newest LSN that the server has named.
    received: Lsn,
    /// How many descriptions of tables the server has sent.
    described: u64,
    /// The number of the description that [`Step::Describe`] gave.
    describing: u64,
    /// Streamed transactions, where they were asked for.
    spool: Option<Spool>,
    /// The streamed transaction that is being handed over.
    replay: Option<Replay>,
}

fn not_understood(what: impl std::fmt::Display, at: Lsn) -> Error {
    Error::fatal(
        Origin::Source,
        codes::NOT_UNDERSTOOD,
        format!("the log cannot be understood at LSN {at}: {what}"),
    )
    .with_remedy("nothing was skipped; report this with the server's version")
}

/// A value came in binary of which no text can be made.
fn not_text(table: &str) -> Error {
    Error::transient(
        Origin::Source,
        codes::NOT_IN_BINARY,
        format!("a value of {table} came in a binary form that cannot be put into text"),
    )
    .with_remedy("nothing: the connector goes on with values as text")
}

impl Assembler {
    /// Starts at `progress` with an empty batch. `spool` is there where transactions are streamed
    /// before they are complete.
    pub(crate) fn new(
        progress: Progress,
        renderer: Renderer,
        filter: Filter,
        limits: Limits,
        spool: Option<Spool>,
    ) -> Self {
        let limits = Limits {
            // Spans are 32 bits wide, and a message has at most one gigabyte.
            batch_bytes: limits.batch_bytes.min(256 << 20),
            // The protocol's own messages must pass.
            max_event: limits.max_event.max(1024),
            ..limits
        };
        let mut assembler = Self {
            batch: Batch::default(),
            text: Vec::new(),
            parsed: 0,
            wanted: 0,
            discard: 0,
            progress,
            relations: Relations::default(),
            renderer,
            filter,
            messages: None,
            limits,
            received: Lsn(0),
            described: 0,
            describing: 0,
            spool,
            replay: None,
        };
        assembler.make_room();
        assembler
    }

    /// The buffer to append received bytes to, with room for at least one read.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        self.make_room();
        &mut self.batch.bytes
    }

    /// Notes when the newest bytes came, in microseconds since 1970.
    pub(crate) fn received_at(&mut self, ts_us: i64) {
        self.batch.received_ts_us = ts_us;
    }

    /// The newest LSN that the server has named.
    pub(crate) fn received(&self) -> Lsn {
        self.received
    }

    /// Renders positions by this from here on.
    pub(crate) fn render_by(&mut self, renderer: Renderer) {
        self.renderer = renderer;
    }

    /// A place as a position.
    pub(crate) fn position(&self, (confirm, in_tx): (Lsn, Option<InTx>)) -> Position {
        self.renderer.position(confirm, in_tx)
    }

    /// Whether the batch holds entries.
    pub(crate) fn has_entries(&self) -> bool {
        !self.batch.entries.is_empty()
    }

    /// The end of the last whole transaction, and how far inside the next one everything is parsed.
    pub(crate) fn place(&self) -> (Lsn, Option<InTx>) {
        self.progress.place()
    }

    fn make_room(&mut self) {
        let len = self.batch.bytes.len();
        let frame = self.parsed.saturating_add(self.wanted);
        let capacity = frame.max(self.limits.batch_bytes).max(CHANGE_HEAD);
        if self.batch.bytes.capacity() < capacity || len == self.batch.bytes.capacity() {
            self.batch.bytes.reserve_exact(capacity.saturating_sub(len).max(1));
        }
    }

    /// Parses what was received.
    ///
    /// # Errors
    /// Fatal where the stream is not understood; whatever the server's own error says.
    pub(crate) fn advance(&mut self) -> Result<Step> {
        loop {
            if self.discard > 0 && !self.throw_away() {
                return Ok(Step::More);
            }
            let is_replaying = self.replay.is_some();
            // Out of the batch while parsing, so that messages can borrow it.
            let bytes = std::mem::take(&mut self.batch.bytes);
            let step = if is_replaying { self.records(&bytes) } else { self.parse(&bytes) };
            self.batch.bytes = bytes;
            match step? {
                Step::More if self.discard > 0 => {}
                Step::More if is_replaying => {
                    if let Some(step) = self.refill()? {
                        return Ok(step);
                    }
                }
                Step::More if self.replay.is_some() => self.begin_replay(),
                Step::More => return Ok(self.more()),
                step => return Ok(step),
            }
        }
    }

    /// Drops received bytes of an oversized frame; whether all of it is gone.
    fn throw_away(&mut self) -> bool {
        let held = self.batch.bytes.len().saturating_sub(self.parsed);
        let now = held.min(self.discard);
        let end = self.parsed.saturating_add(now).min(self.batch.bytes.len());
        self.batch.bytes.drain(self.parsed.min(end)..end);
        self.discard -= now;
        self.discard == 0
    }

    /// Everything whole is parsed: may more be read into this batch?
    fn more(&mut self) -> Step {
        if !self.has_entries() {
            // Nothing points into the buffer: what was parsed must not make it grow.
            self.batch.bytes.drain(..self.parsed.min(self.batch.bytes.len()));
            self.parsed = 0;
            return Step::More;
        }
        let spare = self.batch.bytes.capacity().saturating_sub(self.batch.bytes.len());
        let fits = self.parsed.saturating_add(self.wanted) <= self.batch.bytes.capacity();
        // A nearly full buffer would only be good for a small read.
        if fits && spare >= self.limits.batch_bytes / 16 { Step::More } else { Step::Full }
    }

    fn is_full(&self) -> bool {
        self.batch.entries.len() >= self.limits.batch_rows
            || (self.parsed.saturating_add(self.text.len()) >= self.limits.batch_bytes
                && self.has_entries())
    }

    /// Parses frames until something must be done.
    fn parse(&mut self, bytes: &[u8]) -> Result<Step> {
        loop {
            if self.is_full() {
                return Ok(Step::Full);
            }
            self.wanted = 0;
            let rest = bytes.get(self.parsed..).unwrap_or_default();
            let Some((&[tag, len @ ..], body)) = rest.split_first_chunk::<FRAME_HEADER>() else {
                return Ok(Step::More);
            };
            let body_len = usize::try_from(u32::from_be_bytes(len))
                .ok()
                .and_then(|len| len.checked_sub(4))
                .ok_or_else(|| not_understood("a frame without a length", self.received))?;
            if tag == tag::COPY_DATA && body_len > self.limits.max_event + self.segment_overhead() {
                return self.oversized(rest, FRAME_HEADER + body_len);
            }
            let Some(body) = body.get(..body_len) else {
                self.wanted = FRAME_HEADER + body_len;
                return Ok(Step::More);
            };
            self.parsed += FRAME_HEADER + body_len;
            if let Some(step) = self.frame(tag, body)? {
                return Ok(step);
            }
        }
    }

    #[inline]
    fn frame(&mut self, tag: u8, body: &[u8]) -> Result<Option<Step>> {
        match tag {
            tag::COPY_DATA => match body.split_first() {
                Some((b'w', xlog)) => {
                    let (start, message) = self.xlog_data(xlog)?;
                    if self.spool.is_some()
                        && let Some(step) = self.streamed(message, start)?
                    {
                        return Ok(step);
                    }
                    self.message(message, start)
                }
                Some((b'k', keepalive)) => self.keepalive(keepalive),
                _ => Err(not_understood("a CopyData of unknown kind", self.received)),
            },
            tag::NOTICE => {
                stream_notice(body)?;
                Ok(None)
            }
            tag::PARAMETER_STATUS => Ok(None),
            // The server stops on its own: the end of the copy, or of the command.
            tag::COPY_DONE | tag::COMMAND_COMPLETE => Ok(Some(Step::Ended)),
            tag::ERROR => Err(server_error(body, "streaming changes")),
            _ => Err(not_understood("a frame of unknown type", self.received)),
        }
    }

    /// Takes the header off an XLogData: where its message stands, and the message.
    #[inline]
    fn xlog_data<'a>(&mut self, body: &'a [u8]) -> Result<(Lsn, &'a [u8])> {
        let head = body.split_first_chunk::<8>().and_then(|(start, rest)| {
            let (_wal_end_and_clock, message) = rest.split_first_chunk::<16>()?;
            Some((Lsn(u64::from_be_bytes(*start)), message))
        });
        let (start, message) =
            head.ok_or_else(|| not_understood("an XLogData without a header", self.received))?;
        self.received = self.received.max(start);
        Ok((start, message))
    }

    fn keepalive(&mut self, body: &[u8]) -> Result<Option<Step>> {
        let parts = body.split_first_chunk::<8>().and_then(|(end, rest)| {
            let (_clock, rest) = rest.split_first_chunk::<8>()?;
            Some((Lsn(u64::from_be_bytes(*end)), *rest.first()?))
        });
        let (wal_end, reply) =
            parts.ok_or_else(|| not_understood("a keepalive too short", self.received))?;
        self.received = self.received.max(wal_end);
        if self.segment().is_none() {
            self.progress.idle(wal_end);
        }
        Ok((reply == 1).then_some(Step::Reply))
    }

    #[inline]
    fn message(&mut self, message: &[u8], at: Lsn) -> Result<Option<Step>> {
        let refused = |error: ParseError| not_understood(error, at);
        let misplaced = |what: &'static str| not_understood(what, at);
        match pgoutput::parse(message).map_err(refused)? {
            Message::Row(row) => self.row(&row, at)?,
            Message::Begin(begin) => self.progress.begin(begin).map_err(misplaced)?,
            Message::Commit(commit) => {
                self.received = self.received.max(commit.end_lsn);
                self.progress.commit(commit).map_err(misplaced)?;
            }
            Message::Relation(relation) => {
                let number = self.described;
                self.described += 1;
                return Ok(self.relation(relation, number));
            }
            Message::Truncate(truncate) => self.truncate(&truncate, at)?,
            Message::Origin(name) => self.progress.origin(name).map_err(misplaced)?,
            Message::Logical(message) => self.logical(&message, at)?,
            Message::Type | Message::Aborted => {}
        }
        Ok(None)
    }

    /// Takes a description in; the server had sent `number` others before it.
    fn relation(&mut self, message: RelationMessage, number: u64) -> Option<Step> {
        self.relations.describes(message.oid);
        if self.relations.is_known(&message, number) {
            return None;
        }
        if (self.filter)(&message.schema, &message.name) {
            self.describing = number;
            return Some(Step::Describe(message));
        }
        self.relations.learn(message, number, None);
        None
    }

    /// Whether the changes of the table with this oid are described by this very version.
    pub(crate) fn is_in_force(&self, oid: u32, table: &Arc<Table>) -> bool {
        self.relations.table(oid).is_some_and(|known| Arc::ptr_eq(known, table))
    }

    /// Keeps the table made of a [`Step::Describe`].
    pub(crate) fn learn(&mut self, message: RelationMessage, described: impl Into<Described>) {
        self.relations.learn(message, self.describing, Some(described.into()));
    }

    #[inline]
    fn row(&mut self, row: &RowChange<'_>, at: Lsn) -> Result<()> {
        let Some((index, number, columns)) = self.count(row.oid, at)? else { return Ok(()) };
        let end = u32::try_from(self.parsed).map_err(|_| not_understood("too many bytes", at))?;
        let (cells, binary) = (&mut self.batch.cells, self.relations.binary(number));
        let images = row.images_in_text(columns, end, cells, binary, &mut self.text);
        let images = images.map_err(|error| {
            let name = self.relations.name(number);
            if error == NOT_TEXT {
                not_text(&name)
            } else {
                not_understood(format_args!("{error}, {name}"), at)
            }
        })?;
        let change = self.change(row.op, number, index, at)?;
        let change = Change { before: images.before, after: images.after, ..change };
        self.batch.entries.push(Entry::Change(change));
        Ok(())
    }

    /// Counts one raw change of a table; its index, table and columns where it is handed over.
    #[inline]
    fn count(&mut self, oid: u32, at: Lsn) -> Result<Option<(u64, usize, usize)>> {
        let (index, due) = self.progress.count_change().map_err(|what| not_understood(what, at))?;
        self.relations.row_of(oid);
        match self.relations.find(oid) {
            Some(Wanted::Yes { number, columns }) => Ok(due.then_some((index, number, columns))),
            Some(Wanted::Exposed(number)) if due => Err(self.exposed(number, at)),
            Some(Wanted::No | Wanted::Exposed(_)) => Ok(None),
            None => Err(not_understood("a change of a table that was not described", at)),
        }
    }

    fn exposed(&self, number: usize, at: Lsn) -> Error {
        let refusal = self.relations.refusal(number);
        refusal.unwrap_or_else(|| not_understood("a table that is hidden for no reason", at))
    }

    /// Has hidden columns looked after.
    pub(crate) fn watch(&mut self, family: Family) {
        self.relations.watch(family);
    }

    /// A change without images.
    #[inline]
    fn change(&mut self, op: Op, number: usize, index: u64, at: Lsn) -> Result<Change> {
        let Batch { tables, txs, text, .. } = &mut self.batch;
        let table = self
            .relations
            .slot(number, tables)
            .ok_or_else(|| not_understood("too many tables in a batch", at))?;
        let tx = self.progress.transaction(txs, text).map_err(|what| not_understood(what, at))?;
        Ok(Change { op, table, tx, offset: at.0, index, part: None, before: None, after: None })
    }

    /// One event per table, all in this batch and all with one index.
    fn truncate(&mut self, truncate: &Truncate<'_>, at: Lsn) -> Result<()> {
        let (index, due) = self.progress.count_change().map_err(|what| not_understood(what, at))?;
        self.relations.forget_described();
        let several = truncate.len() > 1;
        for (part, oid) in (0_u32..).zip(truncate.oids()) {
            let number = match self.relations.find(oid) {
                Some(Wanted::Yes { number, .. }) if due => number,
                Some(Wanted::Exposed(number)) if due => return Err(self.exposed(number, at)),
                Some(_) => continue,
                None => return Err(not_understood("a truncate of a table not described", at)),
            };
            let change = self.change(Op::Truncate, number, index, at)?;
            let change = Change { part: several.then_some(part), ..change };
            self.batch.entries.push(Entry::Change(change));
        }
        Ok(())
    }

    /// A frame above the limit: its head says whose change it is, the rest is never held.
    fn oversized(&mut self, rest: &[u8], frame: usize) -> Result<Step> {
        let needed = self.head_len(rest).min(frame);
        let head = rest.get(..needed).and_then(|head| {
            let (_, body) = head.split_first_chunk::<FRAME_HEADER>()?;
            body.split_first()
        });
        let Some((&kind, xlog)) = head else {
            self.wanted = needed;
            return Ok(Step::More);
        };
        if kind != b'w' {
            return Err(not_understood("a large CopyData of unknown kind", self.received));
        }
        let (at, message) = self.xlog_data(xlog)?;
        if self.segment().is_some() {
            self.set_oversized_aside(message, frame, at)?;
        } else {
            self.oversized_message(message, frame, at)?;
        }
        self.discard = frame;
        Ok(Step::More)
    }

    /// A message above the limit, of which only the beginning is there.
    fn oversized_message(&mut self, message: &[u8], frame: usize, at: Lsn) -> Result<()> {
        match message.split_first() {
            Some((b'I' | b'U' | b'D', _)) => self.poison(message, frame, at),
            Some((b'M', _)) => self.oversized_logical(message, frame, at),
            _ => Err(not_understood("a large message that is no row change", at)),
        }
    }

    fn poison(&mut self, message: &[u8], frame: usize, at: Lsn) -> Result<()> {
        let Ok(Message::Row(row)) = pgoutput::parse(message) else {
            return Err(not_understood("a large message that is no row change", at));
        };
        let Some((index, number, _)) = self.count(row.oid, at)? else { return Ok(()) };
        let change = self.change(row.op, number, index, at)?;
        let reason = format!(
            "the change is {frame} bytes in the log, above max_event ({} bytes)",
            self.limits.max_event
        );
        let remedy = "raise `max_event`, which lets this change pass too; first the sink's own limits: existing \
             Kafka topics refuse larger records until their max.message.bytes is raised (RT3007)";
        let poisoned = Poisoned { change, code: codes::EVENT_TOO_LARGE, reason, remedy };
        self.batch.entries.push(Entry::Poisoned(Box::new(poisoned)));
        Ok(())
    }

    /// Takes the batch, with the position after it, and goes on in `next`, an empty one.
    pub(crate) fn take(&mut self, next: Batch) -> Batch {
        let mut batch = std::mem::replace(&mut self.batch, next);
        let tail = batch.bytes.get(self.parsed..).unwrap_or_default();
        let len = self.wanted.max(tail.len()).max(self.limits.batch_bytes);
        if self.batch.bytes.capacity() < len {
            self.batch.bytes.reserve_exact(len);
        }
        self.batch.bytes.extend_from_slice(tail);
        self.batch.received_ts_us = batch.received_ts_us;
        batch.bytes.truncate(self.parsed);
        self.append_text(&mut batch);
        self.parsed = 0;
        self.relations.new_batch();
        self.progress.new_batch();
        let (confirm, in_tx) = self.progress.place();
        batch.resume = Some(self.renderer.position(confirm, in_tx));
        batch
    }

    /// Puts the text of values that came in binary where their cells can point to it.
    fn append_text(&mut self, batch: &mut Batch) {
        if self.text.is_empty() {
            return;
        }
        // Below 2^31: a batch ends at 256 MB and one event more.
        let base = u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX);
        for cell in &mut batch.cells {
            if let Cell::Value(span) = cell
                && span.start & IN_TEXT != 0
            {
                span.start = (span.start & !IN_TEXT).saturating_add(base);
            }
        }
        batch.bytes.extend_from_slice(&self.text);
        self.text.clear();
        self.text.shrink_to(self.limits.batch_bytes);
    }

    /// The bytes after the last whole frame; `None` in the middle of one being thrown away.
    pub(crate) fn into_unread(self) -> Option<Vec<u8>> {
        let Self { batch: Batch { mut bytes, .. }, parsed, discard, replay, .. } = self;
        if let Some(replay) = replay {
            return Some(replay.into_unread());
        }
        bytes.drain(..parsed.min(bytes.len()));
        (discard == 0).then_some(bytes)
    }

    /// A batch of progress alone. Only where the batch at hand holds no entries.
    pub(crate) fn progress(&self) -> Batch {
        let (confirm, in_tx) = self.progress.place();
        Batch {
            resume: Some(self.renderer.position(confirm, in_tx)),
            received_ts_us: self.batch.received_ts_us,
            ..Batch::default()
        }
    }
}

#[cfg(test)]
mod tests;
