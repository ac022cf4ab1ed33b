//! Ways in which the log misleads whoever reads it, each on every version of the server.

use std::time::Duration;

use rowtide_sdk::{Class, Form};
use rowtide_testkit::{Postgres, postgres_versions};
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::Setup;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";

async fn text(sql: &Client, query: &str) -> String {
    sql.query_one(query, &[]).await.unwrap().get(0)
}

/// COPY of many rows, all with one LSN, killed after every batch.
#[tokio::test]
async fn h06_rows_that_share_an_lsn_arrive_once_each() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let probe = "SELECT pg_create_logical_replication_slot('probe', 'test_decoding')";
        sql.batch_execute(probe).await.unwrap();
        let setup = Setup::new(&server, "shop").rows(90);
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("COPY t FROM PROGRAM 'seq 1000 | sed \"s/\\$/\\tx/\"'").await.unwrap();
        let places = "SELECT count(DISTINCT lsn)::text
            FROM pg_logical_slot_peek_changes('probe', NULL, NULL) WHERE data LIKE 'table %'";
        let places: usize = text(&sql, places).await.parse().unwrap();
        assert!(places < 10, "{version}: {places} LSNs for 1000 rows");
        let mut seen = Vec::new();
        while seen.len() < 1000 {
            host.batch().await;
            seen.append(&mut host.events);
            let position = host.kill().await;
            host = setup.clone().from(position).run();
        }
        let rows: Vec<String> = seen.iter().map(|event| event.after.clone().unwrap()).collect();
        let wanted: Vec<String> = (1..=1000).map(|id| format!("id={id},v=x")).collect();
        assert_eq!(rows, wanted, "{version}");
        for (index, event) in seen.iter().enumerate() {
            assert!(event.id.ends_with(&format!(":{index}")), "{} at {index}", event.id);
        }
        host.during(Duration::from_millis(200)).await;
        assert!(host.events.is_empty(), "{version}: {:?}", host.events);
        host.stop().await;
    }
}

/// The publication was dropped and created again while the source was away: what was written in
/// between was written where it did not exist. Servers before 18 cannot decode it; later ones leave it
/// out with a warning, which is refused too.
#[tokio::test]
async fn h37_log_written_without_its_publication() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let setup = Setup::new(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        host.until(1).await;
        let position = host.stop().await;
        // As it is: another start says so before anything else.
        sql.batch_execute("DROP PUBLICATION shop").await.unwrap();
        let error = setup.clone().from(position.clone()).refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2121", Class::Fatal), "{version}: {error}");
        // Created again: the log in between still knows none.
        sql.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
        sql.batch_execute("CREATE PUBLICATION shop FOR TABLE t; INSERT INTO t VALUES (3)")
            .await
            .unwrap();
        let error = setup.clone().from(position).refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2121", Class::Fatal), "{version}: {error}");
    }
}

/// A subtransaction that outgrew the server's memory and was rolled back while the source was away.
/// PostgreSQL 18 tells of its end, although nothing of it was ever sent.
#[tokio::test]
async fn h39_h41_the_end_of_what_was_never_sent() {
    for version in postgres_versions() {
        let settings = ["logical_decoding_work_mem=64kB"];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let setup = Setup::new(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        let position = host.stop().await;
        for first in [0, 10_000] {
            sql.batch_execute(&format!(
                "BEGIN; INSERT INTO t VALUES ({first} + 1);
                 SAVEPOINT s; INSERT INTO t SELECT n FROM generate_series({first} + 2, {first} + 5000) n;
                 ROLLBACK TO s; INSERT INTO t VALUES ({first} + 2); COMMIT;
                 BEGIN; INSERT INTO t SELECT n FROM generate_series({first} + 3, {first} + 5000) n;
                 ROLLBACK;"
            ))
            .await
            .unwrap();
        }
        let mut host = setup.from(position).run();
        let wanted = [1, 2, 10_001, 10_002].map(|id| format!("c public.t none > id={id},v=-"));
        assert_eq!(host.until(4).await, wanted, "{version}");
        host.during(Duration::from_millis(200)).await;
        assert_eq!(host.events.len(), 4);
        host.stop().await;
    }
}

/// Types of users, their arrays and domains: described by what the catalog says of their oids, and
/// changed while the source runs.
#[tokio::test]
async fn h44_types_of_users_their_arrays_and_domains() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let types = "
            CREATE TYPE mood AS ENUM ('sad', 'so so');
            CREATE DOMAIN small AS int CHECK (value < 100); CREATE DOMAIN tiny AS small;
            CREATE DOMAIN smalls AS int[];
            CREATE TYPE pair AS (a tiny, moods mood[]);
            CREATE TABLE t (id tiny PRIMARY KEY, m mood, ms mood[], s smalls, p pair, ps pair[]);";
        let sql = database(&server, "shop", types).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute(
            "INSERT INTO t VALUES (1, 'sad', '{\"so so\",NULL}', '{1,2}', (3, '{sad}'),
                ARRAY[(4, NULL)::pair])",
        )
        .await
        .unwrap();
        assert_eq!(
            host.until(1).await,
            [r#"c public.t none > id=1,m=sad,ms={"so so",NULL},s={1,2},p=(3,{sad}),ps={"(4,)"}"#],
            "{version}"
        );
        let forms: Vec<&Form> = host.tables[0].columns.iter().map(|column| &column.form).collect();
        let Form::Integer { .. } = forms[0] else { panic!("{version}: {:?}", forms[0]) };
        let Form::String(_) = forms[1] else { panic!("{version}: {:?}", forms[1]) };
        let Form::Object(fields) = forms[4] else { panic!("{version}: {:?}", forms[4]) };
        assert!(matches!(fields[0].1, Form::Integer { .. }), "{version}");
        let Form::Array(element) = forms[5] else { panic!("{version}: {:?}", forms[5]) };
        assert_eq!(**element, *forms[4]);
        for of_array in [forms[2], forms[3], &fields[1].1] {
            assert!(matches!(of_array, Form::Array(_)), "{version}: {of_array:?}");
        }
        host.stop().await;
    }
}

/// What the log never holds: nothing of it arrives, and it holds nothing up.
#[tokio::test]
async fn h49_what_is_never_in_the_log() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "
            CREATE TABLE t (id int PRIMARY KEY, v text);
            CREATE UNLOGGED TABLE u (id int PRIMARY KEY);
            CREATE VIEW w AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
            CREATE SEQUENCE s; CREATE EXTENSION file_fdw;
            CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
            CREATE FOREIGN TABLE f (id int) SERVER files OPTIONS (filename '/dev/null');";
        let sql = database(&server, "shop", schema).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute(
            "CREATE TEMPORARY TABLE x (id int PRIMARY KEY); INSERT INTO x VALUES (1);
             INSERT INTO u VALUES (1); UPDATE u SET id = 2; TRUNCATE u;
             SELECT nextval('s'), lo_create(0);
             INSERT INTO w VALUES (1, 'through a view');
             REFRESH MATERIALIZED VIEW m; ALTER TABLE u SET UNLOGGED;
             CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON TABLE t IS 'x';
             INSERT INTO t VALUES (2, 'last')",
        )
        .await
        .unwrap();
        let wanted = ["c public.t none > id=1,v=through a view", "c public.t none > id=2,v=last"];
        assert_eq!(host.until(2).await, wanted, "{version}");
        host.during(Duration::from_millis(200)).await;
        assert_eq!(host.events.len(), 2, "{version}");
        host.stop().await;
    }
}

/// Timeouts that the database sets for every session end neither the stream nor what is asked beside
/// it; and no session of ours holds vacuum back.
#[tokio::test]
async fn h70_timeouts_of_sessions_and_nothing_left_open() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(
            &server,
            "shop",
            "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TYPE mood AS ENUM ('a')",
        )
        .await;
        sql.batch_execute(
            "ALTER DATABASE shop SET statement_timeout = '400ms';
             ALTER DATABASE shop SET idle_in_transaction_session_timeout = '300ms';
             ALTER DATABASE shop SET idle_session_timeout = '300ms';
             ALTER DATABASE shop SET lock_timeout = '300ms'",
        )
        .await
        .unwrap();
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        host.until(1).await;
        let pid = "SELECT active_pid::text FROM pg_replication_slots";
        let first = text(&sql, pid).await;
        host.during(Duration::from_millis(1500)).await;
        assert_eq!(text(&sql, pid).await, first, "{version}: the same connection");
        // A table whose description asks the catalog, on a connection that was idle for long.
        sql.batch_execute("CREATE TABLE n (id int PRIMARY KEY, m mood)").await.unwrap();
        host.during(Duration::from_millis(1500)).await;
        sql.batch_execute("INSERT INTO n VALUES (1, 'a')").await.unwrap();
        sql.batch_execute("ALTER TABLE n REPLICA IDENTITY FULL; INSERT INTO n VALUES (2, 'a')")
            .await
            .unwrap();
        host.until(3).await;
        host.during(Duration::from_millis(300)).await;
        let held =
            "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'rowtide%'
             AND (state LIKE 'idle in transaction%' OR (backend_type = 'client backend'
                  AND coalesce(backend_xmin, backend_xid) IS NOT NULL))";
        assert_eq!(text(&sql, held).await, "0", "{version}");
        assert_eq!(text(&sql, pid).await, first, "{version}: the same connection");
        host.stop().await;
    }
}

/// Commits in an order in which their times are not: an origin gives transactions times of its own,
/// as replication from another server does.
#[tokio::test]
async fn h76_commit_times_out_of_order() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        sql.batch_execute(
            "SELECT pg_replication_origin_create('far'); SELECT pg_replication_origin_session_setup('far')",
        )
        .await
        .unwrap();
        let setup = Setup::new(&server, "shop").rows(1);
        let mut host = setup.run();
        host.ready().await;
        let times = ["2030-01-01", "1999-12-31", "2000-01-01", "2029-06-01", "1970-01-01"];
        for (at, time) in times.iter().enumerate() {
            sql.batch_execute(&format!(
                "BEGIN; SELECT pg_replication_origin_xact_setup('0/{at}1', '{time} 00:00:00+00');
                 INSERT INTO t VALUES ({at}); INSERT INTO t VALUES ({at} + 10); COMMIT"
            ))
            .await
            .unwrap();
        }
        let mut seen = Vec::new();
        while seen.len() < 10 {
            host.batch().await;
            seen.append(&mut host.events);
            let position = host.kill().await;
            host = setup.clone().from(position).run();
        }
        let rows: Vec<&str> = seen.iter().map(|event| event.after.as_deref().unwrap()).collect();
        let wanted: Vec<String> =
            (0..5).flat_map(|at| [format!("id={at},v=-"), format!("id={},v=-", at + 10)]).collect();
        assert_eq!(rows, wanted, "{version}");
        host.stop().await;
    }
}
