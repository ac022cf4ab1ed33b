//! Transactions and events that servers pack.

use rowtide_testkit::Flavor;
use rowtide_testkit::host::Event;

use crate::host::{Setup, server, spooled};

const TABLES: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id int PRIMARY KEY, v varchar(200)); CREATE TABLE unwanted (id int PRIMARY KEY);";

const CHANGES: &str = "USE shop; INSERT INTO t VALUES (1, REPEAT('a', 150)), (2, REPEAT('b', 150));
    BEGIN; INSERT INTO t VALUES (3, 'three'); SAVEPOINT a; INSERT INTO t VALUES (4, 'four');
    ROLLBACK TO a; UPDATE t SET v = REPEAT('c', 100) WHERE id = 2; INSERT INTO unwanted VALUES (1); COMMIT;
    XA START 'x'; INSERT INTO t VALUES (5, 'five'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x';
    XA START 'y'; INSERT INTO t VALUES (6, 'six'); XA END 'y'; XA PREPARE 'y'; XA ROLLBACK 'y';
    XA START 'z'; INSERT INTO t VALUES (7, 'seven'); XA END 'z'; XA COMMIT 'z' ONE PHASE;
    CREATE TABLE made (id int PRIMARY KEY) SELECT id FROM t; ALTER TABLE t ADD COLUMN n int;
    INSERT INTO t VALUES (8, 'eight', 8); DELETE FROM t WHERE id < 3; TRUNCATE t; DROP TABLE made;";

#[tokio::test]
async fn m5_packed_transactions_hold_the_same_as_plain_ones() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    server.sql(TABLES);
    let setup = Setup::new(&server);
    let mut host = setup.ready().await;
    let mut ends = Vec::new();
    for packed in ["OFF", "ON", "OFF"] {
        server.sql("DELETE FROM shop.unwanted; ALTER TABLE shop.t COMMENT ''");
        server.sql(&format!("SET SESSION binlog_transaction_compression = {packed}; {CHANGES}"));
        server.sql("ALTER TABLE shop.t DROP COLUMN n; INSERT INTO shop.t VALUES (99, 'end'); TRUNCATE shop.t");
        let last = |host: &crate::host::Host| {
            let is_end = |event: &Event| event.in_json().contains("\"end\"");
            host.events.iter().filter(|event| is_end(event)).count()
        };
        while last(&host) <= ends.len() {
            host.batch().await;
        }
        let end = host.events.iter().rposition(|event| event.in_json().contains("\"end\""));
        ends.push(end.unwrap());
    }
    host.until(ends[2] + 2).await;
    let texts: Vec<String> = host.events.iter().map(Event::in_json).collect();
    let len = ends[0] + 2;
    assert_eq!(texts.len(), 3 * len, "{texts:#?}");
    assert_eq!(texts[..len], texts[len..2 * len]);
    assert_eq!(texts[..len], texts[2 * len..]);
    // 2 + 2 + 1 + 1 rows, 5 of the copy, one, two deleted, the truncation; and the end.
    assert_eq!(len, 2 + 2 + 1 + 1 + 5 + 1 + 2 + 1 + 2, "{texts:#?}");
    let packed = server.sql(
        "SELECT SUM(TRANSACTION_COUNTER) FROM performance_schema.binary_log_transaction_compression_stats
         WHERE LOG_TYPE = 'BINARY' AND COMPRESSION_TYPE = 'ZSTD'",
    );
    assert!(packed.trim().parse::<u32>().unwrap() >= 5, "{packed}");
    host.stop().await;
    assert_eq!(spooled(&setup.scratch).0, 0);
}

#[tokio::test]
async fn m5_a_large_packed_transaction_comes_in_bounded_batches_and_resumes_inside() {
    const ROWS: usize = 100_000;
    let Some(server) = server(Flavor::Mysql, &["binlog_transaction_compression=ON"]) else {
        return;
    };
    server.sql(TABLES);
    let setup = Setup::new(&server).rows(1000);
    let mut host = setup.ready().await;
    server.sql(&format!(
        "USE shop; SET SESSION cte_max_recursion_depth = {ROWS};
         INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         SELECT i, CONCAT('row ', i) FROM n; INSERT INTO t VALUES (-1, 'end')"
    ));
    host.until(ROWS / 3).await;
    let mut ids: Vec<String> = host.events.iter().map(|event| event.id.clone()).collect();
    assert!(host.largest.0 < 2000, "{:?}", host.largest);
    assert!(host.largest.1 < 1 << 20, "{:?}", host.largest);
    let position = host.kill().await;
    let mut host = setup.from(position).run();
    host.until(ROWS + 1 - ids.len()).await;
    assert!(host.largest.0 < 2000, "{:?}", host.largest);
    assert!(host.events.last().unwrap().in_json().ends_with(r#"{"id":-1,"v":"end"}"#));
    ids.extend(host.events.iter().map(|event| event.id.clone()));
    assert_eq!(ids.len(), ROWS + 1);
    let (transaction, _) = ids[0].rsplit_once(':').unwrap();
    for (index, id) in ids[..ROWS].iter().enumerate() {
        assert_eq!(*id, format!("{transaction}:{index}"));
    }
    host.stop().await;
}

#[tokio::test]
async fn m6_packed_events_of_mariadb_are_unpacked() {
    let settings = ["log_bin_compress=ON", "log_bin_compress_min_len=10"];
    let Some(server) = server(Flavor::Mariadb, &settings) else { return };
    server.sql(TABLES);
    let mut host = Setup::new(&server).ready().await;
    server.sql(CHANGES);
    host.until(15).await;
    let texts: Vec<String> = host.events.iter().map(Event::in_json).collect();
    let ops: String = texts.iter().map(|text| &text[..1]).collect();
    assert_eq!(ops, "cccuccccccccddt", "{texts:#?}");
    let long = |letter: &str, count| letter.repeat(count);
    assert_eq!(texts[0], format!(r#"c shop.t none > {{"id":1,"v":"{}"}}"#, long("a", 150)));
    assert_eq!(
        texts[3],
        format!(
            r#"u shop.t {{"id":2,"v":"{}"}} > {{"id":2,"v":"{}"}}"#,
            long("b", 150),
            long("c", 100)
        )
    );
    assert_eq!(texts[11], r#"c shop.t none > {"id":8,"v":"eight","n":8}"#);
    assert!(server.sql("SHOW BINLOG EVENTS").contains("Write_rows_compressed"));
    host.stop().await;
}

/// A packed transaction is one event of the log, and may be larger than the limit for those in it.
#[tokio::test]
async fn m5_a_packed_transaction_may_be_larger_than_an_event() {
    let Some(server) = server(Flavor::Mysql, &["binlog_transaction_compression=ON"]) else {
        return;
    };
    server.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, v varbinary(1000))",
    );
    let mut setup = Setup::new(&server);
    setup.limits.max_event = 64 << 10;
    let mut host = setup.ready().await;
    server.sql(
        "USE shop; SET SESSION cte_max_recursion_depth = 3000;
         INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         SELECT i, RANDOM_BYTES(1000) FROM n",
    );
    host.until(3000).await;
    assert!(host.events.iter().all(|event| event.poison.is_none()));
    host.stop().await;
}
