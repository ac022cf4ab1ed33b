//! Messages of applications, notes and origins.

use super::streamed::{inside, spooling, start, stop, stream_commit};
use super::*;

/// Has the assembler take messages.
fn with_messages(assembler: Assembler, selection: &str) -> Assembler {
    let selection: crate::config::MessageSelection = serde_json::from_str(selection).unwrap();
    let filter = selection.filter().unwrap();
    assembler.with_messages(Some(MessageRules::new(filter, selection.annotations, "shop")))
}

fn message(lsn: u64, transactional: bool, prefix: &str, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head = [b"M", &[u8::from(transactional)][..], &lsn.to_be_bytes()].concat();
    xlog_data(lsn, &[&head[..], prefix.as_bytes(), b"\0", &len, content].concat())
}

/// Recorded from a server: inside and outside transactions, of transactions without changes, of one
/// that was rolled back.
#[test]
fn h42_messages_stand_inside_and_outside_transactions() {
    let jsonl = GOLDEN[3].1;
    assert_eq!(GOLDEN[3].0, "logical_message");
    let stream = recorded(jsonl);
    let mut assembler = with_messages(from_start(limits(1 << 16, 1000)), "{}");
    let with = run(&mut assembler, &stream, &[], false);
    let without = run(&mut from_start(limits(1 << 16, 1000)), &stream, &[], false);
    let outside: Vec<&String> = with.entries.iter().filter(|e| e.contains("tx \"\"")).collect();
    assert_eq!(outside.len(), 3, "{:#?}", with.entries);
    let short = |entries: &[String]| -> Vec<String> {
        let short = |entry: &String| {
            let mut words = entry.split(' ');
            let (op, name) = (words.next().unwrap(), words.next().unwrap());
            let index = words.next().unwrap().split(':').nth(1).unwrap();
            format!("{op} {name} {index}")
        };
        entries.iter().map(short).collect()
    };
    let expected = [
        "m pfx 0",
        "m pfx2 0",
        "m nontx-in-tx 0",
        "c m 0",
        "m in-tx 1",
        "c m 2",
        "m  0",
        "m rolled-nontx 0",
    ];
    assert_eq!(short(&with.entries), expected);
    // Those who did not ask for them have the numbers they always had.
    assert_eq!(short(&without.entries), ["c m 0", "c m 1"]);
}

#[test]
fn h42_every_position_between_messages_resumes_with_the_next_entry() {
    let stream = [
        relation(2, "orders"),
        message(50, false, "a", b"1"),
        begin(100),
        message(60, true, "a", b"2"),
        insert(2, b"x"),
        message(70, true, "rowtide.annotation", b"{\"n\":1}"),
        insert(2, b"y"),
        message(80, true, "left.out", b"3"),
        message(90, true, "a", b"\xff"),
        commit(100, 140),
        message(150, false, "a", b"4"),
        keepalive(151, false),
        message(160, false, "rowtide.heartbeat", b""),
        message(170, false, "a", b"{\"k\": 5}"),
        begin(170),
        insert(2, b"z"),
        commit(170, 240),
    ]
    .concat();
    let rules = r#"{ "exclude": ["left*"] }"#;
    let first = run(&mut with_messages(from_start(limits(64, 1)), rules), &stream, &[], true);
    let note = " [{\"n\":1}]";
    let expected = [
        "m a 0/32:0 tx \"\" at 32 text \"1\"".to_owned(),
        "m a 0/64:0 tx \"9\" at 3C text \"2\"".to_owned(),
        "c orders 0/64:1:None tx 9 at 32 - Row(\"x\")".to_owned(),
        format!("c orders 0/64:3:None tx 9 at 32 - Row(\"y\"){note}"),
        "m a 0/64:5 tx \"9\" at 5A base64 \"/w==\"".to_owned(),
        "m a 0/96:0 tx \"\" at 96 text \"4\"".to_owned(),
        "m a 0/AA:0 tx \"\" at AA json {\"k\":5}".to_owned(),
        "c orders 0/AA:0:None tx 9 at 32 - Row(\"z\")".to_owned(),
    ];
    assert_eq!(first.entries, expected);
    for (handed_over, position) in &first.positions {
        let progress = Progress::resume(position, "ab");
        let mut again = with_messages(assembler(limits(256, 3), progress), rules);
        let again = run(&mut again, &stream, &[100], false);
        assert_eq!(again.entries, first.entries[*handed_over..], "from {position:?}");
    }
}

#[test]
fn h43_an_origin_ends_with_its_transaction() {
    let origin = xlog_data(0, b"O\0\0\0\0\0\0\0\x63site_b\0");
    let stream = [
        relation(2, "orders"),
        begin(100),
        origin,
        insert(2, b"x"),
        insert(2, b"y"),
        commit(100, 140),
        begin(200),
        insert(2, b"z"),
        commit(200, 240),
    ]
    .concat();
    for rows in [1, 100] {
        let run = run(&mut from_start(limits(4096, rows)), &stream, &[], false);
        let has: Vec<bool> = run.entries.iter().map(|e| e.ends_with(" [site_b]")).collect();
        assert_eq!(has, [true, true, false], "{:?}", run.entries);
    }
}

#[test]
fn a_wanted_message_above_the_limit_stops_and_others_pass_unheld() {
    let large = vec![b'x'; 300_000];
    let limits = Limits { max_event: 100_000, ..limits(4096, 100) };
    let stream = |prefix: &str| {
        let large = message(60, true, prefix, &large);
        [relation(2, "orders"), begin(100), large, insert(2, b"x"), commit(100, 140)].concat()
    };
    let rules = r#"{ "exclude": ["left*"] }"#;
    for prefix in ["left.out", "rowtide.annotation"] {
        for piece in [1, 1000] {
            let mut assembler = with_messages(from_start(limits), rules);
            let run = run(&mut assembler, &stream(prefix), &[piece], false);
            assert_eq!(run.entries, ["c orders 0/64:1:None tx 9 at 32 - Row(\"x\")"]);
            assert!(run.largest_buffer < 200_000, "{}", run.largest_buffer);
        }
    }
    for prefix in ["wanted", &"p".repeat(2000)] {
        let mut assembler = with_messages(from_start(limits), rules);
        assembler.buffer().extend(stream(prefix));
        let error = loop {
            match assembler.advance() {
                Ok(Step::Describe(message)) => {
                    let table = build_table("shop", &message, &TableFacts::from_relation(&message));
                    assembler.learn(message, Arc::new(table));
                }
                Ok(step) => panic!("{step:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), codes::MESSAGE_TOO_LARGE);
        assert_eq!(error.class(), rowtide_sdk::Class::Poison);
    }
}

/// Messages, notes and the origin of a transaction that is streamed before it is complete are what
/// they are where it is sent whole; one outside transactions may come between its segments.
#[test]
fn h42_messages_of_a_streamed_transaction_are_the_same() {
    let origin = xlog_data(0, b"O\0\0\0\0\0\0\0\x63site_b\0");
    let outside = message(65, false, "a", b"outside");
    let changes = [
        message(60, true, "a", b"1"),
        insert(2, b"x"),
        message(70, true, "rowtide.annotation", b"{\"n\":1}"),
        message(75, true, "left.out", &vec![b'x'; 200_000]),
        message(80, true, "rowtide.annotation", &vec![b'x'; 200_000]),
        insert(2, b"y"),
    ];
    let plain = [
        vec![relation(2, "orders"), outside.clone(), begin(100), origin.clone()],
        changes.to_vec(),
        vec![commit(100, 140)],
    ];
    let parts: Vec<Vec<u8>> = changes.iter().map(|frame| inside(9, frame)).collect();
    let (first, second) = parts.split_at(2);
    let streamed = [
        vec![start(9, true), origin, inside(9, &relation(2, "orders"))],
        first.to_vec(),
        vec![stop(), outside, start(9, false)],
        second.to_vec(),
        vec![stop(), stream_commit(9, 100, 140)],
    ];
    let rules = r#"{ "exclude": ["left*"] }"#;
    let limits = |memory| Limits { max_event: 100_000, ..spooling(4096, 1, memory) };
    let mut sent_whole = with_messages(from_start(limits(1 << 20)), rules);
    let expected = run(&mut sent_whole, &plain.concat().concat(), &[], false);
    assert_eq!(expected.entries.len(), 4, "{:#?}", expected.entries);
    assert!(expected.entries[3].ends_with("[site_b] [{\"n\":1}]"), "{:?}", expected.entries);
    let stream = streamed.concat().concat();
    for (piece, memory) in [(1, 1 << 20), (1000, 0), (1 << 20, 1 << 20)] {
        let mut streaming = with_messages(from_start(limits(memory)), rules);
        let got = run(&mut streaming, &stream, &[piece], false);
        assert_eq!(got.entries, expected.entries);
        assert_eq!(got.positions.last(), expected.positions.last());
        for (handed_over, position) in got.positions {
            let progress = Progress::resume(&position, "ab");
            let mut again = with_messages(assembler(limits(memory), progress), rules);
            let again = run(&mut again, &stream, &[100], false);
            assert_eq!(again.entries, expected.entries[handed_over..], "from {position:?}");
        }
    }
}

#[test]
fn a_wanted_message_above_the_limit_stops_when_streamed_too() {
    let large = message(60, true, "wanted", &vec![b'x'; 300_000]);
    let stream = [start(9, true), inside(9, &large), stop(), stream_commit(9, 100, 140)].concat();
    let limits = Limits { max_event: 100_000, ..spooling(4096, 100, 1 << 20) };
    let mut assembler = with_messages(from_start(limits), "{}");
    assembler.buffer().extend(stream);
    let error = loop {
        if let Err(error) = assembler.advance() {
            break error;
        }
    };
    assert_eq!(error.code(), codes::MESSAGE_TOO_LARGE);
}
