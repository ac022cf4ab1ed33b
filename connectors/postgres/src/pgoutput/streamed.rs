//! Transactions that the server sends before they are complete (protocol version 2 with the option
//! `streaming`): "Stream Start", "Stream Stop", "Stream Commit", "Stream Abort", and the messages
//! between a start and a stop, which name their (sub)transaction after their tag.
//!
//! A transaction comes in segments, each between a start and a stop; segments of several
//! transactions and whole transactions alternate, and nothing stands inside a segment but its own
//! transaction's messages.

use super::{Begin, Commit, Cursor, ParseError, Parsed, since_1970_us};

/// A message that says where a streamed transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// A segment begins.
    Start {
        /// The transaction.
        xid: u32,
        /// Whether nothing of it came before in this session.
        is_first: bool,
    },
    /// The segment ends.
    Stop,
    /// The transaction is complete, after all of its segments.
    Commit(StreamCommit),
    /// A transaction or one of its subtransactions was rolled back.
    Abort {
        /// The transaction.
        xid: u32,
        /// What was rolled back: the same number where it is the whole transaction.
        subxid: u32,
    },
}

/// The end of a streamed transaction: what Begin and Commit say of one sent whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCommit {
    /// The transaction and its place in commit order.
    pub begin: Begin,
    /// The LSN after the commit record.
    pub end: Commit,
}

/// A message of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// The tag of the message.
    pub tag: u8,
    /// The subtransaction it belongs to, or the transaction itself; `None` where the message does
    /// not say: it is then the whole transaction's.
    pub xid: Option<u32>,
    /// What follows the tag in the message as it is sent outside segments.
    pub body: &'a [u8],
}

/// Whether Stream Abort says when and where, which the server adds for `streaming 'parallel'`
/// (protocol version 4) and for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortForm {
    /// Two transaction ids: for `streaming 'on'`.
    Short,
    /// Also the LSN and time of the abort: for `streaming 'parallel'`.
    Long,
}

/// Reads a message that says where a streamed transaction stands; `None` for any other.
///
/// # Errors
/// [`ParseError`] where the message has such a tag and is not of its form.
#[inline]
pub fn control(message: &[u8], abort: AbortForm) -> Parsed<Option<Control>> {
    let mut cursor = Cursor(message);
    let control = match cursor.u8()? {
        b'S' => {
            let xid = cursor.u32()?;
            Control::Start { xid, is_first: cursor.u8()? == 1 }
        }
        b'E' => Control::Stop,
        b'c' => {
            let xid = cursor.u32()?;
            let _flags = cursor.u8()?;
            let commit_lsn = cursor.lsn()?;
            let end_lsn = cursor.lsn()?;
            let commit_ts_us = since_1970_us(cursor.i64()?);
            Control::Commit(StreamCommit {
                begin: Begin { final_lsn: commit_lsn, commit_ts_us, xid },
                end: Commit { commit_lsn, end_lsn },
            })
        }
        b'A' => {
            let xid = cursor.u32()?;
            let subxid = cursor.u32()?;
            if abort == AbortForm::Long {
                let _lsn = cursor.lsn()?;
                let _time = cursor.i64()?;
            }
            Control::Abort { xid, subxid }
        }
        _ => return Ok(None),
    };
    cursor.end(Some(control))
}

/// Reads a message inside a segment up to its (sub)transaction, or the head of one.
///
/// # Errors
/// [`ParseError`] where no such message stands inside a segment.
#[inline]
pub fn part(message: &[u8]) -> Parsed<Part<'_>> {
    let mut cursor = Cursor(message);
    let tag = cursor.u8()?;
    let xid = match tag {
        b'I' | b'U' | b'D' | b'T' | b'M' | b'R' | b'Y' => Some(cursor.u32()?),
        // Of the transaction, so it names none.
        b'O' => None,
        _ => return Err(ParseError("a message that cannot stand inside a streamed segment")),
    };
    Ok(Part { tag, xid, body: cursor.0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lsn::Lsn;

    fn read(message: &[u8]) -> Parsed<Option<Control>> {
        control(message, AbortForm::Short)
    }

    #[test]
    fn h39_starts_and_stops_frame_a_segment() {
        let first = Control::Start { xid: 0x0102_0304, is_first: true };
        assert_eq!(read(b"S\x01\x02\x03\x04\x01"), Ok(Some(first)));
        let later = Control::Start { xid: 5, is_first: false };
        assert_eq!(read(b"S\0\0\0\x05\0"), Ok(Some(later)));
        assert_eq!(read(b"E"), Ok(Some(Control::Stop)));
        assert_eq!(read(b"B\0\0"), Ok(None));
        for torn in [&b""[..], b"S\0\0\0\x05", b"Ex", b"A\0\0\0\x05\0\0\0", b"c\0\0\0\x05\0"] {
            assert!(read(torn).is_err(), "{torn:?}");
        }
    }

    #[test]
    fn h39_a_streamed_commit_says_what_begin_and_commit_say() {
        let message =
            b"c\0\0\0\x09\0\0\0\0\0\x02\x17\x3a\xc8\0\0\0\0\x02\x17\x3a\xf8\0\0\0\0\0\0\0\x07";
        let Ok(Some(Control::Commit(commit))) = read(message) else { panic!() };
        assert_eq!(commit.begin.xid, 9);
        assert_eq!(commit.begin.final_lsn, Lsn(0x0217_3ac8));
        assert_eq!(commit.begin.commit_ts_us, 946_684_800_000_007);
        assert_eq!(commit.end.commit_lsn, commit.begin.final_lsn);
        assert_eq!(commit.end.end_lsn, Lsn(0x0217_3af8));
    }

    #[test]
    fn h40_an_abort_is_as_long_as_what_was_asked_for() {
        let short = b"A\0\0\0\x05\0\0\0\x07";
        let long = [&short[..], &[0; 16]].concat();
        let abort = Control::Abort { xid: 5, subxid: 7 };
        assert_eq!(control(short, AbortForm::Short), Ok(Some(abort)));
        assert_eq!(control(&long, AbortForm::Long), Ok(Some(abort)));
        assert!(control(short, AbortForm::Long).is_err());
        assert!(control(&long, AbortForm::Short).is_err());
    }

    #[test]
    fn h39_messages_of_a_segment_name_their_subtransaction() {
        let insert = part(b"I\0\0\0\x09\0\0\x40\x1bN").unwrap();
        assert_eq!((insert.tag, insert.xid, insert.body), (b'I', Some(9), &b"\0\0\x40\x1bN"[..]));
        let origin = part(b"O\0\0\0\0\0\0\0\0node\0").unwrap();
        assert_eq!((origin.tag, origin.xid), (b'O', None));
        for misplaced in [&b"B\0\0\0\x09"[..], b"C", b"S\0\0\0\x09\x01", b"x\0\0\0\x09", b"I\0\0"] {
            assert!(part(misplaced).is_err(), "{misplaced:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(message: Vec<u8>) {
            let _control = control(&message, AbortForm::Short);
            let _control = control(&message, AbortForm::Long);
            let _part = part(&message);
        }
    }
}
