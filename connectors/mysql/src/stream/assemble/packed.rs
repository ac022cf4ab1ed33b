//! Packed transactions (TRANSACTION_PAYLOAD, M-5): one event of the log that holds all events of a
//! transaction and may have a gigabyte.
//!
//! Its one checksum stands behind all of it (M-7), and what is packed has none of its own. So nothing of it
//! is handed over before it has come whole and was verified: until then it is set aside as it came, packed,
//! in memory and then in a file. Then it is unpacked from there, event by event. What does not fit in one
//! read of the connection comes in parts.

use rowtide_sdk::{Error, Result};

use super::pile::{More, Pile};
use super::{Assembler, Step};
use crate::binlog::ParseError;
use crate::binlog::compressed::{Inner, Payload};
use crate::binlog::event::{CHECKSUM, Format, HEADER, Header};
use crate::wire::Part;

/// The packed transaction at hand.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// On its way in.
    coming: Option<Coming>,
    /// On its way out.
    going: Option<Going>,
    /// Packed bytes on their way out.
    buffer: Vec<u8>,
}

/// What is known of one that comes in parts; its body is in the store.
#[derive(Debug)]
struct Coming {
    header: Header,
    hasher: crc32fast::Hasher,
    /// How many bytes of the body are to come, without the checksum, and how many came.
    left: usize,
    len: u64,
    /// What came of the checksum.
    checksum: Vec<u8>,
}

impl Coming {
    fn new(header: Header, head: &[u8], has_checksum: bool) -> Option<Self> {
        let around = HEADER + if has_checksum { CHECKSUM } else { 0 };
        let left = usize::try_from(header.size).ok()?.checked_sub(around)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(head);
        Some(Self { header, hasher, left, len: 0, checksum: Vec::new() })
    }

    /// Takes a part in: what of it belongs to the body.
    fn body<'a>(&mut self, part: &'a [u8]) -> &'a [u8] {
        let (body, checksum) = part.split_at(self.left.min(part.len()));
        self.hasher.update(body);
        self.left -= body.len();
        self.len = self.len.saturating_add(u64::try_from(body.len()).unwrap_or(u64::MAX));
        self.checksum.extend_from_slice(checksum);
        body
    }

    /// The length of the body, where it is whole and what the server wrote.
    fn verified(self, has_checksum: bool) -> Result<u64, ParseError> {
        let stored = if has_checksum { CHECKSUM } else { 0 };
        if self.left > 0 || self.checksum.len() != stored {
            return Err(ParseError::Malformed("TRANSACTION_PAYLOAD"));
        }
        if has_checksum && self.hasher.finalize().to_le_bytes() != *self.checksum {
            return Err(ParseError::Checksum(self.header.kind));
        }
        Ok(self.len)
    }
}

/// One that is unpacked.
#[derive(Debug)]
struct Going {
    /// Absent until the start of the body is there.
    payload: Option<Payload>,
    /// The length of the body.
    len: u64,
    /// What is not in the buffer yet.
    pile: Pile,
    /// So much of the buffer was unpacked.
    taken: usize,
}

impl Assembler {
    /// Whether a packed transaction has more in it to be taken in.
    pub(crate) fn is_unpacking(&self) -> bool {
        self.packed.going.is_some()
    }

    /// Takes in a packed transaction that came whole, from its body.
    pub(super) fn payload(&mut self, body: &[u8]) -> Step {
        self.packed.buffer.clear();
        self.packed.buffer.extend_from_slice(body);
        let len = u64::try_from(body.len()).unwrap_or(u64::MAX);
        self.packed.going = Some(Going { payload: None, len, pile: Pile::default(), taken: 0 });
        Step::More
    }

    /// Takes in a part of a packed transaction.
    ///
    /// # Errors
    /// Where it is not what the server wrote.
    pub(crate) fn part(&mut self, part: Part<'_>) -> Result<Step> {
        match part {
            Part::Head(head) => {
                let header = self.parsed(Header::parse(head))?;
                self.advance(&header);
                let coming = Coming::new(header, head, self.format.has_checksum);
                let coming = coming.ok_or(ParseError::Malformed("TRANSACTION_PAYLOAD"));
                self.packed.coming = Some(self.parsed(coming)?);
            }
            Part::Body(bytes) => {
                let Some(coming) = &mut self.packed.coming else { return Err(self.headless()) };
                self.store.arrive(coming.body(bytes));
            }
            Part::End => {
                let Some(coming) = self.packed.coming.take() else { return Err(self.headless()) };
                let len = self.parsed(coming.verified(self.format.has_checksum))?;
                self.packed.buffer.clear();
                let pile = self.store.take_arrived();
                self.packed.going = Some(Going { payload: None, len, pile, taken: 0 });
            }
        }
        Ok(self.next())
    }

    fn headless(&self) -> Error {
        self.not_understood("a part of an event without its beginning")
    }

    /// Takes in the next event of the packed transaction.
    ///
    /// # Errors
    /// As [`Assembler::event`].
    pub(crate) fn unpack(&mut self) -> Result<Step> {
        let Some(mut going) = self.packed.going.take() else { return Ok(Step::More) };
        let max = self.event_max();
        let mut rest = self.packed.buffer.get(going.taken..).unwrap_or_default();
        if going.payload.is_none() && !rest.is_empty() {
            let (payload, head) = self.parsed(Payload::parse(rest, going.len))?;
            going.payload = Some(payload);
            rest = rest.get(head..).unwrap_or_default();
        }
        let inner = match &mut going.payload {
            Some(payload) => self.parsed(payload.next_event(&mut rest, max))?,
            None => Inner::NeedsMore,
        };
        going.taken = self.packed.buffer.len().saturating_sub(rest.len());
        let step = match inner {
            Inner::Event(header, event) => {
                let body = self.parsed(Format::initial(false).body(&header, event))?;
                self.taken(&header, body)?
            }
            Inner::Oversized(header, head) => {
                let body = head.get(HEADER..).unwrap_or_default();
                self.oversized_event(&header, body, u64::from(header.size))?
            }
            Inner::NeedsMore => return self.bring(going),
            Inner::End if self.progress.is_open() => {
                return Err(self.not_understood("a packed transaction without an end"));
            }
            Inner::End => {
                self.store.let_go(going.pile);
                return Ok(self.next());
            }
        };
        self.packed.going = Some(going);
        Ok(self.or_next(step))
    }

    /// Brings more of what is packed.
    fn bring(&mut self, mut going: Going) -> Result<Step> {
        self.packed.buffer.drain(..going.taken.min(self.packed.buffer.len()));
        going.taken = 0;
        let step = match self.store.more(&mut going.pile, &mut self.packed.buffer) {
            More::Here => Step::More,
            More::OnDisk(fill) => Step::Fill(fill),
            More::Nothing => return Err(super::held::damaged()),
        };
        self.packed.going = Some(going);
        Ok(step)
    }

    /// The buffer that a [`Step::Fill`] of a packed transaction is appended to.
    pub(super) fn packed_buffer(&mut self) -> Option<&mut Vec<u8>> {
        self.packed.going.is_some().then_some(&mut self.packed.buffer)
    }

    /// So many bytes were appended.
    pub(super) fn packed_filled(&mut self, bytes: usize) {
        if let Some(going) = &mut self.packed.going {
            going.pile.filled(bytes);
        }
    }
}
