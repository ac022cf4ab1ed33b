//! The messages of pgoutput, protocol version 1 ("Logical Replication Message Formats" in the
//! PostgreSQL manual). What version 2 adds is in [`streamed`]; binary values become text here.
//!
//! Parsing is in two steps, so that a change can be counted, skipped or refused by its head alone:
//! [`parse`] reads a message's head, and [`RowChange::images`] the tuples of a row change as spans.
//! Nothing here does I/O, allocates per row, or panics on any bytes.

pub mod streamed;

use rowtide_sdk::{Cell, Image, ImageKind, Op, Span};

use crate::decode::binary::{Binary, Converted};
use crate::lsn::Lsn;
use crate::relation::{RelationColumn, RelationMessage};

/// Microseconds from 1970 to 2000, the epoch of PostgreSQL's timestamps.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// A message that is not what the protocol says; states what was wrong, never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError(pub &'static str);

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ParseError {}

/// The result of a parse.
pub type Parsed<T> = Result<T, ParseError>;

const SHORT: ParseError = ParseError("the message ends too early");
/// A binary value of a column whose type has no text here, or which is not of its type.
pub(crate) const NOT_TEXT: ParseError = ParseError("a binary value cannot be put into text");

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message<'a> {
    /// A transaction begins; only committed ones are ever sent.
    Begin(Begin),
    /// The transaction is complete.
    Commit(Commit),
    /// The transaction came from the node of this name.
    Origin(&'a str),
    /// A table's description, sent before its first change and again whenever it changed.
    Relation(RelationMessage),
    /// A user type's name; the catalog says more about it.
    Type,
    /// An insert, update or delete.
    Row(RowChange<'a>),
    /// Tables emptied by one statement.
    Truncate(Truncate<'a>),
    /// A message written by `pg_logical_emit_message`. Sent only where asked for.
    Logical(Logical<'a>),
    /// A (sub)transaction was rolled back ("Stream Abort"). PostgreSQL 18 sends it unasked where one
    /// outgrew `logical_decoding_work_mem`, although nothing of it was ever sent.
    Aborted,
}

/// A message of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logical<'a> {
    /// Whether it belongs to the open transaction; else it stands between transactions.
    pub is_transactional: bool,
    /// The end of its record. The next record, perhaps a commit, begins there.
    pub lsn: Lsn,
    /// The prefix, as the application gave it.
    pub prefix: &'a str,
    /// The content: the application's bytes, in the database's encoding.
    pub content: &'a [u8],
}

/// The head of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Begin {
    /// The LSN of the commit record: the transaction's identity and place in commit order.
    pub final_lsn: Lsn,
    /// When it committed, in microseconds since 1970.
    pub commit_ts_us: i64,
    /// The transaction's id.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// The LSN of the commit record, equal to [`Begin::final_lsn`].
    pub commit_lsn: Lsn,
    /// The LSN after the commit record: what is confirmed.
    pub end_lsn: Lsn,
}

/// A change of one row: its head, and the tuples still unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowChange<'a> {
    /// Create, update or delete.
    pub op: Op,
    /// The table's oid.
    pub oid: u32,
    body: &'a [u8],
}

/// A truncate of one or several tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncate<'a> {
    oids: &'a [u8],
}

impl Truncate<'_> {
    /// The number of tables.
    pub fn len(&self) -> usize {
        self.oids.len() / 4
    }

    /// Whether no table is named.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The oids of the tables, in the order sent.
    pub fn oids(&self) -> impl Iterator<Item = u32> {
        self.oids.as_chunks::<4>().0.iter().map(|&bytes| u32::from_be_bytes(bytes))
    }
}

/// The row images of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Images {
    /// The old row or key, where the log carries it.
    pub before: Option<Image>,
    /// The new row; absent in a delete.
    pub after: Option<Image>,
}

/// Takes bytes off the front of a slice.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*head)
    }

    #[inline]
    fn u8(&mut self) -> Parsed<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    fn u16(&mut self) -> Parsed<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    fn u32(&mut self) -> Parsed<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Parsed<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn lsn(&mut self) -> Parsed<Lsn> {
        self.array().map(u64::from_be_bytes).map(Lsn)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Parsed<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(head)
    }

    /// A text ended by a zero byte.
    fn text(&mut self) -> Parsed<&'a str> {
        let len = memchr::memchr(0, self.0).ok_or(ParseError("a name has no end"))?;
        let text = self.take(len)?;
        self.u8()?;
        std::str::from_utf8(text).map_err(|_| ParseError("a name is not valid UTF-8"))
    }

    /// Nothing may follow: bytes left over mean that the message was misunderstood.
    fn end<T>(&self, value: T) -> Parsed<T> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(ParseError("bytes follow the message's end"))
        }
    }
}

fn since_1970_us(since_2000_us: i64) -> i64 {
    since_2000_us.saturating_add(EPOCH_2000_US)
}

/// Reads one message, a row change only up to its tuples.
///
/// # Errors
/// [`ParseError`] where the bytes are not a message of protocol version 1, including an unknown
/// tag: nothing is skipped unread (invariant A9).
#[inline]
pub fn parse(message: &[u8]) -> Parsed<Message<'_>> {
    let mut cursor = Cursor(message);
    match cursor.u8()? {
        b'I' => row_change(cursor, Op::Create),
        b'U' => row_change(cursor, Op::Update),
        b'D' => row_change(cursor, Op::Delete),
        b'B' => {
            let final_lsn = cursor.lsn()?;
            let commit_ts_us = since_1970_us(cursor.i64()?);
            let xid = cursor.u32()?;
            cursor.end(Message::Begin(Begin { final_lsn, commit_ts_us, xid }))
        }
        b'C' => {
            let _flags = cursor.u8()?;
            let commit_lsn = cursor.lsn()?;
            let end_lsn = cursor.lsn()?;
            let _commit_ts = cursor.i64()?;
            cursor.end(Message::Commit(Commit { commit_lsn, end_lsn }))
        }
        b'O' => {
            let _commit_lsn = cursor.lsn()?;
            let name = cursor.text()?;
            cursor.end(Message::Origin(name))
        }
        b'R' => relation(cursor).map(Message::Relation),
        b'Y' => {
            let _oid = cursor.u32()?;
            let _schema = cursor.text()?;
            let _name = cursor.text()?;
            cursor.end(Message::Type)
        }
        b'T' => truncate(cursor).map(Message::Truncate),
        b'A' => {
            let _xid = cursor.u32()?;
            let _subxid = cursor.u32()?;
            cursor.end(Message::Aborted)
        }
        b'M' => {
            let (head, mut cursor) = logical_head(cursor)?;
            let len = usize::try_from(cursor.u32()?).map_err(|_| SHORT)?;
            let content = cursor.take(len)?;
            cursor.end(Message::Logical(Logical { content, ..head }))
        }
        _ => Err(ParseError("unknown message type")),
    }
}

#[inline]
fn row_change(mut cursor: Cursor<'_>, op: Op) -> Parsed<Message<'_>> {
    let oid = cursor.u32()?;
    Ok(Message::Row(RowChange { op, oid, body: cursor.0 }))
}

/// Reads a message of an application up to its content, which is left empty.
fn logical_head(mut cursor: Cursor<'_>) -> Parsed<(Logical<'_>, Cursor<'_>)> {
    let is_transactional = match cursor.u8()? {
        0 => false,
        1 => true,
        _ => return Err(ParseError("a message with unknown flags")),
    };
    let lsn = cursor.lsn()?;
    let prefix = cursor.text()?;
    Ok((Logical { is_transactional, lsn, prefix, content: &[] }, cursor))
}

/// Reads the beginning of a message of an application of which not all is held: its content is left
/// empty. `None` where the prefix is longer than what is held.
///
/// # Errors
/// [`ParseError`] where it is no such message.
pub fn parse_logical_head(message: &[u8]) -> Parsed<Option<Logical<'_>>> {
    let mut cursor = Cursor(message);
    if cursor.u8()? != b'M' {
        return Err(ParseError("not a message of an application"));
    }
    match logical_head(cursor) {
        Ok((head, _)) => Ok(Some(head)),
        Err(_) if memchr::memchr(0, message.get(10..).unwrap_or_default()).is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

fn relation(mut cursor: Cursor<'_>) -> Parsed<RelationMessage> {
    let oid = cursor.u32()?;
    let schema = cursor.text()?;
    // The server leaves the name of pg_catalog out.
    let schema = if schema.is_empty() { "pg_catalog" } else { schema }.to_owned();
    let name = cursor.text()?.to_owned();
    let identity = cursor.u8()?;
    let count = cursor.u16()?;
    let mut columns = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let flags = cursor.u8()?;
        let name = cursor.text()?.to_owned();
        let type_oid = cursor.u32()?;
        let typmod = cursor.array().map(i32::from_be_bytes)?;
        columns.push(RelationColumn { is_identity: flags & 1 == 1, name, type_oid, typmod });
    }
    cursor.end(RelationMessage { oid, schema, name, identity, columns })
}

fn truncate(mut cursor: Cursor<'_>) -> Parsed<Truncate<'_>> {
    let count = usize::try_from(cursor.u32()?).map_err(|_| SHORT)?;
    let _options = cursor.u8()?;
    let oids = cursor.take(count.checked_mul(4).ok_or(SHORT)?)?;
    cursor.end(Truncate { oids })
}

impl RowChange<'_> {
    /// Reads the tuples, pushing one cell per column and image.
    ///
    /// `columns` is the number of columns of the relation in force; `end` is the offset in the
    /// batch's bytes at which this message ends, from which the spans are reckoned.
    ///
    /// # Errors
    /// [`ParseError`] where the tuples are not what the operation carries, do not have `columns`
    /// columns, or hold binary values; cells may have been pushed then.
    #[inline]
    pub fn images(&self, columns: usize, end: u32, cells: &mut Vec<Cell>) -> Parsed<Images> {
        self.images_in_text(columns, end, cells, &[], &mut Vec::new())
    }

    /// [`RowChange::images`], with values that came in binary put into text behind what `text` holds.
    /// `binary` says how, by column; spans of such values have [`IN_TEXT`] set and are of `text`.
    #[inline]
    pub(crate) fn images_in_text(
        &self,
        columns: usize,
        end: u32,
        cells: &mut Vec<Cell>,
        binary: &[Option<Binary>],
        text: &mut Vec<u8>,
    ) -> Parsed<Images> {
        let mut tuples = Tuples { rest: Cursor(self.body), columns, end, cells, binary, text };
        let mut images = Images::default();
        let mut kind = tuples.rest.u8()?;
        if kind != b'N' && self.op != Op::Create {
            images.before = Some(match kind {
                b'K' => tuples.image(ImageKind::Key)?,
                b'O' => tuples.image(ImageKind::Row)?,
                _ => return Err(ParseError("unknown kind of row image")),
            });
            if self.op == Op::Delete {
                return tuples.rest.end(images);
            }
            kind = tuples.rest.u8()?;
        }
        if kind != b'N' || self.op == Op::Delete {
            return Err(ParseError("a row image is missing"));
        }
        images.after = Some(tuples.image(ImageKind::Row)?);
        tuples.rest.end(images)
    }
}

/// The tuples of one change, and where their cells go.
struct Tuples<'a, 'c> {
    rest: Cursor<'a>,
    columns: usize,
    end: u32,
    cells: &'c mut Vec<Cell>,
    binary: &'c [Option<Binary>],
    text: &'c mut Vec<u8>,
}

/// What stands before a value in a tuple: its kind and its length.
const KEPT_HEAD: u32 = 5;

/// Set in the start of a span of text that was made of a binary value. Batches are smaller.
pub(crate) const IN_TEXT: u32 = 1 << 31;

impl<'a> Tuples<'a, '_> {
    #[inline]
    fn image(&mut self, kind: ImageKind) -> Parsed<Image> {
        let first_cell =
            u32::try_from(self.cells.len()).map_err(|_| ParseError("too many cells in a batch"))?;
        if usize::from(self.rest.u16()?) != self.columns {
            return Err(ParseError("a row has another number of columns than its table"));
        }
        self.cells.reserve(self.columns);
        for column in 0..self.columns {
            let cell = match self.rest.u8()? {
                b't' => self.value()?,
                // In a key image this means that the column is not part of the key.
                b'n' if kind == ImageKind::Key => Cell::Absent,
                b'n' => Cell::Null,
                b'u' => Cell::Unchanged,
                b'b' => self.binary(column)?,
                _ => return Err(ParseError("unknown kind of column value")),
            };
            self.cells.push(cell);
        }
        Ok(Image { first_cell, kind })
    }

    #[inline]
    fn value(&mut self) -> Parsed<Cell> {
        self.span().map(|(span, _)| Cell::Value(span))
    }

    #[inline]
    fn span(&mut self) -> Parsed<(Span, &'a [u8])> {
        let len = self.rest.u32()?;
        let left = u32::try_from(self.rest.0.len()).map_err(|_| SHORT)?;
        let start = self.end.checked_sub(left).ok_or(SHORT)?;
        let bytes = self.rest.take(usize::try_from(len).map_err(|_| SHORT)?)?;
        Ok((Span { start, len }, bytes))
    }

    /// A value in binary, as text.
    fn binary(&mut self, column: usize) -> Parsed<Cell> {
        let (span, raw) = self.span()?;
        let binary = self.binary.get(column).and_then(Option::as_ref).ok_or(NOT_TEXT)?;
        let start = self.text.len();
        let span = match binary.convert(raw, self.text).ok_or(NOT_TEXT)? {
            Converted::Kept => Span {
                start: span.start.saturating_sub(KEPT_HEAD),
                len: span.len.saturating_add(KEPT_HEAD),
            },
            Converted::Same(skip) => {
                let skip = u32::try_from(skip).map_err(|_| NOT_TEXT)?;
                Span { start: span.start.saturating_add(skip), len: span.len.saturating_sub(skip) }
            }
            Converted::Written => {
                let number = |number: usize| u32::try_from(number).map_err(|_| NOT_TEXT);
                let (start, len) = (number(start)?, number(self.text.len() - start)?);
                if start & IN_TEXT != 0 {
                    return Err(NOT_TEXT);
                }
                Span { start: start | IN_TEXT, len }
            }
        };
        Ok(Cell::Value(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
    }

    fn row(message: &[u8]) -> RowChange<'_> {
        match parse(message).unwrap() {
            Message::Row(change) => change,
            other => panic!("{other:?}"),
        }
    }

    fn images(message: &[u8], columns: usize) -> Parsed<(Images, Vec<Cell>)> {
        let mut cells = Vec::new();
        let end = u32::try_from(message.len()).unwrap();
        row(message).images(columns, end, &mut cells).map(|images| (images, cells))
    }

    fn value<'a>(message: &'a [u8], cell: &Cell) -> &'a [u8] {
        match cell {
            Cell::Value(span) => span.of(message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn begin_and_commit_carry_the_two_lsns() {
        let begin = unhex("420000000002173ac8000303b78b70a45e000002f2");
        let Message::Begin(begin) = parse(&begin).unwrap() else { panic!() };
        assert_eq!(begin.final_lsn, Lsn(0x0217_3ac8));
        assert_eq!(begin.xid, 754);
        assert_eq!(begin.commit_ts_us, 0x0003_03b7_8b70_a45e + EPOCH_2000_US);
        let commit = unhex("43000000000002173ac80000000002173af8000303b78b70a45e");
        assert_eq!(
            parse(&commit).unwrap(),
            Message::Commit(Commit { commit_lsn: Lsn(0x0217_3ac8), end_lsn: Lsn(0x0217_3af8) })
        );
    }

    #[test]
    fn relation_is_read_whole() {
        let message = unhex(
            "520000401b7075626c696300637573746f6d657273006400020169640000000017ffffffff00\
             70726963650000 0006a4000a0006"
                .replace(' ', "")
                .as_str(),
        );
        let Message::Relation(relation) = parse(&message).unwrap() else { panic!() };
        assert_eq!((relation.oid, relation.identity), (0x401b, b'd'));
        assert_eq!((relation.schema.as_str(), relation.name.as_str()), ("public", "customers"));
        let columns: Vec<_> = relation
            .columns
            .iter()
            .map(|c| (c.name.as_str(), c.is_identity, c.type_oid, c.typmod))
            .collect();
        assert_eq!(columns, [("id", true, 23, -1), ("price", false, 1700, 0x000a_0006)]);
    }

    #[test]
    fn h45_insert_pushes_spans_nulls_and_unchanged() {
        let message = b"I\0\0\0\x07N\0\x03t\0\0\0\x02abnu";
        let (images, cells) = images(message, 3).unwrap();
        assert_eq!(images.before, None);
        assert_eq!(images.after, Some(Image { first_cell: 0, kind: ImageKind::Row }));
        assert_eq!(value(message, &cells[0]), b"ab");
        assert_eq!(cells[1..], [Cell::Null, Cell::Unchanged]);
    }

    #[test]
    fn key_image_never_holds_null() {
        let message = b"U\0\0\0\x07K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012n";
        let (images, cells) = images(message, 2).unwrap();
        assert_eq!(images.before, Some(Image { first_cell: 0, kind: ImageKind::Key }));
        assert_eq!(images.after, Some(Image { first_cell: 2, kind: ImageKind::Row }));
        assert_eq!(value(message, &cells[0]), b"1");
        assert_eq!(cells[1], Cell::Absent);
        assert_eq!(value(message, &cells[2]), b"2");
        assert_eq!(cells[3], Cell::Null);
    }

    #[test]
    fn h46_the_shapes_of_updates_and_deletes() {
        let old = |message: &[u8]| images(message, 1).unwrap().0.before.map(|image| image.kind);
        assert_eq!(old(b"U\0\0\0\x07N\0\x01n"), None);
        assert_eq!(old(b"U\0\0\0\x07O\0\x01nN\0\x01n"), Some(ImageKind::Row));
        assert_eq!(old(b"D\0\0\0\x07K\0\x01t\0\0\0\0"), Some(ImageKind::Key));
        assert_eq!(old(b"D\0\0\0\x07O\0\x01n"), Some(ImageKind::Row));
    }

    #[test]
    fn messages_of_applications_are_read_whole() {
        let message = b"M\x01\0\0\0\0\0\0\x01\x02pfx\0\0\0\0\x02ab";
        let read =
            Logical { is_transactional: true, lsn: Lsn(0x102), prefix: "pfx", content: b"ab" };
        assert_eq!(parse(message).unwrap(), Message::Logical(read));
        let empty = b"M\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let Message::Logical(read) = parse(empty).unwrap() else { panic!() };
        assert_eq!((read.is_transactional, read.prefix, read.content.len()), (false, "", 0));
        for end in 0..message.len() {
            assert!(parse(&message[..end]).is_err());
        }
        let held = parse_logical_head(&message[..14]).unwrap().unwrap();
        assert_eq!((held.prefix, held.content.len()), ("pfx", 0));
        assert_eq!(parse_logical_head(&message[..13]).unwrap(), None);
        assert!(parse_logical_head(b"I").is_err());
        assert!(parse_logical_head(b"M\x02\0\0\0\0\0\0\0\0a\0").is_err());
    }

    #[test]
    fn what_the_protocol_does_not_say_is_refused() {
        for message in [
            &b"I\0\0\0\x07K\0\x01n"[..],
            b"I\0\0\0\x07N\0\x02nn",
            b"I\0\0\0\x07N\0\x01nn",
            b"I\0\0\0\x07N\0\x01b\0\0\0\0",
            b"I\0\0\0\x07N\0\x01x",
            b"I\0\0\0\x07N\0\x01t\xff\xff\xff\xff",
            b"I\0\0\0\x07N\0\x01t\0\0\0\x02a",
            b"D\0\0\0\x07N\0\x01n",
            b"U\0\0\0\x07O\0\x01n",
        ] {
            assert!(images(message, 1).is_err(), "{message:?}");
        }
        for message in
            [&b""[..], b"Z", b"S", b"B", b"C\0", b"T\0\0\0\x02\0\0\0\0\x01", b"R\0\0\0\x01x"]
        {
            assert!(parse(message).is_err(), "{message:?}");
        }
    }

    #[test]
    fn h32_truncate_lists_its_tables() {
        let message = b"T\0\0\0\x02\x03\0\0\0\x07\0\0\x01\0";
        let Message::Truncate(truncate) = parse(message).unwrap() else { panic!() };
        assert_eq!(truncate.oids().collect::<Vec<_>>(), [7, 256]);
        assert_eq!(truncate.len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(message in proptest::collection::vec(any::<u8>(), 0..200),
                                 columns in 0_usize..5, end in any::<u32>()) {
            if let Ok(Message::Row(change)) = parse(&message) {
                let mut cells = Vec::new();
                let _ = change.images(columns, end, &mut cells);
            }
        }

        #[test]
        fn bytes_like_rows_never_panic(tag in prop::sample::select(b"IUD".to_vec()),
                                       body in proptest::collection::vec(
                                           prop::sample::select(b"NKOntub\0\0\0\x01\x02".to_vec()), 0..60),
                                       columns in 0_usize..4) {
            let mut message = vec![tag, 0, 0, 0, 1];
            message.extend(&body);
            let mut cells = Vec::new();
            let end = u32::try_from(message.len()).unwrap();
            if row(&message).images(columns, end, &mut cells).is_ok() {
                for cell in &cells {
                    if let Cell::Value(span) = cell {
                        prop_assert!(span.start + span.len <= end);
                    }
                }
            }
        }
    }
}
