//! Forms of values in words, for the tables of types.

use rowtide_sdk::{Form, StringKind};

/// What a form is in JSON.
pub fn json_form(form: &Form) -> &'static str {
    match form {
        Form::Boolean => "boolean",
        Form::Integer { .. } => "number",
        Form::Float => "number or string",
        Form::String(_) => "string",
        Form::Json => "any value",
        Form::Array(_) => "array or string",
        Form::Object(_) => "object or string",
        Form::Map => "object",
    }
}

/// What the row schema says of a form, in words.
pub fn schema(form: &Form) -> String {
    match form {
        Form::Boolean => "boolean".to_owned(),
        Form::Integer { min, max } => format!("integer, {min} to {max}"),
        Form::Float => "number, or \"NaN\", \"Infinity\", \"-Infinity\"".to_owned(),
        Form::String(StringKind::Text { max_chars: Some(max) }) => {
            format!("kind text, at most {max} characters")
        }
        Form::String(kind) => format!("kind {}", kind.name()),
        Form::Json => "any value".to_owned(),
        Form::Array(element) => format!("items: {}; nested", schema(element)),
        Form::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, form)| format!("{name} ({})", schema(form))).collect();
            format!("properties: {}", fields.join(", "))
        }
        Form::Map => "values: string or null".to_owned(),
    }
}
