//! PostgreSQL as a source: logical replication over a walsender connection of our own.
//!
//! `wire` speaks to the server and knows nothing of pgoutput; `error` decides once what each of the
//! server's refusals means.
//!
//! [`PostgresSource`] verifies and prepares everything (`server`, `slot`, `publication`) and hands
//! the connection to `stream`: `assemble` takes the bytes apart in place, with `pgoutput` for the
//! messages, `relations` for the tables and `transaction` for the place in the log; `feedback` tells
//! the server what is saved. Transactions that are streamed before they are complete are set aside in
//! `spool` and a [`rowtide_spool::Folder`]. Nothing in `assemble`, `pgoutput`, `spool`, `transaction`
//! and `position` does I/O.

mod adopt;
mod binary;
pub mod catalog;
mod config;
pub mod decode;
mod describe;
mod error;
mod family;
mod guard;
mod lsn;
mod message;
pub mod pgoutput;
mod position;
mod preflight;
mod publication;
pub mod relation;
pub mod replay;
mod reselect;
mod server;
mod setup;
mod slot;
mod slots;
mod source;
mod sql;
mod stream;
pub mod wire;

pub use adopt::{describe, drop_slot_and_publication, position_at, position_at_slot};
pub use config::{
    ByteSize, ChannelBinding, ConnectOptions, Heartbeat, HeartbeatInterval, MessageFilter,
    MessageSelection, Off, Operation, OriginFilter, PostgresConfig, PublicationManagement, Roots,
    SessionAttrs, SpoolConfig, SslMode, Streaming, TableSelection, Target, Time, TlsOptions,
};
pub use describe::tables;
pub use lsn::{Lsn, NotAnLsn};
pub use position::{History, InTx, PgPosition};
pub use preflight::check;
pub use setup::setup_sql;
pub use slots::{SlotInfo, drop_slot, slots};
pub use source::{PostgresSource, info};
