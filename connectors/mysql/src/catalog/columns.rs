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

/// Whether MariaDB may have written the column in its form of before 10.1, whose values are longer where they
/// have fractions of a second. How long, the log does not say.
pub(crate) fn may_have_fractions(column: &MappedColumn) -> bool {
    matches!(column.stored, Stored::OldTime | Stored::OldDateTime | Stored::OldTimestamp)
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
    /// How many columns the log has behind these in which MariaDB keeps the hashes of long unique keys.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) hashes: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// Whether it may be a column in which MariaDB keeps the hashes of a unique key that is too long for an
/// index (of a TEXT): a number without a sign, at the table's end, which only the log shows.
/// It would tell of values that are hidden.
fn may_be_hash(column: &MappedColumn) -> bool {
    column.stored == Stored::Integer(8)
        && column.is_unsigned.unwrap_or(true)
        && column.name.as_deref().is_none_or(is_hash_name)
}

/// Whether MariaDB calls the hashes of a unique key so. It takes a number that no column has in its name.
fn is_hash_name(name: &str) -> bool {
    let number = name.strip_prefix("DB_ROW_HASH_");
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// A TABLE_MAP of MariaDB's without the columns of hashes at its end, where it names its columns; and their
/// names.
pub(crate) fn without_named_hashes(mut map: TableMap) -> (TableMap, Vec<String>) {
    let mut hashes = Vec::new();
    while let Some(name) =
        map.columns.last().filter(|last| may_be_hash(last)).and_then(|last| last.name.clone())
    {
        map.columns.pop();
        hashes.push(name);
    }
    (map, hashes)
}

/// What the catalog says is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Differs {
    #[error("the log has {log} columns, the catalog {catalog}")]
    Count { log: usize, catalog: usize },
    #[error("column {0} has another type in the log than in the catalog ({1})")]
    Type(String, String),
    #[error(
        "column {0} has fractions of a second in the form that MariaDB had before 10.1 ({1}), whose size the log \
         does not tell"
    )]
    Fractions(String, String),
    #[error("column {0} has a type that is not known ({1})")]
    Unknown(String, String),
    #[error(
        "column {0} has a label with ?, which the catalog also writes for what it cannot (characters beyond \
         U+FFFF), and only the log with binlog_row_metadata=FULL tells them apart"
    )]
    Label(String),
    #[error(
        "column {0} is not in the catalog any more, which alone says whether it is a UUID or an address"
    )]
    Gone(String),
    #[error(
        "column {0} is not in the catalog any more, which alone says whether it has fractions of a second, in the \
         form that MariaDB had before 10.1"
    )]
    Size(String),
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
                ('\\', true) => label.push(match chars.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    '0' => '\0',
                    itself => itself,
                }),
                (char, true) => label.push(char),
                _ => return None,
            }
        }
        (!is_open).then_some(labels)
    }

    /// Whether the catalog, which writes labels in `utf8mb3`, may have lost characters of them.
    fn may_lack_characters(&self) -> bool {
        let charset = self.charset.as_deref().and_then(Charset::of_name);
        let is_lossy = |set: Charset| set.is_binary() || set.max_len() > Charset::Utf8mb3.max_len();
        charset.is_some_and(is_lossy)
            && self.labels().is_some_and(|labels| labels.iter().any(|it| it.contains('?')))
    }

    fn has_fractions(&self) -> bool {
        self.fraction.is_some_and(|digits| digits > 0)
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
        (S::OldTime, S::Time(0))
        | (S::OldDateTime, S::DateTime(0))
        | (S::OldTimestamp, S::Timestamp(0)) => true,
        (S::Blob(a), S::Blob(b)) => a == b,
        (a, b) => std::mem::discriminant(&a) == std::mem::discriminant(&b),
    }
}

impl CatalogTable {
    /// Whether a TABLE_MAP has as many columns, those of hashes aside.
    pub(crate) fn is_as_long_as(&self, map: &TableMap) -> bool {
        let (log, listed) = (map.columns.len(), self.columns.len());
        let mut behind = map.columns.iter().skip(listed);
        log == listed || log == listed.saturating_add(self.hashes) && behind.all(may_be_hash)
    }

    /// Adds the columns of a MariaDB table that is versioned and does not say how they are called: from when
    /// to when a row was in force.
    pub(crate) fn add_period(&mut self) {
        let column = |name: &str| CatalogColumn {
            name: name.to_owned(),
            data_type: "timestamp".to_owned(),
            column_type: "timestamp(6)".to_owned(),
            octets: None,
            numeric: None,
            fraction: Some(6),
            charset: None,
            is_nullable: false,
            is_visible: false,
        };
        self.columns.extend(["row_start", "row_end"].map(column));
        if !self.primary_key.is_empty() {
            self.primary_key.push("row_end".to_owned());
        }
    }

    /// Puts into a TABLE_MAP what it does not say by itself.
    ///
    /// # Errors
    /// Where it is not of this table.
    pub(crate) fn complete(&self, map: &TableMap) -> Result<TableMap, Differs> {
        if !self.is_as_long_as(map) {
            let (log, catalog) = (map.columns.len(), self.columns.len());
            return Err(Differs::Count { log, catalog });
        }
        let column = |(log, catalog): (&MappedColumn, &CatalogColumn)| {
            let (name, type_name) = (catalog.name.clone(), catalog.column_type.clone());
            match catalog.stored() {
                Some(stored) if is_alike(log.stored, stored) => {}
                Some(_) if may_have_fractions(log) && catalog.has_fractions() => {
                    return Err(Differs::Fractions(name, type_name));
                }
                Some(_) => return Err(Differs::Type(name, type_name)),
                None => return Err(Differs::Unknown(name, type_name)),
            }
            let all = catalog.mapped(log.stored);
            let is_labelled = matches!(log.stored, Stored::Enum(_) | Stored::Set(_));
            let has_labels = log.labels.is_some();
            if is_labelled && !has_labels && catalog.may_lack_characters() {
                return Err(Differs::Label(name));
            }
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

    /// Refuses moments whose size the log does not tell, where it names its columns.
    ///
    /// # Errors
    /// Where there is one, or the catalog does not tell.
    pub(crate) fn check_fractions(&self, map: &TableMap) -> Result<(), Differs> {
        for column in map.columns.iter().filter(|column| may_have_fractions(column)) {
            let name = column.name.clone().unwrap_or_default();
            match self.columns.iter().find(|catalog| catalog.name == name) {
                Some(catalog) if catalog.has_fractions() => {
                    return Err(Differs::Fractions(name, catalog.column_type.clone()));
                }
                Some(_) => {}
                None => return Err(Differs::Size(name)),
            }
        }
        Ok(())
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
        Some(Self { columns: columns.collect::<Option<_>>()?, ..Self::default() })
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
    fn labels_are_read_as_they_are_written() {
        let column = column(
            "e",
            "enum",
            r"enum('a','it''s','x,y','','a\\b','l\nf','r\r','z\0','it\'s','\\')",
        );
        let labels = ["a", "it's", "x,y", "", "a\\b", "l\nf", "r\r", "z\0", "it's", "\\"];
        assert_eq!(column.labels().unwrap(), labels);
        assert_eq!(column.stored(), Some(Stored::Enum(1)));
    }

    fn hash(name: &str) -> MappedColumn {
        let column = column(name, "bigint", "bigint unsigned");
        column.mapped(Stored::Integer(8))
    }

    #[test]
    fn hashes_of_unique_keys_are_left_out_at_the_end_alone() {
        let of = |columns: &[MappedColumn]| {
            let empty = CatalogTable::default().mapped("s", "t").unwrap();
            let map = TableMap { columns: columns.to_vec(), ..empty };
            without_named_hashes(map).0.columns.len()
        };
        let (hash, signed) = (hash("DB_ROW_HASH_12"), column("DB_ROW_HASH_1", "bigint", "bigint"));
        let signed = signed.mapped(Stored::Integer(8));
        let not_null = MappedColumn { is_nullable: false, ..hash.clone() };
        let small = MappedColumn { stored: Stored::Integer(4), ..hash.clone() };
        assert_eq!(of(&[hash.clone(), signed, hash.clone(), hash.clone()]), 2);
        assert_eq!(of(&[hash.clone(), not_null]), 0);
        assert_eq!(of(&[hash.clone(), small]), 2);
        for name in ["DB_ROW_HASH_", "DB_ROW_HASH_x", "xDB_ROW_HASH_1", "db_row_hash_1"] {
            assert_eq!(of(&[self::hash(name)]), 1, "{name}");
        }
        assert_eq!(of(&[MappedColumn { name: None, ..hash }]), 1);
    }

    #[test]
    fn a_label_that_the_catalog_may_have_lost_is_refused() {
        for (charset, label, is_lost) in [
            ("utf8mb4", "?", true),
            ("utf8mb4", "a", false),
            ("latin1", "?", false),
            ("ucs2", "?", false),
        ] {
            let mut column = column("e", "enum", &format!("enum('{label}')"));
            column.charset = Some(charset.to_owned());
            let table = CatalogTable { columns: vec![column], ..CatalogTable::default() };
            let mut map = table.mapped("s", "t").unwrap();
            assert!(table.complete(&map).is_ok(), "the log has the labels");
            map.columns[0].labels = None;
            assert_eq!(table.complete(&map).is_err(), is_lost, "{charset} {label}");
        }
    }

    #[test]
    fn m41_what_differs_is_never_put_together_by_position() {
        let table = CatalogTable {
            columns: vec![column("a", "int", "int unsigned"), column("b", "double", "double")],
            primary_key: vec!["a".to_owned()],
            hashes: 0,
        };
        let mut map = table.mapped("s", "t").unwrap();
        for column in &mut map.columns {
            (column.name, column.is_unsigned) = (None, None);
        }
        map.primary_key = None;
        let whole = table.complete(&map).unwrap();
        assert_eq!(whole, table.mapped("s", "t").unwrap());
        map.columns.push(MappedColumn { name: None, ..hash("x") });
        let with_hash = CatalogTable { hashes: 1, ..table.clone() };
        assert_eq!(table.complete(&map), Err(Differs::Count { log: 3, catalog: 2 }));
        assert_eq!(with_hash.complete(&map), table.mapped("s", "t"));
        map.columns[2].is_unsigned = Some(false);
        assert_eq!(with_hash.complete(&map), Err(Differs::Count { log: 3, catalog: 2 }));
        map.columns.pop();
        let fewer = CatalogTable { columns: table.columns[..1].to_vec(), ..table.clone() };
        assert_eq!(fewer.complete(&map), Err(Differs::Count { log: 2, catalog: 1 }));
        let mut other = table;
        other.columns[1] = column("b", "bigint", "bigint");
        assert!(matches!(other.complete(&map), Err(Differs::Type(..))));
    }
}
