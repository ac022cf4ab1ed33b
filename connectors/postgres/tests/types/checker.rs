//! Whether a JSON text is of a form: a small reading of what the row schema states.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use rowtide_sdk::{Form, StringKind};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Whether the text is exactly one JSON value.
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn is_match(pattern: &'static str, text: &str) -> bool {
    static PATTERNS: OnceLock<std::sync::Mutex<BTreeMap<&'static str, Regex>>> = OnceLock::new();
    let mut patterns = PATTERNS.get_or_init(Default::default).lock().unwrap();
    patterns.entry(pattern).or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text)
}

fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// Whether the text is one JSON value of the form.
pub(crate) fn is_of_form(form: &Form, text: &str) -> bool {
    if !is_json(text) {
        return false;
    }
    match form {
        Form::Boolean => matches!(text, "true" | "false"),
        Form::Integer { min, max } => {
            is_match("^-?(0|[1-9][0-9]*)$", text)
                && text.parse::<i128>().is_ok_and(|value| *min <= value && value <= *max)
        }
        Form::Float => match string(text) {
            Some(text) => matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity"),
            // serde_json does not round exactly: it refuses texts that round to the largest number.
            None => text.parse::<f64>().is_ok_and(f64::is_finite),
        },
        Form::String(kind) => string(text).is_some_and(|text| is_of_kind(*kind, &text)),
        Form::Json => true,
        Form::Array(element) => string(text).is_some() || is_array(element, text),
        Form::Object(fields) => string(text).is_some() || is_object(fields, text),
        Form::Map => serde_json::from_str::<BTreeMap<String, Option<String>>>(text).is_ok(),
    }
}

fn is_of_kind(kind: StringKind, text: &str) -> bool {
    let fits = match kind {
        StringKind::Text { max_chars: Some(max) } => text.chars().count() <= max as usize,
        _ => true,
    };
    fits && kind.pattern().is_none_or(|pattern| is_match(pattern, text))
}

fn is_array(element: &Form, text: &str) -> bool {
    let Ok(items) = serde_json::from_str::<Vec<Box<RawValue>>>(text) else { return false };
    items.iter().all(|item| {
        let item = item.get();
        item == "null" || is_of_form(element, item) || is_array(element, item)
    })
}

fn is_object(fields: &[(String, Form)], text: &str) -> bool {
    let Ok(values) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text) else {
        return false;
    };
    values.len() == fields.len()
        && fields.iter().all(|(name, form)| {
            values
                .get(name)
                .is_some_and(|value| value.get() == "null" || is_of_form(form, value.get()))
        })
}
