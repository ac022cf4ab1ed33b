//! Tables as the host knows them, from what the log and the catalog say of them. No I/O.

use std::fmt::Write as _;

use rowtide_sdk::{Column, Identity, Table};

use crate::binlog::table_map::{MappedColumn, NamedType, Stored, TableMap};
use crate::charset::Charset;
use crate::decode::{Undecodable, decoding};

/// What the server writes of rows (`binlog_row_image`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowImage {
    /// Every column of old and new rows.
    #[default]
    Full,
    /// Of old rows the key, of new ones what was set.
    Partial,
}

/// Why a table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The log names no columns (`binlog_row_metadata`), and nobody else did.
    #[error("the log does not name its columns")]
    Unnamed,
    /// A column's values cannot be decoded.
    #[error("column {0}: {1}")]
    Column(String, Undecodable),
}

/// Makes the table that a TABLE_MAP event describes, with all that it says by itself. `facts` are saved
/// with the version.
///
/// # Errors
/// [`Unreadable`] where it does not say enough.
pub fn build_table(map: &TableMap, image: RowImage, facts: String) -> Result<Table, Unreadable> {
    let primary_key = map.primary_key.clone().unwrap_or_default();
    let is_full = image == RowImage::Full;
    let column = |(at, column): (usize, &MappedColumn)| {
        let name = column.name.clone().ok_or(Unreadable::Unnamed)?;
        let decoding = decoding(column).map_err(|why| Unreadable::Column(name.clone(), why))?;
        Ok(Column {
            name,
            type_name: type_name(column),
            form: decoding.form,
            decode: decoding.decode,
            is_identity: is_full || primary_key.contains(&at),
            may_be_unchanged: !is_full && !primary_key.contains(&at),
        })
    };
    let columns = map.columns.iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Table {
        db: map.schema.clone(),
        schema: map.schema.clone(),
        name: map.name.clone(),
        columns,
        identity: match (image, primary_key.is_empty()) {
            (RowImage::Full, _) => Identity::Full,
            (RowImage::Partial, false) => Identity::Default,
            // The log has the whole old row then.
            (RowImage::Partial, true) => Identity::Full,
        },
        primary_key,
        // The log does not tell a table from another of its name and columns.
        incarnation: 0,
        facts,
    })
}

/// The type as the server prints it (`COLUMN_TYPE` in its catalog).
pub fn type_name(column: &MappedColumn) -> String {
    match column.named {
        Some(NamedType::Uuid) => return "uuid".to_owned(),
        Some(NamedType::Inet4) => return "inet4".to_owned(),
        Some(NamedType::Inet6) => return "inet6".to_owned(),
        None => {}
    }
    let charset = column.collation.and_then(Charset::of_collation);
    let is_binary = charset.is_some_and(Charset::is_binary);
    let mut name = match column.stored {
        Stored::Integer(1) => "tinyint".to_owned(),
        Stored::Integer(2) => "smallint".to_owned(),
        Stored::Integer(3) => "mediumint".to_owned(),
        Stored::Integer(4) => "int".to_owned(),
        Stored::Integer(_) => "bigint".to_owned(),
        Stored::Float => "float".to_owned(),
        Stored::Double => "double".to_owned(),
        Stored::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        Stored::Bit(bits) => format!("bit({bits})"),
        Stored::Year => "year".to_owned(),
        Stored::Date => "date".to_owned(),
        Stored::Time(digits) => with_digits("time", digits),
        Stored::DateTime(digits) => with_digits("datetime", digits),
        Stored::Timestamp(digits) => with_digits("timestamp", digits),
        Stored::OldTime => "time".to_owned(),
        Stored::OldDateTime => "datetime".to_owned(),
        Stored::OldTimestamp => "timestamp".to_owned(),
        Stored::Char { max_bytes } => sized(["char", "binary"], is_binary, max_bytes, charset),
        Stored::VarChar { max_bytes } => {
            sized(["varchar", "varbinary"], is_binary, max_bytes, charset)
        }
        Stored::Blob(width) => {
            let size = match width {
                1 => "tiny",
                3 => "medium",
                4 => "long",
                _ => "",
            };
            format!("{size}{}", if is_binary { "blob" } else { "text" })
        }
        Stored::Json(_) => "json".to_owned(),
        Stored::Geometry(_) => geometry(column.geometry).to_owned(),
        Stored::Vector(_) => match column.dimensions {
            Some(dimensions) => format!("vector({dimensions})"),
            None => "vector".to_owned(),
        },
        Stored::Enum(_) => labelled("enum", column, charset),
        Stored::Set(_) => labelled("set", column, charset),
    };
    if column.is_unsigned == Some(true) && column.stored != Stored::Year {
        name.push_str(" unsigned");
    }
    name
}

fn with_digits(name: &str, digits: u8) -> String {
    if digits == 0 { name.to_owned() } else { format!("{name}({digits})") }
}

fn sized(names: [&str; 2], is_binary: bool, max_bytes: u16, charset: Option<Charset>) -> String {
    let [text, bytes] = names;
    let per_char = charset.map_or(1, Charset::max_len).max(1);
    let len = usize::from(max_bytes) / if is_binary { 1 } else { per_char };
    format!("{}({len})", if is_binary { bytes } else { text })
}

fn geometry(kind: Option<u64>) -> &'static str {
    match kind {
        Some(1) => "point",
        Some(2) => "linestring",
        Some(3) => "polygon",
        Some(4) => "multipoint",
        Some(5) => "multilinestring",
        Some(6) => "multipolygon",
        Some(7) => "geomcollection",
        _ => "geometry",
    }
}

fn labelled(name: &str, column: &MappedColumn, charset: Option<Charset>) -> String {
    let mut out = format!("{name}(");
    for (at, label) in column.labels.iter().flatten().enumerate() {
        let text = charset.and_then(|charset| charset.to_utf8(label).ok());
        let text = text.unwrap_or_else(|| String::from_utf8_lossy(label));
        let comma = if at > 0 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(out, "{comma}'{}'", text.replace('\'', "''"));
    }
    out.push(')');
    out
}
