//! Values in the server's binary form: the same events, and the way back to text.

use std::time::Duration;

use rowtide_postgres::wire::ReplicationConnection;
use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::json;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{PATIENCE, Setup};

const SCHEMA: &str = "
    CREATE EXTENSION hstore; CREATE EXTENSION cube;
    CREATE TYPE mood AS ENUM ('sad', 'so so');
    CREATE TYPE addr AS (street text, n int);
    CREATE TABLE keyed (id uuid PRIMARY KEY, at timestamptz, n numeric, f float8, b bytea, tags text[],
        j jsonb, span tstzrange, home addr, feeling mood, attributes hstore, big text, flag boolean);
    ALTER TABLE keyed ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE whole (id bigint, d date, i interval, net inet, bits varbit, homes addr[]);
    ALTER TABLE whole REPLICA IDENTITY FULL;";

/// The settings of the stream that reads a slot, as the server was asked for them.
async fn asked(sql: &Client, slot: &str) -> String {
    let query = format!(
        "SELECT query FROM pg_stat_activity JOIN pg_replication_slots ON pid = active_pid \
         WHERE slot_name = '{slot}'"
    );
    // The first position is saved before the stream starts.
    let found = timeout(PATIENCE, async {
        loop {
            match sql.query_opt(&query, &[]).await.unwrap() {
                Some(row) if row.get::<_, &str>(0).starts_with("START") => return row.get(0),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    found.await.expect("nothing streams")
}

async fn write(sql: &Client) {
    sql.batch_execute(
        "INSERT INTO keyed SELECT md5(i::text)::uuid, '2026-01-01'::timestamptz + i * '1.1 s'::interval,
             i / 7.0, i / 3.0, decode(md5(i::text), 'hex'), ARRAY['a b', NULL, i::text],
             jsonb_build_object('i', i), tstzrange(now(), NULL), ROW('x, y', i)::addr, 'so so',
             hstore('k', i::text), repeat(md5(i::text), 200), i % 2 = 0
         FROM generate_series(1, 300) i;
         UPDATE keyed SET n = n + 1, flag = NULL WHERE id::text < '4';
         UPDATE keyed SET id = md5(id::text)::uuid WHERE id::text > 'c';
         DELETE FROM keyed WHERE id::text < '2';
         INSERT INTO whole SELECT i, date '2000-01-01' - i * 1000, make_interval(days => i, secs => -i),
             inet '::1' + i, i::bit(9)::varbit, ARRAY[ROW('x', i)::addr, NULL]
         FROM generate_series(1, 300) i;
         UPDATE whole SET d = 'infinity' WHERE id % 3 = 0;
         DELETE FROM whole WHERE id % 2 = 0;
         INSERT INTO keyed (id) VALUES ('00000000-0000-0000-0000-00000000000f')",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn h45_events_of_binary_values_are_those_of_text() {
    for version in postgres_versions() {
        let small = "logical_decoding_work_mem=64kB";
        let Some(server) = Postgres::start(&version, &[small]) else { return };
        let sql = database(&server, "shop", SCHEMA).await;
        let setup = Setup::new(&server, "shop");
        let mut text = setup.clone().set("binary", json!("off")).run();
        text.ready().await;
        let slot = |name: &str| setup.clone().set("slot", json!(name)).set("binary", json!("on"));
        let mut binary = slot("in_binary").rows(100).run();
        let mut streamed = slot("streamed").set("streaming", json!("on")).run();
        binary.ready().await;
        streamed.ready().await;
        assert!(!asked(&sql, "shop").await.contains("binary"));
        assert!(asked(&sql, "in_binary").await.contains("binary 'true'"));
        write(&sql).await;
        while text.events.last().is_none_or(|event| !event.text().contains("00000000000f")) {
            text.batch().await;
        }
        let expected = text.events.len();
        assert!(expected > 1000, "{expected}");
        for host in [&mut binary, &mut streamed] {
            host.until(expected).await;
            let differ = text.events.iter().zip(&host.events).find(|(a, b)| a != b);
            assert_eq!(differ, None, "{version}");
            assert_eq!(host.events.len(), expected);
        }
        for host in [text, binary, streamed] {
            host.stop().await;
        }
    }
}

/// Tables that come later: one with a type that is not understood in binary, one with a type that the
/// server itself cannot send so. Nothing is lost on the way to text.
#[tokio::test]
async fn h45_what_has_no_binary_form_is_sent_as_text() {
    for version in postgres_versions() {
        for value in ["cube '(1,2)'", "ARRAY[makeaclitem(10, 10, 'SELECT', false)]"] {
            let Some(server) = Postgres::start(&version, &[]) else { return };
            let sql = database(&server, "shop", SCHEMA).await;
            let setup = Setup::new(&server, "shop").set("binary", json!("on")).rows(3);
            let mut host = setup.run();
            host.ready().await;
            assert!(asked(&sql, "shop").await.contains("binary 'true'"));
            sql.batch_execute(&format!(
                "CREATE TABLE later AS SELECT 1 AS id, {value} AS v;
                 ALTER TABLE later ADD PRIMARY KEY (id);
                 ALTER PUBLICATION shop ADD TABLE later;
                 BEGIN;
                 INSERT INTO whole SELECT i FROM generate_series(1, 10) i;
                 INSERT INTO later SELECT 2, v FROM later;
                 INSERT INTO whole SELECT i FROM generate_series(11, 20) i;
                 COMMIT"
            ))
            .await
            .unwrap();
            let error = host.error().await;
            assert_eq!(error.code().0, "RT2222", "{version}: {error}");
            let before = host.events.len();
            assert!(before <= 10, "{before}");
            let mut again = setup.clone().from(host.position.clone()).run();
            let texts = again.until(21 - before).await;
            assert!(!asked(&sql, "shop").await.contains("binary"));
            assert!(texts[10 - before].starts_with("c public.later none > id=2,v="), "{texts:?}");
            let all: Vec<_> =
                host.events.iter().chain(&again.events).map(|e| e.id.clone()).collect();
            let unique: std::collections::BTreeSet<_> = all.iter().collect();
            assert_eq!((all.len(), unique.len()), (21, 21));
            again.stop().await;
        }
    }
}

#[tokio::test]
async fn binary_is_chosen_where_bytes_are_captured() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        for (database_name, column, is_binary) in
            [("a", "text", false), ("b", "bytea", true), ("c", "bytea[]", true)]
        {
            let schema = format!("CREATE TABLE t (id int PRIMARY KEY, v {column})");
            let sql = database(&server, database_name, &schema).await;
            let mut host = Setup::new(&server, database_name).run();
            host.ready().await;
            let asked = asked(&sql, database_name).await;
            assert_eq!(asked.contains("binary 'true'"), is_binary, "{version} {column}: {asked}");
            host.stop().await;
        }
    }
}

/// Where nobody chose it, decoding takes other memory than PostgreSQL's default.
#[tokio::test]
async fn the_memory_of_decoding_is_set_where_nobody_chose_it() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        for (of_database, chosen, streams, expected) in [
            (None, None, false, "256MB"),
            (None, None, true, "16MB"),
            (Some("1MB"), None, false, "1MB"),
            (Some("1MB"), Some("2MB"), true, "2MB"),
        ] {
            if let Some(size) = of_database {
                let alter = format!("ALTER DATABASE shop SET logical_decoding_work_mem = '{size}'");
                sql.batch_execute(&alter).await.unwrap();
            }
            let mut setup = Setup::new(&server, "shop");
            if let Some(chosen) = chosen {
                setup = setup.set("logical_decoding_work_mem", json!(chosen));
            }
            let connecting = ReplicationConnection::connect(&setup.options()).await;
            let mut connection = connecting.unwrap();
            connection.size_decoding(streams).await.unwrap();
            let show = "SHOW logical_decoding_work_mem";
            let rows = connection.simple_query(show).await.unwrap();
            assert_eq!(rows, [[Some(expected.to_owned())]], "{version} {of_database:?} {chosen:?}");
        }
    }
}
