//! The connection to the server: a walsender client of our own ("Streaming Replication Protocol" in
//! PostgreSQL's manual), because no published client opens replication connections, and ordinary SQL
//! connections over the same transports.
//!
//! ```text
//! connect_stream ──► Transport (TCP, unix socket, TLS)
//!                      ├─► ReplicationConnection ── start_replication ──► Reader, Writer
//!                      └─► sql_client ──► tokio_postgres::Client
//! ```
//!
//! Both kinds of session pin the settings that decide how values look as text and refuse to go on
//! where the server does not report them back.

mod auth;
mod cancel;
mod der;
mod frame;
mod hosts;
mod replication;
mod session;
mod sql;
mod stream;
mod tls;
mod transport;

pub(crate) use cancel::Cancel;
pub use frame::{Frame, frame_at, tag};
pub use replication::{
    Identity, ReplicationConnection, Rows, log_notice, server_error, stream_notice,
};
pub(crate) use sql::money_units;
pub use sql::{SqlClient, sql_client};
pub use stream::{Reader, Writer, stop};
pub use transport::{Transport, connect_stream};
