//! The native envelope, v1: raw entries in, JSON records out.
//!
//! ```text
//! Table version ─► Plan: pre-rendered parts, key, masks, route, residual checks   (once)
//! Change ─► Emission(s) ─► one pass of JsonWriter into the batch's buffer ─► Record (ranges of it)
//! ```
//!
//! The schema that every envelope satisfies is `schemas/envelope/v1/envelope.schema.json`. Messages of
//! applications have a format of their own, `schemas/message/v1`.

mod dead_letter;
mod encode;
mod image;
mod message;
mod plan;
#[cfg(test)]
mod properties;
mod scene;
#[cfg(test)]
pub(crate) mod testing;
mod violation;

pub use encode::{Encoded, Encoder};
pub use message::MESSAGE_SCHEMA_JSON;
pub(crate) use plan::subject;
pub use plan::{Plan, PlanContext, TableRoute};

/// The version of the envelope format.
pub const ENVELOPE_VERSION: &str = "1.1";

/// The committed JSON Schema of the envelope.
pub const ENVELOPE_SCHEMA_JSON: &str =
    include_str!("../../schemas/envelope/v1/envelope.schema.json");
