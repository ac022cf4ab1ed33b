//! Where in the sequence of transactions the stream stands, and what a resumed stream leaves out.

use rowtide_sdk::{Span, Tx};

use crate::lsn::Lsn;
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
#[derive(Debug)]
struct Open {
    begin: Begin,
    /// How many raw changes came so far.
    next_index: u64,
    /// Raw changes below this index were handed over in an earlier session.
    skip: u64,
    /// The transaction's index in the batch at hand.
    slot: Option<u32>,
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
        self.open = Some(Open { begin, next_index: 0, skip, slot: None });
        Ok(())
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
        txs.push(Tx { id, commit, commit_ts_us: open.begin.commit_ts_us });
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

fn append(text: &mut Vec<u8>, part: &[u8]) -> Result<Span, Misplaced> {
    let start = u32::try_from(text.len()).map_err(|_| "too much text in a batch")?;
    let len = u32::try_from(part.len()).map_err(|_| "too much text in a batch")?;
    text.extend_from_slice(part);
    Ok(Span { start, len })
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
    fn a_transaction_begins_where_the_last_ended() {
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
    fn misplaced_messages_are_refused() {
        let mut progress = Progress::new(Lsn(100), None);
        assert!(progress.count_change().is_err());
        assert!(progress.commit(commit(1, 2)).is_err());
        progress.begin(begin(120)).unwrap();
        assert!(progress.begin(begin(130)).is_err());
        assert!(progress.commit(commit(121, 130)).is_err());
    }
}
