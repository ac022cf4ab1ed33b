//! Streamed transactions: the same as if they had been sent whole.

use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::pgoutput::streamed;

/// A recorded transaction.
struct Recording {
    xid: u32,
    /// Messages between Begin and Commit without descriptions.
    changes: Vec<Recorded>,
    begin: Vec<u8>,
    commit: Vec<u8>,
    /// LSN of the commit message.
    end: u64,
}

struct Recorded {
    lsn: u64,
    message: Vec<u8>,
    /// The tables it names, as they were described then.
    relations: Vec<(u32, Vec<u8>)>,
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// The oids that a change names.
fn oids(message: &[u8]) -> Vec<u32> {
    match message[0] {
        b'I' | b'U' | b'D' => vec![number(&message[1..])],
        b'T' => message[6..].chunks(4).map(number).collect(),
        _ => Vec::new(),
    }
}

/// The transactions of a recording.
fn transactions(jsonl: &str) -> Vec<Recording> {
    let mut described: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut all: Vec<Recording> = Vec::new();
    let mut is_open = false;
    for line in jsonl.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let lsn: Lsn = line["lsn"].as_str().unwrap().parse().unwrap();
        let message = unhex(line["data"].as_str().unwrap());
        match message[0] {
            b'B' => {
                let xid = number(&message[17..]);
                let (begin, commit) = (message, Vec::new());
                all.push(Recording { xid, changes: Vec::new(), begin, commit, end: 0 });
                is_open = true;
            }
            b'C' => {
                let open = all.last_mut().unwrap();
                (open.commit, open.end, is_open) = (message, lsn.0, false);
            }
            b'R' => {
                described.insert(number(&message[1..]), message);
            }
            _ if is_open => {
                let describe = |oid: u32| (oid, described[&oid].clone());
                let relations = oids(&message).into_iter().map(describe).collect();
                all.last_mut().unwrap().changes.push(Recorded { lsn: lsn.0, message, relations });
            }
            _ => {}
        }
    }
    all
}

/// What the server remembers of a table: how it is, and who was told.
#[derive(Default)]
struct Sent {
    relation: Vec<u8>,
    is_sent: bool,
    streamed: HashSet<u32>,
}

/// Numbers that look random and are the same for a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below.max(1)).unwrap()).unwrap()
    }
}

/// A server that streams, as far as pgoutput's own bookkeeping goes.
struct Server {
    stream: Vec<u8>,
    tables: BTreeMap<u32, Sent>,
    dice: Dice,
    /// The next number for a transaction that is made up.
    next_xid: u32,
}

/// A message as it stands in a segment.
fn with_xid(message: &[u8], xid: u32) -> Vec<u8> {
    match message[0] {
        b'O' => message.to_vec(),
        tag => [&[tag][..], &xid.to_be_bytes(), &message[1..]].concat(),
    }
}

impl Server {
    fn new(seed: u64) -> Self {
        let dice = Dice(seed | 1);
        Self { stream: Vec::new(), tables: BTreeMap::new(), dice, next_xid: 5_000_000 }
    }

    fn send(&mut self, lsn: u64, message: &[u8]) {
        self.stream.extend(xlog_data(lsn, message));
        if self.dice.roll(5) == 0 {
            self.stream.extend(keepalive(1, self.dice.roll(2) == 0));
        }
    }

    /// Describes the tables of a change where that is due; `top` is the streamed transaction.
    fn describe(&mut self, change: &Recorded, top: Option<u32>, xid: u32) {
        for (oid, relation) in &change.relations {
            let sent = self.tables.entry(*oid).or_default();
            if sent.relation != *relation {
                *sent = Sent { relation: relation.clone(), ..Sent::default() };
            }
            let is_due = match top {
                Some(top) => sent.streamed.insert(top),
                None => !std::mem::replace(&mut sent.is_sent, true),
            };
            if is_due {
                let message =
                    if top.is_some() { with_xid(relation, xid) } else { relation.clone() };
                self.send(0, &message);
            }
        }
    }

    fn whole(&mut self, transaction: &Recording) {
        self.send(transaction.end, &transaction.begin);
        for change in &transaction.changes {
            self.describe(change, None, 0);
            self.send(change.lsn, &change.message);
        }
        self.send(transaction.end, &transaction.commit);
    }

    fn abort(&mut self, top: u32, xid: u32) {
        self.send(7, &[b"A", &top.to_be_bytes()[..], &xid.to_be_bytes()].concat());
        for sent in self.tables.values_mut() {
            sent.streamed.remove(&top);
        }
    }

    /// A segment with some of a transaction's changes, each in a subtransaction or not. Now and then a
    /// subtransaction that is rolled back stands between them.
    fn segment(&mut self, top: u32, is_first: bool, changes: &[Recorded]) {
        self.send(3, &[b"S", &top.to_be_bytes()[..], &[u8::from(is_first)]].concat());
        for change in changes {
            if self.dice.roll(3) == 0 && !change.relations.is_empty() {
                self.next_xid += 1;
                self.describe(change, Some(top), self.next_xid);
                self.send(change.lsn, &with_xid(&change.message, self.next_xid));
                // The rollback is in the log before what follows.
                self.send(3, b"E");
                self.abort(top, self.next_xid);
                self.send(3, &[b"S", &top.to_be_bytes()[..], &[0]].concat());
            }
            let xid = if self.dice.roll(2) == 0 { top } else { top + 1_000_000 };
            self.describe(change, Some(top), xid);
            self.send(change.lsn, &with_xid(&change.message, xid));
        }
        self.send(3, b"E");
    }

    fn commit(&mut self, transaction: &Recording) {
        // Flags, two LSNs and a time, as in Commit.
        let xid = transaction.xid.to_be_bytes();
        self.send(transaction.end, &[b"c", &xid[..], &transaction.commit[1..]].concat());
        for sent in self.tables.values_mut() {
            sent.is_sent |= sent.streamed.remove(&transaction.xid);
        }
    }
}

/// The recorded transactions in the same order of commits, some streamed with segments that begin up
/// to three transactions earlier, and some made up that are rolled back.
fn streaming(recording: &[Recording], seed: u64) -> Vec<u8> {
    let mut server = Server::new(seed);
    let mut plan = || (server.dice.roll(3) > 0, server.dice.roll(4));
    let plans: Vec<(bool, usize)> = recording.iter().map(|_| plan()).collect();
    let mut sent = vec![0; recording.len()];
    let mut has_begun = vec![false; recording.len()];
    for (place, due) in recording.iter().enumerate() {
        for (at, transaction) in recording.iter().enumerate().skip(place) {
            let (is_streamed, lead) = plans[at];
            if !is_streamed || at > place + lead {
                continue;
            }
            let left = transaction.changes.len() - sent[at];
            let count = if at == place { left } else { server.dice.roll(left + 1) };
            let changes = &transaction.changes[sent[at]..sent[at] + count];
            server.segment(transaction.xid, !has_begun[at], changes);
            (sent[at], has_begun[at]) = (sent[at] + count, true);
        }
        if server.dice.roll(4) == 0 {
            server.next_xid += 1;
            let lost = server.next_xid;
            server.segment(lost, true, &due.changes);
            server.abort(lost, lost);
        }
        if plans[place].0 {
            server.commit(due);
        } else {
            server.whole(due);
        }
    }
    server.stream
}

/// The recorded transactions, each sent whole.
fn whole(recording: &[Recording]) -> Vec<u8> {
    let mut server = Server::new(1);
    recording.iter().for_each(|transaction| server.whole(transaction));
    server.stream
}

pub(super) fn spooling(batch_bytes: usize, batch_rows: usize, spool_memory: usize) -> Limits {
    Limits { spool_memory, ..limits(batch_bytes, batch_rows) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn h39_streamed_transactions_give_what_whole_ones_give(
        golden in 0..GOLDEN.len(), seed: u64, bytes in 1_usize..5000, rows in 1_usize..6,
        memory in prop_oneof![Just(0_usize), Just(1 << 20)],
        pieces in proptest::collection::vec(1_usize..400, 1..50), flush_always: bool,
    ) {
        let recording = transactions(GOLDEN[golden].1);
        let expected = run(&mut from_start(limits(1 << 20, 1000)), &whole(&recording), &[], false);
        let stream = streaming(&recording, seed);
        let mut assembler = from_start(spooling(bytes, rows, memory));
        let got = run(&mut assembler, &stream, &pieces, flush_always);
        prop_assert_eq!(&got.entries, &expected.entries);
        prop_assert_eq!(got.positions.last(), expected.positions.last());
        prop_assert!(got.disk.is_empty(), "files are left");
    }

    /// At every position a session may end and another go on, streaming or not.
    #[test]
    fn h39_every_position_resumes_with_streaming_and_without(
        golden in 0..GOLDEN.len(), seed: u64, again: u64,
        memory in prop_oneof![Just(0_usize), Just(1 << 20)],
    ) {
        let recording = transactions(GOLDEN[golden].1);
        let first = streaming(&recording, seed);
        let first = run(&mut from_start(spooling(64, 1, memory)), &first, &[], false);
        let streams = [streaming(&recording, again), whole(&recording)];
        for (handed_over, position) in first.positions.iter().step_by(3) {
            for stream in &streams {
                let progress = Progress::resume(position, "ab");
                let mut assembler = assembler(spooling(256, 3, memory), progress);
                let rest = run(&mut assembler, stream, &[100], false);
                prop_assert_eq!(&rest.entries[..], &first.entries[*handed_over..]);
            }
        }
    }
}

pub(super) fn start(xid: u8, is_first: bool) -> Vec<u8> {
    xlog_data(3, &[b"S\0\0\0", &[xid][..], &[u8::from(is_first)]].concat())
}

pub(super) fn stop() -> Vec<u8> {
    xlog_data(3, b"E")
}

fn abort(xid: u8, subxid: u8) -> Vec<u8> {
    xlog_data(3, &[b"A\0\0\0", &[xid][..], b"\0\0\0", &[subxid]].concat())
}

pub(super) fn stream_commit(xid: u8, commit: u64, end: u64) -> Vec<u8> {
    let lsns = [commit.to_be_bytes(), end.to_be_bytes(), [0; 8]].concat();
    xlog_data(end, &[b"c\0\0\0", &[xid][..], &[0], &lsns].concat())
}

/// A frame of a message in a segment, from the frame of that message outside one.
pub(super) fn inside(xid: u8, frame: &[u8]) -> Vec<u8> {
    let lsn = u64::from_be_bytes(frame[6..14].try_into().unwrap());
    xlog_data(lsn, &with_xid(&frame[30..], u32::from(xid)))
}

/// What, where and the row of each entry.
fn places(run: &Run) -> Vec<String> {
    let short = |entry: &String| {
        let (place, rest) = entry.split_once(" tx ").unwrap();
        format!("{place} {}", rest.rsplit(' ').next().unwrap())
    };
    run.entries.iter().map(short).collect()
}

#[test]
fn h39_a_description_of_a_rolled_back_subtransaction_is_not_used() {
    let stream = [
        start(5, true),
        inside(5, &relation(2, "orders")),
        inside(5, &insert(2, b"a")),
        inside(6, &relation(2, "renamed")),
        inside(6, &insert(2, b"b")),
        stop(),
        abort(5, 6),
        start(5, false),
        inside(5, &relation(2, "orders")),
        inside(5, &insert(2, b"c")),
        stop(),
        stream_commit(5, 100, 140),
    ];
    let run = run(&mut from_start(limits(4096, 100)), &stream.concat(), &[], false);
    let expected = ["c orders 0/64:0:None Row(\"a\")", "c orders 0/64:1:None Row(\"c\")"];
    assert_eq!(places(&run), expected);
}

#[test]
fn h39_a_description_of_a_rolled_back_transaction_is_not_used() {
    let stream = [
        relation(2, "orders"),
        start(5, true),
        inside(5, &relation(2, "renamed")),
        inside(5, &insert(2, b"a")),
        stop(),
        abort(5, 5),
        begin(100),
        insert(2, b"b"),
        commit(100, 140),
    ];
    let run = run(&mut from_start(limits(4096, 100)), &stream.concat(), &[], false);
    assert_eq!(places(&run), ["c orders 0/64:0:None Row(\"b\")"]);
}

#[test]
fn h39_what_is_in_force_outside_stays_in_force_after_an_older_replay() {
    let older_then_newer = |commit_first: bool| {
        let whole = [relation(2, "newer"), begin(100), insert(2, b"b"), commit(100, 140)].concat();
        let replay = stream_commit(5, if commit_first { 90 } else { 150 }, 160);
        let order = if commit_first { [replay, whole] } else { [whole, replay] };
        let stream = [
            [start(5, true), inside(5, &relation(2, "older"))].concat(),
            [inside(5, &insert(2, b"a")), stop()].concat(),
            order.concat(),
            [begin(200), insert(2, b"c"), commit(200, 240)].concat(),
        ];
        places(&run(&mut from_start(limits(4096, 2)), &stream.concat(), &[], false))
    };
    let a = |commit: &str| format!("c older {commit}:0:None Row(\"a\")");
    let b = "c newer 0/64:0:None Row(\"b\")".to_owned();
    let c = "c newer 0/C8:0:None Row(\"c\")".to_owned();
    assert_eq!(older_then_newer(false), [b.clone(), a("0/96"), c.clone()]);
    assert_eq!(older_then_newer(true), [a("0/5A"), b, c]);
}

#[test]
fn h39_a_description_inside_a_streamed_transaction_holds_after_its_commit() {
    let stream = [
        [relation(2, "older"), begin(50), insert(2, b"a"), commit(50, 60)].concat(),
        [start(5, true), inside(5, &relation(2, "newer")), inside(5, &insert(2, b"b"))].concat(),
        [stop(), begin(100), commit(100, 140), stream_commit(5, 150, 160)].concat(),
        [begin(200), insert(2, b"c"), commit(200, 240)].concat(),
    ];
    let run = run(&mut from_start(limits(4096, 100)), &stream.concat(), &[], false);
    let expected = [
        "c older 0/32:0:None Row(\"a\")",
        "c newer 0/96:0:None Row(\"b\")",
        "c newer 0/C8:0:None Row(\"c\")",
    ];
    assert_eq!(places(&run), expected);
}

#[test]
fn h39_segments_are_no_progress_and_stay_within_their_memory() {
    let row = inside(5, &insert(2, &[b'x'; 1000]));
    let mut assembler = from_start(spooling(4096, 100, 100_000));
    let head = [start(5, true), inside(5, &relation(2, "orders"))].concat();
    let body = row.repeat(2000);
    let before = run(&mut assembler, &[head, body, keepalive(70, false)].concat(), &[], false);
    assert_eq!(before.entries.len(), 0);
    assert!(before.spills > 10 && before.largest_buffer < 10_000);
    assert_eq!(assembler.place(), (Lsn(0), None), "a keepalive inside a segment is no progress");
    let held = before.disk[&5].len();
    assert!(held > 1_800_000, "{held}");
    let rest = [stop(), keepalive(80, false)].concat();
    run(&mut assembler, &rest, &[], false);
    assert_eq!(assembler.place(), (Lsn(80), None), "the transaction commits behind it");
}

#[test]
fn h39_an_event_above_the_limit_is_the_same_poison_when_streamed() {
    let limits = Limits { max_event: 100_000, ..spooling(4096, 100, 1 << 20) };
    // What is counted: the header of the frame's body, the change's head, the value.
    let limit = vec![b'x'; 100_000 - 25 - 5 - 3 - 5];
    let over = [&limit[..], b"y"].concat();
    let changes = [insert(2, &limit), insert(2, &over), insert(2, b"z")];
    let plain = [vec![relation(2, "orders"), begin(100)], changes.to_vec(), vec![commit(100, 140)]];
    let segment = |frame: &Vec<u8>| inside(9, frame);
    let streamed = [
        vec![start(9, true), inside(9, &relation(2, "orders"))],
        changes.iter().map(segment).collect(),
        vec![stop(), stream_commit(9, 100, 140)],
    ];
    let expected = run(&mut from_start(limits), &plain.concat().concat(), &[], false);
    assert_eq!(expected.entries.iter().filter(|entry| entry.ends_with("RT2210")).count(), 1);
    for piece in [1, 1000, 1 << 20] {
        let got = run(&mut from_start(limits), &streamed.concat().concat(), &[piece], false);
        assert_eq!(got.entries, expected.entries);
    }
}

#[test]
fn h39_what_cannot_stand_in_a_stream_is_refused() {
    let bad = [
        stop(),
        stream_commit(5, 100, 140),
        start(5, false),
        [start(5, true), start(6, true)].concat(),
        [start(5, true), begin(100)].concat(),
        [start(5, true), stream_commit(5, 100, 140)].concat(),
        [start(5, true), abort(5, 5)].concat(),
        [begin(90), start(5, true), stop(), stream_commit(5, 100, 140)].concat(),
        [start(5, true), inside(5, &insert(2, b"a")), stop(), stream_commit(5, 100, 140)].concat(),
        xlog_data(3, b"A\0\0\0\x05\0\0\0\x05\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01"),
    ];
    for stream in bad {
        let mut assembler = from_start(spooling(4096, 100, 1 << 20));
        assembler.buffer().extend_from_slice(&stream);
        let error = assembler.advance().unwrap_err();
        assert_eq!(error.code(), codes::NOT_UNDERSTOOD, "{stream:?}");
    }
    // Nor what was not asked for.
    let renderer = assembler_renderer();
    let progress = Progress::new(Lsn(0), None);
    let filter = Box::new(|_: &str, _: &str| true);
    let mut assembler = Assembler::new(progress, renderer, filter, limits(4096, 9), None);
    assembler.buffer().extend_from_slice(&start(5, true));
    assert_eq!(assembler.advance().unwrap_err().code(), codes::NOT_UNDERSTOOD);
    assert!(streamed::control(&abort(5, 5)[30..], streamed::AbortForm::Long).is_err());
}

#[test]
fn a_torn_spool_is_found_and_only_costs_a_restart() {
    let stream = [
        start(5, true),
        inside(5, &relation(2, "orders")),
        inside(5, &insert(2, b"abc")),
        stop(),
        stream_commit(5, 100, 140),
    ];
    let mut assembler = from_start(spooling(4096, 100, 0));
    assembler.buffer().extend(stream.concat());
    let mut disk = Vec::new();
    let error = loop {
        match assembler.advance() {
            Ok(Step::Spill) => {
                let (_, blocks) = assembler.largest().unwrap();
                disk.extend(blocks.pieces().flatten().copied());
                assembler.spilled(blocks);
            }
            Ok(Step::Fill(fill)) => {
                assert_eq!((fill.at, fill.max), (0, disk.len() as u64));
                // Someone has written over the file.
                disk[0] = 99;
                assembler.buffer().extend_from_slice(&disk);
                assembler.filled(disk.len());
            }
            Ok(step) => panic!("{step:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (error.code(), error.class()),
        (rowtide_spool::codes::SPOOL_IO, rowtide_sdk::Class::Transient)
    );
}

#[test]
fn a_stop_inside_a_replay_gives_the_unread_bytes_of_the_connection() {
    let tail = [begin(200), insert(2, b"c")].concat();
    let stream = [
        start(5, true),
        inside(5, &relation(2, "orders")),
        inside(5, &insert(2, b"a")),
        inside(5, &insert(2, b"b")),
        stop(),
        stream_commit(5, 100, 140),
        tail.clone(),
    ];
    let mut assembler = from_start(spooling(4096, 1, 1 << 20));
    assembler.buffer().extend(stream.concat());
    let Step::Describe(message) = assembler.advance().unwrap() else { panic!() };
    let table = build_table("shop", &message, &TableFacts::from_relation(&message));
    assembler.learn(message, Arc::new(table));
    assert!(matches!(assembler.advance().unwrap(), Step::Full));
    assert_eq!(assembler.into_unread().unwrap(), tail);
}
