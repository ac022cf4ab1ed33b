//! What is fuzzed: all that reads the server's bytes, what holds whatever the bytes, and inputs to
//! begin with, made of the recorded transcripts (`golden/`) and the type table (`data/`).

#[allow(dead_code, reason = "other tests use the other types")]
#[path = "../types/user_types.rs"]
mod user_types;

use std::collections::BTreeMap;
use std::path::Path;

use rowtide_postgres::decode::{self, Decoding};
use rowtide_postgres::pgoutput::streamed::{AbortForm, control, part};
use rowtide_postgres::pgoutput::{Message, parse};
use rowtide_postgres::replay::{Recorded, replay};
use rowtide_postgres::wire::{Frame, frame_at, server_error, stream_notice};
use rowtide_postgres::{Lsn, MessageSelection};
use rowtide_sdk::{Cell, JsonWriter, Limits, Written};

use crate::checker;
use crate::frame::{Check, ROOT, Target, lines, unhex};

/// The target of a name. `tests/fuzz/run.sh` lists them, `fuzz.rs` has a test of each.
pub(crate) fn target(name: &str) -> Target {
    use user_types::{ADDR, ADDR_ARRAY, ARRAY_OF_DOMAIN, SMALL_ADDR_ARRAY, WITH_JSON};
    use user_types::{CITEXT, CUBE, FLOAT_RANGE, HSTORE, LTREE, POSINT2};
    let catalog = user_types::catalog();
    let resolved =
        |oids: &[u32]| decoders(oids.iter().map(|oid| catalog.resolve(*oid, -1)).collect());
    match name {
        "pgoutput" => Target::new(pgoutput, messages()),
        "transcripts" => Target::new(transcript, transcripts().map(joined).collect()),
        "frames" => {
            let mut seeds: Vec<_> = messages().iter().map(|message| framed(message)).collect();
            seeds.push(REFUSAL.to_vec());
            Target::new(frames, seeds)
        }
        "texts" => {
            let scalars = decode::builtin_scalars().map(|oid| decode::builtin(oid, -1).unwrap());
            decoders(scalars.chain(decode::builtin(1043, 8 + 4)).collect())
        }
        "arrays" => decoders(
            decode::builtin_arrays().map(|oid| decode::builtin(oid, -1).unwrap()).collect(),
        ),
        "composites" => resolved(&[ADDR, ADDR_ARRAY, ARRAY_OF_DOMAIN, SMALL_ADDR_ARRAY, WITH_JSON]),
        "ranges" => {
            let ranges = [3904, 3906, 3910, 4451, 4534, FLOAT_RANGE];
            resolved(&[&ranges[..], &[CITEXT, CUBE, LTREE, POSINT2]].concat())
        }
        "hstore" => {
            let Target { checks, mut seeds } = resolved(&[HSTORE]);
            seeds.retain(|text| text.is_empty() || text.windows(2).any(|pair| pair == b"=>"));
            Target { checks, seeds }
        }
        "binary" => {
            let oids = decode::builtin_scalars().chain([1007, 1009, 1020]);
            let user = [FLOAT_RANGE, HSTORE, CITEXT, LTREE, ADDR, ADDR_ARRAY, ARRAY_OF_DOMAIN];
            let all: Vec<_> = oids.chain(user).map(|oid| catalog.resolve(oid, -1)).collect();
            let all = all.into_iter().filter(Decoding::has_binary);
            let check = |decoding| -> Check { Box::new(move |raw| has_text(&decoding, raw)) };
            Target { checks: all.map(check).collect(), seeds: binary_values() }
        }
        _ => panic!("no fuzz target {name}"),
    }
}

/// Each way to decode once: types that share form and decoder count as one.
fn decoders(decodings: Vec<Decoding>) -> Target {
    let each: BTreeMap<String, Decoding> =
        decodings.into_iter().map(|decoding| (format!("{decoding:?}"), decoding)).collect();
    let check = |decoding| -> Check { Box::new(move |raw| decodes(&decoding, raw)) };
    Target { checks: each.into_values().map(check).collect(), seeds: texts() }
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

/// Whatever the bytes: text, and what holds of the server's, or refused.
fn has_text(decoding: &Decoding, raw: &[u8]) {
    let Some(text) = decoding.text_of(raw) else { return };
    decodes(decoding, &text);
}

/// No span reaches past the message, and every value lies behind the one before it.
fn pgoutput(message: &[u8]) {
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
}

/// Batches or a refusal, and each value inside its batch: with and without messages of applications,
/// and with limits that every larger transcript meets.
fn transcript(bytes: &[u8]) {
    let (mut messages, mut rest) = (Vec::new(), bytes);
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let (message, after) = tail.split_at(tail.len().min(u16::from_be_bytes(*len).into()));
        messages.push(Recorded { lsn: Lsn(7), message: message.to_vec() });
        rest = after;
    }
    let logical: MessageSelection = serde_json::from_str("{}").unwrap();
    let tight = Limits { batch_bytes: 512, batch_rows: 4, max_event: 256, ..Limits::default() };
    for (logical, limits) in [(None, Limits::default()), (Some(&logical), tight)] {
        let Ok(batches) = replay("shop", &messages, logical, limits, 0) else { continue };
        for batch in &batches {
            for cell in &batch.cells {
                let Cell::Value(span) = cell else { continue };
                assert!((span.start + span.len) as usize <= batch.bytes.len());
            }
        }
    }
}

/// Frames lie one behind the other and inside what was read; bodies of errors are read as they are.
fn frames(buffer: &[u8]) {
    let _error = server_error(buffer, "fuzzing");
    let _notice = stream_notice(buffer);
    let mut at = 0;
    while let Ok(Frame::Complete { body, next, .. }) = frame_at(buffer, at) {
        assert!(body.start >= at + 5 && body.end == next && next <= buffer.len());
        at = next;
    }
}

/// The body of an ErrorResponse.
const REFUSAL: &[u8] = b"SERROR\0VERROR\0C42704\0Mpublication \"p\" does not exist\0\
    Wslot \"s\", output plugin \"pgoutput\", in the change callback\0Fp.c\0L1\0Rget_publication\0\0";

/// The lines of every file of a folder, file by file.
fn data(folder: &str) -> Vec<Vec<serde_json::Value>> {
    let folder = Path::new(ROOT).join("connectors/postgres/tests").join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    files.map(|path| lines(&path)).collect()
}

/// The server's text of every value of the type table, and some more.
fn texts() -> Vec<Vec<u8>> {
    let more = [
        "",
        "{}",
        "{{1,2},{3,NULL}}",
        "[0:1]={1,2}",
        "(a,\"b \"\"c\"\"\",)",
        "\"a\"=>\"1\", \"b\"=>NULL",
    ];
    let rows = data("data").concat();
    let texts = rows.iter().filter_map(|row| row["out"].as_str()).filter(|text| text.len() < 2000);
    texts.chain(more).map(|text| text.as_bytes().to_vec()).collect()
}

/// Values in binary, each the shape of several types: numbers of every width, values behind their
/// lengths, a range, and arrays.
fn binary_values() -> Vec<Vec<u8>> {
    let numbers = [0u8, 1, 2, 4, 6, 8, 12, 13, 16, 24, 32].map(|width| vec![1; usize::from(width)]);
    let values = [
        // The numeric -12345.67, an inet, a path of one point, and versions before text.
        "0003000140000002000109291a2c",
        "02200004c0a80105",
        "01000000013ff00000000000004000000000000000",
        "017b7d",
        // A range of int4, [1,5), and one without an upper bound.
        "02000000040000000100000004 00000005",
        "1200000004 00000001",
        "0000000100000011 02 00000004 00000001 00000004 00000005",
        // Arrays of int4: {1,NULL}, [0:1][1:1], and of text: {ab}.
        "00000001 00000001 00000017 00000002 00000001 00000004 00000001 ffffffff",
        "00000002 00000000 00000017 00000002 00000000 00000001 00000001 \
         00000004 00000001 00000004 00000002",
        "00000001 00000000 00000019 00000001 00000001 00000002 6162",
        // A composite of two texts and an int4, an hstore, a tsvector.
        "00000003 00000019 00000001 78 00000019 ffffffff 00000017 00000004 00000007",
        "00000002 00000001 61 00000001 62 00000001 63 ffffffff",
        "00000001 63617400 0002 c001 0003",
    ];
    let unspaced = values.map(|hex| unhex(&hex.replace(char::is_whitespace, "")));
    numbers.into_iter().chain(unspaced).collect()
}

/// Recorded transcripts without their longest messages, as the server sends them by protocol 1, and
/// with their transactions streamed.
fn transcripts() -> impl Iterator<Item = Vec<Vec<u8>>> {
    let bytes = |line: serde_json::Value| unhex(line["data"].as_str().unwrap());
    let recorded = data("golden").into_iter().map(move |lines| -> Vec<_> {
        lines.into_iter().map(bytes).filter(|message| message.len() < 700).collect()
    });
    recorded.flat_map(|transcript| [streamed(&transcript), transcript])
}

/// Each transaction as one streamed segment and its commit.
fn streamed(transcript: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut begin = None;
    let mut out = Vec::new();
    for message in transcript {
        match (message[0], begin) {
            (b'B', _) => {
                let (time, xid) = message[9..].split_at(8);
                begin = Some((time, xid));
                out.push([b"S", xid, b"\x01"].concat());
            }
            (b'C', Some((time, xid))) => {
                begin = None;
                out.push(b"E".to_vec());
                out.push([b"c", xid, &message[1..18], time].concat());
            }
            (b'O', _) | (_, None) => out.push(message.clone()),
            (tag, Some((_, xid))) => out.push([&[tag], xid, &message[1..]].concat()),
        }
    }
    out
}

/// The messages of all transcripts, each once.
fn messages() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = transcripts().flatten().collect();
    all.sort();
    all.dedup();
    all
}

/// A transcript as one input: each message behind its length.
fn joined(transcript: Vec<Vec<u8>>) -> Vec<u8> {
    let with_len = |message: Vec<u8>| {
        let len = u16::try_from(message.len()).unwrap();
        [&len.to_be_bytes()[..], &message].concat()
    };
    transcript.into_iter().flat_map(with_len).collect()
}

/// A message in the frames of the replication stream, and a keepalive behind it.
fn framed(message: &[u8]) -> Vec<u8> {
    let body = [b"w".as_slice(), &[0; 24], message].concat();
    let len = u32::try_from(body.len() + 4).unwrap();
    [b"d".as_slice(), &len.to_be_bytes(), &body, b"d\0\0\0\x16k", &[0; 17]].concat()
}
