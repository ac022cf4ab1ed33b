//! Events: their header, their checksum, and what says how the others are read.

use super::{ParseError, Parsed};
use crate::reader::Reader;

/// The length of an event's header in binlog version 4.
pub const HEADER: usize = 19;
/// The length of a CRC-32 behind an event.
pub const CHECKSUM: usize = 4;

/// The types of events that are told apart here.
#[allow(missing_docs, reason = "the names are the server's")]
pub mod kind {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const TRANSACTION_CONTEXT: u8 = 36;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
    pub const MARIADB_ANNOTATE_ROWS: u8 = 160;
    pub const MARIADB_BINLOG_CHECKPOINT: u8 = 161;
    pub const MARIADB_GTID: u8 = 162;
    pub const MARIADB_GTID_LIST: u8 = 163;
    pub const MARIADB_START_ENCRYPTION: u8 = 164;
    pub const MARIADB_QUERY_COMPRESSED: u8 = 165;
    pub const MARIADB_WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub const MARIADB_UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub const MARIADB_DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub const MARIADB_WRITE_ROWS_COMPRESSED: u8 = 169;
    pub const MARIADB_UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub const MARIADB_DELETE_ROWS_COMPRESSED: u8 = 171;
}

/// The flag of statements that use temporary tables of their session.
pub const OF_ITS_SESSION: u16 = 0x4;
/// The flag of events that the server made for this connection alone.
pub const ARTIFICIAL: u16 = 0x20;
/// The flag of events that may be left out by who does not know them.
pub const MAY_BE_IGNORED: u16 = 0x80;

/// The header of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// When the statement began, in seconds since 1970.
    pub timestamp: u32,
    /// Which event it is: see [`kind`].
    pub kind: u8,
    /// The server that wrote it first.
    pub server_id: u32,
    /// The length of the whole event, header and checksum included.
    pub size: u32,
    /// Where the event ends in its file, modulo 2^32; 0 in events that are in no file.
    pub log_pos: u32,
    /// See [`ARTIFICIAL`] and [`MAY_BE_IGNORED`].
    pub flags: u16,
}

impl Header {
    /// Reads the header at the start of an event.
    ///
    /// # Errors
    /// Where there are fewer than [`HEADER`] bytes, or it states a size that has no room for it.
    pub fn parse(event: &[u8]) -> Parsed<Self> {
        let mut reader = Reader(event);
        let mut read = || {
            Some(Self {
                timestamp: reader.u32()?,
                kind: reader.u8()?,
                server_id: reader.u32()?,
                size: reader.u32()?,
                log_pos: reader.u32()?,
                flags: reader.u16()?,
            })
        };
        let header = read().ok_or(ParseError::Malformed("headless"))?;
        match usize::try_from(header.size) {
            Ok(size) if size >= HEADER => Ok(header),
            _ => Err(ParseError::Malformed("headless")),
        }
    }

    /// Whether the server made it for this connection alone.
    pub fn is_artificial(&self) -> bool {
        self.flags & ARTIFICIAL != 0
    }

    /// Whether it tells of the file or the stream, and of no transaction.
    pub fn is_of_the_file(&self) -> bool {
        use kind::*;
        matches!(
            self.kind,
            FORMAT_DESCRIPTION
                | ROTATE
                | PREVIOUS_GTIDS
                | HEARTBEAT
                | HEARTBEAT_V2
                | MARIADB_GTID_LIST
                | MARIADB_BINLOG_CHECKPOINT
        )
    }

    /// Whether it is of a transaction or statement and not the first of it, which has the GTID or says that
    /// there is none.
    pub fn is_within_group(&self) -> bool {
        use kind::*;
        matches!(
            self.kind,
            QUERY | INTVAR
                | RAND
                | USER_VAR
                | XID
                | BEGIN_LOAD_QUERY
                | EXECUTE_LOAD_QUERY
                | TABLE_MAP
                | WRITE_ROWS_V1..=DELETE_ROWS_V1
                | ROWS_QUERY..=DELETE_ROWS
                | XA_PREPARE..=TRANSACTION_PAYLOAD
                | MARIADB_ANNOTATE_ROWS
                | MARIADB_QUERY_COMPRESSED..=MARIADB_DELETE_ROWS_COMPRESSED
        )
    }

    /// Whether it may be left out by who does not know it.
    pub fn may_be_ignored(&self) -> bool {
        self.flags & MAY_BE_IGNORED != 0
    }
}

/// How the events of a binlog file are read: its FORMAT_DESCRIPTION event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The server's version as it prints it.
    pub server_version: String,
    /// Whether a CRC-32 stands behind each event.
    pub has_checksum: bool,
    /// Lengths of what stands between header and body, by type less one.
    post_headers: Vec<u8>,
}

impl Format {
    /// What holds before the first FORMAT_DESCRIPTION has come; the artificial ROTATE alone comes
    /// before it.
    pub fn initial(has_checksum: bool) -> Self {
        Self { server_version: String::new(), has_checksum, post_headers: Vec::new() }
    }

    /// Reads a FORMAT_DESCRIPTION event, whole. It always has room for a checksum, and says by which
    /// algorithm the events behind it have one.
    ///
    /// # Errors
    /// Where it is malformed, of another binlog version than 4, or states an unknown algorithm or
    /// lengths that events of this version cannot have.
    pub fn parse(event: &[u8]) -> Parsed<Self> {
        const MALFORMED: ParseError = ParseError::Malformed("FORMAT_DESCRIPTION");
        if usize::try_from(Header::parse(event)?.size) != Ok(event.len()) {
            return Err(MALFORMED);
        }
        let body = event.get(HEADER..).ok_or(MALFORMED)?;
        let mut reader = Reader(body);
        let mut head = || Some((reader.u16()?, reader.array::<50>()?, reader.u32()?, reader.u8()?));
        let (version, server, _created, header_len) = head().ok_or(MALFORMED)?;
        if version != 4 || usize::from(header_len) != HEADER {
            return Err(ParseError::Unknown(format!("binlog version {version}")));
        }
        let (post_headers, algorithm) =
            reader.0.split_last_chunk::<{ CHECKSUM + 1 }>().ok_or(MALFORMED)?;
        let algorithm = algorithm.first().copied().unwrap_or_default();
        if algorithm > 1 {
            return Err(ParseError::Unknown(format!("checksum algorithm {algorithm}")));
        }
        let server = server.split(|byte| *byte == 0).next().unwrap_or_default();
        let format = Self {
            server_version: String::from_utf8_lossy(server).into_owned(),
            has_checksum: algorithm == 1,
            post_headers: post_headers.to_vec(),
        };
        if format.has_checksum {
            verify(event, kind::FORMAT_DESCRIPTION)?;
        }
        for (kind, len) in [(kind::TABLE_MAP, 8), (kind::WRITE_ROWS_V1, 8), (kind::WRITE_ROWS, 10)]
        {
            // A server that does not write a type may state nothing for it.
            if format.post_header(kind).is_some_and(|stated| stated != 0 && stated != len) {
                return Err(ParseError::Unknown(format!("a length in events of type {kind}")));
            }
        }
        Ok(format)
    }

    /// The stated length of what stands between header and body of a type.
    pub fn post_header(&self, kind: u8) -> Option<u8> {
        self.post_headers.get(usize::from(kind.checked_sub(1)?)).copied()
    }

    /// Verifies a whole event, and gives what stands between its header and its checksum.
    ///
    /// # Errors
    /// Where the event's length is not the stated one, or its checksum is wrong.
    pub fn body<'a>(&self, header: &Header, event: &'a [u8]) -> Parsed<&'a [u8]> {
        const MALFORMED: ParseError = ParseError::Malformed("binlog");
        if usize::try_from(header.size) != Ok(event.len()) {
            return Err(MALFORMED);
        }
        let mut end = event.len();
        if self.has_checksum {
            verify(event, header.kind)?;
            end = end.checked_sub(CHECKSUM).ok_or(MALFORMED)?;
        }
        event.get(HEADER..end).ok_or(MALFORMED)
    }

    /// The same for a ROTATE event. Where checksums are switched, the artificial one has none, or has one
    /// against what its file says.
    ///
    /// # Errors
    /// As those of [`Self::body`].
    pub fn rotate_body<'a>(&self, header: &Header, event: &'a [u8]) -> Parsed<&'a [u8]> {
        match Self::initial(true).body(header, event) {
            Err(_) if header.is_artificial() => Self::initial(false).body(header, event),
            Err(_) => self.body(header, event),
            checked => checked,
        }
    }
}

/// Where the lower byte of the flags stands in a header.
const FLAGS_AT: usize = 17;
/// The flag of a FORMAT_DESCRIPTION event whose file is being written; it is not part of the checksum.
const IN_USE: u8 = 0x01;

/// Verifies the CRC-32 at the end of an event.
fn verify(event: &[u8], event_kind: u8) -> Parsed<()> {
    const MALFORMED: ParseError = ParseError::Malformed("binlog");
    let (checked, stored) = event.split_last_chunk::<CHECKSUM>().ok_or(MALFORMED)?;
    let mut hasher = crc32fast::Hasher::new();
    if event_kind == kind::FORMAT_DESCRIPTION {
        let (head, rest) = checked.split_at_checked(FLAGS_AT).ok_or(MALFORMED)?;
        let (flags, rest) = rest.split_first().ok_or(MALFORMED)?;
        hasher.update(head);
        hasher.update(&[flags & !IN_USE]);
        hasher.update(rest);
    } else {
        hasher.update(checked);
    }
    if hasher.finalize() == u32::from_le_bytes(*stored) {
        Ok(())
    } else {
        Err(ParseError::Checksum(event_kind))
    }
}
