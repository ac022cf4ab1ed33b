//! What the catalog says of a table, put together with what the log says of it. No I/O.

use serde::{Deserialize, Serialize};

use crate::binlog::table_map::{MappedColumn, NamedType, Stored, TableMap};
use crate::charset::Charset;

/// Whether the catalog may call the column an address or a UUID.
pub(crate) fn may_be_address(column: &MappedColumn) -> bool {
    const BINARY: u32 = 63;
    matches!(column.stored, Stored::Char { max_bytes: 4 | 16 })
        && column.collation.is_none_or(|collation| collation == BINARY)
}

/// A column as `information_schema.COLUMNS` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogColumn {
    pub(crate) name: String,
    /// `DATA_TYPE`, in lower case.
    pub(crate) data_type: String,
    /// `COLUMN_TYPE`.
    pub(crate) column_type: String,
    /// `CHARACTER_OCTET_LENGTH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) octets: Option<u64>,
    /// `NUMERIC_PRECISION` and `NUMERIC_SCALE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) numeric: Option<(u64, u64)>,
    /// `DATETIME_PRECISION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fraction: Option<u64>,
    /// `CHARACTER_SET_NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) charset: Option<String>,
    pub(crate) is_nullable: bool,
    pub(crate) is_visible: bool,
}

/// A table as the catalog describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogTable {
    pub(crate) columns: Vec<CatalogColumn>,
    /// The names of the primary key's columns, in the key's order.
    #[serde(default)]
    pub(crate) primary_key: Vec<String>,
}

/// What the catalog says is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Differs {
    #[error("the log has {log} columns, the catalog {catalog}")]
    Count { log: usize, catalog: usize },
    #[error("column {0} has another type in the log than in the catalog ({1})")]
    Type(String, String),
    #[error("column {0} has a type that is not known ({1})")]
    Unknown(String, String),
    #[error(
        "column {0} is not in the catalog any more, which alone says whether it is a UUID or an address"
    )]
    Gone(String),
}

impl CatalogColumn {
    fn labels(&self) -> Option<Vec<String>> {
        let inside = self.column_type.split_once('(')?.1.strip_suffix(')')?;
        let (mut labels, mut label, mut is_open) = (Vec::new(), String::new(), false);
        let mut chars = inside.chars().peekable();
        while let Some(char) = chars.next() {
            match (char, is_open) {
                ('\'', false) => is_open = true,
                ('\'', true) if chars.next_if_eq(&'\'').is_some() => label.push('\''),
                ('\'', true) => {
                    is_open = false;
                    labels.push(std::mem::take(&mut label));
                }
                (',', false) => {}
                (char, true) => label.push(char),
                _ => return None,
            }
        }
        (!is_open).then_some(labels)
    }

    fn named(&self) -> Option<NamedType> {
        match self.data_type.as_str() {
            "uuid" => Some(NamedType::Uuid),
            "inet4" => Some(NamedType::Inet4),
            "inet6" => Some(NamedType::Inet6),
            _ => None,
        }
    }

    /// How its values are written in the log; `None` where the type is not known.
    fn stored(&self) -> Option<Stored> {
        let small = |number: Option<u64>| u8::try_from(number.unwrap_or_default()).ok();
        let fraction = || small(self.fraction);
        let octets = || u16::try_from(self.octets.unwrap_or_default()).ok();
        Some(match self.data_type.as_str() {
            "tinyint" => Stored::Integer(1),
            "smallint" => Stored::Integer(2),
            "mediumint" => Stored::Integer(3),
            "int" => Stored::Integer(4),
            "bigint" => Stored::Integer(8),
            "float" => Stored::Float,
            "double" => Stored::Double,
            "decimal" => {
                let (precision, scale) = self.numeric?;
                Stored::Decimal { precision: small(Some(precision))?, scale: small(Some(scale))? }
            }
            "bit" => Stored::Bit(u16::try_from(self.numeric?.0).ok()?),
            "year" => Stored::Year,
            "date" => Stored::Date,
            "time" => Stored::Time(fraction()?),
            "datetime" => Stored::DateTime(fraction()?),
            "timestamp" => Stored::Timestamp(fraction()?),
            "char" | "binary" => Stored::Char { max_bytes: octets()? },
            "uuid" | "inet6" => Stored::Char { max_bytes: 16 },
            "inet4" => Stored::Char { max_bytes: 4 },
            "varchar" | "varbinary" => Stored::VarChar { max_bytes: octets()? },
            "tinytext" | "tinyblob" => Stored::Blob(1),
            "text" | "blob" => Stored::Blob(2),
            "mediumtext" | "mediumblob" => Stored::Blob(3),
            "longtext" | "longblob" => Stored::Blob(4),
            "json" => Stored::Json(4),
            "vector" => Stored::Vector(4),
            "enum" => Stored::Enum(if self.labels()?.len() > 255 { 2 } else { 1 }),
            "set" => Stored::Set(match self.labels()?.len() {
                0..=8 => 1,
                9..=16 => 2,
                17..=24 => 3,
                25..=32 => 4,
                _ => 8,
            }),
            other => {
                geometry(other)?;
                Stored::Geometry(4)
            }
        })
    }

    /// The column as a TABLE_MAP with all metadata would describe it, its values written as `stored`.
    fn mapped(&self, stored: Stored) -> MappedColumn {
        let is_labelled = matches!(stored, Stored::Enum(_) | Stored::Set(_));
        let charset = self.charset.as_deref().and_then(Charset::of_name);
        // Labels stand here in the catalog's own text.
        let charset = if is_labelled { Some(Charset::Utf8mb4) } else { charset };
        let is_text =
            matches!(stored, Stored::Char { .. } | Stored::VarChar { .. } | Stored::Blob(_));
        let charset = charset.or_else(|| is_text.then_some(Charset::Binary));
        let dimensions = || self.column_type.split_once('(')?.1.strip_suffix(')')?.parse().ok();
        MappedColumn {
            stored,
            is_nullable: self.is_nullable,
            is_unsigned: Some(self.column_type.contains("unsigned")),
            collation: charset.and_then(Charset::any_collation),
            name: Some(self.name.clone()),
            labels: self
                .labels()
                .filter(|_| is_labelled)
                .map(|labels| labels.into_iter().map(String::into_bytes).collect()),
            geometry: geometry(&self.data_type),
            dimensions: dimensions(),
            is_visible: Some(self.is_visible),
            named: self.named(),
        }
    }
}

/// The number of a geometry's kind, as a TABLE_MAP has it.
fn geometry(name: &str) -> Option<u64> {
    Some(match name {
        "geometry" => 0,
        "point" => 1,
        "linestring" => 2,
        "polygon" => 3,
        "multipoint" => 4,
        "multilinestring" => 5,
        "multipolygon" => 6,
        "geometrycollection" | "geomcollection" => 7,
        _ => return None,
    })
}

/// Whether values are of the same kind, whatever their length is: that the log says itself.
fn is_alike(log: Stored, catalog: Stored) -> bool {
    use Stored as S;
    match (log, catalog) {
        (S::Integer(a), S::Integer(b)) => a == b,
        (S::Decimal { precision: p, scale: s }, S::Decimal { precision, scale }) => {
            (p, s) == (precision, scale)
        }
        (S::Bit(a), S::Bit(b)) => a == b,
        (S::Time(a), S::Time(b))
        | (S::DateTime(a), S::DateTime(b))
        | (S::Timestamp(a), S::Timestamp(b)) => a == b,
        (S::OldTime, S::Time(_))
        | (S::OldDateTime, S::DateTime(_))
        | (S::OldTimestamp, S::Timestamp(_)) => true,
        (S::Blob(a), S::Blob(b)) => a == b,
        (a, b) => std::mem::discriminant(&a) == std::mem::discriminant(&b),
    }
}

impl CatalogTable {
    /// Puts into a TABLE_MAP what it does not say by itself.
    ///
    /// # Errors
    /// Where it is not of this table.
    pub(crate) fn complete(&self, map: &TableMap) -> Result<TableMap, Differs> {
        let (log, catalog) = (map.columns.len(), self.columns.len());
        if log != catalog {
            return Err(Differs::Count { log, catalog });
        }
        let column = |(log, catalog): (&MappedColumn, &CatalogColumn)| {
            let (name, type_name) = (catalog.name.clone(), catalog.column_type.clone());
            match catalog.stored() {
                Some(stored) if is_alike(log.stored, stored) => {}
                Some(_) => return Err(Differs::Type(name, type_name)),
                None => return Err(Differs::Unknown(name, type_name)),
            }
            let all = catalog.mapped(log.stored);
            let is_labelled = matches!(log.stored, Stored::Enum(_) | Stored::Set(_));
            let has_labels = log.labels.is_some();
            Ok(MappedColumn {
                stored: log.stored,
                is_nullable: log.is_nullable,
                is_unsigned: log.is_unsigned.or(all.is_unsigned),
                collation: match is_labelled && !has_labels {
                    true => all.collation,
                    false => log.collation.or(all.collation),
                },
                name: log.name.clone().or(all.name),
                labels: log.labels.clone().or(all.labels),
                geometry: log.geometry.or(all.geometry),
                dimensions: log.dimensions.or(all.dimensions),
                is_visible: log.is_visible.or(all.is_visible),
                named: all.named,
            })
        };
        let columns =
            map.columns.iter().zip(&self.columns).map(column).collect::<Result<_, _>>()?;
        let primary_key = map.primary_key.clone().or_else(|| Some(self.key()));
        Ok(TableMap { columns, primary_key, ..map.clone() })
    }

    /// The same where the log says all but which columns are UUIDs or addresses: what of the catalog that
    /// took, and the table. Other columns may be others since.
    ///
    /// # Errors
    /// Where the catalog does not tell.
    pub(crate) fn addresses(&self, map: &TableMap) -> Result<(Self, TableMap), Differs> {
        let (mut taken, mut map) = (Self::default(), map.clone());
        for column in map.columns.iter_mut().filter(|column| may_be_address(column)) {
            let name = column.name.clone().unwrap_or_default();
            let Some(catalog) = self.columns.iter().find(|catalog| catalog.name == name) else {
                return Err(Differs::Gone(name));
            };
            let is_one = catalog.data_type == "binary" || catalog.named().is_some();
            if !is_one || catalog.stored() != Some(column.stored) {
                return Err(Differs::Type(name, catalog.column_type.clone()));
            }
            column.named = catalog.named();
            taken.columns.push(catalog.clone());
        }
        Ok((taken, map))
    }

    /// What the catalog would say of the columns that may be UUIDs or addresses of a table that was made
    /// with these; `None` where it is not that table.
    pub(crate) fn made(map: &TableMap, addresses: &[(String, NamedType)]) -> Option<Self> {
        let is_there = |name: &str| {
            let mut columns = map.columns.iter().filter(|column| may_be_address(column));
            columns.any(|column| column.name.as_deref() == Some(name))
        };
        if !addresses.iter().all(|(name, _)| is_there(name)) {
            return None;
        }
        let column = |column: &MappedColumn| {
            let Stored::Char { max_bytes } = column.stored else { return None };
            let name = column.name.clone()?;
            let named = addresses.iter().find(|(address, _)| *address == name);
            let (data_type, column_type) = match named {
                Some((_, NamedType::Uuid)) => ("uuid", "uuid".to_owned()),
                Some((_, NamedType::Inet4)) => ("inet4", "inet4".to_owned()),
                Some((_, NamedType::Inet6)) => ("inet6", "inet6".to_owned()),
                None => ("binary", format!("binary({max_bytes})")),
            };
            Some(CatalogColumn {
                name,
                data_type: data_type.to_owned(),
                column_type,
                octets: Some(max_bytes.into()),
                numeric: None,
                fraction: None,
                charset: None,
                is_nullable: column.is_nullable,
                is_visible: column.is_visible.unwrap_or(true),
            })
        };
        let columns = map.columns.iter().filter(|column| may_be_address(column)).map(column);
        Some(Self { columns: columns.collect::<Option<_>>()?, primary_key: Vec::new() })
    }

    /// The table as a TABLE_MAP with all metadata would describe it.
    ///
    /// # Errors
    /// Where a column has a type that is not known.
    pub(crate) fn mapped(&self, schema: &str, name: &str) -> Result<TableMap, Differs> {
        let column = |column: &CatalogColumn| {
            let unknown = || Differs::Unknown(column.name.clone(), column.column_type.clone());
            column.stored().map(|stored| column.mapped(stored)).ok_or_else(unknown)
        };
        Ok(TableMap {
            table_id: 0,
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns: self.columns.iter().map(column).collect::<Result<_, _>>()?,
            primary_key: Some(self.key()),
        })
    }

    fn key(&self) -> Vec<usize> {
        let index = |name: &String| self.columns.iter().position(|column| column.name == *name);
        self.primary_key.iter().filter_map(index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: &str, column_type: &str) -> CatalogColumn {
        CatalogColumn {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            column_type: column_type.to_owned(),
            octets: None,
            numeric: None,
            fraction: None,
            charset: None,
            is_nullable: true,
            is_visible: true,
        }
    }

    #[test]
    fn labels_are_read_with_their_quotes() {
        let column = column("e", "enum", "enum('a','it''s','x,y','')");
        assert_eq!(column.labels().unwrap(), ["a", "it's", "x,y", ""]);
        assert_eq!(column.stored(), Some(Stored::Enum(1)));
    }

    #[test]
    fn m41_what_differs_is_never_put_together_by_position() {
        let table = CatalogTable {
            columns: vec![column("a", "int", "int unsigned"), column("b", "double", "double")],
            primary_key: vec!["a".to_owned()],
        };
        let mut map = table.mapped("s", "t").unwrap();
        for column in &mut map.columns {
            (column.name, column.is_unsigned) = (None, None);
        }
        map.primary_key = None;
        let whole = table.complete(&map).unwrap();
        assert_eq!(whole, table.mapped("s", "t").unwrap());
        let fewer = CatalogTable { columns: table.columns[..1].to_vec(), ..table.clone() };
        assert_eq!(fewer.complete(&map), Err(Differs::Count { log: 2, catalog: 1 }));
        let mut other = table;
        other.columns[1] = column("b", "bigint", "bigint");
        assert!(matches!(other.complete(&map), Err(Differs::Type(..))));
    }
}
