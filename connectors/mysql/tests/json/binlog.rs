//! The changes of tables `(id int primary key, doc json)`, from a server's binlog files.

use rowtide_mysql::binlog::rows::RowsKind;

use crate::common::{Owned, written};
use crate::server::Server;

/// The document of one image of a row.
#[derive(Debug)]
pub(crate) enum Doc {
    Absent,
    Whole(Vec<u8>),
    Diffs(Vec<u8>),
}

/// An insert (no `before`) or an update.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) id: i32,
    pub(crate) before: Doc,
    pub(crate) after: Doc,
}

fn doc(values: &[Owned]) -> Doc {
    match &values[1] {
        Owned::Absent | Owned::Null => Doc::Absent,
        Owned::Bytes(bytes) => Doc::Whole(bytes.clone()),
        Owned::JsonDiff(bytes) => Doc::Diffs(bytes.clone()),
    }
}

/// The changes of a table, in order.
pub(crate) fn changes(server: &Server, table: &str) -> Vec<Change> {
    let mut images = written(&server.0).into_iter().filter(|(_, of, _)| of.name == table);
    let mut all = Vec::new();
    while let Some((kind, _, first)) = images.next() {
        let second = match kind {
            RowsKind::Update | RowsKind::PartialUpdate => Some(images.next().expect("a pair").2),
            RowsKind::Write | RowsKind::Delete => None,
        };
        let Owned::Bytes(id) = &first[0] else { panic!("{first:?}") };
        let id = i32::from_le_bytes(*id.first_chunk().expect("four bytes"));
        let (before, after) = match &second {
            Some(second) => (doc(&first), doc(second)),
            None => (Doc::Absent, doc(&first)),
        };
        all.push(Change { id, before, after });
    }
    all
}
