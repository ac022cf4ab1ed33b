//! Types that have no fixed oid: enums, domains, composites, ranges, arrays of them, extensions.
//!
//! What the catalog says about them is plain data ([`TypeFact`]), read once per table version in one
//! round trip and frozen with it; [`TypeCatalog`] turns it into decoders without I/O.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use rowtide_sdk::{Code, Error, Origin, Result};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::decode::{self, Decoding, MAX_LEVELS};

/// The catalog answered something that cannot be understood.
const CATALOG_UNREADABLE: Code = Code("RT2301");

/// What the catalog says about one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeFact {
    /// The type's oid.
    pub oid: u32,
    /// The name as `format_type` prints it with only `pg_catalog` in the search path, so that it
    /// names its schema.
    pub name: String,
    /// Whether the server may store values out of line (`typlen` -1, `typstorage` not plain).
    pub toastable: bool,
    /// How it is made.
    #[serde(flatten)]
    pub kind: TypeKind,
}

/// How a type is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TypeKind {
    /// A type of its own, usually of an extension.
    Base {
        /// The type's bare name.
        type_name: String,
        /// The extension that owns it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        extension: Option<String>,
    },
    /// An enum. Its labels may change without a sign in the log, so they are no fact.
    Enum,
    /// A domain.
    Domain {
        /// The type under it, possibly another domain.
        base: u32,
        /// That type's modifier.
        typmod: i32,
    },
    /// A composite, or the row of a table.
    Composite {
        /// The attributes that are not dropped, in order.
        attributes: Vec<Attribute>,
    },
    /// An array.
    Array {
        /// The element's type.
        element: u32,
        /// What stands between elements.
        delimiter: char,
    },
    /// A range.
    Range {
        /// The type of its bounds.
        subtype: u32,
    },
    /// A multirange.
    Multirange {
        /// The type of its ranges' bounds.
        subtype: u32,
    },
    /// Anything else; its values pass as text.
    Other,
}

impl TypeKind {
    /// The types that values of this one are made of.
    pub(crate) fn parts(&self) -> Vec<u32> {
        match self {
            Self::Domain { base, .. } => vec![*base],
            Self::Array { element, .. } => vec![*element],
            Self::Composite { attributes } => {
                attributes.iter().map(|attribute| attribute.type_oid).collect()
            }
            Self::Base { .. }
            | Self::Enum
            | Self::Range { .. }
            | Self::Multirange { .. }
            | Self::Other => Vec::new(),
        }
    }
}

/// An attribute of a composite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// The name, unquoted.
    pub name: String,
    /// The type's oid.
    pub type_oid: u32,
    /// The type's modifier, or -1.
    pub typmod: i32,
}

/// The text that a type of the catalog prints for a modifier: `(3)` of `vector(3)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modifier {
    /// The type's oid; the element's where a column holds an array.
    pub type_oid: u32,
    /// The modifier.
    pub typmod: i32,
    /// Its text.
    pub text: String,
}

/// Types in one decoding at most, all attributes of nested composites counted.
const MAX_TYPES: u32 = 10_000;

/// Facts about types, by oid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeCatalog {
    types: BTreeMap<u32, TypeFact>,
    modifiers: BTreeMap<(u32, i32), String>,
}

impl TypeCatalog {
    /// A catalog of these facts.
    pub fn new(
        types: impl IntoIterator<Item = TypeFact>,
        modifiers: impl IntoIterator<Item = Modifier>,
    ) -> Self {
        Self {
            types: types.into_iter().map(|fact| (fact.oid, fact)).collect(),
            modifiers: modifiers
                .into_iter()
                .map(|modifier| ((modifier.type_oid, modifier.typmod), modifier.text))
                .collect(),
        }
    }

    /// The decoding of a type, built-in or from the facts. One that is neither (dropped meanwhile)
    /// passes as text, as does what is nested too deep.
    pub fn resolve(&self, oid: u32, typmod: i32) -> Decoding {
        self.resolve_at(oid, typmod, Place { levels: 0, nesting: 0, types: &Cell::new(0) })
    }

    fn resolve_at(&self, oid: u32, typmod: i32, place: Place<'_>) -> Decoding {
        if let Some(decoding) = decode::builtin_at(oid, typmod, place.levels) {
            return decoding;
        }
        let Some(fact) = self.types.get(&oid) else { return decode::opaque() };
        let mut decoding = match place.inner() {
            Some(inner) => self.resolve_kind(&fact.kind, inner),
            None => decode::opaque(),
        };
        decoding.may_be_unchanged = fact.toastable;
        decoding
    }

    fn resolve_kind(&self, kind: &TypeKind, place: Place<'_>) -> Decoding {
        match kind {
            TypeKind::Base { type_name, extension: Some(extension) } => {
                match (extension.as_str(), type_name.as_str()) {
                    ("hstore", "hstore") if place.levels < MAX_LEVELS => decode::hstore(),
                    ("citext", "citext") => decode::text(),
                    ("ltree", "ltree" | "lquery" | "ltxtquery") => decode::versioned(),
                    _ => decode::opaque(),
                }
            }
            TypeKind::Enum => decode::text(),
            TypeKind::Domain { base, typmod } => self.resolve_at(*base, *typmod, place),
            TypeKind::Array { element, delimiter } => {
                let levels = place.levels.saturating_add(decode::array_levels());
                match u8::try_from(*delimiter) {
                    Ok(delimiter) if levels <= MAX_LEVELS && delimiter.is_ascii() => {
                        let element = self.resolve_at(*element, -1, Place { levels, ..place });
                        decode::array(element, delimiter)
                    }
                    _ => decode::opaque(),
                }
            }
            TypeKind::Composite { attributes } => {
                let levels = place.levels.saturating_add(1);
                if levels > MAX_LEVELS {
                    return decode::opaque();
                }
                let attribute = |attribute: &Attribute| {
                    let place = Place { levels, ..place };
                    let decoding = self.resolve_at(attribute.type_oid, attribute.typmod, place);
                    (attribute.name.clone(), attribute.type_oid, decoding)
                };
                decode::composite(attributes.iter().map(attribute).collect())
            }
            TypeKind::Range { subtype } => {
                decode::range(self.resolve_at(*subtype, -1, place), false)
            }
            TypeKind::Multirange { subtype } => {
                decode::range(self.resolve_at(*subtype, -1, place), true)
            }
            TypeKind::Base { .. } | TypeKind::Other => decode::opaque(),
        }
    }

    /// The type's name with its modifier, as `format_type` prints it; types outside `pg_catalog`
    /// carry their schema.
    pub fn type_name(&self, oid: u32, typmod: i32) -> String {
        if let Some(name) = decode::builtin_name(oid, typmod) {
            return name;
        }
        let Some(fact) = self.types.get(&oid) else { return format!("unknown (oid {oid})") };
        match &fact.kind {
            // One level only: there are no arrays of arrays but through domains.
            TypeKind::Array { element, .. } => match self.types.get(element) {
                Some(element) => {
                    format!("{}{}[]", element.name, self.modifier(element.oid, typmod))
                }
                None => fact.name.clone(),
            },
            _ => format!("{}{}", fact.name, self.modifier(oid, typmod)),
        }
    }

    fn modifier(&self, oid: u32, typmod: i32) -> &str {
        self.modifiers.get(&(oid, typmod)).map_or("", String::as_str)
    }
}

/// Where in a column's type a type stands.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    /// JSON arrays and objects around it.
    levels: u32,
    /// Types around it, domains too.
    nesting: u32,
    /// Types met so far in this column.
    types: &'a Cell<u32>,
}

impl Place<'_> {
    /// The place of what a type is made of; `None` where there is too much of it. Real catalogs have
    /// no cycles, but facts are read from a file too.
    fn inner(self) -> Option<Self> {
        let nesting = self.nesting.saturating_add(1);
        self.types.set(self.types.get().saturating_add(1));
        (nesting <= MAX_LEVELS && self.types.get() <= MAX_TYPES).then_some(Self { nesting, ..self })
    }
}

/// What one look at the catalog brings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct CatalogAnswer {
    /// The primary key's columns in key order: none for a table without one, absent for a table that
    /// is not there any more.
    pub(crate) primary_key: Option<Vec<String>>,
    /// The types asked for and those they are made of, by oid; built-in ones are left out.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) types: Vec<TypeFact>,
    /// The texts of modifiers.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) modifiers: Vec<Modifier>,
}

fn null_is_empty<'de, D, T>(deserializer: D) -> std::result::Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<Vec<T>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads the primary key of a table and the facts about these types (oid and modifier), in one round
/// trip on an ordinary connection.
///
/// # Errors
/// Those of the connection; `RT2301` where the answer cannot be understood.
pub(crate) async fn query_facts(
    client: &Client,
    table_oid: u32,
    types: &[(u32, i32)],
) -> Result<CatalogAnswer> {
    const DOING: &str = "reading a table's types and key from the catalog";
    let messages = client
        .simple_query(&facts_sql(table_oid, types))
        .await
        .map_err(|error| crate::error::from_sql(error, DOING))?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let unreadable =
        |what: String| Error::fatal(Origin::Source, CATALOG_UNREADABLE, format!("{DOING}: {what}"));
    let row = row.ok_or_else(|| unreadable("the server answered no row".to_owned()))?;
    let mut answer: CatalogAnswer =
        serde_json::from_str(row).map_err(|error| unreadable(error.to_string()))?;
    answer.types.retain(|fact| !decode::is_builtin(fact.oid));
    answer.types.sort_by_key(|fact| fact.oid);
    answer.modifiers.sort_by_key(|modifier| (modifier.type_oid, modifier.typmod));
    Ok(answer)
}

/// The query, as one simple-query message: the setting lasts for its implicit transaction only, and
/// lets no operator or function of the user stand in for the server's.
fn facts_sql(table_oid: u32, types: &[(u32, i32)]) -> String {
    let mut asked = String::new();
    for (index, (oid, typmod)) in types.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(asked, "{comma}({oid}::oid,{typmod}::int4)");
    }
    if asked.is_empty() {
        asked.push_str("(0::oid,-1::int4)");
    }
    FACTS_SQL.replace("$asked", &asked).replace("$table", &table_oid.to_string())
}

const FACTS_SQL: &str = "SET LOCAL search_path TO pg_catalog;
WITH RECURSIVE asked(oid, typmod) AS (VALUES $asked),
used(oid) AS (
  SELECT oid FROM asked
  UNION
  SELECT part.oid FROM used JOIN pg_type t ON t.oid = used.oid CROSS JOIN LATERAL (
    SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
    UNION ALL
    SELECT e.oid FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid
    UNION ALL
    SELECT a.atttypid FROM pg_attribute a
    WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  ) part
),
facts AS (
  SELECT t.oid, json_strip_nulls(json_build_object(
    'oid', t.oid::int8,
    'name', format_type(t.oid, NULL),
    'toastable', t.typlen = -1 AND t.typstorage <> 'p',
    'kind', CASE WHEN e.oid IS NOT NULL THEN 'array' WHEN t.typtype = 'b' THEN 'base'
      WHEN t.typtype = 'e' THEN 'enum' WHEN t.typtype = 'd' THEN 'domain'
      WHEN t.typtype = 'c' THEN 'composite' WHEN t.typtype = 'r' THEN 'range'
      WHEN t.typtype = 'm' THEN 'multirange' ELSE 'other' END,
    'type_name', CASE WHEN t.typtype = 'b' AND e.oid IS NULL THEN t.typname END,
    'extension', CASE WHEN t.typtype = 'b' AND e.oid IS NULL THEN (
      SELECT x.extname FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
      WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
        AND d.refclassid = 'pg_extension'::regclass LIMIT 1) END,
    'base', CASE WHEN t.typtype = 'd' THEN t.typbasetype::int8 END,
    'typmod', CASE WHEN t.typtype = 'd' THEN t.typtypmod END,
    'element', e.oid::int8,
    'delimiter', e.typdelim,
    'subtype', (SELECT r.rngsubtype::int8 FROM pg_range r
      WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid LIMIT 1),
    'attributes', CASE WHEN t.typtype = 'c' THEN (
      SELECT coalesce(json_agg(json_build_object('name', a.attname,
        'type_oid', a.atttypid::int8, 'typmod', a.atttypmod) ORDER BY a.attnum), '[]')
      FROM pg_attribute a
      WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END
  )) AS fact
  FROM used JOIN pg_type t ON t.oid = used.oid
  LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
),
modifiers AS (
  SELECT DISTINCT coalesce(e.oid, t.oid) AS oid, asked.typmod
  FROM asked JOIN pg_type t ON t.oid = asked.oid
  LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
  WHERE asked.typmod >= 0
)
SELECT json_build_object(
  'primary_key', CASE WHEN EXISTS (SELECT FROM pg_class WHERE oid = $table) THEN (
    SELECT coalesce(json_agg(a.attname ORDER BY key.place), '[]')
    FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS key(attnum, place)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = key.attnum
    WHERE i.indrelid = $table AND i.indisprimary AND key.place <= i.indnkeyatts) END,
  'types', (SELECT json_agg(fact ORDER BY oid) FROM facts),
  'modifiers', (SELECT json_agg(json_build_object('type_oid', oid::int8, 'typmod', typmod, 'text',
      substr(format_type(oid, typmod), length(format_type(oid, NULL)) + 1)) ORDER BY oid, typmod)
    FROM modifiers)
)::text";
