//! How values are decoded: one decoder per type, chosen when a table is learned. Nothing here does I/O
//! or panics on any bytes.

/// Gives a decoder the text of its values: what stands in the log is none.
macro_rules! text_as_shown {
    () => {
        fn text<'r>(&self, raw: &'r [u8]) -> std::borrow::Cow<'r, [u8]> {
            crate::decode::text_as_shown(self, raw)
        }
    };
}

mod address;
mod bytes;
pub mod json;
mod number;
mod text;
mod time;

use std::borrow::Cow;
use std::sync::Arc;

use rowtide_sdk::{Decode, Form, JsonWriter, StringKind};

use crate::binlog::table_map::{MappedColumn, NamedType, Stored};
use crate::charset::Charset;

/// How a column's values become JSON.
#[derive(Debug, Clone)]
pub struct Decoding {
    /// The JSON form of the values.
    pub form: Form,
    /// Writes the values.
    pub decode: Arc<dyn Decode>,
}

/// Why a column's values cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The log does not say something that values cannot be read without, and nobody else did.
    #[error("its {0} is not known")]
    Unknown(&'static str),
    /// Its collation is of no known character set.
    #[error("collation {0} is not known")]
    Collation(u32),
    /// A label is not text of the column's character set.
    #[error("a label is not text of the column's character set")]
    Label,
}

/// The text of a value as an event shows it, a string without its quotes; the bytes themselves where they are
/// not of the type.
fn text_as_shown<'r>(decode: &dyn Decode, raw: &'r [u8]) -> Cow<'r, [u8]> {
    let mut out = JsonWriter::default();
    if decode.write(raw, &mut out).is_err() {
        return Cow::Borrowed(raw);
    }
    let json = out.into_inner();
    match serde_json::from_slice::<String>(&json) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Owned(json),
    }
}

fn string(kind: StringKind, decode: impl Decode + 'static) -> Decoding {
    Decoding { form: Form::String(kind), decode: Arc::new(decode) }
}

/// How the values of a column are decoded, by what its table's description says.
///
/// # Errors
/// [`Undecodable`] where the description lacks what its type needs.
pub fn decoding(column: &MappedColumn) -> Result<Decoding, Undecodable> {
    match column.named {
        Some(NamedType::Uuid) => return Ok(string(StringKind::Uuid, address::Uuid)),
        Some(NamedType::Inet4) => return Ok(string(StringKind::Opaque, address::Inet4)),
        Some(NamedType::Inet6) => return Ok(string(StringKind::Opaque, address::Inet6)),
        None => {}
    }
    Ok(match column.stored {
        Stored::Integer(width) => integer(width, column)?,
        Stored::Float | Stored::Double => {
            Decoding { form: Form::Float, decode: Arc::new(number::Float) }
        }
        Stored::Decimal { precision, scale } => {
            string(StringKind::Decimal, number::Decimal { precision, scale })
        }
        Stored::Bit(bits) => string(StringKind::Bits, number::Bit { bits }),
        Stored::Year => {
            let form = Form::Integer { min: 0, max: 2155 };
            Decoding { form, decode: Arc::new(number::Year) }
        }
        Stored::Date => string(StringKind::Date, time::Date),
        Stored::Time(digits) => string(StringKind::SignedTime, time::Time { digits }),
        Stored::DateTime(digits) => string(StringKind::Timestamp, time::DateTime { digits }),
        Stored::Timestamp(digits) => string(StringKind::TimestampTz, time::Timestamp { digits }),
        Stored::OldTime => string(StringKind::SignedTime, time::OldTime),
        Stored::OldDateTime => string(StringKind::Timestamp, time::OldDateTime),
        Stored::OldTimestamp => string(StringKind::TimestampTz, time::OldTimestamp),
        Stored::Char { max_bytes } => text(column, Some(max_bytes), true)?,
        Stored::VarChar { max_bytes } => text(column, Some(max_bytes), false)?,
        Stored::Blob(_) => text(column, None, false)?,
        Stored::Json(_) => Decoding { form: Form::Json, decode: Arc::new(json::Json) },
        Stored::Geometry(_) => {
            let srid = Form::Integer { min: 0, max: i128::from(u32::MAX) };
            let wkb = Form::String(StringKind::Bytes);
            let form = Form::Object(vec![("srid".to_owned(), srid), ("wkb".to_owned(), wkb)]);
            Decoding { form, decode: Arc::new(bytes::Geometry) }
        }
        Stored::Vector(_) => {
            let form = Form::Array(Box::new(Form::Float));
            Decoding { form, decode: Arc::new(bytes::Vector) }
        }
        Stored::Enum(_) => {
            string(StringKind::Text { max_chars: None }, bytes::Enum { labels: labels(column)? })
        }
        Stored::Set(_) => {
            string(StringKind::Text { max_chars: None }, bytes::Set { labels: labels(column)? })
        }
    })
}

fn integer(width: u8, column: &MappedColumn) -> Result<Decoding, Undecodable> {
    let is_unsigned = column.is_unsigned.ok_or(Undecodable::Unknown("signedness"))?;
    let values = 1i128 << (8 * u32::from(width));
    let min = if is_unsigned { 0 } else { -values / 2 };
    let form = Form::Integer { min, max: min + values - 1 };
    Ok(Decoding { form, decode: Arc::new(number::Integer { is_unsigned }) })
}

fn charset(column: &MappedColumn) -> Result<Charset, Undecodable> {
    let collation = column.collation.ok_or(Undecodable::Unknown("collation"))?;
    Charset::of_collation(collation).ok_or(Undecodable::Collation(collation))
}

/// Text, or bytes where the character set is `binary`.
fn text(
    column: &MappedColumn,
    max_bytes: Option<u16>,
    is_padded: bool,
) -> Result<Decoding, Undecodable> {
    let charset = charset(column)?;
    if charset.is_binary() {
        return Ok(match max_bytes.filter(|_| is_padded) {
            Some(len) => string(StringKind::Bytes, bytes::Padded { len: usize::from(len) }),
            None => string(StringKind::Bytes, bytes::Bytes),
        });
    }
    let chars = |bytes: u16| usize::from(bytes) / charset.max_len().max(1);
    let max_chars = max_bytes.and_then(|bytes| u32::try_from(chars(bytes)).ok());
    Ok(string(StringKind::Text { max_chars }, text::Text { charset, max_chars }))
}

fn labels(column: &MappedColumn) -> Result<Arc<[String]>, Undecodable> {
    let labels = column.labels.as_ref().ok_or(Undecodable::Unknown("list of labels"))?;
    // Labels are of the statement's character set where their column has none.
    let charset = match charset(column)? {
        Charset::Binary => Charset::Utf8mb4,
        charset => charset,
    };
    let label = |label: &Vec<u8>| charset.to_utf8(label).map(Into::into);
    labels.iter().map(label).collect::<Result<_, _>>().map_err(|_| Undecodable::Label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::table_map::{MappedColumn, Stored};

    fn text(stored: Stored, collation: Option<u32>, labels: &[&str], raw: &[u8]) -> String {
        let column = MappedColumn {
            stored,
            is_nullable: true,
            is_unsigned: Some(false),
            collation,
            name: Some("c".to_owned()),
            labels: Some(labels.iter().map(|label| label.as_bytes().to_vec()).collect()),
            geometry: None,
            dimensions: None,
            is_visible: None,
            named: None,
        };
        let text = decoding(&column).unwrap().decode.text(raw).into_owned();
        String::from_utf8(text).unwrap()
    }

    /// What is hashed of a masked value is what it is, not how the log writes it.
    #[test]
    fn the_text_of_a_value_is_what_an_event_shows() {
        let of = |stored, raw: &[u8]| text(stored, Some(63), &["x", "y"], raw);
        assert_eq!(of(Stored::Integer(4), &[7, 0, 0, 0]), "7");
        assert_eq!(of(Stored::Integer(8), &[7, 0, 0, 0, 0, 0, 0, 0]), "7");
        let decimal = Stored::Decimal { precision: 10, scale: 2 };
        assert_eq!(of(decimal, &[0x80, 0, 0, 1, 50]), "1.50");
        assert_eq!(of(Stored::Double, &0.1f64.to_le_bytes()), "0.1");
        assert_eq!(of(Stored::Year, &[124]), "2024");
        assert_eq!(of(Stored::Enum(1), &[2]), "y");
        assert_eq!(of(Stored::Char { max_bytes: 3 }, b"a"), "a\0\0", "the bytes of BINARY(3)");
        assert_eq!(of(Stored::Blob(1), b"\"a\""), "\"a\"", "the bytes of a BLOB");
        let latin1 = 8;
        assert_eq!(text(Stored::VarChar { max_bytes: 9 }, Some(latin1), &[], b"\xe9\"\n"), "é\"\n");
        assert_eq!(of(Stored::Double, &[7]), "\u{7}", "what is not of the type");
    }
}
