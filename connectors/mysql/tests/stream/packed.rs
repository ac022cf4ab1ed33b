//! Transactions and events that servers pack.

use rowtide_sdk::Class;
use rowtide_testkit::host::Event;
use rowtide_testkit::{Flavor, Mysql};

use crate::host::{Place as _, Setup, server, spooled};
use crate::proxy::Proxy;

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

/// A server that packs, with a table of bytes that cannot be packed smaller.
fn random_server(settings: &[&str]) -> Option<Mysql> {
    let all = [&["binlog_transaction_compression=ON", "max_allowed_packet=1G"], settings].concat();
    let server = server(Flavor::Mysql, &all)?;
    server.sql("CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, v longblob)");
    Some(server)
}

/// A source that waits while the server writes and reads a large event.
fn patient(server: &Mysql) -> Setup {
    Setup::new(server).set("heartbeat_seconds", 20.into())
}

/// One statement for rows of 1000 bytes.
fn random_rows(from: u32, count: u32) -> String {
    let to = from + count;
    format!(
        "SET SESSION cte_max_recursion_depth = {to};
         INSERT INTO shop.t WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {to})
         SELECT i, RANDOM_BYTES(1000) FROM n;"
    )
}

/// It takes several packets of the connection, and more than the memory for what is set aside.
#[tokio::test]
async fn m5_m26_a_packed_transaction_of_several_packets_resumes_inside_and_leaves_nothing() {
    const ROWS: u32 = 40_000;
    let checksums = [&["binlog_checksum=CRC32"][..], &["binlog_checksum=NONE"]];
    for settings in checksums {
        let Some(server) = random_server(settings) else { return };
        let setup = patient(&server).rows(1000);
        let mut host = setup.ready().await;
        server.sql(&(random_rows(0, ROWS) + "INSERT INTO shop.t VALUES (-1, 'end')"));
        host.until(ROWS as usize / 3).await;
        assert!(spooled(&setup.scratch).1 > 30_000_000, "{:?}", spooled(&setup.scratch));
        let mut ids: Vec<String> = host.events.iter().map(|event| event.id.clone()).collect();
        let position = host.kill().await;
        let mut host = setup.clone().from(position).run();
        host.until(ROWS as usize + 1 - ids.len()).await;
        assert!(host.largest.0 < 2000 && host.largest.1 < 1 << 20, "{:?}", host.largest);
        ids.extend(host.events.iter().map(|event| event.id.clone()));
        let (transaction, _) = ids[0].rsplit_once(':').unwrap();
        for (index, id) in ids[..ROWS as usize].iter().enumerate() {
            assert_eq!(*id, format!("{transaction}:{index}"));
        }
        assert_eq!(ids.len(), ROWS as usize + 1);
        assert_eq!(spooled(&setup.scratch).1, 0);
        host.stop().await;
    }
}

/// With savepoints it is held a second time, unpacked; and an XA transaction stays until its end.
#[tokio::test]
async fn m5_m29_m31_a_large_packed_transaction_may_be_rolled_back_in_part() {
    let Some(server) = random_server(&["gtid_mode=OFF", "enforce_gtid_consistency=OFF"]) else {
        return;
    };
    server.sql("CREATE TABLE shop.m (id int PRIMARY KEY) ENGINE=MyISAM");
    let setup = patient(&server).rows(1000);
    let mut host = setup.ready().await;
    server.sql(&format!(
        "BEGIN; {} SAVEPOINT s; {} INSERT INTO shop.m VALUES (1); ROLLBACK TO s; {} COMMIT;
         XA START 'x'; {} XA END 'x'; XA PREPARE 'x';",
        random_rows(0, 3000),
        random_rows(3000, 3000),
        random_rows(6000, 10),
        random_rows(7000, 3000),
    ));
    host.until(3011).await;
    let ids: Vec<String> = host.events.iter().map(|event| event.id.clone()).collect();
    server.sql("XA COMMIT 'x'");
    host.until(6011).await;
    assert!(host.events[..3011].iter().map(|event| &event.id).eq(&ids));
    assert!(host.events.iter().all(|event| event.poison.is_none()));
    host.stop().await;
    assert_eq!(spooled(&setup.scratch).0, 0);
}

/// Nothing of a packed transaction is handed over where it was damaged on its way, however far its end is.
#[tokio::test]
async fn m5_m7_a_damaged_packed_transaction_is_not_taken() {
    for (rows, large) in [(100, false), (20_000, true)] {
        let Some(server) = random_server(&["binlog_checksum=CRC32"]) else { return };
        let proxy = Proxy::to(server.port()).await;
        let setup = patient(&server);
        let mut host = setup.clone().set("url", proxy.url()).ready().await;
        server.sql("INSERT INTO shop.t VALUES (-1, 'whole')");
        host.until(1).await;
        while host.place().in_tx.is_some() {
            host.batch().await;
        }
        let position = host.position.clone();
        proxy.damage("damage me");
        server.sql(&format!(
            "BEGIN; {} INSERT INTO shop.t VALUES (-2, CONCAT(RANDOM_BYTES(50), 'damage me')); {} COMMIT;",
            random_rows(0, rows),
            random_rows(rows, rows),
        ));
        let error = host.error().await;
        assert_eq!((error.code().0, error.class()), ("RT2705", Class::Fatal), "{error}");
        assert!(error.message().contains("checksum"), "{large} {error}");
        assert_eq!(host.events.len(), 1, "{large}");
        assert_eq!(host.position, position);
        let mut host = setup.from(position).run();
        host.until(2 * rows as usize + 1).await;
        host.stop().await;
    }
}

/// What is too large in a packed transaction is so as in a plain one, and is not held either.
#[tokio::test]
async fn m5_m26_a_large_row_in_a_packed_transaction_is_poison_and_the_rest_is_not() {
    for is_held in [false, true] {
        let gtids: &[&str] =
            if is_held { &["gtid_mode=OFF", "enforce_gtid_consistency=OFF"] } else { &[] };
        let Some(server) = random_server(gtids) else { return };
        let setup = patient(&server);
        let mut host = setup.ready().await;
        let begin = if is_held {
            server.sql("CREATE TABLE shop.m (id int PRIMARY KEY) ENGINE=MyISAM");
            "BEGIN; SAVEPOINT a; INSERT INTO shop.m VALUES (1); ROLLBACK TO a;"
        } else {
            "BEGIN;"
        };
        server.sql(&format!(
            "{begin} INSERT INTO shop.t VALUES (1, 'a'), (2, REPEAT('x', 20000000)), (3, 'c');
             INSERT INTO shop.t VALUES (4, REPEAT('y', 30000000)); DELETE FROM shop.t WHERE id = 4; COMMIT"
        ));
        host.until(5 + usize::from(is_held)).await;
        let shop: Vec<&Event> =
            host.events.iter().filter(|event| event.table == "shop.t").collect();
        let poison: Vec<_> = shop.iter().map(|event| event.poison).collect();
        let large = Some("RT2708");
        assert_eq!(poison, [None, large, None, large, large], "{is_held}");
        host.stop().await;
    }
}
