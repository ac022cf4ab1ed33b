//! The one writer of JSON text for data (invariant A2).
//!
//! Decoders and the envelope write through [`JsonWriter`], so that snapshot and stream, and every
//! database, agree on how a value looks. Nothing here builds a tree; text goes straight into one
//! reused buffer.

use crate::base64;
use crate::value::ValueError;

/// How a decoder wrote a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// In the column's own form.
    Form,
    /// A JSON column whose text a strict parser refuses: written as a JSON string of the text; the
    /// envelope lists the column in `raw_json`.
    RawJson,
}

impl Written {
    /// The stronger of the two: one raw element makes the whole column raw.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::RawJson { self } else { other }
    }
}

/// Appends JSON tokens to a buffer. Commas and colons are the caller's ([`JsonWriter::raw`]).
#[derive(Debug, Default)]
pub struct JsonWriter {
    out: Vec<u8>,
}

/// Whether a JSON string must escape the byte: control characters, the quote and the backslash.
#[inline]
fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Bytes looked at in one step where a value is long; the compiler turns the step into vector code.
const STEP: usize = 16;

/// The length of the leading bytes that a JSON string holds as they are: everything up to the first
/// control character, quote or backslash.
#[inline]
pub fn unescaped_run(bytes: &[u8]) -> usize {
    let (steps, _) = bytes.as_chunks::<STEP>();
    let clean = steps
        .iter()
        .take_while(|step| !step.iter().fold(false, |found, &byte| found | is_escaped(byte)))
        .count();
    let start = clean.saturating_mul(STEP);
    let rest = bytes.get(start..).unwrap_or_default();
    start.saturating_add(rest.iter().position(|&byte| is_escaped(byte)).unwrap_or(rest.len()))
}

/// Whether the bytes are ASCII and a JSON string holds them as they are.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    /// Outside of 0x20 to 0x7f, the quote, or the backslash.
    #[inline]
    fn special(byte: u8) -> bool {
        byte.wrapping_sub(0x20) >= 0x60 || byte == b'"' || byte == b'\\'
    }
    #[inline]
    fn all_plain<const N: usize>(step: &[u8; N]) -> bool {
        !step.iter().fold(false, |found, &byte| found | special(byte))
    }
    // The last step overlaps the one before it, so that no byte is left over.
    if let Some(last) = bytes.last_chunk::<STEP>() {
        return bytes.as_chunks::<STEP>().0.iter().all(all_plain) && all_plain(last);
    }
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => all_plain(first) && all_plain(last),
        _ => !bytes.iter().any(|&byte| special(byte)),
    }
}

/// The lower-case hexadecimal digit of a value below 16.
fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + (nibble & 0x0f) - 10 }
}

impl JsonWriter {
    /// Writes into `buffer`, after what it holds.
    pub fn new(buffer: Vec<u8>) -> Self {
        Self { out: buffer }
    }

    /// The bytes written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.out
    }

    /// The number of bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Gives the buffer back.
    pub fn into_inner(self) -> Vec<u8> {
        self.out
    }

    /// Makes room for `additional` bytes.
    pub fn reserve(&mut self, additional: usize) {
        self.out.reserve(additional);
    }

    /// Forgets everything after `len`; used to take back a value that could not be finished.
    pub fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// Appends text that is JSON already (punctuation, pre-rendered parts, proven numbers).
    #[inline]
    pub fn raw(&mut self, json: &[u8]) {
        self.out.extend_from_slice(json);
    }

    /// Appends one byte that is JSON already.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    /// Appends `null`.
    #[inline]
    pub fn null(&mut self) {
        self.raw(b"null");
    }

    /// Appends `true` or `false`.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.raw(if value { b"true" } else { b"false" });
    }

    /// Appends an unsigned integer.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.raw(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Appends a signed integer.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.raw(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Appends a quoted, escaped string.
    #[inline]
    pub fn string(&mut self, text: &str) {
        self.byte(b'"');
        self.string_part(text);
        self.byte(b'"');
    }

    /// Appends bytes in quotes that the caller has proven to be ASCII without quote, backslash and
    /// control characters.
    #[inline]
    pub fn quoted(&mut self, plain: &[u8]) {
        self.out.reserve(plain.len().saturating_add(2));
        self.out.push(b'"');
        self.out.extend_from_slice(plain);
        self.out.push(b'"');
    }

    /// Appends bytes from outside as a quoted, escaped string.
    ///
    /// # Errors
    /// [`ValueError::Utf8`] where the bytes are not UTF-8; nothing is written then.
    #[inline]
    pub fn utf8_string(&mut self, bytes: &[u8]) -> Result<(), ValueError> {
        if is_plain(bytes) {
            self.quoted(bytes);
            return Ok(());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ValueError::Utf8)?;
        self.string(text);
        Ok(())
    }

    /// Appends escaped text without quotes; the caller writes the quotes around the parts.
    #[inline]
    pub fn string_part(&mut self, text: &str) {
        let bytes = text.as_bytes();
        // Most values need no escape: one pass decides, one copy writes.
        match unescaped_run(bytes) {
            run if run == bytes.len() => self.out.extend_from_slice(bytes),
            first => self.escaped(bytes, first),
        }
    }

    fn escaped(&mut self, bytes: &[u8], first: usize) {
        let (clean, rest) = bytes.split_at(first);
        self.out.extend_from_slice(clean);
        let mut rest = rest;
        while let Some((&byte, tail)) = rest.split_first() {
            match byte {
                b'"' => self.raw(b"\\\""),
                b'\\' => self.raw(b"\\\\"),
                b'\n' => self.raw(b"\\n"),
                b'\r' => self.raw(b"\\r"),
                b'\t' => self.raw(b"\\t"),
                0x08 => self.raw(b"\\b"),
                0x0c => self.raw(b"\\f"),
                byte if byte < 0x20 => {
                    self.raw(b"\\u00");
                    self.hex_byte(byte);
                }
                byte => self.byte(byte),
            }
            let (clean, next) = tail.split_at(unescaped_run(tail));
            self.out.extend_from_slice(clean);
            rest = next;
        }
    }

    /// Appends bytes as a quoted string of standard base64 with padding.
    pub fn base64(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len() / 3 * 4 + 6);
        self.byte(b'"');
        self.base64_part(bytes);
        self.byte(b'"');
    }

    /// Appends base64 with padding without quotes; the caller writes them.
    pub fn base64_part(&mut self, bytes: &[u8]) {
        let group = |&[a, b, c]: &[u8; 3]| base64::group(u32::from_be_bytes([0, a, b, c]));
        let (steps, rest) = bytes.as_chunks::<24>();
        for step in steps {
            let mut text = [0u8; 32];
            for (three, four) in step.as_chunks::<3>().0.iter().zip(text.as_chunks_mut::<4>().0) {
                *four = group(three);
            }
            self.raw(&text);
        }
        let (groups, tail) = rest.as_chunks::<3>();
        for three in groups {
            self.raw(&group(three));
        }
        match *tail {
            [a] => {
                let [one, two, ..] = group(&[a, 0, 0]);
                self.raw(&[one, two, b'=', b'=']);
            }
            [a, b] => {
                let [one, two, three, _] = group(&[a, b, 0]);
                self.raw(&[one, two, three, b'=']);
            }
            _ => {}
        }
    }

    /// Appends two lower-case hexadecimal digits (inside a string).
    pub fn hex_byte(&mut self, byte: u8) {
        self.byte(hex_digit(byte >> 4));
        self.byte(hex_digit(byte & 0x0f));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &str) -> String {
        let mut out = JsonWriter::default();
        out.string(text);
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn control_characters_quotes_and_backslashes_are_escaped() {
        assert_eq!(
            written("a\"b\\c\n\u{1}\u{1f}é😀\u{7f}"),
            "\"a\\\"b\\\\c\\n\\u0001\\u001fé😀\u{7f}\""
        );
    }

    #[test]
    fn bytes_of_any_length_are_padded_base64() {
        let base64 = |bytes: &[u8]| {
            let mut out = JsonWriter::default();
            out.base64(bytes);
            String::from_utf8(out.into_inner()).unwrap()
        };
        let short = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (bytes, expected) in short.into_iter().zip(expected) {
            assert_eq!(base64(bytes.as_bytes()), format!("\"{expected}\""));
        }
        // A step of 24 bytes is eight groups of three.
        let long: Vec<u8> = (0..=255).collect();
        let groups: String = long.chunks(3).map(base64).collect();
        assert_eq!(base64(&long), format!("\"{}\"", groups.replace('"', "")));
    }

    #[test]
    fn invalid_utf8_writes_nothing() {
        let mut out = JsonWriter::default();
        assert!(out.utf8_string(&[0xff]).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn a_special_byte_is_found_at_every_place() {
        for len in 0..70 {
            for at in 0..len {
                for byte in [0u8, 0x1f, b'"', b'\\'] {
                    let mut bytes = vec![b'x'; len];
                    bytes[at] = byte;
                    assert_eq!(unescaped_run(&bytes), at);
                    assert!(!is_plain(&bytes));
                }
                let mut bytes = vec![b' '; len];
                bytes[at] = 0x80;
                assert_eq!(unescaped_run(&bytes), len);
                assert!(!is_plain(&bytes));
                bytes[at] = 0x7f;
                assert!(is_plain(&bytes));
            }
        }
    }

    proptest! {
        #[test]
        fn any_string_reads_back_equal(text in ".*") {
            let parsed: String = serde_json::from_str(&written(&text)).unwrap();
            prop_assert_eq!(parsed, text);
        }
    }
}
