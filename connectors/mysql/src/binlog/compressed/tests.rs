//! Payloads that are made up, given in pieces of any length.

use proptest::prelude::*;

use super::*;

/// An event of a length that it states.
fn event(length: usize) -> Vec<u8> {
    let mut event: Vec<u8> = (0..length).map(|at| u8::try_from(at * at % 251).unwrap()).collect();
    event[9..13].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
    event
}

/// The body of a payload event: its head says this packing and this length of the events.
fn body(packing: u8, packed: &[u8], stated: usize) -> Vec<u8> {
    let number = |number: usize| [&[254][..], &(number as u64).to_le_bytes()].concat();
    let field = |field: u8, value: Vec<u8>| {
        [vec![field, u8::try_from(value.len()).unwrap()], value].concat()
    };
    // One that is not known stands among them.
    let fields = [
        field(2, if packing < 251 { vec![packing] } else { vec![252, packing, 0] }),
        field(9, vec![1, 2]),
        field(1, number(packed.len())),
        field(3, number(stated)),
    ];
    [fields.concat(), vec![0], packed.to_vec()].concat()
}

/// What was found: an event, or the length of one above the limit.
type Found = Result<Vec<u8>, u32>;

/// What is in a payload that comes in such pieces: the lengths of its events, and of those above the limit
/// what they state. Also the most memory that unpacked bytes took.
fn read(body: &[u8], piece: usize, max: usize) -> Parsed<(Vec<Found>, usize)> {
    let mut pieces = body.chunks(piece.max(64));
    let first = pieces.next().unwrap_or_default();
    let (mut payload, head) = Payload::parse(first, body.len() as u64)?;
    let (mut all, mut most) = (Vec::new(), 0);
    let mut packed = &first[head..];
    loop {
        match payload.next_event(&mut packed, max)? {
            Inner::Event(_, event) => all.push(Ok(event.to_vec())),
            Inner::Oversized(header, head) => {
                assert_eq!(head.len(), OVERSIZED.min(header.size as usize));
                all.push(Err(header.size));
            }
            Inner::NeedsMore => {
                assert!(packed.is_empty());
                // There is always more where it asks for it.
                packed = pieces.next().unwrap();
            }
            Inner::End => {
                assert!(packed.is_empty() && pieces.next().is_none());
                return Ok((all, most));
            }
        }
        most = most.max(payload.plain.capacity());
    }
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 3).unwrap()
}

proptest! {
    #[test]
    fn m5_events_are_unpacked_from_pieces_of_any_length(
        lengths in proptest::collection::vec(19_usize..300_000, 1..6),
        piece in 1_usize..100_000,
        frames in 1_usize..4,
        is_packed in any::<bool>(),
    ) {
        let plain: Vec<u8> = lengths.iter().flat_map(|length| event(*length)).collect();
        let packed = if is_packed {
            plain.chunks(plain.len().div_ceil(frames)).flat_map(zstd).collect()
        } else {
            plain.clone()
        };
        let packing = if is_packed { 0 } else { 255 };
        let body = body(packing, &packed, plain.len());
        let (all, _) = read(&body, piece, 1 << 20).unwrap();
        let expected: Vec<_> = lengths.iter().map(|length| Ok(event(*length))).collect();
        prop_assert_eq!(all, expected);
        let (all, most) = read(&body, piece, 50_000).unwrap();
        let expected = lengths.iter().map(|length| {
            if *length > 50_000 { Err(u32::try_from(*length).unwrap()) } else { Ok(event(*length)) }
        });
        prop_assert_eq!(all, expected.collect::<Vec<_>>());
        prop_assert!(most < 4 * STEP, "{}", most);
    }

    #[test]
    fn m5_what_is_damaged_is_refused_or_the_same(at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let plain = [event(1000), event(50), event(70_000)].concat();
        let mut body = body(0, &zstd(&plain), plain.len());
        *at.get_mut(&mut body) ^= 1 << bit;
        // It is verified before: here it must only end.
        let _ended = read(&body, 64, 1 << 20);
    }
}

#[test]
fn m5_a_payload_that_is_not_what_it_says_is_refused() {
    let plain = [event(1000), event(50)].concat();
    let packed = zstd(&plain);
    let whole = body(0, &packed, plain.len());
    assert!(read(&whole, 100, 1 << 20).is_ok());
    let wrong = [
        body(0, &packed, plain.len() - 1),
        body(0, &packed, plain.len() + 1),
        body(0, &packed[..packed.len() - 1], plain.len()),
        body(0, &[&packed[..], b"behind"].concat(), plain.len()),
        body(255, &plain[..plain.len() - 1], plain.len()),
        body(255, &plain[..1040], 1040),
        body(0, &[], 0),
        whole[..whole.len() - 1].to_vec(),
        [&whole[..], b"x"].concat(),
    ];
    for (number, body) in wrong.iter().enumerate() {
        assert_eq!(read(body, 1 << 20, 1 << 20).map(|_| ()), Err(MALFORMED), "{number}");
    }
    assert!(matches!(Payload::parse(&body(1, &packed, 1), 1), Err(ParseError::Unknown(_))));
}

#[test]
fn m6_an_event_of_mariadb_above_the_limit_is_not_unpacked() {
    // A QUERY without a database and variables, whose statement is packed.
    let mut body = vec![0; 14];
    body.extend([0x82, 0x03, 0xe8]);
    let mut encoder = flate2::write::ZlibEncoder::new(body, flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, &[b'x'; 1000]).unwrap();
    let body = encoder.finish().unwrap();
    let mut out = Vec::new();
    let unpacked = unpack(kind::MARIADB_QUERY_COMPRESSED, &body, 999, &mut out);
    assert_eq!((unpacked, out.len()), (Ok(Unpacked::TooLarge(1000)), 0));
    let unpacked = unpack(kind::MARIADB_QUERY_COMPRESSED, &body, 1000, &mut out);
    assert_eq!((unpacked, out.len()), (Ok(Unpacked::Whole), 1014));
    for (body, max) in [(&body[..], 100), (&body[..body.len() - 4], 2000)] {
        let mut start = Vec::new();
        unpack_start(kind::MARIADB_QUERY_COMPRESSED, body, max, &mut start);
        assert_eq!(start, out[..start.len()]);
        assert!(start.len() >= 114, "{}", start.len());
    }
}
