//! Where in the sequence of transactions the stream stands, and what a resumed stream leaves out.

use std::cmp::Ordering;

use rowtide_sdk::{Span, Tx};

use crate::gtid::mariadb::{self, GtidPosition};
use crate::gtid::mysql::{Gtid, GtidSet};
use crate::position::{Altered, History, InTx, MyPosition, Pending, place_id};

/// An offset in a file of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) pos: u64,
}

impl Place {
    /// Whether this place is before the other one, or the same.
    pub(crate) fn is_at_most(&self, other: &Self) -> bool {
        self.compare(other) != Ordering::Greater
    }

    /// Moves to the end of an event, of which the log says the lower 32 bits: files may be larger. MariaDB
    /// leaves events out on the way, and nothing goes back.
    pub(crate) fn advance(&mut self, log_pos: u32) {
        let low = u32::try_from(self.pos & u64::from(u32::MAX)).unwrap_or_default();
        let step = log_pos.wrapping_sub(low);
        if step < 1 << 31 {
            self.pos = self.pos.saturating_add(u64::from(step));
        }
    }

    /// Moves on to a transaction's start, of which the log says the lower 32 bits: in a file that `is_large`
    /// they are not all. Whether where it is stays unclear.
    pub(crate) fn leap(&mut self, low: u32, is_large: bool) -> bool {
        let here = u32::try_from(self.pos & u64::from(u32::MAX)).unwrap_or_default();
        let step = if is_large {
            u64::from(low.wrapping_sub(here))
        } else {
            u64::from(low).saturating_sub(self.pos)
        };
        self.pos = self.pos.saturating_add(step);
        is_large && step > 0
    }

    /// The order of places. Files are numbered, with six digits or more.
    fn compare(&self, other: &Self) -> Ordering {
        let number = |file: &str| {
            let digits = file.rsplit('.').next().unwrap_or_default();
            digits.parse::<u64>().unwrap_or_default()
        };
        number(&self.file).cmp(&number(&other.file)).then(self.pos.cmp(&other.pos))
    }
}

/// The transactions that were passed, by what names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Passed {
    /// By their places alone.
    Files,
    /// By MySQL's GTIDs.
    Mysql(GtidSet),
    /// By MariaDB's GTIDs.
    Mariadb(GtidPosition),
}

/// What names a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// The place where it starts.
    Place,
    /// A GTID of MySQL.
    Mysql(Gtid),
    /// A GTID of MariaDB.
    Mariadb(mariadb::Gtid),
}

/// How a transaction begins.
#[derive(Debug, Clone)]
pub(crate) struct Begin {
    pub(crate) name: Name,
    /// When it committed, in microseconds since 1970.
    pub(crate) commit_us: i64,
    /// Whether its changes may be handed over before its end: whatever is in the log took effect.
    pub(crate) is_direct: bool,
}

/// The place in the order of transactions: what is complete, and the open transaction.
#[derive(Debug)]
pub(crate) struct Progress {
    place: Place,
    passed: Passed,
    /// Transactions that begin before this were handed over in an earlier session.
    skip_below: Option<Place>,
    partial: Option<InTx>,
    pending: Vec<Pending>,
    /// MySQL: whether the last transaction had no GTID, or none was seen that has one. GTIDs do not tell
    /// what was handed over then.
    is_anonymous: bool,
    /// MariaDB: what the server sends in these domains was handed over, up to these GTIDs, because a
    /// prepared XA transaction stands before them. In others it begins behind what was handed over.
    repeated: GtidPosition,
    /// See [`MyPosition::by_gtids`].
    by_gtids: bool,
    history: History,
    shape: String,
    open: Option<Open>,
    /// The file that the stream is in, and when it was made.
    stream: (String, u32),
    /// Whether offsets in that file are not certain, so that no stream may begin at one.
    is_vague: bool,
    /// Grows with each transaction that ends.
    version: u64,
}

/// A transaction between its beginning and its end.
#[derive(Debug)]
struct Open {
    begin: Begin,
    id: String,
    start: Place,
    /// The file that its changes stand in.
    log: String,
    /// How many raw changes came so far.
    next_index: u64,
    /// Raw changes below this index were handed over in an earlier session.
    skip: u64,
    /// The transaction's index in the batch at hand.
    slot: Option<u32>,
    traceparent: String,
    annotation: Vec<u8>,
    statement: Vec<u8>,
}

/// What is known of the changes of a statement; what is empty is not known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Note<'a> {
    /// The trace that they belong to.
    pub(crate) traceparent: &'a str,
    /// What the statement's comment says, as a JSON object.
    pub(crate) annotation: &'a [u8],
    /// The beginning of the statement.
    pub(crate) statement: &'a [u8],
}

/// What the log did that is not allowed in it.
pub(crate) type Misplaced = &'static str;

impl Progress {
    /// Stands where a position says.
    pub(crate) fn new(position: MyPosition, passed: Passed) -> Self {
        let place = Place { file: position.file, pos: position.pos };
        let repeated = repeated(&passed, &position.pending);
        let mut history = position.history;
        if history.created != 0 {
            history.seen = Some((place.file.clone(), history.created));
        }
        Self {
            repeated,
            is_anonymous: passed == Passed::Files,
            skip_below: (passed == Passed::Files || !position.pending.is_empty())
                .then(|| place.clone()),
            place,
            passed,
            partial: position.in_tx,
            pending: position.pending,
            by_gtids: position.by_gtids,
            history,
            shape: position.shape,
            open: None,
            stream: (String::new(), 0),
            is_vague: false,
            version: 0,
        }
    }

    /// A transaction begins, at the place where the stream stands.
    pub(crate) fn begin(&mut self, begin: Begin, start: Place) -> Result<(), Misplaced> {
        if self.open.is_some() {
            return Err("a transaction begins inside another");
        }
        let id = match &begin.name {
            Name::Place => place_id(&start.file, start.pos),
            Name::Mysql(gtid) => gtid.to_string(),
            Name::Mariadb(gtid) => gtid.to_string(),
        };
        let was_passed = match (&self.passed, &begin.name) {
            (Passed::Mysql(set), Name::Mysql(gtid)) => set.holds(gtid),
            (Passed::Mariadb(_), Name::Mariadb(gtid)) => {
                // A number above is none of them, or is rather told twice.
                let last = self.repeated.last(gtid.domain);
                last.is_some_and(|last| gtid.sequence <= last.sequence)
            }
            _ => {
                self.skip_below.as_ref().is_some_and(|below| start.compare(below) == Ordering::Less)
            }
        };
        let skip = match &self.partial {
            Some(partial) if partial.id == id => partial.next_index,
            _ if was_passed => u64::MAX,
            _ => 0,
        };
        self.open = Some(Open {
            begin,
            id,
            log: start.file.clone(),
            start,
            next_index: 0,
            skip,
            slot: None,
            traceparent: String::new(),
            annotation: Vec::new(),
            statement: Vec::new(),
        });
        Ok(())
    }

    /// Whether a transaction is open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the open transaction was handed over whole in an earlier session.
    pub(crate) fn is_passed(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.skip == u64::MAX)
    }

    /// Whether the open transaction's changes may be handed over before its end.
    pub(crate) fn is_direct(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.begin.is_direct)
    }

    /// The open transaction's changes wait for its end from here on.
    pub(crate) fn hold(&mut self) {
        if let Some(open) = &mut self.open {
            open.begin.is_direct = false;
        }
    }

    /// The open transaction's changes stand in another file than its beginning.
    pub(crate) fn set_log(&mut self, log: &str) {
        if let Some(open) = &mut self.open {
            log.clone_into(&mut open.log);
            open.slot = None;
        }
    }

    /// What names the open transaction.
    pub(crate) fn id(&self) -> &str {
        self.open.as_ref().map_or("", |open| open.id.as_str())
    }

    /// Whether any of the open transaction's changes was counted.
    pub(crate) fn has_counted(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.next_index > 0)
    }

    /// What is known of the changes of the open transaction from here on.
    pub(crate) fn note(&mut self, note: Note<'_>) {
        let Note { traceparent, annotation, statement } = note;
        if let Some(open) = &mut self.open
            && (open.traceparent != traceparent
                || open.annotation != annotation
                || open.statement != statement)
        {
            traceparent.clone_into(&mut open.traceparent);
            annotation.clone_into(&mut open.annotation);
            statement.clone_into(&mut open.statement);
            open.slot = None;
        }
    }

    /// The index of the next raw change, and whether it is to be handed over.
    #[inline]
    pub(crate) fn next_change(&self) -> Result<(u64, bool), Misplaced> {
        let open = self.open.as_ref().ok_or("a change stands outside a transaction")?;
        Ok((open.next_index, open.next_index >= open.skip))
    }

    /// Counts the raw change that was taken in. Not before: what cannot be taken in is behind the position.
    #[inline]
    pub(crate) fn count_change(&mut self) {
        if let Some(open) = &mut self.open {
            open.next_index += 1;
        }
    }

    /// The index in `txs` of the open transaction, rendered there on first use in a batch.
    pub(crate) fn transaction(
        &mut self,
        txs: &mut Vec<Tx>,
        text: &mut Vec<u8>,
    ) -> Result<u32, Misplaced> {
        let open = self.open.as_mut().ok_or("a change stands outside a transaction")?;
        if let Some(slot) = open.slot {
            return Ok(slot);
        }
        let mut span = |bytes: &[u8]| {
            let start = u32::try_from(text.len()).ok()?;
            text.extend_from_slice(bytes);
            Some(Span { start, len: u32::try_from(bytes.len()).ok()? })
        };
        let mut render = || {
            let id = span(open.id.as_bytes())?;
            Some(Tx {
                id,
                commit: id,
                log: span(open.log.as_bytes())?,
                commit_ts_us: open.begin.commit_us,
                origin: Span::default(),
                traceparent: span(open.traceparent.as_bytes())?,
                annotation: span(&open.annotation)?,
                statement: span(&open.statement)?,
            })
        };
        let slot = u32::try_from(txs.len()).map_err(|_| "too many transactions in a batch")?;
        txs.push(render().ok_or("too much text in a batch")?);
        open.slot = Some(slot);
        Ok(slot)
    }

    /// A new batch: no transaction stands in it yet.
    pub(crate) fn new_batch(&mut self) {
        if let Some(open) = &mut self.open {
            open.slot = None;
        }
    }

    /// The open transaction ends, at `end` in the log.
    pub(crate) fn end(&mut self, end: Place) -> Result<(), Misplaced> {
        let open = self.open.take().ok_or("a transaction ends that did not begin")?;
        self.is_anonymous = open.begin.name == Name::Place;
        match (&mut self.passed, open.begin.name) {
            (Passed::Mysql(set), Name::Mysql(gtid)) => set.insert(&gtid),
            (Passed::Mariadb(position), Name::Mariadb(gtid)) => {
                match self.repeated.last(gtid.domain) {
                    None => position.pass(gtid),
                    Some(last) if last == gtid => self.repeated.forget(gtid.domain),
                    Some(_) => {}
                }
            }
            _ => {}
        }
        let is_partial = self.partial.as_ref().is_some_and(|partial| partial.id == open.id);
        if is_partial || open.skip == 0 {
            self.partial = None;
        }
        self.pass(end);
        Ok(())
    }

    /// The open transaction has no end in the log: as if it had not begun.
    pub(crate) fn drop_open(&mut self) {
        self.open = None;
    }

    /// Outside a transaction, the log was read up to here.
    pub(crate) fn pass(&mut self, place: Place) {
        let is_behind =
            self.skip_below.as_ref().is_some_and(|below| place.compare(below) == Ordering::Less);
        if self.open.is_none() && !is_behind {
            self.skip_below = None;
            if self.place.file != place.file {
                let (file, created) = &self.stream;
                // Not known before the file's first event has come.
                self.history.created = if *file == place.file { *created } else { 0 };
            }
            self.place = place;
            self.version += 1;
        }
    }

    /// The stream comes to a file, which was made at this time. Gives the time that the position knows of
    /// the file, where that is another: then it is another file of the same name.
    pub(crate) fn file_created(&mut self, file: &str, created: u32) -> Option<u32> {
        if self.stream.0 != file {
            self.is_vague = false;
        }
        self.stream = (file.to_owned(), created);
        self.history.seen = Some(self.stream.clone());
        if self.place.file != file {
            return None;
        }
        let known = std::mem::replace(&mut self.history.created, created);
        (known != 0 && known != created).then_some(known)
    }

    /// Where in the file the stream stands is not certain from here on: a position in it is known by GTIDs
    /// alone.
    pub(crate) fn make_vague(&mut self) {
        self.is_vague = true;
    }

    /// These are all the transactions before the file that begins here: from here on transactions are
    /// known by GTIDs, where they were by places.
    pub(crate) fn name_by_gtids(&mut self, set: GtidSet) {
        if self.passed == Passed::Files && self.partial.is_none() && self.pending.is_empty() {
            self.passed = Passed::Mysql(set);
            self.skip_below = None;
        }
    }

    /// Whether an XA transaction was prepared without a GTID.
    fn has_anonymous_pending(&self) -> bool {
        self.pending.iter().any(|pending| pending.id.parse::<GtidSet>().is_err())
    }

    /// The stream begins by MariaDB's GTIDs: of each domain where it was left, which may be elsewhere in the
    /// log than the others.
    pub(crate) fn begins_by_gtids(&mut self) {
        self.by_gtids = true;
    }

    /// A file begins, before which these are the last of each domain.
    pub(crate) fn file_begins(&mut self, last: &GtidPosition) {
        if matches!(&self.passed, Passed::Mariadb(position) if position == last) {
            self.by_gtids = false;
        }
    }

    /// The XA transaction `xid` is prepared by the open transaction.
    pub(crate) fn prepare(&mut self, xid: String) {
        let Some(open) = &self.open else { return };
        if let Some(known) = self.pending.iter_mut().find(|pending| pending.id == open.id) {
            // Another server may have it elsewhere.
            open.start.file.clone_into(&mut known.file);
            known.pos = open.start.pos;
            return;
        }
        let after = match (&self.passed, &open.begin.name) {
            (Passed::Mariadb(position), Name::Mariadb(gtid)) => {
                position.last(gtid.domain).map(|last| last.to_string())
            }
            _ => None,
        };
        self.pending.push(Pending {
            xid,
            id: open.id.clone(),
            file: open.start.file.clone(),
            pos: open.start.pos,
            after,
        });
    }

    /// Whether the open transaction is a prepared one that an earlier session knew of.
    pub(crate) fn is_pending(&self) -> bool {
        let id = self.open.as_ref().map(|open| &open.id);
        self.pending.iter().any(|pending| Some(&pending.id) == id)
    }

    /// A prepared transaction ended; whether it was known.
    pub(crate) fn complete(&mut self, xid: &str) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| pending.xid != xid);
        self.pending.len() < before
    }

    /// A number that grows whenever the position does.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The last whole transaction's end.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The position to resume from.
    pub(crate) fn position(&self) -> MyPosition {
        let in_tx = match &self.open {
            Some(open) if open.skip != u64::MAX && open.next_index > 0 => {
                let next_index = open.next_index.max(open.skip);
                Some(InTx { id: open.id.clone(), next_index })
            }
            _ => self.partial.clone(),
        };
        MyPosition {
            file: self.place.file.clone(),
            pos: self.place.pos,
            gtids: match &self.passed {
                Passed::Files => None,
                Passed::Mysql(_) if self.is_anonymous || self.has_anonymous_pending() => None,
                Passed::Mysql(set) => Some(set.to_string()),
                Passed::Mariadb(position) => Some(position.to_string()),
            },
            in_tx,
            pending: self.pending.clone(),
            by_gtids: self.by_gtids,
            // Of this who reads statements knows.
            altered: Altered::default(),
            history: self.history(),
            shape: self.shape.clone(),
        }
    }

    fn history(&self) -> History {
        let is_vague = self.is_vague && self.place.file == self.stream.0;
        let created = if is_vague { 0 } else { self.history.created };
        let seen = self.history.seen.clone().filter(|_| created == 0);
        History { server: self.history.server.clone(), created, seen }
    }
}

/// Where what was handed over ends, in the domains in which it is sent again.
fn repeated(passed: &Passed, pending: &[Pending]) -> GtidPosition {
    let mut repeated = GtidPosition::default();
    if let Passed::Mariadb(position) = passed {
        for last in pending.iter().filter_map(|pending| {
            let prepared: mariadb::Gtid = pending.id.parse().ok()?;
            position.last(prepared.domain)
        }) {
            repeated.pass(last);
        }
    }
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m14_offsets_go_on_behind_4_gib() {
        let mut place = Place { file: "b.1".to_owned(), pos: 0xffff_ff00 };
        for (log_pos, pos) in [
            (0xffff_fff0, 0xffff_fff0),
            (0x10, 0x1_0000_0010),
            (0x10, 0x1_0000_0010),
            // Nothing goes back.
            (0x08, 0x1_0000_0010),
            (0x4000_0000, 0x1_4000_0000),
            (0x8000_0000, 0x1_8000_0000),
            (0xf000_0000, 0x1_f000_0000),
            (0x0000_0100, 0x2_0000_0100),
        ] {
            place.advance(log_pos);
            assert_eq!(place.pos, pos, "{log_pos:x}");
        }
    }

    #[test]
    fn m14_what_is_left_out_behind_gtids_may_be_longer_than_half_of_what_an_offset_says() {
        let mut place = Place { file: "b.1".to_owned(), pos: 200 };
        for (low, is_large, is_unclear, pos) in [
            (200, true, false, 200),
            (0xf000_0000, false, false, 0xf000_0000),
            // Nothing goes back.
            (0x100, false, false, 0xf000_0000),
            (0x100, true, true, 0x1_0000_0100),
            (0x100, true, false, 0x1_0000_0100),
            (0x200, false, false, 0x1_0000_0100),
        ] {
            assert_eq!((place.leap(low, is_large), place.pos), (is_unclear, pos), "{low:x}");
        }
    }

    #[test]
    fn m14_no_stream_begins_at_an_offset_that_is_not_certain() {
        let position = MyPosition {
            file: "b.000002".to_owned(),
            pos: 100,
            gtids: Some(String::new()),
            in_tx: None,
            pending: Vec::new(),
            by_gtids: false,
            altered: Altered::default(),
            history: History { created: 7, ..History::of("1".to_owned()) },
            shape: String::new(),
        };
        let mut progress = Progress::new(position, Passed::Mysql(GtidSet::default()));
        assert_eq!(progress.file_created("b.000002", 7), None);
        progress.make_vague();
        progress.pass(Place { file: "b.000002".to_owned(), pos: 1 << 33 });
        let history = progress.position().history;
        assert_eq!((history.created, history.seen), (0, Some(("b.000002".to_owned(), 7))));
        progress.pass(Place { file: "b.000003".to_owned(), pos: 4 });
        assert_eq!(progress.file_created("b.000003", 9), None);
        assert_eq!(progress.position().history.created, 9);
    }

    #[test]
    fn m22_a_file_of_the_same_name_is_told_by_when_it_was_made() {
        let position = MyPosition {
            file: "b.000002".to_owned(),
            pos: 100,
            gtids: None,
            in_tx: None,
            pending: Vec::new(),
            by_gtids: false,
            altered: Altered::default(),
            history: History { created: 7, ..History::of("1".to_owned()) },
            shape: String::new(),
        };
        let mut progress = Progress::new(position.clone(), Passed::Files);
        // The stream may begin in an earlier file.
        assert_eq!(progress.file_created("b.000001", 5), None);
        assert_eq!(progress.position(), position);
        assert_eq!(progress.file_created("b.000002", 7), None);
        progress.pass(Place { file: "b.000003".to_owned(), pos: 4 });
        let history = progress.position().history;
        assert_eq!((history.created, history.seen), (0, Some(("b.000002".to_owned(), 7))));
        assert_eq!(progress.file_created("b.000003", 9), None);
        let history = progress.position().history;
        assert_eq!((history.created, history.seen), (9, None));
        let mut progress = Progress::new(position, Passed::Files);
        assert_eq!(progress.file_created("b.000002", 8), Some(7));
    }
}
