//! The stream of the log: whole events out of packets ("MySQL Packets", "Binlog Network Stream").

use std::io;

use rowtide_net::Transport;
use rowtide_sdk::{Error, Origin, Result};
use tokio::io::AsyncReadExt;

use super::session::{Session, tag};
use crate::binlog::event::{HEADER as EVENT_HEADER, kind};
use crate::error::{ServerError, codes, lost, protocol};
use crate::reader::Reader;

#[cfg(test)]
mod tests;

/// Room for one read. A packet that fits in it is handed out where it lies.
const READ_SIZE: usize = 256 * 1024;
/// The length of a packet's header.
const HEADER: usize = 4;
/// A packet of this length is followed by another of the same event (M-26).
const PACKET_FULL: usize = 0x00ff_ffff;
/// How much is given of an event that is not held.
const HEAD: usize = 64 * 1024;
/// Where an event states its length, behind the OK byte.
const SIZE_AT: usize = 1 + 9;
/// Where an event states its type.
const KIND_AT: usize = 1 + 4;
/// What is kept of the memory of a large event.
const KEPT: usize = 1024 * 1024;

const DOING: &str = "reading the binary log";

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A whole event.
    Event(&'a [u8]),
    /// A part of a packed transaction that does not fit in one read: it may be larger than anything that is
    /// held (M-5).
    Part(Part<'a>),
    /// An event above the limit: its start, and its length as it states it. The rest is thrown away as
    /// it arrives.
    Oversized {
        /// The first 64 KiB.
        head: &'a [u8],
        /// The length of the event.
        size: u64,
    },
    /// The log's end, which a stream that [`super::Dump::ends`] has.
    End,
}

/// The parts of an event, which is not verified before the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Its header.
    Head(&'a [u8]),
    /// What follows, its checksum included.
    Body(&'a [u8]),
    /// It is there whole, with the length that it states.
    End,
}

/// What bounds a stream.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Events above this are not held.
    pub max_event: u64,
    /// Whether it ends where the log does.
    pub ends: bool,
}

/// The stream of the log.
#[derive(Debug)]
pub struct PacketStream {
    transport: Transport,
    packets: Packets,
}

impl PacketStream {
    pub(super) fn new(session: Session, limits: Limits) -> Self {
        let packets = Packets::new(session.input, session.sequence, limits);
        Self { transport: session.transport, packets }
    }

    /// Waits for bytes and reads them by one read; how many came. 0 is after [`Packet::End`] alone.
    /// Cancel-safe: dropped while waiting, nothing is lost.
    ///
    /// # Errors
    /// Transient RT2613 where the server closed the connection or it broke.
    pub async fn read(&mut self) -> Result<usize> {
        if self.packets.has_ended {
            return Ok(0);
        }
        match self.transport.read_buf(self.packets.room()).await {
            Ok(0) => Err(lost(DOING, io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => Ok(count),
            Err(error) => Err(lost(DOING, error)),
        }
    }

    /// The next event of what was read; `None` where [`PacketStream::read`] must bring more.
    ///
    /// # Errors
    /// The server's refusal, classified; fatal RT2615 where the bytes are not the protocol.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend what it holds")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>> {
        self.packets.next()
    }
}

/// Where the packets stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At a packet that begins something.
    Start,
    /// In a large event: so many bytes of this packet are still to come, and whether another packet
    /// follows.
    Large { left: usize, goes_on: bool, state: Holding },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    /// It is put together.
    Whole,
    /// Its head is.
    Head,
    /// Nothing is.
    Nothing,
    /// Its parts are handed out as they come; so many bytes are still to come.
    Parts(u64),
}

/// What a step found.
enum Step {
    NeedsMore,
    GoOn,
    Small(std::ops::Range<usize>),
    Large,
    Head(std::ops::Range<usize>),
    Body(std::ops::Range<usize>),
    PartsEnd,
    Oversized(u64),
    End,
}

/// Takes bytes apart into events. Memory: one read's room, and of an event that does not fit in it as much
/// as it states, but no more than the limit.
#[derive(Debug)]
pub struct Packets {
    input: Vec<u8>,
    /// What of the input was taken.
    at: usize,
    sequence: u8,
    state: State,
    large: Vec<u8>,
    limits: Limits,
    has_ended: bool,
}

impl Packets {
    /// Begins with what was read already, where the packet of that number is next.
    pub fn new(input: Vec<u8>, sequence: u8, limits: Limits) -> Self {
        let large = Vec::new();
        Self { input, at: 0, sequence, state: State::Start, large, limits, has_ended: false }
    }

    /// The buffer, with room for a read.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.input.drain(..self.at);
        self.at = 0;
        self.input.reserve_exact(READ_SIZE.saturating_sub(self.input.len()).max(HEADER));
        &mut self.input
    }

    /// How much memory is held.
    pub fn held(&self) -> usize {
        self.input.capacity().saturating_add(self.large.capacity())
    }

    /// As [`PacketStream::next`].
    ///
    /// # Errors
    /// As [`PacketStream::next`].
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend what it holds")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>> {
        if self.state == State::Start {
            self.large.clear();
            self.large.shrink_to(KEPT);
        }
        loop {
            let found = match self.state {
                State::Start => self.start()?,
                State::Large { left, goes_on, state } => self.large(left, goes_on, state)?,
            };
            return Ok(Some(match found {
                Step::GoOn => continue,
                Step::NeedsMore => return Ok(None),
                Step::Small(range) => Packet::Event(self.input.get(range).unwrap_or_default()),
                Step::Head(range) => {
                    Packet::Part(Part::Head(self.input.get(range).unwrap_or_default()))
                }
                Step::Body(range) => {
                    Packet::Part(Part::Body(self.input.get(range).unwrap_or_default()))
                }
                Step::PartsEnd => Packet::Part(Part::End),
                Step::Large => Packet::Event(self.large.get(1..).unwrap_or_default()),
                Step::Oversized(size) => {
                    Packet::Oversized { head: self.large.get(1..).unwrap_or_default(), size }
                }
                Step::End => Packet::End,
            }));
        }
    }

    /// The header of the packet that is next: its length.
    fn header(&mut self) -> Result<Option<usize>> {
        let mut reader = Reader(self.input.get(self.at..).unwrap_or_default());
        let (Some(length), Some(sequence)) = (reader.uint(3), reader.u8()) else { return Ok(None) };
        if sequence != self.sequence {
            return Err(protocol(format!("{DOING}: the server's packets are out of order")));
        }
        Ok(usize::try_from(length).ok())
    }

    fn pass_header(&mut self) {
        self.at += HEADER;
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn start(&mut self) -> Result<Step> {
        if self.has_ended {
            return Ok(Step::NeedsMore);
        }
        let Some(length) = self.header()? else { return Ok(Step::NeedsMore) };
        let body = self.at + HEADER;
        if length + HEADER <= READ_SIZE {
            let Some(packet) = self.input.get(body..body + length) else {
                return Ok(Step::NeedsMore);
            };
            let step = match packet.first() {
                Some(&tag::OK) if self.limits.max_event < length as u64 - 1 => {
                    self.large.extend_from_slice(packet.get(..=HEAD).unwrap_or(packet));
                    Step::Oversized(length as u64 - 1)
                }
                Some(&tag::OK) => Step::Small(body + 1..body + length),
                Some(&tag::ERR) => return Err(ServerError::parse(packet).into_error(DOING)),
                // MySQL takes leave so from a stream that was killed, and when it stops.
                Some(&tag::EOF) if length < tag::EOF_BELOW && !self.limits.ends => {
                    return Err(ended());
                }
                Some(&tag::EOF) if length < tag::EOF_BELOW => {
                    self.has_ended = true;
                    Step::End
                }
                _ => return Err(protocol(format!("{DOING}: the server sent a packet of no kind"))),
            };
            self.pass_header();
            self.at += length;
            return Ok(step);
        }
        // The header of an event is needed to know its length.
        let mut reader = Reader(self.input.get(body..).unwrap_or_default());
        let first = reader.0.first().copied();
        let Some(size) = reader.bytes(SIZE_AT).and_then(|_| reader.u32()) else {
            return Ok(Step::NeedsMore);
        };
        if first != Some(tag::OK) {
            return Err(protocol(format!("{DOING}: the server sent a large packet of no kind")));
        }
        if self.input.get(body + KIND_AT) == Some(&kind::TRANSACTION_PAYLOAD) {
            return self.parts(length, size);
        }
        let state = if u64::from(size) > self.limits.max_event {
            Holding::Head
        } else {
            self.large.reserve_exact(usize::try_from(size).unwrap_or_default().saturating_add(1));
            Holding::Whole
        };
        self.pass_header();
        self.state = State::Large { left: length, goes_on: length == PACKET_FULL, state };
        Ok(Step::GoOn)
    }

    /// At a large packet that begins a packed transaction of this size.
    fn parts(&mut self, length: usize, size: u32) -> Result<Step> {
        let head = self.at + HEADER + 1..self.at + HEADER + 1 + EVENT_HEADER;
        if self.input.len() < head.end {
            return Ok(Step::NeedsMore);
        }
        let left = (size as usize).checked_sub(EVENT_HEADER).ok_or_else(longer_than_stated)?;
        self.pass_header();
        self.at = head.end;
        self.state = State::Large {
            left: length.saturating_sub(1 + EVENT_HEADER),
            goes_on: length == PACKET_FULL,
            state: Holding::Parts(left as u64),
        };
        Ok(Step::Head(head))
    }

    fn large(&mut self, left: usize, goes_on: bool, state: Holding) -> Result<Step> {
        if left == 0 {
            return self.packet_end(goes_on, state);
        }
        let there = self.input.get(self.at..).unwrap_or_default();
        let piece = there.get(..left).unwrap_or(there);
        if piece.is_empty() {
            return Ok(Step::NeedsMore);
        }
        let taken = piece.len();
        match state {
            Holding::Whole => {
                // What is held is bounded by what the event states, which is within the limit.
                let stated = stated_size(&self.large, piece);
                if (self.large.len() + taken) as u64 > stated + 1 {
                    return Err(longer_than_stated());
                }
                self.large.extend_from_slice(piece);
            }
            Holding::Head => {
                let wanted = (HEAD + 1).saturating_sub(self.large.len());
                self.large.extend_from_slice(piece.get(..wanted).unwrap_or(piece));
            }
            Holding::Nothing => {}
            Holding::Parts(expected) => {
                let expected = expected.checked_sub(taken as u64).ok_or_else(longer_than_stated)?;
                let range = self.at..self.at + taken;
                self.at = range.end;
                let state = Holding::Parts(expected);
                self.state = State::Large { left: left - taken, goes_on, state };
                return Ok(Step::Body(range));
            }
        }
        self.at += taken;
        let is_head = state == Holding::Head && self.large.len() > HEAD;
        let state = if is_head { Holding::Nothing } else { state };
        self.state = State::Large { left: left - taken, goes_on, state };
        if is_head {
            return Ok(Step::Oversized(stated_size(&self.large, &[])));
        }
        Ok(Step::GoOn)
    }

    fn packet_end(&mut self, goes_on: bool, state: Holding) -> Result<Step> {
        if goes_on {
            let Some(length) = self.header()? else { return Ok(Step::NeedsMore) };
            self.pass_header();
            self.state = State::Large { left: length, goes_on: length == PACKET_FULL, state };
            return Ok(Step::GoOn);
        }
        self.state = State::Start;
        match state {
            Holding::Whole => Ok(Step::Large),
            Holding::Nothing => {
                self.large.clear();
                Ok(Step::GoOn)
            }
            Holding::Parts(0) => Ok(Step::PartsEnd),
            // An event that is shorter than it states.
            Holding::Head | Holding::Parts(_) => Err(longer_than_stated()),
        }
    }
}

/// The length that an event states, of which the start is held or about to be.
fn stated_size(held: &[u8], piece: &[u8]) -> u64 {
    let start = if held.is_empty() { piece } else { held };
    let mut reader = Reader(start.get(SIZE_AT..).unwrap_or_default());
    reader.u32().map_or(u64::MAX, u64::from)
}

fn ended() -> Error {
    let message = format!("{DOING}: the server ended the stream: it stops, or KILL was asked for");
    Error::transient(Origin::Source, codes::KILLED, message)
}

fn longer_than_stated() -> Error {
    protocol(format!("{DOING}: an event has another length than it states"))
}
