//! Dates, times and intervals in the server's ISO style ("Date/Time Output" in the manual).
//!
//! The form is proven to the digit; whether a month has 31 days is the server's business.

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

use super::number::digits;

/// What the server appends for years before 1.
const BC: &[u8] = b" BC";

/// Splits `YYYY-MM-DD` with four to seven year digits off the front.
#[inline]
fn split_date(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let year = digits(raw);
    if !(4..=7).contains(&year) {
        return None;
    }
    match raw.get(year..)? {
        [b'-', m1, m2, b'-', d1, d2, ..] if all_digits(&[*m1, *m2, *d1, *d2]) => {
            raw.split_at_checked(year.saturating_add(6))
        }
        _ => None,
    }
}

#[inline]
fn all_digits(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

/// A time of day: `HH:MM:SS` and the digits of its fraction (none to six).
struct Clock<'a> {
    seconds: &'a [u8],
    fraction: &'a [u8],
}

impl Clock<'_> {
    /// Appends it with six digits of fraction.
    #[inline]
    fn write(&self, out: &mut JsonWriter) {
        out.raw(self.seconds);
        out.byte(b'.');
        out.raw(self.fraction);
        out.raw(b"000000".get(self.fraction.len()..).unwrap_or_default());
    }
}

/// Splits a time of day off the front.
#[inline]
fn split_clock(raw: &[u8]) -> Option<(Clock<'_>, &[u8])> {
    let (seconds, rest) = raw.split_at_checked(8)?;
    match seconds {
        [h1, h2, b':', m1, m2, b':', s1, s2] if all_digits(&[*h1, *h2, *m1, *m2, *s1, *s2]) => {}
        _ => return None,
    }
    let Some(rest) = rest.strip_prefix(b".") else {
        return Some((Clock { seconds, fraction: &[] }, rest));
    };
    let count = digits(rest);
    if !(1..=6).contains(&count) {
        return None;
    }
    let (fraction, rest) = rest.split_at(count);
    Some((Clock { seconds, fraction }, rest))
}

/// Whether the bytes are an offset from UTC: `+HH`, `+HH:MM` or `+HH:MM:SS`, either sign.
fn is_offset(raw: &[u8]) -> bool {
    match raw {
        [b'+' | b'-', rest @ ..] => {
            let mut parts = rest.split(|&byte| byte == b':');
            rest.len() <= 8 && parts.all(|part| part.len() == 2 && all_digits(part))
        }
        _ => false,
    }
}

fn is_infinity(raw: &[u8]) -> bool {
    matches!(raw, b"infinity" | b"-infinity")
}

/// `date`.
#[derive(Debug)]
pub(super) struct Date;

impl Decode for Date {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        match split_date(raw) {
            Some((_, rest)) if rest.is_empty() || rest == BC => {}
            _ if is_infinity(raw) => {}
            _ => return Err(ValueError::Malformed("date")),
        }
        out.quoted(raw);
        Ok(Written::Form)
    }
}

/// `time without time zone`.
#[derive(Debug)]
pub(super) struct Time;

impl Decode for Time {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let Some((clock, [])) = split_clock(raw) else {
            return Err(ValueError::Malformed("time"));
        };
        out.byte(b'"');
        clock.write(out);
        out.byte(b'"');
        Ok(Written::Form)
    }
}

/// `time with time zone`: the offset as the server prints it.
#[derive(Debug)]
pub(super) struct TimeTz;

impl Decode for TimeTz {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        match split_clock(raw) {
            Some((clock, offset)) if is_offset(offset) => {
                out.byte(b'"');
                clock.write(out);
                out.raw(offset);
                out.byte(b'"');
                Ok(Written::Form)
            }
            _ => Err(ValueError::Malformed("time with time zone")),
        }
    }
}

/// `timestamp without time zone`, or with where `zone` is set.
#[derive(Debug)]
pub(super) struct Timestamp {
    /// What the server prints after the time: nothing, or `+00` under `TimeZone` UTC.
    zone: &'static [u8],
    /// What stands there in JSON.
    zone_json: &'static [u8],
    name: &'static str,
}

impl Timestamp {
    /// `timestamp without time zone`.
    pub(super) const WITHOUT_ZONE: Self = Self { zone: b"", zone_json: b"", name: "timestamp" };
    /// `timestamp with time zone`, printed by the server in UTC.
    pub(super) const WITH_ZONE: Self =
        Self { zone: b"+00", zone_json: b"Z", name: "timestamp with time zone in UTC" };
}

impl Decode for Timestamp {
    #[inline]
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let malformed = ValueError::Malformed(self.name);
        let Some((date, rest)) = split_date(raw) else {
            if !is_infinity(raw) {
                return Err(malformed);
            }
            out.quoted(raw);
            return Ok(Written::Form);
        };
        let clock = rest.strip_prefix(b" ").ok_or(malformed)?;
        let (clock, rest) = split_clock(clock).ok_or(malformed)?;
        let era = rest.strip_prefix(self.zone).ok_or(malformed)?;
        if !era.is_empty() && era != BC {
            return Err(malformed);
        }
        out.reserve(40);
        out.byte(b'"');
        out.raw(date);
        out.byte(b'T');
        clock.write(out);
        out.raw(self.zone_json);
        out.raw(era);
        out.byte(b'"');
        Ok(Written::Form)
    }
}

/// `interval`: the server's text, in which months, days and time stay apart.
#[derive(Debug)]
pub(super) struct Interval;

impl Decode for Interval {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let of_interval = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b' ' | b':' | b'.' | b'-' | b'+');
        if raw.is_empty() || !raw.iter().all(of_interval) {
            return Err(ValueError::Malformed("interval"));
        }
        out.quoted(raw);
        Ok(Written::Form)
    }
}
