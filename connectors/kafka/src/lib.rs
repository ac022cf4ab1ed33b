//! The Kafka sink of Rowtide.
//!
//! ```text
//! RecordBatch ─► KafkaSink::submit ─► librdkafka (one copy) ─► brokers
//!                                          │ delivery reports, on the polling thread
//!      Completion ◄── Batch counts down ◄──┘
//! ```
//!
//! The producer is idempotent, waits for all in-sync replicas and retries for ever; a key lands in
//! the partition that Java clients choose. What cannot be delivered ends the producer with one
//! coded cause, and the host starts again from the saved position: nothing is skipped.

mod config;
mod delivery;
mod error;
mod feeder;
mod health;
mod log;
mod preflight;
mod producer;
mod settings;
mod sink;
mod topics;

pub use config::{
    Compression, KafkaConfig, KafkaLimits, Problem, Property, SaslConfig, SaslMechanism, TlsConfig,
    TlsVerify, TopicsConfig,
};
pub use error::codes;
pub use preflight::check;
pub use sink::KafkaSink;
