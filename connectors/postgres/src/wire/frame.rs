//! Splitting the byte stream into messages ("Message Formats"): a tag, a length that counts itself,
//! and the body. Nothing is copied.

use std::ops::Range;

use rowtide_sdk::Result;

use crate::error::protocol;

/// Tags of the server's messages that this client handles.
pub mod tag {
    /// `AuthenticationOk` and the requests for a proof.
    pub const AUTHENTICATION: u8 = b'R';
    /// The answer to START_REPLICATION.
    pub const COPY_BOTH: u8 = b'W';
    /// A chunk of the replication stream.
    pub const COPY_DATA: u8 = b'd';
    /// The end of the replication stream.
    pub const COPY_DONE: u8 = b'c';
    /// The end of a command.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// A row of a result.
    pub const DATA_ROW: u8 = b'D';
    /// The end of an empty command.
    pub const EMPTY_QUERY: u8 = b'I';
    /// A refusal.
    pub const ERROR: u8 = b'E';
    /// A notice.
    pub const NOTICE: u8 = b'N';
    /// A setting's value, at start and whenever it changes.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// The key with which a command could be cancelled.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// The server speaks an older minor version of the protocol.
    pub const NEGOTIATE_VERSION: u8 = b'v';
    /// The columns of a result.
    pub const ROW_DESCRIPTION: u8 = b'T';
    /// The server waits for a command.
    pub const READY: u8 = b'Z';
}

/// The bytes before a body: tag and length.
const HEADER: usize = 5;

/// What stands at a place of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message of which a part is still to come.
    Incomplete {
        /// How many bytes from the message's first one are known to be needed: 5 until the length
        /// is there, then the whole message. Make that much room.
        size: usize,
    },
    /// A whole message.
    Complete {
        /// What it is: see [`tag`].
        tag: u8,
        /// Its body in the buffer.
        body: Range<usize>,
        /// Where the next message starts; also the end of `body`.
        next: usize,
    },
}

/// The message at `at` in `buffer`.
///
/// # Errors
/// RT2113 for a length below 4, which no message has.
#[inline]
pub fn frame_at(buffer: &[u8], at: usize) -> Result<Frame> {
    let rest = buffer.get(at..).unwrap_or_default();
    let Some((&[tag, a, b, c, d], _)) = rest.split_first_chunk::<HEADER>() else {
        return Ok(Frame::Incomplete { size: HEADER });
    };
    let size = usize::try_from(i32::from_be_bytes([a, b, c, d]))
        .ok()
        .filter(|&length| length >= 4)
        .ok_or_else(|| protocol("the server sent a message with an impossible length"))?
        + 1;
    if rest.len() < size {
        return Ok(Frame::Incomplete { size });
    }
    let next = at.saturating_add(size);
    Ok(Frame::Complete { tag, body: at.saturating_add(HEADER)..next, next })
}

/// Reads the parts of a message's body; every read may find that the body is too short.
#[derive(Debug)]
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        let (&bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i16::from_be_bytes(bytes))
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        let (&bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(bytes))
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A text that ends with a zero byte.
    pub(super) fn cstr(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(0, self.0)?;
        let text = self.bytes(end)?;
        self.u8()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_torn_and_impossible_messages() {
        let buffer = b"xxd\0\0\0\x06abZ\0\0\0\x05I";
        let first = Frame::Complete { tag: b'd', body: 7..9, next: 9 };
        assert_eq!(frame_at(buffer, 2).unwrap(), first);
        let second = Frame::Complete { tag: b'Z', body: 14..15, next: 15 };
        assert_eq!(frame_at(buffer, 9).unwrap(), second);
        assert_eq!(frame_at(buffer, 15).unwrap(), Frame::Incomplete { size: 5 });
        assert_eq!(frame_at(&buffer[..8], 2).unwrap(), Frame::Incomplete { size: 7 });
        let error = frame_at(b"d\0\0\0\x03", 0).unwrap_err();
        assert_eq!(error.code().0, "RT2113");
        assert!(frame_at(b"d\xff\xff\xff\xff", 0).is_err());
        let largest = Frame::Incomplete { size: 0x8000_0000 };
        assert_eq!(frame_at(b"d\x7f\xff\xff\xff", 0).unwrap(), largest);
    }

    proptest! {
        #[test]
        fn a_frame_never_reaches_past_the_buffer(buffer: Vec<u8>, at in 0..64_usize) {
            if let Ok(Frame::Complete { body, next, .. }) = frame_at(&buffer, at) {
                prop_assert!(next <= buffer.len() && body.end == next && body.start == at + 5);
            }
        }
    }
}
