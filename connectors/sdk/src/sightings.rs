//! Under which names the rows of tables come.
//!
//! Settings go by names. A table keeps its number at the server when it is renamed, or when rows that
//! came under the name of another table (as a partition's do) come under its own; so what is hidden
//! under one name can be kept from leaving in plain text under the next. Where a server has no numbers,
//! its log tells of new names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::source::Hiding;
use crate::table::Table;

/// A name, and the tables whose rows came, or would have come, under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The schema.
    pub schema: String,
    /// The table's name, unquoted.
    pub name: String,
    /// The columns that it had when the newest of the tables was first seen.
    pub columns: Vec<String>,
    /// The server's numbers of the tables: [`crate::Table::incarnation`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tables: BTreeSet<u64>,
    /// The hidden columns: of which table, what it was called, and the server's number of the column
    /// within the table.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hidden: BTreeSet<(u64, String, i32)>,
    /// Names, by schema and table, that tables without a number had later.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub later: BTreeSet<(String, String)>,
}

impl Sighting {
    fn of(schema: &str, name: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns: Vec::new(),
            tables: BTreeSet::new(),
            hidden: BTreeSet::new(),
            later: BTreeSet::new(),
        }
    }

    fn has(&self, table: &Table) -> bool {
        match table.incarnation {
            0 => self.later.contains(&(table.schema.clone(), table.name.clone())),
            number => self.tables.contains(&number),
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// By schema and name.
    all: BTreeMap<(String, String), Sighting>,
    is_unsaved: bool,
}

/// What a source has seen, now and in earlier runs; the host saves it with the position. Only tables
/// of which settings hide something need to be noted.
#[derive(Debug, Clone, Default)]
pub struct Sightings(Arc<Mutex<Seen>>);

impl Sightings {
    /// Starts with what was saved.
    pub fn new(saved: Vec<Sighting>) -> Self {
        let named =
            |sighting: Sighting| ((sighting.schema.clone(), sighting.name.clone()), sighting);
        let all = saved.into_iter().map(named).collect();
        Self(Arc::new(Mutex::new(Seen { all, is_unsaved: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the rows of a table come under a name, which has these columns now.
    pub fn note(&self, schema: &str, name: &str, columns: &[String], table: u64) {
        let mut seen = self.lock();
        let sighting = seen
            .all
            .entry((schema.to_owned(), name.to_owned()))
            .or_insert_with(|| Sighting::of(schema, name));
        if sighting.tables.insert(table) {
            sighting.columns = columns.to_vec();
            seen.is_unsaved = true;
        }
    }

    /// Notes that a column of a table is hidden, by the server's own number of the column.
    pub fn note_hidden(&self, schema: &str, name: &str, table: u64, column: (&str, i32)) {
        let mut seen = self.lock();
        let entry = seen.all.entry((schema.to_owned(), name.to_owned()));
        let sighting = entry.or_insert_with(|| Sighting::of(schema, name));
        if sighting.hidden.insert((table, column.0.to_owned(), column.1)) {
            seen.is_unsaved = true;
        }
    }

    /// The columns of a table that were hidden under a name: what they were called, and their numbers.
    pub fn hidden_of(&self, schema: &str, name: &str, table: u64) -> Vec<(String, i32)> {
        let seen = self.lock();
        let sighting = seen.all.get(&(schema.to_owned(), name.to_owned()));
        let hidden = sighting.into_iter().flat_map(|sighting| &sighting.hidden);
        hidden
            .filter(|(of, ..)| *of == table)
            .map(|(_, column, number)| (column.clone(), *number))
            .collect()
    }

    /// Notes that a table without a number has another name, where settings hide something of the old
    /// one. Names that it had before that go with it.
    pub fn note_renamed(&self, hiding: &Hiding, from: (&str, &str), to: (&str, &str)) {
        let named = |(schema, name): (&str, &str)| (schema.to_owned(), name.to_owned());
        let mut seen = self.lock();
        let mut is_new = false;
        if !hiding.of(from.0, from.1).columns.is_empty() {
            let entry = seen.all.entry(named(from));
            let sighting = entry.or_insert_with(|| Sighting::of(from.0, from.1));
            is_new = sighting.later.insert(named(to));
        }
        for sighting in seen.all.values_mut() {
            if sighting.later.contains(&named(from)) {
                is_new |= sighting.later.insert(named(to));
            }
        }
        seen.is_unsaved |= is_new;
    }

    /// The names, by schema and table, under which a table was seen.
    pub fn names_of(&self, table: &Table) -> Vec<(String, String)> {
        let seen = self.lock();
        let with = seen.all.iter().filter(|(_, sighting)| sighting.has(table));
        with.map(|(name, _)| name.clone()).collect()
    }

    /// The columns of a table when it was first seen under its name; `None` where it was not.
    pub fn columns_of(&self, table: &Table) -> Option<Vec<String>> {
        let seen = self.lock();
        let sighting = seen.all.get(&(table.schema.clone(), table.name.clone()))?;
        sighting.tables.contains(&table.incarnation).then(|| sighting.columns.clone())
    }

    /// Everything, where it is more than was taken last.
    pub fn unsaved(&self) -> Option<Vec<Sighting>> {
        let mut seen = self.lock();
        let is_unsaved = std::mem::take(&mut seen.is_unsaved);
        is_unsaved.then(|| seen.all.values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> (String, String) {
        ("s".to_owned(), name.to_owned())
    }

    fn table(name: &str, incarnation: u64) -> Table {
        Table {
            db: "s".to_owned(),
            schema: "s".to_owned(),
            name: name.to_owned(),
            columns: Vec::new(),
            primary_key: Vec::new(),
            identity: crate::Identity::Full,
            incarnation,
            facts: String::new(),
        }
    }

    #[test]
    fn a_table_without_a_number_is_found_by_its_later_names() {
        let sightings = Sightings::default();
        let hides_orders = Hiding::new([], |_, name| {
            let columns = if name == "orders" { vec!["ssn".to_owned()] } else { Vec::new() };
            crate::Hidden { columns, is_named: false }
        });
        let renamed = |from, to| sightings.note_renamed(&hides_orders, ("s", from), ("s", to));
        renamed("others", "another");
        assert_eq!(sightings.unsaved(), None);
        renamed("orders", "a");
        renamed("a", "b");
        let sightings = Sightings::new(sightings.unsaved().unwrap());
        let names = |name| sightings.names_of(&table(name, 0));
        for name in ["a", "b"] {
            assert_eq!(names(name), [named("orders")], "{name}");
        }
        assert_eq!(names("another"), []);
        assert_eq!(names("orders"), []);
    }

    #[test]
    fn a_table_is_found_by_its_number_under_every_name() {
        let sightings = Sightings::default();
        assert_eq!(sightings.unsaved(), None);
        let columns = ["id", "ssn"].map(str::to_owned);
        sightings.note("s", "orders", &columns, 7);
        sightings.note("s", "orders_2014", &columns, 7);
        sightings.note("s", "orders", &columns[..1], 7);
        sightings.note_hidden("s", "orders", 7, ("ssn", 2));
        let saved = sightings.unsaved().unwrap();
        assert_eq!(sightings.unsaved(), None);

        let sightings = Sightings::new(saved);
        assert_eq!(sightings.names_of(&table("x", 7)), [named("orders"), named("orders_2014")]);
        assert_eq!(sightings.names_of(&table("x", 8)), []);
        assert_eq!(sightings.columns_of(&table("orders", 7)).unwrap(), columns, "as first seen");
        assert_eq!(sightings.columns_of(&table("orders", 8)), None);
        assert_eq!(sightings.hidden_of("s", "orders", 7), [("ssn".to_owned(), 2)]);
        assert_eq!(sightings.hidden_of("s", "orders", 8), []);
        assert_eq!(sightings.unsaved(), None, "nothing new");
    }
}
