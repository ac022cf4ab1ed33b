//! `real` and `double precision`, as `extra_float_digits` above 0 has them printed: the fewest digits
//! that give the number back, the closest of those.
//!
//! The server takes no digits that lie exactly half-way to the next number, although readers that
//! round to even would understand them (`STRICTLY_SHORTEST` in its `d2s.c`); Rust's formatting does.

use std::io::Write as _;

use super::push_padded;

/// A positive number as `mantissa * 2^exponent`.
#[derive(Debug, Clone, Copy)]
struct Parts {
    mantissa: u64,
    exponent: i32,
    /// Whether the next smaller number is only half as far away as the next larger one.
    is_power: bool,
}

/// What differs between the two types.
trait Float: Copy + std::fmt::LowerExp + Into<f64> + PartialEq + std::str::FromStr {
    /// From this decimal exponent on the server prints one.
    const LARGE: i32;
    /// So many digits give any number back.
    const DIGITS: usize;
    fn magnitude(self) -> Self;
    fn parts(self) -> Parts;
}

fn parts(bits: u64, fraction_bits: u32, smallest: i32) -> Parts {
    let fraction = bits & ((1 << fraction_bits) - 1);
    let biased = i32::try_from(bits >> fraction_bits).unwrap_or(0);
    match biased {
        0 => Parts { mantissa: fraction, exponent: smallest, is_power: false },
        _ => Parts {
            mantissa: fraction | 1 << fraction_bits,
            exponent: smallest + biased - 1,
            is_power: fraction == 0 && biased > 1,
        },
    }
}

impl Float for f32 {
    const LARGE: i32 = 6;
    const DIGITS: usize = 9;
    fn magnitude(self) -> Self {
        self.abs()
    }
    fn parts(self) -> Parts {
        parts(u64::from(self.abs().to_bits()), 23, -149)
    }
}

impl Float for f64 {
    const LARGE: i32 = 15;
    const DIGITS: usize = 17;
    fn magnitude(self) -> Self {
        self.abs()
    }
    fn parts(self) -> Parts {
        parts(self.abs().to_bits(), 52, -1074)
    }
}

pub(super) fn real(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_float(f32::from_be_bytes(raw.try_into().ok()?), out)
}

pub(super) fn double(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_float(f64::from_be_bytes(raw.try_into().ok()?), out)
}

/// Room for 17 digits, a point and an exponent.
const TEXT: usize = 32;

/// Digits without zeros at the end, and the decimal exponent of the first of them.
struct Decimal {
    text: [u8; TEXT],
    len: usize,
    exponent: i32,
}

impl Decimal {
    /// Of a positive number, in its fewest digits or in this many.
    fn of(value: impl Float, digits: Option<usize>) -> Option<Self> {
        let mut written = [0; TEXT];
        let mut rest = written.as_mut_slice();
        match digits.map(|digits| digits.saturating_sub(1)) {
            None => write!(rest, "{value:e}").ok()?,
            Some(precision) => write!(rest, "{value:.precision$e}").ok()?,
        }
        let left = rest.len();
        let written = std::str::from_utf8(written.get(..TEXT - left)?).ok()?;
        let (mantissa, exponent) = written.split_once('e')?;
        let mut decimal = Self { text: [0; TEXT], len: 0, exponent: exponent.parse().ok()? };
        let digits = mantissa.trim_end_matches('0').bytes().filter(u8::is_ascii_digit);
        for (place, digit) in decimal.text.iter_mut().zip(digits) {
            *place = digit;
            decimal.len += 1;
        }
        Some(decimal)
    }

    fn digits(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }

    /// Whether it is read as this number.
    fn is<F: Float>(&self, value: F) -> bool {
        let mut text = Vec::new();
        let parsed = self.push(F::LARGE, &mut text).and_then(|()| {
            let text = std::str::from_utf8(&text).ok()?;
            text.parse::<F>().ok()
        });
        parsed.is_some_and(|parsed| parsed == value)
    }

    /// Whether it lies exactly half-way between the number and one of its neighbours, from where
    /// readers that round to even come back to it.
    fn is_half_way(&self, Parts { mantissa, exponent, is_power }: Parts) -> Option<bool> {
        if mantissa % 2 == 1 {
            return Some(false);
        }
        let digits: u64 = std::str::from_utf8(self.digits()).ok()?.parse().ok()?;
        let power = self.exponent - (i32::try_from(self.len).ok()? - 1);
        let above = (mantissa * 2 + 1, exponent - 1);
        let below = match is_power {
            true => (mantissa * 4 - 1, exponent - 2),
            false => (mantissa * 2 - 1, exponent - 1),
        };
        Some(is_equal((digits, power), above) || is_equal((digits, power), below))
    }

    /// Appends it as the server does, with an exponent where it is small or from `large` on.
    fn push(&self, large: i32, out: &mut Vec<u8>) -> Option<()> {
        let zeros = |count: i32, out: &mut Vec<u8>| {
            out.resize(out.len() + usize::try_from(count).unwrap_or(0), b'0');
        };
        let before = usize::try_from(self.exponent + 1).unwrap_or(0).min(self.len);
        if !(-4..large).contains(&self.exponent) {
            let (first, rest) = self.digits().split_first()?;
            out.push(*first);
            if !rest.is_empty() {
                out.push(b'.');
                out.extend_from_slice(rest);
            }
            out.extend_from_slice(if self.exponent < 0 { b"e-" } else { b"e+" });
            push_padded(u64::from(self.exponent.unsigned_abs()), 2, out);
        } else if self.exponent < 0 {
            out.extend_from_slice(b"0.");
            zeros(-1 - self.exponent, out);
            out.extend_from_slice(self.digits());
        } else {
            let (whole, fraction) = self.digits().split_at_checked(before)?;
            out.extend_from_slice(whole);
            zeros(self.exponent + 1 - i32::try_from(before).ok()?, out);
            if !fraction.is_empty() {
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
        }
        Some(())
    }
}

/// Whether `digits * 10^power` is `odd * 2^exponent`.
fn is_equal((digits, power): (u64, i32), (odd, exponent): (u64, i32)) -> bool {
    let twos = digits.trailing_zeros();
    let fives = 5u128.checked_pow(power.unsigned_abs());
    let (left, right) = (u128::from(digits.checked_shr(twos).unwrap_or(0)), u128::from(odd));
    let (left, right) = match power {
        0.. => (fives.and_then(|fives| left.checked_mul(fives)), Some(right)),
        _ => (Some(left), fives.and_then(|fives| right.checked_mul(fives))),
    };
    left.is_some() && left == right && i64::from(twos) + i64::from(power) == i64::from(exponent)
}

/// Appends a number as the server prints it.
fn push_float<F: Float>(value: F, out: &mut Vec<u8>) -> Option<()> {
    let double: f64 = value.into();
    if double.is_nan() {
        out.extend_from_slice(b"NaN");
        return Some(());
    }
    if double.is_sign_negative() {
        out.push(b'-');
    }
    if double.is_infinite() {
        out.extend_from_slice(b"Infinity");
        return Some(());
    }
    if double == 0.0 {
        out.push(b'0');
        return Some(());
    }
    let (value, parts) = (value.magnitude(), value.parts());
    let shortest = Decimal::of(value, None)?;
    let mut digits = shortest.len;
    // Of two that are equally close the server takes the even one, which Rust's shortest need not be.
    // Below a power of two the closest one may be that of the next smaller number.
    let closest = Decimal::of(value, Some(digits))?;
    let is_back = !parts.is_power || closest.is(value);
    let mut decimal = if is_back { closest } else { shortest };
    while decimal.is_half_way(parts)? && digits < F::DIGITS {
        digits += 1;
        decimal = Decimal::of(value, Some(digits))?;
    }
    decimal.push(F::LARGE, out)
}
