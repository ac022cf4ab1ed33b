//! Prepared transactions: they come at COMMIT PREPARED, once, whatever happened in between.

use std::time::Duration;

use rowtide_sdk::Class;
use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::json;
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{Host, Setup};
use crate::streamed::{SMALL, ids, run, spooled, wait_for};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";

/// Prepares a transaction of these rows, with a savepoint that takes others back.
async fn prepare(sql: &Client, name: &str, from: i32, to: i32) {
    let rows = "INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series";
    run(
        sql,
        &format!(
            "BEGIN; {rows}({from}, {to}) g; SAVEPOINT s; {rows}(-{to}, -{from}) g; ROLLBACK TO s;
             PREPARE TRANSACTION '{name}'"
        ),
    )
    .await;
}

/// Statements that each must be a transaction of their own.
async fn each(sql: &Client, statements: &str) {
    for statement in statements.split("; ") {
        run(sql, statement).await;
    }
}

/// Takes rows until `last`, and nothing comes after it; the ids.
async fn until_row(host: &mut Host, last: i32) -> Vec<i32> {
    while ids(&host.events).last() != Some(&last) {
        host.batch().await;
    }
    host.during(Duration::from_millis(200)).await;
    let seen = ids(&host.events);
    host.events.clear();
    seen
}

/// Prepared, then a restart of the source or of the server, then committed or rolled back: with a few
/// rows and with many, streamed or not.
#[tokio::test]
async fn h40_a_prepared_transaction_comes_once_at_its_commit_or_never() {
    for version in postgres_versions() {
        for streaming in ["off", "on"] {
            let settings = [SMALL, "max_prepared_transactions=9", "fsync=on"];
            let Some(mut server) = Postgres::start(&version, &settings) else { return };
            let sql = database(&server, "shop", TABLE).await;
            let setup = Setup::new(&server, "shop").set("streaming", json!(streaming)).rows(500);
            let is_on = streaming == "on" && version != "14";
            let mut host = setup.run();
            host.ready().await;
            for (name, from, to) in [
                ("a", 1, 3),
                ("b", 11, 2010),
                ("c", 3001, 3003),
                ("d", 4001, 6000),
                ("e", 7001, 7002),
            ] {
                prepare(&sql, name, from, to).await;
            }
            run(&sql, "INSERT INTO t VALUES (9001)").await;
            assert_eq!(until_row(&mut host, 9001).await, [9001], "{version} {streaming}");
            let files = || spooled(&setup.scratch).0;
            wait_for(&mut host, "the spool", || files() == if is_on { 2 } else { 0 }).await;

            // One is committed while the source runs, and one rolled back.
            each(&sql, "COMMIT PREPARED 'e'; ROLLBACK PREPARED 'c'; INSERT INTO t VALUES (9002)")
                .await;
            assert_eq!(until_row(&mut host, 9002).await, [7001, 7002, 9002]);

            // The others after it was killed, a crash of the server and another start.
            drop(sql);
            server.halt(true);
            let error = host.error().await;
            assert_eq!(error.class(), Class::Transient, "{error}");
            server.resume();
            let sql = server.client("shop").await;
            let mut host = setup.clone().from(host.position.clone()).run();
            each(&sql, "COMMIT PREPARED 'a'; ROLLBACK PREPARED 'd'; INSERT INTO t VALUES (9003)")
                .await;
            assert_eq!(until_row(&mut host, 9003).await, [1, 2, 3, 9003], "{version} {streaming}");
            let position = host.kill().await;
            each(&sql, "COMMIT PREPARED 'b'; INSERT INTO t VALUES (9004)").await;

            // Killed again and again while it is handed over.
            let mut seen = Vec::new();
            let mut host = setup.clone().from(position).run();
            while seen.last() != Some(&9004) {
                host.batch().await;
                seen.extend(ids(&host.events));
                let position = host.kill().await;
                host = setup.clone().from(position).run();
            }
            let expected: Vec<i32> = (11..=2010).chain([9004]).collect();
            assert_eq!(seen, expected, "{version} {streaming}");
            host.during(Duration::from_millis(300)).await;
            assert!(host.events.is_empty(), "{version} {streaming}: {:?}", host.events);
            assert_eq!(spooled(&setup.scratch), (0, 0), "{version} {streaming}");
            host.stop().await;
        }
    }
}
