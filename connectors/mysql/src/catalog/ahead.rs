//! Looks through the log from a place to its end for statements that change tables.

use std::sync::Arc;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rowtide_sdk::{Error, Origin, Result};

use super::Name;
use crate::binlog::compressed::{Unpacked, plain_kind, unpack};
use crate::binlog::event::{Format, Header, kind};
use crate::binlog::group::{Query, Rotate};
use crate::binlog::{ParseError, Parsed};
use crate::codes;
use crate::config::ConnectOptions;
use crate::error::from_sql;
use crate::statement::{Creation, Dialect, Session, Statement, TableChange, TableName, classify};
use crate::stream::Place;
use crate::wire::{BinlogConnection, Dump, Packet, Start};

/// Statements are not longer than the server takes.
const STATEMENT_MAX: usize = 1 << 30;

/// What a statement may change.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    Table(Name),
    Schema(String),
    /// It is not understood.
    Any,
}

impl Reach {
    fn holds(&self, table: &Name) -> bool {
        match self {
            Self::Table(name) => {
                // Whether names differ by case the server knows; a false alarm only stops.
                name.0.eq_ignore_ascii_case(&table.0) && name.1.eq_ignore_ascii_case(&table.1)
            }
            Self::Schema(schema) => schema.eq_ignore_ascii_case(&table.0),
            Self::Any => true,
        }
    }
}

/// What was found so far. Most tables of a session are asked for soon after its start, so that one pass
/// serves them all.
#[derive(Debug)]
pub(super) struct Ahead {
    options: ConnectOptions,
    dialect: Dialect,
    server_id: u32,
    /// From where to where the log was looked through.
    seen: Option<(Place, Place)>,
    /// The statements in it.
    found: Vec<Found>,
}

/// What must have stayed as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// Everything of the table.
    All,
    /// Which of these columns are UUIDs or addresses.
    Addresses(&'a [&'a str]),
    /// How these columns are stored.
    Storage(&'a [&'a str]),
}

impl Asked<'_> {
    /// Whether a statement may have changed it.
    fn is_touched_by(self, alters: Option<&[u8]>) -> bool {
        let Some(text) = alters else { return true };
        let names_any = |columns: &[&str]| columns.iter().any(|column| may_name(text, column));
        match self {
            Self::All => true,
            Self::Addresses(columns) => may_be_of_addresses(text) && names_any(columns),
            Self::Storage(columns) => names_any(columns),
        }
    }
}

/// A statement that changes tables.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it is.
    pub(super) place: Place,
    /// Where the next event is.
    pub(super) end: Place,
    reach: Reach,
    /// The text of an ALTER TABLE that gives no table another name or other rows: it changes no column that it
    /// does not name.
    alters: Option<Arc<[u8]>>,
}

/// Words without which an ALTER TABLE makes no column a UUID, an address or BINARY, and gives none another
/// name. They may stand in a comment as well: a false alarm only stops.
/// CHAR is BINARY where the table's character set is.
const OF_ADDRESSES: [&[u8]; 9] =
    [b"UUID", b"INET4", b"INET6", b"BINARY", b"BYTE", b"CHAR", b"RENAME", b"CHANGE", b"MODIFY"];

fn may_be_of_addresses(text: &[u8]) -> bool {
    let has = |word: &&[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    OF_ADDRESSES.iter().any(has)
}

/// Whether an ALTER TABLE may name a column. What else it calls so is a false alarm, which only stops.
fn may_name(text: &[u8], column: &str) -> bool {
    // Others have several spellings.
    let is_plain = column.bytes().all(|byte| byte.is_ascii() && !matches!(byte, b'`' | b'"'));
    // What is not ASCII may be white space in the session's character set.
    let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    let is_alone = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        let behind = text.get(at.saturating_add(column.len()));
        !before.into_iter().chain(behind).any(|byte| is_of_word(*byte))
    };
    let mut parts = text.windows(column.len().max(1)).enumerate();
    !is_plain
        || parts.any(|(at, part)| part.eq_ignore_ascii_case(column.as_bytes()) && is_alone(at))
}

/// Where the log ends now.
pub(super) async fn log_end(conn: &mut Conn) -> Result<Place> {
    let doing = "asking where the binlog ends";
    let files: Vec<mysql_async::Row> =
        conn.query("SHOW BINARY LOGS").await.map_err(|error| from_sql(error, doing))?;
    let place = files.last().and_then(|row| Some(Place { file: row.get(0)?, pos: row.get(1)? }));
    place.ok_or_else(|| {
        Error::fatal(
            Origin::Source,
            codes::SERVER_SETTING,
            "the server does not list its binlog files",
        )
    })
}

impl Ahead {
    pub(super) fn new(options: ConnectOptions, is_mariadb: bool, server_id: u32) -> Self {
        let dialect = if is_mariadb { Dialect::Mariadb } else { Dialect::Mysql };
        Self { options, dialect, server_id, seen: None, found: Vec::new() }
    }

    /// The last statement between the places that changes what is asked of the table.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub(super) async fn change(
        &mut self,
        table: &Name,
        from: &Place,
        until: &Place,
        asked: Asked<'_>,
    ) -> Result<Option<&Found>> {
        let from_seen = match &self.seen {
            Some((start, end)) if start.is_at_most(from) && from.is_at_most(end) => end.clone(),
            _ => {
                self.found.clear();
                from.clone()
            }
        };
        if !until.is_at_most(&from_seen) {
            let begin = match &self.seen {
                Some((start, _)) if from_seen != *from => start.clone(),
                _ => from.clone(),
            };
            self.look(&from_seen, until).await?;
            self.seen = Some((begin, until.clone()));
        }
        let is_behind = |place: &Place| from.is_at_most(place) && place.is_at_most(until);
        let mut found = self.found.iter().filter(|found| is_behind(&found.place));
        Ok(found.rfind(|found| {
            found.reach.holds(table) && asked.is_touched_by(found.alters.as_deref())
        }))
    }

    async fn look(&mut self, from: &Place, until: &Place) -> Result<()> {
        let connection = BinlogConnection::connect(&self.options).await?;
        let start = Start::File { name: from.file.clone(), position: from.pos };
        let dump = Dump { ends: true, max_event: 1 << 20, ..Dump::new(self.server_id, start) };
        let mut stream = connection.dump(&dump).await?;
        let mut reader = Look {
            format: Format::initial(true),
            place: from.clone(),
            plain: Vec::new(),
            dialect: self.dialect,
        };
        loop {
            match stream.next()? {
                Some(Packet::Event(event)) => {
                    let found = reader
                        .event(event)
                        .map_err(|error| not_understood(&reader.place, &error))?;
                    self.found.extend(found);
                }
                // No statement that is understood is so large.
                Some(Packet::Oversized { head, .. }) => {
                    if let Ok(header) = Header::parse(head)
                        && header.kind == kind::QUERY
                    {
                        self.found.push(reader.anything(&header));
                    }
                }
                // Of a packed transaction, in which no table is altered.
                Some(Packet::Part(_)) => {}
                Some(Packet::End) => return Ok(()),
                None => {
                    if until.is_at_most(&reader.place) || stream.read().await? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn not_understood(place: &Place, error: &ParseError) -> Error {
    let Place { file, pos } = place;
    let message = format!("the log cannot be understood at {file}:{pos}: {error}");
    Error::fatal(Origin::Source, codes::NOT_UNDERSTOOD, message)
        .with_remedy("nothing was skipped; report this with the server's version")
}

/// One pass over the log.
struct Look {
    format: Format,
    place: Place,
    plain: Vec<u8>,
    dialect: Dialect,
}

impl Look {
    fn event(&mut self, event: &[u8]) -> Parsed<Vec<Found>> {
        let header = Header::parse(event)?;
        match header.kind {
            kind::FORMAT_DESCRIPTION => {
                self.format = Format::parse(event)?;
                return Ok(Vec::new());
            }
            kind::ROTATE => {
                let body = self.format.rotate_body(&header, event)?;
                let Rotate { position, file } = Rotate::parse(body)?;
                self.place = Place { file: file.to_owned(), pos: position };
                return Ok(Vec::new());
            }
            kind::QUERY | kind::MARIADB_QUERY_COMPRESSED => {}
            _ => {
                self.pass(&header);
                return Ok(Vec::new());
            }
        }
        let body = self.format.body(&header, event)?;
        self.plain.clear();
        let body = match plain_kind(header.kind) {
            Some(_) => match unpack(header.kind, body, STATEMENT_MAX, &mut self.plain)? {
                Unpacked::Whole => &self.plain,
                Unpacked::TooLarge(_) => return Ok(vec![self.anything(&header)]),
            },
            None => body,
        };
        let query = Query::parse(body)?;
        let reaches = match query.statement {
            b"BEGIN" | b"COMMIT" => Vec::new(),
            text => reaches(&classify(text, &Session::of(&query, self.dialect)), text),
        };
        let place = self.place.clone();
        self.pass(&header);
        let found = |(reach, alters)| {
            let (place, end) = (place.clone(), self.place.clone());
            Found { place, end, reach, alters }
        };
        Ok(reaches.into_iter().map(found).collect())
    }

    /// What is not understood.
    fn anything(&mut self, header: &Header) -> Found {
        let place = self.place.clone();
        self.pass(header);
        Found { place, end: self.place.clone(), reach: Reach::Any, alters: None }
    }

    fn pass(&mut self, header: &Header) {
        if header.log_pos != 0 && !header.is_artificial() {
            self.place.advance(header.log_pos);
        }
    }
}

/// A longer ALTER TABLE is taken for one that changes all columns.
const KEPT_MAX: usize = 1 << 16;

/// What a statement may change, with its text where that is an ALTER TABLE.
fn reaches(statement: &Statement, text: &[u8]) -> Vec<(Reach, Option<Arc<[u8]>>)> {
    let table = |name: &TableName| Reach::Table((name.schema.clone(), name.name.clone()));
    match statement {
        Statement::Tables(changes) => {
            let is_alter = changes.iter().all(|change| matches!(change, TableChange::Altered(_)));
            let alters = (is_alter && text.len() <= KEPT_MAX).then(|| Arc::from(text));
            changes.iter().flat_map(changed).map(|name| (table(name), alters.clone())).collect()
        }
        Statement::DropDatabase(schema) => vec![(Reach::Schema(schema.clone()), None)],
        Statement::Unclear { tables } if tables.is_empty() => vec![(Reach::Any, None)],
        Statement::Unclear { tables } => tables.iter().map(|name| (table(name), None)).collect(),
        _ => Vec::new(),
    }
}

/// The tables that may be others behind a change. A table that has rows was there, so that IF NOT EXISTS leaves
/// it alone, which MySQL logs too; and nothing happens to the one that LIKE names.
fn changed(change: &TableChange) -> Vec<&TableName> {
    match change {
        TableChange::Created(Creation { is_if_not_exists: true, is_or_replace: false, .. }) => {
            Vec::new()
        }
        TableChange::Created(Creation { table, .. }) => vec![table],
        change => change.tables(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m64_a_column_is_named_whatever_stands_around_it() {
        for (text, is_named) in [
            ("ALTER TABLE t MODIFY u binary(16)", true),
            ("ALTER TABLE t MODIFY/**/U/**/binary(16)", true),
            ("ALTER TABLE t CHANGE v `u` uuid", true),
            ("ALTER TABLE t ADD \"u\" uuid", true),
            ("ALTER TABLE t DROP t.u", true),
            ("ALTER TABLE t /*!MODIFY*/u", true),
            ("u", true),
            ("ALTER TABLE t MODIFY v bigint", false),
            (
                "ALTER TABLE t ADD uuid uuid, ADD `us` int, ADD _u int, ADD u1 int, ADD $u int",
                false,
            ),
            ("ALTER TABLE t MODIFY `uü` uuid", true),
            ("", false),
        ] {
            assert_eq!(may_name(text.as_bytes(), "u"), is_named, "{text}");
        }
        assert!(may_name(b"ALTER TABLE t MODIFY\xa0u\xa0binary(16)", "u"));
        // Whose case and quotes may be written otherwise.
        for column in ["ü", "a`b", "a\"b"] {
            assert!(may_name(b"ALTER TABLE t ADD v int", column), "{column}");
        }
        assert!(may_name(b"ALTER TABLE t MODIFY `u ,(` uuid", "u ,("));
    }
}
