//! What the log does not say of tables and the catalog does: `binlog_row_metadata` is not FULL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowtide_mysql::position_at;
use rowtide_sdk::KnownTable;
use rowtide_testkit::host::Host;
use rowtide_testkit::{Flavor, Mysql};

use crate::host::{Setup, server};

/// Both servers with the least that each writes of tables.
fn bare(flavor: Flavor) -> Option<Mysql> {
    match flavor {
        Flavor::Mysql => Mysql::start(flavor, &["binlog_row_metadata=MINIMAL"]),
        Flavor::Mariadb => Mysql::start(flavor, &["binlog_row_metadata=NO_LOG"]),
    }
}

/// The names of the columns of the new row of each event.
fn names(host: &Host) -> Vec<String> {
    let names = |after: &str| {
        let parts = after.split(',').filter_map(|part| part.split_once('='));
        parts.map(|(name, _)| name.to_owned()).collect::<Vec<_>>().join(",")
    };
    host.events.iter().filter_map(|event| event.after.as_deref()).map(names).collect()
}

fn known(host: &Host) -> Vec<KnownTable> {
    let one = |table: &Arc<rowtide_sdk::Table>| KnownTable {
        schema: table.schema.clone(),
        name: table.name.clone(),
        facts: table.facts.clone(),
    };
    host.tables.iter().map(one).collect()
}

const TABLE: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (a int unsigned, e enum('x','y'), k bigint, s set('p','q'), PRIMARY KEY (k, a));
    CREATE TABLE other (id int PRIMARY KEY);";

/// The first definition is read at the start, so that an ALTER right behind a row is no trouble; each
/// later one when its first row comes.
#[tokio::test]
async fn m3_names_keys_and_labels_come_from_the_catalog() {
    for flavor in Flavor::ALL {
        let Some(server) = bare(flavor) else { return };
        server.sql(TABLE);
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (1, 'y', 7, 'p,q'); INSERT INTO other VALUES (1);
             ALTER TABLE t RENAME COLUMN e TO f; INSERT INTO t VALUES (2, 'x', 8, '')",
        );
        host.until(3).await;
        server.sql(
            "USE shop; ALTER TABLE t ADD COLUMN z int FIRST; RENAME TABLE t TO u;
             INSERT INTO u VALUES (5, 4, 'x', 9, 'q')",
        );
        host.until(4).await;
        assert_eq!(names(&host), ["a,e,k,s", "id", "a,f,k,s", "z,a,f,k,s"], "{}", flavor.name());
        let table = host.tables.iter().find(|table| table.name == "u").unwrap();
        assert_eq!(table.primary_key, [3, 1], "{table:?}");
        let types: Vec<&str> = table.columns.iter().map(|one| one.type_name.as_str()).collect();
        assert_eq!(types, ["int", "int unsigned", "enum('x','y')", "bigint", "set('p','q')"]);
        host.stop().await;
    }
}

/// Each row is read by the names that were in force when it was logged.
#[tokio::test]
async fn m39_m40_a_table_that_is_altered_after_its_rows_were_read_has_its_old_names_in_them() {
    for flavor in Flavor::ALL {
        let Some(server) = bare(flavor) else { return };
        server.sql(TABLE);
        let setup = Setup::new(&server);
        let mut host = setup.ready().await;
        server.sql("USE shop; INSERT INTO t VALUES (1, 'y', 7, 'p')");
        host.until(1).await;
        let (tables, position) = (known(&host), host.stop().await);
        server.sql(
            "USE shop; INSERT INTO t VALUES (2, 'y', 8, 'p');
             ALTER TABLE t RENAME COLUMN e TO f; INSERT INTO t VALUES (3, 'y', 9, 'p')",
        );
        let resumed = Setup { known_tables: tables, ..setup.clone().from(position.clone()) };
        let mut host = resumed.run();
        host.until(2).await;
        assert_eq!(names(&host), ["a,e,k,s", "a,f,k,s"], "{}", flavor.name());
        host.stop().await;
        // Without what was saved, nobody knows how the table was.
        let error = setup.clone().from(position).refusal().await;
        assert_eq!(error.code().0, "RT2801", "{error}");
        assert!(error.message().contains("shop.t was changed after"), "{error}");
        // The place that is named is the one behind the change.
        let remedy = error.remedy().unwrap();
        let place = remedy.split("--at ").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
        let behind = position_at(&setup.source(), place).await.unwrap();
        let mut host = setup.from(Some(behind)).run();
        host.until(1).await;
        assert_eq!(host.events[0].after.as_deref(), Some("a=3,f=y,k=9,s=p"), "{place}");
        host.stop().await;
    }
}

/// Tables that were altered before the position, or beside it, are no reason to stop.
#[tokio::test]
async fn m43_only_statements_on_the_table_count() {
    for flavor in Flavor::ALL {
        let Some(server) = bare(flavor) else { return };
        server.sql(TABLE);
        let setup = Setup::new(&server);
        let host = setup.ready().await;
        let position = host.stop().await;
        server.sql(
            "USE shop; ALTER TABLE t ADD early int; INSERT INTO t VALUES (1, 'y', 7, 'p', 1);
             CREATE TABLE IF NOT EXISTS t (z int); CREATE TABLE of_it LIKE t; ALTER TABLE other ADD x int; CREATE TABLE new_one (id int); FLUSH BINARY LOGS;
             INSERT INTO t VALUES (2, 'y', 7, 'p', 1); CREATE DATABASE elsewhere; DROP DATABASE elsewhere",
        );
        let mut host = setup.from(position).run();
        host.until(2).await;
        assert_eq!(names(&host), ["a,e,k,s,early"; 2]);
        host.stop().await;
    }
}

/// A table that no row was seen of is emptied.
#[tokio::test]
async fn m37_a_truncate_of_a_table_that_was_not_described_is_an_event() {
    for flavor in Flavor::ALL {
        let Some(server) = bare(flavor) else { return };
        server.sql(TABLE);
        let mut host = Setup::new(&server).ready().await;
        server.sql("USE shop; TRUNCATE t; INSERT INTO other VALUES (1)");
        let texts = host.until(2).await;
        assert_eq!(texts[0], "t shop.t none > none");
        assert_eq!(host.events[0].id.rsplit(':').next(), Some("0"));
        host.stop().await;
    }
}

/// While a table without transactions is renamed MySQL's catalog lacks it at times, which is not taken for
/// its end.
#[tokio::test]
async fn m37_a_table_that_is_missing_for_a_moment_is_not_gone() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    let server = Arc::new(server);
    server.sql(
        "CREATE DATABASE shop; USE shop;
         CREATE TABLE t (id int) ENGINE=MyISAM; CREATE TABLE unwanted (id int) ENGINE=MyISAM",
    );
    let setup = Setup::new(&server);
    let mut position = setup.ready().await.stop().await;
    for _ in 0..8 {
        server.sql("TRUNCATE shop.t");
        let (renaming, begun) = (Arc::clone(&server), Arc::new(AtomicBool::new(false)));
        let begins = Arc::clone(&begun);
        let renames = std::thread::spawn(move || {
            begins.store(true, Ordering::Relaxed);
            renaming.sql(&format!(
                "USE shop; {}",
                "RENAME TABLE t TO c, unwanted TO t, c TO unwanted;".repeat(40)
            ));
        });
        while !begun.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let mut host = setup.clone().from(position).run();
        assert_eq!(host.until(1).await, ["t shop.t none > none"]);
        renames.join().unwrap();
        position = host.stop().await;
    }
}

const UUID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// MariaDB's log has UUIDs and addresses as BINARY. Of a table that was made while the log was read, the
/// statement tells, whatever became of the table since.
#[tokio::test]
async fn m64_uuids_and_addresses_of_tables_that_are_gone_or_others_by_now() {
    let Some(server) = server(Flavor::Mariadb, &[]) else { return };
    server.sql("CREATE DATABASE shop");
    let setup = Setup::new(&server);
    let mut host = setup.ready().await;
    server.sql(&format!(
        "USE shop;
         CREATE TABLE a (id int PRIMARY KEY, `u ,(` uuid, six inet6 NOT NULL, four inet4, b binary(16),
           c enum('uuid', 'inet6'), KEY uuid (six), UNIQUE inet6 (four)) COMMENT 'b uuid';
         INSERT INTO a VALUES (1, '{UUID}', '::1', '10.0.0.1', 'bytes', 'uuid');
         CREATE OR REPLACE TABLE a (id int PRIMARY KEY, four binary(4));
         INSERT INTO a VALUES (1, 'abcd');
         CREATE TABLE d (id int PRIMARY KEY, u uuid); INSERT INTO d VALUES (1, '{UUID}'); DROP TABLE d;
         CREATE TABLE d (id int PRIMARY KEY, u binary(16)); INSERT INTO d VALUES (1, 'u'); DROP TABLE d"
    ));
    host.until(4).await;
    let images: Vec<_> = host.events.iter().map(|event| event.json[1].clone().unwrap()).collect();
    let expected = [
        format!(
            r#"{{"id":1,"u ,(":"{UUID}","six":"::1","four":"10.0.0.1","b":"Ynl0ZXMAAAAAAAAAAAAAAA==","c":"uuid"}}"#
        ),
        r#"{"id":1,"four":"YWJjZA=="}"#.to_owned(),
        format!(r#"{{"id":1,"u":"{UUID}"}}"#),
        r#"{"id":1,"u":"dQAAAAAAAAAAAAAAAAAAAA=="}"#.to_owned(),
    ];
    assert_eq!(images, expected);
    host.stop().await;
}

/// Of an older table the catalog tells, also where it was altered since: as long as no statement may have
/// made a column a UUID, or taken that from it.
#[tokio::test]
async fn m64_uuids_and_addresses_of_tables_that_were_altered_while_nobody_looked() {
    for (alter, is_clear) in [
        ("ADD COLUMN z int FIRST, ADD INDEX (u), DROP COLUMN v", true),
        ("ADD COLUMN z int COMMENT 'uuid' FIRST, ADD INDEX modify_z (z), DROP COLUMN v", true),
        ("MODIFY u binary(16)", false),
        ("CHANGE u u char(36) CHARACTER SET latin1", false),
        ("DROP COLUMN u", false),
        ("RENAME COLUMN u TO w", false),
    ] {
        let Some(server) = server(Flavor::Mariadb, &[]) else { return };
        server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (id int PRIMARY KEY, u uuid, v int)");
        let setup = Setup::new(&server);
        let position = setup.ready().await.stop().await;
        server.sql(&format!(
            "USE shop; INSERT INTO t VALUES (1, '{UUID}', 2); ALTER TABLE t {alter}"
        ));
        let mut host = setup.from(position).run();
        if is_clear {
            server.sql(&format!("INSERT INTO shop.t VALUES (3, 2, '{UUID}')"));
            host.until(2).await;
            let rows: Vec<_> =
                host.events.iter().map(|event| event.json[1].clone().unwrap()).collect();
            let expected = [
                format!(r#"{{"id":1,"u":"{UUID}","v":2}}"#),
                format!(r#"{{"z":3,"id":2,"u":"{UUID}"}}"#),
            ];
            assert_eq!(rows, expected);
            host.stop().await;
        } else {
            let error = host.error().await;
            assert_eq!(error.code().0, "RT2801", "{alter}");
            assert!(error.message().contains("at last by the statement at"), "{alter} {error}");
            assert!(!error.remedy().unwrap().contains("--at PLACE"), "{alter}");
            assert!(host.events.is_empty(), "{alter}");
        }
    }
}

/// MariaDB's moments of before 10.1 are longer where they have fractions of a second, which the log does not
/// say, whatever its metadata are.
#[tokio::test]
async fn m64_old_moments_with_fractions_are_refused_and_those_without_are_read() {
    for metadata in ["binlog_row_metadata=FULL", "binlog_row_metadata=MINIMAL"] {
        let settings = ["mysql56_temporal_format=OFF", metadata];
        let Some(server) = server(Flavor::Mariadb, &settings) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop;
             CREATE TABLE t (id int PRIMARY KEY, d datetime);
             CREATE TABLE f (id int PRIMARY KEY, d datetime(3))",
        );
        let setup = Setup::new(&server);
        let mut host = setup.ready().await;
        server.sql("INSERT INTO shop.t VALUES (1, '2024-02-29 12:34:56')");
        host.until(1).await;
        let row = host.events[0].json[1].clone().unwrap();
        assert_eq!(row, r#"{"id":1,"d":"2024-02-29T12:34:56.000000"}"#, "{metadata}");
        server.sql("INSERT INTO shop.f VALUES (1, '2024-02-29 12:34:56.789')");
        let error = host.error().await;
        assert_eq!(error.code().0, "RT2801", "{error}");
        assert!(error.message().contains("fractions of a second in the form"), "{error}");
        assert_eq!(host.events.len(), 1, "{metadata}");
    }
}

/// The newest event's table, with its types and the key's columns, and its new row.
fn newest(host: &Host) -> (String, String) {
    let table = host.tables.last().unwrap();
    let name = |one: &rowtide_sdk::Column| format!("{} {}", one.name, one.type_name);
    let columns: Vec<String> = table.columns.iter().map(name).collect();
    let row = host.events.last().unwrap().json[1].clone().unwrap();
    // From when it is in force, which is another time in each run.
    let row = match row.split_once(r#","row_start":"#) {
        Some((row, period)) => format!("{row},… {}", period.contains(r#""row_end":"#)),
        None => row,
    };
    (format!("{} ({}) {:?}", table.name, columns.join(", "), table.primary_key), row)
}

/// What MariaDB's tables have and its list of columns lacks: hashes of long unique keys, which are nobody's,
/// and from when to when rows of a versioned table were in force. It is the same whatever the log says of
/// tables, and before and after an ALTER.
#[tokio::test]
async fn m3_columns_that_mariadb_does_not_list() {
    for metadata in ["FULL", "MINIMAL", "NO_LOG"] {
        let settings = [format!("binlog_row_metadata={metadata}")];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let Some(server) = Mysql::start(Flavor::Mariadb, &settings) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop;
             CREATE TABLE a (id int PRIMARY KEY, t text UNIQUE, b blob, UNIQUE (b, t));
             CREATE TABLE b (id int PRIMARY KEY, v int) WITH SYSTEM VERSIONING;
             CREATE TABLE c (id int PRIMARY KEY, t text UNIQUE) WITH SYSTEM VERSIONING;
             CREATE TABLE d (DB_ROW_HASH_1 bigint PRIMARY KEY, t text NOT NULL UNIQUE)",
        );
        let mut host = Setup::new(&server).ready().await;
        let steps = [
            (
                "INSERT INTO a VALUES (1, 'x', 'y')",
                "a (id int, t text, b blob) [0]",
                r#"{"id":1,"t":"x","b":"eQ=="}"#,
            ),
            (
                "INSERT INTO b VALUES (1, 2)",
                "b (id int, v int, row_start timestamp(6), row_end timestamp(6)) [0, 3]",
                r#"{"id":1,"v":2,… true"#,
            ),
            (
                "INSERT INTO c VALUES (1, 'x')",
                "c (id int, t text, row_start timestamp(6), row_end timestamp(6)) [0, 3]",
                r#"{"id":1,"t":"x",… true"#,
            ),
            (
                "INSERT INTO d VALUES (7, 'x')",
                "d (DB_ROW_HASH_1 bigint, t text) [0]",
                r#"{"DB_ROW_HASH_1":7,"t":"x"}"#,
            ),
            (
                "ALTER TABLE a ADD c int; UPDATE a SET c = 4 WHERE id = 1",
                "a (id int, t text, b blob, c int) [0]",
                r#"{"id":1,"t":"x","b":"eQ==","c":4}"#,
            ),
            (
                "ALTER TABLE a DROP INDEX t; INSERT INTO a VALUES (5, 'x', 'z', 6)",
                "a (id int, t text, b blob, c int) [0]",
                r#"{"id":5,"t":"x","b":"eg==","c":6}"#,
            ),
        ];
        for (round, (sql, table, row)) in steps.into_iter().enumerate() {
            server.sql(&format!("USE shop; {sql}"));
            host.until(round + 1).await;
            assert_eq!(newest(&host), (table.to_owned(), row.to_owned()), "{metadata} {sql}");
        }
        host.stop().await;
    }
}

/// The catalog writes labels as in SQL, and has a question mark for characters that it cannot write.
#[tokio::test]
async fn m3_labels_come_from_the_catalog_as_they_are_or_not_at_all() {
    for flavor in Flavor::ALL {
        let Some(server) = bare(flavor) else { return };
        server.sql(
            "SET NAMES utf8mb4; CREATE DATABASE shop; USE shop;
             CREATE TABLE t (id int PRIMARY KEY, e enum('a\\\\b','l\\nf','it''s','r\\r','?') CHARACTER SET latin1,
               s set('\\\\','é', 'x\\0') CHARACTER SET utf8mb4);
             CREATE TABLE lost (id int PRIMARY KEY, e enum('😀','x') CHARACTER SET utf8mb4)",
        );
        let setup = Setup::new(&server);
        let mut host = setup.ready().await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (1, 1, 7), (2, 2, 2), (3, 3, 0), (4, 4, 1), (5, 5, 1)",
        );
        host.until(5).await;
        let rows: Vec<_> = host.events.iter().map(|event| event.json[1].clone().unwrap()).collect();
        let expected = [
            r#"{"id":1,"e":"a\\b","s":"\\,é,x\u0000"}"#,
            r#"{"id":2,"e":"l\nf","s":"é"}"#,
            r#"{"id":3,"e":"it's","s":""}"#,
            r#"{"id":4,"e":"r\r","s":"\\"}"#,
            r#"{"id":5,"e":"?","s":"\\"}"#,
        ];
        assert_eq!(rows, expected, "{}", flavor.name());
        server.sql("INSERT INTO shop.lost VALUES (1, 'x')");
        let error = host.error().await;
        assert_eq!(error.code().0, "RT2801", "{error}");
        assert!(error.message().contains("binlog_row_metadata=FULL"), "{error}");
    }
}
