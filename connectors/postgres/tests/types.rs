//! Every type of PostgreSQL: the values of `data/pg_types.jsonl` with JSON written by hand, the
//! committed table of forms, properties over any bytes, and real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    missing_docs,
    reason = "test code: a broken assumption must fail the test"
)]

#[path = "types/binary.rs"]
mod binary;
#[path = "types/checker.rs"]
mod checker;
#[path = "types/document.rs"]
mod document;
#[path = "types/generated.rs"]
mod generated;
#[path = "types/golden.rs"]
mod golden;
#[path = "types/properties.rs"]
mod properties;
#[path = "types/server.rs"]
mod server;
#[path = "types/user_types.rs"]
mod user_types;

use rowtide_postgres::decode::Decoding;
use rowtide_sdk::{JsonWriter, ValueError, Written};

/// What a decoder wrote for `raw`.
fn decode(decoding: &Decoding, raw: &[u8]) -> Result<(String, Written), ValueError> {
    let mut out = JsonWriter::new(b"before".to_vec());
    let written = decoding.decode.write(raw, &mut out)?;
    let text = String::from_utf8(out.into_inner()).expect("JSON is UTF-8");
    let value = text.strip_prefix("before").expect("earlier bytes stay");
    Ok((value.to_owned(), written))
}

/// What a decoder wrote, where it must succeed.
fn json(decoding: &Decoding, raw: &str) -> String {
    match decode(decoding, raw.as_bytes()) {
        Ok((json, _)) => json,
        Err(error) => panic!("{raw:?}: {error}"),
    }
}
