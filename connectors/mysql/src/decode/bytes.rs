//! Values that are bytes: BINARY, BLOB, geometries, vectors, and numbers that stand for labels.

use std::borrow::Cow;
use std::sync::Arc;

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

use crate::reader::Reader;

/// `BLOB` and `VARBINARY`: base64.
#[derive(Debug)]
pub(super) struct Bytes;

impl Decode for Bytes {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        out.base64(raw);
        Ok(Written::Form)
    }
}

/// `BINARY(n)`: the log leaves out the zeros that it ends with.
#[derive(Debug)]
pub(super) struct Padded {
    pub(super) len: usize,
}

impl Decode for Padded {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        out.base64(&self.text(raw));
        Ok(Written::Form)
    }

    fn text<'r>(&self, raw: &'r [u8]) -> Cow<'r, [u8]> {
        if raw.len() >= self.len {
            return Cow::Borrowed(raw);
        }
        let mut whole = raw.to_vec();
        whole.resize(self.len, 0);
        Cow::Owned(whole)
    }
}

/// A geometry: its SRID and its well-known binary, as an object.
#[derive(Debug)]
pub(super) struct Geometry;

impl Decode for Geometry {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let mut reader = Reader(raw);
        let srid = reader.u32().ok_or(ValueError::Malformed("geometry"))?;
        out.raw(b"{\"srid\":");
        out.u64(u64::from(srid));
        out.raw(b",\"wkb\":");
        out.base64(reader.0);
        out.byte(b'}');
        Ok(Written::Form)
    }
}

/// `VECTOR`: an array of its numbers.
#[derive(Debug)]
pub(super) struct Vector;

impl Decode for Vector {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        const MALFORMED: ValueError = ValueError::Malformed("vector");
        let (numbers, rest) = raw.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(MALFORMED);
        }
        out.byte(b'[');
        for (at, number) in numbers.iter().enumerate() {
            if at > 0 {
                out.byte(b',');
            }
            super::number::Float.write(number, out).map_err(|_| MALFORMED)?;
        }
        out.byte(b']');
        Ok(Written::Form)
    }
}

/// `ENUM`: the label of its number, which counts from 1; 0 stands for a value that was not valid, and
/// is the empty string.
#[derive(Debug)]
pub(super) struct Enum {
    pub(super) labels: Arc<[String]>,
}

impl Decode for Enum {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        const MALFORMED: ValueError = ValueError::Malformed("number of an enum's label");
        let number = Reader(raw).uint(raw.len()).ok_or(MALFORMED)?;
        let Some(at) = number.checked_sub(1) else {
            out.string("");
            return Ok(Written::Form);
        };
        let label = usize::try_from(at).ok().and_then(|at| self.labels.get(at));
        out.string(label.ok_or(MALFORMED)?);
        Ok(Written::Form)
    }
}

/// `SET`: its labels with commas between them, in the order of the declaration, as the server prints
/// them. No label holds a comma.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) labels: Arc<[String]>,
}

impl Decode for Set {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        const MALFORMED: ValueError = ValueError::Malformed("bits of a set");
        let bits = Reader(raw).uint(raw.len()).ok_or(MALFORMED)?;
        let known = u32::try_from(self.labels.len()).map_err(|_| MALFORMED)?;
        if bits.checked_shr(known).is_some_and(|unknown| unknown != 0) {
            return Err(MALFORMED);
        }
        let chosen = self.labels.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
        let text: Vec<&str> = chosen.map(|(_, label)| label.as_str()).collect();
        out.string(&text.join(","));
        Ok(Written::Form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(decode: &dyn Decode, raw: &[u8]) -> Option<String> {
        let mut out = JsonWriter::new(Vec::new());
        decode.write(raw, &mut out).ok()?;
        Some(String::from_utf8(out.into_inner()).unwrap())
    }

    fn labels(labels: &[&str]) -> Arc<[String]> {
        labels.iter().map(|label| (*label).to_owned()).collect()
    }

    #[test]
    fn m55_binary_is_padded_to_its_length() {
        assert_eq!(written(&Padded { len: 4 }, &[1, 2]).unwrap(), "\"AQIAAA==\"");
        assert_eq!(written(&Bytes, &[1, 2]).unwrap(), "\"AQI=\"");
    }

    #[test]
    fn m57_labels_by_number_and_by_bits() {
        let decode = Enum { labels: labels(&["a", "b c"]) };
        let of = |raw: &[u8]| written(&decode, raw);
        assert_eq!(
            [of(&[0]), of(&[2]), of(&[1, 0])].map(Option::unwrap),
            ["\"\"", "\"b c\"", "\"a\""]
        );
        assert_eq!(of(&[3]), None);
        let decode = Set { labels: labels(&["a", "b", "c"]) };
        let of = |raw: &[u8]| written(&decode, raw);
        assert_eq!([of(&[0]), of(&[5])].map(Option::unwrap), ["\"\"", "\"a,c\""]);
        assert_eq!(of(&[8]), None);
        let names: Vec<String> = (0..64).map(|at| at.to_string()).collect();
        let all = written(&Set { labels: names.into() }, &[0xff; 8]).unwrap();
        assert!(all.ends_with(",62,63\""), "{all}");
    }

    #[test]
    fn m62_geometries_and_vectors_are_read() {
        assert_eq!(written(&Geometry, &[1, 0, 0, 0, 9]).unwrap(), "{\"srid\":1,\"wkb\":\"CQ==\"}");
        let numbers = [1.5f32, -2.0].map(f32::to_le_bytes).concat();
        assert_eq!(written(&Vector, &numbers).unwrap(), "[1.5,-2]");
        assert_eq!([written(&Vector, &[0; 3]), written(&Geometry, &[0; 3])], [None, None]);
    }
}
