//! A moment of mutation for each fuzz target. `make proof-fuzz` runs the same targets guided by
//! coverage.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "test code: a broken assumption must fail the test"
)]

#[path = "types/checker.rs"]
mod checker;
#[path = "../../../tests/fuzz/frame.rs"]
mod frame;
#[path = "../../../tests/fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets.rs"]
mod targets;

fn fuzz(name: &str) {
    mutate::fuzz(name, targets::target(name));
}

#[test]
fn pgoutput() {
    fuzz("pgoutput");
}

#[test]
fn transcripts() {
    fuzz("transcripts");
}

#[test]
fn frames() {
    fuzz("frames");
}

#[test]
fn texts() {
    fuzz("texts");
}

#[test]
fn arrays() {
    fuzz("arrays");
}

#[test]
fn composites() {
    fuzz("composites");
}

#[test]
fn ranges() {
    fuzz("ranges");
}

#[test]
fn hstore() {
    fuzz("hstore");
}

#[test]
fn binary() {
    fuzz("binary");
}
