//! Values of every type through the source: what arrives is the JSON that was written by hand.

use std::collections::BTreeMap;

use rowtide_postgres::wire::sql_client;
use rowtide_sdk::{Batch, Cell, Entry, JsonWriter, Written};
use rowtide_testkit::{Postgres, postgres_versions};
use serde::Deserialize;
use serde_json::json;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::changes::database;
use crate::host::{Host, PATIENCE, Setup};

/// A row of `data/hazards.jsonl`: a value, the server's text of it, and its JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    hazard: u32,
    #[serde(rename = "type")]
    type_name: String,
    /// The SQL expression of the value.
    sql: String,
    /// The server's text under the settings that the connector pins; absent where versions differ.
    out: Option<String>,
    json: String,
    /// The first major version that has it.
    #[serde(default)]
    since: u32,
    /// Whether the column is listed in `raw_json`.
    #[serde(default)]
    raw_json: bool,
    #[serde(default)]
    note: String,
}

fn rows(hazard: u32, major: u32) -> Vec<Row> {
    let rows = include_str!("../data/hazards.jsonl").lines();
    rows.map(|line| serde_json::from_str::<Row>(line).unwrap_or_else(|e| panic!("{line}: {e}")))
        .filter(|row| row.hazard == hazard && row.since <= major)
        .collect()
}

/// The types that the rows use.
pub(crate) const TYPES: &str = r#"
    CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION citext;
    CREATE EXTENSION cube; CREATE EXTENSION isn; CREATE EXTENSION intarray;
    CREATE EXTENSION seg; CREATE EXTENSION lo; CREATE EXTENSION earthdistance;
    CREATE EXTENSION pg_trgm; CREATE EXTENSION "uuid-ossp";
    CREATE TYPE mood AS ENUM ('sad', 'so so', 'a,b', 'NULL', 'ha"ppy', E'back\\slash', '(x)', '');
    CREATE DOMAIN posint AS int CHECK (value > 0);
    CREATE DOMAIN posint_small AS posint CHECK (value < 100);
    CREATE DOMAIN ints AS int[];
    CREATE DOMAIN ints_again AS ints;
    CREATE TYPE addr AS (street text, n int);
    CREATE DOMAIN home AS addr;
    CREATE DOMAIN email AS citext;
    CREATE DOMAIN code AS varchar(3);
    CREATE DOMAIN mood_only AS mood;
    CREATE DOMAIN tags AS hstore;
    CREATE DOMAIN span AS int4range;
    CREATE DOMAIN prices AS numeric(6,2)[];
    CREATE TYPE person AS (name text, home addr, moods mood[], homes addr[], tags hstore, j jsonb,
        at timestamptz, "odd ""name" int);
    CREATE TYPE dropped AS (a int, b text, c int);
    ALTER TYPE dropped DROP ATTRIBUTE b;
    CREATE TYPE nothing AS ();
    CREATE TYPE single AS (a int);
    CREATE TABLE rowtype (a int, b text);
    ALTER TABLE rowtype DROP COLUMN a; ALTER TABLE rowtype ADD c int;
    CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
    CREATE TYPE frange AS RANGE (subtype = float8, multirange_type_name = frange_multi);
    CREATE TYPE moments AS RANGE (subtype = timestamptz);
    CREATE TYPE vec;
    CREATE FUNCTION vec_in(cstring) RETURNS vec AS 'textin' LANGUAGE internal IMMUTABLE STRICT;
    CREATE FUNCTION vec_out(vec) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT;
    CREATE TYPE vec (INPUT = vec_in, OUTPUT = vec_out, LIKE = text);
"#;

/// What a batch's rows hold: by `table.column`, the JSON and whether it stands for text.
fn decoded(batch: &Batch, into: &mut BTreeMap<String, (String, bool)>) {
    for entry in &batch.entries {
        let Entry::Change(change) = entry else { panic!("{entry:?}") };
        let table = &batch.tables[change.table as usize];
        let cells = batch.image(change.after.unwrap(), table.columns.len());
        for (column, cell) in table.columns.iter().zip(cells) {
            let value = match cell {
                Cell::Value(span) => {
                    let mut out = JsonWriter::default();
                    let raw = span.of(&batch.bytes);
                    let written = column.decode.write(raw, &mut out).unwrap_or_else(|error| {
                        panic!("{}.{} ({}): {error}", table.name, column.name, column.type_name)
                    });
                    let json = String::from_utf8(out.into_inner()).unwrap();
                    (json, written == Written::RawJson)
                }
                other => (format!("{other:?}"), false),
            };
            into.insert(format!("{}.{}", table.name, column.name), value);
        }
    }
}

/// Takes batches until so many columns have come.
async fn until(host: &mut Host, columns: usize) -> BTreeMap<String, (String, bool)> {
    let mut values = BTreeMap::new();
    while values.len() < columns {
        let batch = tokio::time::timeout(PATIENCE, host.received.recv()).await;
        let batch = batch.unwrap_or_else(|_| panic!("only {} columns came", values.len()));
        decoded(&batch.expect("the source ended"), &mut values);
    }
    values
}

/// The text of one value, in the connector's own session.
async fn text(client: &Client, table: usize) -> Option<String> {
    let sql = format!("SELECT v FROM public.t{table}");
    let messages = client.simple_query(&sql).await.unwrap();
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    })?
}

/// Every row of a hazard, through the source, on each version.
async fn arrive(hazard: u32) {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", TYPES).await;
        let has_xml = sql.batch_execute("SELECT '<a/>'::xml").await.is_ok();
        let mut rows = rows(hazard, version.parse().unwrap());
        rows.retain(|row| row.type_name != "xml" || has_xml);
        for (at, row) in rows.iter().enumerate() {
            let create = format!("CREATE TABLE t{at} (id int PRIMARY KEY, v {})", row.type_name);
            sql.batch_execute(&create).await.unwrap_or_else(|e| panic!("{row:?}: {e:?}"));
        }
        let setup = Setup::new(&server, "shop").set("tables", json!({ "include": ["public.t*"] }));
        let mut host = setup.run();
        host.ready().await;
        for (at, row) in rows.iter().enumerate() {
            let insert = format!("INSERT INTO t{at} VALUES (1, {})", row.sql);
            sql.batch_execute(&insert).await.unwrap_or_else(|e| panic!("{row:?}: {e:?}"));
        }
        let values = until(&mut host, rows.len() * 2).await;
        // What an ordinary query prints is what the log carries (H-56).
        let plain = sql_client(&setup.options()).await.unwrap();
        for (at, row) in rows.iter().enumerate() {
            let Row { type_name, sql, note, .. } = row;
            let (json, is_raw) = &values[&format!("t{at}.v")];
            assert_eq!(json, &row.json, "{version}: {type_name} {sql}: {note}");
            assert_eq!(*is_raw, row.raw_json, "{version}: {type_name} {sql}: {note}");
            if let Some(out) = &row.out {
                let printed = text(&plain, at).await;
                assert_eq!(printed.as_ref(), Some(out), "{version}: {type_name} {sql}: {note}");
            }
        }
        host.stop().await;
    }
}

#[tokio::test]
async fn h57_dates_and_times_beyond_any_calendar() {
    arrive(57).await;
}

#[tokio::test]
async fn h58_numbers_keep_every_digit_and_their_specials() {
    arrive(58).await;
}

#[tokio::test]
async fn h59_json_keeps_its_tokens() {
    arrive(59).await;
}

#[tokio::test]
async fn h60_arrays_with_nulls_bounds_and_quotes() {
    arrive(60).await;
}

#[tokio::test]
async fn h61_user_types_are_resolved_by_the_catalog() {
    arrive(61).await;
}

#[tokio::test]
async fn h62_every_other_type_has_one_form() {
    arrive(62).await;
}

/// The longest numeric of the server: 131,072 digits before the point and 16,383 after it.
#[tokio::test]
async fn h58_the_longest_numeric() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (v numeric, id int PRIMARY KEY)").await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute(
            "INSERT INTO t VALUES ((repeat('9', 131072) || '.' || repeat('1', 16383))::numeric, 1)",
        )
        .await
        .unwrap();
        let values = until(&mut host, 2).await;
        let expected = format!("\"{}.{}\"", "9".repeat(131_072), "1".repeat(16_383));
        assert!(values["t.v"].0 == expected, "{version}");
        host.stop().await;
    }
}

/// JSON nested deeper than a reader that calls itself would survive: its text.
#[tokio::test]
async fn h59_json_nested_without_end() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE t (j json, b jsonb, a jsonb[], id int PRIMARY KEY)";
        let sql = database(&server, "shop", schema).await;
        sql.batch_execute("SET max_stack_depth = '6MB'").await.unwrap();
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute(
            "INSERT INTO t SELECT d::json, d::jsonb, ARRAY[d::jsonb], 1
             FROM (SELECT repeat('[', 5000) || repeat(']', 5000) AS d) d",
        )
        .await
        .unwrap();
        let values = until(&mut host, 4).await;
        let text = format!("\"{}{}\"", "[".repeat(5000), "]".repeat(5000));
        for column in ["j", "b"] {
            assert_eq!(values[&format!("t.{column}")], (text.clone(), true), "{version}");
        }
        assert!(values["t.a"].0.contains(&"[".repeat(5000)), "{version}");
        host.stop().await;
    }
}

/// Settings of role and database that change how values print.
const SETTINGS: &[(&str, &str)] = &[
    ("datestyle", "'SQL, DMY'"),
    ("intervalstyle", "'sql_standard'"),
    ("timezone", "'America/New_York'"),
    ("bytea_output", "'escape'"),
    ("extra_float_digits", "-15"),
    ("search_path", "'public'"),
    ("xmloption", "'document'"),
    ("standard_conforming_strings", "off"),
    ("quote_all_identifiers", "on"),
    ("client_encoding", "'LATIN1'"),
];

const PRINTED: &str = "
    CREATE TABLE t (id int PRIMARY KEY, d date, ts timestamp, tz timestamptz, i interval, b bytea,
        f float8, r real, m money, c regclass, a timestamptz[], e text)";
const PRINTED_ROW: &str = "INSERT INTO t VALUES (1, '2024-02-03', '2024-02-03 04:05:06',
    '2024-02-03 04:05:06+00', '1 year -2 days 3.5 seconds', '\\x00ff41', 0.1::float8 + 0.2, 1.1,
    '1234.5'::numeric::money, 't'::regclass, ARRAY['2024-02-03 04:05:06+00'::timestamptz], chr(233))";

#[tokio::test]
async fn h55_settings_of_role_and_database_change_nothing() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", PRINTED).await;
        let setup = Setup::new(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute(PRINTED_ROW).await.unwrap();
        let before = until(&mut host, 12).await;
        host.stop().await;
        let expected = [
            ("d", "\"2024-02-03\""),
            ("ts", "\"2024-02-03T04:05:06.000000\""),
            ("tz", "\"2024-02-03T04:05:06.000000Z\""),
            ("i", "\"1 year -2 days +00:00:03.5\""),
            ("b", "\"AP9B\""),
            ("f", "0.30000000000000004"),
            ("r", "1.1"),
            ("m", "\"1234.50\""),
            ("c", "\"public.t\""),
            ("a", "[\"2024-02-03T04:05:06.000000Z\"]"),
            ("e", "\"é\""),
        ];
        for (column, json) in expected {
            assert_eq!(before[&format!("t.{column}")].0, json, "{version}: {column}");
        }

        for (name, value) in SETTINGS {
            let alter = format!(
                "ALTER DATABASE shop SET {name} = {value}; ALTER ROLE postgres SET {name} = {value}"
            );
            sql.batch_execute(&alter).await.unwrap();
        }
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        let insert = PRINTED_ROW.replace("VALUES (1,", "VALUES (2,");
        sql.batch_execute(&insert).await.unwrap();
        let mut after = until(&mut host, 12).await;
        after.insert("t.id".to_owned(), before["t.id"].clone());
        assert_eq!(after, before, "{version}");
        host.stop().await;
    }
}

/// `col::text` is another text than the log's for some types: the connector never uses it.
#[tokio::test]
async fn h56_a_plain_query_prints_what_the_log_carries() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE t (id int PRIMARY KEY, b boolean, c char(5), i inet, n name)";
        let sql = database(&server, "shop", schema).await;
        let setup = Setup::new(&server, "shop");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1, true, 'ab', '192.168.0.1', 'x')")
            .await
            .unwrap();
        let values = until(&mut host, 5).await;
        let plain = sql_client(&setup.options()).await.unwrap();
        let select = "SELECT b, c, i, n, b::text, c::text, i::text, n::text FROM public.t";
        let messages = plain.simple_query(select).await.unwrap();
        let printed: Vec<&str> = messages
            .iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..8).map(|at| row.get(at).unwrap()).collect())
                }
                _ => None,
            })
            .unwrap();
        assert_eq!(printed[..4], ["t", "ab   ", "192.168.0.1", "x"], "{version}");
        assert_eq!(printed[4..], ["true", "ab", "192.168.0.1/32", "x"], "{version}");
        let json = |column: &str| values[&format!("t.{column}")].0.as_str();
        let expected = ["true", "\"ab   \"", "\"192.168.0.1\"", "\"x\""];
        assert_eq!(["b", "c", "i", "n"].map(json), expected, "{version}");
        host.stop().await;
    }
}

/// A label that is added while the stream runs gives no new Relation, and is a label like others.
#[tokio::test]
async fn h54_labels_added_and_renamed_while_streaming() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN mood_only AS mood;
            CREATE TABLE t (id int PRIMARY KEY, m mood, o mood_only, a mood[])";
        let sql = database(&server, "shop", schema).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1, 'sad', 'sad', '{sad}')").await.unwrap();
        let first = until(&mut host, 4).await;
        assert_eq!(first["t.a"].0, "[\"sad\"]");
        sql.batch_execute("ALTER TYPE mood ADD VALUE 'glad'").await.unwrap();
        sql.batch_execute("INSERT INTO t VALUES (2, 'glad', 'glad', '{sad,glad}')").await.unwrap();
        let second = until(&mut host, 4).await;
        let json = |values: &BTreeMap<String, (String, bool)>| {
            ["m", "o", "a"].map(|column| values[&format!("t.{column}")].0.clone())
        };
        assert_eq!(json(&second), ["\"glad\"", "\"glad\"", "[\"sad\",\"glad\"]"], "{version}");
        // The label of the time of the change, whatever it is called now.
        sql.batch_execute(
            "INSERT INTO t VALUES (3, 'glad', 'sad', '{}');
             ALTER TYPE mood RENAME VALUE 'glad' TO 'happy'",
        )
        .await
        .unwrap();
        let third = until(&mut host, 4).await;
        assert_eq!(json(&third), ["\"glad\"", "\"sad\"", "[]"], "{version}");
        host.stop().await;
    }
}

/// Extension types have another number in each database, and a type may be gone when its values are
/// decoded: then they pass as text, and nothing is dropped.
#[tokio::test]
async fn h61_types_by_another_number_and_types_that_are_gone() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let numbers = "SELECT 'hstore'::regtype::oid, 'addr'::regtype::oid";
        let mut seen = Vec::new();
        for (name, before) in [("one", ""), ("two", "CREATE EXTENSION cube; CREATE TYPE x AS ();")]
        {
            let schema = format!(
                "{before} CREATE EXTENSION hstore; CREATE TYPE addr AS (street text, n int);
                 CREATE TABLE t (id int PRIMARY KEY, h hstore, a addr)"
            );
            let sql = database(&server, name, &schema).await;
            let row = sql.query_one(numbers, &[]).await.unwrap();
            seen.push((row.get::<_, u32>(0), row.get::<_, u32>(1)));
            let mut host = Setup::new(&server, name).run();
            host.ready().await;
            sql.batch_execute("INSERT INTO t VALUES (1, 'a=>1', ROW('x', 1))").await.unwrap();
            let values = until(&mut host, 3).await;
            assert_eq!(values["t.h"].0, "{\"a\":\"1\"}", "{version}");
            assert_eq!(values["t.a"].0, "{\"street\":\"x\",\"n\":1}", "{version}");
            // What happens while nobody streams: the type is gone before its values are decoded.
            host.stop().await;
            sql.batch_execute("DROP TABLE t; DROP TYPE addr; DROP EXTENSION hstore").await.unwrap();
        }
        assert_ne!(seen[0].0, seen[1].0);
        assert_ne!(seen[0].1, seen[1].1);

        let schema = "CREATE EXTENSION hstore; CREATE TYPE addr AS (street text, n int);
            CREATE TYPE mood AS ENUM ('so so');
            CREATE TABLE t (id int PRIMARY KEY, h hstore, a addr, m mood[], n int)";
        let sql = database(&server, "gone", schema).await;
        let mut host = Setup::new(&server, "gone").run();
        host.ready().await;
        let position = host.stop().await;
        sql.batch_execute(
            "INSERT INTO t VALUES (1, 'a=>1', ROW('x', 1), '{\"so so\"}', 7);
             DROP TABLE t; DROP TYPE addr, mood; DROP EXTENSION hstore",
        )
        .await
        .unwrap();
        let mut host = Setup::new(&server, "gone").from(position).run();
        let values = until(&mut host, 5).await;
        assert_eq!(values["t.h"].0, r#""\"a\"=>\"1\"""#, "{version}");
        assert_eq!(values["t.a"].0, r#""(x,1)""#, "{version}");
        assert_eq!(values["t.m"].0, r#""{\"so so\"}""#, "{version}");
        assert_eq!(values["t.n"].0, "7", "{version}");
        host.stop().await;
    }
}

async fn encoded(server: &Postgres, name: &str, encoding: &str) -> Client {
    let admin = server.client("postgres").await;
    let create =
        format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
    admin.batch_execute(&create).await.unwrap();
    let sql = server.client(name).await;
    sql.batch_execute("CREATE TABLE t (id int PRIMARY KEY, v text)").await.unwrap();
    sql
}

/// A database without an encoding takes any bytes for text: one that is not UTF-8 is one event's
/// trouble, and the stream goes on.
#[tokio::test]
async fn h63_text_that_is_not_utf8_is_one_events_trouble() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = encoded(&server, "ascii", "SQL_ASCII").await;
        let setup = Setup::new(&server, "ascii");
        let findings = setup.check().await;
        let told = findings.iter().find(|found| found.code.0 == "RT2376").unwrap();
        assert!(told.message.contains("SQL_ASCII"), "{version}: {told:?}");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute(
            r"INSERT INTO t VALUES (1, 'é'); INSERT INTO t VALUES (2, E'caf\xe9');
              INSERT INTO t VALUES (3, 'after')",
        )
        .await
        .unwrap();
        let mut decoded = Vec::new();
        while decoded.len() < 3 {
            let batch = tokio::time::timeout(PATIENCE, host.received.recv()).await;
            let batch = batch.expect("no batch came").expect("the source ended");
            for entry in &batch.entries {
                let Entry::Change(change) = entry else { panic!("{entry:?}") };
                let table = &batch.tables[change.table as usize];
                let cells = batch.image(change.after.unwrap(), table.columns.len());
                let Cell::Value(span) = cells[1] else { panic!("{cells:?}") };
                let mut out = JsonWriter::default();
                let written = table.columns[1].decode.write(span.of(&batch.bytes), &mut out);
                let json = String::from_utf8_lossy(out.as_bytes()).into_owned();
                decoded.push(written.map(|_| json));
            }
        }
        assert_eq!(decoded[0].as_deref(), Ok("\"é\""), "{version}");
        assert_eq!(decoded[1], Err(rowtide_sdk::ValueError::Utf8), "{version}");
        assert_eq!(decoded[2].as_deref(), Ok("\"after\""), "{version}");
        host.stop().await;
    }
}

/// Other encodings are converted by the server, which stops at a text that has no form in UTF-8.
#[tokio::test]
async fn h63_other_encodings_are_converted_or_refused() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = encoded(&server, "latin", "LATIN1").await;
        let mut host = Setup::new(&server, "latin").run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1, 'é')").await.unwrap();
        assert_eq!(until(&mut host, 2).await["t.v"].0, "\"é\"", "{version}");
        host.stop().await;

        let sql = encoded(&server, "japan", "EUC_JP").await;
        let setup = Setup::new(&server, "japan");
        assert!(setup.check().await.iter().any(|found| found.code.0 == "RT2376"));
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("SET client_encoding = 'EUC_JP'").await.unwrap();
        sql.batch_execute(r"INSERT INTO t VALUES (1, E'\xa2\xaf')").await.unwrap();
        let error = host.error().await;
        assert_eq!(error.code().0, "RT2123", "{version}: {error}");
        assert_eq!(error.class(), rowtide_sdk::Class::Fatal, "{version}: {error}");
    }
}

/// A row above `max_event` is poison, which the table's policy decides about; the next ones come.
#[tokio::test]
async fn h64_a_row_above_the_limit_is_one_events_trouble() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE t (id int PRIMARY KEY, v bytea)";
        let sql = database(&server, "shop", schema).await;
        let mut setup = Setup::new(&server, "shop");
        setup.limits.max_event = 4 << 20;
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute(
            "INSERT INTO t VALUES (1, repeat('x', 10000000)::bytea);
             INSERT INTO t VALUES (2, repeat('x', 1000000)::bytea); DELETE FROM t WHERE id = 1",
        )
        .await
        .unwrap();
        host.until(3).await;
        let poison: Vec<_> = host.events.iter().map(|event| event.poison).collect();
        assert_eq!(poison, [Some("RT2210"), None, None], "{version}");
        assert_eq!(host.events[2].text(), "d public.t id=1 > none", "{version}");
        host.stop().await;
    }
}

/// Text of more than a gigabyte cannot be made by the server: said with what to do, and nothing is
/// skipped. In binary the server can send the value, and it is one event's trouble.
#[tokio::test]
async fn h64_a_value_that_the_server_cannot_print_stops_the_stream() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE t (id int PRIMARY KEY, v bytea)";
        let sql = database(&server, "shop", schema).await;
        let mut binary = Setup::new(&server, "shop").run();
        binary.ready().await;
        let in_text = Setup::new(&server, "shop").set("slot", json!("in_text"));
        let mut host = in_text.set("binary", json!("off")).run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1, repeat('x', 540000000)::bytea)").await.unwrap();
        let error = host.error().await;
        assert_eq!(error.code().0, "RT2122", "{version}: {error}");
        assert!(error.remedy().unwrap().contains("column list"), "{version}: {error}");
        assert!(host.events.is_empty(), "{version}");
        binary.until(1).await;
        assert_eq!(binary.events[0].poison, Some("RT2210"), "{version}");
        binary.stop().await;
    }
}

/// A composite that is altered while its values stream: its text, never another attribute's value,
/// until the log describes the table anew.
#[tokio::test]
async fn h61_a_composite_that_is_altered_is_its_text_until_described() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TYPE addr AS (street text, n int);
            CREATE TABLE t (id int PRIMARY KEY, a addr, l addr[])";
        let sql = database(&server, "shop", schema).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        let steps = [
            ("", "ROW('x', 1)", r#"{"street":"x","n":1}"#),
            ("ALTER TYPE addr ADD ATTRIBUTE zip text", "ROW('x', 1, 'z')", r#""(x,1,z)""#),
            ("ALTER TYPE addr DROP ATTRIBUTE street", "ROW(1, 'z')", r#""(1,z)""#),
            ("ALTER TABLE t ALTER a SET STATISTICS 10", "ROW(1, 'z')", r#"{"n":1,"zip":"z"}"#),
        ];
        for (at, (alter, value, json)) in steps.into_iter().enumerate() {
            sql.batch_execute(alter).await.unwrap();
            let insert = format!("INSERT INTO t VALUES ({at}, {value}, ARRAY[{value}::addr])");
            sql.batch_execute(&insert).await.unwrap();
            let values = until(&mut host, 3).await;
            assert_eq!(values["t.a"].0, json, "{version}: {alter}");
            assert_eq!(values["t.l"].0, format!("[{json}]"), "{version}: {alter}");
        }
        host.stop().await;
    }
}
