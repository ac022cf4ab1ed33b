//! Types made of others. Their parts are put into text first and then into quotes, where the text needs
//! them, as the server does.

use super::{Binary, Convert, Reader, push_number};
use crate::decode::scratch::with_buffer;

/// The server's own limit.
const MAX_DIMENSIONS: usize = 6;

/// What the server takes for white space in the text of arrays, composites and ranges.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends a part's text, in quotes where `needs` says so of any of its bytes or it is empty. A quote
/// or backslash gets `escape` of itself before it.
fn push_part(
    part: &Binary,
    raw: &[u8],
    needs: impl Fn(&[u8]) -> bool,
    escape: impl Fn(u8) -> u8,
    out: &mut Vec<u8>,
) -> Option<()> {
    with_buffer(|text| {
        part.write(raw, text)?;
        if !text.is_empty() && !needs(text) {
            out.extend_from_slice(text);
            return Some(());
        }
        out.push(b'"');
        for byte in text.iter() {
            if matches!(byte, b'"' | b'\\') {
                out.push(escape(*byte));
            }
            out.push(*byte);
        }
        out.push(b'"');
        Some(())
    })
}

/// The dimensions of an array: lengths, and whether all begin with 1.
struct Shape {
    lengths: [usize; MAX_DIMENSIONS],
    dimensions: usize,
    elements: usize,
}

impl Shape {
    /// Reads the head of an array, and appends its bounds where they are not the default.
    fn read(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Option<Self> {
        let dimensions = usize::try_from(reader.i32()?).ok()?;
        let _has_null = reader.i32()?;
        let _element_type = reader.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return None;
        }
        let mut shape = Self { lengths: [0; MAX_DIMENSIONS], dimensions, elements: 1 };
        let start = out.len();
        let mut is_default = true;
        for length in shape.lengths.iter_mut().take(dimensions) {
            let (count, lower) = (reader.i32()?, reader.i32()?);
            *length = usize::try_from(count).ok()?;
            shape.elements = shape.elements.checked_mul(*length)?;
            is_default &= lower == 1;
            out.push(b'[');
            push_number(lower, out);
            out.push(b':');
            push_number(lower.checked_add(count)?.checked_sub(1)?, out);
            out.push(b']');
        }
        if is_default {
            out.truncate(start);
        } else {
            out.push(b'=');
        }
        Some(shape)
    }

    /// How many dimensions begin or end at an element: those whose inner elements were all passed.
    fn edges(&self, element: usize) -> usize {
        let mut size = 1usize;
        let lengths = self.lengths.iter().take(self.dimensions).rev();
        lengths
            .take_while(|length| {
                size = size.saturating_mul(**length);
                size > 0 && element.is_multiple_of(size)
            })
            .count()
    }
}

pub(super) fn array(element: &Binary, delimiter: u8, raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let shape = Shape::read(&mut reader, out)?;
    if shape.dimensions == 0 || shape.elements == 0 {
        out.extend_from_slice(b"{}");
        return reader.end();
    }
    let needs = |text: &[u8]| {
        let special = |byte: &u8| {
            *byte == delimiter || is_space(*byte) || matches!(byte, b'"' | b'\\' | b'{' | b'}')
        };
        text.eq_ignore_ascii_case(b"NULL") || text.iter().any(special)
    };
    for at in 0..shape.elements {
        if at > 0 {
            out.push(delimiter);
        }
        out.resize(out.len() + shape.edges(at), b'{');
        match reader.value()? {
            None => out.extend_from_slice(b"NULL"),
            Some(value) => push_part(element, value, needs, |_| b'\\', out)?,
        }
        out.resize(out.len() + shape.edges(at + 1), b'}');
    }
    reader.end()
}

/// One dimension from 0 on, without NULLs.
pub(super) fn vector(element: Convert, raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let shape = with_buffer(|bounds| Shape::read(&mut reader, bounds))?;
    if shape.dimensions > 1 {
        return None;
    }
    for at in 0..if shape.dimensions == 0 { 0 } else { shape.elements } {
        if at > 0 {
            out.push(b' ');
        }
        element(reader.value()??, out)?;
    }
    reader.end()
}

/// `fields` are the attributes' types and how they become text. A composite that was altered since it
/// was looked up has others, and is not understood.
pub(super) fn composite(fields: &[(u32, Binary)], raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let needs = |text: &[u8]| {
        let special =
            |byte: &u8| is_space(*byte) || matches!(byte, b'"' | b'\\' | b'(' | b')' | b',');
        text.iter().any(special)
    };
    let mut reader = Reader(raw);
    if usize::try_from(reader.i32()?).ok()? != fields.len() {
        return None;
    }
    out.push(b'(');
    for (at, (oid, field)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if reader.u32()? != *oid {
            return None;
        }
        if let Some(value) = reader.value()? {
            push_part(field, value, needs, |byte| byte, out)?;
        }
    }
    out.push(b')');
    reader.end()
}

/// The flags of a range ("Range Types" in the server's `rangetypes.h`).
const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

pub(super) fn range(bound: &Binary, raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let needs = |text: &[u8]| {
        let special = |byte: &u8| {
            is_space(*byte) || matches!(byte, b'"' | b'\\' | b'(' | b')' | b'[' | b']' | b',')
        };
        text.iter().any(special)
    };
    let mut reader = Reader(raw);
    let flags = reader.u8()?;
    if flags & EMPTY != 0 {
        out.extend_from_slice(b"empty");
        return reader.end();
    }
    out.push(if flags & LOWER_INCLUSIVE != 0 { b'[' } else { b'(' });
    if flags & LOWER_INFINITE == 0 {
        push_part(bound, reader.value()??, needs, |byte| byte, out)?;
    }
    out.push(b',');
    if flags & UPPER_INFINITE == 0 {
        push_part(bound, reader.value()??, needs, |byte| byte, out)?;
    }
    out.push(if flags & UPPER_INCLUSIVE != 0 { b']' } else { b')' });
    reader.end()
}

pub(super) fn multirange(bound: &Binary, raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let count = usize::try_from(reader.i32()?).ok()?;
    out.push(b'{');
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        range(bound, reader.value()??, out)?;
    }
    out.push(b'}');
    reader.end()
}
