//! Why an event cannot be published, and what helps although it is in the log already.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use rowtide_sdk::{Code, ValueError};

use super::plan::Plan;
use crate::schema::{KEY_NOT_LOGGED, MALFORMED_VALUE, RowView, TextNode, TextValidator};

/// RT5009: the log does not carry a column of the key.
pub(super) const KEY_MISSING: Code = Code("RT5009");

/// Why one event cannot be written or published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: Code,
    /// No row value.
    pub(super) reason: String,
    /// What lets this very event pass, which is in the log as it is; beside a dead letter.
    pub(super) remedy: &'static str,
}

impl Violation {
    pub(super) fn malformed(plan: &Plan, index: usize, error: ValueError) -> Self {
        let name = plan.names.get(index).map_or("?", |name| name);
        let remedy = match error {
            // Other databases hold no such text, or convert it before they send it.
            ValueError::Utf8 => {
                "exclude the column; a database of the encoding SQL_ASCII takes any bytes for text: move \
                 it to one of the encoding UTF8, or write such texts anew (`rowtide explain RT2376`)"
            }
            ValueError::Malformed(_) => "exclude the column, and report this with its type",
        };
        Self { code: MALFORMED_VALUE, reason: format!("column {name}: {error}"), remedy }
    }
}

/// RT5011: an event is larger than `max_event`.
const TOO_LARGE: Code = Code("RT5011");

pub(super) fn too_large(bytes: usize, max: usize) -> Violation {
    Violation {
        code: TOO_LARGE,
        reason: format!("the envelope has {bytes} bytes, more than max_event ({max})"),
        remedy: "raise `max_event` (and the sink's own limits), or exclude the large column",
    }
}

/// For what only a mistake of Rowtide itself can cause.
pub(super) const DEFECT: &str = "this is a defect: please report it with the table's definition";

/// An update or delete of a row whose old key the log does not carry.
pub(super) fn unlogged() -> Violation {
    Violation {
        code: KEY_NOT_LOGGED,
        reason: "the log does not carry the row's old key".to_owned(),
        remedy: "take `key` out of the table's settings",
    }
}

/// The first rule of a schema that a row breaks, with values masked.
pub(super) fn violation(
    code: Code,
    what: &str,
    remedy: &'static str,
    validator: &TextValidator,
    row: &RowView<'_>,
) -> Violation {
    let reason = match validator.validate(TextNode::Row(row)) {
        Err(error) => format!("{what}: {}", told(&error)),
        Ok(()) => what.to_owned(),
    };
    Violation { code, reason, remedy }
}

/// Which rule is broken and by which column. The names that a JSON value gives its members are row data.
fn told(error: &ValidationError<'_>) -> String {
    use ValidationErrorKind as Kind;
    let mut path = error.instance_path().segments();
    let Some(column) = path.next() else { return format!("{} in the row", error.masked()) };
    let place = if path.next().is_some() { "inside" } else { "at" };
    let kind = error.kind();
    match kind {
        Kind::AdditionalProperties { .. }
        | Kind::UnevaluatedProperties { .. }
        | Kind::UnevaluatedItems { .. }
        | Kind::PropertyNames { .. } => {
            format!("the value breaks the rule {} {place} /{column}", kind.keyword())
        }
        _ => format!("{} {place} /{column}", error.masked()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_names_columns_and_no_value() {
        let row =
            json!({ "id": 7, "doc": { "mail@example": "mail@example", "b": ["mail@example"] } });
        for (schema, expected) in [
            (
                json!({ "properties": { "id": { "maximum": 3 } } }),
                "is greater than the maximum of 3 at /id",
            ),
            (json!({ "required": ["gone"] }), "in the row"),
            (
                json!({ "properties": { "id": {} }, "additionalProperties": false }),
                "'doc' was unexpected",
            ),
            (
                json!({ "properties": { "doc": { "properties": { "b": {} }, "additionalProperties": false } } }),
                "breaks the rule additionalProperties at /doc",
            ),
            (json!({ "properties": { "doc": { "unevaluatedProperties": false } } }), "/doc"),
            (
                json!({ "properties": { "doc": { "propertyNames": { "maxLength": 3 } } } }),
                "breaks the rule propertyNames at /doc",
            ),
            (
                json!({ "properties": { "doc": { "additionalProperties": { "type": "integer" } } } }),
                "inside /doc",
            ),
            (
                json!({ "properties": { "doc": { "properties": { "b": { "unevaluatedItems": false } } } } }),
                "inside /doc",
            ),
        ] {
            let validator = jsonschema::validator_for(&schema).unwrap();
            let told = told(&validator.validate(&row).unwrap_err());
            assert!(told.contains(expected), "{told}");
            assert!(!told.contains("mail"), "{told}");
        }
    }
}
