//! Tables of whose old rows the log holds less than the server's settings say: a session may have a
//! `binlog_row_image` of its own. From its first such row on a table has a version that promises no more
//! than that row has, and keeps it, which is saved with the version.

use std::collections::HashMap;
use std::sync::Arc;

use rowtide_sdk::{Column, Identity, KnownTable, Table};
use serde_json::{Map, Value};

/// Where the columns of old rows stand in what is saved with a version.
const OLD_ROW: &str = "old_row";

/// The columns that every old row has, by schema and table, where that is not all of them.
#[derive(Debug, Default)]
pub(crate) struct Shortened(HashMap<(String, String), Vec<String>>);

impl Shortened {
    /// What was saved with the position.
    pub(crate) fn new(known: &[KnownTable]) -> Self {
        let saved = |table: &KnownTable| {
            let columns =
                serde_json::from_value(saved_facts(&table.facts).remove(OLD_ROW)?).ok()?;
            Some(((table.schema.clone(), table.name.clone()), columns))
        };
        Self(known.iter().filter_map(saved).collect())
    }

    /// A table as the log has it.
    pub(crate) fn as_logged(&self, table: Arc<Table>) -> Arc<Table> {
        if self.0.is_empty() {
            return table;
        }
        match self.0.get(&(table.schema.clone(), table.name.clone())) {
            Some(columns) => Arc::new(shortened(&table, columns)),
            None => table,
        }
    }

    /// Notes an old row that has these columns. The table as it is from here on, where it promised more.
    pub(crate) fn note(
        &mut self,
        table: &Table,
        has: impl Fn(usize) -> bool,
    ) -> Option<Arc<Table>> {
        let is_promised = |column: &Column| {
            table.identity == Identity::Full || column.is_identity || !column.may_be_unchanged
        };
        let columns = || table.columns.iter().enumerate();
        if columns().all(|(at, column)| has(at) || !is_promised(column)) {
            return None;
        }
        // What else there is of an old row changes with what the session logs; the key does not.
        let is_kept = |at: usize, column: &Column| {
            has(at)
                && match table.primary_key.is_empty() {
                    true => is_promised(column),
                    false => table.primary_key.contains(&at),
                }
        };
        let kept = columns().filter(|(at, column)| is_kept(*at, column));
        let kept: Vec<String> = kept.map(|(_, column)| column.name.clone()).collect();
        let made = Arc::new(shortened(table, &kept));
        self.0.insert((table.schema.clone(), table.name.clone()), kept);
        Some(made)
    }
}

/// What the catalog said of a table, of what is saved with a version.
pub(crate) fn catalog_facts(facts: &str) -> Value {
    let mut facts = saved_facts(facts);
    facts.remove(OLD_ROW);
    Value::from(facts)
}

/// What is saved with a version, as an object; empty where there is nothing.
fn saved_facts(facts: &str) -> Map<String, Value> {
    serde_json::from_str(facts).unwrap_or_default()
}

fn shortened(table: &Table, old_row: &[String]) -> Table {
    // A key that was moved to other columns since is logged as it is now.
    let column = |(at, column): (usize, &Column)| {
        let is_there = match table.primary_key.is_empty() {
            true => old_row.contains(&column.name),
            false => table.primary_key.contains(&at),
        };
        Column { is_identity: is_there, may_be_unchanged: !is_there, ..column.clone() }
    };
    let mut facts = saved_facts(&table.facts);
    facts.insert(OLD_ROW.to_owned(), Value::from(old_row));
    Table {
        columns: table.columns.iter().enumerate().map(column).collect(),
        identity: match table.primary_key.is_empty() {
            true => Identity::Index,
            false => Identity::Default,
        },
        facts: Value::from(facts).to_string(),
        ..table.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::table_map::{MappedColumn, Stored, TableMap};
    use crate::table::{RowImage, build_table};

    fn table(primary_key: &[usize]) -> Table {
        let column = |name: &str| MappedColumn {
            name: Some(name.to_owned()),
            stored: Stored::Integer(4),
            is_nullable: true,
            is_unsigned: Some(false),
            collation: None,
            labels: None,
            geometry: None,
            dimensions: None,
            is_visible: None,
            named: None,
        };
        let map = TableMap {
            table_id: 1,
            schema: "shop".to_owned(),
            name: "t".to_owned(),
            columns: ["id", "code", "v"].map(column).to_vec(),
            primary_key: Some(primary_key.to_vec()),
        };
        build_table(&map, RowImage::Full, String::new()).unwrap()
    }

    fn identity(table: &Table) -> Vec<&str> {
        let columns = table.columns.iter().filter(|column| column.is_identity);
        columns.map(|column| column.name.as_str()).collect()
    }

    #[test]
    fn a_table_promises_what_its_shortest_old_row_has() {
        let mut short = Shortened::default();
        let whole = table(&[0]);
        assert!(short.note(&whole, |_| true).is_none());
        // Without large values, for example: the key alone is in every old row.
        let made = short.note(&whole, |at| at < 2).unwrap();
        assert_eq!((identity(&made), made.identity), (vec!["id"], Identity::Default));
        assert!(made.columns[1].may_be_unchanged && !made.columns[0].may_be_unchanged);
        assert!(short.note(&made, |at| at == 0).is_none(), "no less than that");
        assert!(short.note(&made, |_| true).is_none());
    }

    #[test]
    fn without_a_primary_key_it_is_what_rows_are_found_by() {
        let mut short = Shortened::default();
        let made = short.note(&table(&[]), |at| at != 2).unwrap();
        assert_eq!((identity(&made), made.identity), (vec!["id", "code"], Identity::Index));
        let less = short.note(&made, |at| at == 1).unwrap();
        assert_eq!(identity(&less), ["code"]);
    }

    #[test]
    fn it_is_known_after_a_restart_and_beside_other_facts() {
        let mut short = Shortened::default();
        let whole = Table { facts: "{\"columns\":[]}".to_owned(), ..table(&[0]) };
        let made = short.note(&whole, |at| at == 0).unwrap();
        assert!(made.facts.contains("\"columns\":[]"), "{}", made.facts);
        let (schema, name) = (made.schema.clone(), made.name.clone());
        let known = KnownTable { schema, name, facts: made.facts.clone() };
        let later = Shortened::new(&[known]);
        assert_eq!(identity(&later.as_logged(Arc::new(whole))), ["id"]);
        assert_eq!(
            identity(&later.as_logged(Arc::new(table(&[1])))),
            ["code"],
            "the key was moved"
        );
        let other = Arc::new(Table { name: "other".to_owned(), ..table(&[0]) });
        assert_eq!(later.as_logged(Arc::clone(&other)).identity, Identity::Full);
        assert!(Shortened::new(&[]).0.is_empty());
    }
}
