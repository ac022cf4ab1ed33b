//! The tables that the log described in this session.
//!
//! A TABLE_MAP comes before the row events of each statement, and its number means nothing behind the
//! statement. Descriptions that are the same byte for byte are the same version of a table, whatever
//! their number, and whatever the flags behind it say of the statement.

use std::collections::HashMap;
use std::sync::Arc;

use rowtide_sdk::{KnownTable, Table};

use super::short::Shortened;
use crate::binlog::rows::Rows;
use crate::binlog::table_map::TableMap;
use crate::binlog::{ParseError, Parsed};

/// So many descriptions are kept; beyond it all are forgotten and come again.
const MAX_KNOWN: usize = 10_000;

/// The place of a table that is in no batch.
const UNSEEN: (u64, u32) = (u64::MAX, 0);

/// How long the number and the flags are that a TABLE_MAP begins with.
const ID: usize = 8;

/// A described table.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) map: TableMap,
    /// The table, where its changes are wanted.
    pub(crate) table: Option<Arc<Table>>,
    /// Its index in [`rowtide_sdk::Batch::tables`], in the batch of this number.
    slot: (u64, u32),
    /// Whether the table was changed since.
    is_stale: bool,
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    all: Vec<Known>,
    /// By what follows the number and the flags in a TABLE_MAP.
    by_body: HashMap<Box<[u8]>, usize>,
    /// The numbers of the statement at hand.
    current: Vec<(u64, usize)>,
    /// What the last TABLE_MAP was: most statements are of the table of the one before.
    last: Option<(Box<[u8]>, usize)>,
    /// The number of the batch at hand.
    batch: u64,
    /// The tables of whose old rows the log does not have all.
    shortened: Shortened,
}

impl Tables {
    /// Begins with what was saved of tables.
    pub(crate) fn new(known: &[KnownTable]) -> Self {
        Self { shortened: Shortened::new(known), ..Self::default() }
    }

    /// A table as the log has it.
    pub(crate) fn as_logged(&self, table: Arc<Table>) -> Arc<Table> {
        self.shortened.as_logged(table)
    }

    /// Sees to it that a table promises no more of old rows than an event has of them.
    pub(crate) fn shorten(&mut self, known: usize, rows: &Rows<'_>) {
        if (0..rows.columns).all(|at| rows.old_rows_have(at)) {
            return;
        }
        let Some(known) = self.all.get_mut(known) else { return };
        let Some(table) = known.table.as_deref() else { return };
        if let Some(made) = self.shortened.note(table, |at| rows.old_rows_have(at)) {
            known.table = Some(made);
            known.slot = UNSEEN;
        }
    }

    /// A TABLE_MAP came: whether its table is known. Else it is to be learned.
    pub(crate) fn map(&mut self, body: &[u8]) -> Parsed<bool> {
        let id = TableMap::id(body)?;
        let rest = body.get(ID..).ok_or(ParseError::Malformed("TABLE_MAP"))?;
        let known = match &self.last {
            Some((last, known)) if **last == *rest => Some(*known),
            _ => self.by_body.get(rest).copied(),
        };
        let Some(known) = known else { return Ok(false) };
        if self.last.as_ref().is_none_or(|(_, last)| *last != known) {
            self.last = Some((rest.into(), known));
        }
        self.name(id, known);
        Ok(true)
    }

    fn name(&mut self, id: u64, known: usize) {
        match self.current.iter_mut().find(|(number, _)| *number == id) {
            Some(entry) => entry.1 = known,
            None => self.current.push((id, known)),
        }
    }

    /// Keeps what the TABLE_MAP with this body describes; `table` is absent where its changes are not
    /// wanted.
    pub(crate) fn learn(&mut self, body: &[u8], map: TableMap, table: Option<Arc<Table>>) {
        if self.all.len() >= MAX_KNOWN {
            // The numbers of the statement at hand must stay good.
            if self.current.is_empty() {
                self.forget_all();
            }
        }
        let (id, at) = (map.table_id, self.all.len());
        self.all.push(Known { map, table, slot: UNSEEN, is_stale: false });
        let rest: Box<[u8]> = body.get(ID..).unwrap_or_default().into();
        self.by_body.insert(rest, at);
        self.last = None;
        self.name(id, at);
    }

    /// The number in the cache of the table that row events call by `id`.
    #[inline]
    pub(crate) fn find(&self, id: u64) -> Option<usize> {
        self.current.iter().find(|(number, _)| *number == id).map(|(_, known)| *known)
    }

    /// A table by its number in the cache.
    #[inline]
    pub(crate) fn get(&self, known: usize) -> Option<&Known> {
        self.all.get(known)
    }

    /// The version in force of a table by name, as far as it was described.
    pub(crate) fn newest(&self, schema: &str, name: &str) -> Option<&Arc<Table>> {
        let is_it = |known: &&Known| known.map.schema == schema && known.map.name == name;
        let newest = self.all.iter().rev().find(is_it)?;
        newest.table.as_ref().filter(|_| !newest.is_stale)
    }

    /// A table's index in the batch's tables, put there on first use.
    pub(crate) fn slot(&mut self, known: usize, tables: &mut Vec<Arc<Table>>) -> Option<u32> {
        let batch = self.batch;
        let known = self.all.get_mut(known)?;
        if known.slot.0 != batch {
            let index = u32::try_from(tables.len()).ok()?;
            tables.push(Arc::clone(known.table.as_ref()?));
            known.slot = (batch, index);
        }
        Some(known.slot.1)
    }

    /// The numbers of tables are void from here on.
    pub(crate) fn end_statement(&mut self) {
        self.current.clear();
    }

    /// A table was changed by a statement, so that the same description may mean another table.
    pub(crate) fn forget(&mut self, is_it: impl Fn(&TableMap) -> bool) {
        for known in self.all.iter_mut().filter(|known| is_it(&known.map)) {
            known.is_stale = true;
        }
        let all = &self.all;
        self.by_body.retain(|_, known| all.get(*known).is_some_and(|known| !known.is_stale));
        self.last = None;
    }

    fn forget_all(&mut self) {
        self.all.clear();
        self.by_body.clear();
        self.last = None;
    }

    /// A new batch: no table stands in it yet.
    pub(crate) fn new_batch(&mut self) {
        self.batch += 1;
    }
}
