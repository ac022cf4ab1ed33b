//! Transactions that are held until their end is known: those that may be rolled back in part, and XA
//! transactions from their XA PREPARE to their XA COMMIT.
//!
//! What is held are events, as records: a head (the event's type, its body's length, its offset in the
//! log) and the body. At the end of the transaction they are taken in like events that come.

use std::collections::HashMap;

use rowtide_sdk::{Error, Origin, Result};
use rowtide_spool::{Blocks, Pool};

use super::pile::{More, Pile};
use super::{Assembler, Step};
use crate::codes;

/// An event's type, the length of its body, its offset in the log.
const RECORD_HEAD: usize = 1 + 4 + 8;

/// What is held of a transaction.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The records.
    pile: Pile,
    /// The bytes of all records.
    len: u64,
    /// Savepoints by name, with what was held at each.
    savepoints: Vec<(Vec<u8>, u64)>,
    /// Ranges of records that were rolled back.
    undone: Vec<(u64, u64)>,
    /// The file of the log that it stands in, where that is not the one of its end.
    log: Option<String>,
}

/// All that is held.
#[derive(Debug)]
pub(crate) struct Store {
    open: Option<Held>,
    /// By XID.
    prepared: HashMap<String, Held>,
    /// What came of a packed transaction.
    arriving: Option<Pile>,
    pool: Pool,
    memory_max: usize,
    last_key: u64,
    /// Files that are done with, and their lengths.
    doomed: Vec<(u64, u64)>,
}

impl Store {
    /// Nothing yet; so many bytes of memory at most, beside the record that passes it.
    pub(super) fn new(memory_max: usize) -> Self {
        Self {
            open: None,
            prepared: HashMap::new(),
            arriving: None,
            pool: Pool::default(),
            memory_max,
            last_key: 0,
            doomed: Vec::new(),
        }
    }

    fn open(&mut self) -> &mut Held {
        self.open.get_or_insert_with(|| {
            self.last_key += 1;
            Held { pile: Pile::new(self.last_key), ..Held::default() }
        })
    }

    /// Takes in bytes of a packed transaction.
    pub(super) fn arrive(&mut self, bytes: &[u8]) {
        let pile = self.arriving.get_or_insert_with(|| {
            self.last_key += 1;
            Pile::new(self.last_key)
        });
        pile.write(bytes, &mut self.pool);
    }

    /// What came of a packed transaction.
    pub(super) fn take_arrived(&mut self) -> Pile {
        self.arriving.take().unwrap_or_default()
    }

    /// Moves some more of what is set aside to the end of `out`, or says where it is.
    pub(super) fn more(&mut self, pile: &mut Pile, out: &mut Vec<u8>) -> More {
        pile.more(out, &mut self.pool)
    }

    /// Holds an event of the open transaction.
    pub(super) fn hold(&mut self, kind: u8, pos: u64, body: &[u8]) {
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.open();
        let Some(held) = &mut self.open else { return };
        held.pile.write(&[kind], &mut self.pool);
        held.pile.write(&len.to_le_bytes(), &mut self.pool);
        held.pile.write(&pos.to_le_bytes(), &mut self.pool);
        held.pile.write(body, &mut self.pool);
        held.len = held.len.saturating_add(u64::from(len)).saturating_add(head_len());
    }

    /// A savepoint of the open transaction, in place of an earlier one of its name.
    pub(super) fn savepoint(&mut self, name: Vec<u8>) {
        let held = self.open();
        held.savepoints.retain(|(known, _)| *known != name);
        let at = held.len;
        held.savepoints.push((name, at));
    }

    /// The open transaction is rolled back to a savepoint; `None` where there is none of the name.
    pub(super) fn roll_back_to(&mut self, name: &[u8]) -> Option<()> {
        let held = self.open();
        let at = held.savepoints.iter().position(|(known, _)| known == name)?;
        let (_, from) = *held.savepoints.get(at)?;
        held.savepoints.truncate(at.saturating_add(1));
        held.undone.push((from, held.len));
        Some(())
    }

    /// The whole open transaction is rolled back.
    pub(super) fn roll_back(&mut self) {
        if let Some(held) = &mut self.open {
            held.undone = vec![(0, held.len)];
        }
    }

    /// The open transaction is held on as that of an XID.
    pub(super) fn keep(&mut self, xid: String, log: &str) {
        self.open().log = Some(log.to_owned());
        if let Some(held) = self.open.take()
            && let Some(earlier) = self.prepared.insert(xid, held)
        {
            self.done(earlier);
        }
    }

    /// What is held of a prepared transaction.
    pub(super) fn take_prepared(&mut self, xid: &str) -> Option<Held> {
        self.prepared.remove(xid)
    }

    /// What is held of the open transaction.
    pub(super) fn take_open(&mut self) -> Option<Held> {
        self.open.take()
    }

    /// Lets go of what is held of the open transaction.
    pub(super) fn drop_open(&mut self) {
        if let Some(held) = self.open.take() {
            self.done(held);
        }
    }

    pub(super) fn done(&mut self, held: Held) {
        self.let_go(held.pile);
    }

    /// Lets go of what was set aside.
    pub(super) fn let_go(&mut self, pile: Pile) {
        let (memory, file) = pile.done();
        self.pool.take(memory);
        self.doomed.extend(file);
        if self.open.is_none() && self.prepared.is_empty() && self.arriving.is_none() {
            self.pool.shrink();
        }
    }

    /// Whether something must go to disk.
    pub(super) fn is_over(&self) -> bool {
        self.pool.used() > self.memory_max
    }

    /// What is in memory of the transaction that holds the most, where something must go to disk. It
    /// counts as being there.
    fn largest(&mut self) -> Option<(u64, Blocks)> {
        if !self.is_over() {
            return None;
        }
        let held = self.prepared.values_mut().chain(&mut self.open).map(|held| &mut held.pile);
        held.chain(&mut self.arriving).max_by_key(|pile| pile.blocks())?.spill()
    }
}

fn head_len() -> u64 {
    u64::try_from(RECORD_HEAD).unwrap_or_default()
}

/// A held transaction on its way out.
#[derive(Debug)]
pub(super) struct Replay {
    held: Held,
    /// The XID, where it was prepared: until all of it is handed over, a restart must find it again.
    xid: Option<String>,
    /// Records; those before `taken` were taken in.
    buffer: Vec<u8>,
    taken: usize,
    /// The offset of the next record among all.
    at: u64,
    /// Tables by schema and name: whether their changes stay where the transaction is rolled back.
    stays: HashMap<(String, String), bool>,
}

impl Replay {
    /// The next record's type, offset in the log and body, where it is there whole.
    fn record(&self) -> Option<(u8, u64, usize)> {
        let rest = self.buffer.get(self.taken..)?;
        let (head, body) = rest.split_first_chunk::<RECORD_HEAD>()?;
        let [kind, len @ .., _, _, _, _, _, _, _, _] = *head;
        let len = usize::try_from(u32::from_le_bytes(len)).ok()?;
        let pos = head.last_chunk::<8>().map(|pos| u64::from_le_bytes(*pos))?;
        (body.len() >= len).then_some((kind, pos, len))
    }

    fn is_undone(&self) -> bool {
        self.held.undone.iter().any(|(from, to)| (*from..*to).contains(&self.at))
    }

    /// Whether a table's changes stay although they were rolled back, where that is known.
    pub(super) fn stays(&self, schema: &str, name: &str) -> Option<bool> {
        self.stays.get(&(schema.to_owned(), name.to_owned())).copied()
    }
}

/// What is held is not what was written. The server sends it again.
pub(super) fn damaged() -> Error {
    let message = "what was held of a transaction is torn";
    Error::transient(Origin::Host, rowtide_spool::codes::SPOOL_IO, message)
        .with_remedy("let nothing else touch the folder; the server sends the transaction again")
}

impl Assembler {
    /// The open transaction took effect with what is held.
    pub(super) fn begin_replay(&mut self, held: Held) -> Result<Option<Step>> {
        self.tables.end_statement();
        if let Some(log) = &held.log {
            self.progress.set_log(log);
        }
        self.replay = Some(Replay {
            held,
            xid: None,
            buffer: Vec::new(),
            taken: 0,
            at: 0,
            stays: HashMap::new(),
        });
        Ok(None)
    }

    /// Takes in the next of what was held.
    ///
    /// # Errors
    /// As [`Assembler::event`].
    pub(crate) fn replay(&mut self) -> Result<Step> {
        let Some(mut replay) = self.replay.take() else { return Ok(Step::More) };
        let Some((kind, pos, len)) = replay.record() else { return self.refill(replay) };
        let start = replay.taken.saturating_add(RECORD_HEAD);
        let end = start.saturating_add(len);
        let is_undone = replay.is_undone();
        let body = replay.buffer.get(start..end).ok_or_else(damaged)?;
        if is_undone && let Some(table) = self.unsettled(kind, body, &replay)? {
            self.replay = Some(replay);
            return Ok(Step::Engines(vec![table]));
        }
        let is_left_out = is_undone && !self.is_kept(kind, body, &replay)?;
        let step = match is_left_out {
            true => {
                self.leave_out(kind, body);
                None
            }
            false => self.change_event(kind, body, pos)?,
        };
        replay.taken = end;
        let taken = u64::try_from(RECORD_HEAD.saturating_add(len)).unwrap_or(u64::MAX);
        replay.at = replay.at.saturating_add(taken);
        self.replay = Some(replay);
        Ok(self.or_next(step))
    }

    /// Brings more of what is held, or ends the transaction.
    fn refill(&mut self, mut replay: Replay) -> Result<Step> {
        replay.buffer.drain(..replay.taken.min(replay.buffer.len()));
        replay.taken = 0;
        let step = match self.store.more(&mut replay.held.pile, &mut replay.buffer) {
            More::Here => Step::More,
            More::OnDisk(fill) => Step::Fill(fill),
            More::Nothing if !replay.buffer.is_empty() => return Err(damaged()),
            More::Nothing => {
                self.store.done(replay.held);
                if let Some(xid) = &replay.xid {
                    self.progress.complete(xid);
                }
                self.finish()?;
                return Ok(self.next());
            }
        };
        self.replay = Some(replay);
        Ok(step)
    }

    /// The buffer that a [`Step::Fill`] is appended to.
    pub(crate) fn fill_buffer(&mut self) -> Option<&mut Vec<u8>> {
        if self.replay.is_none() {
            return self.packed_buffer();
        }
        self.replay.as_mut().map(|replay| &mut replay.buffer)
    }

    /// So many bytes were appended.
    pub(crate) fn filled(&mut self, bytes: usize) {
        match &mut self.replay {
            Some(replay) => replay.held.pile.filled(bytes),
            None => self.packed_filled(bytes),
        }
    }

    /// Answers [`Step::Engines`]: whether changes of the table stay where a transaction is rolled back.
    pub(crate) fn stays(&mut self, table: (String, String), stays: bool) {
        if let Some(replay) = &mut self.replay {
            replay.stays.insert(table, stays);
        }
    }

    /// What must go to disk now, with its file's key; give it back with [`Assembler::spilled`].
    pub(crate) fn largest(&mut self) -> Option<(u64, Blocks)> {
        self.store.largest()
    }

    /// Takes back what was written.
    pub(crate) fn spilled(&mut self, blocks: Blocks) {
        self.store.pool.take(blocks);
    }

    /// A file that is done with, and its length.
    pub(crate) fn doomed(&mut self) -> Option<(u64, u64)> {
        self.store.doomed.pop()
    }

    /// Lets go of what is held under an XID; whether anything was known of it.
    pub(super) fn forget_prepared(&mut self, xid: &str) -> bool {
        let held = self.store.take_prepared(xid);
        let is_held = held.is_some();
        if let Some(held) = held {
            self.store.done(held);
        }
        self.progress.complete(xid) || is_held
    }

    /// An XA transaction that was prepared takes effect with the open one.
    pub(super) fn commit_prepared(&mut self, xid: &str) -> Result<Option<Step>> {
        let held = self.store.take_prepared(xid);
        if self.progress.is_passed() {
            self.progress.complete(xid);
            if let Some(held) = held {
                self.store.done(held);
            }
            self.finish()?;
            return Ok(None);
        }
        let Some(held) = held else {
            if !self.progress.complete(xid) {
                tracing::warn!(
                    code = %codes::XA_UNKNOWN,
                    place = %self.progress.id(),
                    "an XA transaction committed that was prepared before this connector's first \
                     position: its changes are not delivered"
                );
            }
            self.finish()?;
            return Ok(None);
        };
        let step = self.begin_replay(held)?;
        if let Some(replay) = &mut self.replay {
            replay.xid = Some(xid.to_owned());
        }
        Ok(step)
    }
}
