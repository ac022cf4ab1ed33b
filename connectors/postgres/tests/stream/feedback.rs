//! What the server is told, and when.

use std::time::{Duration, Instant};

use rowtide_postgres::Lsn;
use rowtide_sdk::Class;
use rowtide_testkit::{Postgres, postgres_versions};
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{Event, Place, Setup};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE unwanted (v text)";

async fn slot(sql: &Client) -> (i32, Lsn) {
    let row = sql
        .query_one("SELECT active_pid, confirmed_flush_lsn::text FROM pg_replication_slots", &[])
        .await
        .unwrap();
    let pid: Option<i32> = row.get(0);
    (pid.unwrap_or_default(), row.get::<_, String>(1).parse().unwrap())
}

#[tokio::test]
async fn h08_a_blocked_pipeline_keeps_its_connection_and_confirms_nothing() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["wal_sender_timeout=2s"]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let mut host = Setup::new(&server, "shop").rows(100).run();
        host.ready().await;
        host.during(Duration::from_millis(500)).await;
        host.saves = false;
        let before = slot(&sql).await;
        // Far more than the channel, our buffer and the socket hold.
        sql.batch_execute(
            "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 50000) i",
        )
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(slot(&sql).await, before, "{version}");
        host.saves = true;
        host.until(50_000).await;
        host.during(Duration::from_millis(500)).await;
        let after = slot(&sql).await;
        assert_eq!(after.0, before.0);
        assert!(after.1 >= host.place().confirm && after.1 > before.1, "{after:?}");
        host.stop().await;
    }
}

#[tokio::test]
async fn h01_only_what_is_saved_is_confirmed() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    let setup = Setup::new(&server, "shop");
    let mut host = setup.run();
    host.ready().await;
    host.saves = false;
    let (_, before) = slot(&sql).await;
    for id in 0..20 {
        sql.execute("INSERT INTO t VALUES ($1)", &[&id]).await.unwrap();
    }
    host.until(10).await;
    host.during(Duration::from_millis(1500)).await;
    assert_eq!(slot(&sql).await.1, before);
    host.save();
    let confirm = host.place().confirm;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(slot(&sql).await.1, confirm);
    // What came after the last save was not confirmed, and comes again.
    host.saves = false;
    let position = host.position.clone();
    let saved = host.events.len();
    sql.batch_execute("INSERT INTO t SELECT generate_series(100, 199)").await.unwrap();
    host.until(saved + 100).await;
    host.during(Duration::from_millis(400)).await;
    assert_eq!(slot(&sql).await.1, confirm);
    let lost: Vec<Event> = host.events.split_off(saved);
    host.kill().await;
    let mut host = setup.from(position).run();
    host.until(lost.len()).await;
    assert_eq!(host.events, lost);
    host.stop().await;
}

/// The end of a transaction's commit record, which another decoder names too, is what is confirmed: not
/// the record's own place, after which the transaction would come again, and nothing of the next one.
#[tokio::test]
async fn h02_what_is_confirmed_is_the_end_of_the_commit() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["autovacuum=off"]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let probe = "SELECT pg_create_logical_replication_slot('probe', 'test_decoding')";
        sql.batch_execute(probe).await.unwrap();
        // Full after one row, so that the end of a transaction comes by itself.
        let setup = Setup::new(&server, "shop").rows(1);
        let mut host = setup.run();
        host.ready().await;
        let mut ends = Vec::new();
        for id in 0..3 {
            sql.execute("INSERT INTO t VALUES ($1)", &[&id]).await.unwrap();
            while host.events.len() == ends.len() || host.place().in_tx.is_some() {
                host.batch().await;
            }
            ends.push(host.place().confirm);
        }
        let commits = "SELECT lsn::text FROM pg_logical_slot_peek_changes('probe', NULL, NULL)
            WHERE data LIKE 'COMMIT%'";
        let commits = sql.query(commits, &[]).await.unwrap();
        let commits: Vec<Lsn> =
            commits.iter().map(|row| row.get::<_, String>(0).parse().unwrap()).collect();
        let begins: Vec<Lsn> = host
            .events
            .iter()
            .map(|event| event.id.split(':').next().unwrap().parse().unwrap())
            .collect();
        for (at, commit) in commits[commits.len() - 3..].iter().enumerate() {
            assert!(begins[at] < *commit && *commit <= ends[at], "{version}: {commit} {ends:?}");
            assert!(begins.get(at + 1).is_none_or(|next| ends[at] <= *next), "{version}: {ends:?}");
        }
        let position = host.stop().await;
        let confirmed = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots
            WHERE slot_name = 'shop'";
        let confirmed: String = sql.query_one(confirmed, &[]).await.unwrap().get(0);
        assert!(confirmed.parse::<Lsn>().unwrap() >= ends[2], "{version}: {confirmed}");
        sql.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
        let mut host = setup.from(position).run();
        assert_eq!(host.until(1).await, ["c public.t none > id=3,v=-"], "{version}");
        host.stop().await;
    }
}

/// A batch that left before the end of its transaction arrived is followed by that end at once: a kill
/// right after it repeats nothing.
#[tokio::test]
async fn the_end_of_a_transaction_follows_its_rows_at_once() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    // Full after one row, so that every batch is cut before the Commit.
    let mut host = Setup::new(&server, "shop").rows(1).run();
    host.ready().await;
    for id in 0..10 {
        sql.execute("INSERT INTO t VALUES ($1)", &[&id]).await.unwrap();
        host.until(usize::try_from(id).unwrap() + 1).await;
        assert!(host.place().in_tx.is_some());
        let since = Instant::now();
        host.batch().await;
        let took = since.elapsed();
        assert_eq!(host.place().in_tx, None);
        assert!(took < Duration::from_millis(300), "{id}: {took:?}");
    }
    host.stop().await;
}

#[tokio::test]
async fn h09_an_idle_source_lets_the_log_go() {
    for version in postgres_versions() {
        let settings = ["wal_sender_timeout=3s", "autovacuum=off"];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        for _ in 0..6 {
            sql.batch_execute(
                "INSERT INTO unwanted SELECT repeat('x', 1000) FROM generate_series(1, 5000)",
            )
            .await
            .unwrap();
            host.during(Duration::from_millis(1000)).await;
        }
        host.during(Duration::from_millis(2500)).await;
        assert!(host.events.is_empty());
        // The server lets go of log at a record of its running transactions, as checkpoints write.
        for _ in 0..2 {
            sql.batch_execute("CHECKPOINT").await.unwrap();
            host.during(Duration::from_millis(1500)).await;
        }
        let lags = "SELECT (pg_current_wal_lsn() - '0/0')::bigint,
            (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint,
            (pg_current_wal_lsn() - restart_lsn)::bigint FROM pg_replication_slots";
        let row = sql.query_one(lags, &[]).await.unwrap();
        let [written, confirmed, kept] = [0, 1, 2].map(|at| row.get::<_, i64>(at));
        assert!(written > 32 << 20, "{version}: {written}");
        assert!(confirmed < 1 << 20 && kept < 16 << 20, "{version}: {confirmed} {kept}");
        // What was confirmed had been saved before, and nothing after it is lost.
        assert!(slot(&sql).await.1 <= host.place().confirm);
        let position = host.kill().await;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        let mut host = Setup::new(&server, "shop").from(position).run();
        assert_eq!(host.until(1).await, ["c public.t none > id=1,v=-"]);
        host.stop().await;
    }
}

#[tokio::test]
async fn h10_idle_progress_is_not_confirmed_before_it_is_saved() {
    let Some(server) = Postgres::start("15", &["wal_sender_timeout=2s"]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    let mut host = Setup::new(&server, "shop").run();
    host.ready().await;
    host.during(Duration::from_millis(300)).await;
    host.saves = false;
    let before = slot(&sql).await;
    sql.batch_execute(
        "INSERT INTO unwanted SELECT repeat('x', 1000) FROM generate_series(1, 5000)",
    )
    .await
    .unwrap();
    host.during(Duration::from_secs(4)).await;
    assert!(host.place().confirm > before.1);
    assert_eq!(slot(&sql).await, before);
    host.kill().await;
}

/// A fast shutdown waits until every walsender's client has confirmed the last record.
#[tokio::test]
async fn h20_a_fast_shutdown_does_not_wait_for_us() {
    for (version, saves) in [("15", true), ("18", true), ("15", false)] {
        let Some(mut server) = Postgres::start(version, &[]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        host.saves = saves;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        host.until(1).await;
        drop(sql);
        let started = Instant::now();
        let stopping = tokio::task::spawn_blocking(move || {
            server.halt(false);
            server
        });
        let error = host.error().await;
        let server = stopping.await.unwrap();
        assert_eq!(error.class(), Class::Transient, "{error}");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{version} {saves}: {took:?}, {error}");
        drop(server);
    }
}

/// While the host has no room nothing is read, and a fast shutdown waits until all was.
#[tokio::test]
async fn h20_a_fast_shutdown_does_not_wait_for_a_sink_that_is_away() {
    for version in postgres_versions() {
        let Some(mut server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE t (id int PRIMARY KEY, v text)";
        let sql = database(&server, "shop", schema).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        let rows = "INSERT INTO t SELECT g, repeat('x', 300) FROM generate_series(1, 200000) g";
        sql.batch_execute(rows).await.unwrap();
        drop(sql);
        // Nobody takes a batch.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let started = Instant::now();
        let stopping = tokio::task::spawn_blocking(move || {
            server.halt(false);
            server
        });
        let mut server = stopping.await.unwrap();
        let took = started.elapsed();
        // The slot is looked after every ten seconds.
        assert!(took < Duration::from_secs(15), "{version}: {took:?}");
        let error = host.error().await;
        assert_eq!((error.code().0, error.class()), ("RT2219", Class::Transient), "{error}");
        server.resume();
        let before = host.events.len();
        let mut host = Setup::new(&server, "shop").from(host.position.clone()).run();
        let taken = host.until(200_000 - before).await;
        assert_eq!(taken.last().unwrap().split(',').next(), Some("c public.t none > id=200000"));
        host.kill().await;
    }
}

/// A server that answers nothing any more is noticed.
#[tokio::test]
async fn h74_silence_is_noticed() {
    let Some(server) = Postgres::start("15", &["wal_sender_timeout=1s"]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    let mut host = Setup::new(&server, "shop").run();
    host.ready().await;
    host.during(Duration::from_secs(5)).await;
    assert!(!host.task.is_finished(), "an idle server was taken for a dead one");
    let (pid, _) = slot(&sql).await;
    let stop = std::process::Command::new("kill").args(["-STOP", &pid.to_string()]).status();
    assert!(stop.unwrap().success());
    let error = host.error().await;
    assert_eq!((error.code().0, error.class()), ("RT2212", Class::Transient), "{error}");
    let go_on = std::process::Command::new("kill").args(["-CONT", &pid.to_string()]).status();
    assert!(go_on.unwrap().success());
}
