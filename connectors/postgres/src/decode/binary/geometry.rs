//! Points and what is made of them: doubles, printed like any.

use super::{Reader, float};

/// Appends the next so many doubles, with commas between them.
fn doubles(reader: &mut Reader<'_>, count: usize, out: &mut Vec<u8>) -> Option<()> {
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        float::double(&reader.array::<8>()?, out)?;
    }
    Some(())
}

/// Appends the next so many points, with commas between them.
fn points(reader: &mut Reader<'_>, count: usize, out: &mut Vec<u8>) -> Option<()> {
    for at in 0..count {
        out.extend_from_slice(if at > 0 { b",(" } else { b"(" });
        doubles(reader, 2, out)?;
        out.push(b')');
    }
    Some(())
}

fn count(reader: &mut Reader<'_>) -> Option<usize> {
    usize::try_from(reader.i32()?).ok()
}

pub(super) fn point(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    points(&mut reader, 1, out)?;
    reader.end()
}

pub(super) fn lseg(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    out.push(b'[');
    points(&mut reader, 2, out)?;
    out.push(b']');
    reader.end()
}

/// `box`.
pub(super) fn rectangle(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    points(&mut reader, 2, out)?;
    reader.end()
}

/// In parentheses where it is closed, else in brackets.
pub(super) fn path(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let (open, close) = match reader.u8()? {
        0 => (b'[', b']'),
        _ => (b'(', b')'),
    };
    let count = count(&mut reader)?;
    out.push(open);
    points(&mut reader, count, out)?;
    out.push(close);
    reader.end()
}

pub(super) fn polygon(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let count = count(&mut reader)?;
    out.push(b'(');
    points(&mut reader, count, out)?;
    out.push(b')');
    reader.end()
}

/// `{A,B,C}`.
pub(super) fn line(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    out.push(b'{');
    doubles(&mut reader, 3, out)?;
    out.push(b'}');
    reader.end()
}

/// `<(x,y),r>`.
pub(super) fn circle(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    out.push(b'<');
    points(&mut reader, 1, out)?;
    out.push(b',');
    doubles(&mut reader, 1, out)?;
    out.push(b'>');
    reader.end()
}
