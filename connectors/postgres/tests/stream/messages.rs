//! Messages of applications, notes on transactions, and origins.

use rowtide_postgres::PgPosition;
use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::json;

use crate::changes::database;
use crate::host::{Event, Place, Setup};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// `op name content index`, and the index within the transaction.
fn short(events: &[Event]) -> Vec<String> {
    let short = |event: &Event| {
        let index = event.id.split_once(':').unwrap().1;
        format!("{} {} {} {index}", event.op, event.table, event.after.as_deref().unwrap_or("-"))
    };
    events.iter().map(short).collect()
}

fn emit(transactional: bool, prefix: &str, content: &str) -> String {
    format!("SELECT pg_logical_emit_message({transactional}, '{prefix}', {content});")
}

/// Inside and outside transactions, rolled back, of unwanted prefixes, and alone in a transaction:
/// what comes, with which numbers, and that a restart after any of them goes on with the next.
#[tokio::test]
async fn h42_messages_come_once_wherever_the_stream_is_cut() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let setup = Setup::new(&server, "shop").set("messages", json!({ "exclude": ["left*"] }));
        let mut host = setup.run();
        host.ready().await;
        let start = host.stop().await;
        let script = [
            emit(false, "out", "'1'"),
            "BEGIN; INSERT INTO t VALUES (1);".to_owned(),
            emit(true, "in", "'{\"a\": [1]}'"),
            emit(false, "out", "'2'"),
            emit(true, "left", "'x'"),
            "INSERT INTO t VALUES (2);".to_owned(),
            emit(true, "in", "'\\x00ff'::bytea"),
            "COMMIT; BEGIN;".to_owned(),
            emit(true, "in", "'rolled back'"),
            emit(false, "out", "'3'"),
            "ROLLBACK;".to_owned(),
            emit(true, "in", "'alone'"),
            emit(false, "rowtide.heartbeat", "''"),
            // The commit record begins where the message ends.
            "BEGIN; INSERT INTO t VALUES (3);".to_owned(),
            emit(false, "out", "'4'"),
            "COMMIT;".to_owned(),
        ];
        for statement in script.concat().split_inclusive(';') {
            sql.batch_execute(statement).await.unwrap();
        }
        // One batch for each entry, so that every position is seen; none is told to the server.
        let one_by_one = setup.clone().rows(1);
        let mut host = one_by_one.clone().from(start).run();
        host.saves = false;
        let mut positions = Vec::new();
        while host.events.len() < 10 {
            let before = host.events.len();
            host.batch().await;
            if host.events.len() > before {
                positions.push(host.position.clone());
            }
        }
        let mut all = host.events.clone();
        host.kill().await;
        let expected = [
            "m out \"1\" 0",
            "m out \"2\" 0",
            "c public.t id=1 0",
            "m in {\"a\":[1]} 1",
            "c public.t id=2 3",
            "m in \"AP8=\" 4",
            "m out \"3\" 0",
            "m in \"alone\" 0",
            "m out \"4\" 0",
            "c public.t id=3 0",
        ];
        assert_eq!(short(&all), expected, "{version}");
        sql.batch_execute("INSERT INTO t VALUES (4)").await.unwrap();
        for (done, position) in (1..).zip(positions) {
            let mut host = one_by_one.clone().from(position).run();
            host.saves = false;
            host.until(11 - done).await;
            if done == 1 {
                all.push(host.events.last().unwrap().clone());
            }
            assert_eq!(host.events, all[done..], "{version}: after {done}");
            host.kill().await;
        }
        let commit = |event: &Event| event.id.split(':').next().unwrap().to_owned();
        assert_eq!(commit(&all[8]), commit(&all[9]), "{version}");
    }
}

/// Without asking for messages, they shift nothing: the numbers of changes, the fingerprint of the
/// stream, and progress past messages alone.
#[tokio::test]
async fn h42_messages_that_were_not_asked_for_leave_no_trace() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let setup = Setup::new(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute(
            "BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'in', 'x');
             SELECT pg_logical_emit_message(false, 'out', 'x');
             SELECT pg_logical_emit_message(true, 'traceparent', 'x'); INSERT INTO t VALUES (2);
             COMMIT",
        )
        .await
        .unwrap();
        host.until(2).await;
        assert_eq!(short(&host.events), ["c public.t id=1 0", "c public.t id=2 1"], "{version}");
        assert_eq!(host.events[1].known, ["", "", ""]);
        let before = host.place().confirm;
        sql.batch_execute("SELECT pg_logical_emit_message(false, 'out', repeat('x', 100000))")
            .await
            .unwrap();
        while host.place().confirm.0 < before.0 + 100_000 {
            host.batch().await;
        }
        assert_eq!(host.events.len(), 2);
        let asked = setup.clone().set("messages", json!({}));
        let position = host.stop().await;
        let mut host = asked.from(position.clone()).run();
        sql.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
        host.until(1).await;
        assert_ne!(host.place().stream, PgPosition::parse(&position.unwrap()).unwrap().stream);
        host.stop().await;
    }
}

#[tokio::test]
async fn notes_are_on_the_changes_that_follow_them() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let setup = Setup::new(&server, "shop").set("messages", json!({ "include": [] }));
        let mut host = setup.clone().rows(1).run();
        host.saves = false;
        host.ready().await;
        host.save();
        sql.batch_execute(&format!(
            "BEGIN; INSERT INTO t VALUES (1);
             SELECT pg_logical_emit_message(true, 'traceparent', '{TRACE}');
             INSERT INTO t VALUES (2);
             SELECT pg_logical_emit_message(true, 'rowtide.annotation', '{{ \"by\": \"kim\" }}');
             INSERT INTO t VALUES (3);
             SELECT pg_logical_emit_message(true, 'rowtide.annotation', '[]');
             SELECT pg_logical_emit_message(true, 'wanted by nobody', 'x');
             INSERT INTO t VALUES (4); COMMIT; INSERT INTO t VALUES (5)"
        ))
        .await
        .unwrap();
        let mut middle = None;
        while host.events.len() < 5 {
            host.batch().await;
            if host.events.len() == 3 {
                middle = host.position.clone();
            }
        }
        let note = "{\"by\":\"kim\"}";
        let expected =
            [["", "", ""], ["", TRACE, ""], ["", TRACE, note], ["", TRACE, note], ["", "", ""]];
        let known: Vec<_> = host.events.iter().map(|event| event.known.clone()).collect();
        assert_eq!(known, expected, "{version}");
        // In the middle of the transaction they are known again.
        let all = host.events.clone();
        host.kill().await;
        let mut host = setup.from(middle).run();
        host.until(2).await;
        assert_eq!(host.events, all[3..], "{version}");
        host.stop().await;
    }
}

/// A transaction that another node made is told by its name, and the next one is not.
#[tokio::test]
async fn h43_origins_are_named_and_end_with_their_transaction() {
    for version in postgres_versions() {
        let settings = ["logical_decoding_work_mem=64kB"];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let setup = Setup::new(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute(
            "SELECT pg_replication_origin_create('site_b');
             SELECT pg_replication_origin_session_setup('site_b')",
        )
        .await
        .unwrap();
        sql.batch_execute("INSERT INTO t VALUES (1), (2)").await.unwrap();
        sql.batch_execute("SELECT pg_replication_origin_session_reset()").await.unwrap();
        sql.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
        host.until(3).await;
        let origins: Vec<&str> = host.events.iter().map(|event| event.known[0].as_str()).collect();
        assert_eq!(origins, ["site_b", "site_b", ""], "{version}");
        let position = host.stop().await;

        if version == "14" {
            // It is not asked to stream.
            continue;
        }
        // The same of two that are streamed while both run.
        let mut host = setup.set("streaming", json!("on")).from(position).run();
        let plain = server.client("shop").await;
        sql.batch_execute("SELECT pg_replication_origin_session_setup('site_b'); BEGIN")
            .await
            .unwrap();
        plain.batch_execute("BEGIN").await.unwrap();
        for round in 1..4 {
            let (first, last) = (round * 1000, round * 1000 + 499);
            let rows = |sign| {
                format!("INSERT INTO t SELECT {sign} * n FROM generate_series({first}, {last}) n")
            };
            sql.batch_execute(&rows(1)).await.unwrap();
            plain.batch_execute(&rows(-1)).await.unwrap();
        }
        sql.batch_execute("COMMIT").await.unwrap();
        plain.batch_execute("COMMIT").await.unwrap();
        crate::streamed::until_streamed(&plain, 2).await;
        host.until(3000).await;
        for (event, origin) in host.events.iter().zip([["site_b"; 1500], [""; 1500]].as_flattened())
        {
            assert_eq!(event.known[0], *origin, "{version}: {}", event.text());
        }
        host.stop().await;
    }
}

/// Where the server can leave out what replication brought in, it does; an older one is not asked
/// for what it would ignore or refuse.
#[tokio::test]
async fn h43_changes_of_other_origins_are_left_out_or_the_server_is_refused() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let setup = Setup::new(&server, "shop").set("origin", json!("none"));
        if version.parse::<u32>().unwrap() < 16 {
            let error = setup.refusal().await;
            assert_eq!(error.code().0, "RT2320", "{error}");
            let found = setup.check().await;
            assert!(found.iter().any(|finding| finding.code.0 == "RT2320"), "{found:#?}");
            continue;
        }
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute(
            "SELECT pg_replication_origin_create('site_b');
             SELECT pg_replication_origin_session_setup('site_b')",
        )
        .await
        .unwrap();
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        sql.batch_execute("SELECT pg_replication_origin_session_reset()").await.unwrap();
        sql.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
        host.until(1).await;
        assert_eq!(short(&host.events), ["c public.t id=2 0"], "{version}");
        host.stop().await;
    }
}
