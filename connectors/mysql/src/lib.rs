//! MySQL and MariaDB as a source: the binlog over a replication connection of our own.
//!
//! `binlog` takes events apart in place, `gtid` knows which of them were seen, `charset` and `decode`
//! read and write their values. None of these does I/O.

pub mod binlog;
pub mod charset;
pub mod decode;
pub mod gtid;
mod reader;
