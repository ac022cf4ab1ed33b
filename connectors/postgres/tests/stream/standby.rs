//! Standbys: capture from one, promotion, failover to one, and a choice of servers in the URL.

use std::time::{Duration, Instant};

use rowtide_postgres::wire::{ReplicationConnection, sql_client};
use rowtide_postgres::{PgPosition, PostgresConfig, setup_sql};
use rowtide_sdk::{Class, Position, Provider, ReselectRules};
use rowtide_testkit::{Postgres, not_applicable, postgres_versions};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{PATIENCE, Setup};
use crate::logs::{keep_warnings, warnings};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    CREATE PUBLICATION shop FOR TABLE t";

/// The versions from `oldest` on; `why` says what older ones lack.
fn versions_from(oldest: u32, why: &str) -> Vec<String> {
    let is_new = |version: &String| version.parse::<u32>().unwrap() >= oldest;
    let versions: Vec<String> = postgres_versions().into_iter().filter(is_new).collect();
    if versions.is_empty() {
        not_applicable(why);
    }
    versions
}

const STANDBYS_DECODE: &str = "standbys decode from PostgreSQL 16 on";

/// A primary and a standby that streams from it.
async fn pair(version: &str, args: &[&str]) -> Option<(Postgres, Postgres)> {
    let mut primary = Postgres::start(version, &["autovacuum=off"])?;
    let admin = primary.client("postgres").await;
    let slot = "SELECT pg_create_physical_replication_slot('replica', true)";
    admin.batch_execute(slot).await.unwrap();
    drop(admin);
    let standby = primary.replica(args);
    Some((primary, standby))
}

/// Waits until a query's only value is true.
async fn until(sql: &Client, query: &str) {
    let since = Instant::now();
    loop {
        let holds = sql.query_opt(query, &[]).await.unwrap();
        if holds.is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(true)) {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "not in time: {query}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the standby has replayed everything that the primary has written.
async fn caught_up(primary: &Postgres, standby: &Postgres) {
    let sql = primary.client("postgres").await;
    let end: String = sql.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    let sql = standby.client("postgres").await;
    until(&sql, &format!("SELECT pg_last_wal_replay_lsn() >= '{end}'")).await;
}

/// Logs running transactions again and again, as a busy primary does.
async fn busy(primary: &Postgres) -> JoinHandle<()> {
    let client = primary.client("postgres").await;
    tokio::spawn(async move {
        while client.batch_execute("SELECT pg_log_standby_snapshot()").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

async fn promote(standby: &Postgres) {
    let sql = standby.client("postgres").await;
    sql.batch_execute("SELECT pg_promote(true)").await.unwrap();
}

/// A URL of both servers.
fn both(first: &Postgres, second: &Postgres, attrs: &str) -> serde_json::Value {
    let (first, second) = (first.port(), second.port());
    json!(format!(
        "postgres://postgres@127.0.0.1:{first},127.0.0.1:{second}/shop?target_session_attrs={attrs}"
    ))
}

fn timeline(position: Option<&Position>) -> u32 {
    PgPosition::parse(position.unwrap()).unwrap().history.timeline
}

#[tokio::test]
async fn h72_changes_are_captured_from_a_standby_and_through_its_promotion() {
    keep_warnings();
    for version in versions_from(16, STANDBYS_DECODE) {
        let Some((primary, standby)) = pair(&version, &[]).await else { return };
        let sql = database(&primary, "shop", SCHEMA).await;
        caught_up(&primary, &standby).await;
        let setup = Setup::new(&standby, "shop").set("heartbeat", json!({ "interval": "200ms" }));
        // An idle primary logs no running transactions, which a slot of a standby begins with.
        let error = setup.refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2206", Class::Transient), "{error}");
        assert!(error.remedy().unwrap().contains("pg_log_standby_snapshot"), "{error}");

        let busy = busy(&primary).await;
        let mut host = setup.run();
        host.ready().await;
        busy.abort();
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        assert_eq!(host.until(1).await, ["c public.t none > id=1,v=-"], "{version}");
        host.during(Duration::from_millis(1500)).await;
        let position = host.stop().await;
        assert_eq!(timeline(position.as_ref()), 1);

        let mut host = setup.clone().from(position).run();
        sql.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
        host.until(1).await;
        let before = warnings(&["RT2344"]).len();
        promote(&standby).await;
        let sql = standby.client("shop").await;
        sql.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
        assert_eq!(host.until(2).await[1], "c public.t none > id=3,v=-", "{version}");
        let since = Instant::now();
        while warnings(&["RT2344"]).len() == before {
            assert!(since.elapsed() < PATIENCE);
            host.during(Duration::from_millis(100)).await;
        }
        sql.batch_execute("INSERT INTO t VALUES (4)").await.unwrap();
        host.until(3).await;
        let position = host.stop().await;
        assert_eq!(timeline(position.as_ref()), 2);
        let mut host = setup.from(position).run();
        sql.batch_execute("INSERT INTO t VALUES (5)").await.unwrap();
        assert_eq!(host.until(1).await, ["c public.t none > id=5,v=-"], "{version}");
        host.stop().await;
    }
}

/// What an operator is told to run is for the primary, but for the slot.
#[tokio::test]
async fn h72_sql_for_a_standby_is_to_run_on_its_primary() {
    for version in versions_from(16, STANDBYS_DECODE) {
        let Some((primary, standby)) = pair(&version, &[]).await else { return };
        let _sql = database(&primary, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        caught_up(&primary, &standby).await;
        let setup = Setup::new(&standby, "shop");
        let error = setup.refusal().await;
        assert_eq!(error.code().0, "RT2121", "{error}");
        let remedy = error.remedy().unwrap();
        assert!(remedy.starts_with("on the primary: CREATE PUBLICATION"), "{remedy}");
        for finding in setup.check().await {
            let remedy = finding.remedy.unwrap_or_default();
            let changes = ["CREATE PUB", "ALTER TABLE", "ALTER ROLE", "GRANT "];
            let is_change = changes.iter().any(|verb| remedy.contains(verb));
            assert!(!is_change || remedy.contains("on the primary"), "{remedy}");
        }
        let nothing = ReselectRules { lookup: &|_, _| false, rules: &[] };
        let script = setup_sql(&setup.source(), "shop", Provider::SelfRun, nothing).await;
        assert!(script.contains("is a standby") && script.contains("on its primary"), "{script}");
        // Started over after the publication was dropped.
        let position = position_of(&setup, &primary, &standby).await;
        let gone = "DROP PUBLICATION shop";
        primary.client("shop").await.batch_execute(gone).await.unwrap();
        caught_up(&primary, &standby).await;
        let error = setup.from(Some(position)).refusal().await;
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains("1. on the primary: CREATE PUBLICATION"), "{remedy}");
        assert!(
            remedy.contains("'pgoutput')") && remedy.contains("3. on this standby"),
            "{remedy}"
        );
    }
}

/// The position of a first run.
async fn position_of(setup: &Setup, primary: &Postgres, standby: &Postgres) -> Position {
    let sql = primary.client("shop").await;
    sql.batch_execute("CREATE PUBLICATION shop FOR TABLE t").await.unwrap();
    caught_up(primary, standby).await;
    let busy = busy(primary).await;
    let mut host = setup.run();
    host.ready().await;
    busy.abort();
    host.stop().await.unwrap()
}

/// A standby whose primary does not know what it needs loses its slots, and that is said by name.
#[tokio::test]
async fn h72_a_slot_that_conflicts_with_recovery_is_refused() {
    for version in versions_from(16, STANDBYS_DECODE) {
        let feedback = ["hot_standby_feedback=off"];
        let Some((primary, standby)) = pair(&version, &feedback).await else { return };
        let sql = database(&primary, "shop", SCHEMA).await;
        caught_up(&primary, &standby).await;
        let setup = Setup::new(&standby, "shop");
        let busy = busy(&primary).await;
        let mut host = setup.run();
        host.ready().await;
        busy.abort();
        let checked = setup.check().await;
        assert!(checked.iter().any(|f| f.message.contains("hot_standby_feedback")), "{checked:#?}");
        let position = host.stop().await;
        let removal = ["CREATE TABLE filler ()", "DROP TABLE filler", "VACUUM pg_class"];
        for statement in removal {
            sql.batch_execute(statement).await.unwrap();
        }
        let watch = standby.client("postgres").await;
        until(&watch, "SELECT conflicting FROM pg_replication_slots WHERE slot_name = 'shop'")
            .await;
        let error = setup.from(position).refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2120", Class::Fatal), "{version}: {error}");
        assert!(error.remedy().unwrap().contains("hot_standby_feedback"), "{error}");
    }
}

#[tokio::test]
async fn h72_a_standby_that_serves_no_slots_is_refused() {
    for version in postgres_versions() {
        if version.parse::<u32>().unwrap() >= 16 {
            not_applicable("this server serves slots of standbys");
            continue;
        }
        let Some((primary, standby)) = pair(&version, &[]).await else { return };
        let _sql = database(&primary, "shop", SCHEMA).await;
        caught_up(&primary, &standby).await;
        let error = Setup::new(&standby, "shop").refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2124", Class::Fatal), "{error}");
    }
}

/// From version 17 on the slot itself fails over.
#[tokio::test]
async fn h15_a_failover_slot_goes_on_at_the_promoted_standby() {
    for version in versions_from(17, "slots fail over from PostgreSQL 17 on") {
        let sync = ["sync_replication_slots=on"];
        let Some((mut primary, standby)) = pair(&version, &sync).await else { return };
        let sql = database(&primary, "shop", SCHEMA).await;
        caught_up(&primary, &standby).await;
        let setup = Setup::new(&primary, "shop").set("url", both(&primary, &standby, "primary"));
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        host.until(1).await;
        let slot = "SELECT failover FROM pg_replication_slots WHERE slot_name = 'shop'";
        assert!(sql.query_one(slot, &[]).await.unwrap().get::<_, bool>(0));
        let watch = standby.client("postgres").await;
        let synced = "SELECT synced AND NOT temporary FROM pg_replication_slots
            WHERE slot_name = 'shop'";
        let since = Instant::now();
        while !watch.query_opt(synced, &[]).await.unwrap().is_some_and(|row| row.get(0)) {
            assert!(since.elapsed() < 3 * PATIENCE, "the slot is not synchronized");
            sql.batch_execute("SELECT pg_log_standby_snapshot()").await.unwrap();
            host.during(Duration::from_millis(200)).await;
        }
        // Until then nobody may read the copy.
        let early = Setup::new(&standby, "shop").from(host.position.clone()).refusal().await;
        assert_eq!((early.code().0, early.class()), ("RT2205", Class::Fatal), "{early}");
        assert!(early.message().contains("synchronized"), "{early}");

        sql.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
        host.until(2).await;
        caught_up(&primary, &standby).await;
        drop(sql);
        primary.halt(true);
        let error = host.error().await;
        assert_eq!(error.class(), Class::Transient, "{error}");
        let again = setup.from(host.position.clone());
        // Neither server is a primary for now.
        let error = again.refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2343", Class::Transient), "{error}");
        promote(&standby).await;
        let sql = standby.client("shop").await;
        sql.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
        let mut host = again.run();
        assert_eq!(host.until(1).await, ["c public.t none > id=3,v=-"], "{version}");
        let position = host.stop().await;
        assert_eq!(timeline(position.as_ref()), 2);
    }
}

/// Without such a slot changes are missing after a failover, and nothing goes on as if they were not.
#[tokio::test]
async fn h15_a_slot_that_did_not_fail_over_is_refused() {
    for version in postgres_versions() {
        let Some((mut primary, standby)) = pair(&version, &[]).await else { return };
        let sql = database(&primary, "shop", SCHEMA).await;
        let setup = Setup::new(&primary, "shop").set("url", both(&primary, &standby, "read-write"));
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        host.until(1).await;
        let position = host.stop().await;
        caught_up(&primary, &standby).await;
        drop(sql);
        primary.halt(true);
        promote(&standby).await;
        let error = setup.from(position).refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2204", Class::Fatal), "{error}");
        let slots = "SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name = 'shop'";
        until(&standby.client("postgres").await, slots).await;
    }
}

/// A standby that had not received all that was captured begins another history.
#[tokio::test]
async fn h14_a_standby_that_was_behind_what_was_captured_is_refused() {
    for version in postgres_versions() {
        let Some((mut primary, standby)) = pair(&version, &[]).await else { return };
        let sql = database(&primary, "shop", SCHEMA).await;
        let setup = Setup::new(&primary, "shop").set("url", both(&primary, &standby, "primary"));
        let mut host = setup.run();
        host.ready().await;
        caught_up(&primary, &standby).await;
        let watch = standby.client("postgres").await;
        watch.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
        watch.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        until(&watch, "SELECT count(*) = 0 FROM pg_stat_wal_receiver").await;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        host.until(1).await;
        host.during(Duration::from_millis(1500)).await;
        let position = host.stop().await;
        drop(sql);
        primary.halt(true);
        promote(&standby).await;
        let error = setup.from(position).refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2202", Class::Fatal), "{version}: {error}");
        for words in ["timeline 1", "timeline 2"] {
            assert!(error.message().contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn h15_the_server_that_is_asked_for_is_chosen() {
    for version in postgres_versions() {
        let Some((primary, standby)) = pair(&version, &[]).await else { return };
        let _sql = database(&primary, "shop", SCHEMA).await;
        caught_up(&primary, &standby).await;
        let (first, second) = (standby.port(), primary.port());
        let url = both(&standby, &primary, "ATTRS").as_str().unwrap().to_owned();
        let options = |attrs| {
            let config: PostgresConfig = serde_json::from_value(json!({
                "url": url.replace("ATTRS", attrs), "slot": "s", "publication": "p",
            }))
            .unwrap();
            config.connect_options(std::path::Path::new("/")).unwrap()
        };
        let port = "SELECT current_setting('port')::int";
        for (attrs, expected) in [
            ("any", first),
            ("standby", first),
            ("prefer-standby", first),
            ("primary", second),
            ("read-write", second),
        ] {
            let client = sql_client(&options(attrs)).await.unwrap();
            let found: i32 = client.query_one(port, &[]).await.unwrap().get(0);
            assert_eq!(found, i32::from(expected), "{version} {attrs}");
            let connection = ReplicationConnection::connect(&options(attrs)).await.unwrap();
            let found = connection.options();
            assert!(found.target.to_string().ends_with(&format!(":{expected}")), "{attrs}");
            // Whatever is asked next is asked of the same server.
            let client = sql_client(found).await.unwrap();
            let found: i32 = client.query_one(port, &[]).await.unwrap().get(0);
            assert_eq!(found, i32::from(expected), "{version} {attrs}");
        }
        let admin = primary.client("postgres").await;
        admin
            .batch_execute("ALTER DATABASE shop SET default_transaction_read_only = on")
            .await
            .unwrap();
        let error = sql_client(&options("read-write")).await.unwrap_err();
        assert_eq!((error.code().0, error.class()), ("RT2343", Class::Transient), "{error}");
        for words in ["a standby", "a primary that takes no writes"] {
            assert!(error.message().contains(words), "{error}");
        }
        assert!(sql_client(&options("primary")).await.is_ok());
        drop(standby);
        assert!(sql_client(&options("prefer-standby")).await.is_ok());
        assert!(sql_client(&options("any")).await.is_ok());
    }
}

/// A name with several addresses, of which only one has a server.
#[tokio::test]
async fn h15_every_address_of_a_name_is_tried() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let _sql = database(&server, "shop", SCHEMA).await;
    let port = server.port();
    let url = format!("postgres://postgres@localhost:{port}/shop?target_session_attrs=primary");
    let mut host = Setup::new(&server, "shop").set("url", json!(url)).run();
    host.ready().await;
    host.stop().await;
}
