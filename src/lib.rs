//! Rowtide's host: configuration, envelopes, validation, positions and the pipeline that joins a
//! source to a sink.

pub mod cli;
pub mod config;
pub mod envelope;
pub mod explain;
pub mod offsets;
pub mod ops;
pub mod pipeline;
pub mod registry;
pub mod schema;
