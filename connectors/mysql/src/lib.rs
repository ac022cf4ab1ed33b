//! MySQL and MariaDB as a source: the binlog over a replication connection of our own.

pub mod charset;
pub mod decode;
