//! Real servers for tests: throwaway PostgreSQL, MySQL, MariaDB and Kafka on loopback, started by the scripts in
//! `tests/servers`, stopped and removed on drop (and by the scripts' own watcher where the test
//! process is killed). `ROWTIDE_CACHE` names the cache of fetched servers, as it does for the
//! scripts.
//!
//! A server that cannot be had makes a test skip itself with one line on stderr; with `CI=true` in
//! the environment it fails instead:
//!
//! ```no_run
//! use rowtide_testkit::Postgres;
//!
//! let Some(server) = Postgres::start("15", &["max_wal_senders=4"]) else { return };
//! println!("{}", server.url());
//! ```
#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "used by tests alone: a broken harness must fail the test, and a skip must be seen"
)]

pub mod forms;
pub mod host;
mod kafka;
mod mysql;
mod postgres;
mod script;

pub use kafka::Kafka;
pub use mysql::{Flavor, Mysql};
pub use postgres::{Postgres, not_applicable, postgres_versions};
