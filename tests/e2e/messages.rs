//! Messages of applications and notes on transactions, from the server to files.

use rowtide_testkit::{Postgres, postgres_versions};

use crate::host::{Options, Setup, sql};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// They go to their own topic, and notes to the events of their transaction; after a kill nothing
/// comes twice.
#[test]
fn h42_messages_have_a_topic_and_notes_go_on_events() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        sql(&server, "CREATE TABLE t (id int PRIMARY KEY)");
        let setup = Setup::new();
        let source = "      messages: { exclude: [noise], topic: \"{name}.notes\" }\n";
        setup.write(&Options { url: server.url(), source, sink: setup.jsonl(), connector: "" });
        let mut host = setup.first_start();
        let script = format!(
            "BEGIN; SELECT pg_logical_emit_message(true, 'traceparent', '{TRACE}');
             SELECT pg_logical_emit_message(true, 'rowtide.annotation', '{{\"by\": \"kim\"}}');
             INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'outbox', '{{\"n\": 1}}');
             SELECT pg_logical_emit_message(true, 'noise', 'x'); COMMIT;
             SELECT pg_logical_emit_message(false, 'deploy', 'release 7')"
        );
        sql(&server, &script);
        host.until("the events", || setup.count() == 3);
        host.kill();
        sql(&server, "INSERT INTO t VALUES (2)");
        let mut host = setup.start();
        host.until("the event after the kill", || setup.count() == 4);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let events = setup.events();
        let rows = &events["shop.public.t"];
        assert_eq!(rows[0]["transaction"]["traceparent"], TRACE, "{version}");
        assert_eq!(rows[0]["transaction"]["annotation"]["by"], "kim");
        assert_eq!(rows[0]["transaction"]["index"], 2, "the notes count");
        assert!(rows[1]["transaction"].get("traceparent").is_none());
        let messages = &events["shop.notes"];
        assert_eq!(messages[0]["message"]["content"]["n"], 1);
        assert_eq!(messages[0]["transaction"], {
            let mut transaction = rows[0]["transaction"].clone();
            transaction["index"] = 3.into();
            transaction
        });
        assert_eq!(messages[1]["message"]["content"], "release 7");
        assert_eq!(messages[1]["op"], "m");
        assert!(messages[1]["transaction"].is_null());
    }
}
