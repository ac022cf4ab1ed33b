//! Which changes are handed over, and in what form.

use rowtide_testkit::{Postgres, postgres_versions};
use tokio_postgres::Client;

use crate::host::Setup;
use crate::logs::{keep_warnings, warnings};

/// A database of its own on a server, with a schema.
pub(crate) async fn database(server: &Postgres, name: &str, schema: &str) -> Client {
    let admin = server.client("postgres").await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let client = server.client(name).await;
    client.batch_execute(schema).await.unwrap();
    client
}

#[tokio::test]
async fn inserts_updates_deletes_and_copy() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1, 'a'), (2, NULL)").await.unwrap();
        sql.batch_execute("UPDATE t SET v = 'b' WHERE id = 1").await.unwrap();
        sql.batch_execute("UPDATE t SET id = 3 WHERE id = 2").await.unwrap();
        sql.batch_execute("DELETE FROM t WHERE id = 1").await.unwrap();
        let texts = host.until(5).await;
        assert_eq!(
            texts,
            [
                "c public.t none > id=1,v=a",
                "c public.t none > id=2,v=-",
                "u public.t none > id=1,v=b",
                "u public.t id=2 > id=3,v=-",
                "d public.t id=1 > none",
            ],
            "{version}"
        );
        sql.batch_execute("COPY t FROM PROGRAM 'seq 100 1099' (FORMAT csv, DELIMITER ',')")
            .await
            .unwrap_err();
        sql.batch_execute("COPY t (id) FROM PROGRAM 'seq 100 1099'").await.unwrap();
        host.until(1005).await;
        let commits: std::collections::HashSet<&str> =
            host.events[5..].iter().map(|event| event.id.split(':').next().unwrap()).collect();
        assert_eq!(commits.len(), 1);
        for (index, event) in host.events[5..].iter().enumerate() {
            assert!(event.id.ends_with(&format!(":{index}")), "{}", event.id);
            assert_eq!(event.after.as_deref(), Some(format!("id={},v=-", index + 100).as_str()));
        }
        // A clean stop confirms the last transaction's end: nothing comes again.
        let position = host.stop().await;
        sql.batch_execute("INSERT INTO t VALUES (5000, 'last')").await.unwrap();
        let mut host = Setup::new(&server, "shop").from(position).run();
        assert_eq!(host.until(1).await, ["c public.t none > id=5000,v=last"]);
        host.stop().await;
    }
}

const IDENTITIES: &str = "
    CREATE TABLE by_key (id int PRIMARY KEY, big text, n int);
    ALTER TABLE by_key ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, n int);
    CREATE UNIQUE INDEX by_index_ab ON by_index (b, a);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_ab;
    CREATE TABLE whole (id int PRIMARY KEY, big text, n int);
    ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
    ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE TABLE nothing (id int PRIMARY KEY);
    ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE keyless (id int)";

#[tokio::test]
async fn h26_h45_h46_images_by_replica_identity_and_unchanged_values() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", IDENTITIES).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        // Not published, so the application goes on.
        sql.batch_execute("INSERT INTO nothing VALUES (1); DELETE FROM nothing").await.unwrap();
        sql.batch_execute("INSERT INTO keyless VALUES (1); UPDATE keyless SET id = 2")
            .await
            .unwrap();
        sql.batch_execute(
            "INSERT INTO by_key VALUES (1, repeat('x', 5000), 1);
             UPDATE by_key SET n = 2; UPDATE by_key SET id = 2; DELETE FROM by_key;
             INSERT INTO by_index VALUES (1, 2, 3);
             UPDATE by_index SET n = 4; UPDATE by_index SET a = 9; DELETE FROM by_index;
             INSERT INTO whole VALUES (1, repeat('x', 5000), 1);
             UPDATE whole SET n = NULL; DELETE FROM whole",
        )
        .await
        .unwrap();
        assert_eq!(
            host.until(11).await,
            [
                "c public.by_key none > id=1,big=5000 bytes,n=1",
                "u public.by_key none > id=1,big=?,n=2",
                "u public.by_key id=1 > id=2,big=?,n=2",
                "d public.by_key id=2 > none",
                "c public.by_index none > a=1,b=2,n=3",
                "u public.by_index none > a=1,b=2,n=4",
                "u public.by_index a=1,b=2 > a=9,b=2,n=4",
                "d public.by_index a=9,b=2 > none",
                "c public.whole none > id=1,big=5000 bytes,n=1",
                "u public.whole id=1,big=5000 bytes,n=1 > id=1,big=?,n=-",
                "d public.whole id=1,big=5000 bytes,n=- > none",
            ],
            "{version}"
        );
        host.stop().await;
    }
}

#[tokio::test]
async fn h32_truncates_cascades_and_unwanted_tables() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let schema = "CREATE TABLE a (id int PRIMARY KEY);
        CREATE TABLE b (id int PRIMARY KEY REFERENCES a ON DELETE CASCADE);
        CREATE TABLE unwanted (id int PRIMARY KEY REFERENCES a)";
    let sql = database(&server, "shop", schema).await;
    // A publication wider than the selection.
    sql.batch_execute("CREATE PUBLICATION shop FOR ALL TABLES").await.unwrap();
    let mut host = Setup::new(&server, "shop").run();
    host.ready().await;
    sql.batch_execute(
        "INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1);
         INSERT INTO unwanted VALUES (2); TRUNCATE a RESTART IDENTITY CASCADE; INSERT INTO a VALUES (3);
         INSERT INTO b VALUES (3); DELETE FROM a",
    )
    .await
    .unwrap();
    let texts = host.until(9).await;
    assert_eq!(
        texts,
        [
            "c public.a none > id=1",
            "c public.a none > id=2",
            "c public.b none > id=1",
            "t public.a none > none",
            "t public.b none > none",
            "c public.a none > id=3",
            "c public.b none > id=3",
            "d public.a id=3 > none",
            "d public.b id=3 > none",
        ]
    );
    // One statement string is one transaction: the raw index counts what is not wanted, too.
    let indexes: Vec<&str> =
        host.events.iter().map(|event| event.id.split_once(':').unwrap().1).collect();
    assert_eq!(indexes, ["0", "1", "2", "4.0", "4.1", "5", "6", "7", "8"]);
    host.stop().await;
}

#[tokio::test]
async fn h21_tables_change_under_the_stream() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE t (id int PRIMARY KEY, v text)";
        let sql = database(&server, "shop", schema).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        for statement in [
            "INSERT INTO t VALUES (1, 'a')",
            "ALTER TABLE t ADD m mood DEFAULT 'ok'",
            "INSERT INTO t VALUES (2, 'b')",
            "ALTER TABLE t RENAME v TO w",
            "UPDATE t SET w = 'c' WHERE id = 1",
            "ALTER TABLE t DROP w",
            "ALTER TABLE t RENAME TO u",
            "INSERT INTO u VALUES (3)",
            "ALTER TABLE u REPLICA IDENTITY FULL",
            "DELETE FROM u WHERE id = 1",
            "ALTER TYPE mood ADD VALUE 'bad'",
            "INSERT INTO u VALUES (4, 'bad')",
        ] {
            sql.batch_execute(statement).await.unwrap();
        }
        assert_eq!(
            host.until(6).await,
            [
                "c public.t none > id=1,v=a",
                "c public.t none > id=2,v=b,m=ok",
                "u public.t none > id=1,w=c,m=ok",
                "c public.u none > id=3,m=ok",
                "d public.u id=1,m=ok > none",
                "c public.u none > id=4,m=bad",
            ],
            "{version}"
        );
        host.stop().await;
    }
}

#[tokio::test]
async fn h40_h41_h42_savepoints_prepared_transactions_and_logical_messages() {
    let settings = ["max_prepared_transactions=5", "logical_decoding_work_mem=64kB"];
    let Some(server) = Postgres::start("15", &settings) else { return };
    let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut host = Setup::new(&server, "shop").run();
    host.ready().await;
    sql.batch_execute(
        "SELECT pg_logical_emit_message(false, 'x', 'y');
         BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t SELECT generate_series(10, 5000);
         ROLLBACK TO s; SELECT pg_logical_emit_message(true, 'x', 'y'); INSERT INTO t VALUES (2);
         COMMIT; BEGIN; INSERT INTO t VALUES (3); PREPARE TRANSACTION 'p'",
    )
    .await
    .unwrap();
    host.until(2).await;
    let position = host.stop().await;
    sql.batch_execute("COMMIT PREPARED 'p'").await.unwrap();
    sql.batch_execute("INSERT INTO t VALUES (4)").await.unwrap();
    let mut again = Setup::new(&server, "shop").from(position).run();
    assert_eq!(again.until(2).await, ["c public.t none > id=3", "c public.t none > id=4"]);
    again.stop().await;
}

#[tokio::test]
async fn h64_large_values_pass_and_larger_ones_are_poison() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let mut host = Setup::new(&server, "shop").run();
    host.ready().await;
    sql.batch_execute(
        "INSERT INTO t VALUES (1, 'a'), (2, repeat('x', 10 << 20)), (3, repeat('x', 17 << 20)), (4, 'b');
         UPDATE t SET id = 5 WHERE id = 2; DELETE FROM t",
    )
    .await
    .unwrap();
    let texts = host.until(9).await;
    assert_eq!(texts[1], "c public.t none > id=2,v=10485760 bytes");
    assert_eq!(texts[3], "c public.t none > id=4,v=b");
    assert_eq!(texts[4], "u public.t id=2 > id=5,v=?");
    let poison: Vec<_> = host.events.iter().map(|event| event.poison).collect();
    assert_eq!(poison.iter().flatten().collect::<Vec<_>>(), [&"RT2210"]);
    assert!(poison[2].is_some() && host.events[2].id.ends_with(":2"));
    host.stop().await;
}

#[tokio::test]
async fn h33_partitions_come_as_their_root() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let schema = "CREATE TABLE m (id int, y int, PRIMARY KEY (id, y)) PARTITION BY LIST (y);
        CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1);
        CREATE TABLE m2 PARTITION OF m FOR VALUES IN (2)";
    let sql = database(&server, "shop", schema).await;
    let mut host = Setup::new(&server, "shop").run();
    host.ready().await;
    sql.batch_execute("INSERT INTO m VALUES (1, 1); UPDATE m SET y = 2; TRUNCATE m").await.unwrap();
    assert_eq!(
        host.until(4).await,
        [
            "c public.m none > id=1,y=1",
            "d public.m id=1,y=1 > none",
            "c public.m none > id=1,y=2",
            "t public.m none > none",
        ]
    );
    host.stop().await;
}

#[tokio::test]
async fn the_publication_follows_the_selection() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let schema = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE keyless (id int);
        CREATE TABLE unwanted1 (id int PRIMARY KEY); CREATE SCHEMA \"S.\"\"x\";
        CREATE TABLE \"S.\"\"x\".\"T é\" (id int PRIMARY KEY)";
    let sql = database(&server, "shop", schema).await;
    let published = || async {
        let rows =
            sql.query("SELECT tablename::text FROM pg_publication_tables", &[]).await.unwrap();
        let mut names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        names.sort();
        names
    };
    let setup = Setup::new(&server, "shop");
    let mut host = setup.run();
    host.ready().await;
    assert_eq!(published().await, ["T é", "a"]);
    let position = host.stop().await;
    sql.batch_execute(
        "CREATE TABLE b (id int PRIMARY KEY); INSERT INTO \"S.\"\"x\".\"T é\" VALUES (1)",
    )
    .await
    .unwrap();
    let tables = serde_json::json!({ "include": ["*.*"], "exclude": ["*.unwanted*", "*.a"] });
    let mut host = setup.clone().set("tables", tables).from(position).run();
    assert_eq!(host.until(1).await, ["c S.\"x.T é none > id=1"]);
    assert_eq!(published().await, ["T é", "b"]);
    host.stop().await;
}

#[tokio::test]
async fn h36_a_table_created_under_the_stream_is_captured_soon() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute(
            "CREATE TABLE later (id int PRIMARY KEY); CREATE TABLE unwanted (id int)",
        )
        .await
        .unwrap();
        for id in 0..200 {
            sql.batch_execute(&format!(
                "INSERT INTO later VALUES ({id}); INSERT INTO t VALUES ({id})"
            ))
            .await
            .unwrap();
            host.during(std::time::Duration::from_millis(20)).await;
        }
        let count = |table: &str| host.events.iter().filter(|event| event.table == table).count();
        assert_eq!(count("public.t"), 200);
        let (seen, last) = (count("public.later"), host.events.len() - 2);
        // From some transaction on, every one.
        assert!(seen > 100, "{version}: {seen}");
        assert_eq!(host.events[last].text(), "c public.later none > id=199");
        let ids: Vec<String> = host
            .events
            .iter()
            .filter(|event| event.table == "public.later")
            .map(crate::host::Event::text)
            .collect();
        let expected: Vec<String> =
            (200 - seen..200).map(|id| format!("c public.later none > id={id}")).collect();
        assert_eq!(ids, expected, "{version}");
        host.stop().await;
    }
}

/// What goes on beside a running stream does not stop it at its next start: a table that cannot be added to
/// the publication now waits, and the others are streamed.
#[tokio::test]
async fn h36_a_table_that_cannot_be_added_holds_up_no_other() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        let position = host.stop().await;
        sql.batch_execute(
            "CREATE TABLE later (id int PRIMARY KEY); INSERT INTO t VALUES (1);
             CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no DDL in the daytime'; END $$;
             CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('ALTER PUBLICATION')
                EXECUTE FUNCTION refuse()",
        )
        .await
        .unwrap();
        let setup = Setup::new(&server, "shop");
        let mut host = setup.clone().from(position).run();
        assert_eq!(host.until(1).await, ["c public.t none > id=1"], "{version}");
        let position = host.stop().await;

        let locking = server.client("shop").await;
        sql.batch_execute("DROP EVENT TRIGGER refuse; INSERT INTO t VALUES (2)").await.unwrap();
        locking
            .batch_execute("BEGIN; LOCK TABLE later IN SHARE UPDATE EXCLUSIVE MODE")
            .await
            .unwrap();
        let mut host = setup.from(position).run();
        assert_eq!(host.until(1).await, ["c public.t none > id=2"], "{version}");
        locking.batch_execute("COMMIT").await.unwrap();
        // It is added once it can be.
        for id in 0..100 {
            sql.batch_execute(&format!("INSERT INTO later VALUES ({id})")).await.unwrap();
            host.during(std::time::Duration::from_millis(50)).await;
            if host.events.len() > 1 {
                break;
            }
        }
        assert_eq!(host.events.last().unwrap().table, "public.later", "{version}");
        host.stop().await;
    }
}

#[tokio::test]
async fn a_wide_publication_by_partition_is_captured_by_partition() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let schema = "CREATE TABLE m (id int PRIMARY KEY) PARTITION BY LIST (id);
        CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1); CREATE PUBLICATION shop FOR ALL TABLES";
    let sql = database(&server, "shop", schema).await;
    let setup = Setup::new(&server, "shop");
    let findings = setup.check().await;
    assert!(findings.iter().any(|f| f.message.contains("names; those")), "{findings:#?}");
    let mut host = setup.run();
    host.ready().await;
    sql.batch_execute("INSERT INTO m VALUES (1)").await.unwrap();
    assert_eq!(host.until(1).await, ["c public.m1 none > id=1"]);
    host.stop().await;
}

/// From when a table is complete that was not in the publication all the time, whoever added it.
#[tokio::test]
async fn a_table_with_a_gap_is_warned_of_with_the_lsn_of_its_end() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    keep_warnings();
    let sql = database(&server, "gap", "CREATE TABLE gap_a (id int PRIMARY KEY)").await;
    let auto = Setup::new(&server, "gap");
    let mut host = auto.run();
    host.ready().await;
    assert!(warnings(&["gap_a"]).is_empty(), "nothing is expected from before a first start");
    let pause = std::time::Duration::from_millis(1500);
    sql.batch_execute("ALTER PUBLICATION gap DROP TABLE gap_a").await.unwrap();
    host.during(pause).await;
    let ours = warnings(&["gap_a", "complete only from", "lsn=\"0/"]);
    assert_eq!(ours.len(), 1, "{ours:?}");
    sql.batch_execute("CREATE TABLE gap_b (id int PRIMARY KEY)").await.unwrap();
    host.during(pause).await;
    assert_eq!(warnings(&["gap_b", "complete only from"]).len(), 1);
    // Too quick to be seen missing.
    sql.batch_execute(
        "ALTER PUBLICATION gap DROP TABLE gap_b; ALTER PUBLICATION gap ADD TABLE gap_b",
    )
    .await
    .unwrap();
    host.during(pause).await;
    assert_eq!(warnings(&["gap_b", "complete only from"]).len(), 2);
    assert_eq!(warnings(&["gap_a", "complete only from"]).len(), 1);
    let position = host.stop().await;
    // While stopped.
    sql.batch_execute("CREATE TABLE gap_c (id int PRIMARY KEY)").await.unwrap();
    let mut host = auto.from(position).run();
    sql.batch_execute("INSERT INTO gap_a VALUES (1)").await.unwrap();
    host.until(1).await;
    assert_eq!(warnings(&["gap_c", "complete only from"]).len(), 1);
    host.stop().await;
}
