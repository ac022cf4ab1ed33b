//! Seeded mutation of a corpus against everything that reads the server's bytes: messages, the
//! streaming protocol's frames, and the text of every type.
//!
//! The corpus is the recorded transcripts (`golden/`) and the type table (`data/`). A moment for each
//! target without settings; `FUZZ_SECONDS=600` runs each for so long, `FUZZ_SEED=n` from another
//! seed. It is not guided by coverage. A failure prints the input in hexadecimal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "test code: a broken assumption must fail the test"
)]

#[path = "types/checker.rs"]
mod checker;
#[path = "types/user_types.rs"]
mod user_types;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rowtide_postgres::decode::{self, Decoding};
use rowtide_postgres::pgoutput::streamed::{AbortForm, control, part};
use rowtide_postgres::pgoutput::{Message, parse};
use rowtide_postgres::replay::{Recorded, replay};
use rowtide_postgres::wire::{Frame, frame_at, server_error};
use rowtide_postgres::{Lsn, catalog::TypeCatalog};
use rowtide_sdk::{Cell, JsonWriter, Limits, Written};

/// A small generator: the same seed gives the same inputs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Pieces that mean something to some reader.
const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"(",
    b")",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b";",
    b"=>",
    b"NULL",
    b"null",
    b"-",
    b"+",
    b".",
    b":",
    b" ",
    b"0",
    b"9",
    b"e5",
    b"\\x",
    b"\\u00",
    b"\\ud800",
    b"\xff",
    b"\xc3\xa9",
    b"\0",
    b"\x01",
    b"\xff\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\x04",
    b" BC",
    b"+00",
    b"infinity",
    b"NaN",
    b"N",
    b"K",
    b"O",
    b"t",
    b"n",
    b"u",
    b"b",
    b"S",
    b"E",
    b"A",
    b"c",
];

/// An input made of one or two of the corpus.
fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = (at + 1 + random.below(8)).min(input.len());
        match random.below(8) {
            0 => drop(input.drain(at.min(end)..end)),
            1 => input.truncate(at),
            2 if at < input.len() => input[at] ^= 1 << random.below(8),
            3 if at < input.len() => input[at] = random.next() as u8,
            4 => {
                let copy = input[at.min(end)..end].to_vec();
                input.splice(at..at, copy);
            }
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend(&other[from..]);
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                input.splice(at..at, piece.iter().copied());
            }
        }
    }
    input
}

/// Runs a target over its corpus and over what becomes of it.
fn fuzz(name: &str, corpus: &[Vec<u8>], target: impl Fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = number("FUZZ_SECONDS").map_or(Duration::from_millis(700), Duration::from_secs);
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let run = |input: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} fails on {hex}");
        }
    };
    corpus.iter().for_each(|input| run(input));
    let (started, mut count) = (Instant::now(), corpus.len());
    while started.elapsed() < time {
        for _ in 0..200 {
            run(&mutated(&mut random, corpus));
        }
        count += 200;
    }
    println!("{name}: {count} inputs from {} in {:?}", corpus.len(), started.elapsed());
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn data(folder: &str) -> Vec<serde_json::Value> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "jsonl") {
            let text = std::fs::read_to_string(path).unwrap();
            lines.extend(text.lines().map(|line| serde_json::from_str(line).unwrap()));
        }
    }
    lines
}

/// Recorded messages, each once.
fn messages() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        data("golden").iter().map(|line| unhex(line["data"].as_str().unwrap())).collect();
    all.sort();
    all.dedup();
    all
}

/// The server's text of every value of the type table, and some more.
fn texts() -> Vec<Vec<u8>> {
    let more = [
        "{}",
        "{{1,2},{3,NULL}}",
        "[0:1]={1,2}",
        "(a,\"b \"\"c\"\"\",)",
        "\"a\"=>\"1\", \"b\"=>NULL",
    ];
    let rows = data("data");
    let texts = rows.iter().filter_map(|row| row["out"].as_str()).filter(|text| text.len() < 2000);
    texts.chain(more).map(|text| text.as_bytes().to_vec()).collect()
}

/// Whatever the bytes: one JSON value of the form, or refused.
fn decodes(decoding: &Decoding, raw: &[u8]) {
    let mut out = JsonWriter::new(b"before".to_vec());
    let Ok(written) = decoding.decode.write(raw, &mut out) else { return };
    let text = String::from_utf8(out.into_inner()).unwrap();
    let json = text.strip_prefix("before").unwrap();
    if written == Written::RawJson {
        assert_eq!(serde_json::from_str::<String>(json).unwrap().as_bytes(), raw);
    } else {
        assert!(checker::is_of_form(&decoding.form, json), "{decoding:?} wrote {json}");
    }
}

fn all_decode(decodings: Vec<Decoding>) -> impl Fn(&[u8]) {
    move |raw| decodings.iter().for_each(|decoding| decodes(decoding, raw))
}

fn resolved(oids: &[u32]) -> Vec<Decoding> {
    let catalog: TypeCatalog = user_types::catalog();
    oids.iter().map(|oid| catalog.resolve(*oid, -1)).collect()
}

#[test]
fn every_built_in_text() {
    let scalars = decode::builtin_scalars().map(|oid| decode::builtin(oid, -1).unwrap());
    fuzz("text of built-in types", &texts(), all_decode(scalars.collect()));
}

#[test]
fn arrays() {
    let arrays = decode::builtin_arrays().map(|oid| decode::builtin(oid, -1).unwrap());
    fuzz("arrays", &texts(), all_decode(arrays.collect()));
}

#[test]
fn composites() {
    use user_types::{ADDR, ADDR_ARRAY, ARRAY_OF_DOMAIN, SMALL_ADDR_ARRAY, WITH_JSON};
    let types = [ADDR, ADDR_ARRAY, ARRAY_OF_DOMAIN, SMALL_ADDR_ARRAY, WITH_JSON];
    fuzz("composites", &texts(), all_decode(resolved(&types)));
}

#[test]
fn ranges_and_extensions() {
    use user_types::{CITEXT, CUBE, FLOAT_RANGE, HSTORE, LTREE, POSINT2};
    let types = [FLOAT_RANGE, 3904, 3906, 3910, 4451, 4534, HSTORE, CITEXT, CUBE, LTREE, POSINT2];
    fuzz("ranges, hstore and other extensions", &texts(), all_decode(resolved(&types)));
}

#[test]
fn hstore() {
    let corpus: Vec<Vec<u8>> =
        texts().into_iter().filter(|text| text.windows(2).any(|pair| pair == b"=>")).collect();
    fuzz("hstore", &corpus, all_decode(resolved(&[user_types::HSTORE])));
}

/// No span reaches past the message, and every value lies behind the one before it.
#[test]
fn pgoutput_messages() {
    fuzz("pgoutput messages", &messages(), |message| {
        for form in [AbortForm::Short, AbortForm::Long] {
            let _control = control(message, form);
        }
        let _part = part(message);
        let Ok(Message::Row(row)) = parse(message) else { return };
        for columns in 0..9 {
            let (mut cells, mut behind) = (Vec::new(), 5);
            let end = u32::try_from(message.len()).unwrap();
            if row.images(columns, end, &mut cells).is_err() {
                continue;
            }
            for cell in &cells {
                let Cell::Value(span) = cell else { continue };
                assert!(span.start >= behind && span.start + span.len <= end);
                behind = span.start + span.len;
            }
        }
    });
}

/// Transcripts of damaged messages: batches or a refusal, and each image inside its batch.
#[test]
fn transcripts() {
    let recorded: Vec<Vec<u8>> = data("golden")
        .chunks(12)
        .map(|lines| {
            let mut all = Vec::new();
            for line in lines {
                let message = unhex(line["data"].as_str().unwrap());
                all.extend(u16::try_from(message.len().min(65_535)).unwrap().to_be_bytes());
                all.extend(message);
            }
            all
        })
        .collect();
    fuzz("transcripts", &recorded, |bytes| {
        let (mut messages, mut rest) = (Vec::new(), bytes);
        while let Some((len, tail)) = rest.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len)).min(tail.len());
            let (message, after) = tail.split_at(len);
            messages.push(Recorded { lsn: Lsn(7), message: message.to_vec() });
            rest = after;
        }
        let Ok(batches) = replay("shop", &messages, None, Limits::default(), 0) else { return };
        for batch in &batches {
            for cell in &batch.cells {
                let Cell::Value(span) = cell else { continue };
                assert!((span.start + span.len) as usize <= batch.bytes.len());
            }
        }
    });
}

/// Frames lie one behind the other and inside what was read; bodies of errors are read as they are.
#[test]
fn frames() {
    let framed = |message: &Vec<u8>| {
        let body = [b"w".as_slice(), &[0; 24], message].concat();
        let len = u32::try_from(body.len() + 4).unwrap();
        [b"d".as_slice(), &len.to_be_bytes(), &body, b"d\0\0\0\x16k", &[0; 17]].concat()
    };
    let corpus: Vec<Vec<u8>> = messages().iter().map(framed).collect();
    fuzz("frames", &corpus, |buffer| {
        let _error = server_error(buffer, "fuzzing");
        let mut at = 0;
        while let Ok(Frame::Complete { body, next, .. }) = frame_at(buffer, at) {
            assert!(body.start >= at + 5 && body.end == next && next <= buffer.len());
            at = next;
        }
    });
}
