//! Dates, times and intervals: days and microseconds since the start of 2000, in `DateStyle` ISO and
//! `IntervalStyle` postgres.

use super::{Reader, push_number, push_padded};

const DAY_US: i64 = 86_400_000_000;
const SECOND_US: u64 = 1_000_000;
const BC: &[u8] = b" BC";

/// Days from the start of year 0 of the Gregorian calendar, reckoned from March, to that of 2000.
const DAYS_TO_2000: i64 = 730_425;
/// Days in 400 years.
const ERA: i64 = 146_097;

/// Appends a date's year, month and day; whether the year is before 1, which follows the rest.
fn push_day(since_2000: i64, out: &mut Vec<u8>) -> bool {
    // Years begin in March here, so that the leap day is the last one.
    let days = since_2000 + DAYS_TO_2000;
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    let is_bc = year < 1;
    push_padded((if is_bc { 1 - year } else { year }).unsigned_abs(), 4, out);
    out.push(b'-');
    push_padded(month.unsigned_abs(), 2, out);
    out.push(b'-');
    push_padded(day.unsigned_abs(), 2, out);
    is_bc
}

/// Appends `HH:MM:SS`, with a fraction where there is one.
fn push_clock(us: u64, out: &mut Vec<u8>) {
    let seconds = us / SECOND_US;
    push_padded(seconds / 3600, 2, out);
    out.push(b':');
    push_padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    push_padded(seconds % 60, 2, out);
    let fraction = us % SECOND_US;
    if fraction > 0 {
        out.push(b'.');
        push_padded(fraction, 6, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

pub(super) fn date(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match i32::from_be_bytes(raw.try_into().ok()?) {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        days => {
            if push_day(i64::from(days), out) {
                out.extend_from_slice(BC);
            }
        }
    }
    Some(())
}

/// A time of day, up to 24:00:00.
fn of_day(us: i64) -> Option<u64> {
    u64::try_from(us).ok().filter(|_| us <= DAY_US)
}

pub(super) fn time(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_clock(of_day(i64::from_be_bytes(raw.try_into().ok()?))?, out);
    Some(())
}

/// With the seconds that its zone is west of UTC.
pub(super) fn timetz(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    push_clock(of_day(reader.i64()?)?, out);
    let west = reader.i32()?;
    reader.end()?;
    out.push(if west <= 0 { b'+' } else { b'-' });
    let offset = u64::from(west.unsigned_abs());
    push_padded(offset / 3600, 2, out);
    if !offset.is_multiple_of(3600) {
        out.push(b':');
        push_padded(offset / 60 % 60, 2, out);
    }
    if !offset.is_multiple_of(60) {
        out.push(b':');
        push_padded(offset % 60, 2, out);
    }
    Some(())
}

pub(super) fn timestamp(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_timestamp(raw, b"", out)
}

/// Printed in UTC.
pub(super) fn timestamptz(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    push_timestamp(raw, b"+00", out)
}

fn push_timestamp(raw: &[u8], zone: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match i64::from_be_bytes(raw.try_into().ok()?) {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        us => {
            let is_bc = push_day(us.div_euclid(DAY_US), out);
            out.push(b' ');
            push_clock(us.rem_euclid(DAY_US).unsigned_abs(), out);
            out.extend_from_slice(zone);
            if is_bc {
                out.extend_from_slice(BC);
            }
        }
    }
    Some(())
}

/// Microseconds, days and months, each with a sign of its own; a positive part after a negative one
/// has its sign printed (`EncodeInterval` of the server).
pub(super) fn interval(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let (us, days, months) = (reader.i64()?, reader.i32()?, reader.i32()?);
    reader.end()?;
    match (us, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => {
            out.extend_from_slice(b"infinity");
            return Some(());
        }
        (i64::MIN, i32::MIN, i32::MIN) => {
            out.extend_from_slice(b"-infinity");
            return Some(());
        }
        _ => {}
    }
    let (mut is_first, mut is_before) = (true, false);
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        if !is_first {
            out.push(b' ');
        }
        if is_before && value > 0 {
            out.push(b'+');
        }
        push_number(value, out);
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        (is_first, is_before) = (false, value < 0);
    }
    if is_first || us != 0 {
        if !is_first {
            out.push(b' ');
        }
        if us < 0 {
            out.push(b'-');
        } else if is_before {
            out.push(b'+');
        }
        push_clock(us.unsigned_abs(), out);
    }
    Some(())
}
