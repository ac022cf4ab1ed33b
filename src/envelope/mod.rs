//! The native envelope, v1: raw entries in, JSON records out.
//!
//! ```text
//! Table version ─► Plan: pre-rendered parts, key, masks, route, residual checks   (once)
//! Change ─► Emission(s) ─► one pass of JsonWriter into the batch's buffer ─► Record (ranges of it)
//! ```
//!
//! The schema that every envelope satisfies is `schemas/envelope/v1/envelope.schema.json`. Messages of
//! applications have a format of their own, `schemas/message/v1`. Before the first event of a new schema
//! version goes a record that tells of it, `schemas/schema-change/v1`.

mod dead_letter;
mod encode;
mod image;
mod message;
mod plan;
#[cfg(test)]
mod properties;
mod scene;
mod schema_change;
#[cfg(test)]
pub(crate) mod testing;
mod violation;

pub use encode::{Encoded, Encoder};
pub use message::MESSAGE_SCHEMA_JSON;
pub(crate) use plan::subject;
pub use plan::{Plan, PlanContext, TableRoute};
pub use schema_change::SCHEMA_CHANGE_VERSION;

/// The version of the envelope format.
pub const ENVELOPE_VERSION: &str = "1.1";

/// The committed JSON Schema of the envelope.
pub const ENVELOPE_SCHEMA_JSON: &str =
    include_str!("../../schemas/envelope/v1/envelope.schema.json");

/// The committed JSON Schema of the schema changes.
pub const SCHEMA_CHANGE_JSON: &str =
    include_str!("../../schemas/schema-change/v1/schema-change.schema.json");
