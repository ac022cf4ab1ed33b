//! Dates and times, in the binlog's forms (`my_time.cc` in the server's source), old and new.

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

use crate::binlog::rows::fraction_bytes;
use crate::reader::Reader;

use super::number::digits;

/// A number in network order.
fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The microseconds that so many digits of a fraction, as a number, are.
fn micros(fraction: u64, digits: u8) -> Option<u64> {
    // Two digits share a byte, also where only one is kept.
    let pairs = u32::from(digits.div_ceil(2));
    fraction.checked_mul(100u64.checked_pow(3u32.checked_sub(pairs)?)?)
}

/// The text of one value.
#[derive(Default)]
struct Text {
    /// No value is longer.
    bytes: [u8; 32],
    len: usize,
}

impl Text {
    /// A date.
    #[inline]
    fn date((year, month, day): Three) -> Self {
        Self::default()
            .with(digits::<4>(year))
            .with(*b"-")
            .with(digits::<2>(month))
            .with(*b"-")
            .with(digits::<2>(day))
    }

    /// Appends a time of day.
    #[inline]
    fn clock(self, (hour, minute, second): Three, micros: u64) -> Self {
        self.with(digits::<2>(hour)).after_hour(minute, second, micros)
    }

    /// Appends minutes, seconds and their fraction.
    #[inline]
    fn after_hour(self, minute: u64, second: u64, micros: u64) -> Self {
        self.with(*b":")
            .with(digits::<2>(minute))
            .with(*b":")
            .with(digits::<2>(second))
            .with(*b".")
            .with(digits::<6>(micros))
    }

    /// Appends bytes.
    #[inline]
    fn with<const N: usize>(mut self, part: [u8; N]) -> Self {
        let rest = self.bytes.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut);
        if let Some(rest) = rest {
            *rest = part;
            self.len += N;
        }
        self
    }

    fn write(&self, out: &mut JsonWriter) {
        out.quoted(self.bytes.get(..self.len).unwrap_or_default());
    }
}

/// Year, month and day; or hour, minute and second.
type Three = (u64, u64, u64);

/// A length of time, up to 838 hours.
fn length(is_negative: bool, (hours, minutes, seconds): Three, micros: u64) -> Option<Text> {
    if hours > 838 || minutes > 59 || seconds > 59 || micros > 999_999 {
        return None;
    }
    let sign = if is_negative { Text::default().with(*b"-") } else { Text::default() };
    let hours =
        if hours > 99 { sign.with(digits::<3>(hours)) } else { sign.with(digits::<2>(hours)) };
    Some(hours.after_hour(minutes, seconds, micros))
}

/// Writes what was read, or says what was not.
fn write(
    text: Option<Text>,
    what: &'static str,
    out: &mut JsonWriter,
) -> Result<Written, ValueError> {
    text.ok_or(ValueError::Malformed(what))?.write(out);
    Ok(Written::Form)
}

/// `DATE`: `0000-00-00`, and days and months that are zero, as they are.
#[derive(Debug)]
pub(super) struct Date;

impl Decode for Date {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let text = || {
            let packed = Reader(raw).uint(3).filter(|_| raw.len() == 3)?;
            let (year, month, day) = (packed >> 9, packed >> 5 & 15, packed & 31);
            (year <= 9999 && month <= 12).then(|| Text::date((year, month, day)))
        };
        write(text(), "date", out)
    }
}

/// `TIME(digits)`: a length of time, up to 838 hours either way.
#[derive(Debug)]
pub(super) struct Time {
    pub(super) digits: u8,
}

impl Decode for Time {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        write(self.text(raw), "time", out)
    }
}

impl Time {
    fn text(&self, raw: &[u8]) -> Option<Text> {
        let width = fraction_bytes(self.digits);
        if raw.len() != 3 + width {
            return None;
        }
        // One number of all bytes, moved up so that negative ones sort first: its lowest bytes are the
        // fraction, of which the whole number borrows where it is negative.
        let bits = 8 * u32::try_from(raw.len()).ok()?;
        let number = i64::try_from(big_endian(raw)).ok()?.checked_sub(1i64 << (bits - 1))?;
        let magnitude = number.unsigned_abs();
        let fraction_bits = bits - 24;
        let (whole, fraction) =
            (magnitude >> fraction_bits, magnitude & ((1 << fraction_bits) - 1));
        let clock = (whole >> 12 & 1023, whole >> 6 & 63, whole & 63);
        length(number < 0, clock, micros(fraction, self.digits)?)
    }
}

/// `DATETIME(digits)`.
#[derive(Debug)]
pub(super) struct DateTime {
    pub(super) digits: u8,
}

impl Decode for DateTime {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        write(self.text(raw), "datetime", out)
    }
}

impl DateTime {
    fn text(&self, raw: &[u8]) -> Option<Text> {
        let (whole, fraction) = raw.split_at_checked(5)?;
        if fraction.len() != fraction_bytes(self.digits) {
            return None;
        }
        let micros = micros(big_endian(fraction), self.digits)?;
        let whole = big_endian(whole).checked_sub(1 << 39)?;
        let (date, time) = (whole >> 17, whole & ((1 << 17) - 1));
        let (months, day) = (date >> 5, date & 31);
        let clock = (time >> 12, time >> 6 & 63, time & 63);
        moment((months / 13, months % 13, day), clock, micros)
    }
}

/// A date with a time of day.
#[inline]
fn moment(date: Three, clock: Three, micros: u64) -> Option<Text> {
    let ((year, month, day), (hour, minute, second)) = (date, clock);
    let is_date = year <= 9999 && month <= 12 && day <= 31;
    let is_time = hour <= 23 && minute <= 59 && second <= 59 && micros <= 999_999;
    (is_date && is_time).then(|| Text::date(date).with(*b"T").clock(clock, micros))
}

/// `TIMESTAMP(digits)`, in UTC. Zero is `0000-00-00`, which no moment is.
#[derive(Debug)]
pub(super) struct Timestamp {
    pub(super) digits: u8,
}

impl Decode for Timestamp {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let text = || {
            let (seconds, fraction) = raw.split_at_checked(4)?;
            if fraction.len() != fraction_bytes(self.digits) {
                return None;
            }
            utc(big_endian(seconds), micros(big_endian(fraction), self.digits)?)
        };
        write(text(), "timestamp", out)
    }
}

/// Seconds since 1970 as a moment.
fn utc(seconds: u64, micros: u64) -> Option<Text> {
    if seconds == 0 && micros == 0 {
        return moment((0, 0, 0), (0, 0, 0), 0).map(|text| text.with(*b"Z"));
    }
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days of a calendar whose years begin in March, so that the leap day is the last
    // (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    let clock = (time / 3600, time / 60 % 60, time % 60);
    moment((year, month, day), clock, micros).map(|text| text.with(*b"Z"))
}

/// The digits of a date or a time, two by two.
fn three(number: u64) -> Three {
    (number / 10_000, number / 100 % 100, number % 100)
}

/// `TIME` of tables from before MySQL 5.6: the digits `HHMMSS` as a signed number.
#[derive(Debug)]
pub(super) struct OldTime;

impl Decode for OldTime {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let text = || {
            let number = Reader(raw).uint(3).filter(|_| raw.len() == 3)?;
            let number = i64::try_from(number).ok()? << 40 >> 40;
            let magnitude = number.unsigned_abs();
            length(number < 0, three(magnitude), 0)
        };
        write(text(), "time", out)
    }
}

/// `DATETIME` of tables from before MySQL 5.6: the digits `YYYYMMDDHHMMSS` as a number.
#[derive(Debug)]
pub(super) struct OldDateTime;

impl Decode for OldDateTime {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let text = || {
            let number = Reader(raw).u64().filter(|_| raw.len() == 8)?;
            let (date, time) = (number / 1_000_000, number % 1_000_000);
            moment(three(date), three(time), 0)
        };
        write(text(), "datetime", out)
    }
}

/// `TIMESTAMP` of tables from before MySQL 5.6.
#[derive(Debug)]
pub(super) struct OldTimestamp;

impl Decode for OldTimestamp {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let seconds = Reader(raw).u32().filter(|_| raw.len() == 4);
        write(seconds.and_then(|seconds| utc(u64::from(seconds), 0)), "timestamp", out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(decode: &dyn Decode, raw: &[u8]) -> Option<String> {
        let mut out = JsonWriter::new(Vec::new());
        decode.write(raw, &mut out).ok()?;
        Some(String::from_utf8(out.into_inner()).unwrap().trim_matches('"').to_owned())
    }

    #[test]
    fn m53_negative_times_borrow_from_their_fraction() {
        let of = |digits, raw: &[u8]| written(&Time { digits }, raw).unwrap();
        assert_eq!(of(0, &[0x80, 0, 0]), "00:00:00.000000");
        assert_eq!(of(1, &[0x7f, 0xff, 0xff, 0xf6]), "-00:00:00.100000");
        assert_eq!(of(2, &[0x7f, 0xef, 0xff, 0x9d]), "-01:00:00.990000");
        assert_eq!(of(6, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]), "-00:00:00.000001");
        assert_eq!(of(0, &[0x4b, 0x91, 0x05]), "-838:59:59.000000");
        assert_eq!(of(0, &[0xb4, 0x6e, 0xfb]), "838:59:59.000000");
        assert_eq!(written(&Time { digits: 0 }, &[0x80, 0, 60]), None);
        assert_eq!(written(&Time { digits: 6 }, &[0x80, 0, 0]), None);
    }

    #[test]
    fn m59_zero_and_partial_dates_are_what_they_are() {
        assert_eq!(written(&Date, &[0, 0, 0]).unwrap(), "0000-00-00");
        assert_eq!(written(&Date, &[0, 0xd0, 0x0f]).unwrap(), "2024-00-00");
        assert_eq!(
            written(&DateTime { digits: 0 }, &[0x80, 0, 0, 0, 0]).unwrap(),
            "0000-00-00T00:00:00.000000"
        );
        assert_eq!(
            written(&Timestamp { digits: 0 }, &[0; 4]).unwrap(),
            "0000-00-00T00:00:00.000000Z"
        );
        assert_eq!(written(&OldTimestamp, &[0; 4]).unwrap(), "0000-00-00T00:00:00.000000Z");
    }

    #[test]
    fn m60_timestamps_go_to_2106() {
        let of = |seconds: u32| written(&Timestamp { digits: 0 }, &seconds.to_be_bytes()).unwrap();
        assert_eq!(of(1), "1970-01-01T00:00:01.000000Z");
        assert_eq!(of(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(of(0x7fff_ffff), "2038-01-19T03:14:07.000000Z");
        assert_eq!(of(u32::MAX), "2106-02-07T06:28:15.000000Z");
    }

    #[test]
    fn m64_the_old_forms_are_signed_digits() {
        let time = |number: i32| written(&OldTime, &number.to_le_bytes()[..3]);
        assert_eq!(time(-8_385_959).unwrap(), "-838:59:59.000000");
        assert_eq!(time(10_203).unwrap(), "01:02:03.000000");
        assert_eq!(time(99), None);
        let stamp = 20_240_131_235_958u64.to_le_bytes();
        assert_eq!(written(&OldDateTime, &stamp).unwrap(), "2024-01-31T23:59:58.000000");
        assert_eq!(written(&OldDateTime, &u64::MAX.to_le_bytes()), None);
    }
}
