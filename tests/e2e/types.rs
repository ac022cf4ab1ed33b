//! Every row of the type table through the whole path: insert, log, envelope, file.

use std::path::Path;

use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::Value;

use crate::host::{Setup, sql};

const SET_UP: &str = "
CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION citext; CREATE EXTENSION cube;
CREATE EXTENSION isn;
CREATE TYPE cdc_mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN cdc_posint AS int CHECK (value > 0);
CREATE DOMAIN cdc_posint2 AS cdc_posint CHECK (value < 100);
CREATE TYPE cdc_addr AS (street text, city text, n int);
CREATE TYPE cdc_frange AS RANGE (subtype = float8);
CREATE DOMAIN cdc_email AS citext;
CREATE DOMAIN cdc_intarr AS int[];
-- What the database prints must not depend on its settings.
ALTER DATABASE postgres SET datestyle = 'SQL, DMY';
ALTER DATABASE postgres SET intervalstyle = 'sql_standard';
ALTER DATABASE postgres SET timezone = 'America/New_York';
ALTER DATABASE postgres SET bytea_output = 'escape';
ALTER DATABASE postgres SET extra_float_digits = -15;
";

/// One row of the type table and the JSON it must arrive as.
struct Case {
    number: usize,
    type_name: String,
    literal: String,
    expected: String,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/postgres/tests/data");
    let rows = std::fs::read_to_string(folder.join("pg_types.jsonl")).unwrap();
    let expected = std::fs::read_to_string(folder.join("pg_types.expected")).unwrap();
    assert_eq!(rows.lines().count(), expected.lines().count());
    rows.lines()
        .zip(expected.lines())
        .enumerate()
        .map(|(number, (row, expected))| {
            let row: Value = serde_json::from_str(row).unwrap();
            let text = |field: &str| row[field].as_str().unwrap().to_owned();
            let expected = match expected {
                "@smallest numeric" => serde_json::to_string(&row["out"]).unwrap(),
                "@five hundred levels as text" => serde_json::to_string(&row["out"]).unwrap(),
                plain => plain.to_owned(),
            };
            Case { number, type_name: text("type"), literal: text("literal"), expected }
        })
        .collect()
}

/// Whether this server has the type and takes the literal.
fn is_possible(case: &Case, version: u32) -> bool {
    let extension = ["vector", "halfvec", "geometry", "geography"];
    let is_extension = extension.iter().any(|name| case.type_name.starts_with(name));
    let scaled = || {
        let inside = case.type_name.strip_prefix("numeric(")?.strip_suffix(')')?;
        let (precision, scale) = inside.split_once(',')?;
        Some((precision.parse::<i32>().unwrap(), scale.parse::<i32>().unwrap()))
    };
    // PostgreSQL 15 brought scales below 0 and above the precision, and escapes of "char"; 17 the infinite
    // interval.
    let since = match case.type_name.as_str() {
        _ if scaled().is_some_and(|(precision, scale)| !(0..=precision).contains(&scale)) => 15,
        "\"char\"" if case.literal.contains('\\') => 15,
        "interval" if case.literal.contains("infinity") => 17,
        _ => 0,
    };
    !is_extension && version >= since
}

#[test]
fn every_row_of_the_type_table_arrives_with_its_true_value() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { continue };
        let number: u32 = version.parse().unwrap();
        sql(&server, SET_UP);
        let cases: Vec<Case> =
            cases().into_iter().filter(|case| is_possible(case, number)).collect();
        for case in &cases {
            let (n, type_name) = (case.number, &case.type_name);
            sql(&server, &format!("CREATE TABLE t{n} (id int PRIMARY KEY, v {type_name})"));
        }
        let setup = Setup::to_files(&server);
        let mut host = setup.first_start();
        let inserts: String = cases
            .iter()
            .map(|case| {
                let literal = if case.literal.contains(['\'', '(', '[']) || is_number(&case.literal)
                {
                    case.literal.clone()
                } else {
                    format!("'{}'", case.literal)
                };
                format!("INSERT INTO t{} VALUES (1, {literal});\n", case.number)
            })
            .collect();
        sql(&server, &format!("SET timezone = 'UTC';\n{inserts}"));
        host.until("every row is there", || setup.count() >= cases.len());
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        check(&setup, &cases);
    }
}

fn is_number(literal: &str) -> bool {
    literal.parse::<f64>().is_ok_and(f64::is_finite)
        || matches!(literal, "true" | "false")
        || literal.contains("::")
}

fn check(setup: &Setup, cases: &[Case]) {
    let envelope: Value = serde_json::from_str(rowtide::envelope::ENVELOPE_SCHEMA_JSON).unwrap();
    let validator = jsonschema::options().build(&envelope).unwrap();
    for case in cases {
        let topic = format!("shop.public.t{}", case.number);
        // Compared as text: a tree would round numbers.
        let folder = setup.path("out").join(&topic);
        let segment = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let line = std::fs::read_to_string(segment).unwrap();
        let wanted = format!("\"after\":{{\"id\":1,\"v\":{}}}", case.expected);
        assert!(line.contains(&wanted), "{} {}: {line}", case.number, case.type_name);
        let event: Value = serde_json::from_str(&line).unwrap();
        assert!(validator.is_valid(&event), "{line}");
    }
}
