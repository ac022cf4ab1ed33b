//! Numbers: integers, floats, DECIMAL, BIT and YEAR.

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

use crate::binlog::rows::decimal_bytes;
use crate::reader::Reader;

/// A whole number of one to eight bytes.
#[derive(Debug)]
pub(super) struct Integer {
    pub(super) is_unsigned: bool,
}

impl Decode for Integer {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        const MALFORMED: ValueError = ValueError::Malformed("integer");
        let width = raw.len();
        if width == 0 {
            return Err(MALFORMED);
        }
        let number = Reader(raw).uint(width).ok_or(MALFORMED)?;
        if self.is_unsigned {
            out.u64(number);
        } else {
            let unused = 64 - 8 * u32::try_from(width).map_err(|_| MALFORMED)?;
            out.i64((number << unused).cast_signed() >> unused);
        }
        Ok(Written::Form)
    }
}

/// `FLOAT` and `DOUBLE`: the fewest digits that give the number back.
#[derive(Debug)]
pub(super) struct Float;

impl Decode for Float {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let mut buffer = zmij::Buffer::new();
        let text = match *raw {
            [a, b, c, d] => {
                let number = f32::from_le_bytes([a, b, c, d]);
                number.is_finite().then(|| buffer.format_finite(number))
            }
            [a, b, c, d, e, f, g, h] => {
                let number = f64::from_le_bytes([a, b, c, d, e, f, g, h]);
                number.is_finite().then(|| buffer.format_finite(number))
            }
            _ => None,
        };
        // The server holds no infinities and no NaN.
        let text = text.ok_or(ValueError::Malformed("floating-point number"))?;
        out.raw(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        Ok(Written::Form)
    }
}

/// `DECIMAL(precision, scale)` in the server's binary form (`decimal2bin` in its `strings/decimal.c`):
/// nine digits in four bytes, most significant first, negative numbers with every bit inverted, and
/// the first bit inverted in all.
#[derive(Debug)]
pub(super) struct Decimal {
    pub(super) precision: u8,
    pub(super) scale: u8,
}

const MALFORMED_DECIMAL: ValueError = ValueError::Malformed("decimal");

impl Decode for Decimal {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let mut text = Vec::with_capacity(usize::from(self.precision) + 3);
        decimal(raw, self.precision, self.scale, &mut text).ok_or(MALFORMED_DECIMAL)?;
        out.quoted(&text);
        Ok(Written::Form)
    }
}

/// Writes a DECIMAL's text; `None` where the bytes are none of this precision and scale.
pub(crate) fn decimal(raw: &[u8], precision: u8, scale: u8, out: &mut Vec<u8>) -> Option<()> {
    let whole = precision.checked_sub(scale)?;
    let first = *raw.first()?;
    // Inverted back, a positive number has its first bit set.
    let inverted = if first & 0x80 == 0 { 0xff } else { 0 };
    if inverted != 0 {
        out.push(b'-');
    }
    let mut plain: Vec<u8> = raw.iter().map(|byte| byte ^ inverted).collect();
    *plain.first_mut()? ^= 0x80;
    let (before, after) = plain.split_at_checked(decimal_bytes(whole))?;
    if after.len() != decimal_bytes(scale) {
        return None;
    }
    let start = out.len();
    // The group that is not full stands at the outer ends.
    digits(before, whole % 9, usize::from(whole / 9), true, out)?;
    let zeros = out.get(start..)?.iter().take_while(|digit| **digit == b'0').count();
    out.drain(start..start.checked_add(zeros)?);
    if out.len() == start {
        out.push(b'0');
    }
    if scale > 0 {
        out.push(b'.');
        digits(after, scale % 9, usize::from(scale / 9), false, out)?;
    }
    Some(())
}

/// Appends groups of digits: `full` ones of nine, and one of `left` before or behind them.
fn digits(
    bytes: &[u8],
    left: u8,
    full: usize,
    is_left_first: bool,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut rest = bytes;
    let mut group = |width: usize, count: u8| {
        let (head, tail) = rest.split_at_checked(width)?;
        rest = tail;
        let number = head.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        if number >= 10u32.checked_pow(u32::from(count))? {
            return None;
        }
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(number).as_bytes();
        out.resize(out.len() + usize::from(count).checked_sub(text.len())?, b'0');
        out.extend_from_slice(text);
        Some(())
    };
    if is_left_first && left > 0 {
        group(decimal_bytes(left), left)?;
    }
    for _ in 0..full {
        group(4, 9)?;
    }
    if !is_left_first && left > 0 {
        group(decimal_bytes(left), left)?;
    }
    Some(())
}

/// `BIT(bits)`: its digits, the most significant first.
#[derive(Debug)]
pub(super) struct Bit {
    pub(super) bits: u16,
}

impl Decode for Bit {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        const MALFORMED: ValueError = ValueError::Malformed("bit value");
        let bits = usize::from(self.bits);
        let skipped = (8 * raw.len()).checked_sub(bits).filter(|skipped| *skipped < 8);
        let skipped = skipped.ok_or(MALFORMED)?;
        let all = raw.iter().flat_map(|byte| (0..8).map(move |at| b'0' + (byte >> (7 - at) & 1)));
        let mut text = Vec::with_capacity(8 * raw.len());
        text.extend(all);
        let (unused, text) = text.split_at_checked(skipped).ok_or(MALFORMED)?;
        if unused.contains(&b'1') {
            return Err(MALFORMED);
        }
        out.quoted(text);
        Ok(Written::Form)
    }
}

/// `YEAR`: 0 or 1901 to 2155.
#[derive(Debug)]
pub(super) struct Year;

impl Decode for Year {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        match *raw {
            [0] => out.u64(0),
            [year] => out.u64(1900 + u64::from(year)),
            _ => return Err(ValueError::Malformed("year")),
        }
        Ok(Written::Form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(decode: &dyn Decode, raw: &[u8]) -> Option<String> {
        let mut out = JsonWriter::new(Vec::new());
        decode.write(raw, &mut out).ok()?;
        Some(String::from_utf8(out.into_inner()).unwrap())
    }

    #[test]
    fn m52_integers_of_every_width_keep_their_sign() {
        let of = |is_unsigned, raw: &[u8]| written(&Integer { is_unsigned }, raw).unwrap();
        for width in [1, 2, 3, 4, 8] {
            assert_eq!(of(false, &vec![0xff; width]), "-1");
            let max = u64::MAX >> (64 - 8 * width);
            assert_eq!(of(true, &vec![0xff; width]), max.to_string());
        }
        assert_eq!(of(false, &[0, 0, 0x80]), "-8388608");
        assert_eq!(written(&Integer { is_unsigned: true }, &[]), None);
        assert_eq!(written(&Integer { is_unsigned: true }, &[0; 9]), None);
    }

    #[test]
    fn m61_floats_have_the_fewest_digits() {
        let single = |number: f32| written(&Float, &number.to_le_bytes()).unwrap();
        let double = |number: f64| written(&Float, &number.to_le_bytes()).unwrap();
        assert_eq!([single(1.1), single(16_777_216.0), single(-0.5)], ["1.1", "16777216", "-0.5"]);
        assert_eq!(double(0.1 + 0.2), "0.30000000000000004");
        assert_eq!(double(-0.0), "-0");
        for number in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e22, 123_456_789.125] {
            assert_eq!(double(number).parse::<f64>().unwrap().to_bits(), number.to_bits());
        }
        assert_eq!(written(&Float, &f64::NAN.to_le_bytes()), None);
        assert_eq!(written(&Float, &[0; 5]), None);
    }

    #[test]
    fn m61_decimals_keep_their_scale_and_sign() {
        let of = |precision, scale, raw: &[u8]| written(&Decimal { precision, scale }, raw);
        let text = |text: &str| Some(format!("\"{text}\""));
        assert_eq!(of(5, 2, &[0x80, 0x00, 0x01]), text("0.01"));
        assert_eq!(of(5, 2, &[0x7f, 0xff, 0xfe]), text("-0.01"));
        assert_eq!(of(5, 0, &[0x80, 0x00, 0x00]), text("0"));
        assert_eq!(of(5, 5, &[0x80, 0x00, 0x01]), text("0.00001"));
        let wide = [0x80 | 1, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(of(14, 4, &wide), text("1234567890.1234"));
        assert_eq!(of(5, 2, &[0x80, 0x00]), None);
        assert_eq!(of(5, 2, &[0x80, 0x00, 0x64]), None, "no two digits");
        assert_eq!(of(2, 3, &[0x80]), None);
    }

    #[test]
    fn m62_bits_are_all_there() {
        let of = |bits, raw: &[u8]| written(&Bit { bits }, raw);
        assert_eq!(of(10, &[2, 0xaa]).unwrap(), "\"1010101010\"");
        assert_eq!(of(1, &[0]).unwrap(), "\"0\"");
        assert_eq!(of(64, &[0xff; 8]).unwrap().len(), 66);
        assert_eq!([of(10, &[4, 0]), of(10, &[0]), of(1, &[0, 0])], [None, None, None]);
    }

    #[test]
    fn m54_year_zero_is_zero() {
        let of = |raw: &[u8]| written(&Year, raw);
        assert_eq!([of(&[0]), of(&[1]), of(&[255])].map(Option::unwrap), ["0", "1901", "2155"]);
        assert_eq!(of(&[]), None);
    }
}
