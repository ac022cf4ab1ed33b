//! Large columns that an update left alone, under each policy, from the server to files.

use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::Value;

use crate::host::{Options, Setup, sql};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, big text, tags text[]);
    ALTER TABLE t ALTER big SET STORAGE EXTERNAL, ALTER tags SET STORAGE EXTERNAL;
    INSERT INTO t SELECT i, 0, repeat(chr(96 + i), 3000), array_fill('e'::text, ARRAY[800])
        FROM generate_series(1, 3) i";

/// An update, a change of key, and a row that is gone by the time it is looked for.
const CHANGES: &str = "UPDATE t SET n = 1 WHERE id = 1; UPDATE t SET id = 12 WHERE id = 2;
    UPDATE t SET n = 2 WHERE id = 3; DELETE FROM t WHERE id = 3";

/// The events of `CHANGES`, all there before the first is read.
fn events(server: &Postgres, policy: &str) -> Vec<Value> {
    let setup = Setup::new();
    let connector = format!("    tables: {{ public.t: {{ unchanged: {policy} }} }}\n");
    let sink = setup.jsonl();
    setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
    let mut host = setup.first_start();
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    sql(server, CHANGES);
    let mut host = setup.start();
    host.until("five events", || setup.count() == 5);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    setup.events().remove("shop.public.t").unwrap()
}

/// What an event says of the column: its value's length, whether it is in `unchanged`, and what
/// became of reading it back.
fn told(event: &Value) -> (Option<usize>, bool, &str) {
    let lists = |field: &Value| field.as_array().is_some_and(|names| names.contains(&"big".into()));
    let reselected = &event["reselected"];
    let is_read = lists(&reselected["columns"]);
    let read = if is_read { "read" } else { reselected["reason"].as_str().unwrap_or("") };
    let length = event["after"]["big"].as_str().map(str::len);
    (length, lists(&event["unchanged"]), read)
}

#[test]
fn h27_no_policy_loses_a_value_without_saying_so() {
    let gone = (None, true, "gone");
    let policies = [
        ("omit", [(None, true, ""); 3]),
        ("{ placeholder: \"-\" }", [(Some(1), true, ""); 3]),
        ("reselect", [(Some(3000), false, "read"), (Some(3000), false, "read"), gone]),
    ];
    for version in postgres_versions() {
        for (policy, expected) in policies {
            let Some(server) = Postgres::start(&version, &[]) else { return };
            sql(&server, SCHEMA);
            let events = events(&server, policy);
            let ops: Vec<&str> = events.iter().map(|event| event["op"].as_str().unwrap()).collect();
            assert_eq!(ops, ["u", "d", "c", "u", "d"], "{version} {policy}");
            let with_row = [&events[0], &events[2], &events[3]];
            assert_eq!(with_row.map(told), expected, "{version} {policy}");
            assert_eq!(events[2]["previous_key"]["id"], 2);
            assert_eq!(events[2]["key"]["id"], 12);
            if policy == "reselect" {
                assert_eq!(events[2]["after"]["tags"].as_array().unwrap().len(), 800);
            }
        }
    }
}
