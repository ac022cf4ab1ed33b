//! The settings of the source.

mod url;

pub use rowtide_net::Roots;
pub use url::{ConnectOptions, SslMode, Target, TlsOptions};
