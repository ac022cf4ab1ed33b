//! What servers pack: whole transactions (MySQL's TRANSACTION_PAYLOAD), and single row events and
//! statements (MariaDB's `log_bin_compress`).

use std::io::Read as _;

use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};

use super::event::{Header, kind};
use super::{ParseError, Parsed};
use crate::reader::Reader;

const MALFORMED: ParseError = ParseError::Malformed("TRANSACTION_PAYLOAD");

/// How the events of a TRANSACTION_PAYLOAD are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Zstd,
    None,
}

/// A TRANSACTION_PAYLOAD event: the events of a transaction, without checksums, packed together. They
/// are unpacked one by one, so that however large it is, one event and a step of the stream are held.
pub struct Payload {
    packing: Packing,
    /// The length that it says the events have.
    stated: u64,
    /// How many of the packed bytes, and of those before them in the event's body, were taken.
    taken: usize,
    decoder: Option<Decoder<'static>>,
    /// Whether the packed stream has come to its end.
    is_ended: bool,
    /// Unpacked bytes; those before `at` were given out.
    plain: Vec<u8>,
    at: usize,
    /// How many bytes were unpacked.
    unpacked: u64,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").field("packing", &self.packing).finish_non_exhaustive()
    }
}

/// The numbers of a payload's fields.
mod field {
    pub(super) const END: u64 = 0;
    pub(super) const SIZE: u64 = 1;
    pub(super) const PACKING: u64 = 2;
    pub(super) const PLAIN_SIZE: u64 = 3;
}

/// So many bytes are unpacked at once.
const STEP: usize = 128 * 1024;

impl Payload {
    /// Reads the head of a TRANSACTION_PAYLOAD event from its body.
    ///
    /// # Errors
    /// Where it is malformed, or packed in a way that is not known.
    pub fn parse(body: &[u8]) -> Parsed<Self> {
        let (mut size, mut packing, mut stated) = (None, None, None);
        let mut reader = Reader(body);
        loop {
            let field = reader.lenenc().ok_or(MALFORMED)?;
            if field == field::END {
                break;
            }
            let mut value = Reader(reader.lenenc_bytes().ok_or(MALFORMED)?);
            match field {
                field::SIZE => size = value.lenenc(),
                field::PACKING => packing = value.lenenc(),
                field::PLAIN_SIZE => stated = value.lenenc(),
                _ => {}
            }
        }
        let packing = match packing {
            Some(0) => Packing::Zstd,
            Some(255) => Packing::None,
            _ => return Err(ParseError::Unknown(format!("payload compression {packing:?}"))),
        };
        if size.and_then(|size| usize::try_from(size).ok()) != Some(reader.0.len()) {
            return Err(MALFORMED);
        }
        let decoder = match packing {
            Packing::Zstd => Some(Decoder::new().map_err(|_| MALFORMED)?),
            Packing::None => None,
        };
        Ok(Self {
            packing,
            stated: stated.ok_or(MALFORMED)?,
            taken: body.len().saturating_sub(reader.0.len()),
            decoder,
            is_ended: false,
            plain: Vec::new(),
            at: 0,
            unpacked: 0,
        })
    }

    /// The next event, with its header and without a checksum; `None` after the last one. An event above
    /// `max` bytes is refused, before it is unpacked. `body` is the one that this was read from.
    ///
    /// # Errors
    /// Where the stream is damaged, ends early, or holds another length than it says.
    pub fn next_event(&mut self, body: &[u8], max: usize) -> Parsed<Option<(Header, &[u8])>> {
        if !self.fill(body, super::event::HEADER)? {
            let is_whole = self.at == self.plain.len() && self.unpacked == self.stated;
            return if is_whole { Ok(None) } else { Err(MALFORMED) };
        }
        let header = Header::parse(self.plain.get(self.at..).unwrap_or_default())?;
        let size = usize::try_from(header.size).map_err(|_| MALFORMED)?;
        if size > max {
            return Err(ParseError::Unknown(format!("an event of {size} bytes in a payload")));
        }
        if !self.fill(body, size)? {
            return Err(MALFORMED);
        }
        let start = self.at;
        self.at = start.checked_add(size).ok_or(MALFORMED)?;
        let event = self.plain.get(start..self.at).ok_or(MALFORMED)?;
        Ok(Some((header, event)))
    }

    /// Unpacks until so many bytes are there that were not given out; whether they are.
    fn fill(&mut self, body: &[u8], wanted: usize) -> Parsed<bool> {
        while self.plain.len().saturating_sub(self.at) < wanted {
            if self.at > 0 {
                self.plain.drain(..self.at.min(self.plain.len()));
                self.at = 0;
            }
            let before = self.plain.len();
            self.step(body)?;
            let more = self.plain.len() - before;
            self.unpacked = self.unpacked.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
            if self.unpacked > self.stated {
                return Err(MALFORMED);
            }
            if more == 0 && self.is_ended {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Unpacks some more.
    fn step(&mut self, body: &[u8]) -> Parsed<()> {
        let packed = body.get(self.taken..).unwrap_or_default();
        let Some(decoder) = &mut self.decoder else {
            let (head, rest) = packed.split_at(packed.len().min(STEP));
            self.plain.extend_from_slice(head);
            self.taken = self.taken.saturating_add(head.len());
            self.is_ended = rest.is_empty();
            return Ok(());
        };
        if self.is_ended {
            return Ok(());
        }
        let start = self.plain.len();
        self.plain.resize(start.saturating_add(STEP), 0);
        let target = self.plain.get_mut(start..).ok_or(MALFORMED)?;
        let (mut input, mut output) = (InBuffer::around(packed), OutBuffer::around(target));
        let hint = decoder.run(&mut input, &mut output).map_err(|_| MALFORMED)?;
        let (read, written) = (input.pos(), output.pos());
        self.taken = self.taken.saturating_add(read);
        self.plain.truncate(start.saturating_add(written));
        if hint == 0 && read < packed.len() {
            // Another frame follows.
            decoder.reinit().map_err(|_| MALFORMED)?;
        } else if hint == 0 {
            self.is_ended = true;
        } else if read == 0 && written == 0 {
            // It wants more than there is.
            return Err(MALFORMED);
        }
        Ok(())
    }
}

/// The plain type of an event that MariaDB packs; `None` for others.
pub fn plain_kind(event: u8) -> Option<u8> {
    Some(match event {
        kind::MARIADB_QUERY_COMPRESSED => kind::QUERY,
        kind::MARIADB_WRITE_ROWS_COMPRESSED_V1 => kind::WRITE_ROWS_V1,
        kind::MARIADB_UPDATE_ROWS_COMPRESSED_V1 => kind::UPDATE_ROWS_V1,
        kind::MARIADB_DELETE_ROWS_COMPRESSED_V1 => kind::DELETE_ROWS_V1,
        kind::MARIADB_WRITE_ROWS_COMPRESSED => kind::WRITE_ROWS,
        kind::MARIADB_UPDATE_ROWS_COMPRESSED => kind::UPDATE_ROWS,
        kind::MARIADB_DELETE_ROWS_COMPRESSED => kind::DELETE_ROWS,
        _ => return None,
    })
}

/// Puts the body of an event that MariaDB packed into the plain form of [`plain_kind`], behind what
/// `out` holds. One that would be above `max` bytes is refused, before it is unpacked.
///
/// What is packed is the statement of a QUERY, and the images of a row event.
///
/// # Errors
/// Where it is malformed, packed in a way that is not known, or of another length than it says.
pub fn unpack(event: u8, body: &[u8], max: usize, out: &mut Vec<u8>) -> Parsed<()> {
    const MALFORMED: ParseError = ParseError::Malformed("compressed");
    let plain = plain_kind(event)
        .ok_or_else(|| ParseError::Unknown(format!("packed events of type {event}")))?;
    let head = head_len(plain, body).ok_or(MALFORMED)?;
    let (head, packed) = body.split_at_checked(head).ok_or(MALFORMED)?;
    let mut reader = Reader(packed);
    let first = reader.u8().ok_or(MALFORMED)?;
    if first & 0xf0 != 0x80 {
        return Err(ParseError::Unknown(format!("compression {:#x}", first >> 4 & 7)));
    }
    let width = usize::from(first & 0x0f);
    let length = reader.bytes(width).filter(|_| (1..=4).contains(&width)).ok_or(MALFORMED)?;
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    if length > max {
        return Err(ParseError::Unknown(format!("a packed event of {length} bytes")));
    }
    out.extend_from_slice(head);
    let start = out.len();
    // One byte more tells whether there is more than it says.
    let limit = u64::try_from(length).unwrap_or(u64::MAX).saturating_add(1);
    let unpacked = flate2::read::ZlibDecoder::new(reader.0).take(limit).read_to_end(out);
    match unpacked {
        Ok(unpacked) if unpacked == length && out.len() - start == length => Ok(()),
        _ => Err(MALFORMED),
    }
}

/// How much of a body stands before what is packed.
fn head_len(plain: u8, body: &[u8]) -> Option<usize> {
    let mut reader = Reader(body);
    if plain == kind::QUERY {
        reader.bytes(8)?;
        let schema = usize::from(reader.u8()?);
        reader.u16()?;
        let variables = usize::from(reader.u16()?);
        reader.bytes(variables.checked_add(schema)?.checked_add(1)?)?;
    } else {
        reader.bytes(8)?;
        if matches!(plain, kind::WRITE_ROWS..=kind::DELETE_ROWS) {
            let extra = usize::from(reader.u16()?.checked_sub(2)?);
            reader.bytes(extra)?;
        }
        let bitmap = reader.count()?.div_ceil(8);
        reader.bytes(bitmap)?;
        if matches!(plain, kind::UPDATE_ROWS | kind::UPDATE_ROWS_V1) {
            reader.bytes(bitmap)?;
        }
    }
    body.len().checked_sub(reader.0.len())
}
