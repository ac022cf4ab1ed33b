//! The connection to the server: a replica's, of our own, and ordinary SQL by mysql_async over the same
//! login.
//!
//! ```text
//! ConnectOptions ─► Session (greeting, TLS, authentication)
//!                     ├─► BinlogConnection ── dump ──► PacketStream
//!                     └─► sql_conn ──► mysql_async::Conn
//! ```
//!
//! The packets are those of "Client/Server Protocol" in MySQL's source documentation and of "Clients &
//! Connectors protocol" in MariaDB's; what a server sends is taken apart here, where nothing panics on
//! any bytes.

mod auth;
mod connection;
mod dump;
mod greeting;
pub mod offline;
mod public_key;
mod session;
mod sql;
mod stream;
mod transport;

pub use connection::BinlogConnection;
pub use dump::{Dump, Start, replica_uuid};
pub use greeting::{Flavor, Greeting};
pub use sql::{SqlConn, sql_conn};
pub use stream::{Limits, Packet, PacketStream, Packets, Part};
