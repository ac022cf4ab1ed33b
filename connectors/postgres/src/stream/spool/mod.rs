//! Transactions that are streamed before their end is known: what came of them is set aside here
//! until they commit, in memory up to a limit; what is above it the stream's driver moves to files
//! (see [`rowtide_spool::Folder`]). No I/O.
//!
//! A transaction is kept as records in the order of the log. A record is a head (what it is, the
//! length of its body, its subtransaction, its LSN) and a body: the message without the
//! transaction's id, as it would be sent after the commit.

mod xids;

use std::collections::HashMap;

use rowtide_spool::{Blocks, Pool};

use self::xids::XidSet;
use super::transaction::Misplaced;
use crate::lsn::Lsn;

/// Kind, length of the body, subtransaction, LSN.
pub(crate) const RECORD_HEAD: usize = 1 + 4 + 4 + 8;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole message.
    Message,
    /// A Relation message behind the number (64 bits) of Relation messages that the server had sent
    /// before it.
    Relation,
    /// The beginning of a message above the size limit, behind the size (64 bits) of its frame.
    Oversized,
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Bytes of the body.
    pub(crate) len: usize,
    /// The subtransaction, or the transaction itself.
    pub(crate) xid: u32,
    pub(crate) lsn: Lsn,
}

impl Head {
    fn to_bytes(self) -> Option<[u8; RECORD_HEAD]> {
        let kind = match self.kind {
            Kind::Message => 0,
            Kind::Relation => 1,
            Kind::Oversized => 2,
        };
        let len = u32::try_from(self.len).ok()?.to_be_bytes();
        let (xid, lsn) = (self.xid.to_be_bytes(), self.lsn.0.to_be_bytes());
        let mut bytes = [0; RECORD_HEAD];
        let parts = [&[kind][..], &len, &xid, &lsn];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        Some(bytes)
    }

    /// Reads a head; `None` where it is not one.
    #[inline]
    pub(crate) fn from_bytes(bytes: &[u8; RECORD_HEAD]) -> Option<Self> {
        let (&[kind], rest) = bytes.split_first_chunk::<1>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (xid, rest) = rest.split_first_chunk::<4>()?;
        let (lsn, _) = rest.split_first_chunk::<8>()?;
        let kind = match kind {
            0 => Kind::Message,
            1 => Kind::Relation,
            2 => Kind::Oversized,
            _ => return None,
        };
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let lsn = Lsn(u64::from_be_bytes(*lsn));
        Some(Self { kind, len, xid: u32::from_be_bytes(*xid), lsn })
    }
}

/// What is kept of a transaction: first what is on disk, then what is in memory.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// Bytes on disk.
    pub(crate) on_disk: u64,
    /// What came since.
    pub(crate) memory: Blocks,
    /// Subtransactions that were rolled back: their records count for nothing.
    pub(crate) aborted: XidSet,
}

/// All transactions whose end is not known.
#[derive(Debug)]
pub(crate) struct Spool {
    transactions: HashMap<u32, Transaction>,
    /// The transaction whose segment is open.
    open: Option<(u32, Transaction)>,
    pool: Pool,
    /// Bytes in memory above which something must go to disk.
    memory_max: usize,
}

impl Spool {
    /// Nothing yet; so many bytes of memory at most, beside the record that passes it.
    pub(crate) fn new(memory_max: usize) -> Self {
        Self { transactions: HashMap::new(), open: None, pool: Pool::default(), memory_max }
    }

    /// The transaction whose segment is open.
    #[inline]
    pub(crate) fn open(&self) -> Option<u32> {
        self.open.as_ref().map(|(xid, _)| *xid)
    }

    /// A segment begins.
    pub(crate) fn start(&mut self, xid: u32, is_first: bool) -> Result<(), Misplaced> {
        if self.open.is_some() {
            return Err("a streamed segment begins inside another");
        }
        let transaction = match (self.transactions.remove(&xid), is_first) {
            (None, true) => Transaction::default(),
            (Some(transaction), false) => transaction,
            (None, false) => return Err("a streamed transaction goes on that did not begin"),
            (Some(_), true) => return Err("a streamed transaction begins twice"),
        };
        self.open = Some((xid, transaction));
        Ok(())
    }

    /// The segment ends.
    pub(crate) fn stop(&mut self) -> Result<(), Misplaced> {
        let (xid, transaction) = self.open.take().ok_or("a streamed segment ends twice")?;
        self.transactions.insert(xid, transaction);
        Ok(())
    }

    /// Sets a record of the open segment aside. Its body comes in pieces; `head.len` is their length
    /// together.
    #[inline]
    pub(crate) fn append(&mut self, head: Head, body: &[&[u8]]) -> Result<(), Misplaced> {
        let (_, transaction) = self.open.as_mut().ok_or("a message stands outside its segment")?;
        let head = head.to_bytes().ok_or("a message is too long")?;
        transaction.memory.write(&head, &mut self.pool);
        for piece in body {
            transaction.memory.write(piece, &mut self.pool);
        }
        Ok(())
    }

    /// A transaction or a subtransaction of it was rolled back. Where the whole was and a part of it
    /// is on disk, that can go: its length.
    ///
    /// Nothing may be known of the transaction: PostgreSQL 18 forgets a transaction that it finds
    /// rolled back before it streamed any of it, and reports the end of its subtransactions all the
    /// same.
    pub(crate) fn abort(&mut self, xid: u32, subxid: u32) -> Result<Option<u64>, Misplaced> {
        if self.open.is_some() {
            return Err("a streamed transaction is rolled back inside a segment");
        }
        if xid != subxid {
            if let Some(transaction) = self.transactions.get_mut(&xid) {
                transaction.aborted.insert(subxid);
            }
            return Ok(None);
        }
        let Some(transaction) = self.transactions.remove(&xid) else { return Ok(None) };
        self.spent(transaction.memory);
        Ok(Some(transaction.on_disk).filter(|len| *len > 0))
    }

    /// A transaction is complete.
    pub(crate) fn commit(&mut self, xid: u32) -> Result<Transaction, Misplaced> {
        if self.open.is_some() {
            return Err("a streamed transaction ends inside a segment");
        }
        self.transactions.remove(&xid).ok_or("a streamed transaction ends that did not begin")
    }

    /// Whether something must go to disk.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.pool.used() > self.memory_max
    }

    /// What is in memory of the transaction that holds the most, where something must go to disk. It
    /// counts as being there.
    pub(crate) fn largest(&mut self) -> Option<(u32, Blocks)> {
        if !self.is_over() {
            return None;
        }
        let open = self.open.iter_mut().map(|(xid, transaction)| (*xid, transaction));
        let others = self.transactions.iter_mut().map(|(xid, transaction)| (*xid, transaction));
        let largest = others.chain(open).max_by_key(|(_, transaction)| transaction.memory.count());
        let (xid, transaction) = largest.filter(|(_, most)| !most.memory.is_empty())?;
        let memory = std::mem::take(&mut transaction.memory);
        let len = u64::try_from(memory.len()).unwrap_or(u64::MAX);
        transaction.on_disk = transaction.on_disk.saturating_add(len);
        Some((xid, memory))
    }

    /// Takes back what was written or dropped.
    pub(crate) fn spent(&mut self, blocks: Blocks) {
        self.pool.take(blocks);
        if self.transactions.is_empty() && self.open.is_none() {
            self.pool.shrink();
        }
    }

    /// Moves at most `max` bytes of a transaction's memory to the end of `out`.
    pub(crate) fn read(&mut self, from: &mut Blocks, out: &mut Vec<u8>, max: usize) {
        from.read(out, max, &mut self.pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(xid: u32, len: usize) -> Head {
        Head { kind: Kind::Message, len, xid, lsn: Lsn(7) }
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        for kind in [Kind::Message, Kind::Relation, Kind::Oversized] {
            let head = Head { kind, len: 70_000, xid: u32::MAX, lsn: Lsn(u64::MAX - 1) };
            assert_eq!(Head::from_bytes(&head.to_bytes().unwrap()), Some(head));
        }
        assert_eq!(Head::from_bytes(&[9; RECORD_HEAD]), None);
    }

    #[test]
    fn h39_two_hundred_transactions_stay_within_their_memory() {
        let memory_max = 1 << 20;
        let mut spool = Spool::new(memory_max);
        let mut written: HashMap<u32, u64> = HashMap::new();
        let mut on_disk = 0;
        for round in 0..20 {
            for xid in 1..=200 {
                spool.start(xid, round == 0).unwrap();
                let body = vec![7; 500 + usize::try_from(xid).unwrap()];
                for _ in 0..10 {
                    spool.append(head(xid, body.len()), &[&body]).unwrap();
                    *written.entry(xid).or_default() += (RECORD_HEAD + body.len()) as u64;
                    while let Some((_, blocks)) = spool.largest() {
                        on_disk += blocks.len() as u64;
                        spool.spent(blocks);
                    }
                    assert!(!spool.is_over());
                }
                spool.stop().unwrap();
            }
        }
        assert!(on_disk > 10 * memory_max as u64);
        for xid in 1..=200 {
            let transaction = spool.commit(xid).unwrap();
            let held = transaction.on_disk + transaction.memory.len() as u64;
            assert_eq!(held, written[&xid]);
            spool.spent(transaction.memory);
        }
        assert_eq!(spool.pool.used(), 0);
    }

    #[test]
    fn h39_what_is_out_of_place_is_refused() {
        let mut spool = Spool::new(1 << 20);
        assert!(spool.stop().is_err());
        assert!(spool.append(head(1, 0), &[]).is_err());
        assert!(spool.start(1, false).is_err());
        assert!(spool.commit(1).is_err());
        spool.start(1, true).unwrap();
        assert!(spool.start(2, true).is_err());
        assert!(spool.commit(1).is_err() && spool.abort(1, 1).is_err());
        spool.stop().unwrap();
        assert!(spool.start(1, true).is_err());
    }

    #[test]
    fn h39_an_aborted_transaction_leaves_no_memory() {
        let mut spool = Spool::new(64 * 1024);
        spool.start(5, true).unwrap();
        spool.append(head(5, 100_000), &[&vec![1; 100_000]]).unwrap();
        let (xid, blocks) = spool.largest().unwrap();
        assert_eq!(xid, 5);
        spool.spent(blocks);
        spool.append(head(6, 1), &[&[1]]).unwrap();
        spool.stop().unwrap();
        assert_eq!(spool.abort(5, 6), Ok(None));
        assert_eq!(spool.abort(5, 5), Ok(Some(100_017)));
        assert_eq!(spool.pool.used(), 0);
        // Nothing came of these.
        assert_eq!(spool.abort(8, 8), Ok(None));
        assert_eq!(spool.abort(8, 9), Ok(None));
        // What was never on disk has no file to remove.
        spool.start(7, true).unwrap();
        spool.stop().unwrap();
        assert_eq!(spool.abort(7, 7), Ok(None));
    }
}
