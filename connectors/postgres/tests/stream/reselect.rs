//! Values that the log did not carry, read back from the table.

use std::time::Duration;

use rowtide_postgres::Lsn;
use rowtide_testkit::{Postgres, postgres_versions};
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{Event, Host, Setup};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, big text, doc jsonb);
    ALTER TABLE t ALTER big SET STORAGE EXTERNAL, ALTER doc SET STORAGE EXTERNAL;
    INSERT INTO t SELECT i, 0, repeat(chr(96 + i), 3000), to_jsonb(repeat('d', 3000))
        FROM generate_series(1, 5) i";

/// The columns that were read back, or why none were.
fn told(event: &Event) -> &str {
    let told = event.reselected.as_deref().unwrap_or("nothing");
    told.split(' ').next().unwrap()
}

/// The place of a read, and of the event's commit.
fn places(event: &Event) -> (Lsn, Lsn) {
    let read = event.reselected.as_ref().unwrap().split('"').nth(3).unwrap();
    (read.parse().unwrap(), event.id.split(':').next().unwrap().parse().unwrap())
}

async fn streaming(server: &Postgres, schema: &str) -> (Client, Setup, Host) {
    let sql = database(server, "shop", schema).await;
    let setup = Setup::new(server, "shop").reselect("t");
    let mut host = setup.run();
    host.ready().await;
    (sql, setup, host)
}

/// Stops the host without losing its place, so that what is done now is read late.
async fn stopped(host: Host, setup: &Setup) -> Setup {
    setup.clone().from(host.stop().await)
}

#[tokio::test]
async fn h26_unchanged_values_are_read_back_no_older_than_the_event() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let (sql, _, mut host) = streaming(&server, SCHEMA).await;
        sql.batch_execute("UPDATE t SET n = 1 WHERE id = 1").await.unwrap();
        host.until(1).await;
        let event = &host.events[0];
        assert_eq!(event.text(), "u public.t none > id=1,n=1,big=3000 bytes,doc=3002 bytes");
        assert_eq!(told(event), "big,doc", "{version}");
        let (read, commit) = places(event);
        assert!(read >= commit, "{version}: read at {read}, committed at {commit}");
        // One that carries what it changed needs the other alone.
        sql.batch_execute("UPDATE t SET big = 'short' WHERE id = 1").await.unwrap();
        host.until(2).await;
        assert_eq!(told(&host.events[1]), "doc");
        sql.batch_execute(
            "UPDATE t SET doc = NULL, n = 2 WHERE id = 1; UPDATE t SET n = 3 WHERE id = 1",
        )
        .await
        .unwrap();
        host.until(4).await;
        assert_eq!([told(&host.events[2]), told(&host.events[3])], ["nothing"; 2]);
        host.stop().await;
    }
}

/// The create under the new key has the value, or says why it has not.
#[tokio::test]
async fn h27_a_key_change_with_an_unchanged_value_is_read_back() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let (sql, setup, mut host) = streaming(&server, SCHEMA).await;
        sql.batch_execute("UPDATE t SET id = 11 WHERE id = 1").await.unwrap();
        host.until(1).await;
        let event = &host.events[0];
        let expected = "u public.t id=1 > id=11,n=0,big=3000 bytes,doc=3002 bytes";
        assert_eq!((event.text().as_str(), told(event)), (expected, "big,doc"), "{version}");
        // Read late: the row has moved on from key to key, and another took the first one.
        let mut setup = stopped(host, &setup).await;
        // What comes within so long of the batch before is one batch.
        setup.limits.linger = Duration::from_secs(2);
        let mut host = setup.run();
        sql.batch_execute("INSERT INTO t VALUES (9)").await.unwrap();
        host.until(1).await;
        sql.batch_execute(
            "UPDATE t SET id = 12 WHERE id = 2; UPDATE t SET n = 7 WHERE id = 12;
             UPDATE t SET id = 22 WHERE id = 12; INSERT INTO t VALUES (12, 1, 'other', NULL);
             UPDATE t SET n = 8 WHERE id = 22; UPDATE t SET n = 5 WHERE id = 3;
             DELETE FROM t WHERE id = 3",
        )
        .await
        .unwrap();
        host.until(8).await;
        let told: Vec<&str> = host.events[1..].iter().map(told).collect();
        let of = "big,doc";
        assert_eq!(told, [of, of, of, "nothing", of, "gone", "nothing"], "{version}");
        let rows: Vec<&str> =
            host.events[1..4].iter().map(|event| event.after.as_deref().unwrap()).collect();
        let expected = [
            "id=12,n=0,big=3000 bytes,doc=3002 bytes",
            "id=12,n=7,big=3000 bytes,doc=3002 bytes",
            "id=22,n=7,big=3000 bytes,doc=3002 bytes",
        ];
        assert_eq!(rows, expected, "{version}");
        host.stop().await;
    }
}

/// Rows that are not the event's any more: gone, changed, or the key's next owner. Each entry is a
/// batch of its own, so that no later one tells.
#[tokio::test]
async fn h26_rows_that_are_not_the_events_any_more_are_left_alone() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let (sql, setup, host) = streaming(&server, SCHEMA).await;
        let setup = stopped(host, &setup.rows(1)).await;
        sql.batch_execute(
            "UPDATE t SET n = 1; DELETE FROM t WHERE id = 1; UPDATE t SET big = NULL WHERE id = 2;
             DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (3, 2, repeat('x', 3000), 'null');
             UPDATE t SET n = 4 WHERE id = 4",
        )
        .await
        .unwrap();
        let mut host = setup.run();
        host.until(10).await;
        let told: Vec<&str> = host.events.iter().map(told).collect();
        let expected = ["gone", "changed", "changed", "changed", "big,doc", "nothing", "doc"];
        assert_eq!(told[..7], expected, "{version}");
        assert_eq!(told[9], "big,doc");
        assert!(host.events[0].text().ends_with("id=1,n=1,big=?,doc=?"));
        host.stop().await;
    }
}

/// Versions of a row one after the other in one batch: all have the value that the last one has, up
/// to where it changed.
#[tokio::test]
async fn h26_versions_of_one_row_are_told_from_each_other() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let (sql, setup, host) = streaming(&server, SCHEMA).await;
        let mut setup = stopped(host, &setup).await;
        // What comes within so long of the batch before is one batch.
        setup.limits.linger = Duration::from_secs(2);
        let mut host = setup.run();
        sql.batch_execute("INSERT INTO t VALUES (9)").await.unwrap();
        host.until(1).await;
        sql.batch_execute(
            "UPDATE t SET n = 1 WHERE id = 1; UPDATE t SET n = 2 WHERE id = 1;
             UPDATE t SET big = repeat('new', 1000) WHERE id = 1; UPDATE t SET n = 3 WHERE id = 1;
             UPDATE t SET n = 4 WHERE id = 1; UPDATE t SET n = 1 WHERE id = 2; TRUNCATE t",
        )
        .await
        .unwrap();
        host.until(8).await;
        let told: Vec<&str> = host.events[1..].iter().map(told).collect();
        // Before the truncate nothing is known of any row, and none is asked for.
        assert_eq!(told, ["gone"; 6].into_iter().chain(["nothing"]).collect::<Vec<_>>());
        sql.batch_execute(
            "INSERT INTO t VALUES (1, 0, repeat('a', 3000), NULL); UPDATE t SET n = 1;
             UPDATE t SET n = 2; UPDATE t SET big = repeat('b', 3000); UPDATE t SET n = 3;
             UPDATE t SET n = 4",
        )
        .await
        .unwrap();
        host.until(14).await;
        let told: Vec<&str> = host.events[8..].iter().map(self::told).collect();
        assert_eq!(told, ["nothing", "changed", "changed", "nothing", "big", "big"], "{version}");
        host.stop().await;
    }
}

/// A renamed table is found; one whose columns or types are not the same is left alone, whatever
/// goes by the name now.
#[tokio::test]
async fn h26_a_table_that_was_altered_since_is_not_mistaken() {
    let cases = [
        ("ALTER TABLE t RENAME TO u", "big,doc"),
        ("ALTER TABLE t RENAME TO u; CREATE TABLE t (LIKE u INCLUDING ALL)", "big,doc"),
        ("ALTER TABLE t DROP doc", "altered"),
        ("ALTER TABLE t RENAME big TO small", "altered"),
        ("ALTER TABLE t ALTER doc TYPE json", "altered"),
        ("ALTER TABLE t ALTER id TYPE bigint", "altered"),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", "altered"),
        ("ALTER TABLE t ADD more int", "big,doc"),
        (
            "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, n int, big text, doc jsonb)",
            "altered",
        ),
    ];
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        for (number, (alter, expected)) in cases.iter().enumerate() {
            let name = format!("shop{number}");
            let sql = database(&server, &name, SCHEMA).await;
            let setup = Setup::new(&server, &name).reselect("t");
            let mut host = setup.run();
            host.ready().await;
            let setup = stopped(host, &setup).await;
            sql.batch_execute("UPDATE t SET n = 1 WHERE id = 1").await.unwrap();
            sql.batch_execute(alter).await.unwrap();
            let mut host = setup.run();
            host.until(1).await;
            assert_eq!(told(&host.events[0]), *expected, "{version}: {alter}");
            host.stop().await;
        }
    }
}

/// More values than a batch may take: it is cut, comes whole and in order, and goes on from every cut.
#[tokio::test]
async fn h26_large_values_come_in_pieces_and_from_every_cut_on() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = format!("{SCHEMA}; CREATE TABLE other (id int PRIMARY KEY)");
        let (sql, setup, host) = streaming(&server, &schema).await;
        let setup = stopped(host, &setup).await;
        sql.batch_execute(
            "TRUNCATE t; INSERT INTO t SELECT i, 0, repeat('v', 100000), NULL FROM generate_series(1, 30) i;
             UPDATE t SET n = 1 WHERE id <= 10; INSERT INTO other VALUES (1);
             BEGIN; UPDATE t SET n = 2 WHERE id > 10; INSERT INTO other VALUES (2); COMMIT;
             BEGIN; UPDATE t SET n = 2 WHERE id <= 10; COMMIT; UPDATE t SET n = 3 WHERE id = 30;
             INSERT INTO other VALUES (3)",
        )
        .await
        .unwrap();
        let mut host = setup.run();
        host.saves = false;
        let mut pieces = Vec::new();
        while host.events.len() < 75 {
            host.batch().await;
            pieces.push((host.events.len(), host.position.clone()));
        }
        let all = host.events.clone();
        host.kill().await;
        let updates = all.iter().filter(|event| event.op == "u");
        // Where a batch ended between two versions of a row, the first is not known any more.
        assert!(
            updates.clone().all(|event| ["big", "changed"].contains(&told(event))),
            "{version}"
        );
        assert!(all[63..74].iter().all(|event| told(event) == "big"), "{version}");
        assert_eq!(updates.count(), 41);
        assert!(pieces.len() > 8, "{version}: {} pieces", pieces.len());
        // A value may be told from less of the log then, and be left out.
        let ids = |events: &[Event]| -> Vec<(String, String)> {
            let text = |event: &Event| event.text().replace("big=100000 bytes", "big=?");
            events.iter().map(|event| (event.id.clone(), text(event))).collect()
        };
        for (done, position) in pieces {
            if done == all.len() {
                continue;
            }
            let mut host = setup.clone().from(position).run();
            host.saves = false;
            host.until(all.len() - done).await;
            assert_eq!(ids(&host.events), ids(&all[done..]), "{version}: after {done}");
            host.kill().await;
        }
    }
}

#[tokio::test]
async fn h26_a_row_above_the_limit_is_left_alone() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let (sql, setup, host) = streaming(&server, SCHEMA).await;
    host.stop().await;
    let mut setup = setup;
    setup.limits.max_event = 1 << 20;
    sql.batch_execute(
        "UPDATE t SET big = repeat('x', 600000) WHERE id = 1;
         UPDATE t SET big = repeat('x', 500000) WHERE id = 2",
    )
    .await
    .unwrap();
    let mut host = setup.run();
    host.ready().await;
    sql.batch_execute("UPDATE t SET n = 1 WHERE id <= 2").await.unwrap();
    host.until(4).await;
    let last: Vec<&str> = host.events.iter().rev().take(2).map(told).collect();
    assert_eq!(last, ["big,doc", "too_large"]);
    host.stop().await;
}

/// A commit that waits for a standby is in the log, and sent to us, before others see its row: the
/// value is not taken from the version before it.
#[tokio::test]
async fn h26_a_change_that_is_not_visible_yet_is_waited_for() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let (sql, _, mut host) = streaming(&server, SCHEMA).await;
        let standby = |name: &str| format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
        let reload = "SELECT pg_reload_conf()";
        sql.batch_execute(&standby("nobody")).await.unwrap();
        sql.batch_execute(reload).await.unwrap();
        sql.batch_execute("SELECT pg_sleep(0.3)").await.unwrap();
        let writer = server.client("shop").await;
        let commit = tokio::spawn(async move {
            writer.batch_execute("UPDATE t SET n = 1 WHERE id = 1").await.unwrap();
        });
        // Nothing comes as long as it waits for the row; then the setting lets the commit end.
        host.during(Duration::from_secs(1)).await;
        assert!(host.events.is_empty(), "{version}: {:?}", host.events);
        sql.batch_execute(&standby("")).await.unwrap();
        sql.batch_execute(reload).await.unwrap();
        host.until(1).await;
        assert_eq!(told(&host.events[0]), "big,doc", "{version}");
        commit.await.unwrap();
        // Too long: the event goes without.
        sql.batch_execute(&standby("nobody")).await.unwrap();
        sql.batch_execute(reload).await.unwrap();
        sql.batch_execute("SELECT pg_sleep(0.3)").await.unwrap();
        let writer = server.client("shop").await;
        let commit = tokio::spawn(async move {
            writer.batch_execute("UPDATE t SET n = 2 WHERE id = 1").await.unwrap();
        });
        host.until(2).await;
        assert_eq!(told(&host.events[1]), "not_visible", "{version}");
        sql.batch_execute(&standby("")).await.unwrap();
        sql.batch_execute(reload).await.unwrap();
        commit.await.unwrap();
        host.stop().await;
    }
}

/// Keys of any type, partitioned tables, inheritance: the very row is found, by its index.
#[tokio::test]
async fn h26_rows_are_found_by_keys_of_any_kind() {
    let tables = [
        ("CREATE TABLE t (id text COLLATE \"C\", b bytea, big text, n int, PRIMARY KEY (b, id))",
         "INSERT INTO t VALUES (E'it''s \\\\ \u{e9}', '\\x00ff', repeat('v', 9000), 0)"),
        ("CREATE TYPE mood AS ENUM ('so so'); CREATE DOMAIN d AS numeric(9, 2);
          CREATE TABLE t (a mood, b d, big text, n int, c char(4), PRIMARY KEY (a, b, c))",
         "INSERT INTO t VALUES ('so so', 1.5, repeat('v', 9000), 0, 'x')"),
        ("CREATE TABLE t (at timestamptz, u uuid NOT NULL, big text, n int);
          CREATE UNIQUE INDEX i ON t (u) INCLUDE (n); ALTER TABLE t REPLICA IDENTITY USING INDEX i",
         "INSERT INTO t VALUES (now(), gen_random_uuid(), repeat('v', 9000), 0)"),
        ("CREATE TABLE t (id int, y int, big text, n int, PRIMARY KEY (id, y)) PARTITION BY LIST (y);
          CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); ALTER TABLE t1 ALTER big SET STORAGE EXTERNAL",
         "INSERT INTO t VALUES (1, 1, repeat('v', 9000), 0)"),
        ("CREATE TABLE t (id int PRIMARY KEY, big text, n int);
          CREATE TABLE child (more int, PRIMARY KEY (id)) INHERITS (t); INSERT INTO child VALUES (1, 'no', 0, 1)",
         "INSERT INTO t VALUES (1, repeat('v', 9000), 0)"),
        ("CREATE SCHEMA \"S \"\"x\"; CREATE TABLE \"S \"\"x\".t (\"I d\" int PRIMARY KEY, big text, n int)",
         "INSERT INTO \"S \"\"x\".t VALUES (1, repeat('v', 9000), 0)"),
    ];
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        for (number, (schema, insert)) in tables.iter().enumerate() {
            let name = format!("shop{number}");
            let sql = database(&server, &name, schema).await;
            let table = if schema.contains("SCHEMA") { "\"S \"\"x\".t" } else { "t" };
            let storage = format!("ALTER TABLE {table} ALTER big SET STORAGE EXTERNAL");
            sql.batch_execute(&storage).await.unwrap();
            sql.batch_execute(insert).await.unwrap();
            let mut host = Setup::new(&server, &name).reselect("t").run();
            host.ready().await;
            let update = format!("UPDATE ONLY {table} SET n = n + 1");
            let update =
                if schema.contains("PARTITION") { update.replace("ONLY ", "") } else { update };
            sql.batch_execute(&update).await.unwrap();
            host.until(1).await;
            assert_eq!(told(&host.events[0]), "big", "{version}: {schema}");
            assert!(host.events[0].text().contains("big=9000 bytes"), "{}", host.events[0].text());
            host.stop().await;
        }
    }
}

/// A role that may not read the table, or not all of its rows, is refused and told by the preflight:
/// a hidden row must not be taken for one that is gone.
#[tokio::test]
async fn h26_a_role_that_may_not_read_is_refused() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let (sql, setup, host) = streaming(&server, SCHEMA).await;
        let position = host.stop().await;
        sql.batch_execute("CREATE ROLE cdc LOGIN REPLICATION; UPDATE t SET n = 1").await.unwrap();
        let url = format!("postgres://cdc@127.0.0.1:{}/shop", server.port());
        let setup = setup
            .set("url", url.into())
            .set("publication_management", "external".into())
            .from(position);
        let codes = async || -> Vec<&str> {
            setup.check().await.iter().map(|finding| finding.code.0).collect()
        };
        assert!(codes().await.contains(&"RT2323"), "{version}");
        assert_eq!(setup.refusal().await.code().0, "RT2323", "{version}");
        sql.batch_execute("GRANT SELECT ON t TO cdc; ALTER TABLE t ENABLE ROW LEVEL SECURITY")
            .await
            .unwrap();
        assert!(codes().await.contains(&"RT2323"), "{version}");
        assert_eq!(setup.refusal().await.code().0, "RT2323", "{version}");
        sql.batch_execute("ALTER ROLE cdc BYPASSRLS").await.unwrap();
        assert!(!codes().await.contains(&"RT2323"), "{version}");
        let mut host = setup.run();
        host.until(5).await;
        assert!(host.events.iter().all(|event| told(event) == "big,doc"), "{version}");
        host.stop().await;
    }
}

/// A connection that is lost while values are read is a passing trouble.
#[tokio::test]
async fn h26_a_lost_connection_is_transient() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let (sql, _, mut host) = streaming(&server, SCHEMA).await;
    sql.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let other = server.client("shop").await;
    let blocked = tokio::spawn(async move {
        other.batch_execute("SET statement_timeout = '60s'; UPDATE t SET n = 1 WHERE id = 1").await
    });
    sql.batch_execute("COMMIT").await.unwrap();
    blocked.await.unwrap().unwrap();
    host.until(1).await;
    sql.batch_execute("BEGIN; UPDATE t SET n = 2 WHERE id = 1; COMMIT; BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    // Whether or not it was quicker than the lock: what waits behind it is ended.
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND application_name = 'rowtide'";
    let admin = server.client("postgres").await;
    let mut is_ended = false;
    for _ in 0..100 {
        let count: i64 = admin.query_one(ended, &[]).await.unwrap().get(0);
        is_ended |= count > 0;
        if is_ended || host.events.len() > 1 {
            break;
        }
        host.during(Duration::from_millis(20)).await;
    }
    if is_ended {
        let error = host.error().await;
        assert_eq!(error.class(), rowtide_sdk::Class::Transient, "{error}");
    }
}
