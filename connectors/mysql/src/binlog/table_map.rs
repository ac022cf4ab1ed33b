//! TABLE_MAP events: which table the row events behind them are of, and how its columns are written.

use super::{ParseError, Parsed};
use crate::reader::{Reader, is_set};

/// Column types as the binlog has them (`enum_field_types`).
#[allow(missing_docs, reason = "the names are the server's")]
pub mod types {
    pub const DECIMAL: u8 = 0;
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const TYPED_ARRAY: u8 = 20;
    pub const MARIADB_BLOB_COMPRESSED: u8 = 140;
    pub const MARIADB_VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// How a column's values are written, with all that their length depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stored {
    /// A whole number of so many bytes.
    Integer(u8),
    /// `FLOAT`.
    Float,
    /// `DOUBLE`.
    Double,
    /// `DECIMAL(precision, scale)`.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// `BIT` of so many bits.
    Bit(u16),
    /// `YEAR`.
    Year,
    /// `DATE`.
    Date,
    /// `TIME` with so many digits of a fraction.
    Time(u8),
    /// `DATETIME` with so many digits of a fraction.
    DateTime(u8),
    /// `TIMESTAMP` with so many digits of a fraction.
    Timestamp(u8),
    /// `TIME` as before MySQL 5.6.
    OldTime,
    /// `DATETIME` as before MySQL 5.6.
    OldDateTime,
    /// `TIMESTAMP` as before MySQL 5.6.
    OldTimestamp,
    /// `CHAR(n)` or `BINARY(n)`, without what pads it.
    Char {
        /// The most bytes a value has.
        max_bytes: u16,
    },
    /// `VARCHAR(n)` or `VARBINARY(n)`.
    VarChar {
        /// The most bytes a value has.
        max_bytes: u16,
    },
    /// `TEXT` or `BLOB`, whose length takes so many bytes.
    Blob(u8),
    /// `JSON` in MySQL's binary form.
    Json(u8),
    /// A geometry: its SRID, and well-known binary.
    Geometry(u8),
    /// `VECTOR`.
    Vector(u8),
    /// An `ENUM`'s number, in so many bytes.
    Enum(u8),
    /// A `SET`'s bits, in so many bytes.
    Set(u8),
}

impl Stored {
    /// Takes a column's metadata, whose length depends on its type, and makes one of both.
    fn read(kind: u8, metadata: &mut Reader<'_>) -> Parsed<Self> {
        Self::known(kind, metadata)?.ok_or(MALFORMED)
    }

    /// `None` where the metadata ends early or says what cannot be.
    fn known(kind: u8, metadata: &mut Reader<'_>) -> Parsed<Option<Self>> {
        let fraction = |digits: u8| (digits <= 6).then_some(digits);
        let width = |bytes: u8| (1..=4).contains(&bytes).then_some(bytes);
        let mut one = || metadata.u8();
        Ok(match kind {
            types::TINY => Some(Self::Integer(1)),
            types::SHORT => Some(Self::Integer(2)),
            types::INT24 => Some(Self::Integer(3)),
            types::LONG => Some(Self::Integer(4)),
            types::LONGLONG => Some(Self::Integer(8)),
            types::FLOAT => one().filter(|bytes| *bytes == 4).map(|_| Self::Float),
            types::DOUBLE => one().filter(|bytes| *bytes == 8).map(|_| Self::Double),
            types::YEAR => Some(Self::Year),
            types::DATE | types::NEWDATE => Some(Self::Date),
            types::TIME => Some(Self::OldTime),
            types::DATETIME => Some(Self::OldDateTime),
            types::TIMESTAMP => Some(Self::OldTimestamp),
            types::TIME2 => one().and_then(fraction).map(Self::Time),
            types::DATETIME2 => one().and_then(fraction).map(Self::DateTime),
            types::TIMESTAMP2 => one().and_then(fraction).map(Self::Timestamp),
            types::BLOB => one().and_then(width).map(Self::Blob),
            types::JSON => one().and_then(width).map(Self::Json),
            types::GEOMETRY => one().and_then(width).map(Self::Geometry),
            types::VECTOR => one().and_then(width).map(Self::Vector),
            types::NEWDECIMAL => {
                let digits = one().zip(one());
                let is_possible = |(precision, scale): &(u8, u8)| {
                    (1..=65).contains(precision) && *scale <= 38 && scale <= precision
                };
                digits
                    .filter(is_possible)
                    .map(|(precision, scale)| Self::Decimal { precision, scale })
            }
            types::BIT => {
                let bits =
                    one().zip(one()).map(|(bits, bytes)| u16::from(bytes) * 8 + u16::from(bits));
                bits.filter(|bits| (1..=64).contains(bits)).map(Self::Bit)
            }
            types::VARCHAR | types::VAR_STRING => {
                metadata.u16().map(|max_bytes| Self::VarChar { max_bytes })
            }
            types::STRING => one().zip(one()).and_then(|(real, bytes)| Self::string(real, bytes)),
            _ => return Err(ParseError::Unknown(format!("column type {kind}"))),
        })
    }

    /// STRING stands for three types. A length above 255 has its two highest bits in the type's byte,
    /// inverted.
    fn string(real: u8, bytes: u8) -> Option<Self> {
        let high = u16::from(!real & 0x30) << 4;
        match real | 0x30 {
            types::ENUM if matches!(bytes, 1 | 2) => Some(Self::Enum(bytes)),
            types::SET if matches!(bytes, 1..=4 | 8) => Some(Self::Set(bytes)),
            types::STRING => Some(Self::Char { max_bytes: high | u16::from(bytes) }),
            _ => None,
        }
    }

    /// Whether the event says if it is signed.
    fn is_numeric(self) -> bool {
        matches!(
            self,
            Self::Integer(_) | Self::Float | Self::Double | Self::Decimal { .. } | Self::Year
        )
    }

    /// Whether the event states a collation of it among those of strings. A VECTOR is a kind of BLOB to
    /// MySQL, and a geometry is one to MariaDB: each has the collation of bytes.
    fn is_string(self, is_mariadb: bool) -> bool {
        match self {
            Self::Char { .. } | Self::VarChar { .. } | Self::Blob(_) => true,
            Self::Geometry(_) => is_mariadb,
            Self::Vector(_) => !is_mariadb,
            _ => false,
        }
    }
}

/// A column of a [`TableMap`]. What the event does not say is `None`: that depends on the server's
/// `binlog_row_metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MappedColumn {
    /// How its values are written.
    pub stored: Stored,
    /// Whether it can be NULL.
    pub is_nullable: bool,
    /// Whether a number is unsigned.
    pub is_unsigned: Option<bool>,
    /// The collation of a string, an ENUM or a SET.
    pub collation: Option<u32>,
    /// The name.
    pub name: Option<String>,
    /// The labels of an ENUM or a SET, in the bytes of its collation.
    pub labels: Option<Vec<Vec<u8>>>,
    /// The kind of a geometry: 0 for any, 1 point and so on.
    pub geometry: Option<u64>,
    /// How many numbers a VECTOR has at most.
    pub dimensions: Option<u64>,
    /// Whether `SELECT *` has it.
    pub is_visible: Option<bool>,
    /// What only the catalog tells of BINARY columns: the event never says it.
    pub named: Option<NamedType>,
}

/// Types of MariaDB that the log has as BINARY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NamedType {
    /// `UUID`.
    Uuid,
    /// `INET4`.
    Inet4,
    /// `INET6`.
    Inet6,
}

/// A TABLE_MAP event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableMap {
    /// The number that row events name the table by.
    pub table_id: u64,
    /// The database.
    pub schema: String,
    /// The table.
    pub name: String,
    /// The columns, in the table's order.
    pub columns: Vec<MappedColumn>,
    /// The indexes of the primary key's columns, in the key's order; `None` where the event does not
    /// say. A table without one does not say either.
    pub primary_key: Option<Vec<usize>>,
}

const MALFORMED: ParseError = ParseError::Malformed("TABLE_MAP");

/// So many columns a table has at most.
const MAX_COLUMNS: usize = 4096;

/// The numbers of optional metadata (`Optional_metadata_field_type`).
mod optional {
    pub(super) const SIGNEDNESS: u8 = 1;
    pub(super) const DEFAULT_CHARSET: u8 = 2;
    pub(super) const COLUMN_CHARSET: u8 = 3;
    pub(super) const COLUMN_NAME: u8 = 4;
    pub(super) const SET_LABELS: u8 = 5;
    pub(super) const ENUM_LABELS: u8 = 6;
    pub(super) const GEOMETRY_TYPE: u8 = 7;
    pub(super) const PRIMARY_KEY: u8 = 8;
    pub(super) const PRIMARY_KEY_WITH_PREFIX: u8 = 9;
    pub(super) const LABEL_DEFAULT_CHARSET: u8 = 10;
    pub(super) const LABEL_COLUMN_CHARSET: u8 = 11;
    pub(super) const VISIBILITY: u8 = 12;
    pub(super) const DIMENSIONS: u8 = 13;
}

impl TableMap {
    /// The number of the table that an event's body is of; row events begin with it too.
    ///
    /// # Errors
    /// Where the body is too short.
    pub fn id(body: &[u8]) -> Parsed<u64> {
        Reader(body).uint(6).ok_or(MALFORMED)
    }

    /// The schema and name of the table that an event's body is of, whatever its columns are.
    pub fn name(body: &[u8]) -> Option<(String, String)> {
        let mut reader = Reader(body);
        reader.bytes(8)?;
        let mut name = || {
            let name = String::from_utf8(reader.short_bytes()?.to_vec()).ok()?;
            (reader.u8()? == 0).then_some(name)
        };
        Some((name()?, name()?))
    }

    /// Reads the body of a TABLE_MAP event of MySQL or MariaDB.
    ///
    /// # Errors
    /// Where it is malformed, has a column of a type that is not known, or names that are not UTF-8.
    pub fn parse(body: &[u8], is_mariadb: bool) -> Parsed<Self> {
        let mut reader = Reader(body);
        let mut head = || {
            let table_id = reader.uint(6)?;
            let _flags = reader.u16()?;
            let mut name = || {
                let name = String::from_utf8(reader.short_bytes()?.to_vec()).ok()?;
                (reader.u8()? == 0).then_some(name)
            };
            let (schema, name) = (name()?, name()?);
            let count = reader.count().filter(|count| *count <= MAX_COLUMNS)?;
            let kinds = reader.bytes(count)?;
            let metadata = reader.lenenc_bytes()?;
            let nullable = reader.bytes(count.div_ceil(8))?;
            Some((table_id, schema, name, kinds, metadata, nullable))
        };
        let (table_id, schema, name, kinds, metadata, nullable) = head().ok_or(MALFORMED)?;
        let mut metadata = Reader(metadata);
        let column = |(at, kind): (usize, &u8)| {
            Ok(MappedColumn {
                stored: Stored::read(*kind, &mut metadata)?,
                is_nullable: is_set(nullable, at),
                is_unsigned: None,
                collation: None,
                name: None,
                labels: None,
                geometry: None,
                dimensions: None,
                is_visible: None,
                named: None,
            })
        };
        let columns = kinds.iter().enumerate().map(column).collect::<Parsed<Vec<_>>>()?;
        metadata.end().ok_or(MALFORMED)?;
        let mut map = Self { table_id, schema, name, columns, primary_key: None };
        map.read_optional(reader, is_mariadb).ok_or(MALFORMED)?;
        Ok(map)
    }

    /// Reads what stands behind the bitmap of nullable columns. Unknown kinds are left out, as the
    /// server's own reader does.
    fn read_optional(&mut self, mut reader: Reader<'_>, is_mariadb: bool) -> Option<()> {
        let is_string = |stored: Stored| stored.is_string(is_mariadb);
        while !reader.0.is_empty() {
            let kind = reader.u8()?;
            let value = Reader(reader.lenenc_bytes()?);
            match kind {
                optional::SIGNEDNESS => {
                    let set = |column: &mut MappedColumn, bit| column.is_unsigned = Some(bit);
                    self.read_bits(value, Stored::is_numeric, set)?;
                }
                optional::VISIBILITY => {
                    let set = |column: &mut MappedColumn, bit| column.is_visible = Some(bit);
                    self.read_bits(value, |_| true, set)?;
                }
                optional::DEFAULT_CHARSET => self.read_default(value, is_string)?,
                optional::LABEL_DEFAULT_CHARSET => self.read_default(value, has_labels)?,
                optional::COLUMN_CHARSET => self.read_each(value, is_string, collation)?,
                optional::LABEL_COLUMN_CHARSET => self.read_each(value, has_labels, collation)?,
                optional::COLUMN_NAME => self.read_each(
                    value,
                    |_| true,
                    |column, value| {
                        column.name = Some(String::from_utf8(value.lenenc_bytes()?.to_vec()).ok()?);
                        Some(())
                    },
                )?,
                optional::SET_LABELS => {
                    self.read_each(value, |stored| matches!(stored, Stored::Set(_)), labels)?;
                }
                optional::ENUM_LABELS => {
                    self.read_each(value, |stored| matches!(stored, Stored::Enum(_)), labels)?;
                }
                optional::GEOMETRY_TYPE => {
                    let is_geometry = |stored| matches!(stored, Stored::Geometry(_));
                    self.read_each(value, is_geometry, |column, value| {
                        column.geometry = Some(value.lenenc()?);
                        Some(())
                    })?;
                }
                optional::DIMENSIONS => {
                    let is_vector = |stored| matches!(stored, Stored::Vector(_));
                    self.read_each(value, is_vector, |column, value| {
                        column.dimensions = Some(value.lenenc()?);
                        Some(())
                    })?;
                }
                optional::PRIMARY_KEY => self.read_key(value, false)?,
                optional::PRIMARY_KEY_WITH_PREFIX => self.read_key(value, true)?,
                _ => {}
            }
        }
        Some(())
    }

    /// The columns of some kind.
    fn those(
        &mut self,
        is_one: impl Fn(Stored) -> bool,
    ) -> impl Iterator<Item = &mut MappedColumn> {
        self.columns.iter_mut().filter(move |column| is_one(column.stored))
    }

    /// A bit for each column of some kind, from the highest of the first byte on.
    fn read_bits(
        &mut self,
        value: Reader<'_>,
        is_one: impl Fn(Stored) -> bool,
        set: impl Fn(&mut MappedColumn, bool),
    ) -> Option<()> {
        for (at, column) in self.those(is_one).enumerate() {
            set(column, value.0.get(at / 8)? >> (7 - at % 8) & 1 == 1);
        }
        Some(())
    }

    /// A collation for all columns of some kind, then the numbers among them and collations of those
    /// that have another.
    fn read_default(
        &mut self,
        mut value: Reader<'_>,
        is_one: impl Fn(Stored) -> bool,
    ) -> Option<()> {
        let default = u32::try_from(value.lenenc()?).ok()?;
        let mut columns: Vec<_> = self.those(is_one).collect();
        for column in &mut columns {
            column.collation = Some(default);
        }
        while !value.0.is_empty() {
            let column = columns.get_mut(value.count()?)?;
            column.collation = Some(u32::try_from(value.lenenc()?).ok()?);
        }
        Some(())
    }

    /// Something for each column of some kind, and nothing more.
    fn read_each(
        &mut self,
        mut value: Reader<'_>,
        is_one: impl Fn(Stored) -> bool,
        read: impl Fn(&mut MappedColumn, &mut Reader<'_>) -> Option<()>,
    ) -> Option<()> {
        for column in self.those(is_one) {
            read(column, &mut value)?;
        }
        value.end()
    }

    fn read_key(&mut self, mut value: Reader<'_>, has_prefixes: bool) -> Option<()> {
        let mut key = Vec::new();
        while !value.0.is_empty() {
            let at = value.count()?;
            if has_prefixes {
                // So many characters of the column are in the index; the key is the whole column.
                value.lenenc()?;
            }
            self.columns.get(at)?;
            key.push(at);
        }
        self.primary_key = Some(key);
        Some(())
    }
}

fn has_labels(stored: Stored) -> bool {
    matches!(stored, Stored::Enum(_) | Stored::Set(_))
}

fn collation(column: &mut MappedColumn, value: &mut Reader<'_>) -> Option<()> {
    column.collation = Some(u32::try_from(value.lenenc()?).ok()?);
    Some(())
}

/// So many labels an ENUM has at most.
const MAX_LABELS: usize = 65_535;

fn labels(column: &mut MappedColumn, value: &mut Reader<'_>) -> Option<()> {
    let count = value.count().filter(|count| *count <= MAX_LABELS)?;
    let labels = (0..count).map(|_| value.lenenc_bytes().map(<[u8]>::to_vec));
    column.labels = Some(labels.collect::<Option<_>>()?);
    Some(())
}
