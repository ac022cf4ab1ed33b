//! Where in the sequence of transactions the stream stands, and what a resumed stream leaves out.

use rowtide_sdk::{Span, Tx};

use crate::lsn::Lsn;
use crate::message::Note;
use crate::pgoutput::{Begin, Commit};
use crate::position::{InTx, PgPosition};

/// The place in commit order: what is complete, and the open transaction.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The end of the last whole transaction, or a later place at which none was open.
    confirm: Lsn,
    /// Transactions that committed before this were handed over in an earlier session.
    skip_below: Lsn,
    /// The transaction that was handed over in part in an earlier session.
    partial: Option<InTx>,
    open: Option<Open>,
}

/// A transaction between its Begin and its Commit.
#[derive(Debug, Default)]
struct Open {
    begin: Begin,
    /// How many raw changes came so far.
    next_index: u64,
    /// Raw changes below this index were handed over in an earlier session.
    skip: u64,
    /// The transaction's index in the batch at hand, as it is known now.
    slot: Option<u32>,
    /// The node it came from; empty for the database itself.
    origin: String,
    /// The trace it belongs to; empty where none was named.
    traceparent: String,
    /// What was noted about it, a JSON object; empty where nothing was.
    annotation: Vec<u8>,
}

/// What the stream did that its protocol does not allow.
pub(crate) type Misplaced = &'static str;

impl Progress {
    /// Stands at `confirm`; `partial` is the transaction of which a part was handed over.
    pub(crate) fn new(confirm: Lsn, partial: Option<InTx>) -> Self {
        Self { confirm, skip_below: confirm, partial, open: None }
    }

    /// Stands where a saved position says. Where the stream's shape has changed since, its count of
    /// raw changes means nothing and the transaction is repeated from its start.
    pub(crate) fn resume(position: &PgPosition, stream: &str) -> Self {
        let partial = position.in_tx.filter(|_| position.stream == stream);
        Self::new(position.confirm, partial)
    }

    /// A transaction begins.
    pub(crate) fn begin(&mut self, begin: Begin) -> Result<(), Misplaced> {
        if self.open.is_some() {
            return Err("a transaction begins inside another");
        }
        let skip = match self.partial {
            // The commit record starts before the confirmed end: the transaction is complete.
            _ if begin.final_lsn < self.skip_below => u64::MAX,
            Some(partial) if partial.commit == begin.final_lsn => partial.next_index,
            _ => 0,
        };
        self.open = Some(Open { begin, skip, ..Open::default() });
        Ok(())
    }

    /// The open transaction came from another node. Known until its end.
    pub(crate) fn origin(&mut self, name: &str) -> Result<(), Misplaced> {
        let open = self.open.as_mut().ok_or("an origin stands outside a transaction")?;
        name.clone_into(&mut open.origin);
        open.slot = None;
        Ok(())
    }

    /// The open transaction's changes from here on carry a note, in place of an earlier one of its
    /// kind.
    pub(crate) fn note(&mut self, note: Note) -> Result<(), Misplaced> {
        let open = self.open.as_mut().ok_or("a note stands outside a transaction")?;
        match note {
            Note::Traceparent(text) => open.traceparent = text,
            Note::Annotation(json) => open.annotation = json,
        }
        open.slot = None;
        Ok(())
    }

    /// The open transaction's id, and where it commits.
    pub(crate) fn open_transaction(&self) -> Option<(u32, Lsn)> {
        self.open.as_ref().map(|open| (open.begin.xid, open.begin.final_lsn))
    }

    /// A message that belongs to no transaction ends at `lsn`: whether it is to be handed over. The
    /// server sends it when it comes to it in the log, so that all that committed before has been
    /// sent; the commit record of the next transaction may begin right at `lsn`.
    pub(crate) fn outside(&mut self, lsn: Lsn) -> Result<bool, Misplaced> {
        if self.open.is_some() {
            return Err("a message of no transaction stands inside one");
        }
        self.pass(lsn);
        Ok(lsn > self.skip_below)
    }

    /// The open transaction is complete.
    pub(crate) fn commit(&mut self, commit: Commit) -> Result<(), Misplaced> {
        let open = self.open.take().ok_or("a transaction ends that did not begin")?;
        if open.begin.final_lsn != commit.commit_lsn {
            return Err("a transaction ends at another place than it began with");
        }
        self.pass(commit.end_lsn);
        Ok(())
    }

    /// The server has sent everything before `wal_end`; outside a transaction that is progress.
    pub(crate) fn idle(&mut self, wal_end: Lsn) {
        if self.open.is_none() {
            self.pass(wal_end);
        }
    }

    fn pass(&mut self, end: Lsn) {
        self.confirm = self.confirm.max(end);
        // Commit order: what was handed over in part is behind us, or will never come again.
        self.partial = self.partial.filter(|partial| partial.commit >= self.confirm);
    }

    /// Counts one raw change: its index, and whether it is to be handed over.
    #[inline]
    pub(crate) fn count_change(&mut self) -> Result<(u64, bool), Misplaced> {
        let open = self.open.as_mut().ok_or("a change stands outside a transaction")?;
        let index = open.next_index;
        open.next_index += 1;
        Ok((index, index >= open.skip))
    }

    /// The index in `txs` of the open transaction, rendered there on first use in a batch.
    #[inline]
    pub(crate) fn transaction(
        &mut self,
        txs: &mut Vec<Tx>,
        text: &mut Vec<u8>,
    ) -> Result<u32, Misplaced> {
        let open = self.open.as_mut().ok_or("a change stands outside a transaction")?;
        if let Some(slot) = open.slot {
            return Ok(slot);
        }
        let slot = u32::try_from(txs.len()).map_err(|_| "too many transactions in a batch")?;
        let id = append(text, itoa::Buffer::new().format(open.begin.xid).as_bytes())?;
        let commit = append(text, open.begin.final_lsn.text().as_bytes())?;
        let origin = append(text, open.origin.as_bytes())?;
        let traceparent = append(text, open.traceparent.as_bytes())?;
        let annotation = append(text, &open.annotation)?;
        let commit_ts_us = open.begin.commit_ts_us;
        txs.push(Tx { id, commit, commit_ts_us, origin, traceparent, annotation, ..Tx::default() });
        open.slot = Some(slot);
        Ok(slot)
    }

    /// A new batch has begun: the open transaction is not in it yet.
    pub(crate) fn new_batch(&mut self) {
        if let Some(open) = &mut self.open {
            open.slot = None;
        }
    }

    /// The position after everything seen so far.
    pub(crate) fn place(&self) -> (Lsn, Option<InTx>) {
        let in_tx = match &self.open {
            // Skipped whole: as if it had not come.
            Some(open) if open.skip == u64::MAX => self.partial,
            Some(open) => {
                let next_index = open.next_index.max(open.skip);
                let commit = open.begin.final_lsn;
                if next_index == 0 { self.partial } else { Some(InTx { commit, next_index }) }
            }
            None => self.partial,
        };
        (self.confirm, in_tx)
    }
}

/// Appends to a batch's text.
pub(crate) fn append(text: &mut Vec<u8>, part: &[u8]) -> Result<Span, Misplaced> {
    let start = text.len();
    text.extend_from_slice(part);
    span(start, text.len())
}

/// The span of a batch's text from `start` to `end`.
pub(crate) fn span(start: usize, end: usize) -> Result<Span, Misplaced> {
    let start = u32::try_from(start).map_err(|_| "too much text in a batch")?;
    let end = u32::try_from(end).map_err(|_| "too much text in a batch")?;
    Ok(Span { start, len: end.saturating_sub(start) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(final_lsn: u64) -> Begin {
        Begin { final_lsn: Lsn(final_lsn), commit_ts_us: 0, xid: 9 }
    }

    fn commit(commit_lsn: u64, end_lsn: u64) -> Commit {
        Commit { commit_lsn: Lsn(commit_lsn), end_lsn: Lsn(end_lsn) }
    }

    fn handed_over(progress: &mut Progress, changes: usize) -> Vec<u64> {
        (0..changes)
            .map(|_| progress.count_change().unwrap())
            .filter(|(_, wanted)| *wanted)
            .map(|(index, _)| index)
            .collect()
    }

    #[test]
    fn h02_a_transaction_begins_where_the_last_ended() {
        // The end of one commit record is the start of the next: not below, so not skipped.
        let mut progress = Progress::new(Lsn(100), None);
        progress.begin(begin(100)).unwrap();
        assert_eq!(handed_over(&mut progress, 2), [0, 1]);
        assert_eq!(progress.place(), (Lsn(100), Some(InTx { commit: Lsn(100), next_index: 2 })));
        progress.commit(commit(100, 140)).unwrap();
        assert_eq!(progress.place(), (Lsn(140), None));
    }

    #[test]
    fn what_was_complete_is_skipped_whole() {
        let partial = InTx { commit: Lsn(120), next_index: 1 };
        let mut progress = Progress::new(Lsn(100), Some(partial));
        progress.begin(begin(60)).unwrap();
        assert!(handed_over(&mut progress, 3).is_empty());
        assert_eq!(progress.place(), (Lsn(100), Some(partial)));
        progress.commit(commit(60, 80)).unwrap();
        assert_eq!(progress.place(), (Lsn(100), Some(partial)));
    }

    #[test]
    fn a_partial_transaction_goes_on_by_count() {
        let partial = InTx { commit: Lsn(120), next_index: 2 };
        let mut progress = Progress::new(Lsn(100), Some(partial));
        progress.begin(begin(120)).unwrap();
        assert_eq!(progress.place(), (Lsn(100), Some(partial)));
        assert!(handed_over(&mut progress, 1).is_empty());
        assert_eq!(progress.place(), (Lsn(100), Some(partial)));
        assert_eq!(handed_over(&mut progress, 3), [2, 3]);
        progress.commit(commit(120, 160)).unwrap();
        assert_eq!(progress.place(), (Lsn(160), None));
    }

    #[test]
    fn idle_progress_counts_only_between_transactions() {
        let mut progress = Progress::new(Lsn(100), None);
        progress.idle(Lsn(110));
        assert_eq!(progress.place().0, Lsn(110));
        progress.begin(begin(120)).unwrap();
        progress.idle(Lsn(130));
        assert_eq!(progress.place(), (Lsn(110), None));
        progress.commit(commit(120, 160)).unwrap();
        progress.idle(Lsn(150));
        assert_eq!(progress.place(), (Lsn(160), None));
    }

    #[test]
    fn a_message_outside_transactions_moves_on_by_itself() {
        let mut progress = Progress::new(Lsn(100), None);
        assert!(!progress.outside(Lsn(99)).unwrap());
        assert!(!progress.outside(Lsn(100)).unwrap());
        assert!(progress.outside(Lsn(110)).unwrap());
        assert_eq!(progress.place(), (Lsn(110), None));
        // Nothing of it comes again, and a transaction that commits right behind it does.
        let mut again = Progress::new(Lsn(110), None);
        assert!(!again.outside(Lsn(110)).unwrap());
        again.begin(begin(110)).unwrap();
        assert_eq!(handed_over(&mut again, 1), [0]);
        assert!(again.outside(Lsn(120)).is_err());
    }

    #[test]
    fn what_is_known_of_a_transaction_ends_with_it() {
        let mut progress = Progress::new(Lsn(100), None);
        let (mut txs, mut text) = (Vec::new(), Vec::new());
        progress.begin(begin(120)).unwrap();
        progress.origin("node_a").unwrap();
        let first = progress.transaction(&mut txs, &mut text).unwrap();
        assert_eq!(progress.transaction(&mut txs, &mut text).unwrap(), first);
        progress.note(Note::Annotation(b"{}".to_vec())).unwrap();
        progress.note(Note::Traceparent("00".to_owned())).unwrap();
        let second = progress.transaction(&mut txs, &mut text).unwrap();
        assert_ne!(first, second);
        progress.commit(commit(120, 130)).unwrap();
        progress.begin(begin(140)).unwrap();
        progress.transaction(&mut txs, &mut text).unwrap();
        let known = |tx: &Tx| {
            [tx.origin, tx.traceparent, tx.annotation]
                .map(|span| String::from_utf8_lossy(span.of(&text)).into_owned())
        };
        let known: Vec<_> = txs.iter().map(known).collect();
        assert_eq!(known, [["node_a", "", ""], ["node_a", "00", "{}"], ["", "", ""]]);
        let mut between = Progress::new(Lsn(100), None);
        assert!(between.origin("x").is_err());
        assert!(between.note(Note::Annotation(Vec::new())).is_err());
    }

    #[test]
    fn misplaced_messages_are_refused() {
        let mut progress = Progress::new(Lsn(100), None);
        assert!(progress.count_change().is_err());
        assert!(progress.commit(commit(1, 2)).is_err());
        progress.begin(begin(120)).unwrap();
        assert!(progress.begin(begin(130)).is_err());
        assert!(progress.commit(commit(121, 130)).is_err());
    }
}
