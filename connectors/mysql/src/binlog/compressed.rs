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
/// are unpacked one by one, from bytes that are given piece by piece: however large it is, one event and
/// a step of the stream are held.
pub struct Payload {
    packing: Packing,
    /// The length that it says the events have.
    stated: u64,
    /// How many of the packed bytes were not taken.
    left: u64,
    decoder: Option<Decoder<'static>>,
    /// Whether the packed stream has come to its end.
    is_ended: bool,
    /// Unpacked bytes; those before `at` were given out.
    plain: Vec<u8>,
    at: usize,
    /// How many bytes are to be passed over before the next event.
    skip: usize,
    /// How many bytes were unpacked.
    unpacked: u64,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").field("packing", &self.packing).finish_non_exhaustive()
    }
}

/// What is in a payload.
#[derive(Debug, PartialEq, Eq)]
pub enum Inner<'a> {
    /// The next event, with its header and without a checksum.
    Event(Header, &'a [u8]),
    /// An event above the limit: its start. The rest is unpacked and thrown away.
    Oversized(Header, &'a [u8]),
    /// More of the packed bytes are needed.
    NeedsMore,
    /// Nothing: all events were given out.
    End,
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
/// How much is given of an event above the limit.
const OVERSIZED: usize = 64 * 1024;

/// Whether unpacked bytes are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Enough,
    NeedsMore,
    Ended,
}

impl Payload {
    /// Reads the head of a TRANSACTION_PAYLOAD event from the start of its body, which is `len` bytes
    /// long. What is packed follows the head, whose length is given too.
    ///
    /// # Errors
    /// Where it is malformed, or packed in a way that is not known.
    pub fn parse(start: &[u8], len: u64) -> Parsed<(Self, usize)> {
        let (mut size, mut packing, mut stated) = (None, None, None);
        let mut reader = Reader(start);
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
        let head = start.len().saturating_sub(reader.0.len());
        let left = u64::try_from(head).ok().and_then(|head| len.checked_sub(head));
        let packing = match packing {
            Some(0) => Packing::Zstd,
            Some(255) => Packing::None,
            _ => return Err(ParseError::Unknown(format!("payload compression {packing:?}"))),
        };
        let left = left.filter(|left| size == Some(*left)).ok_or(MALFORMED)?;
        let decoder = match packing {
            Packing::Zstd => Some(Decoder::new().map_err(|_| MALFORMED)?),
            Packing::None => None,
        };
        let payload = Self {
            packing,
            stated: stated.ok_or(MALFORMED)?,
            left,
            decoder,
            is_ended: false,
            plain: Vec::new(),
            at: 0,
            skip: 0,
            unpacked: 0,
        };
        Ok((payload, head))
    }

    /// The next event; `packed` is advanced by what of it was taken.
    ///
    /// # Errors
    /// Where the stream is damaged, ends early, or holds another length than it says.
    pub fn next_event(&mut self, packed: &mut &[u8], max: usize) -> Parsed<Inner<'_>> {
        match self.fill(packed, super::event::HEADER)? {
            Filled::Enough => {}
            Filled::NeedsMore => return Ok(Inner::NeedsMore),
            Filled::Ended => {
                let is_whole = self.at == self.plain.len() && self.unpacked == self.stated;
                return if is_whole { Ok(Inner::End) } else { Err(MALFORMED) };
            }
        }
        let header = Header::parse(self.plain.get(self.at..).unwrap_or_default())?;
        let size = usize::try_from(header.size).map_err(|_| MALFORMED)?;
        let wanted = if size > max { size.min(OVERSIZED) } else { size };
        match self.fill(packed, wanted)? {
            Filled::Enough => {}
            Filled::NeedsMore => return Ok(Inner::NeedsMore),
            Filled::Ended => return Err(MALFORMED),
        }
        let start = self.at;
        self.at = start.checked_add(wanted).ok_or(MALFORMED)?;
        self.skip = size.saturating_sub(wanted);
        let event = self.plain.get(start..self.at).ok_or(MALFORMED)?;
        Ok(if size > max { Inner::Oversized(header, event) } else { Inner::Event(header, event) })
    }

    /// Unpacks until so many bytes are there that were not given out.
    fn fill(&mut self, packed: &mut &[u8], wanted: usize) -> Parsed<Filled> {
        loop {
            let there = self.plain.len().saturating_sub(self.at);
            let passed = self.skip.min(there);
            self.at = self.at.saturating_add(passed);
            self.skip -= passed;
            if self.skip == 0 && there.saturating_sub(passed) >= wanted {
                return Ok(Filled::Enough);
            }
            if self.is_ended {
                return if self.skip == 0 { Ok(Filled::Ended) } else { Err(MALFORMED) };
            }
            if self.at > 0 {
                self.plain.drain(..self.at.min(self.plain.len()));
                self.at = 0;
            }
            let before = self.plain.len();
            if !self.step(packed)? {
                return Ok(Filled::NeedsMore);
            }
            let more = self.plain.len().saturating_sub(before);
            self.unpacked = self.unpacked.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
            if self.unpacked > self.stated {
                return Err(MALFORMED);
            }
        }
    }

    /// Unpacks some more; whether it came further with what is there.
    fn step(&mut self, packed: &mut &[u8]) -> Parsed<bool> {
        let Some(decoder) = &mut self.decoder else {
            let (head, rest) = packed.split_at(packed.len().min(STEP));
            self.plain.extend_from_slice(head);
            *packed = rest;
            self.take(head.len())?;
            self.is_ended = self.left == 0;
            return Ok(!head.is_empty() || self.is_ended);
        };
        let start = self.plain.len();
        self.plain.resize(start.saturating_add(STEP), 0);
        let target = self.plain.get_mut(start..).ok_or(MALFORMED)?;
        let (mut input, mut output) = (InBuffer::around(packed), OutBuffer::around(target));
        let hint = decoder.run(&mut input, &mut output).map_err(|_| MALFORMED)?;
        let (read, written) = (input.pos(), output.pos());
        self.plain.truncate(start.saturating_add(written));
        *packed = packed.get(read..).unwrap_or_default();
        self.take(read)?;
        if hint == 0 && self.left > 0 {
            // Another frame follows.
            let Some(decoder) = &mut self.decoder else { return Err(MALFORMED) };
            decoder.reinit().map_err(|_| MALFORMED)?;
        } else if hint == 0 {
            self.is_ended = true;
        } else if read == 0 && written == 0 {
            // It wants more than is there.
            return if self.left > 0 && packed.is_empty() { Ok(false) } else { Err(MALFORMED) };
        }
        Ok(true)
    }

    /// So many packed bytes were taken.
    fn take(&mut self, count: usize) -> Parsed<()> {
        let left = u64::try_from(count).ok().and_then(|count| self.left.checked_sub(count));
        self.left = left.ok_or(MALFORMED)?;
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

/// What became of an event that MariaDB packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpacked {
    /// It is there in its plain form.
    Whole,
    /// It is above the limit: so many bytes are packed in it.
    TooLarge(usize),
}

/// Puts the body of an event that MariaDB packed into the plain form of [`plain_kind`], behind what
/// `out` holds. One of which more than `max` bytes are packed is not unpacked: the length is given.
///
/// What is packed is the statement of a QUERY, and the images of a row event.
///
/// # Errors
/// Where it is malformed, packed in a way that is not known, or of another length than it says.
pub fn unpack(event: u8, body: &[u8], max: usize, out: &mut Vec<u8>) -> Parsed<Unpacked> {
    let Split { head, length, packed } = split(event, body)?;
    if length > max {
        return Ok(Unpacked::TooLarge(length));
    }
    out.extend_from_slice(head);
    let start = out.len();
    // One byte more tells whether there is more than it says.
    let limit = u64::try_from(length).unwrap_or(u64::MAX).saturating_add(1);
    let unpacked = flate2::read::ZlibDecoder::new(packed).take(limit).read_to_end(out);
    match unpacked {
        Ok(unpacked) if unpacked == length && out.len() - start == length => Ok(Unpacked::Whole),
        _ => Err(NOT_PACKED),
    }
}

/// The same of an event of which only the beginning may be there: what precedes the packed bytes, and as
/// much of what is packed as can be read, `max` bytes at most.
pub fn unpack_start(event: u8, body: &[u8], max: usize, out: &mut Vec<u8>) {
    let Ok(Split { head, packed, .. }) = split(event, body) else { return };
    out.extend_from_slice(head);
    let start = out.len();
    out.resize(start.saturating_add(max), 0);
    let mut decoder = flate2::read::ZlibDecoder::new(packed);
    let mut end = start;
    while let Some(room) = out.get_mut(end..).filter(|room| !room.is_empty()) {
        match decoder.read(room) {
            Ok(count @ 1..) => end += count,
            // It is cut off here.
            Ok(0) | Err(_) => break,
        }
    }
    out.truncate(end);
}

const NOT_PACKED: ParseError = ParseError::Malformed("compressed");

/// The body of an event that MariaDB packed.
struct Split<'a> {
    /// What is not packed.
    head: &'a [u8],
    /// The length of what is.
    length: usize,
    packed: &'a [u8],
}

fn split(event: u8, body: &[u8]) -> Parsed<Split<'_>> {
    let plain = plain_kind(event)
        .ok_or_else(|| ParseError::Unknown(format!("packed events of type {event}")))?;
    let head = head_len(plain, body).ok_or(NOT_PACKED)?;
    let (head, packed) = body.split_at_checked(head).ok_or(NOT_PACKED)?;
    let mut reader = Reader(packed);
    let first = reader.u8().ok_or(NOT_PACKED)?;
    if first & 0xf0 != 0x80 {
        return Err(ParseError::Unknown(format!("compression {:#x}", first >> 4 & 7)));
    }
    let width = usize::from(first & 0x0f);
    let length = reader.bytes(width).filter(|_| (1..=4).contains(&width)).ok_or(NOT_PACKED)?;
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    Ok(Split { head, length, packed: reader.0 })
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

#[cfg(test)]
mod tests;
