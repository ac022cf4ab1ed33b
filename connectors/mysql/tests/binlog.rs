//! What servers write into their binlogs under settings that change its form.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must fail the test"
)]

mod common;

use common::{Owned, written};
use rowtide_mysql::binlog::rows::RowsKind;
use rowtide_testkit::{Flavor, Mysql};

const CHANGES: &str = "CREATE DATABASE t; USE t;
    CREATE TABLE t (id int PRIMARY KEY, v text, n int);
    INSERT INTO t SELECT seq, repeat('value ', 100), seq FROM
        (WITH RECURSIVE s AS (SELECT 1 AS seq UNION ALL SELECT seq + 1 FROM s WHERE seq < 500)
         SELECT seq FROM s) AS numbers;
    UPDATE t SET n = n + 1 WHERE id <= 100; DELETE FROM t WHERE id > 490";

/// What was done, by kind: how many images, and the sum of the first column.
fn tally(server: &Mysql) -> Vec<(RowsKind, usize, i64)> {
    let mut all: Vec<(RowsKind, usize, i64)> = Vec::new();
    for (kind, table, values) in written(server) {
        assert_eq!(table.name, "t");
        let Owned::Bytes(id) = &values[0] else { panic!("{values:?}") };
        let id = i64::from(i32::from_le_bytes(*id.first_chunk().unwrap()));
        match all.last_mut().filter(|last| last.0 == kind) {
            Some(last) => *last = (kind, last.1 + 1, last.2 + id),
            None => all.push((kind, 1, id)),
        }
    }
    all
}

fn expected() -> Vec<(RowsKind, usize, i64)> {
    vec![
        (RowsKind::Write, 500, 500 * 501 / 2),
        (RowsKind::Update, 200, 100 * 101),
        (RowsKind::Delete, 10, (491..=500).sum()),
    ]
}

#[test]
fn m07_rows_are_read_with_checksums_and_without() {
    for flavor in Flavor::ALL {
        for checksum in ["CRC32", "NONE"] {
            let setting = format!("binlog_checksum={checksum}");
            let Some(server) = Mysql::start(flavor, &[&setting]) else { return };
            server.sql(CHANGES);
            assert_eq!(tally(&server), expected(), "{} {checksum}", flavor.name());
        }
    }
}

#[test]
fn m05_packed_transactions_hold_what_was_written() {
    let settings = ["binlog_transaction_compression=ON"];
    let Some(server) = Mysql::start(Flavor::Mysql, &settings) else { return };
    server.sql(CHANGES);
    assert_eq!(tally(&server), expected());
}

#[test]
fn m06_packed_row_events_hold_what_was_written() {
    let settings = ["log_bin_compress=ON", "log_bin_compress_min_len=10"];
    let Some(server) = Mysql::start(Flavor::Mariadb, &settings) else { return };
    server.sql(CHANGES);
    assert_eq!(tally(&server), expected());
}
