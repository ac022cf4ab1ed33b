//! Booleans, numbers, money, bytes and bits.

use super::{Reader, hex_digit, push_number, push_padded};

/// A value of exactly these bytes.
fn exactly<const N: usize>(raw: &[u8]) -> Option<[u8; N]> {
    raw.try_into().ok()
}

pub(super) fn bool(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(match raw {
        [0] => b'f',
        [1] => b't',
        _ => return None,
    });
    Some(())
}

pub(super) fn int2(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_number(i16::from_be_bytes(exactly(raw)?), out);
    Some(())
}

pub(super) fn int4(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_number(i32::from_be_bytes(exactly(raw)?), out);
    Some(())
}

pub(super) fn int8(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_number(i64::from_be_bytes(exactly(raw)?), out);
    Some(())
}

/// `oid`, `xid` and `cid`.
pub(super) fn oid(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_number(u32::from_be_bytes(exactly(raw)?), out);
    Some(())
}

pub(super) fn xid8(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_number(u64::from_be_bytes(exactly(raw)?), out);
    Some(())
}

/// Cents, printed under `lc_monetary = C`: `-$1,234.56`.
pub(super) fn money(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let cents = i64::from_be_bytes(exactly(raw)?);
    out.extend_from_slice(if cents < 0 { b"-$" } else { b"$" });
    let cents = cents.unsigned_abs();
    let mut buffer = itoa::Buffer::new();
    let whole = buffer.format(cents / 100).as_bytes();
    for (index, digit) in whole.iter().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(b',');
        }
        out.push(*digit);
    }
    out.push(b'.');
    push_padded(cents % 100, 2, out);
    Some(())
}

/// Decimal digits of a group of [`numeric`].
const GROUP: usize = 4;

/// Groups of four digits, of which the one with number `weight` stands right before the point.
pub(super) fn numeric(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let count = usize::from(reader.u16()?);
    let weight = i32::from(reader.i16()?);
    let sign = reader.u16()?;
    let scale = usize::from(reader.u16()?);
    let groups = reader.bytes(count.checked_mul(2)?)?.as_chunks::<2>().0;
    reader.end()?;
    match sign {
        0 => {}
        0x4000 => out.push(b'-'),
        0xc000 => return special(b"NaN", out),
        0xd000 => return special(b"Infinity", out),
        0xf000 => return special(b"-Infinity", out),
        _ => return None,
    }
    let group = |at: i32| {
        let group = usize::try_from(at).ok().and_then(|at| groups.get(at));
        match group.map_or(0, |group| u16::from_be_bytes(*group)) {
            value @ 0..=9999 => Some(u64::from(value)),
            _ => None,
        }
    };
    push_number(if weight < 0 { 0 } else { group(0)? }, out);
    for at in 1..=weight {
        push_padded(group(at)?, GROUP, out);
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len().checked_add(scale)?;
        let mut at = weight.checked_add(1)?;
        while out.len() < end {
            push_padded(group(at)?, GROUP, out);
            at = at.checked_add(1)?;
        }
        out.truncate(end);
    }
    Some(())
}

fn special(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(text);
    Some(())
}

/// In hex, as `bytea_output` has it.
pub(in crate::decode) fn bytea(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(b"\\x");
    let start = out.len();
    out.resize(start.checked_add(raw.len().checked_mul(2)?)?, 0);
    let digits = out.get_mut(start..)?.as_chunks_mut::<2>().0;
    for (digits, byte) in digits.iter_mut().zip(raw) {
        *digits = [hex_digit(byte >> 4), hex_digit(byte & 15)];
    }
    Some(())
}

/// `bit` and `bit varying`: their number, then the bits from the highest of the first byte on.
pub(super) fn bits(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let count = usize::try_from(reader.i32()?).ok()?;
    let bytes = reader.bytes(count.div_ceil(8))?;
    reader.end()?;
    let bits = bytes.iter().flat_map(|byte| (0..8).map(move |at| b'0' + (byte >> (7 - at) & 1)));
    out.extend(bits.take(count));
    Some(())
}
