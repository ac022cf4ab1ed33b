//! PostgreSQL as a source: logical replication over a walsender connection of our own.
//!
//! `wire` speaks to the server and knows nothing of pgoutput; `error` decides once what each of the
//! server's refusals means.

pub mod catalog;
mod config;
pub mod decode;
mod error;
pub mod relation;
pub mod wire;

pub use config::{
    ChannelBinding, ConnectOptions, PostgresConfig, PublicationManagement, Roots, SslMode,
    TableFilter, TableSelection, Target, TlsOptions,
};
