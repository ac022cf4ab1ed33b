//! The tables the server has described in this session, by oid.

use std::collections::HashMap;
use std::sync::Arc;

use rowtide_sdk::Table;

use crate::relation::{RelationMessage, needs_catalog};

/// A table in force.
#[derive(Debug)]
pub(crate) struct Relation {
    /// What the server said.
    message: RelationMessage,
    /// The table, where its changes are wanted.
    table: Option<Arc<Table>>,
    /// Its index in [`rowtide_sdk::Batch::tables`], in the batch of this number.
    slot: (u64, u32),
}

/// The cache. Entries are replaced whole, because a later description may differ in anything.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    by_oid: HashMap<u32, usize>,
    all: Vec<Relation>,
    /// The last one asked for: runs of changes of one table are the common case.
    last: Option<(u32, usize)>,
    /// The number of the batch at hand.
    batch: u64,
}

/// A table as a row change needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The changes of this table are handed over.
    Yes {
        /// Its number in the cache.
        number: usize,
        /// How many columns its rows have.
        columns: usize,
    },
    /// They are only counted.
    No,
}

impl Relations {
    /// Whether the server has just said again what it said before of a table that is known, and
    /// nothing beside the message describes the table.
    pub(crate) fn is_known(&self, message: &RelationMessage) -> bool {
        self.by_oid
            .get(&message.oid)
            .and_then(|&number| self.all.get(number))
            .is_some_and(|relation| relation.message == *message && !needs_catalog(message))
    }

    /// Keeps a table's description; `table` is absent where its changes are not wanted.
    pub(crate) fn learn(&mut self, message: RelationMessage, table: Option<Arc<Table>>) {
        let oid = message.oid;
        let relation = Relation { message, table, slot: (u64::MAX, 0) };
        match self.by_oid.get(&oid).and_then(|&number| self.all.get_mut(number)) {
            Some(known) => *known = relation,
            None => {
                self.by_oid.insert(oid, self.all.len());
                self.all.push(relation);
            }
        }
    }

    /// The table with this oid; `None` where the server never described it.
    #[inline]
    pub(crate) fn find(&mut self, oid: u32) -> Option<Wanted> {
        let number = match self.last {
            Some((last, number)) if last == oid => number,
            _ => {
                let number = *self.by_oid.get(&oid)?;
                self.last = Some((oid, number));
                number
            }
        };
        let relation = self.all.get(number)?;
        Some(match relation.table {
            Some(_) => Wanted::Yes { number, columns: relation.message.columns.len() },
            None => Wanted::No,
        })
    }

    /// The index in `tables` of a wanted table, put there on first use in a batch.
    #[inline]
    pub(crate) fn slot(&mut self, number: usize, tables: &mut Vec<Arc<Table>>) -> Option<u32> {
        let relation = self.all.get_mut(number)?;
        let (batch, slot) = relation.slot;
        if batch == self.batch {
            return Some(slot);
        }
        let slot = u32::try_from(tables.len()).ok()?;
        tables.push(Arc::clone(relation.table.as_ref()?));
        relation.slot = (self.batch, slot);
        Some(slot)
    }

    /// `schema.name` of a wanted table, for messages.
    pub(crate) fn name(&self, number: usize) -> String {
        self.all.get(number).map_or_else(String::new, |relation| {
            format!("{}.{}", relation.message.schema, relation.message.name)
        })
    }

    /// A new batch has begun: no table is in it yet.
    pub(crate) fn new_batch(&mut self) {
        self.batch += 1;
    }
}
