//! Binary JSON and JSON diffs as a real MySQL writes them to its binlog: their text is the server's
//! own without the white space between tokens.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    missing_docs,
    reason = "test code: a broken assumption must fail the test"
)]

#[path = "json/binlog.rs"]
mod binlog;
mod common;
#[path = "json/documents.rs"]
mod documents;
#[path = "json/server.rs"]
mod server;
#[path = "json/updates.rs"]
mod updates;

use std::collections::{BTreeMap, BTreeSet};

use binlog::{Doc, changes};
use rowtide_mysql::decode::json::{Json, apply_diffs};
use rowtide_sdk::{Decode, JsonWriter, Written};
use server::Server;

/// The text of binary JSON.
fn text(raw: &[u8]) -> String {
    let mut out = JsonWriter::default();
    assert_eq!(Json.write(raw, &mut out), Ok(Written::Form));
    String::from_utf8(out.into_inner()).expect("JSON is UTF-8")
}

/// The text of the document that diffs make.
fn patched(before: &[u8], diffs: &[u8]) -> String {
    let mut out = JsonWriter::default();
    assert_eq!(apply_diffs(before, diffs, &mut out), Ok(Written::Form));
    String::from_utf8(out.into_inner()).expect("JSON is UTF-8")
}

/// The server's text without the white space between tokens.
fn compact(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_token = |c: &char| {
        if in_string {
            in_string = escaped || *c != '"';
            escaped = *c == '\\' && !escaped;
            return true;
        }
        in_string = *c == '"';
        *c != ' '
    };
    text.chars().filter(is_token).collect()
}

/// What `SELECT id, doc` answers for a table, compact.
fn documents_of(server: &Server, table: &str) -> BTreeMap<i32, String> {
    let rows = server.sql(&format!("select id, doc from {table}"));
    let row = |line: &str| {
        let (id, doc) = line.split_once('\t').expect("two columns");
        (id.parse().expect("an id"), compact(doc))
    };
    rows.lines().map(row).collect()
}

/// Asserts that two texts are equal, and shows where they part.
fn assert_same(id: i32, ours: &str, servers: &str) {
    let common = ours.bytes().zip(servers.bytes()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| {
        let from = common.saturating_sub(40);
        String::from_utf8_lossy(&text.as_bytes()[from..text.len().min(common + 80)]).into_owned()
    };
    let parts = (part(ours), part(servers));
    assert!(
        ours == servers,
        "document {id} at byte {common}: {:?}, the server {:?}",
        parts.0,
        parts.1
    );
}

#[test]
fn m63_every_document_prints_as_the_server_prints_it() {
    let Some(server) = Server::start() else { return };
    let count = documents::insert(&server, "docs");
    let expected = documents_of(&server, "docs");
    let found: BTreeMap<i32, String> = changes(&server, "docs")
        .into_iter()
        .map(|change| match change.after {
            Doc::Whole(raw) => (change.id, text(&raw)),
            other => panic!("document {}: {other:?}", change.id),
        })
        .collect();
    assert_eq!(found.len(), count);
    assert_eq!(expected.len(), count);
    for (id, servers) in &expected {
        assert_same(*id, &found[id], servers);
    }
}

#[test]
fn m04_m63_applied_diffs_make_the_servers_documents() {
    let Some(server) = Server::start() else { return };
    for (table, image, rounds) in [("full_image", "FULL", 3), ("minimal_image", "MINIMAL", 1)] {
        updates::run(&server, table, image, rounds);
        let expected = documents_of(&server, table);
        let mut before = BTreeMap::new();
        let mut after: BTreeMap<i32, String> = BTreeMap::new();
        let (mut partial, mut operations) = (0, BTreeSet::new());
        for change in changes(&server, table) {
            let id = change.id;
            if let Doc::Whole(raw) = change.before {
                // In-place updates leave holes in the binary form.
                assert_same(id, &after[&id], &text(&raw));
                before.insert(id, raw);
            }
            let result = match change.after {
                Doc::Whole(raw) => {
                    let result = text(&raw);
                    before.insert(id, raw);
                    result
                }
                Doc::Diffs(diffs) => {
                    partial += 1;
                    operations.extend(diffs.first().copied());
                    patched(&before[&id], &diffs)
                }
                Doc::Absent => panic!("document {id} has no after image"),
            };
            after.insert(id, result);
        }
        assert!(partial > updates::COUNT / 2, "{image}: only {partial} partial updates");
        assert!(operations.iter().eq(&[0, 1, 2]), "{image}: only {operations:?} came first");
        assert_eq!(expected.len(), updates::COUNT);
        for (id, servers) in &expected {
            assert_same(*id, &after[id], servers);
        }
    }
}
