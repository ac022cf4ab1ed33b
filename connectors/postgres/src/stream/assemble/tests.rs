//! Recorded messages, cut anywhere: framing, transactions, resuming, limits.

mod streamed;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rowtide_sdk::{Cell, Image, ImageKind};

use super::*;
use crate::position::{History, InTx, PgPosition};
use crate::relation::{TableFacts, build_table};

macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../tests/golden/", $name, ".jsonl")))),*]
    };
}

const GOLDEN: [(&str, &str); 15] = golden![
    "basics",
    "ddl_stream",
    "enum_domain_composite_arrays",
    "logical_message",
    "many_rows_tx",
    "names",
    "no_pk",
    "origin",
    "partitioned_root",
    "pk_change",
    "replica_full",
    "replica_index",
    "restart",
    "toast_default",
    "truncate_default",
];

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &len.to_be_bytes()[..], body].concat()
}

fn xlog_data(lsn: u64, message: &[u8]) -> Vec<u8> {
    let lsn = lsn.to_be_bytes();
    frame(b'd', &[b"w", &lsn[..], &lsn[..], &[0; 8], message].concat())
}

fn keepalive(wal_end: u64, reply: bool) -> Vec<u8> {
    frame(b'd', &[b"k", &wal_end.to_be_bytes()[..], &[0; 8], &[u8::from(reply)]].concat())
}

/// The recorded messages as frames, with a keepalive after every third.
fn recorded(jsonl: &str) -> Vec<u8> {
    let mut stream = Vec::new();
    for (number, line) in jsonl.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let lsn: Lsn = line["lsn"].as_str().unwrap().parse().unwrap();
        stream.extend(xlog_data(lsn.0, &unhex(line["data"].as_str().unwrap())));
        if number % 3 == 2 {
            stream.extend(keepalive(1, number % 2 == 0));
        }
    }
    stream
}

fn limits(batch_bytes: usize, batch_rows: usize) -> Limits {
    Limits {
        batch_bytes,
        batch_rows,
        linger: Duration::ZERO,
        max_event: 1 << 20,
        ..Limits::default()
    }
}

fn assembler_renderer() -> Renderer {
    let history = History {
        system: "1".to_owned(),
        timeline: 1,
        database: "shop".to_owned(),
        database_oid: 5,
    };
    Renderer::new(&history, "slot", "ab").unwrap()
}

fn assembler(limits: Limits, progress: Progress) -> Assembler {
    let renderer = assembler_renderer();
    let spool = Some(Spool::new(limits.spool_memory));
    Assembler::new(progress, renderer, Box::new(|_, name| name != "unwanted"), limits, spool)
}

fn from_start(limits: Limits) -> Assembler {
    assembler(limits, Progress::new(Lsn(0), None))
}

fn image(batch: &Batch, image: Option<Image>, columns: usize) -> String {
    let Some(image) = image else { return "-".to_owned() };
    let cells: Vec<String> = batch
        .image(image, columns)
        .iter()
        .map(|cell| match cell {
            Cell::Value(span) => format!("{:?}", String::from_utf8_lossy(span.of(&batch.bytes))),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(cells.len(), columns);
    format!("{:?}({})", image.kind, cells.join(" "))
}

fn text(batch: &Batch, span: rowtide_sdk::Span) -> String {
    String::from_utf8_lossy(span.of(&batch.text)).into_owned()
}

/// Every entry of a batch in one form that does not depend on where batches are cut.
fn entries(batch: &Batch, out: &mut Vec<String>) {
    for entry in &batch.entries {
        let (change, note) = match entry {
            Entry::Change(change) => (change, String::new()),
            Entry::Poisoned(poisoned) => (&poisoned.change, format!(" {}", poisoned.code)),
            Entry::Message(message) => {
                let tx = &batch.txs[message.change.tx as usize];
                out.push(format!(
                    "m {} {}:{} tx {:?} at {:X} {} {}",
                    text(batch, message.prefix),
                    text(batch, tx.commit),
                    message.change.index,
                    text(batch, tx.id),
                    message.change.offset,
                    message.encoding.name(),
                    text(batch, message.content),
                ));
                continue;
            }
        };
        let table = &batch.tables[change.table as usize];
        let tx = &batch.txs[change.tx as usize];
        let known = [tx.origin, tx.traceparent, tx.annotation].map(|span| text(batch, span));
        let known: String =
            known.iter().filter(|text| !text.is_empty()).map(|t| format!(" [{t}]")).collect();
        let text = |span| text(batch, span);
        out.push(format!(
            "{} {} {}:{}:{:?} tx {} at {:X} {} {}{note}{known}",
            change.op.letter(),
            table.name,
            text(tx.commit),
            change.index,
            change.part,
            text(tx.id),
            change.offset,
            image(batch, change.before, table.columns.len()),
            image(batch, change.after, table.columns.len()),
        ));
    }
}

/// Feeds the stream in pieces of the given sizes (the last one repeats); the entries, and the
/// batches' positions with the number of entries before them.
struct Run {
    entries: Vec<String>,
    positions: Vec<(usize, PgPosition)>,
    replies: usize,
    largest_buffer: usize,
    /// How often something went to disk.
    spills: usize,
    /// The streamed transactions that are on disk at the end.
    disk: HashMap<u32, Vec<u8>>,
}

fn run(assembler: &mut Assembler, stream: &[u8], pieces: &[usize], flush_always: bool) -> Run {
    let mut run = Run {
        entries: Vec::new(),
        positions: Vec::new(),
        replies: 0,
        largest_buffer: 0,
        spills: 0,
        disk: HashMap::new(),
    };
    let take = |assembler: &mut Assembler, run: &mut Run| {
        let batch = assembler.take(Batch::default());
        entries(&batch, &mut run.entries);
        let position = PgPosition::parse(batch.resume.as_ref().unwrap()).unwrap();
        run.positions.push((run.entries.len(), position));
    };
    let mut rest = stream;
    let mut sizes = pieces.iter().copied();
    let mut size = usize::MAX;
    loop {
        match assembler.advance().unwrap() {
            Step::More if rest.is_empty() => break,
            Step::More => {
                if flush_always && assembler.has_entries() {
                    take(assembler, &mut run);
                }
                let buffer = assembler.buffer();
                run.largest_buffer = run.largest_buffer.max(buffer.capacity());
                size = sizes.next().unwrap_or(size).max(1);
                let room = buffer.capacity() - buffer.len();
                assert!(room > 0);
                let (now, later) = rest.split_at(size.min(room).min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
            }
            Step::Full => take(assembler, &mut run),
            Step::Describe(message) => {
                let facts = TableFacts::from_relation(&message);
                let table = build_table("shop", &message, &facts);
                assembler.learn(message, Arc::new(table));
            }
            Step::Reply => run.replies += 1,
            Step::Ended => panic!("ended"),
            Step::Spill => {
                while let Some((xid, blocks)) = assembler.largest() {
                    let file = run.disk.entry(xid).or_default();
                    file.extend(blocks.pieces().flatten());
                    assembler.spilled(blocks);
                    run.spills += 1;
                }
            }
            Step::Fill(Fill { xid, at, max }) => {
                let rest = &run.disk[&xid][usize::try_from(at).unwrap()..];
                let len = rest.len().min(usize::try_from(max).unwrap());
                assembler.buffer().extend_from_slice(&rest[..len]);
                assembler.filled(len);
            }
            Step::Forget(xid, len) => {
                assert_eq!(run.disk.remove(&xid).unwrap().len() as u64, len);
            }
        }
    }
    take(assembler, &mut run);
    run
}

#[test]
fn basics_are_what_was_recorded() {
    let stream = recorded(GOLDEN[0].1);
    let run = run(&mut from_start(limits(1 << 16, 1000)), &stream, &[], false);
    let expected = include_str!("../../../tests/golden/basics.expected");
    assert_eq!(run.entries.join("\n"), expected.trim_end());
    let (_, last) = run.positions.last().unwrap();
    assert_eq!(last.in_tx, None);
}

#[test]
fn the_cuts_of_the_network_and_of_batches_do_not_matter() {
    for (name, jsonl) in GOLDEN {
        let stream = recorded(jsonl);
        let whole = run(&mut from_start(limits(1 << 20, 1000)), &stream, &[], false);
        for (bytes, rows, piece) in [(1 << 20, 1, 7), (64, 1000, 1), (300, 3, 301), (4096, 2, 64)] {
            for flush_always in [false, true] {
                let cut =
                    run(&mut from_start(limits(bytes, rows)), &stream, &[piece], flush_always);
                assert_eq!(cut.entries, whole.entries, "{name} {bytes} {rows} {piece}");
                assert_eq!(cut.replies, whole.replies);
                assert_eq!(cut.positions.last(), whole.positions.last());
            }
        }
    }
}

#[test]
fn every_position_resumes_with_the_next_entry() {
    for (name, jsonl) in GOLDEN {
        let stream = recorded(jsonl);
        let first = run(&mut from_start(limits(64, 1)), &stream, &[], false);
        for (handed_over, position) in &first.positions {
            let progress = Progress::resume(position, "ab");
            let again = run(&mut assembler(limits(256, 3), progress), &stream, &[100], false);
            assert_eq!(again.entries, first.entries[*handed_over..], "{name} from {position:?}");
            // Another shape of the stream: the transaction is repeated from its start.
            let progress = Progress::resume(position, "other");
            let again = run(&mut assembler(limits(256, 3), progress), &stream, &[100], false);
            let repeated = position.in_tx.map_or(0, |in_tx| {
                let commit = format!(" {}:", in_tx.commit);
                first.entries[..*handed_over].iter().filter(|e| e.contains(&commit)).count()
            });
            assert_eq!(again.entries, first.entries[handed_over - repeated..], "{name}");
        }
    }
}

fn begin(commit: u64) -> Vec<u8> {
    let body = [b"B", &commit.to_be_bytes()[..], &[0; 8], &9_u32.to_be_bytes()[..]].concat();
    xlog_data(commit, &body)
}

fn commit(commit: u64, end: u64) -> Vec<u8> {
    let lsns = [commit.to_be_bytes(), end.to_be_bytes(), [0; 8]].concat();
    xlog_data(end, &[b"C\0", &lsns[..]].concat())
}

fn relation(oid: u8, name: &str) -> Vec<u8> {
    let head = [b"R\0\0\0", &[oid][..], b"public\0", name.as_bytes(), b"\0d\0\x01"].concat();
    xlog_data(0, &[&head[..], b"\x01id\0\0\0\0\x19\xff\xff\xff\xff"].concat())
}

fn insert(oid: u8, value: &[u8]) -> Vec<u8> {
    let len = u32::try_from(value.len()).unwrap().to_be_bytes();
    xlog_data(50, &[b"I\0\0\0", &[oid][..], b"N\0\x01t", &len[..], value].concat())
}

#[test]
fn unwanted_tables_are_counted_and_not_handed_over() {
    let stream = [
        relation(1, "unwanted"),
        relation(2, "orders"),
        begin(100),
        insert(1, b"x"),
        insert(2, b"a"),
        xlog_data(50, b"T\0\0\0\x02\0\0\0\0\x01\0\0\0\x02"),
        insert(1, b"x"),
        insert(2, b"b"),
    ]
    .concat();
    let run = run(&mut from_start(limits(4096, 100)), &stream, &[], false);
    let places: Vec<&str> =
        run.entries.iter().map(|entry| entry.split(" tx").next().unwrap()).collect();
    assert_eq!(places, ["c orders 0/64:1:None", "t orders 0/64:2:Some(1)", "c orders 0/64:4:None"]);
    let (_, position) = run.positions.last().unwrap();
    assert_eq!(position.in_tx, Some(InTx { commit: Lsn(100), next_index: 5 }));
}

#[test]
fn h32_parts_of_a_truncate_are_never_cut_apart() {
    let truncate = xlog_data(50, b"T\0\0\0\x02\0\0\0\0\x01\0\0\0\x02");
    let stream = [relation(1, "a"), relation(2, "b"), begin(100), truncate].concat();
    let mut assembler = from_start(limits(4096, 1));
    let run = run(&mut assembler, &stream, &[], false);
    assert_eq!(run.positions[0].0, 2);
}

#[test]
fn an_event_above_the_limit_is_poison_and_never_held() {
    let large = vec![b'x'; 300_000];
    let stream = [
        relation(1, "unwanted"),
        relation(2, "orders"),
        begin(100),
        insert(2, b"a"),
        insert(2, &large),
        insert(1, &large),
        insert(2, b"b"),
        commit(100, 140),
    ]
    .concat();
    let limits = Limits { max_event: 100_000, ..limits(4096, 100) };
    for piece in [1, 1000, 1 << 20] {
        let run = run(&mut from_start(limits), &stream, &[piece], false);
        assert_eq!(run.entries.len(), 3);
        assert!(
            run.entries[1].ends_with("0/64:1:None tx 9 at 32 - - RT2210"),
            "{}",
            run.entries[1]
        );
        assert!(run.entries[2].starts_with("c orders 0/64:3:None"));
        assert!(run.largest_buffer < 100_000);
    }
}

#[test]
fn a_large_event_gets_a_buffer_of_its_size_and_the_next_a_small_one() {
    let large = vec![b'x'; 300_000];
    let stream =
        [relation(2, "orders"), begin(100), insert(2, b"a"), insert(2, &large), insert(2, b"b")]
            .concat();
    let mut assembler = from_start(limits(4096, 100));
    let run = run(&mut assembler, &stream, &[2000], false);
    assert_eq!(run.entries.len(), 3);
    assert!((300_000..301_000).contains(&run.largest_buffer), "{}", run.largest_buffer);
    assert!(assembler.buffer().capacity() < 5000);
}

#[test]
fn bytes_without_entries_do_not_make_the_buffer_grow() {
    let mut assembler = from_start(limits(4096, 100));
    let stream = keepalive(7, false).repeat(10_000);
    let run = run(&mut assembler, &stream, &[999], false);
    assert_eq!(run.largest_buffer, 4096);
    assert_eq!(assembler.place(), (Lsn(7), None));
}

#[test]
fn what_is_not_understood_ends_the_stream() {
    let bad = [
        insert(2, b"a"),
        [begin(100), insert(2, b"a")].concat(),
        [begin(100), begin(100)].concat(),
        [begin(100), commit(99, 140)].concat(),
        xlog_data(1, b"?"),
        frame(b'd', b"?"),
        frame(b'd', b"w12"),
        frame(b'd', b"k12"),
        frame(b'?', b""),
        b"d\0\0\0\x03".to_vec(),
        [relation(2, "orders"), begin(100), xlog_data(1, b"I\0\0\0\x02N\0\x02nn")].concat(),
    ];
    for stream in bad {
        let mut assembler = from_start(limits(4096, 100));
        assembler.buffer().extend_from_slice(&stream);
        let error = loop {
            match assembler.advance() {
                Ok(Step::Describe(message)) => {
                    let facts = TableFacts::from_relation(&message);
                    let table = build_table("shop", &message, &facts);
                    assembler.learn(message, Arc::new(table));
                }
                Ok(step) => panic!("{step:?} after {stream:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), codes::NOT_UNDERSTOOD);
        assert_eq!(error.class(), rowtide_sdk::Class::Fatal);
    }
}

#[test]
fn a_key_image_is_marked_as_one() {
    let (_, jsonl) = GOLDEN.iter().find(|(name, _)| *name == "pk_change").unwrap();
    let mut assembler = from_start(limits(1 << 16, 1000));
    assembler.buffer().extend(recorded(jsonl));
    let mut kinds = Vec::new();
    while let step @ (Step::Describe(_) | Step::Reply) = assembler.advance().unwrap() {
        let Step::Describe(message) = step else { continue };
        let table = build_table("shop", &message, &TableFacts::from_relation(&message));
        assembler.learn(message, Arc::new(table));
    }
    for entry in &assembler.take(Batch::default()).entries {
        let Entry::Change(change) = entry else { panic!() };
        kinds.extend(change.before.map(|image| (change.op, image.kind)));
    }
    assert!(kinds.contains(&(Op::Update, ImageKind::Key)), "{kinds:?}");
    assert!(kinds.contains(&(Op::Update, ImageKind::Row)), "{kinds:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cuts_give_the_same(golden in 0..GOLDEN.len(), bytes in 1_usize..5000, rows in 1_usize..6,
                              pieces in proptest::collection::vec(1_usize..400, 1..200),
                              flush_always in any::<bool>()) {
        let stream = recorded(GOLDEN[golden].1);
        let whole = run(&mut from_start(limits(1 << 20, 1000)), &stream, &[], false);
        let cut = run(&mut from_start(limits(bytes, rows)), &stream, &pieces, flush_always);
        prop_assert_eq!(cut.entries, whole.entries);
    }

    #[test]
    fn any_bytes_never_panic(stream in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut assembler = from_start(limits(64, 2));
        assembler.buffer().extend_from_slice(&stream);
        for _ in 0..50 {
            match assembler.advance() {
                Ok(Step::Full) => drop(assembler.take(Batch::default())),
                Ok(Step::Describe(message)) => {
                    let table = build_table("x", &message, &TableFacts::from_relation(&message));
                    assembler.learn(message, Arc::new(table));
                }
                Ok(Step::Reply) => {}
                _ => break,
            }
        }
    }
}

/// What a server may do next.
#[derive(Debug, Clone)]
enum Happens {
    /// A transaction with so many changes, alternating between a wanted and an unwanted table.
    Transaction(u8, bool),
    /// A keepalive, and whether log that is not ours was written before it.
    Keepalive(bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0_u8..6, any::<bool>()).prop_map(|(changes, first)| Happens::Transaction(changes, first)),
        any::<bool>().prop_map(Happens::Keepalive),
    ]
}

/// The stream of a session that starts at `from`, and the end of each transaction by its commit LSN.
fn session(log: &[Happens], from: u64) -> (Vec<u8>, HashMap<String, u64>) {
    let mut stream = [relation(1, "unwanted"), relation(2, "orders")].concat();
    let mut ends = HashMap::new();
    let mut lsn = 1000;
    for (number, happening) in log.iter().enumerate() {
        match happening {
            Happens::Transaction(changes, first) => {
                let (commit_lsn, end) = (lsn + 10, lsn + 20);
                // The server leaves out what committed before the session's start.
                if commit_lsn >= from {
                    stream.extend(begin(commit_lsn));
                    for change in 0..*changes {
                        let oid = 1 + u8::from((change % 2 == 0) == *first);
                        stream.extend(insert(oid, format!("{number}.{change}").as_bytes()));
                        // Sent while a transaction is decoded: the end of what came before it.
                        stream.extend(keepalive(lsn, false));
                    }
                    stream.extend(commit(commit_lsn, end));
                }
                ends.insert(Lsn(commit_lsn).to_string(), end);
                lsn = end;
            }
            Happens::Keepalive(other) => {
                lsn += u64::from(*other) * 7;
                stream.extend(keepalive(lsn, false));
            }
        }
    }
    (stream, ends)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is confirmed lies before every change that is still to be handed over, and a restart
    /// at any position brings exactly those.
    #[test]
    fn h10_no_position_is_past_a_change_to_come(log in proptest::collection::vec(happens(), 1..12),
                                            rows in 1_usize..5, piece in 1_usize..300,
                                            flush_always in any::<bool>()) {
        let (stream, ends) = session(&log, 0);
        let first = run(&mut from_start(limits(256, rows)), &stream, &[piece], flush_always);
        for (handed_over, position) in &first.positions {
            for entry in &first.entries[*handed_over..] {
                let commit = entry.split(' ').nth(2).unwrap().split(':').next().unwrap();
                prop_assert!(ends[commit] > position.confirm.0);
            }
            let (again, _) = session(&log, position.confirm.0);
            let progress = Progress::resume(position, "ab");
            let again = run(&mut assembler(limits(256, rows), progress), &again, &[piece], false);
            prop_assert_eq!(&again.entries, &first.entries[*handed_over..]);
        }
    }
}

mod messages;
