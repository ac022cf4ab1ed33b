//! Under which names the rows of tables come.
//!
//! Settings go by names. A table keeps its number at the server when it is renamed, or when rows that
//! came under the name of another table (as a partition's do) come under its own; so what is hidden
//! under one name can be kept from leaving in plain text under the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

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
    pub tables: BTreeSet<u64>,
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
        let sighting =
            seen.all.entry((schema.to_owned(), name.to_owned())).or_insert_with(|| Sighting {
                schema: schema.to_owned(),
                name: name.to_owned(),
                columns: Vec::new(),
                tables: BTreeSet::new(),
            });
        if sighting.tables.insert(table) {
            sighting.columns = columns.to_vec();
            seen.is_unsaved = true;
        }
    }

    /// The names, by schema and table, under which a table was seen.
    pub fn names_of(&self, table: u64) -> Vec<(String, String)> {
        let seen = self.lock();
        let with = seen.all.iter().filter(|(_, sighting)| sighting.tables.contains(&table));
        with.map(|(name, _)| name.clone()).collect()
    }

    /// The columns of a name; `None` where the table was not seen under it.
    pub fn columns_of(&self, schema: &str, name: &str, table: u64) -> Option<Vec<String>> {
        let seen = self.lock();
        let sighting = seen.all.get(&(schema.to_owned(), name.to_owned()))?;
        sighting.tables.contains(&table).then(|| sighting.columns.clone())
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

    #[test]
    fn a_table_is_found_by_its_number_under_every_name() {
        let sightings = Sightings::default();
        assert_eq!(sightings.unsaved(), None);
        let columns = ["id", "ssn"].map(str::to_owned);
        sightings.note("s", "orders", &columns, 7);
        sightings.note("s", "orders_2014", &columns, 7);
        sightings.note("s", "orders", &columns[..1], 7);
        let saved = sightings.unsaved().unwrap();
        assert_eq!(sightings.unsaved(), None);

        let sightings = Sightings::new(saved);
        let named = |name: &str| ("s".to_owned(), name.to_owned());
        assert_eq!(sightings.names_of(7), [named("orders"), named("orders_2014")]);
        assert_eq!(sightings.names_of(8), []);
        assert_eq!(sightings.columns_of("s", "orders", 7).unwrap(), columns, "as first seen");
        assert_eq!(sightings.columns_of("s", "orders", 8), None);
        assert_eq!(sightings.unsaved(), None, "nothing new");
    }
}
