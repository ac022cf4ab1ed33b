//! A table version from the log's Relation message and catalog facts frozen at first sight.
//!
//! The log describes names, type oids, modifiers and the row identity. What it does not carry (how
//! user types are made, which columns are the primary key under REPLICA IDENTITY FULL) is read once
//! from the catalog as [`TableFacts`] and kept with the schema version, so that a replay describes
//! the table as it did the first time even where the catalog has moved on.

use std::collections::BTreeSet;
use std::sync::Arc;

use rowtide_sdk::{Column, Finding, Identity, Result, Table};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::catalog::{Modifier, TypeCatalog, TypeFact, query_facts};
use crate::decode::binary::Binary;
use crate::decode::{self, Decoding};

/// A Relation message of pgoutput ("Logical Replication Message Formats" in the PostgreSQL manual).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationMessage {
    /// The table's oid.
    pub oid: u32,
    /// The schema, unquoted. pgoutput sends an empty one for `pg_catalog`.
    pub schema: String,
    /// The table's name, unquoted.
    pub name: String,
    /// `pg_class.relreplident`: `d` default, `n` nothing, `f` full, `i` index.
    pub identity: u8,
    /// The published columns, in the order of the tuples.
    pub columns: Vec<RelationColumn>,
}

/// One column of a [`RelationMessage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationColumn {
    /// Whether the row identity holds the column (flag 1).
    pub is_identity: bool,
    /// The name, unquoted.
    pub name: String,
    /// The type's oid.
    pub type_oid: u32,
    /// The type's modifier, or -1.
    pub typmod: i32,
}

/// What is frozen about a table version beside its Relation message, which is kept with it to tell
/// whether it still describes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// The table's oid.
    oid: u32,
    /// The row identity: `d`, `n`, `f` or `i`.
    identity: char,
    /// The Relation's columns.
    columns: Vec<RelationColumn>,
    /// The primary key's columns by the catalog; absent where it was not asked or did not know the
    /// table any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    primary_key: Option<Vec<String>>,
    /// The user types of the columns and those they are made of, by oid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    types: Vec<TypeFact>,
    /// The texts of user types' modifiers, by oid and modifier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    modifiers: Vec<Modifier>,
}

impl TableFacts {
    /// The facts of a table whose Relation says everything ([`needs_catalog`] is false). For any
    /// other, user types pass as text and the primary key under FULL and INDEX is unknown.
    pub fn from_relation(relation: &RelationMessage) -> Self {
        Self {
            oid: relation.oid,
            identity: char::from(relation.identity),
            columns: relation.columns.clone(),
            primary_key: None,
            types: Vec::new(),
            modifiers: Vec::new(),
        }
    }

    /// Reads what [`TableFacts::to_json`] wrote; `None` where it is something else.
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The canonical JSON: the same facts are always the same bytes.
    pub fn to_json(&self) -> String {
        // Strings and numbers in structs cannot fail to serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether the facts belong to this very Relation: the same table, identity and columns. The
    /// table may have been renamed.
    pub fn describes(&self, relation: &RelationMessage) -> bool {
        self.oid == relation.oid
            && self.identity == char::from(relation.identity)
            && self.columns == relation.columns
    }

    /// Whether the facts belong to the table of the Relation, perhaps to an earlier version of it.
    pub(crate) fn is_of(&self, relation: &RelationMessage) -> bool {
        self.oid == relation.oid
    }

    /// Takes from facts of an earlier sight of the same table what the catalog does not tell any more,
    /// as it may be ahead of the log: the table or a type was dropped meanwhile, or the key is of
    /// columns that the log does not have yet.
    pub(crate) fn fill(&mut self, relation: &RelationMessage, earlier: &Self) {
        let fits = |key: &[String]| {
            key.iter().all(|name| relation.columns.iter().any(|column| column.name == *name))
        };
        let is_asked = matches!(relation.identity, b'f' | b'i');
        if is_asked
            && !self.primary_key().is_some_and(fits)
            && earlier.primary_key().is_some_and(fits)
        {
            self.primary_key.clone_from(&earlier.primary_key);
        }
        let mut wanted: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        let mut seen = BTreeSet::new();
        while let Some(oid) = wanted.pop() {
            if decode::is_builtin(oid) || !seen.insert(oid) {
                continue;
            }
            let is_it = |fact: &&TypeFact| fact.oid == oid;
            let Some(fact) = self.types.iter().chain(&earlier.types).find(is_it).cloned() else {
                continue;
            };
            wanted.extend(fact.kind.parts());
            if !self.types.iter().any(|known| known.oid == oid) {
                self.types.push(fact);
                let of_type = |modifier: &&Modifier| modifier.type_oid == oid;
                self.modifiers.extend(earlier.modifiers.iter().filter(of_type).cloned());
            }
        }
        self.types.sort_by_key(|fact| fact.oid);
        self.modifiers.sort_by_key(|modifier| (modifier.type_oid, modifier.typmod));
        self.modifiers.dedup();
    }

    /// The Relation's columns.
    pub(crate) fn columns(&self) -> &[RelationColumn] {
        &self.columns
    }

    /// The primary key by the catalog, in key order; `None` where it is not known.
    pub fn primary_key(&self) -> Option<&[String]> {
        self.primary_key.as_deref()
    }
}

/// Whether a Relation alone does not describe the table: it has a type without a fixed oid, or an
/// identity other than the primary key (H-30: under FULL every column is flagged).
pub fn needs_catalog(relation: &RelationMessage) -> bool {
    matches!(relation.identity, b'f' | b'i')
        || relation.columns.iter().any(|column| !decode::is_builtin(column.type_oid))
}

/// Reads the facts of a table from the catalog in one round trip, or without any where the Relation
/// says everything. A table or type that was dropped meanwhile leaves its facts unknown.
///
/// # Errors
/// Those of the connection; `RT2301` where the answer cannot be understood.
pub async fn load_facts(client: &Client, relation: &RelationMessage) -> Result<TableFacts> {
    let mut facts = TableFacts::from_relation(relation);
    if !needs_catalog(relation) {
        return Ok(facts);
    }
    let user_types = |column: &&RelationColumn| !decode::is_builtin(column.type_oid);
    let mut types: Vec<(u32, i32)> = relation
        .columns
        .iter()
        .filter(user_types)
        .map(|column| (column.type_oid, column.typmod))
        .collect();
    types.sort_unstable();
    types.dedup();
    let answer = query_facts(client, relation.oid, &types).await?;
    facts.primary_key = answer.primary_key;
    facts.types = answer.types;
    facts.modifiers = answer.modifiers;
    Ok(facts)
}

/// A table version as the stream reads it.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    /// The table.
    pub(crate) table: Arc<Table>,
    /// By column, how values that come in binary become text; empty where all come as text.
    pub(crate) binary: Arc<[Option<Binary>]>,
    /// Why none of its changes may be handed over, where that is so.
    pub(crate) exposed: Option<Arc<Finding>>,
}

impl From<Arc<Table>> for Described {
    fn from(table: Arc<Table>) -> Self {
        Self { table, binary: Arc::default(), exposed: None }
    }
}

/// How the columns of a Relation are decoded.
pub fn decodings(relation: &RelationMessage, facts: &TableFacts) -> Vec<Decoding> {
    let catalog = TypeCatalog::new(facts.types.iter().cloned(), []);
    let column = |column: &RelationColumn| catalog.resolve(column.type_oid, column.typmod);
    relation.columns.iter().map(column).collect()
}

/// The table version that a Relation and its facts describe.
pub fn build_table(db: &str, relation: &RelationMessage, facts: &TableFacts) -> Table {
    let catalog = TypeCatalog::new(facts.types.iter().cloned(), facts.modifiers.iter().cloned());
    let column = |column: &RelationColumn| {
        let decoding = catalog.resolve(column.type_oid, column.typmod);
        Column {
            name: column.name.clone(),
            type_name: catalog.type_name(column.type_oid, column.typmod),
            form: decoding.form,
            decode: decoding.decode,
            is_identity: column.is_identity,
            may_be_unchanged: decoding.may_be_unchanged,
        }
    };
    let identity = match relation.identity {
        b'f' => Identity::Full,
        b'i' => Identity::Index,
        b'n' => Identity::Nothing,
        _ => Identity::Default,
    };
    Table {
        db: db.to_owned(),
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        columns: relation.columns.iter().map(column).collect(),
        primary_key: primary_key(relation, identity, facts),
        identity,
        incarnation: u64::from(relation.oid),
        facts: facts.to_json(),
    }
}

/// The indexes of the primary key's columns, in table order; none where it is not known or not
/// published whole.
fn primary_key(relation: &RelationMessage, identity: Identity, facts: &TableFacts) -> Vec<usize> {
    let columns = || relation.columns.iter().enumerate();
    if identity == Identity::Default {
        // The log's own word: it is of the time of the change, the catalog of today.
        return columns().filter(|(_, column)| column.is_identity).map(|(at, _)| at).collect();
    }
    let names = facts.primary_key().unwrap_or_default();
    let key: Vec<usize> =
        columns().filter(|(_, column)| names.contains(&column.name)).map(|(at, _)| at).collect();
    if key.len() == names.len() { key } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Attribute, TypeKind};

    const INT4: u32 = 23;

    fn relation(identity: u8, columns: &[(&str, u32)]) -> RelationMessage {
        let columns = columns.iter().map(|(name, type_oid)| RelationColumn {
            is_identity: true,
            name: (*name).to_owned(),
            type_oid: *type_oid,
            typmod: -1,
        });
        RelationMessage {
            oid: 16_400,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            identity,
            columns: columns.collect(),
        }
    }

    fn type_fact(oid: u32, kind: TypeKind) -> TypeFact {
        TypeFact { oid, name: format!("public.t{oid}"), toastable: false, kind }
    }

    #[test]
    fn what_the_catalog_forgot_is_taken_from_before() {
        let before = relation(b'f', &[("id", INT4), ("a", 20_001), ("b", 20_003)]);
        let mut earlier = TableFacts::from_relation(&before);
        earlier.primary_key = Some(vec!["id".to_owned()]);
        let attribute = |type_oid| Attribute { name: "x".to_owned(), type_oid, typmod: -1 };
        earlier.types = vec![
            type_fact(20_001, TypeKind::Composite { attributes: vec![attribute(20_002)] }),
            type_fact(20_002, TypeKind::Enum),
            type_fact(20_003, TypeKind::Enum),
        ];
        earlier.modifiers = vec![Modifier { type_oid: 20_001, typmod: 3, text: "(3)".to_owned() }];
        let now = relation(b'f', &[("id", INT4), ("a", 20_001)]);
        // The table and its types are gone.
        let mut facts = TableFacts::from_relation(&now);
        facts.fill(&now, &earlier);
        assert_eq!(facts.primary_key(), Some(&["id".to_owned()][..]));
        assert_eq!(facts.types, earlier.types[..2], "those that are still in use");
        assert_eq!(facts.modifiers, earlier.modifiers);
        // What the catalog tells comes first.
        let mut facts = TableFacts::from_relation(&now);
        facts.primary_key = Some(vec!["a".to_owned()]);
        facts.types = vec![type_fact(20_001, TypeKind::Other)];
        facts.fill(&now, &earlier);
        assert_eq!(facts.primary_key(), Some(&["a".to_owned()][..]));
        assert_eq!(facts.types, [type_fact(20_001, TypeKind::Other)]);
        // A key of columns that came later is not that of these rows.
        facts.primary_key = Some(vec!["uid".to_owned()]);
        facts.fill(&now, &earlier);
        assert_eq!(facts.primary_key(), Some(&["id".to_owned()][..]));
        // Under NOTHING nobody asked for the key.
        let nothing = relation(b'n', &[("id", INT4)]);
        let mut facts = TableFacts::from_relation(&nothing);
        facts.fill(&nothing, &earlier);
        assert_eq!(facts.primary_key(), None);
    }
}
