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
    text_as_shown!();

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
    text_as_shown!();

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

impl Decode for Decimal {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        out.byte(b'"');
        decimal(raw, self.precision, self.scale, out).ok_or(ValueError::Malformed("decimal"))?;
        out.byte(b'"');
        Ok(Written::Form)
    }
}

/// The most digits that the server's own form has. A column has 65 at most; in JSON their number is rounded up
/// to nines.
const PRECISION_MAX: u8 = 81;

/// Writes a DECIMAL's text; `None` where the bytes are none of this precision and scale.
pub(crate) fn decimal(raw: &[u8], precision: u8, scale: u8, out: &mut JsonWriter) -> Option<()> {
    let whole = precision.checked_sub(scale).filter(|_| precision <= PRECISION_MAX)?;
    let first = *raw.first()?;
    // Inverted back, a positive number has its first bit set.
    let inverted = if first & 0x80 == 0 { 0xff } else { 0 };
    if inverted != 0 {
        out.byte(b'-');
    }
    let mut plain = [0; 40];
    let plain = plain.get_mut(..raw.len())?;
    for (plain, raw) in plain.iter_mut().zip(raw) {
        *plain = raw ^ inverted;
    }
    *plain.first_mut()? ^= 0x80;
    let (before, after) = plain.split_at_checked(decimal_bytes(whole))?;
    if after.len() != decimal_bytes(scale) {
        return None;
    }
    // The group that is not full stands at the outer ends.
    let (left, full) = before.split_at_checked(decimal_bytes(whole % 9))?;
    let mut has_begun = false;
    let groups = std::iter::once((left, whole % 9)).chain(full.chunks(4).map(|full| (full, 9)));
    for (bytes, count) in groups {
        let digits = group(bytes, count)?;
        let digits = digits.get(9 - usize::from(count)..)?;
        let zeros = digits.iter().take_while(|digit| !has_begun && **digit == b'0').count();
        let digits = digits.get(zeros..)?;
        has_begun |= !digits.is_empty();
        out.raw(digits);
    }
    if !has_begun {
        out.byte(b'0');
    }
    if scale > 0 {
        out.byte(b'.');
        let (full, left) = after.split_at_checked(decimal_bytes(scale - scale % 9))?;
        for bytes in full.chunks(4) {
            out.raw(&group(bytes, 9)?);
        }
        out.raw(group(left, scale % 9)?.get(9 - usize::from(scale % 9)..)?);
    }
    Some(())
}

/// A group of up to nine digits, of which the last `count` are wanted; `None` where the number has more.
fn group(bytes: &[u8], count: u8) -> Option<[u8; 9]> {
    let number = bytes.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    (number < 10u32.checked_pow(count.into())?).then(|| digits(number.into()))
}

/// A number's last digits.
pub(super) fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    text
}

/// `BIT(bits)`: its digits, the most significant first.
#[derive(Debug)]
pub(super) struct Bit {
    pub(super) bits: u16,
}

impl Decode for Bit {
    text_as_shown!();

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
    text_as_shown!();

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
        assert_eq!(of(9, 0, &[0xbb, 0x9a, 0xca, 0x00]), None, "no nine digits");
        assert_eq!(of(18, 0, &[0x80, 0, 0, 0, 0, 0, 0, 7]), text("7"));
        assert_eq!(of(18, 0, &[0x80, 0, 0, 1, 0, 0, 0, 7]), text("1000000007"));
        let whole =
            [&[0x80 | 0x05, 0xf5, 0xe0, 0xff][..], &[0x3b, 0x9a, 0xc9, 0xff].repeat(3)].concat();
        let after = [&[0x3b, 0x9a, 0xc9, 0xff].repeat(3)[..], &[3, 0xe7]].concat();
        let (nines, text_of) = ([whole, after].concat(), "9".repeat(35) + "." + &"9".repeat(30));
        assert_eq!(of(65, 30, &nines), text(&text_of));
        let inverted: Vec<u8> = nines.iter().map(|byte| !byte).collect();
        assert_eq!(of(65, 30, &inverted), text(&format!("-{text_of}")));
        let rounded = [&[0x80, 0, 0, 0x63][..], &[0x3b, 0x9a, 0xc9, 0xff].repeat(7)].concat();
        assert_eq!(of(72, 0, &rounded), text(&"9".repeat(65)));
        assert_eq!(of(82, 0, &[&[0x80], &[0; 36][..]].concat()), None, "more than there are");
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
