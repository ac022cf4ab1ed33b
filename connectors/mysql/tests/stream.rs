//! The source against real servers, run by a stand-in for the host.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test code: a broken assumption must fail the test"
)]

mod common;

#[path = "stream/annotate.rs"]
mod annotate;
#[path = "stream/catalog.rs"]
mod catalog;
#[path = "stream/document.rs"]
mod document;
#[path = "stream/guard.rs"]
mod guard;
#[path = "stream/host.rs"]
mod host;
#[path = "stream/images.rs"]
mod images;
#[path = "stream/packed.rs"]
mod packed;
#[path = "stream/proxy.rs"]
mod proxy;
#[path = "stream/refusals.rs"]
mod refusals;
#[path = "stream/resume.rs"]
mod resume;
#[path = "stream/rows.rs"]
mod rows;
#[path = "stream/schema.rs"]
mod schema;
#[path = "stream/settings.rs"]
mod settings;
#[path = "stream/transactions.rs"]
mod transactions;
#[path = "stream/values.rs"]
mod values;
