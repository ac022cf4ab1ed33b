//! The sink that throws everything away: what is left is the cost of reading, encoding and
//! validating.

use std::time::Instant;

use rowtide_sdk::{
    BoxFuture, Completion, Finding, Held, RecordBatch, Result, Sink, TopicInfo, TopicSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Encodes and validates every event, then throws it away: for measuring.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardConfig {}

/// Reports every batch as durable at once and keeps nothing.
#[derive(Debug, Default)]
pub struct DiscardSink {}

impl DiscardSink {
    /// A sink; there is nothing to set.
    pub fn new(_config: &DiscardConfig) -> Self {
        Self {}
    }
}

/// The preflight: nothing can be wrong.
pub fn check(_config: &DiscardConfig) -> Vec<Finding> {
    Vec::new()
}

impl Sink for DiscardSink {
    fn open(&mut self) -> BoxFuture<'_, Result<Held>> {
        Box::pin(async { Ok(Held::Elsewhere) })
    }

    fn prepare<'a>(&'a mut self, _topic: &'a TopicSpec) -> BoxFuture<'a, Result<TopicInfo>> {
        Box::pin(async { Ok(TopicInfo { compacts: false }) })
    }

    fn submit(&mut self, batch: RecordBatch, done: Completion) -> BoxFuture<'_, Result<()>> {
        drop(batch);
        done.durable();
        Box::pin(async { Ok(()) })
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self, _deadline: Instant) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
