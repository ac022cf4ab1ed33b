//! What servers pack: whole transactions, row events and statements.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rowtide_mysql::binlog::compressed::{
    Inner, Payload, Unpacked, plain_kind, unpack, unpack_start,
};
use rowtide_mysql::binlog::event::{HEADER, Header, kind};

use super::{bodies, checks, recorded};
use crate::frame::Target;

pub(crate) fn target() -> Target {
    let packed = bodies()
        .filter(|(event, _)| *event == kind::TRANSACTION_PAYLOAD || plain_kind(*event).is_some());
    // The packed as they are, and others to be packed by the checks.
    let seeds = packed.map(|(event, body)| [&[event], body.as_slice()].concat());
    let plain = recorded().into_iter().filter(|event| event.len() < 300).step_by(7);
    Target { checks: checks(&[raw, payload, single]), seeds: seeds.chain(plain).collect() }
}

/// The limit of an event in these checks.
const MAX: usize = 4096;

/// The events of a payload, or how far it is understood.
fn taken(body: &[u8], max: usize) -> Result<Vec<Vec<u8>>, Vec<Vec<u8>>> {
    let mut all = Vec::new();
    let Ok((mut payload, head)) = Payload::parse(body, body.len() as u64) else { return Err(all) };
    let mut rest = &body[head..];
    loop {
        match payload.next_event(&mut rest, max) {
            Ok(Inner::Event(header, event)) => {
                assert!(event.len() == header.size as usize && event.len() <= max);
                assert_eq!(Header::parse(event), Ok(header));
                all.push(event.to_vec());
            }
            Ok(Inner::End) => return Ok(all),
            Ok(Inner::Oversized(header, _)) => {
                assert!(header.size as usize > max);
                return Err(all);
            }
            Ok(Inner::NeedsMore) | Err(_) => return Err(all),
        }
    }
}

/// Any bytes: no event is above the limit, nor anything unpacked beyond it.
fn raw(input: &[u8]) {
    let Some((&event, body)) = input.split_first() else { return };
    let _events = taken(body, MAX);
    for event in [event, kind::MARIADB_QUERY_COMPRESSED, kind::MARIADB_UPDATE_ROWS_COMPRESSED_V1] {
        for max in [0, 16, MAX] {
            let mut out = b"before".to_vec();
            let unpacked = unpack(event, body, max, &mut out);
            assert!(out.starts_with(b"before") && out.len() <= 6 + body.len() + max + 1);
            assert!(unpacked.is_ok() || plain_kind(event).is_some() || out.len() == 6);
        }
    }
}

/// A field of a payload's head.
fn field(out: &mut Vec<u8>, number: u8, value: usize) {
    let value = u32::try_from(value).unwrap();
    let mut coded = vec![254];
    coded.extend(u64::from(value).to_le_bytes());
    out.extend([number, 9]);
    out.extend(coded);
}

/// The body of a TRANSACTION_PAYLOAD event.
fn packed(plain: &[u8], is_zstd: bool, frames: usize) -> Vec<u8> {
    let mut content = Vec::new();
    if is_zstd {
        for part in plain.chunks((plain.len() / frames).max(1)) {
            content.extend(zstd::encode_all(part, 1).unwrap());
        }
    } else {
        content.extend(plain);
    }
    let mut out = Vec::new();
    field(&mut out, 2, if is_zstd { 0 } else { 255 });
    field(&mut out, 3, plain.len());
    field(&mut out, 1, content.len());
    out.push(0);
    out.extend(content);
    out
}

/// The events that bytes are, one behind the other; an error is what is no event behind some.
fn cut(plain: &[u8]) -> Result<Vec<Vec<u8>>, Vec<Vec<u8>>> {
    let (mut all, mut rest) = (Vec::new(), plain);
    while !rest.is_empty() {
        let size = Header::parse(rest).map_or(usize::MAX, |header| header.size as usize);
        if size > MAX || size > rest.len() {
            return Err(all);
        }
        let (event, behind) = rest.split_at(size);
        all.push(event.to_vec());
        rest = behind;
    }
    Ok(all)
}

/// Packed by ourselves: exactly the events that went in, however they were packed.
fn payload(input: &[u8]) {
    let mut plain = input.to_vec();
    if plain.len() >= HEADER && plain[0] & 1 == 0 {
        // Of most inputs one event, the second time as it is.
        let size = u32::try_from(plain.len()).unwrap();
        plain[9..13].copy_from_slice(&size.to_le_bytes());
        plain.extend_from_slice(&plain.clone());
    }
    let expected = cut(&plain);
    for (is_zstd, frames) in [(true, 1), (true, 3), (false, 1)] {
        let body = packed(&plain, is_zstd, frames);
        if plain.is_empty() && is_zstd {
            continue;
        }
        assert_eq!(taken(&body, MAX), expected, "zstd: {is_zstd}, frames: {frames}");
    }
}

/// The body of an event of MariaDB, packed behind so many bytes.
fn packed_single(head: &[u8], content: &[u8], stated: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    let length = u32::try_from(stated).unwrap().to_be_bytes();
    [head, &[0x84], &length, &encoder.finish().unwrap()].concat()
}

/// Packed by ourselves: the plain event, within the limit alone, and nothing of another length.
fn single(input: &[u8]) {
    let (head, content) = input.split_at(input.len().min(8));
    let write = [head, &[0; 8][head.len()..], &[1, 1]].concat();
    let event = kind::MARIADB_WRITE_ROWS_COMPRESSED_V1;
    let body = packed_single(&write, content, content.len());
    let mut out = b"before".to_vec();
    assert_eq!(unpack(event, &body, content.len(), &mut out), Ok(Unpacked::Whole));
    assert_eq!(out, [b"before", write.as_slice(), content].concat());
    for stated in [content.len() + 1, content.len().saturating_sub(1)] {
        if stated != content.len() {
            let body = packed_single(&write, content, stated);
            let unpacked = unpack(event, &body, MAX, &mut Vec::new());
            assert!(unpacked.is_err() || unpacked == Ok(Unpacked::TooLarge(stated)));
        }
    }
    if !content.is_empty() {
        let (too_large, mut out) = (Unpacked::TooLarge(content.len()), Vec::new());
        assert_eq!(unpack(event, &body, content.len() - 1, &mut out), Ok(too_large));
        assert!(out.is_empty());
        let most = content.len() / 2;
        unpack_start(event, &body, most, &mut out);
        assert_eq!(out, [write.as_slice(), &content[..most]].concat());
    }
}
