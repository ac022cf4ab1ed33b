//! Opaque values: those of SQL types that JSON does not have.

use rowtide_sdk::JsonWriter;

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
    two_digits(year / 100, out);
    two_digits(year % 100, out);
    out.byte(b'-');
    two_digits(month, out);
    out.byte(b'-');
    two_digits(day, out);
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
        two_digits(hour, out);
    }
    for part in [minute, second] {
        out.byte(b':');
        two_digits(part, out);
    }
    out.byte(b'.');
    for part in [micros / 10_000, micros / 100 % 100, micros % 100] {
        two_digits(part, out);
    }
    Some(())
}

/// Appends a number below 100 with two digits.
fn two_digits(value: u64, out: &mut JsonWriter) {
    if value < 10 {
        out.byte(b'0');
    }
    out.u64(value);
}

/// Digits in a full group of a binary decimal; a group has four bytes.
const GROUP: usize = 9;

/// Bytes of a group of so many digits.
const GROUP_BYTES: [usize; GROUP + 1] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Appends a `DECIMAL` as a JSON number with all digits of its scale. Its data are the precision,
/// the scale, and what `decimal2bin` in MySQL's `strings/decimal.cc` makes: groups of nine digits,
/// the first of the integer and the last of the fraction shorter, big-endian, the highest bit
/// flipped, and all bits flipped where it is negative.
fn decimal(data: &[u8], out: &mut JsonWriter) -> Option<()> {
    let (&[precision, scale], binary) = data.split_first_chunk()?;
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    let mut left = precision.checked_sub(scale).filter(|_| precision > 0)?;
    let is_negative = binary.first()? & 0x80 == 0;
    let mask = if is_negative { 0xff } else { 0 };
    let mut groups = Groups { rest: binary, flip: mask ^ 0x80, mask };
    if is_negative {
        out.byte(b'-');
    }
    // Zeros before the first digit are left out, up to one zero for none.
    let mut started = false;
    while left > 0 {
        let digits = if left % GROUP == 0 { GROUP } else { left % GROUP };
        let group = groups.take(digits)?;
        left = left.saturating_sub(digits);
        if started {
            padded(group, digits, out);
        } else if group > 0 || left == 0 {
            out.u64(group.into());
            started = true;
        }
    }
    if !started {
        out.byte(b'0');
    }
    let mut left = scale;
    if left > 0 {
        out.byte(b'.');
    }
    while left > 0 {
        let digits = left.min(GROUP);
        padded(groups.take(digits)?, digits, out);
        left = left.saturating_sub(digits);
    }
    groups.rest.is_empty().then_some(())
}

/// The groups of a binary decimal.
struct Groups<'a> {
    rest: &'a [u8],
    /// What the next byte is flipped with.
    flip: u8,
    /// What all bytes after it are flipped with.
    mask: u8,
}

impl Groups<'_> {
    /// The next group, which has so many digits.
    fn take(&mut self, digits: usize) -> Option<u32> {
        let (group, rest) = self.rest.split_at_checked(*GROUP_BYTES.get(digits)?)?;
        self.rest = rest;
        let mut value = 0u32;
        for byte in group {
            value = value << 8 | u32::from(byte ^ self.flip);
            self.flip = self.mask;
        }
        (value < 10u32.checked_pow(u32::try_from(digits).ok()?)?).then_some(value)
    }
}

/// Appends a number with leading zeros to so many digits.
fn padded(value: u32, digits: usize, out: &mut JsonWriter) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value);
    for _ in text.len()..digits {
        out.byte(b'0');
    }
    out.raw(text.as_bytes());
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
        for chunk in line.chunks(3) {
            out.raw(&base64_group(chunk));
        }
    }
}

/// Four characters of up to three bytes.
fn base64_group(chunk: &[u8]) -> [u8; 4] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let byte = |index: usize| chunk.get(index).copied().unwrap_or_default();
    let (first, second, third) = (byte(0), byte(1), byte(2));
    let digit = |bits: u8| ALPHABET.get(usize::from(bits & 63)).copied().unwrap_or(b'=');
    [
        digit(first >> 2),
        digit(first << 4 | second >> 4),
        if chunk.len() > 1 { digit(second << 2 | third >> 6) } else { b'=' },
        if chunk.len() > 2 { digit(third) } else { b'=' },
    ]
}
