//! Arrays: `{1,NULL,{…}}` ("Array Input and Output Syntax" in the manual).

use std::sync::Arc;

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

use super::scratch::with_buffer;

/// The server's own limit of dimensions.
pub(super) const MAX_DIMENSIONS: u32 = 6;

const MALFORMED: ValueError = ValueError::Malformed("array");

/// An array of any type.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) element: Arc<dyn Decode>,
    /// What stands between elements: `;` for `box`, else a comma.
    pub(super) delimiter: u8,
}

impl Decode for Array {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let start = out.len();
        match raw {
            // Bounds other than the default, `[0:1]={1,2}`: JSON arrays have none, so text it is.
            [b'[', ..] => {
                out.utf8_string(raw)?;
                Ok(Written::Form)
            }
            b"{}" => {
                out.raw(b"[]");
                Ok(Written::Form)
            }
            _ => {
                let written = with_buffer(|buffer| self.elements(raw, out, buffer))?;
                if written == Written::RawJson {
                    // One element that must stand as text makes the whole column text.
                    out.truncate(start);
                    out.utf8_string(raw)?;
                }
                Ok(written)
            }
        }
    }
}

impl Array {
    fn elements(
        &self,
        raw: &[u8],
        out: &mut JsonWriter,
        buffer: &mut Vec<u8>,
    ) -> Result<Written, ValueError> {
        let mut rest = raw;
        let mut depth = 0u32;
        // The depth at which the elements are; the same for all of them.
        let mut leaf_depth = None;
        loop {
            // Here a value must start: an inner array or an element.
            while let Some(inner) = rest.strip_prefix(b"{") {
                depth = depth.saturating_add(1);
                if depth > MAX_DIMENSIONS || leaf_depth.is_some_and(|leaf| depth > leaf) {
                    return Err(MALFORMED);
                }
                out.byte(b'[');
                rest = inner;
            }
            if depth == 0 || *leaf_depth.get_or_insert(depth) != depth {
                return Err(MALFORMED);
            }
            let (written, after) = self.element(rest, out, buffer)?;
            if written == Written::RawJson {
                return Ok(written);
            }
            rest = after;
            // Here a value has ended.
            while let Some(outer) = rest.strip_prefix(b"}") {
                depth = depth.checked_sub(1).ok_or(MALFORMED)?;
                out.byte(b']');
                rest = outer;
            }
            match rest.split_first() {
                None if depth == 0 => return Ok(Written::Form),
                Some((&byte, after)) if byte == self.delimiter && depth > 0 => {
                    out.byte(b',');
                    rest = after;
                }
                _ => return Err(MALFORMED),
            }
        }
    }

    /// Writes the element at the front and answers what follows it.
    #[inline]
    fn element<'a>(
        &self,
        rest: &'a [u8],
        out: &mut JsonWriter,
        buffer: &mut Vec<u8>,
    ) -> Result<(Written, &'a [u8]), ValueError> {
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            let (text, after) = split_quoted(quoted, buffer).ok_or(MALFORMED)?;
            return Ok((self.element.write(text, out)?, after));
        }
        let ends =
            |byte: &u8| *byte == self.delimiter || matches!(byte, b'{' | b'}' | b'"' | b'\\');
        let end = rest.iter().position(ends).ok_or(MALFORMED)?;
        let (text, after) = rest.split_at(end);
        match text {
            [] => Err(MALFORMED),
            b"NULL" => {
                out.null();
                Ok((Written::Form, after))
            }
            text => Ok((self.element.write(text, out)?, after)),
        }
    }
}

/// Splits a quoted element whose opening quote was read: its text without escapes, in `buffer` where
/// there were any, and what follows the closing quote.
#[inline]
fn split_quoted<'a, 'b>(quoted: &'a [u8], buffer: &'b mut Vec<u8>) -> Option<(&'b [u8], &'a [u8])>
where
    'a: 'b,
{
    let end = memchr::memchr2(b'"', b'\\', quoted)?;
    let (text, after) = quoted.split_at(end);
    if let Some(after) = after.strip_prefix(b"\"") {
        return Some((text, after));
    }
    buffer.clear();
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
            [b'"', after @ ..] => return Some((buffer, after)),
            _ => return None,
        }
    }
}
