//! Text, and types whose text is their form.

use std::borrow::Cow;

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written, base64};

use super::binary::number::bytea;

/// Text without a length, and the server's text of types that have no JSON counterpart.
#[derive(Debug)]
pub(super) struct Text;

impl Decode for Text {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        out.utf8_string(raw)?;
        Ok(Written::Form)
    }
}

/// `varchar(n)` and `char(n)`.
#[derive(Debug)]
pub(super) struct LimitedText {
    /// n, in characters.
    pub(super) max_chars: u32,
}

impl Decode for LimitedText {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let max = usize::try_from(self.max_chars).unwrap_or(usize::MAX);
        // There are never more characters than bytes, so that most values need no count.
        if raw.len() > max && chars(raw) > max {
            return Err(ValueError::Malformed("text of the declared length"));
        }
        out.utf8_string(raw)?;
        Ok(Written::Form)
    }
}

/// The number of characters of UTF-8 text: the bytes that do not continue one.
fn chars(raw: &[u8]) -> usize {
    raw.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

/// `"char"`, one byte. Servers from 16 print a byte above 127 as a backslash and three octal
/// digits, older ones send it as it is, which need not be UTF-8: both become the newer form.
#[derive(Debug)]
pub(super) struct Char;

impl Decode for Char {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        match raw {
            [byte] if *byte >= 0x80 => {
                let octal = |shift: u32| b'0' + (byte.wrapping_shr(shift) & 7);
                out.raw(&[b'"', b'\\', b'\\', octal(6), octal(3), octal(0), b'"']);
            }
            _ => out.utf8_string(raw)?,
        }
        Ok(Written::Form)
    }
}

/// `bit` and `bit varying`.
#[derive(Debug)]
pub(super) struct Bits;

impl Decode for Bits {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        if !raw.iter().all(|byte| matches!(byte, b'0' | b'1')) {
            return Err(ValueError::Malformed("bit string"));
        }
        out.quoted(raw);
        Ok(Written::Form)
    }
}

/// `uuid`.
#[derive(Debug)]
pub(super) struct Uuid;

/// Whether the bytes are lower-case hexadecimal digits with hyphens at the four places, in whole
/// passes without a branch per byte.
#[inline]
fn is_uuid(raw: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; 36]>::try_from(raw) else { return false };
    let hex = |byte: u8| byte.wrapping_sub(b'0') < 10 || byte.wrapping_sub(b'a') < 6;
    let all = bytes.iter().fold(true, |all, &byte| all & (hex(byte) | (byte == b'-')));
    let hyphens = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(u8::from(byte == b'-')));
    let at = |index: usize| bytes.get(index) == Some(&b'-');
    all && hyphens == 4 && at(8) && at(13) && at(18) && at(23)
}

impl Decode for Uuid {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        if !is_uuid(raw) {
            return Err(ValueError::Malformed("uuid"));
        }
        out.quoted(raw);
        Ok(Written::Form)
    }
}

/// `bytea` in the server's hex output, or in binary as a tuple holds it (see
/// [`Converted::Kept`](super::binary::Converted::Kept)); written as base64 without a buffer in between.
#[derive(Debug)]
pub(super) struct Bytea;

/// The bytes of a value that is kept in binary.
fn kept(raw: &[u8]) -> Option<&[u8]> {
    match raw {
        [b'b', _, _, _, _, bytes @ ..] => Some(bytes),
        _ => None,
    }
}

const MALFORMED_BYTEA: ValueError = ValueError::Malformed("bytea in hex output");

/// What [`HEX`] holds for a byte that is no hexadecimal digit.
const NOT_HEX: u8 = 0xff;

/// The value of every byte as a hexadecimal digit.
const HEX: [u8; 256] = hex_values();

const fn hex_values() -> [u8; 256] {
    let mut values = [NOT_HEX; 256];
    let mut byte: u8 = 0;
    loop {
        #[allow(clippy::indexing_slicing, reason = "a u8 is always below 256")]
        {
            values[byte as usize] = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                _ => NOT_HEX,
            };
        }
        if byte == 255 {
            return values;
        }
        byte += 1;
    }
}

/// The value of hexadecimal digits, four bits each. Garbage with the top bit set where one is none.
#[inline]
fn hex_bits<const N: usize>(digits: &[u8; N]) -> u32 {
    let mut bits = 0u32;
    let mut bad = 0u8;
    for &digit in digits {
        let value = HEX.get(usize::from(digit)).copied().unwrap_or(NOT_HEX);
        bad |= value;
        bits = bits << 4 | u32::from(value & 0x0f);
    }
    bits | u32::from(bad & 0x80) << 24
}

/// The bit that [`hex_bits`] sets for bad digits.
const BAD_HEX: u32 = 0x8000_0000;

impl Decode for Bytea {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        if let Some(bytes) = kept(raw) {
            out.base64(bytes);
            return Ok(Written::Form);
        }
        let hex = raw.strip_prefix(b"\\x").ok_or(MALFORMED_BYTEA)?;
        out.reserve(hex.len() / 3 * 2 + 8);
        out.byte(b'"');
        let mut bad = 0u32;
        let (steps, rest) = hex.as_chunks::<48>();
        for step in steps {
            let mut text = [0u8; 32];
            for (six, four) in step.as_chunks::<6>().0.iter().zip(text.as_chunks_mut::<4>().0) {
                let bits = hex_bits(six);
                bad |= bits;
                *four = base64::group(bits);
            }
            out.raw(&text);
        }
        let (groups, tail) = rest.as_chunks::<6>();
        for six in groups {
            let bits = hex_bits(six);
            bad |= bits;
            out.raw(&base64::group(bits));
        }
        bad |= write_tail(tail, out);
        if bad & BAD_HEX != 0 {
            return Err(MALFORMED_BYTEA);
        }
        out.byte(b'"');
        Ok(Written::Form)
    }

    fn text<'r>(&self, raw: &'r [u8]) -> Cow<'r, [u8]> {
        let Some(bytes) = kept(raw) else { return Cow::Borrowed(raw) };
        let mut text = Vec::new();
        let _always_some = bytea(bytes, &mut text);
        Cow::Owned(text)
    }
}

/// Writes the last one or two bytes with padding. [`BAD_HEX`] is set where they are malformed.
fn write_tail(tail: &[u8], out: &mut JsonWriter) -> u32 {
    match tail {
        [] => 0,
        [a, b] => {
            let bits = hex_bits(&[*a, *b]);
            out.raw(&[base64::digit(bits >> 2), base64::digit(bits << 4), b'=', b'=']);
            bits
        }
        [a, b, c, d] => {
            let bits = hex_bits(&[*a, *b, *c, *d]);
            let [_, two, three, four] = base64::group(bits << 2);
            out.raw(&[two, three, four, b'=']);
            bits
        }
        _ => BAD_HEX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(raw: &[u8]) -> String {
        let mut out = JsonWriter::new(Vec::new());
        Bytea.write(raw, &mut out).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn bytes_kept_in_binary_are_those_of_the_text() {
        for len in 0..100u8 {
            let bytes: Vec<u8> = (0..len).map(|at| at.wrapping_mul(37).wrapping_add(len)).collect();
            let kept = [b"b\0\0\0".as_slice(), &[len], &bytes].concat();
            let text = Bytea.text(&kept);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(*text, *format!("\\x{hex}").as_bytes());
            assert_eq!(written(&kept), written(&text));
            assert_eq!(Bytea.text(&text), text, "text is its own");
        }
    }
}
