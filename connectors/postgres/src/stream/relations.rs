//! The tables the server has described in this session, by oid.
//!
//! The server keeps one description per table and sends it when it has changed since it was last
//! sent, to every streamed transaction anew. So what came last is in force, also where it came inside
//! a streamed transaction, from that one's commit on. Inside the replay of such a transaction its own
//! descriptions are in force, which may be older.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;

use rowtide_sdk::{Error, Table};

use crate::decode::binary::Binary;
use crate::family::{Family, refusal};
use crate::relation::{Described, RelationMessage, needs_catalog};

/// A table in force.
#[derive(Debug)]
pub(crate) struct Relation {
    /// What the server said.
    message: RelationMessage,
    /// How many descriptions it had sent before.
    number: u64,
    /// The table, where its changes are wanted.
    described: Option<Described>,
    /// Its index in [`rowtide_sdk::Batch::tables`], in the batch of this number.
    slot: (u64, u32),
}

/// The cache. Entries are replaced whole, because a later description may differ in anything.
#[derive(Default)]
pub(crate) struct Relations {
    by_oid: HashMap<u32, usize>,
    all: Vec<Relation>,
    /// The last one asked for: runs of changes of one table are the common case.
    last: Option<(u32, usize)>,
    /// The number of the batch at hand.
    batch: u64,
    /// Tables by oid that the transaction which is being replayed describes as they were before.
    newer: HashMap<u32, Relation>,
    /// Whether a transaction is being replayed.
    is_replaying: bool,
    /// Looks after hidden columns, where settings hide any: then more than the server's description
    /// decides about a table.
    family: Option<Family>,
    /// The tables that were described right before what comes next.
    just_described: JustDescribed,
}

/// What was described since the last change.
#[derive(Debug, Default)]
enum JustDescribed {
    #[default]
    Nothing,
    One(u32),
    /// The last two.
    Two(u32, u32),
}

/// The place of a table that is in no batch.
const UNSEEN: (u64, u32) = (u64::MAX, 0);

/// Keeps the description that was sent last.
fn keep_newest(entry: hash_map::Entry<'_, u32, Relation>, relation: Relation) {
    match entry {
        hash_map::Entry::Occupied(mut kept) if kept.get().number < relation.number => {
            kept.insert(relation);
        }
        hash_map::Entry::Occupied(_) => {}
        hash_map::Entry::Vacant(place) => {
            place.insert(relation);
        }
    }
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
    /// None may be handed over: see [`Relations::refusal`].
    Exposed(usize),
}

impl Relations {
    /// Whether the server says again what it said before of a table that is known, and nothing beside
    /// the message describes the table. `number` is how many descriptions it had sent before.
    pub(crate) fn is_known(&mut self, message: &RelationMessage, number: u64) -> bool {
        let known = self.by_oid.get(&message.oid).and_then(|&at| self.all.get_mut(at));
        let Some(known) = known.filter(|known| known.message == *message) else { return false };
        let is_known = !needs_catalog(message) && self.family.is_none();
        if is_known {
            known.number = known.number.max(number);
        }
        is_known
    }

    /// Keeps a table's description; `described` is absent where its changes are not wanted, and
    /// `number` is how many descriptions the server had sent before.
    pub(crate) fn learn(
        &mut self,
        message: RelationMessage,
        number: u64,
        described: Option<Described>,
    ) {
        let oid = message.oid;
        let relation = Relation { message, number, described, slot: UNSEEN };
        match self.by_oid.get(&oid).and_then(|&at| self.all.get_mut(at)) {
            Some(known) => {
                let before = std::mem::replace(known, relation);
                if self.is_replaying && before.number > number {
                    keep_newest(self.newer.entry(oid), before);
                }
            }
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
        Some(match &relation.described {
            Some(Described { exposed: Some(_), .. }) => Wanted::Exposed(number),
            Some(_) => Wanted::Yes { number, columns: relation.message.columns.len() },
            None => Wanted::No,
        })
    }

    /// Why no change of a table may be handed over.
    pub(crate) fn refusal(&self, number: usize) -> Option<Error> {
        let described = self.all.get(number)?.described.as_ref()?;
        described.exposed.as_deref().map(refusal)
    }

    /// Has every description looked at anew, also those that say nothing new of the table itself, and
    /// notes whose rows come under which name.
    pub(crate) fn watch(&mut self, family: Family) {
        self.family = Some(family);
    }

    /// Notes that the server describes a table.
    pub(crate) fn describes(&mut self, oid: u32) {
        self.just_described = match self.just_described {
            JustDescribed::Nothing => JustDescribed::One(oid),
            JustDescribed::One(before) | JustDescribed::Two(_, before) => {
                JustDescribed::Two(before, oid)
            }
        };
    }

    /// Notes that a row of a table comes. Before a partition's row that comes under the name of a table
    /// above it, the server describes that one and then the partition (`maybe_send_schema` in its
    /// pgoutput.c). So the log tells of a partition that nobody saw attached.
    #[inline]
    pub(crate) fn row_of(&mut self, oid: u32) {
        if !matches!(self.just_described, JustDescribed::Nothing) {
            self.note_partition(oid);
        }
    }

    fn note_partition(&mut self, oid: u32) {
        let JustDescribed::Two(above, partition) = std::mem::take(&mut self.just_described) else {
            return;
        };
        if above != oid || above == partition {
            return;
        }
        let above = self.by_oid.get(&above).and_then(|&at| self.all.get(at));
        if let (Some(above), Some(family)) = (above, &self.family) {
            family.note_under(&above.message, partition);
        }
    }

    /// What comes next is no row.
    pub(crate) fn forget_described(&mut self) {
        self.just_described = JustDescribed::Nothing;
    }

    /// The version of a wanted table that is in force.
    pub(crate) fn table(&self, oid: u32) -> Option<&Arc<Table>> {
        let relation = self.all.get(*self.by_oid.get(&oid)?)?;
        relation.described.as_ref().map(|described| &described.table)
    }

    /// By column of a wanted table, how values that come in binary become text.
    #[inline]
    pub(crate) fn binary(&self, number: usize) -> &[Option<Binary>] {
        let relation = self.all.get(number).and_then(|relation| relation.described.as_ref());
        relation.map(|described| &*described.binary).unwrap_or_default()
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
        tables.push(Arc::clone(&relation.described.as_ref()?.table));
        relation.slot = (self.batch, slot);
        Some(slot)
    }

    /// A transaction is replayed from here on.
    pub(crate) fn begin_replay(&mut self) {
        self.is_replaying = true;
    }

    /// The replay is over: what the server said last is in force.
    pub(crate) fn end_replay(&mut self) {
        self.is_replaying = false;
        for (oid, newer) in self.newer.drain() {
            let relation = self.by_oid.get(&oid).and_then(|&at| self.all.get_mut(at));
            if let Some(relation) = relation.filter(|relation| relation.number < newer.number) {
                *relation = Relation { slot: UNSEEN, ..newer };
            }
        }
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
