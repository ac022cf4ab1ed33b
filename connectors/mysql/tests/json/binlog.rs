//! Reads the changes of tables `(id int primary key, doc json)` from a server's binlog files: as
//! much of the format as that takes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

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

const TABLE_MAP: u8 = 19;
const WRITE_ROWS: u8 = 30;
const UPDATE_ROWS: u8 = 31;
const PARTIAL_UPDATE_ROWS: u8 = 39;

/// The changes of a table, in order.
pub(crate) fn changes(data: &Path, table: &str) -> Vec<Change> {
    let is_binlog = |path: &PathBuf| {
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix("binlog."));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let entries = fs::read_dir(data).expect("a data folder");
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path()).filter(is_binlog).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        read(&fs::read(file).expect("a binlog"), table, &mut all);
    }
    all
}

fn read(file: &[u8], wanted: &str, all: &mut Vec<Change>) {
    let mut rest = Bytes(file.strip_prefix(b"\xfebin").expect("a binlog"));
    let mut tables = BTreeMap::new();
    while !rest.0.is_empty() {
        let header = rest.take(19);
        let size = u32::from_le_bytes(header[9..13].try_into().expect("a size")) as usize;
        let body = rest.take(size - 19);
        // The CRC32 is not checked.
        let mut body = Bytes(&body[..body.len() - 4]);
        match header[4] {
            TABLE_MAP => {
                let id = body.take(8)[..6].to_vec();
                body.name();
                tables.insert(id, body.name());
            }
            kind @ (WRITE_ROWS | UPDATE_ROWS | PARTIAL_UPDATE_ROWS)
                if tables[&body.0[..6]] == wanted =>
            {
                rows(kind, body, all);
            }
            _ => {}
        }
    }
}

/// The rows of an event, from the number of its table on.
fn rows(kind: u8, mut body: Bytes<'_>, all: &mut Vec<Change>) {
    body.take(8);
    let extra = usize::from(body.u16());
    body.take(extra - 2);
    assert_eq!(body.byte(), 2, "columns");
    let first = body.byte();
    let second = if kind == WRITE_ROWS { first } else { body.byte() };
    while !body.0.is_empty() {
        let (before_id, before) = match kind {
            WRITE_ROWS => (None, Doc::Absent),
            _ => body.image(first, false),
        };
        let (after_id, after) = body.image(second, kind == PARTIAL_UPDATE_ROWS);
        let id = after_id.or(before_id).expect("an image has the key");
        all.push(Change { id, before, after });
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().expect("two bytes"))
    }

    /// A name with its length before it and a zero behind it.
    fn name(&mut self) -> String {
        let len = usize::from(self.byte());
        let name = String::from_utf8(self.take(len).to_vec()).expect("a name");
        self.take(1);
        name
    }

    /// An image with the columns of a bitmap: `id` and `doc`.
    fn image(&mut self, columns: u8, has_options: bool) -> (Option<i32>, Doc) {
        // `PARTIAL_JSON`, then a bit per JSON column.
        let is_partial = has_options && self.byte() & 1 == 1 && self.byte() & 1 == 1;
        let nulls = self.byte();
        assert_eq!(nulls & ((1 << (columns & 3).count_ones()) - 1), 0, "no document is NULL");
        let id = (columns & 1 == 1)
            .then(|| i32::from_le_bytes(self.take(4).try_into().expect("four bytes")));
        if columns & 2 == 0 {
            return (id, Doc::Absent);
        }
        let len = u32::from_le_bytes(self.take(4).try_into().expect("four bytes"));
        let doc = self.take(len as usize).to_vec();
        (id, if is_partial { Doc::Diffs(doc) } else { Doc::Whole(doc) })
    }
}
