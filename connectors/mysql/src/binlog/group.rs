//! The events that make groups of others: where transactions begin and end, files change, and what is
//! said beside them.

use super::{ParseError, Parsed};
use crate::gtid::mariadb;
use crate::gtid::mysql::{Gtid, Tag};
use crate::reader::Reader;

/// A ROTATE event: the stream goes on in another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotate<'a> {
    /// The place in that file.
    pub position: u64,
    /// Its name.
    pub file: &'a str,
}

impl<'a> Rotate<'a> {
    /// Reads the body of a ROTATE event.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn parse(body: &'a [u8]) -> Parsed<Self> {
        const MALFORMED: ParseError = ParseError::Malformed("ROTATE");
        let mut reader = Reader(body);
        let position = reader.u64().ok_or(MALFORMED)?;
        let file = std::str::from_utf8(reader.0).map_err(|_| MALFORMED)?;
        if file.is_empty() { Err(MALFORMED) } else { Ok(Self { position, file }) }
    }
}

/// A QUERY event: a statement, and what of its session it is to be understood by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// The connection that ran it.
    pub thread: u32,
    /// The default database, as bytes of UTF-8; empty where there was none.
    pub schema: &'a [u8],
    /// `sql_mode`, where the event says.
    pub sql_mode: Option<u64>,
    /// The collation of the statement's text (`character_set_client`), where the event says.
    pub client_collation: Option<u16>,
    /// The statement.
    pub statement: &'a [u8],
}

/// Codes of a QUERY event's status variables, and how long what follows them is.
mod status {
    pub(super) const SQL_MODE: u8 = 1;
    pub(super) const CHARSET: u8 = 4;
    /// The list of databases has this length where there are more than fit.
    pub(super) const TOO_MANY_DATABASES: u8 = 254;
}

impl<'a> Query<'a> {
    /// Reads the body of a QUERY event.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn parse(body: &'a [u8]) -> Parsed<Self> {
        Self::read(body).ok_or(ParseError::Malformed("QUERY"))
    }

    fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let thread = reader.u32()?;
        let _seconds = reader.u32()?;
        let schema_len = usize::from(reader.u8()?);
        let _error = reader.u16()?;
        let variables = usize::from(reader.u16()?);
        let variables = reader.bytes(variables)?;
        let schema = reader.bytes(schema_len)?;
        if reader.u8()? != 0 {
            return None;
        }
        let mut query =
            Self { thread, schema, sql_mode: None, client_collation: None, statement: reader.0 };
        query.read_variables(variables);
        Some(query)
    }

    /// Reads what is known of the variables. The server writes them by ascending code, and like it this
    /// stops at one that it does not know; what is wanted comes early.
    fn read_variables(&mut self, variables: &[u8]) -> Option<()> {
        let mut reader = Reader(variables);
        loop {
            match reader.u8()? {
                status::SQL_MODE => self.sql_mode = Some(reader.u64()?),
                status::CHARSET => {
                    self.client_collation = Some(reader.u16()?);
                    reader.bytes(4)?;
                }
                // Flags, increments, the length of the log, time stamps.
                0 | 3 | 10 => drop(reader.bytes(4)?),
                // The catalog with a zero behind it, and without.
                2 => {
                    reader.short_bytes()?;
                    reader.u8()?;
                }
                5 | 6 => drop(reader.short_bytes()?),
                7 | 8 | 18 => drop(reader.bytes(2)?),
                9 | 17 => drop(reader.bytes(8)?),
                11 => {
                    reader.short_bytes()?;
                    reader.short_bytes()?;
                }
                12 => {
                    let count = reader.u8()?;
                    if count != status::TOO_MANY_DATABASES {
                        for _ in 0..count {
                            let end = memchr::memchr(0, reader.0)?;
                            reader.bytes(end.checked_add(1)?)?;
                        }
                    }
                }
                13 => drop(reader.bytes(3)?),
                16 | 19 | 20 => drop(reader.u8()?),
                _ => return None,
            }
        }
    }
}

/// A GTID event: a transaction begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GtidEvent {
    /// Its GTID; `None` where the server gives none (ANONYMOUS_GTID).
    pub gtid: Option<Gtid>,
    /// Whether statements may be in it that are not row events.
    pub may_have_statements: bool,
    /// When it committed on the server that sends it, in microseconds since 1970; `None` where it does
    /// not say.
    pub commit_us: Option<u64>,
    /// When it committed on the server that it came from first, where that is another time.
    pub original_commit_us: Option<u64>,
    /// The length of all its events together, this one included; 0 where it does not say.
    pub transaction_length: u64,
}

const MALFORMED_GTID: ParseError = ParseError::Malformed("GTID");

/// Set in 7-byte time stamps where another follows.
const HAS_ANOTHER: u64 = 1 << 55;

impl GtidEvent {
    /// Reads the body of a GTID or ANONYMOUS_GTID event.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn parse(body: &[u8], is_anonymous: bool) -> Parsed<Self> {
        Self::read(body, is_anonymous).ok_or(MALFORMED_GTID)
    }

    fn read(body: &[u8], is_anonymous: bool) -> Option<Self> {
        let mut reader = Reader(body);
        let flags = reader.u8()?;
        let uuid = reader.array::<16>()?;
        let number = reader.u64()?;
        let gtid = (!is_anonymous).then(|| Gtid::new(uuid, Tag::default(), number));
        let mut event = Self {
            gtid: match gtid {
                Some(gtid) => Some(gtid?),
                None => None,
            },
            may_have_statements: flags & 1 != 0,
            commit_us: None,
            original_commit_us: None,
            transaction_length: 0,
        };
        // What servers before 5.7 and 8.0 do not write.
        let _absent = event.read_times(reader);
        Some(event)
    }

    fn read_times(&mut self, mut reader: Reader<'_>) -> Option<()> {
        if reader.u8()? != 2 {
            return None;
        }
        reader.bytes(16)?;
        let commit = reader.uint(7)?;
        self.commit_us = Some(commit & !HAS_ANOTHER);
        if commit & HAS_ANOTHER != 0 {
            self.original_commit_us = Some(reader.uint(7)?);
        }
        self.transaction_length = reader.lenenc()?;
        Some(())
    }

    /// Reads the body of a GTID_TAGGED event, which the server's serialization library wrote: numbers of
    /// variable length, and fields by their ids.
    ///
    /// # Errors
    /// Where it is malformed, or holds a field that may not be ignored and is not known.
    pub fn parse_tagged(body: &[u8]) -> Parsed<Self> {
        let mut reader = Reader(body);
        let version = varint(&mut reader).ok_or(MALFORMED_GTID)?;
        let _size = varint(&mut reader).ok_or(MALFORMED_GTID)?;
        let last_needed = varint(&mut reader).ok_or(MALFORMED_GTID)?;
        if version > 1 || last_needed > 11 {
            return Err(ParseError::Unknown(format!("GTID_TAGGED of version {version}")));
        }
        Self::read_fields(reader).ok_or(MALFORMED_GTID)
    }

    fn read_fields(mut reader: Reader<'_>) -> Option<Self> {
        let (mut uuid, mut number, mut tag) = ([0; 16], 0, Tag::default());
        let mut event = Self {
            gtid: None,
            may_have_statements: true,
            commit_us: None,
            original_commit_us: None,
            transaction_length: 0,
        };
        while !reader.0.is_empty() {
            match varint(&mut reader)? {
                0 => event.may_have_statements = varint(&mut reader)? & 1 != 0,
                1 => {
                    for byte in &mut uuid {
                        *byte = u8::try_from(varint(&mut reader)?).ok()?;
                    }
                }
                2 => number = u64::try_from(signed_varint(&mut reader)?).ok()?,
                3 => {
                    let len = usize::try_from(varint(&mut reader)?).ok()?;
                    tag = Tag::new(std::str::from_utf8(reader.bytes(len)?).ok()?)?;
                }
                // The clock of parallel replicas.
                4 | 5 => drop(signed_varint(&mut reader)?),
                6 => event.commit_us = Some(varint(&mut reader)?),
                7 => event.original_commit_us = Some(varint(&mut reader)?),
                8 => event.transaction_length = varint(&mut reader)?,
                9..=11 => drop(varint(&mut reader)?),
                _ => return None,
            }
        }
        event.gtid = Some(Gtid::new(uuid, tag, number)?);
        Some(event)
    }
}

/// A number of variable length: as many bits set from the lowest as bytes follow the first, then its
/// bits from the lowest.
fn varint(reader: &mut Reader<'_>) -> Option<u64> {
    let first = reader.u8()?;
    let more = first.trailing_ones();
    let rest = reader.uint(usize::try_from(more).ok()?)?;
    if more >= 7 {
        // No bit of the first byte is left.
        return Some(rest);
    }
    let low_bits = 7 - more;
    let low = u64::from(first) >> (more + 1);
    Some(low | rest << low_bits)
}

/// The same with the sign in the lowest bit: 0, -1, 1, -2, ….
fn signed_varint(reader: &mut Reader<'_>) -> Option<i64> {
    let coded = varint(reader)?;
    let magnitude = i64::try_from(coded >> 1).ok()?;
    Some(if coded & 1 == 1 { !magnitude } else { magnitude })
}

/// A GTID event of MariaDB: an event group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MariadbGtidEvent {
    /// Its GTID; the server id is that of the event's header.
    pub gtid: mariadb::Gtid,
    /// Whether the group is this event and one more, without an end of its own (DDL).
    pub is_standalone: bool,
    /// Whether all its changes are of transactional tables, so that it is rolled back whole or not at
    /// all.
    pub is_transactional: bool,
    /// Whether it is a DDL.
    pub is_ddl: bool,
    /// Whether it ends with XA PREPARE, and what it ends or carries out is named by an XID.
    pub xa: Option<MariadbXa>,
}

/// What a group of MariaDB does to an XA transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MariadbXa {
    /// Its changes are in the group, which ends with its XA PREPARE.
    Prepares,
    /// It is committed or rolled back.
    Completes,
}

impl MariadbGtidEvent {
    /// Reads the body of a MARIADB_GTID event.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn parse(body: &[u8], server_id: u32) -> Parsed<Self> {
        let mut reader = Reader(body);
        let mut read = || Some((reader.u64()?, reader.u32()?, reader.u8()?));
        let (sequence, domain, flags) = read().ok_or(ParseError::Malformed("MARIADB_GTID"))?;
        Ok(Self {
            gtid: mariadb::Gtid { domain, server_id, sequence },
            is_standalone: flags & 1 != 0,
            is_transactional: flags & 4 != 0,
            is_ddl: flags & 32 != 0,
            xa: match flags & (64 | 128) {
                0 => None,
                64 => Some(MariadbXa::Prepares),
                _ => Some(MariadbXa::Completes),
            },
        })
    }
}

/// What a GTID_LIST event of MariaDB says: the last GTID of each domain before its file. Of a domain it has
/// one for each server that wrote to it, the last one last.
///
/// # Errors
/// Where the body is malformed.
pub fn gtid_list(body: &[u8]) -> Parsed<mariadb::GtidPosition> {
    const MALFORMED: ParseError = ParseError::Malformed("GTID_LIST");
    let mut reader = Reader(body);
    // The upper four bits are flags.
    let count = reader.u32().ok_or(MALFORMED)? & 0x0fff_ffff;
    let mut position = mariadb::GtidPosition::default();
    for _ in 0..count {
        let mut read = || Some((reader.u32()?, reader.u32()?, reader.u64()?));
        let (domain, server_id, sequence) = read().ok_or(MALFORMED)?;
        position.pass(mariadb::Gtid { domain, server_id, sequence });
    }
    Ok(position)
}

/// The XID that an XID event commits.
///
/// # Errors
/// Where the body is malformed.
pub fn xid(body: &[u8]) -> Parsed<u64> {
    Reader(body).u64().ok_or(ParseError::Malformed("XID"))
}

/// What an INCIDENT event says was lost: its number and its message.
///
/// # Errors
/// Where the body is malformed.
pub fn incident(body: &[u8]) -> Parsed<(u16, &[u8])> {
    let mut reader = Reader(body);
    let mut read = || Some((reader.u16()?, reader.short_bytes()?));
    read().ok_or(ParseError::Malformed("INCIDENT"))
}

/// An XA_PREPARE event: the changes before it belong to an XA transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XaPrepare {
    /// Whether it is committed at once (`XA COMMIT … ONE PHASE`).
    pub is_one_phase: bool,
    /// The XID.
    pub xid: Xid,
}

/// The name of an XA transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xid {
    /// `formatID`.
    pub format: u32,
    /// `gtrid`, up to 64 bytes.
    pub global: Vec<u8>,
    /// `bqual`, up to 64 bytes.
    pub branch: Vec<u8>,
}

impl std::fmt::Display for Xid {
    /// Both parts in hexadecimal and the format, with dots between them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.global, &self.branch] {
            for byte in part {
                write!(f, "{byte:02x}")?;
            }
            f.write_str(".")?;
        }
        write!(f, "{}", self.format)
    }
}

impl XaPrepare {
    /// Reads the body of an XA_PREPARE event.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn parse(body: &[u8]) -> Parsed<Self> {
        Self::read(body).ok_or(ParseError::Malformed("XA_PREPARE"))
    }

    fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let is_one_phase = reader.u8()? != 0;
        let format = reader.u32()?;
        let lengths = (usize::try_from(reader.u32()?).ok()?, usize::try_from(reader.u32()?).ok()?);
        if lengths.0 > 64 || lengths.1 > 64 {
            return None;
        }
        let global = reader.bytes(lengths.0)?.to_vec();
        let branch = reader.bytes(lengths.1)?.to_vec();
        reader.end()?;
        Some(Self { is_one_phase, xid: Xid { format, global, branch } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Option<u64> {
        varint(&mut Reader(bytes))
    }

    #[test]
    fn numbers_of_variable_length() {
        assert_eq!(of(&[0]), Some(0));
        assert_eq!(of(&[0b1111_1110]), Some(127));
        assert_eq!(of(&[0b0000_0001, 0b0000_0010]), Some(128));
        assert_eq!(of(&[0b1111_1101, 0xff]), Some((1 << 14) - 1));
        assert_eq!(of(&[0x7f, 1, 0, 0, 0, 0, 0, 0x80]), Some(1 | 0x80 << 48));
        assert_eq!(of(&[0xff; 9]), Some(u64::MAX));
        assert_eq!(of(&[0b11, 1]), None);
        let signed = |byte: u8| signed_varint(&mut Reader(&[byte << 1]));
        assert_eq!([0, 1, 2, 3].map(signed), [Some(0), Some(-1), Some(1), Some(-2)]);
    }

    #[test]
    fn a_query_stops_at_variables_that_are_not_known() {
        let variables = [0u8, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 4, 255, 0, 8, 0, 8, 0, 99, 7];
        let mut body = vec![9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0];
        body.extend(u16::try_from(variables.len()).unwrap().to_le_bytes());
        body.extend(variables);
        body.extend(b"shop\0BEGIN");
        let query = Query::parse(&body).unwrap();
        assert_eq!((query.thread, query.schema, query.statement), (9, &b"shop"[..], &b"BEGIN"[..]));
        assert_eq!((query.sql_mode, query.client_collation), (Some(4), Some(255)));
        assert!(Query::parse(&body[..20]).is_err());
    }
}
