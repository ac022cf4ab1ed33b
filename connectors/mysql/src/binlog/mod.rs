//! The binlog as a replica is sent it, taken apart from its bytes. No I/O, and nothing here panics on any
//! bytes.
//!
//! The formats are those of "Binlog Event" in the MySQL internals manual and of `libs/mysql/binlog/event`
//! in its source; MariaDB's own events are in the "Replication Protocol" part of its knowledge base.

pub mod compressed;
pub mod event;
pub mod group;
pub mod rows;
pub mod table_map;

/// Why bytes are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// An event ends before what it must hold, or goes on behind it.
    #[error("a {0} event is cut off or malformed")]
    Malformed(&'static str),
    /// The checksum is not that of the event.
    #[error("the checksum of an event of type {0} is wrong")]
    Checksum(u8),
    /// Something that this version does not know.
    #[error("{0}")]
    Unknown(String),
}

/// What parsers give.
pub type Parsed<T> = Result<T, ParseError>;
