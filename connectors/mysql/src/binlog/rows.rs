//! Row events: images of rows, and where each value stands in them.

use super::event::kind;
use super::table_map::{Stored, TableMap};
use super::{ParseError, Parsed};
use crate::reader::{Reader, is_set};

/// What a row event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKind {
    /// WRITE_ROWS: images of new rows.
    Write,
    /// UPDATE_ROWS: pairs of images, before and after.
    Update,
    /// PARTIAL_UPDATE_ROWS: the same, where JSON values may be changes to the ones before.
    PartialUpdate,
    /// DELETE_ROWS: images of the rows that are gone.
    Delete,
}

impl RowsKind {
    /// Whether an image of a row is followed by the one after the update.
    pub fn has_pairs(self) -> bool {
        matches!(self, Self::Update | Self::PartialUpdate)
    }
}

/// The flag of the last row event of a statement.
const STATEMENT_END: u16 = 1;

const MALFORMED: ParseError = ParseError::Malformed("row");

/// The head of a row event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows<'a> {
    /// What it does.
    pub kind: RowsKind,
    /// The table's number, as in its TABLE_MAP.
    pub table_id: u64,
    /// Whether the numbers of tables are void behind it.
    pub ends_statement: bool,
    /// How many columns the table has.
    pub columns: usize,
    /// The columns of the images before (DELETE, UPDATE) or after (WRITE), a bit each.
    first: &'a [u8],
    /// The columns of the images after an update.
    second: &'a [u8],
    /// The images.
    images: &'a [u8],
}

/// Which event of this kind it is; `None` where it is no row event that is read here.
fn of_kind(event: u8) -> Option<(RowsKind, bool)> {
    Some(match event {
        kind::WRITE_ROWS_V1 => (RowsKind::Write, false),
        kind::UPDATE_ROWS_V1 => (RowsKind::Update, false),
        kind::DELETE_ROWS_V1 => (RowsKind::Delete, false),
        kind::WRITE_ROWS => (RowsKind::Write, true),
        kind::UPDATE_ROWS => (RowsKind::Update, true),
        kind::DELETE_ROWS => (RowsKind::Delete, true),
        kind::PARTIAL_UPDATE_ROWS => (RowsKind::PartialUpdate, true),
        _ => return None,
    })
}

impl<'a> Rows<'a> {
    /// Reads the head of a row event from its body.
    ///
    /// # Errors
    /// Where it is malformed, or of another type.
    pub fn parse(event: u8, body: &'a [u8]) -> Parsed<Self> {
        let (kind, has_extra) = of_kind(event)
            .ok_or_else(|| ParseError::Unknown(format!("row events of type {event}")))?;
        let mut reader = Reader(body);
        let mut read = || {
            let table_id = reader.uint(6)?;
            let flags = reader.u16()?;
            if has_extra {
                // Of partitions and NDB; its length counts itself.
                let extra = usize::from(reader.u16()?.checked_sub(2)?);
                reader.bytes(extra)?;
            }
            let columns = reader.count()?;
            let first = reader.bytes(columns.div_ceil(8))?;
            let second = reader.bytes(if kind.has_pairs() { columns.div_ceil(8) } else { 0 })?;
            Some(Self {
                kind,
                table_id,
                ends_statement: flags & STATEMENT_END != 0,
                columns,
                first,
                second,
                images: reader.0,
            })
        };
        let rows = read().ok_or(MALFORMED)?;
        if rows.is_of_nothing() { Err(MALFORMED) } else { Ok(rows) }
    }

    /// Whether there are images and none of them takes a byte: then nothing says how many they are.
    /// Images after a partial update are never so short.
    fn is_of_nothing(&self) -> bool {
        let has_any = |bits| (0..self.columns).any(|at| is_set(bits, at));
        !self.images.is_empty()
            && self.kind != RowsKind::PartialUpdate
            && !has_any(self.first)
            && !has_any(self.second)
    }

    /// Whether images of old rows have a column; true where the event has none.
    pub fn old_rows_have(&self, at: usize) -> bool {
        self.kind == RowsKind::Write || is_set(self.first, at)
    }

    /// The images, one after the other; their values lie in the event's body.
    pub fn images(&self) -> Images<'a> {
        Images { rows: *self, rest: Reader(self.images), is_after: false }
    }
}

/// What an image says of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// The image does not hold the column.
    Absent,
    /// It is NULL.
    Null,
    /// Its bytes, without what tells their length.
    Bytes(&'a [u8]),
    /// A JSON value as changes to the one before: what `binlog_row_value_options=PARTIAL_JSON` writes.
    JsonDiff(&'a [u8]),
}

/// Takes images off a row event.
#[derive(Debug, Clone)]
pub struct Images<'a> {
    rows: Rows<'a>,
    rest: Reader<'a>,
    /// The next image is the second of a pair.
    is_after: bool,
}

impl<'a> Images<'a> {
    /// Whether images are left.
    pub fn has_more(&self) -> bool {
        !self.rest.0.is_empty()
    }

    /// How many bytes of the event's body the head takes: what [`Images::next_image`] counts from.
    pub fn head_len(&self, body: &[u8]) -> usize {
        body.len().saturating_sub(self.rows.images.len())
    }

    /// Reads the next image of a table's row, column by column, and for each the offset behind its
    /// bytes, counted from the first image of the event.
    ///
    /// # Errors
    /// Where the table has another number of columns, or the image is malformed.
    pub fn next_image(
        &mut self,
        table: &TableMap,
        mut push: impl FnMut(Value<'a>, usize),
    ) -> Parsed<()> {
        if table.columns.len() != self.rows.columns {
            return Err(MALFORMED);
        }
        let present = if self.is_after { self.rows.second } else { self.rows.first };
        let is_partial = self.is_after && self.rows.kind == RowsKind::PartialUpdate;
        self.is_after = self.rows.kind.has_pairs() && !self.is_after;
        self.read(table, present, is_partial, &mut push).ok_or(MALFORMED)
    }

    fn read(
        &mut self,
        table: &TableMap,
        present: &[u8],
        is_partial: bool,
        push: &mut impl FnMut(Value<'a>, usize),
    ) -> Option<()> {
        let count = self.rows.columns;
        let partial = if is_partial { self.partial_columns(table)? } else { &[] };
        let is_present = |at: usize| is_set(present, at);
        let nulls = (0..count).filter(|at| is_present(*at)).count().div_ceil(8);
        let nulls = self.rest.bytes(nulls)?;
        let (mut nth, mut json) = (0, 0);
        for (at, column) in table.columns.iter().enumerate() {
            let is_json = matches!(column.stored, Stored::Json(_));
            let is_diff = is_json && is_set(partial, json);
            json += usize::from(is_json);
            if !is_present(at) {
                push(Value::Absent, 0);
                continue;
            }
            let is_null = is_set(nulls, nth);
            nth += 1;
            if is_null {
                push(Value::Null, 0);
                continue;
            }
            let bytes = value(column.stored, &mut self.rest)?;
            let end = self.rows.images.len().saturating_sub(self.rest.0.len());
            push(if is_diff { Value::JsonDiff(bytes) } else { Value::Bytes(bytes) }, end);
        }
        Some(())
    }

    /// Which JSON columns of the table come as changes, a bit for each of them; empty where none does.
    fn partial_columns(&mut self, table: &TableMap) -> Option<&'a [u8]> {
        const PARTIAL_JSON: u64 = 1;
        if self.rest.lenenc()? & PARTIAL_JSON == 0 {
            return Some(&[]);
        }
        let is_json = |stored: Stored| matches!(stored, Stored::Json(_));
        let json = table.columns.iter().filter(|column| is_json(column.stored)).count();
        self.rest.bytes(json.div_ceil(8))
    }
}

/// How many bytes the digits of a DECIMAL take: four for nine, fewer for what is left.
pub(crate) fn decimal_bytes(digits: u8) -> usize {
    const LEFT: [usize; 9] = [0, 1, 1, 2, 2, 3, 3, 4, 4];
    usize::from(digits / 9) * 4 + LEFT.get(usize::from(digits % 9)).copied().unwrap_or_default()
}

/// How many bytes the digits of a fraction of a second take.
pub(crate) fn fraction_bytes(digits: u8) -> usize {
    usize::from(digits.div_ceil(2))
}

/// Takes a value off an image.
fn value<'a>(stored: Stored, reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = match stored {
        Stored::Integer(bytes) | Stored::Enum(bytes) | Stored::Set(bytes) => usize::from(bytes),
        Stored::Year => 1,
        Stored::Date | Stored::OldTime => 3,
        Stored::Float | Stored::OldTimestamp => 4,
        Stored::Double | Stored::OldDateTime => 8,
        Stored::Time(digits) => 3 + fraction_bytes(digits),
        Stored::Timestamp(digits) => 4 + fraction_bytes(digits),
        Stored::DateTime(digits) => 5 + fraction_bytes(digits),
        Stored::Decimal { precision, scale } => {
            decimal_bytes(precision.checked_sub(scale)?) + decimal_bytes(scale)
        }
        Stored::Bit(bits) => usize::from(bits.div_ceil(8)),
        Stored::Char { max_bytes } | Stored::VarChar { max_bytes } => {
            usize::try_from(reader.uint(if max_bytes < 256 { 1 } else { 2 })?).ok()?
        }
        Stored::Blob(width)
        | Stored::Json(width)
        | Stored::Geometry(width)
        | Stored::Vector(width) => usize::try_from(reader.uint(usize::from(width))?).ok()?,
    };
    reader.bytes(len)
}
