//! Transactions that are streamed before they are complete: set aside while they come, replayed when
//! they commit.
//!
//! At a Stream Commit the received bytes behind it are kept apart, and the transaction's records take
//! their place in the buffer, from its file first and then from memory. They are taken in by the same
//! code as the messages of a transaction that is sent whole, between its Begin and its Commit, so
//! that indexes, event ids and positions are the same. Records of subtransactions that were rolled
//! back are left out, as the server leaves them out of a transaction it sends whole; their Relation
//! messages too, because after a rollback the server describes the tables again.

use rowtide_sdk::{Error, Origin, Result};
use rowtide_spool::{Blocks, codes};

use super::{Assembler, Step, not_understood};
use crate::lsn::Lsn;
use crate::pgoutput::streamed::{AbortForm, Control, StreamCommit, control, part};
use crate::pgoutput::{Commit, Message, ParseError, parse};
use crate::stream::spool::{Head, Kind, RECORD_HEAD, Spool, Transaction};

/// A transaction id inside a message of a segment.
const XID: usize = 4;

/// What of a transaction's file is wanted next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fill {
    /// The transaction.
    pub(crate) xid: u32,
    /// The offset in its file.
    pub(crate) at: u64,
    /// So many bytes at most.
    pub(crate) max: u64,
}

/// A streamed transaction on its way out.
#[derive(Debug)]
pub(super) struct Replay {
    commit: StreamCommit,
    transaction: Transaction,
    /// So many bytes of the file were read.
    read: u64,
    /// Received bytes behind the Stream Commit.
    unread: Vec<u8>,
}

impl Replay {
    pub(super) fn into_unread(self) -> Vec<u8> {
        self.unread
    }
}

/// What was set aside is not what was written. The server sends it again.
fn damaged() -> Error {
    let message = "what was set aside of a streamed transaction is torn";
    Error::transient(Origin::Host, codes::SPOOL_IO, message)
        .with_remedy("let nothing else touch the folder; the server sends the transaction again")
}

impl Assembler {
    /// The streamed transaction whose segment is open.
    #[inline]
    pub(crate) fn segment(&self) -> Option<u32> {
        self.spool.as_ref().and_then(Spool::open)
    }

    /// How much longer a message is here than outside a segment.
    #[inline]
    pub(super) fn segment_overhead(&self) -> usize {
        if self.segment().is_some() { XID } else { 0 }
    }

    /// Takes in a message that belongs to a streamed transaction, and gives what follows from it;
    /// `None` for a message of a transaction that is sent whole.
    #[inline]
    pub(super) fn streamed(&mut self, message: &[u8], at: Lsn) -> Result<Option<Option<Step>>> {
        let refused = |error: ParseError| not_understood(error, at);
        let misplaced = |what: &'static str| not_understood(what, at);
        let Some(spool) = &mut self.spool else { return Ok(None) };
        match control(message, AbortForm::Short).map_err(refused)? {
            Some(Control::Start { xid, is_first }) => {
                spool.start(xid, is_first).map_err(misplaced)?;
            }
            Some(Control::Stop) => spool.stop().map_err(misplaced)?,
            Some(Control::Abort { xid, subxid }) => {
                let len = spool.abort(xid, subxid).map_err(misplaced)?;
                return Ok(Some(len.map(|len| Step::Forget(xid, len))));
            }
            Some(Control::Commit(commit)) => {
                let transaction = spool.commit(commit.begin.xid).map_err(misplaced)?;
                self.received = self.received.max(commit.end.end_lsn);
                self.progress.begin(commit.begin).map_err(misplaced)?;
                self.relations.begin_replay();
                self.replay = Some(Replay { commit, transaction, read: 0, unread: Vec::new() });
                // Nothing more is parsed before it.
                return Ok(Some(Some(Step::More)));
            }
            None if self.segment().is_some() => return self.set_aside(message, at).map(Some),
            None => return Ok(None),
        }
        Ok(Some(None))
    }

    /// Keeps a message of the open segment.
    #[inline]
    fn set_aside(&mut self, message: &[u8], at: Lsn) -> Result<Option<Step>> {
        let part = part(message).map_err(|error| not_understood(error, at))?;
        let Some(spool) = &mut self.spool else { return Ok(None) };
        let xid = part.xid.or_else(|| spool.open()).unwrap_or_default();
        let tag = [part.tag];
        let len = tag.len() + part.body.len();
        let kept = match part.tag {
            // The catalog says more.
            b'Y' => return Ok(None),
            b'R' => {
                let number = self.described.to_be_bytes();
                self.described += 1;
                let head = Head { kind: Kind::Relation, len: len + number.len(), xid, lsn: at };
                spool.append(head, &[&number, &tag, part.body])
            }
            _ => {
                let head = Head { kind: Kind::Message, len, xid, lsn: at };
                spool.append(head, &[&tag, part.body])
            }
        };
        kept.map_err(|what| not_understood(what, at))?;
        Ok(spool.is_over().then_some(Step::Spill))
    }

    /// Keeps what is there of a message above the size limit, and its size as it would be outside a
    /// segment.
    pub(super) fn set_oversized_aside(
        &mut self,
        message: &[u8],
        frame: usize,
        at: Lsn,
    ) -> Result<()> {
        let part = part(message).map_err(|error| not_understood(error, at))?;
        let Some(spool) = &mut self.spool else { return Ok(()) };
        let xid = part.xid.or_else(|| spool.open()).unwrap_or_default();
        let size = u64::try_from(frame.saturating_sub(XID)).unwrap_or(u64::MAX).to_be_bytes();
        let len = size.len() + 1 + part.body.len();
        let head = Head { kind: Kind::Oversized, len, xid, lsn: at };
        let kept = spool.append(head, &[&size, &[part.tag], part.body]);
        kept.map_err(|what| not_understood(what, at))
    }

    /// What must go to disk now, with its transaction; give it back with [`Assembler::spilled`].
    pub(crate) fn largest(&mut self) -> Option<(u32, Blocks)> {
        self.spool.as_mut()?.largest()
    }

    /// Takes back what was written.
    pub(crate) fn spilled(&mut self, blocks: Blocks) {
        if let Some(spool) = &mut self.spool {
            spool.spent(blocks);
        }
    }

    /// Puts the received bytes behind the Stream Commit apart, so that the transaction follows.
    pub(super) fn begin_replay(&mut self) {
        if let Some(replay) = &mut self.replay {
            let end = self.parsed.min(self.batch.bytes.len());
            replay.unread = self.batch.bytes.split_off(end);
        }
    }

    /// Takes records of the replay in until something must be done.
    pub(super) fn records(&mut self, bytes: &[u8]) -> Result<Step> {
        loop {
            if self.is_full() {
                return Ok(Step::Full);
            }
            self.wanted = 0;
            let rest = bytes.get(self.parsed..).unwrap_or_default();
            let Some((head, body)) = rest.split_first_chunk::<RECORD_HEAD>() else {
                return Ok(Step::More);
            };
            let head = Head::from_bytes(head).ok_or_else(damaged)?;
            let Some(body) = body.get(..head.len) else {
                self.wanted = RECORD_HEAD + head.len;
                return Ok(Step::More);
            };
            self.parsed += RECORD_HEAD + head.len;
            if self.is_aborted(head.xid) {
                continue;
            }
            if let Some(step) = self.record(head, body)? {
                return Ok(step);
            }
        }
    }

    #[inline]
    fn is_aborted(&self, xid: u32) -> bool {
        self.replay.as_ref().is_some_and(|replay| {
            let aborted = &replay.transaction.aborted;
            !aborted.is_empty() && aborted.contains(xid)
        })
    }

    #[inline]
    fn record(&mut self, head: Head, body: &[u8]) -> Result<Option<Step>> {
        if head.kind == Kind::Message {
            return self.message(body, head.lsn);
        }
        let (number, message) = body.split_first_chunk::<8>().ok_or_else(damaged)?;
        let number = u64::from_be_bytes(*number);
        if head.kind == Kind::Oversized {
            let frame = usize::try_from(number).unwrap_or(usize::MAX);
            return self.oversized_message(message, frame, head.lsn).map(|()| None);
        }
        match parse(message).map_err(|error| not_understood(error, head.lsn))? {
            Message::Relation(relation) => Ok(self.relation(relation, number)),
            _ => Err(damaged()),
        }
    }

    /// Everything whole of the replay's bytes is taken in: brings more, or ends the replay.
    pub(super) fn refill(&mut self) -> Result<Option<Step>> {
        if let Step::Full = self.more() {
            return Ok(Some(Step::Full));
        }
        self.make_room();
        let spare = self.batch.bytes.capacity().saturating_sub(self.batch.bytes.len());
        let (Some(replay), Some(spool)) = (&mut self.replay, &mut self.spool) else {
            return Ok(None);
        };
        let left = replay.transaction.on_disk.saturating_sub(replay.read);
        if left > 0 {
            let max = left.min(u64::try_from(spare).unwrap_or(u64::MAX));
            let xid = replay.commit.begin.xid;
            return Ok(Some(Step::Fill(Fill { xid, at: replay.read, max })));
        }
        if !replay.transaction.memory.is_empty() {
            spool.read(&mut replay.transaction.memory, &mut self.batch.bytes, spare);
            return Ok(None);
        }
        if self.parsed < self.batch.bytes.len() {
            return Err(damaged());
        }
        let fits = replay.unread.len() <= spare;
        if self.has_entries() && !fits {
            return Ok(Some(Step::Full));
        }
        self.end_replay()
    }

    /// So many bytes of the file were appended to the buffer.
    pub(crate) fn filled(&mut self, bytes: usize) {
        if let Some(replay) = &mut self.replay {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            replay.read = replay.read.saturating_add(bytes);
        }
    }

    fn end_replay(&mut self) -> Result<Option<Step>> {
        let Some(Replay { commit, transaction, unread, .. }) = self.replay.take() else {
            return Ok(None);
        };
        let Commit { commit_lsn, .. } = commit.end;
        self.progress.commit(commit.end).map_err(|what| not_understood(what, commit_lsn))?;
        self.relations.end_replay();
        self.batch.bytes.extend_from_slice(&unread);
        self.spilled(transaction.memory);
        let on_disk = transaction.on_disk;
        Ok((on_disk > 0).then_some(Step::Forget(commit.begin.xid, on_disk)))
    }
}
