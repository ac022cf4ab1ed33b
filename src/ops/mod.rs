//! Operating the host: logs, and what it says of itself over HTTP.

pub mod board;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod status;
