//! The committed table of forms, `TYPES.md`, written from what comes through the stream.

use std::fmt::Write as _;

use rowtide_testkit::Flavor;
use rowtide_testkit::forms::{json_form, schema};

use crate::host::{Setup, server};

const BOTH: &[Flavor] = &Flavor::ALL;
const MYSQL: &[Flavor] = &[Flavor::Mysql];
const MARIADB: &[Flavor] = &[Flavor::Mariadb];

/// Types with a value of each, as statements write it.
const EXAMPLES: &[(&[Flavor], &str, &str)] = &[
    (BOTH, "tinyint", "-128"),
    (BOTH, "tinyint unsigned", "255"),
    (BOTH, "boolean", "true"),
    (BOTH, "smallint", "-32768"),
    (BOTH, "mediumint", "8388607"),
    (BOTH, "int", "42"),
    (BOTH, "int unsigned", "4294967295"),
    (BOTH, "int zerofill", "7"),
    (BOTH, "bigint", "9007199254740993"),
    (BOTH, "bigint unsigned", "18446744073709551615"),
    (BOTH, "decimal(10,3)", "1.5"),
    (BOTH, "decimal(65,30)", "-0.000000000000000000000000000001"),
    (BOTH, "float", "0.1"),
    (BOTH, "double", "0.1"),
    (BOTH, "bit(1)", "b'1'"),
    (BOTH, "bit(10)", "b'1010'"),
    (BOTH, "char(5)", "'ab  '"),
    (BOTH, "varchar(20)", "'a \"b\"'"),
    (BOTH, "varchar(20) CHARACTER SET latin1", "'é'"),
    (BOTH, "text", "'ü'"),
    (BOTH, "binary(6)", "'ab'"),
    (BOTH, "varbinary(8)", "x'deadbeef'"),
    (BOTH, "blob", "x'deadbeef'"),
    (BOTH, "enum('small','it''s large')", "'it''s large'"),
    (BOTH, "enum('x','y') CHARACTER SET binary", "'y'"),
    (BOTH, "set('a','b','c')", "'a,c'"),
    (BOTH, "date", "'2024-02-29'"),
    (BOTH, "date", "'2024-02-00'"),
    (BOTH, "date", "'0000-00-00'"),
    (BOTH, "time", "'-838:59:59'"),
    (BOTH, "time(3)", "'01:02:03.5'"),
    (BOTH, "datetime", "'2026-11-20 16:57:13'"),
    (BOTH, "datetime(6)", "'2026-11-20 16:57:13.123'"),
    (BOTH, "timestamp", "'2026-11-20 16:57:13'"),
    (BOTH, "timestamp(3)", "'2026-11-20 16:57:13.123'"),
    (BOTH, "year", "2024"),
    (BOTH, "year", "0000"),
    (BOTH, "json", r#"'{"b": 1, "a": [1.50, "x"]}'"#),
    (BOTH, "point", "ST_GeomFromText('POINT(1 2)', 3857)"),
    (BOTH, "geometry", "ST_GeomFromText('LINESTRING(0 0, 1 1)')"),
    (MYSQL, "vector(2)", "STRING_TO_VECTOR('[1.5, -2]')"),
    (MARIADB, "uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    (MARIADB, "inet6", "'2001:db8::1'"),
    (MARIADB, "inet4", "'192.168.0.1'"),
];

const HEAD: &str = "\
# MySQL and MariaDB types in JSON

How the value of each type looks in an event: its form in JSON, what the row schema says of it, and one
example. SQL NULL is `null` everywhere. Written from what real servers log by `tests/stream.rs`, which
fails when the two disagree (`BLESS=1` rewrites this file).

Values come from the bytes of the binlog, whatever a session's character set, time zone or `sql_mode`:
`timestamp` is in UTC, `datetime` as it was written. Text is UTF-8, from the column's own character set.
A value that is not of its column's type stops the event; nothing is ever guessed.

| Type | Servers | JSON form | Schema | Written | JSON |
|---|---|---|---|---|---|
";

const TAIL: &str = "
`enum` is its label and `set` its labels with commas between, as the server prints them; the empty label of
a value that was refused in a lax `sql_mode` is `\"\"`. Zero and partial dates are kept as they are.
Geometries are their SRID and their WKB in base64. MariaDB has no `json` of its own: it is text that is
checked, and its form is that of the text. MariaDB logs `uuid`, `inet6` and `inet4` as BINARY, and the
catalog tells them apart (RT2801). MariaDB's COMPRESSED columns cannot be read (RT2801), nor can `time`,
`datetime` and `timestamp` with fractions of a second in the form that it had before 10.1 (RT2801). Bytes that
the server keeps in a column whose character set has no character for them (0x98 in `cp1251`) stop the event
(RT5001).
";

/// What a server makes of the examples: JSON form, schema and JSON of each that it has.
async fn lines(flavor: Flavor) -> Option<Vec<String>> {
    let server = server(flavor, &["default_time_zone=+00:00"])?;
    let mut host = Setup::new(&server).ready().await;
    let own: Vec<_> = EXAMPLES.iter().filter(|(of, ..)| of.contains(&flavor)).collect();
    let mut statements =
        "SET NAMES utf8mb4, sql_mode='NO_ENGINE_SUBSTITUTION'; CREATE DATABASE t CHARACTER SET utf8mb4; USE t;"
            .to_owned();
    for (at, (_, type_name, literal)) in own.iter().enumerate() {
        let _ = write!(
            statements,
            "CREATE TABLE t{at} (v {type_name} NOT NULL); INSERT INTO t{at} VALUES ({literal});"
        );
    }
    server.sql(&statements);
    host.until(own.len()).await;
    let tables = rowtide_mysql::tables(&Setup::new(&server).source()).await.unwrap();
    let mut lines = Vec::new();
    for (at, event) in host.events.iter().enumerate() {
        let name = format!("t{at}");
        let form = &tables.iter().find(|table| table.name == name).unwrap().columns[0].form;
        let json = event.json[1].as_deref().unwrap();
        let json = json.strip_prefix("{\"v\":").unwrap().strip_suffix('}').unwrap();
        assert_eq!(event.table, format!("t.{name}"));
        lines.push(format!("{} | {} ## `{json}`", json_form(form), schema(form)));
    }
    host.stop().await;
    Some(lines)
}

#[tokio::test]
async fn the_committed_table_of_forms_is_what_comes_through_the_stream() {
    let mut seen = Vec::new();
    for flavor in Flavor::ALL {
        let Some(lines) = lines(flavor).await else { return };
        seen.push((flavor, lines.into_iter()));
    }
    let mut text = HEAD.to_owned();
    for (of, type_name, literal) in EXAMPLES {
        let mut told: Vec<(&str, String)> = Vec::new();
        for (flavor, lines) in seen.iter_mut().filter(|(flavor, _)| of.contains(flavor)) {
            let name = if *flavor == Flavor::Mysql { "MySQL" } else { "MariaDB" };
            told.push((name, lines.next().unwrap()));
        }
        if told.len() == 2 && told[0].1 == told[1].1 {
            told.truncate(1);
            told[0].0 = "both";
        }
        for (name, line) in told {
            let (form, json) = line.split_once(" ## ").unwrap();
            // A bar would end the table's cell.
            let (literal, json) = (literal.replace('|', "\\|"), json.replace('|', "\\|"));
            let _ = writeln!(text, "| `{type_name}` | {name} | {form} | `{literal}` | {json} |");
        }
    }
    text.push_str(TAIL);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/TYPES.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "BLESS=1 rewrites TYPES.md");
}
