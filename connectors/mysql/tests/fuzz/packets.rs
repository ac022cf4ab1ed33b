//! The stream's packets, in pieces as they arrive.

use rowtide_mysql::wire::{Limits, Packet, Packets, Part};

use super::{checks, recorded};
use crate::frame::Target;

pub(crate) fn target() -> Target {
    let stream = |events: &[Vec<u8>]| -> Vec<u8> {
        let mut out = vec![3];
        for (sequence, event) in events.iter().enumerate() {
            let len = u32::try_from(event.len() + 1).unwrap();
            out.extend(&len.to_le_bytes()[..3]);
            out.extend([u8::try_from(sequence).unwrap(), 0]);
            out.extend(event);
        }
        out
    };
    let recorded: Vec<_> = recorded().into_iter().filter(|event| event.len() < 120).collect();
    let mut seeds: Vec<_> = recorded.chunks(3).step_by(9).map(stream).collect();
    seeds.push(b"\x01\x0f\0\0\0\xff\xd4\x04#HY000purged".to_vec());
    seeds.push(b"\x05\x05\0\0\0\xfe\0\0\x02\0".to_vec());
    // Of the check with large events: pieces, then length, flags and what is known of each packet.
    let mut head = vec![0; 20];
    head[10..14].copy_from_slice(&[0, 0, 8, 0]);
    seeds.push([&[9, 0, 8, 1, 20][..], &head, &[1, 0, 0, 1, 0]].concat());
    seeds.push([&[9, 0, 0, 2, 20][..], &head, &[1, 0, 1, 2, 0, 0]].concat());
    Target { checks: checks(&[small, large]), seeds }
}

/// What is found, and the most memory that was held.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Of an event its length and first bytes; of one above the limit what it states, and that it is one.
    all: Vec<(u64, Vec<u8>, bool)>,
    is_refused: bool,
    has_ended: bool,
}

/// So much room is kept for a read and a large event beside what the limit allows.
const ROOM: usize = 2 * 256 * 1024 + 1024 * 1024 + 1024;

fn seen(bytes: &[u8], piece: usize, limits: Limits) -> Seen {
    let mut packets = Packets::new(Vec::new(), 0, limits);
    let (mut seen, mut bytes_given) = (Seen::default(), 0);
    // An event that comes in parts: its length so far, and its first bytes.
    let mut parts = (0, Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        packets.room().extend_from_slice(piece);
        loop {
            match packets.next() {
                Ok(Some(Packet::Event(event))) => {
                    bytes_given += event.len();
                    let head = &event[..event.len().min(24)];
                    seen.all.push((event.len() as u64, head.to_vec(), false));
                }
                Ok(Some(Packet::Oversized { head, size })) => {
                    assert!(size > limits.max_event || size == u64::MAX);
                    bytes_given += head.len();
                    assert!(head.len() <= 64 * 1024);
                    seen.all.push((size, head[..head.len().min(24)].to_vec(), true));
                }
                Ok(Some(Packet::Part(Part::Head(bytes) | Part::Body(bytes)))) => {
                    bytes_given += bytes.len();
                    parts.0 += bytes.len() as u64;
                    parts.1.extend(bytes.iter().take(24 - parts.1.len()));
                }
                Ok(Some(Packet::Part(Part::End))) => {
                    let (size, head) = std::mem::take(&mut parts);
                    seen.all.push((size, head, false));
                }
                Ok(Some(Packet::End)) => {
                    assert!(limits.ends);
                    seen.has_ended = true;
                }
                Ok(None) => break,
                Err(_) => {
                    seen.is_refused = true;
                    break;
                }
            }
            // What is held: a read's room, and an event within the limit.
            let most = usize::try_from(limits.max_event).unwrap() + piece.len();
            assert!(packets.held() <= most + ROOM, "{} bytes are held", packets.held());
        }
        if seen.is_refused {
            break;
        }
    }
    assert!(bytes_given <= bytes.len(), "no more comes out than went in");
    seen
}

/// Pieces of any length give the same.
fn small(input: &[u8]) {
    let Some((&piece, bytes)) = input.split_first() else { return };
    for (max_event, ends) in [(1 << 20, true), (30, false)] {
        let limits = Limits { max_event, ends };
        let whole = seen(bytes, usize::MAX, limits);
        assert_eq!(seen(bytes, piece.into(), limits), whole);
        assert!(whole.all.len() <= bytes.len() / 4);
    }
}

/// Packets of the lengths that inputs state, filled up with zeroes: events over several packets, and
/// above the limit.
fn large(input: &[u8]) {
    const FULL: usize = 0x00ff_ffff;
    const MOST: usize = 17 << 20;
    let Some((&piece, mut rest)) = input.split_first() else { return };
    let (mut bytes, mut sequence) = (Vec::new(), 0u8);
    while let Some((&[low, high, how, known], behind)) = rest.split_first_chunk::<4>() {
        let (known, behind) = behind.split_at(behind.len().min(known.into()));
        rest = behind;
        let len = usize::from(u16::from_le_bytes([low, high]));
        let len = match how % 4 {
            0 => len,
            1 => len * 256,
            2 => FULL,
            _ => FULL - 1,
        };
        if bytes.len() + len > MOST {
            break;
        }
        bytes.extend(&u32::try_from(len).unwrap().to_le_bytes()[..3]);
        bytes.push(sequence);
        sequence = sequence.wrapping_add(1);
        let end = bytes.len() + len;
        bytes.extend_from_slice(&known[..known.len().min(len)]);
        bytes.resize(end, 0);
    }
    let piece = 100_000 + usize::from(piece) * 1000;
    for max_event in [300_000, 20 << 20] {
        let limits = Limits { max_event, ends: true };
        let first = seen(&bytes, piece, limits);
        if bytes.len() < 1 << 20 {
            assert_eq!(seen(&bytes, 17_000, limits), first);
        }
    }
}
