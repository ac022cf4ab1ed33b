//! Composites, `(a,"b ""c""",)` ("Composite Type Input and Output Syntax"), and hstore.

use std::sync::Arc;

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

use super::scratch::with_buffer;

const MALFORMED: ValueError = ValueError::Malformed("composite");

/// A composite with known attributes.
#[derive(Debug)]
pub(super) struct Composite {
    pub(super) fields: Box<[Field]>,
}

/// An attribute: what is written before its value, and how the value is.
#[derive(Debug)]
pub(super) struct Field {
    /// `{"name":` for the first, `,"name":` for the others.
    pub(super) prefix: Box<[u8]>,
    pub(super) decode: Arc<dyn Decode>,
}

impl Composite {
    pub(super) fn new<'a>(fields: impl Iterator<Item = (&'a str, Arc<dyn Decode>)>) -> Self {
        let field = |(index, (name, decode)): (usize, (&str, Arc<dyn Decode>))| {
            let mut prefix = JsonWriter::default();
            prefix.byte(if index == 0 { b'{' } else { b',' });
            prefix.string(name);
            prefix.byte(b':');
            Field { prefix: prefix.into_inner().into(), decode }
        };
        Self { fields: fields.enumerate().map(field).collect() }
    }

    /// Writes the attributes; `None` where their number is not the type's.
    fn fields(
        &self,
        raw: &[u8],
        out: &mut JsonWriter,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Written>, ValueError> {
        let inner = raw.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")"));
        let mut rest = inner.ok_or(MALFORMED)?;
        let mut fields = self.fields.iter();
        if self.fields.is_empty() && rest.is_empty() {
            out.raw(b"{}");
            return Ok(Some(Written::Form));
        }
        loop {
            let Some(field) = fields.next() else { return Ok(None) };
            out.raw(&field.prefix);
            let after = match rest {
                [] | [b',', ..] => {
                    out.null();
                    rest
                }
                [b'"', quoted @ ..] => {
                    let (text, after) = split_quoted(quoted, buffer).ok_or(MALFORMED)?;
                    if field.decode.write(text, out)? == Written::RawJson {
                        return Ok(Some(Written::RawJson));
                    }
                    after
                }
                plain => {
                    let end = memchr::memchr(b',', plain).unwrap_or(plain.len());
                    let (text, after) = plain.split_at(end);
                    if text.iter().any(|byte| matches!(byte, b'"' | b'\\' | b'(' | b')')) {
                        return Err(MALFORMED);
                    }
                    if field.decode.write(text, out)? == Written::RawJson {
                        return Ok(Some(Written::RawJson));
                    }
                    after
                }
            };
            match after {
                [] if fields.len() == 0 => {
                    out.byte(b'}');
                    return Ok(Some(Written::Form));
                }
                [] => return Ok(None),
                [b',', next @ ..] => rest = next,
                _ => return Err(MALFORMED),
            }
        }
    }
}

impl Decode for Composite {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let start = out.len();
        let written = match with_buffer(|buffer| self.fields(raw, out, buffer)) {
            Ok(Some(Written::Form)) => return Ok(Written::Form),
            Ok(Some(Written::RawJson)) => Written::RawJson,
            Ok(None) => Written::Form,
            // The type was altered since it was looked up, and a value met another attribute's decoder.
            Err(_) if is_composite(raw) => Written::Form,
            Err(error) => return Err(error),
        };
        // Fields that do not fit the type, or one that must stand as text: the text.
        out.truncate(start);
        out.utf8_string(raw)?;
        Ok(written)
    }
}

/// Whether the text is that of a composite: in parentheses, with quotes that close.
#[cold]
fn is_composite(raw: &[u8]) -> bool {
    let inner = raw.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")"));
    let Some(inner) = inner else { return false };
    let mut bytes = inner.iter();
    let mut quoted = false;
    while let Some(byte) = bytes.next() {
        match byte {
            // A doubled quote closes and opens again.
            b'"' => quoted = !quoted,
            b'\\' if bytes.next().is_none() => return false,
            b'(' | b')' if !quoted => return false,
            _ => {}
        }
    }
    !quoted
}

/// Splits a quoted attribute whose opening quote was read: its text without escapes (a backslash
/// before any byte, or a doubled quote), in `buffer` where there were any, and what follows.
fn split_quoted<'a, 'b>(quoted: &'a [u8], buffer: &'b mut Vec<u8>) -> Option<(&'b [u8], &'a [u8])>
where
    'a: 'b,
{
    let end = memchr::memchr2(b'"', b'\\', quoted)?;
    match quoted.split_at(end) {
        (text, [b'"', after @ ..]) if !after.starts_with(b"\"") => return Some((text, after)),
        _ => buffer.clear(),
    }
    let mut rest = quoted;
    loop {
        let end = memchr::memchr2(b'"', b'\\', rest)?;
        let (clean, after) = rest.split_at(end);
        buffer.extend_from_slice(clean);
        match after {
            [b'\\', escaped, after @ ..] => {
                buffer.push(*escaped);
                rest = after;
            }
            [b'"', b'"', after @ ..] => {
                buffer.push(b'"');
                rest = after;
            }
            [b'"', after @ ..] => return Some((buffer, after)),
            _ => return None,
        }
    }
}

/// `hstore`: `"a"=>"1", "b"=>NULL` as an object.
#[derive(Debug)]
pub(super) struct Hstore;

const MALFORMED_HSTORE: ValueError = ValueError::Malformed("hstore");

impl Decode for Hstore {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let mut rest = std::str::from_utf8(raw).map_err(|_| ValueError::Utf8)?;
        out.byte(b'{');
        while !rest.is_empty() {
            rest = hstore_string(rest, out)?;
            rest = rest.strip_prefix("=>").ok_or(MALFORMED_HSTORE)?;
            out.byte(b':');
            rest = match rest.strip_prefix("NULL") {
                Some(after) => {
                    out.null();
                    after
                }
                None => hstore_string(rest, out)?,
            };
            if !rest.is_empty() {
                rest = rest.strip_prefix(", ").ok_or(MALFORMED_HSTORE)?;
                out.byte(b',');
                if rest.is_empty() {
                    return Err(MALFORMED_HSTORE);
                }
            }
        }
        out.byte(b'}');
        Ok(Written::Form)
    }
}

/// Writes the quoted string at the front as a JSON string and answers what follows.
fn hstore_string<'a>(text: &'a str, out: &mut JsonWriter) -> Result<&'a str, ValueError> {
    let mut rest = text.strip_prefix('"').ok_or(MALFORMED_HSTORE)?;
    out.byte(b'"');
    loop {
        let end = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(MALFORMED_HSTORE)?;
        let (clean, after) = rest.split_at_checked(end).ok_or(MALFORMED_HSTORE)?;
        out.string_part(clean);
        if let Some(after) = after.strip_prefix('"') {
            out.byte(b'"');
            return Ok(after);
        }
        let mut chars = after.chars();
        let (_backslash, escaped) = (chars.next(), chars.next().ok_or(MALFORMED_HSTORE)?);
        out.string_part(escaped.encode_utf8(&mut [0; 4]));
        rest = chars.as_str();
    }
}
