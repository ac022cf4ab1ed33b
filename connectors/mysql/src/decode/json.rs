//! `JSON`: MySQL's binary form in row events, as the text that the server itself prints without
//! the white space between tokens.
//!
//! The form is that of MySQL's `sql-common/json_binary.h`, the text that of
//! `Json_wrapper::to_string` in `sql-common/json_dom.cc`. MariaDB has no binary form: its `JSON` is
//! text.

mod binary;
mod diff;
mod opaque;
mod path;
mod print;

use std::borrow::Cow;

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

use self::binary::Value;
use self::print::{Budget, Printer};

pub use self::diff::{DiffError, apply_diffs};

/// Levels of arrays and objects in one value at most, where it stands as JSON.
///
/// Common parsers stop at 128 levels of a whole document; the envelope, the row in it and what may
/// be wrapped around an event take the other four. MySQL itself stops at 100.
pub const MAX_DEPTH: u32 = 124;

/// Levels at most that are read at all, so that no bytes exhaust the stack.
const MAX_LEVELS: u32 = 256;

/// What the errors name as expected.
const TYPE: &str = "binary JSON";

/// In place of a binary form's first byte: a document's text follows, which diffs made of another
/// document.
const AS_TEXT: u8 = 0xfe;
/// The same for a document too deep to stand as JSON: a JSON string of its text follows.
const AS_STRING: u8 = 0xfd;

/// Appends what a column of this type takes for the document that `diffs` make of `before`; see
/// [`apply_diffs`].
///
/// # Errors
/// [`DiffError`]; `out` is as it was then.
pub fn updated(before: &[u8], diffs: &[u8], out: &mut Vec<u8>) -> Result<(), DiffError> {
    let mut text = JsonWriter::default();
    let made = apply_diffs(before, diffs, &mut text)?;
    out.push(if made == Written::Form { AS_TEXT } else { AS_STRING });
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Appends the text of a binary JSON value as one JSON value, and answers how many levels of arrays
/// and objects it has.
///
/// `binary` is what follows the length in a row event. Nothing at all is the JSON null: that is
/// what a server writes where a `NOT NULL` column never got a value (MySQL bug 88791).
///
/// Time and text are linear in `binary`, whatever its offsets are. `None` where the bytes are not
/// of the form; `out` may hold a torn value then.
pub fn write_text(binary: &[u8], out: &mut JsonWriter) -> Option<u32> {
    let value = Value::document(binary)?;
    let mut printer = Printer::new(out, Budget::new(binary.len()));
    printer.value(value, 0)?;
    Some(printer.deepest())
}

/// The text of a value of a column.
fn text_of(binary: &[u8]) -> Option<String> {
    match binary.split_first() {
        Some((&AS_TEXT, text)) => return String::from_utf8(text.to_vec()).ok(),
        Some((&AS_STRING, string)) => return serde_json::from_slice(string).ok(),
        _ => {}
    }
    let mut out = JsonWriter::default();
    write_text(binary, &mut out)?;
    String::from_utf8(out.into_inner()).ok()
}

/// Leaves what was written from `start` on as JSON where parsers accept that many levels, else
/// turns it into a string.
fn settle(out: &mut JsonWriter, start: usize, levels: u32) -> Result<Written, ValueError> {
    if levels <= MAX_DEPTH {
        return Ok(Written::Form);
    }
    let text = out.as_bytes().get(start..).unwrap_or_default().to_vec();
    out.truncate(start);
    out.utf8_string(&text)?;
    Ok(Written::RawJson)
}

/// Whether bytes are JSON as [`settle`] leaves it: on one line, with no more levels than parsers accept,
/// and with no character of more than one byte in an escape.
fn can_stand(json: &[u8]) -> bool {
    let is_value = std::str::from_utf8(json)
        .is_ok_and(|json| serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok());
    let (mut levels, mut in_string) = (0u32, false);
    let mut rest = json;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            0..0x20 => return false,
            b'\\' if rest.first() == Some(&b'u') && !rest.starts_with(b"u00") => return false,
            b'\\' => rest = rest.get(1..).unwrap_or_default(),
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => levels = levels.saturating_add(1),
            b']' | b'}' if !in_string => levels = levels.saturating_sub(1),
            _ => {}
        }
        if levels > MAX_DEPTH {
            return false;
        }
    }
    is_value
}

/// A column of the type `JSON`; its form is [`rowtide_sdk::Form::Json`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Decode for Json {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        // What the log itself holds never begins so, unless it is damaged.
        if let Some((&mark @ (AS_TEXT | AS_STRING), text)) = raw.split_first() {
            let is_text = mark == AS_TEXT || text.first() == Some(&b'"');
            if !is_text || !can_stand(text) {
                return Err(ValueError::Malformed(TYPE));
            }
            out.raw(text);
            return Ok(if mark == AS_TEXT { Written::Form } else { Written::RawJson });
        }
        let start = out.len();
        let levels = write_text(raw, out).ok_or(ValueError::Malformed(TYPE))?;
        settle(out, start, levels)
    }

    fn text<'r>(&self, raw: &'r [u8]) -> Cow<'r, [u8]> {
        text_of(raw).map_or_else(|| Cow::Borrowed(raw), |text| Cow::Owned(text.into_bytes()))
    }

    fn write_text(&self, raw: &[u8], out: &mut JsonWriter) -> Result<(), ValueError> {
        out.string(&text_of(raw).ok_or(ValueError::Malformed(TYPE))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
