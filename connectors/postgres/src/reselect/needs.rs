//! Which values of a batch are to be read back, and which rows must be read for them; no I/O.
//!
//! A row is read once for all changes of it in the batch that lack the same value: where one update
//! follows another of the same row and neither touched the column, both have the value that the later
//! one has. So the row must agree with the last of them only.

use std::collections::HashMap;

use rowtide_sdk::{Batch, Cell, Change, Entry, Image, NotReselected, Op, Span, Table};

/// What of a table version is to be read back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    /// The columns, ascending.
    pub(super) columns: Vec<u32>,
    /// The columns of the row identity, by which a row is found.
    pub(super) key: Vec<usize>,
}

impl Wanted {
    /// What is wanted of a table; `None` where nothing is, or where the log carries whole rows or no
    /// identity.
    pub(super) fn new(table: &Table, columns: &[usize]) -> Option<Self> {
        use rowtide_sdk::Identity::{Default, Index};
        let columns: Vec<u32> = columns.iter().filter_map(|&at| u32::try_from(at).ok()).collect();
        let identity = table.columns.iter().enumerate().filter(|(_, column)| column.is_identity);
        let key: Vec<usize> = identity.map(|(index, _)| index).collect();
        let is_of_use = matches!(table.identity, Default | Index);
        (is_of_use && !columns.is_empty() && !key.is_empty()).then_some(Self { columns, key })
    }
}

/// One entry whose new row lacks values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    /// Its index in the batch.
    pub(super) entry: usize,
    /// The columns that it lacks.
    pub(super) columns: Vec<u32>,
    /// The row that has them, as an index into [`Needs::rows`], or why none has.
    pub(super) from: Result<usize, NotReselected>,
}

/// One row to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The last entry of the row's versions in the batch: the one that it must agree with.
    pub(super) entry: usize,
    /// The first entry that needs the row; rows are read in this order.
    pub(super) first: usize,
    /// The table, as an index into [`Batch::tables`].
    pub(super) table: usize,
}

/// Everything that a batch needs, by ascending entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    pub(super) needs: Vec<Need>,
    /// The rows, by ascending first entry.
    pub(super) rows: Vec<Row>,
}

/// What comes next of a row.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// An update that needs values, as an index into the needs.
    Need(usize),
    /// Something that ends what can be known of the row, as the event will say.
    End(NotReselected),
}

/// The changes of a batch seen from its end.
struct Backwards<'a> {
    batch: &'a Batch,
    wanted: &'a [Option<Wanted>],
    follows: bool,
    next: HashMap<(usize, Vec<u8>), Next>,
    /// Tables of which nothing is known before what was seen, and what became of their rows.
    ended: HashMap<usize, NotReselected>,
    found: Needs,
}

/// Finds what a batch needs. `wanted` is by table of the batch. `follows` says whether the log shows
/// every change of a row, so that one version can be told from the next.
pub(super) fn find(batch: &Batch, wanted: &[Option<Wanted>], follows: bool) -> Needs {
    let (next, ended) = (HashMap::new(), HashMap::new());
    let found = Needs::default();
    let mut backwards = Backwards { batch, wanted, follows, next, ended, found };
    for (number, entry) in batch.entries.iter().enumerate().rev() {
        match entry {
            Entry::Change(change) => backwards.change(number, change),
            Entry::Poisoned(poisoned) => {
                backwards.end(poisoned.change.table, NotReselected::Changed);
            }
            Entry::Message(_) => {}
        }
    }
    backwards.found.turned()
}

impl Needs {
    /// From the order in which they were found to that of the batch.
    fn turned(mut self) -> Self {
        self.needs.reverse();
        // Every row is of one chain of needs; which, its number says.
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&row| self.rows.get(row).map_or(usize::MAX, |row| row.first));
        let mut places = vec![0; order.len()];
        for (place, &row) in order.iter().enumerate() {
            if let Some(known) = places.get_mut(row) {
                *known = place;
            }
        }
        for need in &mut self.needs {
            if let Ok(row) = &mut need.from {
                *row = places.get(*row).copied().unwrap_or(usize::MAX);
            }
        }
        self.rows.sort_by_key(|row| row.first);
        self
    }
}

impl Backwards<'_> {
    /// Nothing is known of any row of a table before this. A key that is used again after it is another
    /// row's, whatever became of the rows.
    fn end(&mut self, table: u32, became: NotReselected) {
        let table = table as usize;
        for (_, next) in self.next.iter_mut().filter(|((of, _), _)| *of == table) {
            *next = Next::End(NotReselected::Changed);
        }
        self.ended.insert(table, became);
    }

    fn change(&mut self, number: usize, change: &Change) {
        let table = change.table as usize;
        let Some(Some(wanted)) = self.wanted.get(table) else { return };
        let columns = self.batch.tables.get(table).map_or(0, |table| table.columns.len());
        let key = |image: Option<Image>, fill: Option<Image>| {
            key(self.batch, image, fill, columns, wanted)
        };
        let (old, new) = match change.op {
            Op::Update => (key(change.before, None), key(change.after, change.before)),
            Op::Create | Op::Read => (None, key(change.after, None)),
            Op::Delete => (key(change.before, None), None),
            Op::Truncate => return self.end(change.table, NotReselected::Gone),
            Op::Message => return self.end(change.table, NotReselected::Changed),
        };
        let new = match (change.op, new) {
            (Op::Update, Some(new)) => new,
            // Whichever row it is of.
            (Op::Update, None) => return self.end(change.table, NotReselected::Changed),
            (op, new) => {
                if let Some(key) = old.or(new) {
                    let place = (table, key);
                    let is_last = op == Op::Delete && !self.next.contains_key(&place);
                    let became = if is_last { NotReselected::Gone } else { NotReselected::Changed };
                    self.next.insert(place, Next::End(became));
                }
                return;
            }
        };
        let lacking = self.lacking(change, wanted, columns);
        let next = self.need(number, table, &new, lacking);
        // A row with the new key before a change of key was another one.
        if let Some(old) = old.filter(|old| *old != new) {
            self.next.insert((table, new), Next::End(NotReselected::Changed));
            self.next.insert((table, old), next);
        } else {
            self.next.insert((table, new), next);
        }
    }

    /// The wanted columns that the new row lacks.
    fn lacking(&self, change: &Change, wanted: &Wanted, columns: usize) -> Vec<u32> {
        let image = |image: Option<Image>| image.map(|image| self.batch.image(image, columns));
        let (after, before) = (image(change.after), image(change.before));
        let is_lacking = |&&column: &&u32| {
            let cell = |cells: Option<&[Cell]>| cells.and_then(|c| c.get(column as usize)).copied();
            cell(after) == Some(Cell::Unchanged)
                && !matches!(cell(before), Some(Cell::Value(_) | Cell::Null))
        };
        wanted.columns.iter().filter(is_lacking).copied().collect()
    }

    /// Notes what one update needs; what it is to the versions of the row before it.
    fn need(&mut self, entry: usize, table: usize, key: &[u8], columns: Vec<u32>) -> Next {
        let later = self.next.get(&(table, key.to_vec())).copied();
        let later = later.or_else(|| self.ended.get(&table).copied().map(Next::End));
        if columns.is_empty() {
            // It carries the columns, as far as any are wanted of it: what they were is not known.
            return Next::End(self.became(later));
        }
        let from = match later {
            Some(Next::Need(later)) if self.follows => match self.found.needs.get(later) {
                Some(later) if columns.iter().all(|column| later.columns.contains(column)) => {
                    later.from
                }
                _ => Err(self.became(Some(Next::Need(later)))),
            },
            Some(Next::End(became)) => Err(became),
            _ => {
                self.found.rows.push(Row { entry, first: entry, table });
                Ok(self.found.rows.len() - 1)
            }
        };
        if let Ok(row) = from
            && let Some(row) = self.found.rows.get_mut(row)
        {
            row.first = entry;
        }
        self.found.needs.push(Need { entry, columns, from });
        Next::Need(self.found.needs.len() - 1)
    }

    /// What became of a row that was changed, and then what comes next of it.
    fn became(&self, later: Option<Next>) -> NotReselected {
        let is_gone = match later {
            Some(Next::End(became)) => became == NotReselected::Gone,
            Some(Next::Need(need)) => {
                let need = self.found.needs.get(need);
                need.is_some_and(|need| need.from == Err(NotReselected::Gone))
            }
            None => false,
        };
        if is_gone { NotReselected::Gone } else { NotReselected::Changed }
    }
}

/// The spans of an image's key, with those of `fill` for values that it does not carry.
pub(super) fn key_spans(
    batch: &Batch,
    image: Option<Image>,
    fill: Option<Image>,
    columns: usize,
    wanted: &Wanted,
) -> Option<Vec<Span>> {
    let image = batch.image(image?, columns);
    let fill = fill.map(|fill| batch.image(fill, columns)).unwrap_or_default();
    let span = |&at: &usize| match (image.get(at), fill.get(at)) {
        (Some(Cell::Value(span)), _) | (Some(Cell::Unchanged), Some(Cell::Value(span))) => {
            Some(*span)
        }
        _ => None,
    };
    wanted.key.iter().map(span).collect()
}

/// The key as bytes that tell one from any other.
fn key(
    batch: &Batch,
    image: Option<Image>,
    fill: Option<Image>,
    columns: usize,
    wanted: &Wanted,
) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    for span in key_spans(batch, image, fill, columns, wanted)? {
        key.extend_from_slice(&span.len.to_le_bytes());
        key.extend_from_slice(span.of(&batch.bytes));
    }
    Some(key)
}
