//! Resume positions of PostgreSQL sources.
//!
//! ```json
//! {"confirm":"0/16B3800","in_tx":{"commit":"0/16B4000","next_index":7},
//!  "history":{"system":"7418","timeline":1,"database":"shop","database_oid":5},
//!  "slot":"rowtide_shop","stream":"1f0c…"}
//! ```
//!
//! `confirm` is the end LSN of the last whole transaction: the only LSN told to, or compared with,
//! the slot. `in_tx` is absent between transactions; inside one it names the transaction by its
//! commit LSN and the number of its raw changes that were handed over, so that a restart repeats
//! none of them although the server sends the whole transaction again.

use rowtide_sdk::{Change, Error, JsonWriter, Origin, Position, Result, Tx};
use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;
use crate::stream::codes;

/// A place in a PostgreSQL log, with the history it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PgPosition {
    /// The end of the last whole transaction that was handed over.
    pub confirm: Lsn,
    /// The transaction that was handed over in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_tx: Option<InTx>,
    /// What the LSNs belong to.
    pub history: History,
    /// The replication slot.
    pub slot: String,
    /// A fingerprint of what shapes the raw sequence of changes: the publications and options.
    pub stream: String,
}

/// A place inside a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InTx {
    /// The transaction: the LSN of its commit record.
    pub commit: Lsn,
    /// How many of its raw changes were handed over.
    pub next_index: u64,
}

/// The history that an LSN belongs to: LSNs of two histories must never be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The cluster's system identifier.
    pub system: String,
    /// The timeline: another one after a failover or a point-in-time recovery.
    pub timeline: u32,
    /// The database's name.
    pub database: String,
    /// The database's oid: another one after it was dropped and created again.
    pub database_oid: u32,
}

impl std::fmt::Display for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { system, timeline, database, database_oid } = self;
        write!(
            f,
            "system {system}, timeline {timeline}, database \"{database}\" (oid {database_oid})"
        )
    }
}

impl PgPosition {
    /// Reads a position that this connector wrote.
    ///
    /// # Errors
    /// `RT2201`, fatal, where the text is not one.
    pub fn parse(position: &Position) -> Result<Self> {
        serde_json::from_str(position.as_str()).map_err(|error| {
            Error::fatal(
                Origin::Source,
                codes::POSITION_UNREADABLE,
                "the saved position cannot be read",
            )
            .with_source(error)
            .with_remedy(
                "it was not written by this source; choose another connector name or set the \
                     position with `rowtide position set --connector NAME --lsn LSN`",
            )
        })
    }

    /// The canonical JSON: fixed order of fields, no white space.
    ///
    /// # Errors
    /// `RT2201` where JSON cannot hold it, which no position can cause.
    pub fn to_position(&self) -> Result<Position> {
        serde_json::to_string(self).map(Position::new).map_err(|error| {
            Error::fatal(
                Origin::Source,
                codes::POSITION_UNREADABLE,
                "the position cannot be written",
            )
            .with_source(error)
        })
    }
}

/// Renders positions; everything constant is rendered once.
#[derive(Debug, Clone)]
pub(crate) struct Renderer {
    tail: String,
}

impl Renderer {
    /// Prepares the constant part.
    ///
    /// # Errors
    /// As [`PgPosition::to_position`].
    pub(crate) fn new(history: &History, slot: &str, stream: &str) -> Result<Self> {
        let empty = PgPosition {
            confirm: Lsn(0),
            in_tx: None,
            history: history.clone(),
            slot: slot.to_owned(),
            stream: stream.to_owned(),
        };
        let json = empty.to_position()?;
        let tail =
            json.as_str().strip_prefix("{\"confirm\":\"0/0\"").unwrap_or_default().to_owned();
        Ok(Self { tail })
    }

    /// The position after the transaction that ends at `confirm` and, where `in_tx` is given, after
    /// so many changes of the next.
    pub(crate) fn position(&self, confirm: Lsn, in_tx: Option<InTx>) -> Position {
        use std::fmt::Write as _;
        let mut json = String::with_capacity(self.tail.len() + 96);
        // Writing to a String cannot fail.
        let _ = write!(json, "{{\"confirm\":\"{confirm}\"");
        if let Some(InTx { commit, next_index }) = in_tx {
            let _ =
                write!(json, ",\"in_tx\":{{\"commit\":\"{commit}\",\"next_index\":{next_index}}}");
        }
        json.push_str(&self.tail);
        Position::new(json)
    }
}

/// Writes the envelope's `source.position`: `{"lsn":…,"commit_lsn":…,"index":…}`.
///
/// `lsn` is where the server says the change stands (rows of one statement may share it);
/// `commit_lsn` and `index` identify the change.
///
/// A message outside any transaction has its `lsn` alone.
pub(crate) fn write_position(out: &mut JsonWriter, tx: &Tx, change: &Change, text: &[u8]) {
    out.raw(b"{\"lsn\":\"");
    out.raw(Lsn(change.offset).text().as_bytes());
    out.byte(b'"');
    if tx.id.len > 0 {
        out.raw(b",\"commit_lsn\":\"");
        out.raw(tx.commit.of(text));
        out.raw(b"\",\"index\":");
        out.u64(change.index);
    }
    out.byte(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowtide_sdk::{Op, Span};

    fn history() -> History {
        History {
            system: "7418".to_owned(),
            timeline: 1,
            database: "sh\"op".to_owned(),
            database_oid: 5,
        }
    }

    #[test]
    fn the_renderer_writes_the_canonical_form() {
        let renderer = Renderer::new(&history(), "rowtide_shop", "ab").unwrap();
        for in_tx in [None, Some(InTx { commit: Lsn(0x16B_4000), next_index: 7 })] {
            let rendered = renderer.position(Lsn(0x16B_3800), in_tx);
            let parsed = PgPosition::parse(&rendered).unwrap();
            assert_eq!((parsed.confirm, parsed.in_tx), (Lsn(0x16B_3800), in_tx));
            assert_eq!(parsed.history, history());
            assert_eq!(parsed.to_position().unwrap(), rendered);
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in ["", "{}", "{\"confirm\":\"x\"}", "[]"] {
            let error = PgPosition::parse(&Position::new(text)).unwrap_err();
            assert_eq!(error.code(), codes::POSITION_UNREADABLE);
        }
    }

    #[test]
    fn an_envelope_position_is_one_object() {
        let mut out = JsonWriter::default();
        let id = Span { start: 0, len: 1 };
        let tx = Tx { id, commit: Span { start: 1, len: 9 }, ..Tx::default() };
        let change = Change {
            op: Op::Create,
            table: 0,
            tx: 0,
            offset: 0x16B_3748,
            index: 7,
            part: None,
            before: None,
            after: None,
        };
        write_position(&mut out, &tx, &change, b"x0/16B3800");
        assert_eq!(out.as_bytes(), br#"{"lsn":"0/16B3748","commit_lsn":"0/16B3800","index":7}"#);
    }
}
