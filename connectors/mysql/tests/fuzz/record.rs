//! Makes `data/events.jsonl`: events of real servers, which the fuzz targets begin with. Each is whole
//! but has no checksum.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use rowtide_mysql::binlog::event::Header;
use rowtide_testkit::{Flavor, Mysql};

use crate::common;
use crate::frame::{ROOT, lines};

/// What is left out: it only takes room.
const LONGEST: usize = 700;
/// So many columns a table of the type table's values has.
const COLUMNS: usize = 6;

const BOTH: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id int PRIMARY KEY, v varchar(40), n decimal(9,3)); CREATE TABLE keyless (v text);
    INSERT INTO t VALUES (1, 'one', 1.5), (2, NULL, -2), (3, 'drei', 0) /*app='shop',k='a%20b'*/;
    BEGIN; UPDATE t SET v = 'uno' WHERE id = 1; SAVEPOINT a; DELETE FROM t WHERE id = 2;
    ROLLBACK TO a; INSERT INTO keyless VALUES ('x'); COMMIT;
    SET SESSION binlog_row_image = 'MINIMAL'; UPDATE t SET n = 7 WHERE id = 1; DELETE FROM t WHERE id = 3;
    SET SESSION binlog_row_image = 'FULL';
    XA START 'x', 'b', 7; INSERT INTO t VALUES (5, 'five', 5); XA END 'x', 'b', 7;
    XA PREPARE 'x', 'b', 7; XA COMMIT 'x', 'b', 7;
    XA START 'y'; INSERT INTO t VALUES (6, 'six', 6); XA END 'y'; XA PREPARE 'y'; XA ROLLBACK 'y';
    XA START 'z'; INSERT INTO t VALUES (7, 'seven', 7); XA END 'z'; XA COMMIT 'z' ONE PHASE;
    ALTER TABLE t ADD e enum('a', 'b'), RENAME TO u; RENAME TABLE u TO t, keyless TO v;
    TRUNCATE TABLE t; CREATE TABLE w LIKE v; DROP TABLE v, w; CREATE OR REPLACE VIEW w AS SELECT 1;
    FLUSH BINARY LOGS;";

const MYSQL: &str = "SET SESSION binlog_transaction_compression = ON, binlog_rows_query_log_events = ON;
    INSERT INTO t VALUES (1, REPEAT('a', 40), 1, 'a'), (2, REPEAT('a', 40), 2, 'b') /*a='b'*/;
    SET SESSION binlog_transaction_compression = OFF;
    CREATE TABLE made (id int PRIMARY KEY) SELECT id FROM t;
    SET SESSION binlog_row_value_options = PARTIAL_JSON;
    CREATE TABLE j (id int PRIMARY KEY, a json, b json);
    INSERT INTO j VALUES (1, '{\"a\": [1, 2.5, \"x\", null, true], \"b\": {\"c\": \"a long enough text\"}}', '[1]');
    UPDATE j SET a = JSON_SET(a, '$.b.c', 'y'), b = JSON_ARRAY_INSERT(b, '$[0]', 5);
    UPDATE j SET a = JSON_REMOVE(a, '$.a[1]'); UPDATE j SET a = JSON_REPLACE(a, '$.a[0]', CAST('12:00:00' AS TIME));
    SET gtid_next = 'AUTOMATIC:backup'; INSERT INTO made VALUES (9); SET gtid_next = 'AUTOMATIC';
    FLUSH BINARY LOGS; SET SESSION binlog_format = STATEMENT; UPDATE made SET id = 10 WHERE id = 9;";

const MARIADB: &str = "SET SESSION binlog_row_image = 'MINIMAL'; CREATE TABLE d (a int DEFAULT 1);
    INSERT INTO d VALUES (); INSERT INTO d VALUES (), (); SET SESSION binlog_row_image = 'FULL';
    INSERT INTO t VALUES (1, REPEAT('a', 40), 1, 'a'), (2, REPEAT('a', 40), 2, 'b');
    UPDATE t SET v = REPEAT('b', 40); SET @long = REPEAT('c', 40); DELETE FROM t WHERE v <> @long;
    CREATE TABLE made (id int PRIMARY KEY COMMENT 'a comment that is long enough to be packed') SELECT 1 AS id;
    SET SESSION binlog_format = STATEMENT; UPDATE made SET id = 10 WHERE id = 1 OR 'xxxxxxxxxxxxxxxxxxxx' = 'y';";

/// Tables of the type table's types, and rows of its values.
fn typed(flavor: Flavor) -> String {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in lines(&Path::new(ROOT).join("connectors/mysql/tests/data/types.jsonl")) {
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        let is_other = text("only").is_some_and(|only| only != flavor.name());
        let is_refused = flavor == Flavor::Mysql && text("mysql_error").is_some();
        if !is_other && !is_refused {
            types.entry(text("type").unwrap()).or_default().push(text("literal").unwrap());
        }
    }
    let types: Vec<_> = types.into_iter().collect();
    let mut sql = "SET sql_mode = 'NO_ENGINE_SUBSTITUTION'; USE shop;".to_owned();
    for (at, chunk) in types.chunks(COLUMNS).enumerate() {
        let columns: Vec<_> =
            chunk.iter().enumerate().map(|(at, (name, _))| format!("c{at} {name}")).collect();
        let columns = columns.join(", ");
        write!(sql, "CREATE TABLE y{at} (id int PRIMARY KEY, {columns}); BEGIN;").unwrap();
        let most = chunk.iter().map(|(_, values)| values.len()).max().unwrap_or_default();
        for row in 0..most {
            let values: Vec<_> =
                chunk.iter().map(|(_, values)| values[row % values.len()].as_str()).collect();
            let names: Vec<_> = (0..chunk.len()).map(|at| format!("c{at}")).collect();
            let (names, values) = (names.join(", "), values.join(", "));
            write!(sql, "INSERT INTO y{at} (id, {names}) VALUES ({row}, {values});").unwrap();
        }
        sql.push_str("COMMIT;");
    }
    sql
}

fn server(flavor: Flavor) -> Option<Mysql> {
    let settings = match flavor {
        Flavor::Mysql => [
            "binlog_row_metadata=FULL",
            "binlog_checksum=NONE",
            "gtid_mode=ON",
            "enforce_gtid_consistency=ON",
        ],
        Flavor::Mariadb => [
            "binlog_row_metadata=FULL",
            "binlog_checksum=NONE",
            "log_bin_compress=ON",
            "log_bin_compress_min_len=70",
        ],
    };
    Mysql::start(flavor, &settings)
}

/// The events of a server's log, whole.
fn events(server: &Mysql) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for path in server.binlogs() {
        let file = std::fs::read(path).unwrap();
        // Every event is verified; this cuts the same file.
        let _verified = common::events(&file);
        let mut rest = &file[4..];
        while !rest.is_empty() {
            let (event, behind) = rest.split_at(Header::parse(rest).unwrap().size as usize);
            all.push(event.to_vec());
            rest = behind;
        }
    }
    all
}

pub(crate) fn record() {
    let mut out = String::new();
    for flavor in Flavor::ALL {
        let server = server(flavor).expect("a server");
        let own = if flavor == Flavor::Mysql { MYSQL } else { MARIADB };
        server.sql(&[BOTH, &typed(flavor), own].concat());
        for event in events(&server) {
            if event.len() > LONGEST {
                continue;
            }
            let hex: String = event.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(out, "{{\"server\":\"{}\",\"event\":\"{hex}\"}}", flavor.name()).unwrap();
        }
    }
    let path = Path::new(ROOT).join("connectors/mysql/tests/data/events.jsonl");
    std::fs::write(path, out).unwrap();
}
