//! Packets that are made up, arriving in pieces of any length.

use proptest::prelude::*;
use rowtide_sdk::Class;

use super::*;

/// An event of a length that it states.
fn event(length: usize) -> Vec<u8> {
    let mut event: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let stated = u32::try_from(length).unwrap().to_le_bytes();
    if let Some(size) = event.get_mut(9..13) {
        size.copy_from_slice(&stated);
    }
    event
}

/// As the server sends it: an OK byte before it, in packets of at most 16 MiB less one.
fn sent(payload: &[u8], sequence: &mut u8, out: &mut Vec<u8>) {
    let mut rest = payload;
    loop {
        let (piece, behind) = rest.split_at(rest.len().min(PACKET_FULL));
        out.extend(&u32::try_from(piece.len()).unwrap().to_le_bytes()[..3]);
        out.push(*sequence);
        out.extend(piece);
        *sequence = sequence.wrapping_add(1);
        rest = behind;
        if piece.len() < PACKET_FULL {
            return;
        }
    }
}

fn log(events: &[Vec<u8>]) -> Vec<u8> {
    let (mut sequence, mut out) = (1, Vec::new());
    for event in events {
        sent(&[&[0], event.as_slice()].concat(), &mut sequence, &mut out);
    }
    sent(b"\xfe\0\0\x02\0", &mut sequence, &mut out);
    out
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Event(Vec<u8>),
    Oversized(Vec<u8>, u64),
    Part(Option<Vec<u8>>),
    End,
}

/// Everything found in bytes that arrive in such pieces; the most memory that was held.
fn seen(bytes: &[u8], piece: usize, max_event: u64) -> Result<(Vec<Seen>, usize)> {
    let mut packets = Packets::new(Vec::new(), 1, Limits { max_event, ends: true });
    let (mut all, mut most) = (Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        packets.room().extend_from_slice(piece);
        while let Some(packet) = packets.next()? {
            all.push(match packet {
                Packet::Event(event) => Seen::Event(event.to_vec()),
                Packet::Oversized { head, size } => Seen::Oversized(head.to_vec(), size),
                Packet::Part(part) => Seen::Part(match part {
                    Part::Head(head) => Some(head.to_vec()),
                    Part::Body(body) => Some(body.to_vec()),
                    Part::End => None,
                }),
                Packet::End => Seen::End,
            });
        }
        most = most.max(packets.held());
    }
    Ok((all, most))
}

#[test]
fn m26_an_event_over_several_packets_is_joined() {
    let full = PACKET_FULL - 1;
    for length in [full - 1, full, full + 1, 2 * PACKET_FULL - 1, 40_000_000] {
        let events = [event(30), event(length), event(31)];
        let (all, most) = seen(&log(&events), 200_000, u64::MAX).unwrap();
        let mut expected: Vec<Seen> = events.into_iter().map(Seen::Event).collect();
        expected.push(Seen::End);
        assert!(all == expected, "{length}");
        assert!(most < length + 2 * READ_SIZE, "{most} bytes for an event of {length}");
    }
}

#[test]
fn m26_an_event_above_the_limit_is_told_once_and_never_held() {
    for length in [300_000, PACKET_FULL - 1, PACKET_FULL, 40_000_000] {
        let events = [event(30), event(length), event(31)];
        let (all, most) = seen(&log(&events), 100_000, 200_000).unwrap();
        let oversized = Seen::Oversized(event(length)[..HEAD].to_vec(), length as u64);
        let expected = [Seen::Event(event(30)), oversized, Seen::Event(event(31)), Seen::End];
        assert!(all == expected, "{length}");
        assert!(most < 3 * READ_SIZE, "{most} bytes for an event of {length}");
    }
    let (all, _) = seen(&log(&[event(101), event(100)]), 1000, 100).unwrap();
    let oversized = Seen::Oversized(event(101), 101);
    assert_eq!(all, [oversized, Seen::Event(event(100)), Seen::End]);
}

/// A packed transaction of a length.
fn packed(length: usize) -> Vec<u8> {
    let mut event = event(length);
    event[4] = kind::TRANSACTION_PAYLOAD;
    event
}

#[test]
fn m5_m26_a_packed_transaction_comes_in_parts_and_is_never_held() {
    for length in [READ_SIZE, PACKET_FULL - 1, PACKET_FULL, 2 * PACKET_FULL - 1] {
        let events = [event(30), packed(length), event(31)];
        for piece in [70_001, 200_000] {
            let (all, most) = seen(&log(&events), piece, 300_000).unwrap();
            let (first, rest) = all.split_first().unwrap();
            let (last, parts) =
                rest.split_last_chunk::<2>().map(|(parts, last)| (last, parts)).unwrap();
            assert_eq!(
                (first, last),
                (&Seen::Event(event(30)), &[Seen::Event(event(31)), Seen::End])
            );
            let mut whole: Vec<u8> = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                let Seen::Part(bytes) = part else { panic!("no part") };
                assert_eq!(bytes.is_none(), at + 1 == parts.len());
                assert!(at != 0 || bytes.as_ref().is_some_and(|head| head.len() == EVENT_HEADER));
                whole.extend(bytes.iter().flatten());
            }
            assert!(whole == packed(length), "{length}");
            assert!(most < 3 * READ_SIZE, "{most} bytes for an event of {length}");
        }
    }
    // A small one is handed out where it lies.
    let (all, _) = seen(&log(&[packed(200_000)]), 50_000, u64::MAX).unwrap();
    assert_eq!(all, [Seen::Event(packed(200_000)), Seen::End]);
}

#[test]
fn what_is_not_the_protocol_is_refused() {
    for stated in [18_u32, 299_999, 300_001, 500_000] {
        let mut other = log(&[packed(300_000)]);
        other[4 + SIZE_AT..][..4].copy_from_slice(&stated.to_le_bytes());
        let error = seen(&other, 50_000, u64::MAX).unwrap_err();
        assert_eq!((error.code().0, error.class()), ("RT2615", Class::Fatal), "{stated}");
    }
    let mut wrong_number = log(&[event(30), event(30)]);
    wrong_number[30 + 1 + 4 + 3] = 7;
    let mut longer = log(&[event(400_000)]);
    longer[4 + SIZE_AT..][..4].copy_from_slice(&300_000_u32.to_le_bytes());
    let odd = b"\x01\0\0\x01\x05".to_vec();
    let large_odd = [&b"\xff\xff\xff\x01\x05"[..], &[0; 100]].concat();
    for bytes in [wrong_number, longer, odd, large_odd] {
        let error = seen(&bytes, 50_000, u64::MAX).unwrap_err();
        assert_eq!((error.code().0, error.class()), ("RT2615", Class::Fatal));
    }
    let refused = b"\x0f\0\0\x01\xff\xd4\x04#HY000purged".to_vec();
    assert_eq!(seen(&refused, 3, u64::MAX).unwrap_err().code().0, "RT2649");
}

#[test]
fn an_end_that_was_not_asked_for_is_transient() {
    let mut packets = Packets::new(log(&[]), 1, Limits { max_event: 1, ends: false });
    let error = packets.next().unwrap_err();
    assert_eq!((error.code().0, error.class()), ("RT2614", Class::Transient));
}

proptest! {
    #[test]
    fn pieces_of_any_length_give_the_same(
        lengths in proptest::collection::vec(13_usize..400_000, 1..6),
        piece in 1_usize..300_000,
    ) {
        let events: Vec<Vec<u8>> = lengths.into_iter().map(event).collect();
        let bytes = log(&events);
        let piece = piece.max(bytes.len() / 5000 + 1);
        let (all, _) = seen(&bytes, piece, u64::MAX).unwrap();
        let mut expected: Vec<Seen> = events.into_iter().map(Seen::Event).collect();
        expected.push(Seen::End);
        prop_assert!(all == expected);
    }

    #[test]
    fn nothing_panics_and_memory_is_bounded(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        piece in 1_usize..500,
    ) {
        let mut bytes = bytes;
        for first in bytes.iter_mut().skip(3).take(2) {
            *first = 1 - *first % 2;
        }
        if let Ok((_, most)) = seen(&bytes, piece, 1_000_000) {
            prop_assert!(most < 1_000_000 + 2 * READ_SIZE);
        }
    }
}
