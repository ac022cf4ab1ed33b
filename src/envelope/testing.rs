//! Tables and batches for the tests of the host.

use std::sync::Arc;

use rowtide_sdk::{
    Batch, Cell, Change, Column, Decode, Entry, Form, Identity, Image, ImageKind, JsonWriter, Op,
    Position, Span, StringKind, Table, Tx, ValueError, Written,
};

/// Writes text as it is.
#[derive(Debug)]
pub(crate) struct TextDecode;

impl Decode for TextDecode {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        out.utf8_string(raw)?;
        Ok(Written::Form)
    }
}

/// Writes a decimal integer.
#[derive(Debug)]
pub(crate) struct IntegerDecode;

impl Decode for IntegerDecode {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let text = std::str::from_utf8(raw).map_err(|_| ValueError::Utf8)?;
        let number: i32 = text.parse().map_err(|_| ValueError::Malformed("integer"))?;
        out.i64(i64::from(number));
        Ok(Written::Form)
    }
}

/// Passes JSON that `serde_json` accepts, and writes the text of anything else as a string.
#[derive(Debug)]
pub(crate) struct JsonDecode;

impl Decode for JsonDecode {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        if serde_json::from_slice::<serde_json::Value>(raw).is_ok() {
            out.raw(raw);
            return Ok(Written::Form);
        }
        out.utf8_string(raw)?;
        Ok(Written::RawJson)
    }
}

/// A column of the given form.
pub(crate) fn column(name: &str, form: Form, decode: Arc<dyn Decode>) -> Column {
    Column {
        name: name.to_owned(),
        type_name: "text".to_owned(),
        form,
        decode,
        is_identity: name == "id",
        may_be_unchanged: true,
    }
}

/// A text column.
pub(crate) fn text_column(name: &str) -> Column {
    column(name, Form::String(StringKind::Text { max_chars: None }), Arc::new(TextDecode))
}

/// A 32-bit integer column that is always logged.
pub(crate) fn integer_column(name: &str) -> Column {
    let form = Form::Integer { min: i128::from(i32::MIN), max: i128::from(i32::MAX) };
    Column { may_be_unchanged: false, ..column(name, form, Arc::new(IntegerDecode)) }
}

/// A table of schema `public` whose key is `id`, where it has such a column.
pub(crate) fn table(name: &str, columns: Vec<Column>) -> Table {
    let primary_key = columns.iter().position(|column| column.name == "id").into_iter().collect();
    Table {
        db: "shop".to_owned(),
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns,
        primary_key,
        identity: Identity::Default,
        incarnation: 16_400,
        facts: "{}".to_owned(),
    }
}

/// A cell of a test row.
#[derive(Debug, Clone)]
pub(crate) enum TestCell {
    Null,
    Unchanged,
    Absent,
    Value(Vec<u8>),
}

/// A value cell.
pub(crate) fn value(text: &str) -> TestCell {
    TestCell::Value(text.as_bytes().to_vec())
}

/// Builds a batch of one transaction.
#[derive(Debug)]
pub(crate) struct BatchBuilder(pub(crate) Batch);

impl BatchBuilder {
    pub(crate) fn new(table: &Arc<Table>) -> Self {
        let mut batch = Batch {
            tables: vec![Arc::clone(table)],
            resume: Some(Position::new("{}")),
            received_ts_us: 1_763_657_833_125_001,
            ..Batch::default()
        };
        batch.text.extend_from_slice(b"9010/16B3800");
        batch.txs.push(Tx {
            id: Span { start: 0, len: 3 },
            commit: Span { start: 3, len: 9 },
            commit_ts_us: 1_763_657_833_123_456,
            ..Tx::default()
        });
        Self(batch)
    }

    fn image(&mut self, kind: ImageKind, cells: &[TestCell]) -> Image {
        let first_cell = u32::try_from(self.0.cells.len()).unwrap();
        for cell in cells {
            let cell = match cell {
                TestCell::Null => Cell::Null,
                TestCell::Unchanged => Cell::Unchanged,
                TestCell::Absent => Cell::Absent,
                TestCell::Value(bytes) => {
                    let start = u32::try_from(self.0.bytes.len()).unwrap();
                    self.0.bytes.extend_from_slice(bytes);
                    Cell::Value(Span { start, len: u32::try_from(bytes.len()).unwrap() })
                }
            };
            self.0.cells.push(cell);
        }
        Image { first_cell, kind }
    }

    pub(crate) fn change(
        mut self,
        op: Op,
        before: Option<(ImageKind, &[TestCell])>,
        after: Option<&[TestCell]>,
    ) -> Self {
        let before = before.map(|(kind, cells)| self.image(kind, cells));
        let after = after.map(|cells| self.image(ImageKind::Row, cells));
        let index = u64::try_from(self.0.entries.len()).unwrap();
        self.0.entries.push(Entry::Change(Change {
            op,
            table: 0,
            tx: 0,
            offset: 0x016B_3748,
            index,
            part: None,
            before,
            after,
        }));
        self
    }
}
