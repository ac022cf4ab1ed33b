//! Rows of which the log has a part: `binlog_row_image` and changes inside JSON values.

use std::fmt::Write as _;

use rowtide_testkit::Flavor;
use rowtide_testkit::host::Event;

use crate::host::{Setup, server};

const TABLES: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id int PRIMARY KEY, a int, b text, c blob);
    CREATE TABLE keyless (a int, b text);";

#[tokio::test]
async fn m2_rows_of_which_the_log_has_a_part_say_which() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; SET SESSION binlog_row_image = 'MINIMAL';
             INSERT INTO t VALUES (1, 1, 'x', NULL); INSERT INTO t (id, a) VALUES (2, 2);
             UPDATE t SET a = 5 WHERE id = 1; UPDATE t SET a = NULL WHERE id = 1;
             UPDATE t SET id = 3 WHERE id = 1; DELETE FROM t WHERE id = 3;
             INSERT INTO keyless VALUES (1, 'x'); UPDATE keyless SET a = 2; DELETE FROM keyless;
             SET SESSION binlog_row_image = 'NOBLOB';
             UPDATE t SET a = 9 WHERE id = 2; UPDATE t SET b = 'y' WHERE id = 2;
             INSERT INTO t (id) VALUES (4); DELETE FROM t WHERE id = 2;
             SET SESSION binlog_row_image = 'FULL'; UPDATE t SET a = 1 WHERE id = 4",
        );
        host.until(14).await;
        let texts: Vec<String> = host.events.iter().map(Event::in_json).collect();
        let expected = [
            r#"c shop.t none > {"id":1,"a":1,"b":"x","c":null}"#,
            "c shop.t none > none",
            r#"u shop.t {"id":1} > {"id":1,"a":5,"b":?,"c":?}"#,
            r#"u shop.t {"id":1} > {"id":1,"a":null,"b":?,"c":?}"#,
            r#"u shop.t {"id":1} > {"id":3,"a":?,"b":?,"c":?}"#,
            r#"d shop.t {"id":3} > none"#,
            r#"c shop.keyless none > {"a":1,"b":"x"}"#,
            r#"u shop.keyless {"a":1,"b":"x"} > {"a":2,"b":"x"}"#,
            r#"d shop.keyless {"a":2,"b":"x"} > none"#,
            r#"u shop.t {"id":2,"a":2} > {"id":2,"a":9,"b":?,"c":?}"#,
            r#"u shop.t {"id":2,"a":9} > {"id":2,"a":9,"b":"y","c":?}"#,
            "c shop.t none > none",
            r#"d shop.t {"id":2,"a":9} > none"#,
            r#"u shop.t {"id":4,"a":null,"b":null,"c":null} > {"id":4,"a":1,"b":null,"c":null}"#,
        ];
        assert_eq!(texts, expected, "{}", flavor.name());
        let poison = |event: &Event| event.poison;
        let poisoned: Vec<_> = host.events.iter().filter_map(poison).collect();
        assert_eq!(poisoned, ["RT2802", "RT2802"]);
        host.stop().await;
    }
}

/// Without the document before, changes to it are no document: the row is told, and the next one comes.
#[tokio::test]
async fn m4_changes_inside_json_that_is_not_in_the_log() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    server.sql(
        r#"CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, v int, d json);
           INSERT INTO t VALUES (1, 0, '{"a": [1, 2, 3], "b": "text"}')"#,
    );
    let mut host = Setup::new(&server).ready().await;
    server.sql(
        "SET SESSION binlog_row_value_options = 'PARTIAL_JSON', binlog_row_image = 'MINIMAL'; USE shop;
         UPDATE t SET v = 1; UPDATE t SET d = JSON_SET(d, '$.a[1]', 9); UPDATE t SET v = 2",
    );
    host.until(3).await;
    let poisoned: Vec<_> = host.events.iter().map(|event| event.poison).collect();
    assert_eq!(poisoned, [None, Some("RT2802"), None]);
    let text = r#"u shop.t {"id":1} > {"id":1,"v":2,"d":?}"#;
    assert_eq!(host.events[2].in_json(), text);
    host.stop().await;
}

#[tokio::test]
async fn m4_changes_inside_json_make_the_document_that_the_server_has() {
    let flavor = Flavor::Mysql;
    let Some(server) = server(flavor, &["binlog_row_value_options=PARTIAL_JSON"]) else { return };
    server.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, d json, e json);",
    );
    let mut host = Setup::new(&server).ready().await;
    let mut script = r#"USE shop; INSERT INTO t VALUES (1,
        '{"a": {"b": [1, 2, 3], "c": "text"}, "k": "to be replaced by others", "list": [0, "x", {"y": 1}]}',
        '[{"p": 1}, {"q": "a longer text that leaves room"}]');"#
        .to_owned();
    let mut seed = 7u32;
    let mut random = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    let paths =
        ["$.a.b[0]", "$.a.b[1]", "$.a.c", "$.k", "$.list[2].y", "$.list[0]", "$.new", "$.a.d"];
    const COUNT: usize = 120;
    for number in 0..COUNT {
        let path = paths[random(8) as usize];
        let value = match random(4) {
            0 => format!("{number}"),
            1 => format!("'text {number}{}'", "é".repeat(random(20) as usize)),
            2 => format!("CAST('{{\"in\": [{number}, null, true]}}' AS JSON)"),
            _ => format!("{number}.25"),
        };
        let change = match random(3) {
            0 => format!("JSON_REPLACE(d, '{path}', {value})"),
            1 => format!("JSON_SET(JSON_REMOVE(d, '{path}'), '$.n', {number})"),
            _ => format!("JSON_SET(d, '{path}', {value}, '$.n', {number})"),
        };
        let _ = write!(
            script,
            "UPDATE t SET d = {change}, e = JSON_SET(e, '$[0].p', {number}); SELECT d, e FROM t;"
        );
    }
    let printed = server.sql(&script);
    host.until(1 + COUNT).await;
    for (line, event) in printed.lines().zip(&host.events[1..]) {
        let (d, e) = line.split_once('\t').unwrap();
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let after = parsed(event.json[1].as_deref().unwrap());
        assert_eq!((&after["d"], &after["e"]), (&parsed(d), &parsed(e)));
    }
    host.stop().await;
}
