//! Operating the host: logs.

pub mod logs;
