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

use rowtide_mysql::binlog::event::{HEADER, Header};
use rowtide_mysql::replay::replay;
use rowtide_sdk::Limits;

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

/// An event that is shorter than it says ends the stream, and what is handed over is what came before it.
#[test]
fn m69_an_event_that_is_cut_off_is_refused() {
    for (server, is_mariadb) in [("mysql", false), ("mariadb", true)] {
        let events = targets::recorded_of(server);
        let changes_of = |events: &[&[u8]]| {
            let mut batches = Vec::new();
            let taken = replay(events.iter().copied(), is_mariadb, Limits::default(), &mut batches);
            let changes: usize = batches.iter().map(|batch| batch.entries.len()).sum();
            (changes, taken.err().map(|error| error.code().0))
        };
        // Up to the statement that is refused in any case.
        let all: Vec<&[u8]> = events.iter().map(Vec::as_slice).collect();
        let whole = (0..all.len()).find(|&len| changes_of(&all[..=len]).1.is_some());
        let whole = whole.unwrap_or(all.len());
        assert!(whole > 50, "{server}: {whole}");
        for at in 0..whole {
            let (before, _) = changes_of(&all[..at]);
            for len in [1, HEADER - 1, HEADER, all[at].len() / 2, all[at].len() - 1] {
                let mut cut = all[..at].to_vec();
                cut.push(&all[at][..len.min(all[at].len() - 1)]);
                let (changes, code) = changes_of(&cut);
                assert_eq!(code, Some("RT2705"), "{server} {at} {len}");
                assert!(changes <= before, "{server} {at} {len}");
            }
        }
    }
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
