//! Restarts: nothing lost, nothing repeated in files, the same schema versions.

use rowtide_testkit::Postgres;
use serde_json::{Value, json};

use crate::host::{Setup, sql, value};

fn ids(setup: &Setup) -> Vec<i64> {
    let events = setup.events();
    let Some(events) = events.get("shop.public.t") else { return Vec::new() };
    events.iter().map(|event| event["after"]["id"].as_i64().unwrap()).collect()
}

/// Hazard 5: a transaction that began before and committed after another one.
#[test]
fn h05_a_transaction_that_commits_late_is_whole_after_a_restart() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY)");
    let setup = Setup::to_files(&server);
    let mut host = setup.first_start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let early = runtime.block_on(server.client("postgres"));
    runtime
        .block_on(early.batch_execute("BEGIN; INSERT INTO t SELECT generate_series(1, 5)"))
        .unwrap();
    sql(&server, "INSERT INTO t VALUES (100)");
    host.until("the short transaction is there", || setup.count() == 1);
    assert_eq!(host.stop(), Some(0));
    runtime
        .block_on(early.batch_execute("INSERT INTO t SELECT generate_series(6, 10); COMMIT"))
        .unwrap();
    let mut host = setup.start();
    host.until("the long transaction is there", || setup.count() == 11);
    assert_eq!(host.stop(), Some(0));
    assert_eq!(ids(&setup), [100, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_large_transaction_killed_again_and_again_arrives_exactly_once() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY, note text)");
    let setup = Setup::to_files(&server);
    let mut host = setup.first_start();
    host.kill();
    sql(&server, "INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 100000) n");
    for round in 1..=6_u64 {
        let mut host = setup.start();
        std::thread::sleep(std::time::Duration::from_millis(60 * round));
        host.kill();
    }
    let mut host = setup.start();
    host.until("all rows are there", || setup.count() >= 100_000);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    assert!(ids(&setup).iter().copied().eq(1..=100_000), "in order, each once");
}

#[test]
fn schema_versions_stay_the_same_over_restarts() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY)");
    let setup = Setup::to_files(&server);
    let statements = [
        "INSERT INTO t VALUES (1)",
        "ALTER TABLE t ADD COLUMN a text; INSERT INTO t VALUES (2)",
        "INSERT INTO t VALUES (3)",
        "ALTER TABLE t DROP COLUMN a; INSERT INTO t VALUES (4)",
        "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET id = 5 WHERE id = 4",
        "INSERT INTO t VALUES (6)",
    ];
    for (position, statement) in statements.iter().enumerate() {
        let mut host = setup.start();
        if position == 0 {
            host.until_logged("the first position is saved");
        }
        sql(&server, statement);
        let wanted = position + 1 + usize::from(position >= 4);
        host.until(statement, || setup.count() == wanted);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
    }
    let events = setup.events();
    let versions: Vec<&Value> =
        events["shop.public.t"].iter().map(|event| &event["schema"]["version"]).collect();
    assert_eq!(versions, ["1.0", "1.1", "1.1", "2.0", "2.1", "2.1", "2.1"]);
    let keys: Vec<&Value> = events["shop.public.t"].iter().map(|event| &event["key"]).collect();
    assert_eq!(keys[4], &json!({"id": 4}), "the key under FULL is the primary key");
}

/// Hazards 1 and 2: what is told is saved, and a clean stop repeats nothing.
#[test]
fn h01_h02_a_clean_stop_confirms_everything() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY)");
    let setup = Setup::to_files(&server);
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t VALUES (1)");
    let end = value(&server, "SELECT pg_current_wal_insert_lsn()");
    host.until("the event is there", || setup.count() == 1);
    assert_eq!(host.stop(), Some(0));
    let query =
        format!("SELECT confirmed_flush_lsn >= '{end}'::pg_lsn - 1000 FROM pg_replication_slots");
    assert_eq!(value(&server, &query), "t");
    let shown = setup.output(&["position", "show", "--connector", "shop"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let mut host = setup.start();
    sql(&server, "INSERT INTO t VALUES (2)");
    host.until("the next event is there", || setup.count() >= 2);
    assert_eq!(host.stop(), Some(0));
    assert_eq!(ids(&setup), [1, 2]);
}

/// A changed primary key under FULL shows in nothing but the catalog.
#[test]
fn h30_a_changed_primary_key_under_full_identity_changes_the_key() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(
        &server,
        "CREATE TABLE t (id int PRIMARY KEY, b int NOT NULL);
         ALTER TABLE t REPLICA IDENTITY FULL",
    );
    let setup = Setup::to_files(&server);
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t VALUES (1, 2)");
    host.until("the first event is there", || setup.count() == 1);
    sql(&server, "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, b)");
    sql(&server, "INSERT INTO t VALUES (1, 3)");
    host.until("the second event is there", || setup.count() == 2);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    let events = setup.events();
    let events = &events["shop.public.t"];
    assert_eq!(events[0]["key"], json!({"id": 1}));
    assert_eq!(events[1]["key"], json!({"id": 1, "b": 3}));
    assert_eq!(events[1]["schema"]["version"], "2.0");
}

/// Hazard 38: what the publication did not send for a while is told at the next start, once, wherever the
/// position is kept.
#[test]
fn h38_a_gap_in_the_publication_while_stopped_is_told_once() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let gap = "changes of these tables are complete only from";
    for setup in [Setup::to_files(&server), Setup::to_lines(&server, "", "")] {
        sql(&server, "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY)");
        let mut host = setup.first_start();
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let mut host = setup.start();
        host.until_logged("streaming");
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert!(!host.log().contains("WARN"), "{}", host.log());
        sql(&server, "ALTER PUBLICATION e2e DROP TABLE t");
        sql(&server, "INSERT INTO t VALUES (1)");
        sql(&server, "ALTER PUBLICATION e2e ADD TABLE t");
        let mut host = setup.start();
        host.until_logged(gap);
        assert!(host.log().contains("RT2208") && host.log().contains("public.t"), "{}", host.log());
        sql(&server, "INSERT INTO t VALUES (2)");
        let slot = "SELECT confirmed_flush_lsn >= pg_current_wal_lsn() FROM pg_replication_slots";
        host.until("all is captured", || value(&server, slot) == "t");
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let mut host = setup.start();
        host.until_logged("streaming");
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert!(!host.log().contains(gap), "{}", host.log());
        sql(&server, "SELECT pg_drop_replication_slot('e2e')");
    }
}
