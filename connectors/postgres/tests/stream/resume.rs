//! Where a source goes on after a stop, a kill, a crash.

use std::time::Duration;

use rowtide_postgres::Lsn;
use rowtide_sdk::Class;
use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::json;
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{Event, Place, Setup};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";

fn ids(texts: &[String]) -> Vec<i32> {
    let id = |text: &String| {
        let rest = text.split_once("id=").unwrap().1;
        rest.split(',').next().unwrap().parse().unwrap()
    };
    texts.iter().map(id).collect()
}

/// Session A writes, session B writes and commits, the source is restarted, A commits.
#[tokio::test]
async fn h05_a_transaction_older_than_the_restart_is_whole() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let b = database(&server, "shop", TABLE).await;
        let a = server.client("shop").await;
        let setup = Setup::new(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        a.batch_execute("BEGIN; INSERT INTO t SELECT generate_series(1, 5)").await.unwrap();
        b.batch_execute("INSERT INTO t VALUES (100)").await.unwrap();
        host.until(1).await;
        let position = host.stop().await;
        a.batch_execute("INSERT INTO t SELECT generate_series(6, 10); COMMIT").await.unwrap();
        let mut host = setup.from(position).run();
        assert_eq!(ids(&host.until(10).await), (1..=10).collect::<Vec<_>>(), "{version}");
        host.during(Duration::from_millis(300)).await;
        assert_eq!(host.events.len(), 10);
        host.stop().await;
    }
}

/// A long transaction, killed again and again inside it, with the selection changed meanwhile.
#[tokio::test]
async fn h07_a_transaction_goes_on_where_it_was_cut() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema =
            "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE o (id int PRIMARY KEY)";
        let sql = database(&server, "shop", schema).await;
        let both = Setup::new(&server, "shop").rows(700);
        let only_t = both
            .clone()
            .set("tables", json!({ "include": ["public.t"] }))
            .set("publication_management", json!("external"));
        let mut host = both.run();
        host.ready().await;
        sql.batch_execute(
            "DO $$ BEGIN FOR i IN 1..5000 LOOP
                INSERT INTO t VALUES (i); INSERT INTO o VALUES (i);
             END LOOP; END $$",
        )
        .await
        .unwrap();
        let mut seen = Vec::new();
        let mut position = None;
        for round in 0..6 {
            host.batch().await;
            let of_t: Vec<_> =
                host.events.drain(..).filter(|event| event.table == "public.t").collect();
            seen.extend(of_t.iter().map(|event| (event.id.clone(), event.text())));
            position = host.kill().await;
            let next = if round % 2 == 0 { &only_t } else { &both };
            host = next.clone().from(position.clone()).run();
        }
        host.kill().await;
        let mut host = only_t.from(position).run();
        while !host.events.last().is_some_and(|event| event.text().contains("id=5000,")) {
            host.batch().await;
        }
        seen.extend(host.events.iter().map(|event| (event.id.clone(), event.text())));
        let texts: Vec<String> = seen.iter().map(|(_, text)| text.clone()).collect();
        assert_eq!(ids(&texts), (1..=5000).collect::<Vec<_>>(), "{version}");
        for (at, (id, _)) in seen.iter().enumerate() {
            assert!(id.ends_with(&format!(":{}", at * 2)), "{id} at {at}");
        }
        host.stop().await;
    }
}

/// Nothing of a batch whose position was not saved is lost, and what comes again is the same.
#[tokio::test]
async fn what_was_not_saved_comes_again_with_the_same_identity() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    let setup = Setup::new(&server, "shop").rows(10);
    let mut host = setup.run();
    host.ready().await;
    let first = host.position.clone();
    sql.batch_execute("INSERT INTO t SELECT generate_series(1, 25)").await.unwrap();
    sql.batch_execute("INSERT INTO t SELECT generate_series(26, 50)").await.unwrap();
    host.saves = false;
    host.until(50).await;
    let seen = host.events.clone();
    host.kill().await;
    let mut host = setup.from(first).run();
    host.until(50).await;
    assert_eq!(host.events, seen);
    host.stop().await;
}

async fn confirmed(sql: &Client) -> Lsn {
    let query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots";
    sql.query_one(query, &[]).await.unwrap().get::<_, String>(0).parse().unwrap()
}

/// The server remembers what was confirmed as of its last checkpoint; the source asks from its own
/// place.
#[tokio::test]
async fn h04_a_crash_of_the_server_repeats_nothing_that_was_saved() {
    for version in postgres_versions() {
        let Some(mut server) = Postgres::start(&version, &["fsync=on"]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let setup = Setup::new(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t SELECT generate_series(1, 100)").await.unwrap();
        host.until(100).await;
        host.during(Duration::from_millis(300)).await;
        let before = confirmed(&sql).await;
        assert_eq!(before, host.place().confirm, "{version}");
        server.halt(true);
        let error = host.error().await;
        assert_eq!(error.class(), Class::Transient, "{error}");
        server.resume();
        let sql = server.client("shop").await;
        assert!(confirmed(&sql).await < before, "{version}: the server forgot nothing");
        sql.batch_execute("INSERT INTO t VALUES (101)").await.unwrap();
        let mut host = setup.from(host.position.clone()).run();
        assert_eq!(ids(&host.until(1).await), [101], "{version}");
        host.stop().await;
    }
}

#[tokio::test]
async fn h16_a_terminated_connection_is_transient_and_the_slot_passes_on() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    let setup = Setup::new(&server, "shop");
    let mut host = setup.run();
    host.ready().await;
    sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    host.until(1).await;
    // A second reader of the slot waits.
    let position = host.position.clone();
    let error = setup.clone().from(position.clone()).refusal().await;
    assert_eq!((error.code().0, error.class()), ("RT2118", Class::Transient));
    let pid: i32 =
        sql.query_one("SELECT active_pid FROM pg_replication_slots", &[]).await.unwrap().get(0);
    assert!(
        error.message().contains(&format!("process {pid} (application \"rowtide\"")),
        "{error}"
    );
    sql.batch_execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
        .await
        .unwrap();
    let error = host.error().await;
    assert_eq!(error.class(), Class::Transient, "{error}");
    sql.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    let mut host = setup.from(position).run();
    assert_eq!(ids(&host.until(1).await), [2]);
    host.stop().await;
}

/// Many writers with transactions of all sizes, and kills at any moment.
#[tokio::test]
async fn kills_at_any_moment_lose_and_invent_nothing() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", "CREATE TABLE t (id bigserial PRIMARY KEY, w int)").await;
    let setup = Setup::new(&server, "shop").rows(37);
    let mut host = setup.run();
    host.ready().await;
    let mut writers = Vec::new();
    for writer in 0..4 {
        let client = server.client("shop").await;
        writers.push(tokio::spawn(async move {
            for round in 0..60 {
                let rows = (round * 7 + writer * 13) % 90 + 1;
                client
                    .batch_execute(&format!(
                        "INSERT INTO t (w) SELECT {writer} FROM generate_series(1, {rows})"
                    ))
                    .await
                    .unwrap();
            }
        }));
    }
    // What a sink that keeps its data with the position would hold.
    let mut kept = Vec::new();
    for round in 0..25_u64 {
        host.during(Duration::from_millis(5 + round * 7 % 40)).await;
        kept.append(&mut host.events);
        let position = host.kill().await;
        host = setup.clone().from(position).run();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let count: i64 = sql.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    let count = usize::try_from(count).unwrap();
    let missing = count.saturating_sub(kept.len());
    host.until(missing).await;
    host.during(Duration::from_millis(300)).await;
    kept.append(&mut host.events);
    assert_eq!(kept.len(), count);
    let mut identities: Vec<&str> = kept.iter().map(|event| event.id.as_str()).collect();
    identities.sort_unstable();
    identities.dedup();
    assert_eq!(identities.len(), count);
    host.stop().await;
}

/// What was logged before a table was altered is described as it was then, even where the source first
/// sees it afterwards.
#[tokio::test]
async fn h22_a_table_altered_while_stopped_is_seen_as_of_each_change() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let setup = Setup::new(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        let position = host.stop().await;
        for statement in [
            "INSERT INTO t VALUES (1, 'a')",
            "ALTER TABLE t RENAME TO renamed",
            "ALTER TABLE renamed DROP COLUMN v, ADD COLUMN w int DEFAULT 7",
            "INSERT INTO renamed VALUES (2, 8)",
        ] {
            sql.batch_execute(statement).await.unwrap();
        }
        let mut host = setup.from(position).run();
        let expected = ["c public.t none > id=1,v=a", "c public.renamed none > id=2,w=8"];
        assert_eq!(host.until(2).await, expected, "{version}");
        host.stop().await;
    }
}

/// The columns that an event names.
fn columns(event: &Event) -> Vec<&str> {
    let after = event.after.as_deref().unwrap_or_default();
    after.split(',').filter_map(|part| Some(part.split_once('=')?.0)).collect()
}

/// A host that refuses a version of a table must be able to save everything before it, and to go on
/// with its first change.
#[tokio::test]
async fn a_batch_ends_right_before_the_first_change_of_a_table_version() {
    for version in postgres_versions() {
        let settings = ["logical_decoding_work_mem=64kB"];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let setup = Setup::new(&server, "shop").set("streaming", json!("on"));
        let mut host = setup.run();
        host.ready().await;
        let position = host.stop().await;
        let single = |from: i32, to: i32| {
            let row = |id: i32| format!("INSERT INTO t VALUES ({id}, 'x')");
            (from..=to).map(row).collect::<Vec<_>>()
        };
        let large =
            "BEGIN; INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(81, 1080) g;
            ALTER TABLE t RENAME w TO v;
            INSERT INTO t SELECT g, 'x' FROM generate_series(1081, 1100) g; COMMIT";
        let mut statements = single(1, 40);
        statements.push("ALTER TABLE t RENAME v TO w".to_owned());
        statements.extend(single(41, 80));
        statements.push(large.to_owned());
        // Another table of the same name.
        statements.push("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, z text)".to_owned());
        statements.push("ALTER PUBLICATION shop ADD TABLE ONLY t".to_owned());
        statements.extend(single(1101, 1120));
        for statement in &statements {
            sql.batch_execute(statement).await.unwrap();
        }

        let mut host = setup.clone().from(position.clone()).run();
        // The slot stays where it is, so that each place can be gone on from.
        host.saves = false;
        let mut borders = Vec::new();
        let mut before = position;
        while host.events.len() < 1120 {
            let known = host.events.len();
            host.batch().await;
            let Some(first) = host.events.get(known) else { continue };
            let batch = &host.events[known..];
            assert!(batch.iter().all(|event| columns(event) == columns(first)), "{version}");
            if known > 0 && columns(&host.events[known - 1]) != columns(first) {
                borders.push((before.clone(), first.clone()));
            }
            before.clone_from(&host.position);
        }
        let texts: Vec<String> = host.events.iter().map(Event::text).collect();
        assert_eq!(ids(&texts), Vec::from_iter(1..=1120), "{version}");
        host.kill().await;
        let versions: Vec<&str> = borders.iter().map(|(_, first)| columns(first)[1]).collect();
        assert_eq!(versions, ["w", "v", "z"], "{version}");
        for (position, first) in borders {
            let mut host = setup.clone().from(position).run();
            host.saves = false;
            host.until(1).await;
            assert_eq!(host.events[0], first, "{version}");
            host.kill().await;
        }
    }
}
