//! Puts values that were read back into a batch, and cuts off what must wait; no I/O.

use rowtide_sdk::{Batch, Cell, Entry, NotReselected, Reselected, Span, Tx};

use super::needs::Needs;
use crate::lsn::Lsn;
use crate::position::InTx;

/// A row that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    /// Each column that was wanted, with its value in the batch's bytes.
    pub(super) values: Vec<(u32, Span)>,
    /// The position of the read, in the batch's text.
    pub(super) position: Span,
}

/// What became of a row; `None` where it has not been read yet.
pub(super) type Outcome = Option<Result<Read, NotReselected>>;

/// How many entries of a batch may leave: those whose values are known, up to so many bytes of
/// values. At least one entry that needs a value is among them, where the first row is known.
pub(super) fn ready(batch: &Batch, needs: &Needs, outcomes: &[Outcome], budget: usize) -> usize {
    let mut bytes = 0_usize;
    for (number, need) in needs.needs.iter().enumerate() {
        let outcome = match need.from {
            Ok(row) => outcomes.get(row).cloned().flatten(),
            Err(reason) => Some(Err(reason)),
        };
        let Some(outcome) = outcome else { return need.entry };
        if let Ok(read) = outcome {
            let wanted = |(column, _): &&(u32, Span)| need.columns.contains(column);
            let own = read.values.iter().filter(wanted).map(|(_, span)| span.len as usize);
            bytes = bytes.saturating_add(own.sum());
            if bytes > budget && number > 0 {
                return need.entry;
            }
        }
    }
    batch.entries.len()
}

/// Takes the entries from `at` on into a batch of their own. `raw` is the length of the batch's
/// bytes as the log gave them.
pub(super) fn split(batch: &mut Batch, at: usize, raw: usize) -> Batch {
    let entries = batch.entries.split_off(at.min(batch.entries.len()));
    let mut bytes = Vec::with_capacity(raw);
    bytes.extend_from_slice(batch.bytes.get(..raw).unwrap_or_default());
    Batch {
        entries,
        cells: batch.cells.clone(),
        reselected: Vec::new(),
        bytes,
        text: batch.text.clone(),
        tables: batch.tables.clone(),
        txs: batch.txs.clone(),
        resume: batch.resume.take(),
        received_ts_us: batch.received_ts_us,
    }
}

/// Puts the values of all needs of the batch's entries in place.
pub(super) fn apply(batch: &mut Batch, needs: &Needs, outcomes: &[Outcome]) {
    for need in needs.needs.iter().take_while(|need| need.entry < batch.entries.len()) {
        let outcome = match need.from {
            Ok(row) => outcomes.get(row).and_then(Option::as_ref).map(Result::as_ref),
            Err(ref reason) => Some(Err(reason)),
        };
        let Ok(entry) = u32::try_from(need.entry) else { continue };
        let after = match batch.entries.get(need.entry) {
            Some(Entry::Change(change)) => change.after,
            _ => None,
        };
        let (Some(outcome), Some(after)) = (outcome, after) else { continue };
        let note = match outcome {
            Err(&reason) => Reselected {
                entry,
                columns: Vec::new(),
                position: Span::default(),
                reason: Some(reason),
            },
            Ok(read) => {
                for (column, span) in &read.values {
                    let at = after.first_cell.saturating_add(*column) as usize;
                    if need.columns.contains(column)
                        && let Some(cell) = batch.cells.get_mut(at)
                    {
                        *cell = Cell::Value(*span);
                    }
                }
                let columns = need.columns.clone();
                Reselected { entry, columns, position: read.position, reason: None }
            }
        };
        batch.reselected.push(note);
    }
}

/// A place in the log: the end of the last whole transaction, and how far inside the next one.
pub(crate) type Place = (Lsn, Option<InTx>);

/// The place after all entries of a batch that was cut; `from` is the one before it.
///
/// Where the batch goes on into a transaction, the ones before it are whole. Their ends are not
/// known; any place inside the commit record tells a transaction that is past from one that is not,
/// as both the server and [`crate::stream::Progress`] look at where commit records begin.
pub(super) fn place(batch: &Batch, from: Place) -> Place {
    let (mut confirm, mut in_tx) = from;
    for entry in &batch.entries {
        let change = match entry {
            Entry::Change(change) => change,
            Entry::Poisoned(poisoned) => &poisoned.change,
            Entry::Message(message) => &message.change,
        };
        let Some(tx) = batch.txs.get(change.tx as usize) else { continue };
        let Some(commit) = commit(batch, tx) else { continue };
        if tx.id.len == 0 {
            // A message outside transactions: what committed before its end is past.
            (confirm, in_tx) = (confirm.max(commit), None);
            continue;
        }
        if let Some(last) = in_tx.filter(|last| last.commit != commit) {
            confirm = confirm.max(Lsn(last.commit.0.saturating_add(1)));
        }
        in_tx = Some(InTx { commit, next_index: change.index.saturating_add(1) });
    }
    (confirm, in_tx)
}

fn commit(batch: &Batch, tx: &Tx) -> Option<Lsn> {
    std::str::from_utf8(tx.commit.of(&batch.text)).ok()?.parse().ok()
}
