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

/// Every type that a server of a flavor has, in some order; those that only the catalog tells apart too.
fn types(flavor: Flavor) -> Vec<String> {
    let lines = include_str!("data/types.jsonl").lines();
    let rows = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let is_there = |row: &serde_json::Value| {
        row["only"].as_str().is_none_or(|only| only == flavor.name())
            && !(flavor == Flavor::Mysql && row["mysql_error"].is_string())
    };
    let mut types: Vec<String> =
        rows.filter(is_there).map(|row| row["type"].as_str().unwrap().to_owned()).collect();
    if flavor == Flavor::Mysql {
        types.push("vector(3)".to_owned());
    }
    types.push("enum('ж') character set cp1251".to_owned());
    types.push("longtext character set koi8r".to_owned());
    types.sort();
    types.dedup();
    types
}

/// What a description says of a column counts among those of its kind, so that it is wrong for one where
/// another is taken for one of them.
#[test]
fn m52_columns_are_described_the_same_alone_and_beside_others() {
    for (flavor, metadata) in
        Flavor::ALL.into_iter().flat_map(|flavor| ["FULL", "MINIMAL"].map(|word| (flavor, word)))
    {
        let setting = format!("binlog_row_metadata={metadata}");
        let Some(server) = Mysql::start(flavor, &[&setting]) else { return };
        let types = types(flavor);
        let columns: Vec<_> =
            types.iter().enumerate().map(|(at, name)| format!("c{at} {name}")).collect();
        let mut sql = "CREATE DATABASE t; USE t;".to_owned();
        for (at, column) in columns.iter().enumerate() {
            sql += &format!("CREATE TABLE t{at} (id int PRIMARY KEY, {column});");
            sql += &format!("INSERT INTO t{at} (id) VALUES (1);");
        }
        // In both orders, so that each stands before and behind each other.
        let reversed: Vec<_> = columns.iter().rev().cloned().collect();
        for (name, columns) in [("forth", columns), ("back", reversed)] {
            let columns = columns.join(", ");
            sql += &format!("CREATE TABLE {name} (id int PRIMARY KEY, {columns});");
            sql += &format!("INSERT INTO {name} (id) VALUES (1);");
        }
        server.sql(&sql);
        let tables: std::collections::HashMap<_, _> =
            written(&server).into_iter().map(|(_, table, _)| (table.name.clone(), table)).collect();
        for (at, type_name) in types.iter().enumerate() {
            let alone = &tables[&format!("t{at}")].columns[1];
            let forth = &tables["forth"].columns[1 + at];
            let back = &tables["back"].columns[types.len() - at];
            assert_eq!(forth, alone, "{} {metadata} {type_name}", flavor.name());
            assert_eq!(back, alone, "{} {metadata} {type_name}", flavor.name());
        }
    }
}
