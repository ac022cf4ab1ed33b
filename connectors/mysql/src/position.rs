//! Resume positions of MySQL and MariaDB sources.
//!
//! ```json
//! {"file":"binlog.000003","pos":1234,"gtids":"3e11fa47-…:1-77",
//!  "in_tx":{"id":"3e11fa47-…:78","next_index":7},
//!  "pending":[{"xid":"6162.63.1","id":"3e11fa47-…:70","file":"binlog.000003","pos":900}],
//!  "history":{"server":"3e11fa47-…","created":1790000000},"shape":"1f0c…"}
//! ```
//!
//! `file` and `pos` are the end of the last whole transaction. `gtids` are those that were handed over,
//! where transactions are named by GTIDs: a set on MySQL, the last of each domain on MariaDB. `in_tx` is
//! absent between transactions; inside one it says how many of its raw changes were handed over. A prepared
//! XA transaction whose end has not come is `pending`: its changes are behind the position and were not
//! handed over, so that a restart reads them again. `by_gtids` is true where a log of MariaDB can be resumed
//! by GTIDs alone, as some of what they name may stand behind the offset. `altered` is absent where nothing
//! that was saved of a table is out of date. `history` tells the log from one of the same names that began after a
//! reset: by when the position's file was made, or, where its place is known by GTIDs alone, another one.

use rowtide_sdk::{Change, Error, JsonWriter, KnownTable, Origin, Position, Result, Tx};
use serde::{Deserialize, Serialize};

use crate::codes;
use crate::statement::TableName;

/// A place in a binlog, with the history it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MyPosition {
    /// The binlog file.
    pub file: String,
    /// The offset in it.
    pub pos: u64,
    /// The GTIDs that were handed over, as the server writes them; absent without GTIDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gtids: Option<String>,
    /// The transaction that was handed over in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_tx: Option<InTx>,
    /// XA transactions that were prepared and whose end has not come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
    /// MariaDB: what the GTIDs name may stand behind the place, so that no stream may begin there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_gtids: bool,
    /// What statements did to tables before the place and after the last rows of those.
    #[serde(default, skip_serializing_if = "Altered::is_none")]
    pub altered: Altered,
    /// What the place belongs to.
    pub history: History,
    /// A fingerprint of which tables are captured: only their changes are counted.
    pub shape: String,
}

/// A place inside a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InTx {
    /// The transaction: its GTID, else the place of its start.
    pub id: String,
    /// How many of its raw changes were handed over.
    pub next_index: u64,
}

/// A prepared XA transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Its XID: the global part and the branch in hexadecimal, and the format.
    pub xid: String,
    /// The transaction that prepared it: its GTID, else the place of its start.
    pub id: String,
    /// The file that its start is in.
    pub file: String,
    /// The offset of its start.
    pub pos: u64,
    /// MariaDB: the last GTID of its domain before it; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What became of tables since something was saved of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Altered {
    /// Whether the place was not come to by reading on: nothing that was saved of tables holds there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unread: bool,
    /// Tables, by schema and name, that are not any more as the catalog described them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<(String, String)>,
    /// Columns that settings hid and that have another name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<RenamedColumn>,
}

/// A column that settings hid before it got another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenamedColumn {
    /// The table's schema, now.
    pub schema: String,
    /// The table's name, now.
    pub table: String,
    /// What the settings call the column.
    pub was: String,
    /// What it is called now.
    pub now: String,
}

impl RenamedColumn {
    /// Whether it is one of a table.
    pub(crate) fn is_of(&self, table: &TableName) -> bool {
        self.schema == table.schema && self.table == table.name
    }
}

impl Altered {
    /// Of a place that was chosen, not come to.
    pub(crate) fn unread() -> Self {
        Self { is_unread: true, ..Self::default() }
    }

    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Of what was saved of tables, what still holds.
    pub(crate) fn usable(&self, known: &[KnownTable]) -> Vec<KnownTable> {
        let is_usable = |table: &&KnownTable| {
            let is_it =
                |(schema, name): &(String, String)| *schema == table.schema && *name == table.name;
            !self.is_unread && !self.tables.iter().any(is_it)
        };
        known.iter().filter(is_usable).cloned().collect()
    }
}

/// What files and offsets belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The server's `server_uuid`; on MariaDB, which has none, its `server_id`.
    pub server: String,
    /// When the file was begun, in seconds since 1970: tells files of one name apart. 0 where it is not known,
    /// or where the place in the file is not.
    pub created: u32,
    /// Where it is 0, another file of the log, and when that was begun: a log that was reset has others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<(String, u32)>,
}

impl History {
    /// Of a server, as its `server_uuid` or `server_id`, of whose files nothing is known.
    pub(crate) fn of(server: String) -> Self {
        Self { server, created: 0, seen: None }
    }
}

/// The server's log is not the one of a position.
pub(crate) fn another_log(message: String) -> Error {
    Error::fatal(Origin::Source, codes::FOREIGN_HISTORY, message).with_remedy(
        "point `url` at the server that the position is of; or bring the target in step with the tables and begin \
         under another connector name (with jsonl another `dir` too), or, where nothing drops events by their \
         id, at the log's end (`rowtide position adopt --connector NAME`)",
    )
}

/// A file has the name that a position knows, and it is another.
pub(crate) fn another_file(file: &str) -> Error {
    another_log(format!(
        "the binlog file {file} was made at another time than the one of the saved position, or the log ends \
         before it: the server's log was reset, or it is another server's"
    ))
}

impl MyPosition {
    /// The place from which the server's log is needed: a prepared XA transaction is read again.
    pub(crate) fn needed(&self) -> (&str, u64) {
        let first = self.pending.first().filter(|pending| !pending.file.is_empty());
        first.map_or((&self.file, self.pos), |pending| (&pending.file, pending.pos))
    }

    /// Reads a position that this connector wrote.
    ///
    /// # Errors
    /// `RT2701`, fatal, where the text is not one.
    pub fn parse(position: &Position) -> Result<Self> {
        serde_json::from_str(position.as_str()).map_err(|error| {
            let message = "the saved position cannot be read";
            Error::fatal(Origin::Source, codes::POSITION_UNREADABLE, message)
                .with_source(error)
                .with_remedy(
                    "it was not written by this source; choose another connector name or set the \
                     position with `rowtide position set --connector NAME --at PLACE`",
                )
        })
    }

    /// The canonical JSON: fixed order of fields, no white space.
    ///
    /// # Errors
    /// `RT2701` where JSON cannot hold it, which no position can cause.
    pub fn to_position(&self) -> Result<Position> {
        serde_json::to_string(self).map(Position::new).map_err(|error| {
            let message = "the position cannot be written";
            Error::fatal(Origin::Source, codes::POSITION_UNREADABLE, message).with_source(error)
        })
    }
}

/// A place in a log of numbered files, as `file:offset`.
pub(crate) fn place_id(file: &str, pos: u64) -> String {
    format!("{file}:{pos}")
}

/// Writes the envelope's `source.position`:
/// `{"file":…,"pos":…,"gtid":…,"index":…}`; `gtid` is absent where the transaction has none.
///
/// `file` and `pos` are where the event begins that the change is in (several may be in one).
pub(crate) fn write_position(out: &mut JsonWriter, tx: &Tx, change: &Change, text: &[u8]) {
    out.raw(b"{\"file\":");
    // Read as UTF-8 where the file was named.
    out.string(std::str::from_utf8(tx.log.of(text)).unwrap_or_default());
    out.raw(b",\"pos\":");
    out.u64(change.offset);
    let id = tx.id.of(text);
    // What names a transaction without one begins with the name of a file, which may be another than that
    // of its changes: an XA transaction commits later.
    let log = tx.log.of(text);
    let base = log.iter().rposition(|byte| *byte == b'.').and_then(|dot| log.get(..=dot));
    let has_gtid = !id.starts_with(base.unwrap_or(log));
    if has_gtid {
        out.raw(b",\"gtid\":\"");
        out.raw(id);
        out.byte(b'"');
    }
    out.raw(b",\"index\":");
    out.u64(change.index);
    out.byte(b'}');
}

#[cfg(test)]
mod tests {
    use rowtide_sdk::{Op, Span};

    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let pending = Pending {
            xid: "61.62.1".to_owned(),
            id: "0-1-7".to_owned(),
            file: "b.000001".to_owned(),
            pos: 4,
            after: Some("0-1-6".to_owned()),
        };
        let position = MyPosition {
            file: "b.000002".to_owned(),
            pos: 1 << 40,
            gtids: Some("0-1-9".to_owned()),
            in_tx: Some(InTx { id: "0-1-10".to_owned(), next_index: 3 }),
            pending: vec![pending],
            by_gtids: true,
            altered: Altered {
                is_unread: false,
                tables: vec![("s".to_owned(), "t".to_owned())],
                columns: vec![RenamedColumn {
                    schema: "s".to_owned(),
                    table: "t".to_owned(),
                    was: "a".to_owned(),
                    now: "b".to_owned(),
                }],
            },
            history: History { created: 7, ..History::of("1".to_owned()) },
            shape: "ab".to_owned(),
        };
        for position in [
            position.clone(),
            MyPosition {
                gtids: None,
                in_tx: None,
                by_gtids: false,
                altered: Altered::unread(),
                ..position
            },
        ] {
            assert_eq!(MyPosition::parse(&position.to_position().unwrap()).unwrap(), position);
        }
        for text in ["", "{}", "[]", "{\"confirm\":\"0/1\"}"] {
            let error = MyPosition::parse(&Position::new(text)).unwrap_err();
            assert_eq!(error.code(), codes::POSITION_UNREADABLE);
        }
    }

    #[test]
    fn an_envelope_position_is_one_object() {
        let text = b"b.000002u:7b.000002:99b.000003:9";
        let span = |start, len| Span { start, len };
        let change = Change {
            op: Op::Create,
            table: 0,
            tx: 0,
            offset: 154,
            index: 7,
            part: None,
            before: None,
            after: None,
        };
        let tx = Tx { id: span(8, 3), commit: span(8, 3), log: span(0, 8), ..Tx::default() };
        let written = |tx: &Tx| {
            let mut out = JsonWriter::default();
            write_position(&mut out, tx, &change, text);
            String::from_utf8(out.into_inner()).unwrap()
        };
        assert_eq!(written(&tx), r#"{"file":"b.000002","pos":154,"gtid":"u:7","index":7}"#);
        let tx = Tx { id: span(11, 11), ..tx };
        assert_eq!(written(&tx), r#"{"file":"b.000002","pos":154,"index":7}"#);
        let tx = Tx { id: span(22, 10), ..tx };
        assert_eq!(written(&tx), r#"{"file":"b.000002","pos":154,"index":7}"#);
    }
}
