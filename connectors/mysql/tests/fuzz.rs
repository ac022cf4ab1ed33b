//! A moment of mutation for each fuzz target. `make proof-fuzz` runs the same targets guided by
//! coverage. `BLESS=1` renews the events of real servers that they begin with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    reason = "test code: a broken assumption must fail the test"
)]

#[path = "../../postgres/tests/types/checker.rs"]
mod checker;
mod common;
#[path = "../../../tests/fuzz/frame.rs"]
mod frame;
#[path = "../../../tests/fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/record.rs"]
mod record;
#[path = "fuzz/targets.rs"]
mod targets;

use rowtide_mysql::binlog::event::Header;

fn fuzz(name: &str) {
    mutate::fuzz(name, targets::target(name));
}

#[test]
fn recordings_are_of_whole_events() {
    if std::env::var_os("BLESS").is_some() {
        record::record();
    }
    let recorded = targets::recorded();
    let size = |event: &[u8]| Header::parse(event).map(|header| header.size as usize);
    assert!(recorded.iter().all(|event| size(event) == Ok(event.len())));
    assert!(recorded.len() > 100, "{}", recorded.len());
}

#[test]
fn mysql_events() {
    fuzz("mysql_events");
}

#[test]
fn mysql_tables() {
    fuzz("mysql_tables");
}

#[test]
fn mysql_rows() {
    fuzz("mysql_rows");
}

#[test]
fn mysql_packed() {
    fuzz("mysql_packed");
}

#[test]
fn mysql_values() {
    fuzz("mysql_values");
}

#[test]
fn mysql_json() {
    fuzz("mysql_json");
}

#[test]
fn mysql_gtids() {
    fuzz("mysql_gtids");
}

#[test]
fn mysql_statements() {
    fuzz("mysql_statements");
}

#[test]
fn mysql_packets() {
    fuzz("mysql_packets");
}

#[test]
fn mysql_login() {
    fuzz("mysql_login");
}

#[test]
fn mysql_stream() {
    fuzz("mysql_stream");
}
