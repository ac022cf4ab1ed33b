//! Makes batches of events. No I/O: what needs any is asked for as a [`Step`].
//!
//! Events come from three places, and are treated alike: from the connection, out of a packed
//! transaction, and back from where a transaction was held until its end was known.

mod altered;
mod begins;
mod held;
mod packed;
mod pile;
mod rows;
mod statements;

use std::sync::Arc;

use rowtide_sdk::{Batch, Error, Hiding, KnownTable, Limits, Origin, Result, Sightings, Table};

use self::altered::AlteredTables;
use self::held::Replay;
use self::held::Store;
use self::packed::Packed;
pub(crate) use self::pile::Fill;
use super::progress::{Begin, Name, Place, Progress};
use super::tables::Tables;
use crate::binlog::Parsed;
use crate::binlog::compressed::{Unpacked, plain_kind, unpack};
use crate::binlog::event::{Format, Header, kind};
use crate::binlog::group::{self, GtidEvent, MariadbGtidEvent, MariadbXa, Rotate, XaPrepare};
use crate::binlog::table_map::{NamedType, TableMap};
use crate::codes;
use crate::config::NameCase;
use crate::gtid::mysql::GtidSet;
use crate::position::{Altered, MyPosition, another_file};

/// What must be done before more is taken in.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing: the next event may come.
    More,
    /// The batch is full and is to be taken.
    Full,
    /// A captured table is described: give it back with [`Assembler::learn`].
    Describe(Box<TableMap>),
    /// A captured table was emptied of which nothing was described yet: as for `Describe`.
    DescribeNamed(String, String),
    /// Something of what is held must go to disk: see [`Assembler::largest`].
    Spill,
    /// More of what is held is wanted from its file.
    Fill(Fill),
    /// Which of these tables are not transactional, by schema and name: see [`Assembler::stays`].
    Engines(Vec<(String, String)>),
}

/// Chooses the tables whose changes are handed over, by schema and name.
pub(crate) type Filter = Box<dyn Fn(&str, &str) -> bool + Send>;

/// How much of a batch there was when a transaction began.
#[derive(Debug, Clone, Copy)]
struct Mark {
    batch: u64,
    entries: usize,
    cells: usize,
    bytes: usize,
}

/// A table that a statement changed.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    pub(crate) schema: String,
    /// Empty for all of the schema.
    pub(crate) name: String,
    /// Which columns are UUIDs or addresses, where it is new and the statement tells.
    pub(crate) addresses: Option<Vec<(String, NamedType)>>,
}

/// Takes a stream apart.
pub(crate) struct Assembler {
    batch: Batch,
    /// Counts batches.
    number: u64,
    format: Format,
    /// Where the event at hand begins, and the file that the stream is in.
    place: Place,
    /// Where the event at hand ends.
    end: Place,
    /// Whether the stream came to the file from the end of the one before, and nothing followed yet.
    is_new_file: bool,
    /// Whether the server is MariaDB.
    is_mariadb: bool,
    names: NameCase,
    /// Whether the open transaction has an end of its own, beyond the statement at hand.
    is_block: bool,
    progress: Progress,
    tables: Tables,
    filter: Filter,
    limits: Limits,
    /// See [`Assembler::with_row_events`].
    row_event: usize,
    /// The TABLE_MAP that [`Step::Describe`] is about.
    describing: Vec<u8>,
    /// See [`Assembler::with_leaps`].
    leaps: Option<Vec<String>>,
    /// See [`Assembler::take_times`].
    times: Vec<(String, u32)>,
    newest: u32,
    /// See [`Assembler::take_changed`].
    changed: Vec<Changed>,
    /// A TRUNCATE that waits for its table.
    truncating: Option<String>,
    /// How much of a statement is put on its changes.
    statement_bytes: usize,
    /// Whether comments of statements are put on events.
    mark: Option<Mark>,
    packed: Packed,
    store: Store,
    replay: Option<Replay>,
    /// A packed event in its plain form.
    plain: Vec<u8>,
    altered: AlteredTables,
    /// What settings hide, and where new names are noted.
    hidden: Option<(Hiding, Sightings)>,
    /// See [`Assembler::with_purged`].
    purged: GtidSet,
}

/// What there is room for around the images of a row that is as large as it may be: a table's description
/// of a few thousand columns.
const AROUND: usize = 1 << 20;

impl Assembler {
    /// Starts at `progress` with an empty batch.
    pub(crate) fn new(
        progress: Progress,
        filter: Filter,
        limits: Limits,
        is_mariadb: bool,
    ) -> Self {
        let place = progress.place().clone();
        let limits = Limits {
            // Spans are 32 bits wide, and an event has at most one gigabyte.
            batch_bytes: limits.batch_bytes.min(256 << 20),
            max_event: limits.max_event.max(1024),
            ..limits
        };
        Self {
            batch: Batch::default(),
            number: 0,
            format: Format::initial(true),
            end: place.clone(),
            place,
            is_new_file: false,
            is_mariadb,
            names: NameCase::Kept,
            is_block: false,
            progress,
            tables: Tables::default(),
            filter,
            describing: Vec::new(),
            leaps: None,
            times: Vec::new(),
            newest: 0,
            changed: Vec::new(),
            truncating: None,
            statement_bytes: 0,
            mark: None,
            packed: Packed::default(),
            store: Store::new(limits.spool_memory),
            limits,
            row_event: 0,
            replay: None,
            plain: Vec::new(),
            altered: AlteredTables::default(),
            hidden: None,
            purged: GtidSet::default(),
        }
    }

    /// Notes new names of tables of which settings hide something.
    pub(crate) fn with_hidden(self, hiding: Option<Hiding>, sightings: Sightings) -> Self {
        Self { hidden: hiding.map(|hiding| (hiding, sightings)), ..self }
    }

    /// Puts so many bytes of each statement on its changes.
    pub(crate) fn with_statements(self, bytes: u16) -> Self {
        Self { statement_bytes: bytes.into(), ..self }
    }

    /// Begins with what was saved of tables, and what became of them since.
    pub(crate) fn with_known(self, known: &[KnownTable], altered: &Altered) -> Self {
        Self { tables: Tables::new(known), altered: AlteredTables::new(known, altered), ..self }
    }

    /// A table as the log has it.
    pub(crate) fn as_logged(&self, table: Arc<Table>) -> Arc<Table> {
        self.tables.as_logged(table)
    }

    /// For a stream in which transactions may be left out; in these files so many bytes of them that where
    /// the next one is stays unclear.
    pub(crate) fn with_leaps(self, leaps: Option<Vec<String>>) -> Self {
        Self { leaps, ..self }
    }

    /// For a server that puts several rows into an event of up to so many bytes.
    pub(crate) fn with_row_events(self, bytes: usize) -> Self {
        Self { row_event: bytes, ..self }
    }

    /// For a server whose log lacks these transactions, which it has: they are before every file, and the
    /// files that were made before the server was told of them do not say so.
    pub(crate) fn with_purged(self, purged: GtidSet) -> Self {
        Self { purged, ..self }
    }

    /// For a server that does this with the case of names.
    pub(crate) fn with_names(self, names: NameCase) -> Self {
        Self { names, ..self }
    }

    fn not_understood(&self, what: impl std::fmt::Display) -> Error {
        let Place { file, pos } = &self.place;
        let message = format!("the log cannot be understood at {file}:{pos}: {what}");
        Error::fatal(Origin::Source, codes::NOT_UNDERSTOOD, message)
            .with_remedy("nothing was skipped; report this with the server's version")
    }

    fn parsed<T>(&self, parsed: Parsed<T>) -> Result<T> {
        parsed.map_err(|error| self.not_understood(error))
    }

    /// Whether the connection's event at hand, or what was held, has more to be taken in.
    pub(crate) fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// Whether entries are held in the batch.
    pub(crate) fn has_entries(&self) -> bool {
        !self.batch.entries.is_empty()
    }

    /// When the newest bytes were read, in microseconds since 1970.
    pub(crate) fn received_at(&mut self, us: i64) {
        self.batch.received_ts_us = us;
    }

    /// Where the event at hand begins.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What statements changed since this was asked last, in order.
    pub(crate) fn take_changed(&mut self) -> Vec<Changed> {
        std::mem::take(&mut self.changed)
    }

    /// The files that were read since this was asked last, with the time of the newest event that was read of
    /// each, in seconds since 1970.
    pub(crate) fn take_times(&mut self) -> Vec<(String, u32)> {
        self.end_time();
        std::mem::take(&mut self.times)
    }

    fn end_time(&mut self) {
        let newest = std::mem::take(&mut self.newest);
        if newest > 0 {
            self.times.push((self.place.file.clone(), newest));
        }
    }

    /// The place in the log.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    fn is_full(&self) -> bool {
        self.batch.entries.len() >= self.limits.batch_rows
            || self.batch.bytes.len().saturating_add(self.batch.text.len())
                >= self.limits.batch_bytes
    }

    /// What follows an event that was taken in.
    fn next(&self) -> Step {
        if self.is_full() && self.has_entries() {
            Step::Full
        } else if self.store.is_over() {
            Step::Spill
        } else {
            Step::More
        }
    }

    /// Takes in an event of the connection, whole.
    ///
    /// # Errors
    /// Where it is not understood, or says that changes are missing.
    pub(crate) fn event(&mut self, event: &[u8]) -> Result<Step> {
        let header = self.parsed(Header::parse(event))?;
        if header.kind == kind::FORMAT_DESCRIPTION {
            return self.format_description(&header, event);
        }
        if header.kind == kind::ROTATE {
            let body = self.parsed(self.format.rotate_body(&header, event))?;
            return self.rotate(&header, body);
        }
        let body = self.parsed(self.format.body(&header, event))?;
        self.advance(&header);
        if header.kind == kind::TRANSACTION_PAYLOAD {
            return Ok(self.payload(body));
        }
        let step = self.taken(&header, body)?;
        Ok(self.or_next(step))
    }

    fn or_next(&self, step: Option<Step>) -> Step {
        step.unwrap_or_else(|| self.next())
    }

    /// Moves to the event with this header.
    fn advance(&mut self, header: &Header) {
        if header.log_pos == 0 || header.is_artificial() {
            return;
        }
        self.newest = self.newest.max(header.timestamp);
        self.leap(header);
        self.end.advance(header.log_pos);
        self.place.pos = self.end.pos.saturating_sub(u64::from(header.size));
    }

    /// Goes to where a transaction begins, before which the server may have left others out.
    fn leap(&mut self, header: &Header) {
        let Some(large) = &self.leaps else { return };
        let begins = matches!(header.kind, kind::GTID | kind::GTID_TAGGED | kind::MARIADB_GTID);
        let is_large = large.contains(&self.end.file);
        if begins && self.end.leap(header.log_pos.wrapping_sub(header.size), is_large) {
            self.progress.make_vague();
        }
    }

    fn format_description(&mut self, header: &Header, event: &[u8]) -> Result<Step> {
        self.format = self.parsed(Format::parse(event))?;
        if self.progress.file_created(&self.place.file, header.timestamp).is_some() {
            return Err(another_file(&self.place.file));
        }
        self.tables.end_statement();
        // Also where the stream begins behind it.
        self.newest = self.newest.max(header.timestamp);
        if header.log_pos != 0 && !header.is_artificial() {
            self.torn()?;
            self.advance(header);
        }
        Ok(Step::More)
    }

    /// The stream goes on in another file; the server says so at the end of a file, and by itself.
    fn rotate(&mut self, header: &Header, body: &[u8]) -> Result<Step> {
        let Rotate { position, file } = self.parsed(Rotate::parse(body))?;
        if file.rsplit('.').next().is_none_or(|number| number.parse::<u64>().is_err()) {
            return Err(self.not_understood("a malformed name of a file"));
        }
        let place = Place { file: file.to_owned(), pos: position };
        self.torn()?;
        // The end of a file is the last that is written to it.
        self.newest = self.newest.max(header.timestamp);
        self.end_time();
        (self.place, self.end) = (place.clone(), place.clone());
        // What begins a connection says where it begins, which may be before the position.
        if !header.is_artificial() {
            self.progress.pass(place);
            self.is_new_file = true;
        }
        Ok(self.next())
    }

    /// The open transaction, where there is one, has no end: the server stopped in the middle of
    /// writing it.
    fn torn(&mut self) -> Result<()> {
        if !self.progress.is_open() {
            return Ok(());
        }
        self.undo("has no end in the log: the server stopped while it wrote it")?;
        self.progress.drop_open();
        self.store.drop_open();
        Ok(())
    }

    /// Takes the open transaction's changes out of the batch; `why` completes "the transaction …".
    fn undo(&mut self, why: &str) -> Result<()> {
        match self.mark {
            Some(mark) if mark.batch == self.number => {
                self.batch.entries.truncate(mark.entries);
                self.batch.cells.truncate(mark.cells);
                self.batch.bytes.truncate(mark.bytes);
                Ok(())
            }
            _ if !self.progress.has_counted() => Ok(()),
            _ => {
                // What is in the batch at hand is of this transaction alone.
                self.batch.entries.clear();
                let Place { file, pos } = &self.place;
                let message = format!(
                    "the transaction at {file}:{pos} {why}, and a part of it was handed over"
                );
                Err(Error::fatal(Origin::Source, codes::TORN, message).with_remedy(
                    "the events of that transaction did not take effect in the database: take them \
                     back in what they were applied to; then set the position behind it with \
                     `rowtide position set --connector NAME --at PLACE`",
                ))
            }
        }
    }

    /// Takes in an event from its body.
    fn taken(&mut self, header: &Header, body: &[u8]) -> Result<Option<Step>> {
        let Some(plain) = plain_kind(header.kind) else { return self.plain_event(header, body) };
        let mut out = std::mem::take(&mut self.plain);
        out.clear();
        let step = match unpack(header.kind, body, self.event_max(), &mut out) {
            Ok(Unpacked::Whole) => self.plain_event(&Header { kind: plain, ..*header }, &out),
            Ok(Unpacked::TooLarge(size)) => self.oversized_event(header, body, size as u64),
            Err(error) => Err(self.not_understood(error)),
        };
        out.shrink_to(self.limits.batch_bytes);
        self.plain = out;
        step
    }

    /// So large an event is taken in, in bytes. A larger one has a single row, which is above `max_event`.
    pub(crate) fn event_max(&self) -> usize {
        self.limits.max_event.max(self.row_event).saturating_add(AROUND)
    }

    fn plain_event(&mut self, header: &Header, body: &[u8]) -> Result<Option<Step>> {
        match header.kind {
            kind::TABLE_MAP
            | kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1
            | kind::WRITE_ROWS..=kind::DELETE_ROWS
            | kind::PARTIAL_UPDATE_ROWS
            | kind::ROWS_QUERY
            | kind::MARIADB_ANNOTATE_ROWS => return self.in_transaction(header, body),
            kind::GTID | kind::ANONYMOUS_GTID => {
                let is_anonymous = header.kind == kind::ANONYMOUS_GTID;
                let event = self.parsed(GtidEvent::parse(body, is_anonymous))?;
                self.gtid(header, event)?;
            }
            kind::GTID_TAGGED => {
                let event = self.parsed(GtidEvent::parse_tagged(body))?;
                self.gtid(header, event)?;
            }
            kind::MARIADB_GTID => self.mariadb_gtid(header, body)?,
            kind::QUERY => return self.query(header, body),
            kind::XID => return self.committed(),
            kind::XA_PREPARE => return self.prepared(body),
            kind::INCIDENT => return Err(self.incident(body)),
            kind::EXECUTE_LOAD_QUERY | kind::BEGIN_LOAD_QUERY => return Err(self.load_statement()),
            kind::PREVIOUS_GTIDS => self.previous_gtids(body)?,
            kind::STOP
            | kind::HEARTBEAT
            | kind::HEARTBEAT_V2
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::IGNORABLE
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            | kind::MARIADB_BINLOG_CHECKPOINT => {}
            kind::MARIADB_GTID_LIST => self.gtid_list(body)?,
            _ if header.may_be_ignored() => {}
            other => return Err(self.not_understood(format_args!("an event of type {other}"))),
        }
        if !self.progress.is_open() {
            self.progress.pass(self.end.clone());
        }
        Ok(None)
    }

    fn incident(&self, body: &[u8]) -> Error {
        let number = group::incident(body).map_or(0, |(number, _)| number);
        let Place { file, pos } = &self.place;
        let message = format!(
            "the server says at {file}:{pos} that events are missing from its log (incident {number})"
        );
        Error::fatal(Origin::Source, codes::INCIDENT, message).with_remedy(
            "what happened is in the server's error log; bring the target in step with the tables, \
             and set the position behind it with `rowtide position set --connector NAME --at PLACE`",
        )
    }

    fn gtid(&mut self, header: &Header, event: GtidEvent) -> Result<()> {
        let commit_us = event.original_commit_us.or(event.commit_us);
        let commit_us = commit_us.and_then(|us| i64::try_from(us).ok());
        let name = event.gtid.map_or(Name::Place, Name::Mysql);
        self.begin(Begin {
            name,
            commit_us: commit_us.unwrap_or_else(|| micros(header.timestamp)),
            is_direct: !event.may_have_statements,
        })?;
        self.is_block = false;
        Ok(())
    }

    fn mariadb_gtid(&mut self, header: &Header, body: &[u8]) -> Result<()> {
        let event = self.parsed(MariadbGtidEvent::parse(body, header.server_id))?;
        self.begin(Begin {
            name: Name::Mariadb(event.gtid),
            commit_us: micros(header.timestamp),
            // A crash may leave a beginning in the log.
            is_direct: false,
        })?;
        self.is_block = !event.is_standalone && event.xa != Some(MariadbXa::Completes);
        Ok(())
    }

    fn begin(&mut self, begin: Begin) -> Result<()> {
        self.torn()?;
        self.is_new_file = false;
        self.tables.end_statement();
        let start = self.place.clone();
        let what = self.progress.begin(begin, start);
        what.map_err(|what| self.not_understood(what))?;
        self.mark = Some(Mark {
            batch: self.number,
            entries: self.batch.entries.len(),
            cells: self.batch.cells.len(),
            bytes: self.batch.bytes.len(),
        });
        Ok(())
    }

    /// The open transaction took effect.
    fn committed(&mut self) -> Result<Option<Step>> {
        if let Some(held) = self.store.take_open() {
            return self.begin_replay(held);
        }
        self.finish()?;
        Ok(None)
    }

    /// The open transaction is done with.
    fn finish(&mut self) -> Result<()> {
        self.tables.end_statement();
        self.store.drop_open();
        self.is_block = false;
        self.mark = None;
        let end = self.end.clone();
        self.progress.end(end).map_err(|what| self.not_understood(what))
    }

    /// The open transaction's changes belong to an XA transaction.
    fn prepared(&mut self, body: &[u8]) -> Result<Option<Step>> {
        let XaPrepare { is_one_phase, xid } = self.parsed(XaPrepare::parse(body))?;
        if is_one_phase {
            return self.committed();
        }
        let xid = xid.to_string();
        if !self.progress.is_passed() || self.progress.is_pending() {
            self.progress.prepare(xid.clone());
            self.store.keep(xid, &self.place.file);
        }
        self.finish()?;
        Ok(None)
    }

    /// Takes in an event between the beginning and the end of a transaction.
    fn in_transaction(&mut self, header: &Header, body: &[u8]) -> Result<Option<Step>> {
        if !self.progress.is_open() {
            return Err(self.not_understood("a change stands outside a transaction"));
        }
        let is_left_out = self.progress.is_passed() && !self.progress.is_pending();
        if is_left_out {
            return Ok(None);
        }
        if self.progress.is_direct() {
            return self.change_event(header.kind, body, self.place.pos);
        }
        self.store.hold(header.kind, self.place.pos, body);
        Ok(None)
    }

    /// Takes the batch, with the position after it, and goes on in `next`, an empty one.
    ///
    /// # Errors
    /// As [`MyPosition::to_position`].
    pub(crate) fn take(&mut self, next: Batch) -> Result<Batch> {
        let mut batch = std::mem::replace(&mut self.batch, next);
        self.batch.received_ts_us = batch.received_ts_us;
        let hiding = self.hidden.as_ref().map(|(hiding, _)| hiding);
        self.altered.take(&batch, hiding);
        batch.resume = Some(self.position().to_position()?);
        self.number += 1;
        self.tables.new_batch();
        self.progress.new_batch();
        Ok(batch)
    }

    /// The position after what was taken in.
    pub(crate) fn position(&self) -> MyPosition {
        MyPosition { altered: self.altered.saved(), ..self.progress.position() }
    }

    /// A batch of progress alone. Only where the batch at hand holds no entries.
    ///
    /// # Errors
    /// As [`MyPosition::to_position`].
    pub(crate) fn progress_batch(&self) -> Result<Batch> {
        Ok(Batch {
            resume: Some(self.position().to_position()?),
            received_ts_us: self.batch.received_ts_us,
            ..Batch::default()
        })
    }

    /// Whether a table's version is the one that was described last.
    pub(crate) fn is_in_force(&self, table: &Arc<Table>) -> bool {
        let newest = self.tables.newest(&table.schema, &table.name);
        newest.is_some_and(|newest| Arc::ptr_eq(newest, table))
    }
}

/// Seconds as microseconds.
fn micros(seconds: u32) -> i64 {
    i64::from(seconds) * 1_000_000
}
