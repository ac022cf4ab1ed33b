//! What applications say of their statements in comments.

use rowtide_testkit::Flavor;

use crate::host::{Setup, server};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The client drops comments; what it prepares keeps them.
fn tagged(statement: &str, tags: &str) -> String {
    format!("PREPARE p FROM \"{statement} /*{tags}*/\"; EXECUTE p;")
}

#[tokio::test]
async fn m9_tags_of_a_statement_are_on_its_events_alone() {
    for flavor in Flavor::ALL {
        let setting = match flavor {
            Flavor::Mysql => "binlog_rows_query_log_events",
            Flavor::Mariadb => "binlog_annotate_row_events",
        };
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, n int);
             CREATE TABLE unwanted (id int PRIMARY KEY);
             CREATE TABLE my (id int PRIMARY KEY) ENGINE=InnoDB",
        );
        let mut host = Setup::new(&server).ready().await;
        let both = format!("app='it%27s',route='%2Fcart',traceparent='{TRACE}'");
        let script = [
            format!("USE shop; SET SESSION {setting} = ON; BEGIN;"),
            tagged("INSERT INTO t VALUES (1, 77001), (2, 77001)", &both),
            "INSERT INTO t VALUES (3, 0);".to_owned(),
            tagged("INSERT INTO t VALUES (4, 0)", "app='second'"),
            tagged("INSERT INTO unwanted VALUES (1)", "app='not for t'"),
            "INSERT INTO t VALUES (5, 0);".to_owned(),
            tagged("INSERT INTO t VALUES (6, 0)", "app='off next'"),
            format!("SET SESSION {setting} = OFF; INSERT INTO t VALUES (7, 0);"),
            format!("SET SESSION {setting} = ON; SAVEPOINT a;"),
            tagged("INSERT INTO t VALUES (8, 0)", "app='undone'"),
            format!("ROLLBACK TO a; SET SESSION {setting} = OFF;"),
            "INSERT INTO t VALUES (9, 0); COMMIT;".to_owned(),
            format!("INSERT INTO t VALUES (10, 0); SET SESSION {setting} = ON;"),
            tagged("UPDATE t SET n = 1 WHERE id = 1", "app='last'"),
            "DELETE FROM t WHERE id = 1".to_owned(),
        ];
        server.sql(&script.concat());
        host.until(11).await;
        let known: Vec<(&str, &str)> = host
            .events
            .iter()
            .map(|event| (event.known[1].as_str(), event.known[2].as_str()))
            .collect();
        let first = (TRACE, r#"{"app":"it's","route":"/cart"}"#);
        let expected = [
            first,
            first,
            ("", ""),
            ("", r#"{"app":"second"}"#),
            ("", ""),
            ("", r#"{"app":"off next"}"#),
            ("", ""),
            ("", ""),
            ("", ""),
            ("", r#"{"app":"last"}"#),
            ("", ""),
        ];
        assert_eq!(known, expected, "{}", flavor.name());
        host.stop().await;
    }
}

/// The text of a statement may be larger than any of its rows.
#[tokio::test]
async fn m9_a_statement_above_the_limit_is_passed_over() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &["binlog_row_event_max_size=8192"]) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, v varchar(2000))",
        );
        let mut setup = Setup::new(&server);
        setup.limits.max_event = 64 << 10;
        let mut host = setup.ready().await;
        if flavor == Flavor::Mysql {
            server.sql("SET GLOBAL binlog_rows_query_log_events = ON");
        }
        let value = "v".repeat(1500);
        let rows: Vec<String> = (0..1500).map(|id| format!("({id},'{value}')")).collect();
        server.sql(&format!("USE shop; INSERT INTO t VALUES {}; DELETE FROM t", rows.join(",")));
        host.until(3000).await;
        assert!(host.events.iter().all(|event| event.known[2].is_empty()));
        host.stop().await;
    }
}
