//! The slot's guard: heartbeats, warnings, and connections that die without a sign.

use std::time::{Duration, Instant};

use rowtide_sdk::{Class, FactValue, Reporter};
use rowtide_testkit::{Postgres, not_applicable, postgres_versions};
use serde_json::json;
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{Host, Setup};
use crate::logs::{keep_warnings, warnings};
use crate::proxy::Proxy;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";

/// A source of its own database, which is also the name of its slot, that looks at the slot often.
fn setup(server: &Postgres, database: &str) -> Setup {
    Setup::new(server, database).set("heartbeat", json!({ "interval": "200ms" }))
}

fn figure(report: &Reporter, name: &str) -> Option<f64> {
    let facts = report.known()?.facts;
    facts.iter().find(|fact| fact.name == name).and_then(|fact| match &fact.value {
        FactValue::Gauge(figure) => Some(*figure),
        FactValue::Counter(count) => Some(*count as f64),
        FactValue::State(_) => None,
    })
}

fn state(report: &Reporter, name: &str) -> Option<String> {
    let facts = report.known()?.facts;
    facts.into_iter().find(|fact| fact.name == name).and_then(|fact| match fact.value {
        FactValue::State(state) => Some(state),
        _ => None,
    })
}

/// Takes batches until something holds.
async fn until(host: &mut Host, what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < crate::host::PATIENCE, "not in time: {what}");
        host.during(Duration::from_millis(50)).await;
    }
}

async fn lag(sql: &Client, from: &str) -> i64 {
    let query = format!("SELECT (pg_current_wal_lsn() - {from})::bigint FROM pg_replication_slots");
    sql.query_one(&query, &[]).await.unwrap().get(0)
}

/// Writes so many segments of log, nearly empty.
async fn segments(sql: &Client, count: usize) {
    for _ in 0..count {
        sql.batch_execute("CREATE TABLE filler (); DROP TABLE filler; SELECT pg_switch_wal()")
            .await
            .unwrap();
    }
}

/// Waits until a setting that was reloaded is in force.
async fn until_shown(sql: &Client, setting: &str, value: &str) {
    let query = format!("SELECT current_setting('{setting}') = '{value}'");
    while !sql.query_one(&query, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The captured tables are idle, and another database of the cluster writes.
#[tokio::test]
async fn h09_traffic_in_another_database_lets_the_log_go() {
    for version in postgres_versions() {
        for heartbeat in [json!({ "interval": "200ms" }), json!("off")] {
            let Some(server) = Postgres::start(&version, &["autovacuum=off"]) else { return };
            let sql = database(&server, "shop", TABLE).await;
            let other = database(&server, "other", "CREATE TABLE busy (v text)").await;
            let is_on = heartbeat != json!("off");
            let setup = setup(&server, "shop").set("heartbeat", heartbeat);
            let mut host = setup.run();
            host.ready().await;
            for _ in 0..8 {
                other
                    .batch_execute(
                        "INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 5000)",
                    )
                    .await
                    .unwrap();
                host.during(Duration::from_millis(400)).await;
            }
            let written: i64 = sql
                .query_one("SELECT (pg_current_wal_lsn() - '0/0')::bigint", &[])
                .await
                .unwrap()
                .get(0);
            assert!(written > 32 << 20);
            // The server lets go of log at a record of its running transactions, which checkpoints
            // write among others.
            for _ in 0..2 {
                other.batch_execute("CHECKPOINT").await.unwrap();
                host.during(Duration::from_millis(1500)).await;
            }
            assert!(lag(&sql, "confirmed_flush_lsn").await < 1 << 20, "{version}");
            assert!(lag(&sql, "restart_lsn").await < 16 << 20, "{version}");
            assert!(host.events.is_empty());
            let heartbeats = figure(&setup.report, "heartbeats_total").unwrap();
            assert_eq!(heartbeats > 0.0, is_on, "{version}: {heartbeats}");
            host.stop().await;
        }
    }
}

/// An idle server stays idle: heartbeats do not feed on themselves.
#[tokio::test]
async fn h09_an_idle_server_is_left_alone() {
    let Some(server) = Postgres::start("18", &["autovacuum=off"]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    let setup = setup(&server, "shop");
    let mut host = setup.run();
    host.ready().await;
    host.during(Duration::from_secs(2)).await;
    let before = figure(&setup.report, "heartbeats_total").unwrap();
    let end = "SELECT pg_current_wal_lsn()::text";
    let at: String = sql.query_one(end, &[]).await.unwrap().get(0);
    host.during(Duration::from_secs(3)).await;
    assert_eq!(figure(&setup.report, "heartbeats_total"), Some(before));
    assert_eq!(sql.query_one(end, &[]).await.unwrap().get::<_, String>(0), at);
    host.stop().await;
}

#[tokio::test]
async fn h09_a_role_that_may_not_write_heartbeats_is_told_so_once() {
    keep_warnings();
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["autovacuum=off"]) else { return };
        let name = format!("mute{version}");
        let sql = database(&server, &name, TABLE).await;
        sql.batch_execute(
            "CREATE ROLE mute LOGIN REPLICATION; ALTER TABLE t OWNER TO mute;
             GRANT CREATE ON SCHEMA public TO mute",
        )
        .await
        .unwrap();
        sql.batch_execute(&format!("GRANT CREATE ON DATABASE {name} TO mute")).await.unwrap();
        sql.batch_execute(
            "DO $$ DECLARE f regprocedure; BEGIN
               FOR f IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP
                 EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM public', f);
               END LOOP; END $$",
        )
        .await
        .unwrap();
        let url = format!("postgres://mute@127.0.0.1:{}/{name}", server.port());
        let setup = setup(&server, &name).set("url", json!(url));
        let mut host = setup.run();
        host.ready().await;
        let before = warnings(&["RT2340"]).len();
        for _ in 0..10 {
            segments(&sql, 1).await;
            host.during(Duration::from_millis(300)).await;
        }
        assert_eq!(warnings(&["RT2340"]).len(), before + 1, "{version}");
        // The log is confirmed all the same.
        host.during(Duration::from_millis(1500)).await;
        assert!(lag(&sql, "confirmed_flush_lsn").await < 1 << 20, "{version}");
        host.stop().await;
    }
}

/// From fine to lost: each danger is warned of before the loss, and the loss is refused by name.
#[tokio::test]
async fn h17_a_slot_that_loses_its_log_is_warned_of_and_then_refused() {
    keep_warnings();
    for version in postgres_versions() {
        let settings = [
            "max_slot_wal_keep_size=320MB",
            "max_wal_size=64MB",
            "min_wal_size=32MB",
            "checkpoint_timeout=1h",
            "autovacuum=off",
        ];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let name = format!("lost{version}");
        let sql = database(&server, &name, TABLE).await;
        let setup = setup(&server, &name);
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        host.until(1).await;
        host.during(Duration::from_millis(1500)).await;
        let report = &setup.report;
        until(&mut host, "a first look", || state(report, "slot_wal_status").is_some()).await;
        assert_eq!(state(report, "slot_wal_status").as_deref(), Some("reserved"));
        assert!(figure(report, "slot_safe_bytes").unwrap() > 0.0);
        // The sink stands still.
        host.saves = false;
        let warned = |code: &str| !warnings(&[code, &name]).is_empty();
        segments(&sql, 10).await;
        until(&mut host, "a slot with more log than usual", || warned("RT2342")).await;
        assert!(!warned("RT2341"), "{version}");
        // From here on no checkpoint but our own takes what is over the limit.
        sql.batch_execute("ALTER SYSTEM SET max_wal_size = '8GB'").await.unwrap();
        sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        until_shown(&sql, "max_wal_size", "8GB").await;
        // Nor one that began before, which this one waits for.
        sql.batch_execute("CHECKPOINT").await.unwrap();
        segments(&sql, 9).await;
        until(&mut host, "a slot that is nearly lost", || warned("RT2341")).await;
        segments(&sql, 6).await;
        until(&mut host, "a slot that may be lost at any time", || {
            state(report, "slot_wal_status").as_deref() == Some("unreserved")
        })
        .await;
        sql.batch_execute("CHECKPOINT").await.unwrap();
        let error = host.error().await;
        assert_eq!(error.class(), Class::Transient, "{error}");
        let error = setup.from(host.position.clone()).refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2120", Class::Fatal), "{error}");
        assert!(error.message().contains("wal_removed"), "{error}");
        assert!(error.message().contains("max_slot_wal_keep_size"), "{error}");
    }
}

/// From version 18 on a slot that nobody reads may be given up by its idle time.
#[tokio::test]
async fn h17_a_slot_that_was_idle_for_too_long_is_refused_by_name() {
    for version in postgres_versions() {
        if version.parse::<u32>().unwrap() < 18 {
            not_applicable("slots end by their idle time from PostgreSQL 18 on");
            continue;
        }
        let settings = ["idle_replication_slot_timeout=1s"];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let setup = setup(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        // A slot that is read is never idle.
        host.during(Duration::from_millis(2500)).await;
        sql.batch_execute("CHECKPOINT").await.unwrap();
        let position = host.stop().await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        sql.batch_execute("CHECKPOINT").await.unwrap();
        let error = setup.from(position).refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2120", Class::Fatal), "{error}");
        assert!(error.message().contains("idle_replication_slot_timeout"), "{error}");
        let checked = Setup::new(&server, "shop").check().await;
        assert!(checked.iter().any(|finding| finding.code.0 == "RT2120"), "{checked:#?}");
    }
}

/// Through kills of the source and a crash of the server, what is confirmed never goes back.
#[tokio::test]
async fn h11_confirmations_never_go_back() {
    for version in postgres_versions() {
        let Some(mut server) = Postgres::start(&version, &["checkpoint_timeout=1h"]) else {
            return;
        };
        let sql = database(&server, "shop", TABLE).await;
        let proxy = Proxy::to(server.port()).await;
        let url = format!("postgres://postgres@127.0.0.1:{}/shop", proxy.port);
        let setup = setup(&server, "shop").set("url", json!(url));
        let mut position = None;
        for round in 0..4 {
            let mut host = setup.clone().from(position).run();
            host.ready().await;
            for id in 0..10 {
                sql.execute("INSERT INTO t VALUES ($1)", &[&(round * 100 + id)]).await.unwrap();
                host.during(Duration::from_millis(60)).await;
            }
            host.until(10).await;
            host.during(Duration::from_millis(300)).await;
            position = host.kill().await;
        }
        drop(sql);
        // The server forgets what was confirmed since its last checkpoint.
        server.halt(true);
        server.resume();
        let mut host = setup.clone().from(position).run();
        host.during(Duration::from_secs(2)).await;
        assert!(host.events.is_empty(), "nothing comes again: {:?}", host.events);
        host.stop().await;
        let confirmed = proxy.confirmations();
        assert!(confirmed.len() > 20, "{}", confirmed.len());
        assert!(confirmed.is_sorted(), "{version}: {confirmed:x?}");
        assert!(confirmed.first() < confirmed.last());
    }
}

/// Nothing arrives any more and nothing is closed: the connection is given up, and the next one is
/// made as soon as one can be.
#[tokio::test]
async fn h74_a_half_open_connection_is_given_up() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["wal_sender_timeout=1s"]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let proxy = Proxy::to(server.port()).await;
        let url = format!("postgres://postgres@127.0.0.1:{}/shop", proxy.port);
        let setup = setup(&server, "shop").set("url", json!(url));
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        host.until(1).await;
        host.during(Duration::from_millis(300)).await;
        proxy.freeze(true);
        sql.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
        let since = Instant::now();
        let error = host.error().await;
        assert_eq!((error.code().0, error.class()), ("RT2212", Class::Transient), "{error}");
        assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
        let again = setup.from(host.position.clone());
        let error = again.refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2101", Class::Transient), "{error}");
        proxy.freeze(false);
        let mut host = again.run();
        assert_eq!(host.until(1).await, ["c public.t none > id=2,v=-"]);
        host.stop().await;
    }
}
