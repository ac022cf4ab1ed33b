//! Binary JSON, and changes to it.

use rowtide_mysql::binlog::table_map::Stored;
use rowtide_mysql::decode::json::{Json, MAX_DEPTH, apply_diffs, updated, write_text};
use rowtide_sdk::{Decode as _, JsonWriter, Written};
use serde::de::IgnoredAny;

use super::{Recorded, checks, halves, joined, recorded_rows};
use crate::frame::Target;

pub(crate) fn target() -> Target {
    Target { checks: checks(&[document, changed]), seeds: seeds() }
}

/// So much longer than the binary form a text may be, and so many bytes beside.
const LONGER: (usize, usize) = (16, 64);

fn is_bounded(text: &[u8], binary: usize) -> bool {
    text.len() <= LONGER.0 * binary + LONGER.1
}

/// The levels of arrays and objects of a JSON text.
fn levels(json: &[u8]) -> u32 {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0, 0, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// One JSON value of the stated levels, not much longer than the bytes, on one line; and what the column
/// writes is never deeper than parsers go.
fn document(raw: &[u8]) {
    let mut out = JsonWriter::default();
    if let Some(stated) = write_text(raw, &mut out) {
        assert!(serde_json::from_slice::<IgnoredAny>(out.as_bytes()).is_ok());
        assert!(is_bounded(out.as_bytes(), raw.len()));
        assert_eq!(levels(out.as_bytes()), stated);
    }
    column(raw);
}

fn column(raw: &[u8]) {
    let mut out = JsonWriter::default();
    let Ok(written) = Json.write(raw, &mut out) else { return };
    let json = out.as_bytes();
    assert!(std::str::from_utf8(json).is_ok() && json.iter().all(|byte| *byte >= b' '));
    assert!(levels(json) <= MAX_DEPTH, "{} levels", levels(json));
    let text = Json.text(raw);
    match written {
        Written::RawJson => {
            assert_eq!(serde_json::from_slice::<String>(json).unwrap().as_bytes(), &*text);
        }
        _ => assert_eq!(json, &*text),
    }
}

/// What changes make is one JSON value too, and the same by way of a column's bytes.
fn changed(input: &[u8]) {
    let (before, diffs) = halves(input);
    let mut out = JsonWriter::default();
    let mut column_bytes = b"x".to_vec();
    let Ok(written) = apply_diffs(before, diffs, &mut out) else {
        assert!(updated(before, diffs, &mut column_bytes).is_err() && column_bytes == b"x");
        return;
    };
    assert!(serde_json::from_slice::<IgnoredAny>(out.as_bytes()).is_ok());
    assert!(is_bounded(out.as_bytes(), input.len()));
    updated(before, diffs, &mut column_bytes).unwrap();
    let mut again = JsonWriter::default();
    assert_eq!(Json.write(&column_bytes[1..], &mut again), Ok(written));
    assert_eq!(again.as_bytes(), out.as_bytes());
    column(&column_bytes[1..]);
}

/// The recorded documents, and recorded changes behind the documents that they change.
fn seeds() -> Vec<Vec<u8>> {
    let (mut seeds, mut before) = (Vec::new(), Vec::new());
    for row in recorded_rows() {
        for (at, (column, raw, is_diff)) in row.iter().enumerate() {
            let Some(raw) = raw.as_ref().filter(|_| matches!(column.stored, Stored::Json(_)))
            else {
                continue;
            };
            let (_, old, _): &Recorded = if *is_diff { &before[at] } else { &row[at] };
            let old = old.as_deref().unwrap_or_default();
            seeds.push(if *is_diff { joined(old, raw) } else { raw.clone() });
        }
        before = row;
    }
    // An array with a time, a decimal and a key that needs quotes in paths.
    let object = b"\x00\x01\x00\x0e\x00\x0b\x00\x03\x00\x05\x07\x00a b".to_vec();
    seeds.push(joined(&object, b"\x00\x07$.\"a b\"\x03\x05\x01\x00\x02\x07$.\"a b\""));
    seeds.push(b"\x0f\xf6\x05\x05\x02\x80\x01\x32".to_vec());
    seeds.push(b"\x0f\x0b\x08\x00\x00\x00\x00\x00\xc0\x00\x00".to_vec());
    seeds.push(b"\x0f\xfc\x03abc".to_vec());
    seeds.push(b"\x0b\x00\x00\x00\x00\x00\x00\xf8\x3f".to_vec());
    seeds
}
