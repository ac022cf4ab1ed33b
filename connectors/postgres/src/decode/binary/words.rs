//! Identifiers of the server, and types made of words.

use super::{Reader, push_hex, push_number};

/// `"char"`: a byte, printed as nothing where it is zero.
pub(super) fn char(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match raw {
        [0] => {}
        [byte] => out.push(*byte),
        _ => return None,
    }
    Some(())
}

pub(super) fn uuid(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let bytes: [u8; 16] = raw.try_into().ok()?;
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        push_hex(byte, out);
    }
    Some(())
}

/// `(block,offset)`.
pub(super) fn tid(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    out.push(b'(');
    push_number(reader.u32()?, out);
    out.push(b',');
    push_number(reader.u16()?, out);
    out.push(b')');
    reader.end()
}

pub(super) fn lsn(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let lsn = crate::lsn::Lsn(u64::from_be_bytes(raw.try_into().ok()?));
    out.extend_from_slice(lsn.to_string().as_bytes());
    Some(())
}

/// `pg_snapshot`: `xmin:xmax:` and the transactions between them that ran.
pub(super) fn snapshot(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let count = usize::try_from(reader.i32()?).ok()?;
    for _ in 0..2 {
        push_number(reader.u64()?, out);
        out.push(b':');
    }
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        push_number(reader.u64()?, out);
    }
    reader.end()
}

/// Appends text in quotes, with `escapes` before each of the bytes that need one.
fn push_quoted(text: &[u8], quote: u8, escape: impl Fn(u8) -> Option<u8>, out: &mut Vec<u8>) {
    out.push(quote);
    for byte in text {
        out.extend(escape(*byte));
        out.push(*byte);
    }
    out.push(quote);
}

/// Words in order, each with its places and their weights: `'cat':3A,7 'mat'`.
pub(super) fn tsvector(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let count = usize::try_from(reader.i32()?).ok()?;
    for at in 0..count {
        if at > 0 {
            out.push(b' ');
        }
        let escape = |byte| matches!(byte, b'\'' | b'\\').then_some(byte);
        push_quoted(reader.text()?, b'\'', escape, out);
        for place in 0..reader.u16()? {
            out.push(if place == 0 { b':' } else { b',' });
            let place = reader.u16()?;
            push_number(place & 0x3fff, out);
            match place >> 14 {
                3 => out.push(b'A'),
                2 => out.push(b'B'),
                1 => out.push(b'C'),
                _ => {}
            }
        }
    }
    reader.end()
}

/// `"a"=>"1", "b"=>NULL`.
pub(super) fn hstore(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let escape = |byte| matches!(byte, b'"' | b'\\').then_some(b'\\');
    let mut reader = Reader(raw);
    let count = usize::try_from(reader.i32()?).ok()?;
    for at in 0..count {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        push_quoted(reader.value()??, b'"', escape, out);
        out.extend_from_slice(b"=>");
        match reader.value()? {
            Some(value) => push_quoted(value, b'"', escape, out),
            None => out.extend_from_slice(b"NULL"),
        }
    }
    reader.end()
}
