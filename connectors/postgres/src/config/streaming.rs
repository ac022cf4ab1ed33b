//! Settings of transactions that are streamed before they are complete.

use schemars::JsonSchema;
use serde::Deserialize;

/// When the server sends the changes of a large transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Streaming {
    /// After its commit. Until then the server keeps it, what is above `logical_decoding_work_mem` on
    /// its own disk.
    #[default]
    Off,
    /// While it runs, as soon as the server's `logical_decoding_work_mem` is full. It is set aside
    /// here, in memory and then in `spool`, and delivered from there once it has committed: the events
    /// and their order are the same.
    On,
}
