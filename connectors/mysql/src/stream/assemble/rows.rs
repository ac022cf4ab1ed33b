//! Tables and rows: TABLE_MAP and row events become entries and cells.

use std::sync::Arc;

use rowtide_sdk::{
    Cell, Change, Entry, Error, Image, ImageKind, JsonWriter, Op, Origin, Poisoned, Result, Span,
    Table,
};

use super::held::Replay;
use super::{Assembler, Step};
use crate::binlog::compressed::{plain_kind, unpack_start};
use crate::binlog::event::{HEADER, Header, kind};
use crate::binlog::rows::{Images, Rows, RowsKind, Value};
use crate::binlog::table_map::TableMap;
use crate::charset::Charset;
use crate::codes;
use crate::config::NameCase;
use crate::decode::json;
use crate::statement::tags::Tags;
use crate::statement::{Dialect, Session};
use crate::stream::progress::{Note, Place};
use crate::stream::tables::Known;

/// The number in row events that only end a statement.
const NO_TABLE: u64 = 0xff_ffff;

/// What an image of a row turned out to hold.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    /// Bytes of its values.
    bytes: usize,
    /// Columns that it lacks.
    absent: usize,
    /// Whether a value came as changes to one that the log does not hold.
    lacks_document: bool,
}

/// The first bytes of a text, without a character that would be cut.
fn beginning(text: &[u8], max: usize) -> &[u8] {
    let Some(cut) = text.get(..max) else { return text };
    match std::str::from_utf8(cut) {
        Err(error) if error.error_len().is_none() => cut.get(..error.valid_up_to()).unwrap_or(cut),
        _ => cut,
    }
}

impl Assembler {
    /// Takes in an event of a transaction whose changes may be handed over.
    pub(super) fn change_event(
        &mut self,
        event: u8,
        body: &[u8],
        pos: u64,
    ) -> Result<Option<Step>> {
        match event {
            kind::TABLE_MAP => self.table_map(body),
            kind::ROWS_QUERY => {
                // A length that does not count beyond 255 stands before it.
                self.comment(body.get(1..).unwrap_or_default());
                Ok(None)
            }
            kind::MARIADB_ANNOTATE_ROWS => {
                self.comment(body);
                Ok(None)
            }
            OVERSIZED => self.held_oversized(body, pos).map(|()| None),
            _ => self.rows(event, body, pos).map(|()| None),
        }
    }

    /// What a statement's comment says is put on the changes behind it, and as much of the statement as
    /// was asked for.
    fn comment(&mut self, statement: &[u8]) {
        let kept = beginning(statement, self.statement_bytes);
        let dialect = if self.is_mariadb { Dialect::Mariadb } else { Dialect::Mysql };
        let charset = Some(Charset::Utf8mb4);
        let session = Session { dialect, sql_mode: 0, charset, database: "" };
        let Some(tags) = Tags::of(statement, &session) else {
            self.progress.note(Note { statement: kept, ..Note::default() });
            return;
        };
        let mut annotation = JsonWriter::default();
        for (key, value) in tags.iter().filter(|(key, _)| *key != "traceparent") {
            annotation.byte(if annotation.is_empty() { b'{' } else { b',' });
            annotation.string(key);
            annotation.byte(b':');
            annotation.string(value);
        }
        if !annotation.is_empty() {
            annotation.byte(b'}');
        }
        let traceparent = tags.traceparent().unwrap_or_default();
        self.progress.note(Note {
            traceparent,
            annotation: annotation.as_bytes(),
            statement: kept,
        });
    }

    fn table_map(&mut self, body: &[u8]) -> Result<Option<Step>> {
        let is_known = self.tables.map(body);
        if self.parsed(is_known)? {
            return Ok(None);
        }
        let map = match TableMap::parse(body, self.is_mariadb) {
            Ok(map) => self.in_its_case(map),
            Err(error) => return self.unreadable_map(body, error).map(|()| None),
        };
        if !(self.filter)(&map.schema, &map.name) {
            self.tables.learn(body, map, None);
            return Ok(None);
        }
        body.clone_into(&mut self.describing);
        Ok(Some(Step::Describe(Box::new(map))))
    }

    fn in_its_case(&self, map: TableMap) -> TableMap {
        match self.names {
            NameCase::Kept | NameCase::Lower => map,
            NameCase::Compared => {
                let (schema, name) = (map.schema.to_lowercase(), map.name.to_lowercase());
                TableMap { schema, name, ..map }
            }
        }
    }

    /// A TABLE_MAP that cannot be read matters where its table is captured.
    fn unreadable_map(&mut self, body: &[u8], error: crate::binlog::ParseError) -> Result<()> {
        let Some((mut schema, mut name)) = TableMap::name(body) else {
            return Err(self.not_understood(error));
        };
        if self.names == NameCase::Compared {
            (schema, name) = (schema.to_lowercase(), name.to_lowercase());
        }
        if (self.filter)(&schema, &name) {
            let message = format!("table {schema}.{name} cannot be read from the log: {error}");
            let error = Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message);
            return Err(error.with_remedy(
                "leave the table out (`tables.exclude`); columns of types 140 and 141 are MariaDB's \
                 COMPRESSED ones, which cannot be read",
            ));
        }
        let map = self.parsed(TableMap::id(body)).map(|table_id| TableMap {
            table_id,
            schema,
            name,
            columns: Vec::new(),
            primary_key: None,
        })?;
        self.tables.learn(body, map, None);
        Ok(())
    }

    /// Keeps the table made of a [`Step::Describe`].
    pub(crate) fn learn(&mut self, map: TableMap, table: Arc<Table>) -> Result<()> {
        self.check_columns(&table)?;
        let body = std::mem::take(&mut self.describing);
        self.tables.learn(&body, map, Some(table));
        Ok(())
    }

    /// The table of a row event, by its number in the cache; `None` where it is not captured.
    fn captured(&self, rows: &Rows<'_>) -> Result<Option<usize>> {
        let Some(known) = self.tables.find(rows.table_id) else {
            if rows.table_id == NO_TABLE {
                return Ok(None);
            }
            return Err(self.not_understood("a change of a table that was not described"));
        };
        let is_captured = self.tables.get(known).is_some_and(|known| known.table.is_some());
        Ok(is_captured.then_some(known))
    }

    fn rows(&mut self, event: u8, body: &[u8], pos: u64) -> Result<()> {
        let rows = self.parsed(Rows::parse(event, body))?;
        if let Some(known) = self.captured(&rows)? {
            self.tables.shorten(known, &rows);
            self.images(&rows, known, body, pos)?;
        }
        if rows.ends_statement {
            self.end_statement();
        }
        Ok(())
    }

    /// The numbers of tables and the comment of the statement say nothing of the next one.
    fn end_statement(&mut self) {
        self.tables.end_statement();
        self.progress.note(Note::default());
    }

    /// Passes an event over that was rolled back.
    pub(super) fn leave_out(&mut self, event: u8, body: &[u8]) {
        if Rows::parse(event, body).is_ok_and(|rows| rows.ends_statement) {
            self.end_statement();
        }
    }

    /// Hands the images of a row event over.
    fn images(&mut self, rows: &Rows<'_>, known: usize, body: &[u8], pos: u64) -> Result<()> {
        let mut images = rows.images();
        let base = self.batch.bytes.len();
        self.batch.bytes.extend_from_slice(body.get(images.head_len(body)..).unwrap_or_default());
        let mut is_due = false;
        while images.has_more() {
            let (index, due) =
                self.progress.next_change().map_err(|what| self.not_understood(what))?;
            let first = self.batch.cells.len();
            let change = self.change(rows.kind, known, index, pos)?;
            let change = self.row(&mut images, known, base, change)?;
            self.progress.count_change();
            if due {
                self.batch.entries.push(change);
                is_due = true;
            } else {
                self.batch.cells.truncate(first);
            }
        }
        if !is_due {
            // All of it was handed over in an earlier session.
            self.batch.bytes.truncate(base);
        }
        Ok(())
    }

    fn change(&mut self, rows: RowsKind, known: usize, index: u64, pos: u64) -> Result<Change> {
        let op = match rows {
            RowsKind::Write => Op::Create,
            RowsKind::Update | RowsKind::PartialUpdate => Op::Update,
            RowsKind::Delete => Op::Delete,
        };
        let tx = self.progress.transaction(&mut self.batch.txs, &mut self.batch.text);
        let tx = tx.map_err(|what| self.not_understood(what))?;
        let table = self.tables.slot(known, &mut self.batch.tables);
        let table = table.ok_or_else(|| self.not_understood("too many tables in a batch"))?;
        Ok(Change { op, table, tx, offset: pos, index, part: None, before: None, after: None })
    }

    /// Reads a row's image or pair of images.
    fn row(
        &mut self,
        images: &mut Images<'_>,
        known: usize,
        base: usize,
        change: Change,
    ) -> Result<Entry> {
        let mut change = change;
        let mut bytes = 0;
        if change.op != Op::Create {
            let (image, found) = self.image(images, known, base, None)?;
            let kind = if found.absent > 0 { ImageKind::Key } else { ImageKind::Row };
            change.before = Some(Image { kind, ..image });
            bytes += found.bytes;
        }
        if change.op != Op::Delete {
            let (image, found) = self.image(images, known, base, change.before)?;
            if found.absent > 0 && change.op == Op::Create {
                return Ok(incomplete(change, INCOMPLETE, INCOMPLETE_REMEDY));
            }
            if found.lacks_document {
                return Ok(incomplete(change, NO_DOCUMENT, NO_DOCUMENT_REMEDY));
            }
            change.after = Some(image);
            bytes += found.bytes;
        }
        if bytes > self.limits.max_event {
            return Ok(self.too_large(change, bytes));
        }
        Ok(Entry::Change(change))
    }

    /// Reads one image; `before` is the one before it of a pair.
    fn image(
        &mut self,
        images: &mut Images<'_>,
        known: usize,
        base: usize,
        before: Option<Image>,
    ) -> Result<(Image, Found)> {
        let first = self.batch.cells.len();
        let first_cell = u32::try_from(first);
        let first_cell = first_cell.map_err(|_| self.not_understood("too many cells"))?;
        let Some(Known { map, table: Some(table), .. }) = self.tables.get(known) else {
            return Err(self.not_understood("a change of a table that was not described"));
        };
        // Columns behind the table's are nobody's.
        let columns = table.columns.len();
        let cells = &mut self.batch.cells;
        let (mut found, mut diffs) = (Found::default(), Vec::new());
        let before = before.and_then(|image| usize::try_from(image.first_cell).ok());
        let read = images.next_image(map, |value, end| {
            if cells.len().saturating_sub(first) >= columns {
                return;
            }
            let cell = match value {
                Value::Absent => {
                    found.absent += 1;
                    // What a new row lacks is as it was before, as far as that is there: the key.
                    let column = cells.len().saturating_sub(first);
                    let old = before.map(|before| cells.get(before.saturating_add(column)));
                    match old.map(|cell| cell.copied().unwrap_or(Cell::Absent)) {
                        None => Cell::Absent,
                        Some(Cell::Absent) => Cell::Unchanged,
                        Some(cell) => cell,
                    }
                }
                Value::Null => Cell::Null,
                Value::Bytes(bytes) => {
                    found.bytes += bytes.len();
                    let start = base.saturating_add(end).saturating_sub(bytes.len());
                    // Batches end far below 2^32 bytes.
                    let span = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
                    Cell::Value(Span { start: span(start), len: span(bytes.len()) })
                }
                Value::JsonDiff(bytes) => {
                    diffs.push((cells.len().saturating_sub(first), bytes));
                    Cell::Null
                }
            };
            cells.push(cell);
        });
        self.parsed(read)?;
        for (column, diff) in diffs {
            found.lacks_document |= !self.apply(first, column, diff, before)?;
        }
        Ok((Image { first_cell, kind: ImageKind::Row }, found))
    }

    /// Puts a JSON value together that came as changes to the one before; whether that is there.
    fn apply(
        &mut self,
        first: usize,
        column: usize,
        diff: &[u8],
        before: Option<usize>,
    ) -> Result<bool> {
        let old = before.and_then(|at| self.batch.cells.get(at.saturating_add(column)).copied());
        let Some(Cell::Value(span)) = old else {
            return Ok(false);
        };
        let old = span.of(&self.batch.bytes).to_vec();
        let start = self.batch.bytes.len();
        let made = json::updated(&old, diff, &mut self.batch.bytes);
        made.map_err(|error| self.not_understood(error))?;
        let len = self.batch.bytes.len().saturating_sub(start);
        let span = u32::try_from(start).ok().zip(u32::try_from(len).ok());
        let (start, len) = span.ok_or_else(|| self.not_understood("too many bytes"))?;
        if let Some(cell) = self.batch.cells.get_mut(first.saturating_add(column)) {
            *cell = Cell::Value(Span { start, len });
        }
        Ok(true)
    }

    fn too_large(&self, change: Change, bytes: usize) -> Entry {
        let reason = format!(
            "the change is {bytes} bytes in the log, above max_event ({} bytes)",
            self.limits.max_event
        );
        poisoned(change, codes::EVENT_TOO_LARGE, reason, TOO_LARGE_REMEDY)
    }

    /// A row event above the limit, of which only the beginning is there: the server puts one row into
    /// an event that is larger than `binlog_row_event_max_size`, to which the limit is raised. Where it
    /// does not say so (MariaDB before 11.2), an event of several rows is not taken for one.
    ///
    /// # Errors
    /// As [`Assembler::event`].
    pub(crate) fn oversized(&mut self, head: &[u8], size: u64) -> Result<Step> {
        let header = self.parsed(Header::parse(head))?;
        self.advance(&header);
        let step = self.oversized_event(&header, head.get(HEADER..).unwrap_or_default(), size)?;
        Ok(self.or_next(step))
    }

    /// The same, wherever it comes from; `body` is the beginning of its body.
    pub(super) fn oversized_event(
        &mut self,
        header: &Header,
        body: &[u8],
        size: u64,
    ) -> Result<Option<Step>> {
        if matches!(header.kind, kind::ROWS_QUERY | kind::MARIADB_ANNOTATE_ROWS) {
            // The text of a statement, which is told beside its rows alone; its comment is not worth the
            // memory.
            self.progress.note(Note::default());
            return Ok(None);
        }
        let mut start = Vec::new();
        let (plain, body) = match plain_kind(header.kind) {
            Some(plain) => {
                unpack_start(header.kind, body, OVERSIZED_HEAD, &mut start);
                (plain, start.as_slice())
            }
            None => (header.kind, body),
        };
        let Ok(rows) = Rows::parse(plain, body) else {
            let Place { file, pos } = &self.place;
            let message = format!(
                "the event at {file}:{pos} (type {}) is {size} bytes: a statement above max_event, which is \
                 taken in whole",
                header.kind
            );
            return Err(Error::fatal(Origin::Source, codes::EVENT_TOO_LARGE, message)
                .with_remedy("raise `max_event` above it"));
        };
        if self.progress.is_passed() {
            return Ok(None);
        }
        if !self.progress.is_open() {
            return Err(self.not_understood("a change stands outside a transaction"));
        }
        if self.progress.is_direct() {
            self.oversized_rows(&rows, size, self.place.pos)?;
        } else {
            // What it says of itself, and its head.
            let mut record = size.to_le_bytes().to_vec();
            record.push(plain);
            record.extend_from_slice(body.get(..OVERSIZED_HEAD).unwrap_or(body));
            self.store.hold(OVERSIZED, self.place.pos, &record);
        }
        Ok(None)
    }

    /// A row event above the limit that was held.
    fn held_oversized(&mut self, record: &[u8], pos: u64) -> Result<()> {
        let (size, event, head) = oversized_record(record)
            .ok_or_else(|| self.not_understood("a torn record of a large event"))?;
        let rows = self.parsed(Rows::parse(event, head))?;
        self.oversized_rows(&rows, size, pos)
    }

    fn oversized_rows(&mut self, rows: &Rows<'_>, size: u64, pos: u64) -> Result<()> {
        if let Some(known) = self.captured(rows)? {
            if self.has_more_rows(rows, known) {
                return Err(self.too_many_rows(size));
            }
            let (index, due) =
                self.progress.next_change().map_err(|what| self.not_understood(what))?;
            if due {
                let change = self.change(rows.kind, known, index, pos)?;
                let bytes = usize::try_from(size).unwrap_or(usize::MAX);
                let entry = self.too_large(change, bytes);
                self.batch.entries.push(entry);
            }
            self.progress.count_change();
        }
        if rows.ends_statement {
            self.end_statement();
        }
        Ok(())
    }

    /// Whether a row ends in the beginning of an event, and others follow.
    fn has_more_rows(&self, rows: &Rows<'_>, known: usize) -> bool {
        let Some(table) = self.tables.get(known) else { return false };
        let mut images = rows.images();
        let mut ends = || images.next_image(&table.map, |_, _| {}).is_ok();
        ends() && (!rows.kind.has_pairs() || ends()) && images.has_more()
    }

    fn too_many_rows(&self, size: u64) -> Error {
        let Place { file, pos } = &self.place;
        let message = format!(
            "the event at {file}:{pos} is {size} bytes, above max_event, and holds several rows"
        );
        Error::fatal(Origin::Source, codes::EVENT_TOO_LARGE, message).with_remedy(
            "raise `max_event` above the server's binlog_row_event_max_size, up to which it puts rows into one \
             event; older servers do not say what theirs is",
        )
    }

    /// A held row event that was rolled back: the captured table of which it is not known yet whether
    /// its changes stay all the same.
    pub(super) fn unsettled(
        &self,
        event: u8,
        body: &[u8],
        replay: &Replay,
    ) -> Result<Option<(String, String)>> {
        let Some((schema, name)) = self.captured_name(event, body)? else { return Ok(None) };
        let is_known = replay.stays(&schema, &name).is_some();
        Ok((!is_known).then_some((schema, name)))
    }

    /// Whether a held event that was rolled back is taken in all the same.
    pub(super) fn is_kept(&self, event: u8, body: &[u8], replay: &Replay) -> Result<bool> {
        let name = self.captured_name(event, body)?;
        Ok(name.is_none_or(|(schema, name)| replay.stays(&schema, &name) == Some(true)))
    }

    /// The captured table that a row event changes.
    fn captured_name(&self, event: u8, body: &[u8]) -> Result<Option<(String, String)>> {
        let (event, body) = match event {
            OVERSIZED => {
                oversized_record(body).map_or((event, body), |(_, kind, head)| (kind, head))
            }
            event => (event, body),
        };
        let Ok(rows) = Rows::parse(event, body) else { return Ok(None) };
        let known = self.captured(&rows)?.and_then(|known| self.tables.get(known));
        Ok(known.map(|known| (known.map.schema.clone(), known.map.name.clone())))
    }

    /// A captured table was emptied.
    pub(super) fn truncated(&mut self, table: &Arc<Table>) -> Result<()> {
        let (index, due) = self.progress.next_change().map_err(|what| self.not_understood(what))?;
        if !due {
            self.progress.count_change();
            return Ok(());
        }
        let tx = self.progress.transaction(&mut self.batch.txs, &mut self.batch.text);
        let tx = tx.map_err(|what| self.not_understood(what))?;
        let tables = &mut self.batch.tables;
        let at = tables.iter().position(|known| Arc::ptr_eq(known, table));
        let at = at.unwrap_or_else(|| {
            tables.push(Arc::clone(table));
            tables.len().saturating_sub(1)
        });
        let at = u32::try_from(at).map_err(|_| self.not_understood("too many tables"))?;
        self.batch.entries.push(Entry::Change(Change {
            op: Op::Truncate,
            table: at,
            tx,
            offset: self.place.pos,
            index,
            part: None,
            before: None,
            after: None,
        }));
        self.progress.count_change();
        Ok(())
    }
}

/// The type under which the head of a row event above the limit is held: no event has it.
const OVERSIZED: u8 = 0;
/// So much of such an event is held: room for its fixed part, the bitmaps of all columns there can be, and a
/// row that is not large.
const OVERSIZED_HEAD: usize = 64 * 1024;

/// The length, the type and the head of a row event above the limit that was held.
fn oversized_record(record: &[u8]) -> Option<(u64, u8, &[u8])> {
    let (size, rest) = record.split_first_chunk::<8>()?;
    let (event, head) = rest.split_first()?;
    Some((u64::from_le_bytes(*size), *event, head))
}

const TOO_LARGE_REMEDY: &str = "raise `max_event`, which lets this change pass too; first the sink's own limits: \
     max.message.bytes of every existing Kafka topic, also of those with small rows, must be raised to it (RT3007; \
     `rowtide check` lists them)";

const INCOMPLETE: &str = "the log does not hold every column of a new row, and what the others are the server alone knows";
const INCOMPLETE_REMEDY: &str = "set binlog_row_image=FULL on the server, also in sessions that set another; this \
     row is lost to the log: bring the target in step with it, or let `on_violation: dead_letter` go past it";
const NO_DOCUMENT: &str = "a JSON value is in the log as changes to the one before, which the log does not hold \
     (binlog_row_value_options=PARTIAL_JSON without binlog_row_image=FULL)";
const NO_DOCUMENT_REMEDY: &str = "set binlog_row_image=FULL or binlog_row_value_options='' on the server, also in \
     sessions that set another; this row is lost to the log: bring the target in step with it, or let \
     `on_violation: dead_letter` go past it";

fn incomplete(change: Change, reason: &str, remedy: &'static str) -> Entry {
    poisoned(change, codes::ROW_INCOMPLETE, reason.to_owned(), remedy)
}

fn poisoned(
    change: Change,
    code: rowtide_sdk::Code,
    reason: String,
    remedy: &'static str,
) -> Entry {
    let change = Change { before: None, after: None, ..change };
    Entry::Poisoned(Box::new(Poisoned { change, code, reason, remedy }))
}
