//! Booleans and numbers.

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

/// The length of the leading ASCII digits.
#[inline]
pub(super) fn digits(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len())
}

/// `boolean`: `t` or `f`.
#[derive(Debug)]
pub(super) struct Bool;

impl Decode for Bool {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        match raw {
            b"t" => out.bool(true),
            b"f" => out.bool(false),
            _ => return Err(ValueError::Malformed("boolean")),
        }
        Ok(Written::Form)
    }
}

/// Integers: the server's digits are the JSON number, once they are proven to be in range.
#[derive(Debug)]
pub(super) struct Integer {
    /// The type's name, for errors.
    pub(super) name: &'static str,
    /// The largest magnitude of a negative value; 0 where the type is unsigned.
    pub(super) max_negative: u64,
    /// The largest value.
    pub(super) max: u64,
}

/// Digits in canonical form (no leading zero) up to the largest u64.
#[inline]
fn canonical_u64(text: &[u8]) -> Option<u64> {
    let canonical = match text {
        [b'0', _, ..] => false,
        [_, ..] => text.len() <= 20,
        [] => false,
    };
    if !canonical {
        return None;
    }
    // Nineteen digits always fit; only a twentieth can overflow.
    let (head, last) = if text.len() == 20 { text.split_at(19) } else { (text, &[][..]) };
    let mut value = 0u64;
    for byte in head {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    match last {
        [] => Some(value),
        [byte @ b'0'..=b'9', ..] => {
            value.checked_mul(10)?.checked_add(u64::from(byte.wrapping_sub(b'0')))
        }
        _ => None,
    }
}

impl Decode for Integer {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let in_range = match raw {
            // There is no "-0".
            [b'-', digits @ ..] => {
                canonical_u64(digits).is_some_and(|value| value != 0 && value <= self.max_negative)
            }
            digits => canonical_u64(digits).is_some_and(|value| value <= self.max),
        };
        if !in_range {
            return Err(ValueError::Malformed(self.name));
        }
        out.raw(raw);
        Ok(Written::Form)
    }
}

/// `real` and `double precision`: the server's shortest text is a JSON number already.
#[derive(Debug)]
pub(super) struct Float;

/// The longest text of a float8: sign, 17 digits, point, `e-308`.
const FLOAT_MAX_LEN: usize = 24;

/// Whether the text is a JSON number that a double can hold.
fn is_float(raw: &[u8]) -> bool {
    let unsigned = raw.strip_prefix(b"-").unwrap_or(raw);
    let integer = digits(unsigned);
    let (integer, mut rest) = unsigned.split_at(integer);
    if raw.len() > FLOAT_MAX_LEN || matches!(integer, [] | [b'0', _, ..]) {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = fraction.split_at(count).1;
    }
    match rest {
        [] => true,
        [b'e' | b'E', exponent @ ..] => {
            let exponent = match exponent {
                [b'+' | b'-', unsigned @ ..] => unsigned,
                unsigned => unsigned,
            };
            let all_digits = !exponent.is_empty() && digits(exponent) == exponent.len();
            // Two digits of exponent and 24 of text stay far below the largest double.
            all_digits && (exponent.len() <= 2 || is_finite(raw))
        }
        _ => false,
    }
}

/// Whether a double holds the number of this text without becoming infinite.
#[cold]
fn is_finite(raw: &[u8]) -> bool {
    std::str::from_utf8(raw)
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .is_some_and(f64::is_finite)
}

impl Decode for Float {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        if is_float(raw) {
            out.raw(raw);
        } else if is_special(raw) {
            out.quoted(raw);
        } else {
            return Err(ValueError::Malformed("floating-point number"));
        }
        Ok(Written::Form)
    }
}

/// The values of floats and numerics that are not JSON numbers.
fn is_special(raw: &[u8]) -> bool {
    matches!(raw, b"NaN" | b"Infinity" | b"-Infinity")
}

/// `numeric`: every digit the server sends, as a string.
#[derive(Debug)]
pub(super) struct Numeric;

/// Digits with an optional sign and fraction.
#[inline]
fn is_decimal(raw: &[u8]) -> bool {
    let unsigned = raw.strip_prefix(b"-").unwrap_or(raw);
    match unsigned.split_at(digits(unsigned)) {
        ([], _) => false,
        (_, []) => true,
        (_, [b'.', fraction @ ..]) => !fraction.is_empty() && digits(fraction) == fraction.len(),
        _ => false,
    }
}

impl Decode for Numeric {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        if !is_decimal(raw) && !is_special(raw) {
            return Err(ValueError::Malformed("numeric"));
        }
        out.quoted(raw);
        Ok(Written::Form)
    }
}

/// `money` under `lc_monetary = C`: `-$1,234.56`, written without currency sign and commas.
#[derive(Debug)]
pub(super) struct Money;

impl Decode for Money {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        const MALFORMED: ValueError = ValueError::Malformed("money");
        let (sign, rest) = match raw.strip_prefix(b"-") {
            Some(rest) => (&b"-"[..], rest),
            None => (&[][..], raw),
        };
        let grouped = rest.strip_prefix(b"$").ok_or(MALFORMED)?;
        let (whole, cents) = grouped.split_last_chunk::<3>().ok_or(MALFORMED)?;
        if !matches!(cents, [b'.', b'0'..=b'9', b'0'..=b'9']) {
            return Err(MALFORMED);
        }
        out.byte(b'"');
        out.raw(sign);
        for (index, group) in whole.split(|&byte| byte == b',').enumerate() {
            let length_fits = match index {
                0 => (1..=3).contains(&group.len()),
                _ => group.len() == 3,
            };
            if !length_fits || digits(group) != group.len() {
                return Err(MALFORMED);
            }
            out.raw(group);
        }
        out.raw(cents);
        out.byte(b'"');
        Ok(Written::Form)
    }
}
