//! The row schema of a table: a pure function of what the log says about it.

use rowtide_sdk::{Column, Form, Identity, StringKind, Table};
use serde_json::{Map, Value, json};

use crate::config::{Mask, TableConfig, Unchanged};

/// A column as it leaves the host.
#[derive(Debug, Clone)]
pub struct ColumnView {
    /// Whether it appears in images (the key may hold it even so).
    pub visible: bool,
    /// How its value is replaced, if at all.
    pub mask: Option<Mask>,
    /// Whether it is part of the entity key.
    pub in_key: bool,
    /// What stands for a value that the log did not carry.
    pub placeholder: Option<String>,
}

/// What of a table's columns leaves the host, and as what.
#[derive(Debug, Clone)]
pub struct Projection {
    /// One view per column of the table.
    pub columns: Vec<ColumnView>,
    /// Column indexes of the entity key, in key order.
    pub key: Vec<usize>,
}

impl Projection {
    /// Applies a table's settings. Unknown column names are reported by the plan, which knows the
    /// table's full name.
    pub fn new(table: &Table, config: &TableConfig, key: Vec<usize>) -> Self {
        let columns = table
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| ColumnView {
                visible: !config.exclude.contains(&column.name),
                mask: config
                    .mask
                    .iter()
                    .find(|(name, _)| *name == column.name)
                    .map(|&(_, mask)| mask),
                in_key: key.contains(&index),
                placeholder: placeholder(table, column, config).map(str::to_owned),
            })
            .collect();
        Self { columns, key }
    }
}

/// The two schemas derived from one table version.
#[derive(Debug, Clone)]
pub struct RowSchema {
    /// The schema of `after`, and of a whole-row `before`.
    pub row: Value,
    /// The schema of a `before` that holds the identity's columns alone.
    pub key_image: Value,
}

/// The part of the row schema that a decoder does not prove, to be checked per row.
#[derive(Debug, Clone)]
pub struct ResidualSchema {
    /// An object schema with the columns that need a look.
    pub schema: Value,
    /// Their indexes in the table.
    pub columns: Vec<usize>,
}

impl RowSchema {
    /// Derives the schemas. `subject` names them.
    pub fn derive(subject: &str, table: &Table, projection: &Projection) -> Self {
        let visible =
            || table.columns.iter().zip(&projection.columns).filter(|(_, view)| view.visible);
        let properties = |identity_only: bool| -> Map<String, Value> {
            visible()
                .filter(|(column, _)| !identity_only || column.is_identity)
                .map(|(column, view)| (column.name.clone(), property(table, column, view)))
                .collect()
        };
        let required: Vec<&str> = visible()
            .filter(|(column, view)| view.placeholder.is_some() || is_always_logged(table, column))
            .map(|(column, _)| column.name.as_str())
            .collect();
        let identity: Vec<&str> = visible()
            .filter(|(column, _)| column.is_identity)
            .map(|(column, _)| column.name.as_str())
            .collect();
        Self {
            row: object(subject, "row", &properties(false), &required),
            key_image: object(subject, "key_image", &properties(true), &identity),
        }
    }

    /// What is left to check per row: lengths. A decoder proves a column's form (its contract), and
    /// the writer proves names, presence and order; the declared length of text is neither.
    pub fn residual(table: &Table, projection: &Projection) -> Option<ResidualSchema> {
        let mut properties = Map::new();
        let mut columns = Vec::new();
        for (index, (column, view)) in table.columns.iter().zip(&projection.columns).enumerate() {
            if view.visible
                && view.mask.is_none()
                && let Form::String(StringKind::Text { max_chars: Some(max) }) = column.form
            {
                let bound = json!({ "maxLength": max });
                properties.insert(column.name.clone(), or_placeholder(bound, view));
                columns.push(index);
            }
        }
        (!columns.is_empty())
            .then(|| ResidualSchema { schema: json!({ "properties": properties }), columns })
    }
}

/// Whether every row image carries the column.
pub(crate) fn is_always_logged(table: &Table, column: &Column) -> bool {
    table.identity == Identity::Full || !column.may_be_unchanged
}

/// What stands in events for a value of the column that the log did not carry.
fn placeholder<'a>(table: &Table, column: &Column, config: &'a TableConfig) -> Option<&'a str> {
    let Unchanged::Placeholder(text) = &config.unchanged else { return None };
    let is_masked = config.mask.iter().any(|(name, _)| *name == column.name);
    let holds_text = is_masked || matches!(column.form, Form::String(_) | Form::Json);
    (holds_text && !is_always_logged(table, column)).then_some(text)
}

/// Whether every row image of an event has the column.
pub(crate) fn is_always_present(table: &Table, column: &Column, config: &TableConfig) -> bool {
    is_always_logged(table, column) || placeholder(table, column, config).is_some()
}

/// Allows the placeholder beside what a schema allows.
fn or_placeholder(schema: Value, view: &ColumnView) -> Value {
    match &view.placeholder {
        Some(text) => json!({ "anyOf": [schema, { "const": text }] }),
        None => schema,
    }
}

/// Whether the log proves that the column is never null: it is of the key, or of the index, that
/// identifies rows. Of other columns nullability changes without a sign in the log, and under FULL
/// the catalog alone knows the key.
pub(crate) fn is_never_null(table: &Table, column: &Column) -> bool {
    matches!(table.identity, Identity::Default | Identity::Index) && column.is_identity
}

fn object(subject: &str, part: &str, properties: &Map<String, Value>, required: &[&str]) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("{subject} ({part})"),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The schema of one column's value, null included unless the log rules it out.
fn property(table: &Table, column: &Column, view: &ColumnView) -> Value {
    let mut schema = match view.mask {
        Some(Mask::Sha256) => json!({ "type": ["string", "null"], "pattern": "^[0-9a-f]{64}$" }),
        Some(Mask::Redact) => json!({ "type": ["string", "null"], "enum": ["***", null] }),
        None => nullable(&column.form),
    };
    if is_never_null(table, column) {
        without_null(&mut schema);
    }
    schema = or_placeholder(schema, view);
    if let Some(object) = schema.as_object_mut() {
        object.insert("x-rowtide-type".to_owned(), Value::from(column.type_name.as_str()));
    }
    schema
}

/// Takes null out of the types that a schema names.
fn without_null(schema: &mut Value) {
    let Some(types) = schema.get_mut("type") else { return };
    if let Value::Array(names) = types {
        names.retain(|name| name != "null");
        if let [only] = names.as_slice() {
            *types = only.clone();
        }
    }
}

fn nullable(form: &Form) -> Value {
    match form {
        Form::Boolean => json!({ "type": ["boolean", "null"] }),
        Form::Integer { min, max } => json!({
            "type": ["integer", "null"], "minimum": bound(*min), "maximum": bound(*max)
        }),
        Form::Float => json!({
            "type": ["number", "string", "null"], "pattern": "^(NaN|-?Infinity)$"
        }),
        Form::String(kind) => string(*kind),
        Form::Json => json!({}),
        Form::Array(element) => array(element, ARRAY_DEPTH),
        Form::Object(fields) => {
            let properties: Map<String, Value> =
                fields.iter().map(|(name, form)| (name.clone(), nullable(form))).collect();
            let required: Vec<&String> = fields.iter().map(|(name, _)| name).collect();
            json!({
                "type": ["object", "string", "null"],
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            })
        }
        Form::Map => json!({
            "type": ["object", "null"], "additionalProperties": { "type": ["string", "null"] }
        }),
    }
}

/// PostgreSQL's `MAXDIM`: arrays nest six deep at most.
const ARRAY_DEPTH: u32 = 6;

fn array(element: &Form, depth: u32) -> Value {
    let items = if depth > 1 {
        json!({ "anyOf": [nullable(element), array(element, depth - 1)] })
    } else {
        nullable(element)
    };
    json!({ "type": ["array", "string", "null"], "items": items })
}

fn string(kind: StringKind) -> Value {
    let mut schema = json!({ "type": ["string", "null"], "x-rowtide-kind": kind.name() });
    if let Some(object) = schema.as_object_mut() {
        if let Some(pattern) = kind.pattern() {
            object.insert("pattern".to_owned(), Value::from(pattern));
        }
        if let StringKind::Text { max_chars: Some(max) } = kind {
            object.insert("maxLength".to_owned(), Value::from(max));
        }
        if kind == StringKind::Bytes {
            object.insert("contentEncoding".to_owned(), Value::from("base64"));
        }
    }
    schema
}

/// A bound as a JSON number; every form's bounds lie within i64 or u64.
fn bound(value: i128) -> Value {
    i64::try_from(value)
        .map(Value::from)
        .or_else(|_| u64::try_from(value).map(Value::from))
        .unwrap_or(Value::Null)
}
