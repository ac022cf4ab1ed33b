//! How values are decoded: one decoder per type, chosen when a table is learned. Nothing here does I/O
//! or panics on any bytes.

mod address;
mod bytes;
pub mod json;
mod number;
mod text;
mod time;

use std::sync::Arc;

use rowtide_sdk::{Decode, Form, StringKind};

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
