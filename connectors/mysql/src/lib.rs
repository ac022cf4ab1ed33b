//! MySQL and MariaDB as a source: the binlog over a replication connection of our own.
//!
//! `binlog` takes events apart in place, `gtid` knows which of them were seen, `statement` says what the
//! statements among them do, `charset` and `decode` read and write their values. None of these does I/O.
//! `wire` connects and reads the log.

pub mod binlog;
pub mod charset;
pub mod config;
pub mod decode;
mod error;
pub mod gtid;
mod reader;
pub mod statement;
pub mod wire;
