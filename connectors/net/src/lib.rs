//! Streams to a database server: TCP by name within a deadline, unix sockets, TLS by rustls.
//!
//! What the connectors to databases share. It knows none of them: how a server is asked for TLS is its
//! protocol's, and what an error means to whoever configured the connection is said by the connector,
//! which knows the names of its settings.

mod connect;
mod escape;
mod tls;
mod transport;
mod url;

pub use connect::{connect_to, resolve, tcp};
pub use escape::{EscapeError, unescaped};
pub use tls::{Refusal, Roots, TlsError, TlsSettings, Verify, handshake};
pub use transport::Transport;
pub use url::{UrlError, UrlParts, host_and_port, split_url};
