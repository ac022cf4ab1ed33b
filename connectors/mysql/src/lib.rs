//! MySQL and MariaDB as a source: the binlog over a replication connection of our own.
//!
//! `binlog` takes events apart in place, `gtid` knows which of them were seen, `statement` says what the
//! statements among them do, `charset` and `decode` read and write their values. None of these does I/O.
//! `wire` connects and reads the log.
//!
//! [`MysqlSource`] verifies what the server says of itself (`server`) and hands the connection to
//! `stream`: `assemble` makes batches of events, `tables` knows what the log described, `progress` where
//! in the order of transactions the stream stands. `catalog` asks what only the server's catalog knows.
//! `guard` looks at the server beside the stream, `trial` whether the log can be read from a position.
//! `replay` is the same for recorded events, without a server.

mod adopt;
pub mod binlog;
mod catalog;
pub mod charset;
mod codes;
pub mod config;
pub mod decode;
mod error;
pub mod gtid;
mod guard;
mod position;
mod preflight;
mod reader;
pub mod replay;
mod server;
mod setup;
mod source;
pub mod statement;
mod stream;
pub mod table;
mod trial;
pub mod wire;

pub use adopt::{another_log, describe, position_at, position_at_end, prepared_now};
pub use config::MysqlConfig;
pub use position::MyPosition;
pub use preflight::{check, tables};
pub use setup::setup_sql;
pub use source::{MysqlSource, info};
