//! Transactions that the server sends before they are complete.

use std::path::Path;
use std::time::{Duration, Instant};

use rowtide_sdk::Class;
use rowtide_testkit::{Postgres, not_applicable, postgres_versions};
use serde_json::json;
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{Event, Host, PATIENCE, Place, Setup};

/// So that a few hundred rows are streamed.
pub(crate) const SMALL: &str = "logical_decoding_work_mem=64kB";

/// The versions that stream: of PostgreSQL 14 it is not asked (RT2307).
pub(crate) fn streaming_versions() -> Vec<String> {
    let mut versions = postgres_versions();
    versions.retain(|version| version != "14");
    if versions.is_empty() {
        not_applicable("PostgreSQL 14 is not asked to stream");
    }
    versions
}

pub(crate) fn streaming(server: &Postgres) -> Setup {
    Setup::new(server, "shop").set("streaming", json!("on"))
}

/// The files of a session, and the bytes in them.
pub(crate) fn spooled(scratch: &Path) -> (usize, u64) {
    let files: Vec<u64> = match std::fs::read_dir(scratch) {
        Ok(entries) => entries.map(|entry| entry.unwrap().metadata().unwrap().len()).collect(),
        Err(_) => Vec::new(),
    };
    (files.len(), files.iter().sum())
}

/// Waits for what must come soon. The host takes batches meanwhile: a source that cannot hand its
/// progress over stops reading.
pub(crate) async fn wait_for(host: &mut Host, what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what} did not come");
        host.during(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn run(sql: &Client, statement: &str) {
    if let Err(error) = sql.batch_execute(statement).await {
        panic!("{statement}: {error:?}");
    }
}

/// `c public.t none > id=7,…` as 7.
pub(crate) fn ids(events: &[Event]) -> Vec<i32> {
    let id = |event: &Event| {
        let after = event.after.as_deref().unwrap();
        after.strip_prefix("id=").unwrap().split(',').next().unwrap().parse().unwrap()
    };
    events.iter().map(id).collect()
}

const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('ok', 'bad');
    CREATE TABLE shared (id int PRIMARY KEY, v text);
    CREATE TABLE t0 (id int PRIMARY KEY, v text);
    CREATE TABLE t1 (id int PRIMARY KEY, v text);
    ALTER TABLE t1 REPLICA IDENTITY FULL;
    CREATE TABLE t2 (id int NOT NULL UNIQUE, v text, m mood DEFAULT 'ok');
    ALTER TABLE t2 REPLICA IDENTITY USING INDEX t2_id_key;
    CREATE TABLE t3 (id int PRIMARY KEY, v text);
    ALTER TABLE t3 ALTER v SET STORAGE EXTERNAL";

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// A session of the application with a table of its own, in a transaction.
struct Session {
    sql: Client,
    table: usize,
    savepoints: u64,
    columns: u64,
}

impl Session {
    /// One statement; `id` is a number nobody uses, with 1000 free ones behind it.
    async fn step(&mut self, dice: &mut Dice, id: u64) {
        let table = format!("t{}", self.table);
        let last = id + dice.roll(400);
        let statement = match dice.roll(17) {
            0..4 => format!(
                "INSERT INTO shared SELECT g, 'shared ' || g FROM generate_series({id}, {last}) g"
            ),
            4..7 => format!(
                "INSERT INTO {table} SELECT g, 'row ' || g FROM generate_series({id}, {last}) g"
            ),
            7 => format!("INSERT INTO {table} VALUES ({id}, repeat('x', 200000))"),
            8 => format!("UPDATE {table} SET v = v || '!' WHERE id % 3 = 0 AND length(v) < 1000"),
            9 => format!("UPDATE {table} SET id = -id WHERE id % 7 = 0"),
            10 => format!("DELETE FROM {table} WHERE id % 5 = 0"),
            11 => format!("TRUNCATE {table}"),
            12 if self.savepoints > 0 => {
                self.savepoints -= 1;
                format!("ROLLBACK TO s{0}; RELEASE s{0}", self.savepoints)
            }
            13 if self.savepoints > 0 => {
                self.savepoints -= 1;
                format!("RELEASE s{}", self.savepoints)
            }
            14 => {
                self.columns += 1;
                format!("ALTER TABLE {table} ADD c{}_{id} int DEFAULT 7", self.columns)
            }
            15 => {
                self.savepoints = 0;
                let end = if dice.roll(3) == 0 { "ROLLBACK" } else { "COMMIT" };
                format!("{end}; BEGIN")
            }
            _ => {
                self.savepoints += 1;
                format!("SAVEPOINT s{}", self.savepoints - 1)
            }
        };
        run(&self.sql, &statement).await;
    }
}

/// Sessions with long transactions that cross each other, with savepoints, rollbacks and ALTER, and
/// short ones between them.
async fn crossing(server: &Postgres, seed: u64, steps: u64) {
    let mut dice = Dice(seed | 1);
    let plain = server.client("shop").await;
    let mut sessions = Vec::new();
    for table in 0..4 {
        let sql = server.client("shop").await;
        run(&sql, "BEGIN").await;
        sessions.push(Session { sql, table, savepoints: 0, columns: 0 });
    }
    for step in 0..steps {
        let id = (seed % 1000) * 1_000_000 + step * 1000 + 1;
        let chosen = usize::try_from(dice.roll(4)).unwrap();
        sessions[chosen].step(&mut dice, id).await;
        if dice.roll(4) == 0 {
            run(&plain, &format!("INSERT INTO shared VALUES ({}, 'plain')", id + 999)).await;
        }
    }
    for session in sessions {
        let end = if dice.roll(4) == 0 { "ROLLBACK" } else { "COMMIT" };
        run(&session.sql, end).await;
    }
    run(&plain, "INSERT INTO shared VALUES (0, 'the end')").await;
}

async fn until_the_end(host: &mut Host) {
    while !host.events.last().is_some_and(|event| event.text().contains("v=the end")) {
        host.batch().await;
    }
}

/// The server counts the transactions that it streamed, and says so a little later.
pub(crate) async fn until_streamed(sql: &Client, transactions: i64) {
    let streamed = "SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = 'shop'";
    let since = Instant::now();
    while sql.query_one(streamed, &[]).await.unwrap().get::<_, i64>(0) < transactions {
        assert!(since.elapsed() < PATIENCE, "fewer than {transactions} were streamed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Two slots see the same log, one with streaming and one without.
#[tokio::test]
async fn h39_streamed_transactions_are_the_same_as_whole_ones() {
    for version in streaming_versions() {
        for seed in [1, 22] {
            let Some(server) = Postgres::start(&version, &[SMALL]) else { return };
            let sql = database(&server, "shop", TABLES).await;
            let mut setup = streaming(&server);
            setup.limits.spool_memory = usize::try_from(seed % 2 * 300_000).unwrap();
            let mut streamed = setup.run();
            streamed.ready().await;
            let mut whole = Setup::new(&server, "shop").set("slot", json!("whole")).run();
            whole.ready().await;
            crossing(&server, seed, 250).await;
            until_the_end(&mut whole).await;
            until_the_end(&mut streamed).await;
            let differ = whole.events.iter().zip(&streamed.events).find(|(a, b)| a != b);
            assert_eq!(differ, None, "{version} {seed}");
            assert_eq!(streamed.events.len(), whole.events.len());
            assert!(whole.events.len() > 3000, "{}", whole.events.len());
            until_streamed(&sql, 5).await;
            assert_eq!(spooled(&setup.scratch).0, 0, "files of complete transactions are left");
            streamed.stop().await;
            whole.stop().await;
        }
    }
}

/// A streamed transaction, killed again and again while it is handed over, now with streaming and now
/// without.
#[tokio::test]
async fn h07_a_replay_goes_on_where_it_was_cut() {
    for version in streaming_versions() {
        let Some(server) = Postgres::start(&version, &[SMALL]) else { return };
        let sql = database(&server, "shop", TABLES).await;
        let on = streaming(&server).rows(700);
        let off = on.clone().set("streaming", json!("off"));
        let mut host = on.run();
        host.ready().await;
        run(
            &sql,
            "BEGIN; INSERT INTO shared SELECT g, 'a' FROM generate_series(1, 3000) g;
             SAVEPOINT s; INSERT INTO shared SELECT g, 'lost' FROM generate_series(3001, 6000) g;
             ROLLBACK TO s; INSERT INTO shared SELECT g, 'b' FROM generate_series(3001, 6000) g;
             COMMIT",
        )
        .await;
        let mut seen = Vec::new();
        let mut position = None;
        for round in 0..6 {
            host.batch().await;
            seen.append(&mut host.events);
            position = host.kill().await;
            let next = if round % 2 == 0 { &off } else { &on };
            host = next.clone().from(position.clone()).run();
        }
        host.kill().await;
        let mut host = on.from(position).run();
        host.until(6000 - seen.len()).await;
        seen.append(&mut host.events);
        assert_eq!(ids(&seen), (1..=6000).collect::<Vec<_>>(), "{version}");
        for (at, event) in seen.iter().enumerate() {
            assert!(event.id.ends_with(&format!(":{at}")), "{} at {at}", event.id);
        }
        host.stop().await;
    }
}

/// A session ends while a transaction is being streamed: the next one gets it whole, from its start.
#[tokio::test]
async fn h39_a_transaction_is_streamed_again_after_a_restart() {
    for version in streaming_versions() {
        let Some(server) = Postgres::start(&version, &[SMALL]) else { return };
        let sql = database(&server, "shop", TABLES).await;
        let other = server.client("shop").await;
        let setup = streaming(&server);
        let mut host = setup.run();
        host.ready().await;
        let rows = "INSERT INTO shared SELECT g, repeat('x', 100) FROM generate_series";
        run(&sql, &format!("BEGIN; {rows}(1, 2000) g")).await;
        wait_for(&mut host, "the spool", || spooled(&setup.scratch).1 > 100_000).await;
        run(&other, "INSERT INTO shared VALUES (-1, 'short')").await;
        host.until(1).await;
        let position = host.kill().await;
        // Left as a killed process would leave it.
        std::fs::write(setup.scratch.join("77.spool"), "torn").unwrap();
        let mut host = setup.clone().from(position).run();
        run(&sql, &format!("{rows}(2001, 4000) g")).await;
        wait_for(&mut host, "the spool", || spooled(&setup.scratch).1 > 400_000).await;
        assert_eq!(spooled(&setup.scratch).0, 1, "the last session's file is still there");
        run(&sql, "COMMIT").await;
        host.until(4000).await;
        assert_eq!(ids(&host.events), (1..=4000).collect::<Vec<_>>(), "{version}");
        host.stop().await;
        assert_eq!(spooled(&setup.scratch), (0, 0));
    }
}

#[tokio::test]
async fn h39_a_rolled_back_transaction_leaves_nothing() {
    for version in streaming_versions() {
        let Some(server) = Postgres::start(&version, &[SMALL]) else { return };
        let sql = database(&server, "shop", TABLES).await;
        let setup = streaming(&server);
        let mut host = setup.run();
        host.ready().await;
        run(
            &sql,
            "BEGIN; INSERT INTO shared SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g",
        )
        .await;
        wait_for(&mut host, "the spool", || spooled(&setup.scratch).1 > 500_000).await;
        run(&sql, "ROLLBACK").await;
        wait_for(&mut host, "the end of the spool", || spooled(&setup.scratch).0 == 0).await;
        run(&sql, "INSERT INTO shared VALUES (1, 'kept')").await;
        assert_eq!(host.until(1).await, ["c public.shared none > id=1,v=kept"], "{version}");
        host.stop().await;
    }
}

async fn slot(sql: &Client) -> (i32, String) {
    let row = sql
        .query_one("SELECT active_pid, confirmed_flush_lsn::text FROM pg_replication_slots", &[])
        .await
        .unwrap();
    (row.get::<_, Option<i32>>(0).unwrap_or_default(), row.get(1))
}

/// While a replay waits for the host, the server is kept informed and nothing is confirmed.
#[tokio::test]
async fn h08_a_blocked_replay_keeps_its_connection() {
    for version in streaming_versions() {
        let Some(server) = Postgres::start(&version, &[SMALL, "wal_sender_timeout=2s"]) else {
            return;
        };
        let sql = database(&server, "shop", TABLES).await;
        let mut host = streaming(&server).rows(100).run();
        host.ready().await;
        host.during(Duration::from_millis(500)).await;
        host.saves = false;
        let before = slot(&sql).await;
        run(&sql, "INSERT INTO shared SELECT g, 'x' FROM generate_series(1, 20000) g").await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(slot(&sql).await, before, "{version}");
        host.saves = true;
        host.until(20_000).await;
        host.during(Duration::from_millis(500)).await;
        assert_eq!(slot(&sql).await.0, before.0, "{version}");
        host.stop().await;
    }
}

/// Progress goes on beside a transaction that is being streamed, and is never past it.
#[tokio::test]
async fn h09_progress_goes_on_beside_a_streamed_transaction() {
    for version in streaming_versions() {
        let Some(server) = Postgres::start(&version, &[SMALL, "wal_sender_timeout=2s"]) else {
            return;
        };
        let sql = database(&server, "shop", TABLES).await;
        run(&sql, "CREATE TABLE unwanted (v text)").await;
        let other = server.client("shop").await;
        let setup = streaming(&server);
        let mut host = setup.run();
        host.ready().await;
        run(&sql, "BEGIN; INSERT INTO shared SELECT g, 'x' FROM generate_series(1, 2000) g").await;
        wait_for(&mut host, "the spool", || spooled(&setup.scratch).1 > 0).await;
        let before = host.place().confirm;
        for _ in 0..4 {
            run(&other, "INSERT INTO unwanted SELECT 'x' FROM generate_series(1, 1000)").await;
            host.during(Duration::from_millis(1000)).await;
        }
        assert!(host.place().confirm > before, "{version}: no progress");
        assert!(host.events.is_empty());
        let position = host.kill().await;
        run(&sql, "COMMIT").await;
        let mut host = setup.from(position).run();
        host.until(2000).await;
        assert_eq!(ids(&host.events), (1..=2000).collect::<Vec<_>>(), "{version}");
        host.stop().await;
    }
}

/// The server looks for the table as a savepoint that was rolled back left it, and does not find it.
/// After the commit it knows better.
#[tokio::test]
async fn h39_what_the_server_cannot_stream_comes_after_its_commit() {
    for version in streaming_versions() {
        let Some(server) = Postgres::start(&version, &[SMALL]) else { return };
        let sql = database(&server, "shop", TABLES).await;
        let setup = streaming(&server).in_one_process();
        let mut host = setup.run();
        host.ready().await;
        run(&sql, "INSERT INTO t0 VALUES (0); INSERT INTO shared VALUES (0)").await;
        host.until(2).await;
        let position = host.stop().await;
        // All at once, so that the server decodes it when it is over.
        run(
            &sql,
            "BEGIN;
             SAVEPOINT a; TRUNCATE t0; ROLLBACK TO a;
             CREATE TABLE made (id int PRIMARY KEY);
             INSERT INTO t0 SELECT g, repeat('x', 200) FROM generate_series(1, 2000) g;
             ALTER TABLE t0 ADD more int;
             COMMIT;
             INSERT INTO t0 SELECT g, 'after', 7 FROM generate_series(2001, 2003) g",
        )
        .await;
        let setup = setup.from(position);
        let mut host = setup.run();
        let error = host.error().await;
        assert_eq!((error.code().0, error.class()), ("RT2307", Class::Transient), "{version}");
        assert!(host.events.is_empty());
        let mut host = setup.run();
        host.until(2003).await;
        assert_eq!(ids(&host.events), (1..=2003).collect::<Vec<_>>(), "{version}");
        assert_eq!(spooled(&setup.scratch).0, 0, "nothing is streamed any more");
        let position = host.stop().await;
        let other = Setup::new(&server, "shop").set("streaming", json!("on")).from(position);
        let mut host = other.run();
        host.ready().await;
        run(&sql, "INSERT INTO t0 SELECT g, 'new', 7 FROM generate_series(3001, 5000) g").await;
        host.until(2000).await;
        host.stop().await;
    }
}

#[tokio::test]
async fn h39_the_spools_limit_stops_the_source_and_nothing_is_lost() {
    let Some(version) = streaming_versions().pop() else { return };
    let Some(server) = Postgres::start(&version, &[SMALL]) else { return };
    let sql = database(&server, "shop", TABLES).await;
    let setup = streaming(&server).set("spool", json!({ "max": "200kB" }));
    let mut host = setup.run();
    host.ready().await;
    run(&sql, "INSERT INTO shared SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g")
        .await;
    let error = host.error().await;
    assert_eq!((error.code().0, error.class()), ("RT2300", Class::Fatal), "{error}");
    assert_eq!(spooled(&setup.scratch).0, 0, "a session leaves nothing");
    let position = host.position.clone();
    let mut host = setup.set("streaming", json!("off")).from(position).run();
    host.until(5000).await;
    host.stop().await;
}

#[tokio::test]
async fn h39_an_unusable_folder_is_named_at_the_start() {
    let Some(version) = streaming_versions().pop() else { return };
    let Some(server) = Postgres::start(&version, &[SMALL]) else { return };
    let _sql = database(&server, "shop", TABLES).await;
    let file = server.folder().join("file");
    std::fs::write(&file, "x").unwrap();
    let setup = streaming(&server).set("spool", json!({ "dir": file }));
    let error = setup.refusal().await;
    assert_eq!((error.code().0, error.class()), ("RT2302", Class::Fatal), "{error}");
}

/// In a streamed transaction PostgreSQL 14 may describe a table as it was before another session altered
/// it, and leave the new column out of its rows, where a savepoint with an ALTER of its own was rolled
/// back.
#[tokio::test]
async fn h39_postgresql_14_is_not_asked_to_stream() {
    for version in postgres_versions() {
        if version != "14" {
            not_applicable("later versions stream");
            continue;
        }
        let Some(server) = Postgres::start(&version, &[SMALL]) else { return };
        let sql = database(&server, "shop", TABLES).await;
        let setup = streaming(&server);
        let warned = setup.check().await;
        assert!(warned.iter().any(|found| found.code.0 == "RT2307"), "{warned:?}");
        let mut host = setup.run();
        host.ready().await;
        run(&sql, "BEGIN; INSERT INTO shared SELECT g, 'x' FROM generate_series(1, 2000) g").await;
        host.during(Duration::from_millis(500)).await;
        assert_eq!(spooled(&setup.scratch).0, 0);
        run(&sql, "COMMIT").await;
        host.until(2000).await;
        host.stop().await;
    }
}
