//! Opaque values: those of SQL types that JSON does not have.

use rowtide_sdk::JsonWriter;

use crate::decode::number::{self, digits};

/// The `enum_field_types` whose values the server does not print as base64.
mod field_type {
    pub(super) const TIMESTAMP: u8 = 7;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const DATETIME: u8 = 12;
    pub(super) const NEWDECIMAL: u8 = 246;
}

/// Appends an opaque value as the server prints it. `None` where it is not a value of its type.
pub(super) fn write(field_type: u8, data: &[u8], out: &mut JsonWriter) -> Option<()> {
    match field_type {
        field_type::NEWDECIMAL => decimal(data, out),
        field_type::DATE => {
            let packed = packed(data)?;
            out.byte(b'"');
            date(u64::try_from(packed).ok()? >> 41, out)?;
            out.byte(b'"');
            Some(())
        }
        field_type::DATETIME | field_type::TIMESTAMP => {
            let packed = u64::try_from(packed(data)?).ok()?;
            out.byte(b'"');
            date(packed >> 41, out)?;
            out.byte(b' ');
            time(packed & ((1 << 41) - 1), 23, out)?;
            out.byte(b'"');
            Some(())
        }
        field_type::TIME => {
            let packed = packed(data)?;
            out.raw(if packed < 0 { b"\"-" } else { b"\"" });
            time(packed.unsigned_abs(), 838, out)?;
            out.byte(b'"');
            Some(())
        }
        _ => {
            out.raw(b"\"base64:type");
            out.u64(field_type.into());
            out.byte(b':');
            base64(data, out);
            out.byte(b'"');
            Some(())
        }
    }
}

/// A temporal value as `TIME_to_longlong_packed` in MySQL's `mysys/my_time.cc` packs it.
fn packed(data: &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(data.try_into().ok()?))
}

/// Appends a date of `(year * 13 + month) << 5 | day`; its month and day may be zero.
fn date(packed: u64, out: &mut JsonWriter) -> Option<()> {
    let (months, day) = (packed >> 5, packed & 31);
    let (year, month) = (months / 13, months % 13);
    if year > 9999 {
        return None;
    }
    out.raw(&digits::<4>(year));
    for part in [month, day] {
        out.byte(b'-');
        out.raw(&digits::<2>(part));
    }
    Some(())
}

/// Appends a time of `(hour << 12 | minute << 6 | second) << 24 | microseconds`.
fn time(packed: u64, max_hour: u64, out: &mut JsonWriter) -> Option<()> {
    let (hour, minute) = (packed >> 36, packed >> 30 & 63);
    let (second, micros) = (packed >> 24 & 63, packed & 0xff_ffff);
    if hour > max_hour || minute > 59 || second > 59 || micros > 999_999 {
        return None;
    }
    if hour > 99 {
        out.u64(hour);
    } else {
        out.raw(&digits::<2>(hour));
    }
    for part in [minute, second] {
        out.byte(b':');
        out.raw(&digits::<2>(part));
    }
    out.byte(b'.');
    out.raw(&digits::<6>(micros));
    Some(())
}

/// Appends a `DECIMAL` as a JSON number with all digits of its scale. Its data are the precision, the
/// scale, and its binary form.
fn decimal(data: &[u8], out: &mut JsonWriter) -> Option<()> {
    let (&[precision, scale], binary) = data.split_first_chunk()?;
    number::decimal(binary, precision, scale, out)
}

/// Characters in a line of the server's base64.
const BASE64_LINE: usize = 76;

/// Appends standard base64 with padding, in the server's lines: an escaped line feed between them.
fn base64(data: &[u8], out: &mut JsonWriter) {
    out.reserve((data.len() / 3).saturating_mul(4));
    for (index, line) in data.chunks(BASE64_LINE / 4 * 3).enumerate() {
        if index > 0 {
            out.raw(b"\\n");
        }
        out.base64_part(line);
    }
}
