//! Every row of the type table, written to a real server and read from its binlog.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test code: a broken assumption must fail the test"
)]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Owned, written};
use rowtide_mysql::binlog::rows::RowsKind;
use rowtide_mysql::binlog::table_map::{MappedColumn, Stored};
use rowtide_mysql::decode::decoding;
use rowtide_sdk::JsonWriter;
use rowtide_testkit::{Flavor, Mysql};
use serde::Deserialize;

/// A row of the type table; what is not there was not said.
#[derive(Debug, Deserialize)]
struct Row {
    #[serde(rename = "type")]
    type_name: String,
    literal: String,
    /// What the server prints, in MariaDB and MySQL where nothing else is said.
    text: Option<String>,
    /// What MySQL prints, where it is something else.
    mysql_text: Option<String>,
    /// The value's bytes, where it is binary.
    hex: Option<String>,
    /// The one server that has it.
    only: Option<String>,
    /// How MySQL refuses it.
    mysql_error: Option<String>,
}

fn rows() -> Vec<Row> {
    let lines = include_str!("data/types.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_known(row: &Row, flavor: Flavor) -> bool {
    // The log has these as BINARY; only the catalog tells what they are.
    let is_told = !matches!(row.type_name.as_str(), "inet4" | "inet6" | "uuid");
    is_told
        && row.only.as_ref().is_none_or(|only| only == flavor.name())
        && !(flavor == Flavor::Mysql && row.mysql_error.is_some())
}

fn unhex(hex: &str) -> Vec<u8> {
    let hex = if hex.len() % 2 == 1 { format!("0{hex}") } else { hex.to_owned() };
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// The collation of bytes that are no text.
const BINARY: u32 = 63;

/// The JSON that a value must have, from what the server prints of it.
fn expected(row: &Row, column: &MappedColumn, flavor: Flavor) -> String {
    let bits = |count: u16| {
        let number = u64::from_str_radix(row.hex.as_ref().unwrap(), 16).unwrap();
        format!("\"{number:0width$b}\"", width = usize::from(count))
    };
    let text = row.mysql_text.as_ref().filter(|_| flavor == Flavor::Mysql).or(row.text.as_ref());
    let with_micros = |text: &str| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        format!("{whole}.{fraction:0<6}")
    };
    match (column.stored, text) {
        (Stored::Bit(count), _) => bits(count),
        (Stored::Geometry(_), _) => {
            let bytes = unhex(row.hex.as_ref().unwrap());
            let srid = u32::from_le_bytes(*bytes.first_chunk().unwrap());
            format!("{{\"srid\":{srid},\"wkb\":\"{}\"}}", STANDARD.encode(&bytes[4..]))
        }
        (Stored::Vector(_), None) => {
            let bytes = unhex(row.hex.as_ref().unwrap());
            let number = |four: &[u8]| f32::from_le_bytes(*four.first_chunk().unwrap()).to_string();
            format!("[{}]", bytes.chunks(4).map(number).collect::<Vec<_>>().join(","))
        }
        (_, None) => {
            let bytes = unhex(row.hex.as_ref().unwrap());
            match column.collation {
                Some(BINARY) => format!("\"{}\"", STANDARD.encode(bytes)),
                _ => serde_json::to_string(&String::from_utf8(bytes).unwrap()).unwrap(),
            }
        }
        (Stored::Year, Some(text)) => text.parse::<u16>().unwrap().to_string(),
        (Stored::Integer(_), Some(text)) => text.to_owned(),
        (Stored::Time(_), Some(text)) => format!("\"{}\"", with_micros(text)),
        (Stored::DateTime(_), Some(text)) => format!("\"{}\"", with_micros(text).replace(' ', "T")),
        (Stored::Timestamp(_), Some(text)) => {
            format!("\"{}Z\"", with_micros(text).replace(' ', "T"))
        }
        (Stored::Json(_), Some(text)) => without_space(text),
        (_, Some(text)) => serde_json::to_string(text).unwrap(),
    }
}

/// JSON without white space between its tokens.
fn without_space(json: &str) -> String {
    let (mut out, mut in_string, mut is_escaped) = (String::new(), false, false);
    for char in json.chars() {
        if in_string {
            in_string = is_escaped || char != '"';
            is_escaped = !is_escaped && char == '\\';
        } else if char == ' ' {
            continue;
        } else {
            in_string = char == '"';
        }
        out.push(char);
    }
    out
}

#[test]
fn m52_every_row_of_the_type_table_is_read_from_the_binlog() {
    for flavor in Flavor::ALL {
        let settings = ["binlog_row_metadata=FULL", "default_time_zone=+00:00"];
        let Some(server) = Mysql::start(flavor, &settings) else { return };
        let rows: Vec<Row> = rows().into_iter().filter(|row| is_known(row, flavor)).collect();
        let mut statements =
            "SET sql_mode='NO_ENGINE_SUBSTITUTION'; CREATE DATABASE t CHARACTER SET utf8mb4; USE t;"
                .to_owned();
        for (at, row) in rows.iter().enumerate() {
            let (type_name, literal) = (&row.type_name, &row.literal);
            statements.push_str(&format!(
                "CREATE TABLE t{at} (id int PRIMARY KEY, v {type_name});
                 INSERT INTO t{at} (id, v) VALUES (1, {literal});"
            ));
        }
        server.sql(&statements);
        let mut seen = 0;
        for (event, table, values) in written(&server) {
            assert_eq!(event, RowsKind::Write);
            let row = &rows[table.name[1..].parse::<usize>().unwrap()];
            let column = &table.columns[1];
            assert_eq!(table.primary_key.as_deref(), Some(&[0][..]), "{row:?}");
            assert_eq!(column.name.as_deref(), Some("v"));
            let decoding = decoding(column).unwrap_or_else(|why| panic!("{why}: {row:?}"));
            seen += 1;
            let Owned::Bytes(raw) = &values[1] else {
                assert_eq!((&values[1], row.literal.as_str()), (&Owned::Null, "NULL"), "{row:?}");
                continue;
            };
            let mut out = JsonWriter::default();
            decoding.decode.write(raw, &mut out).unwrap_or_else(|why| panic!("{why}: {row:?}"));
            let json = String::from_utf8(out.into_inner()).unwrap();
            let expected = expected(row, column, flavor);
            match column.stored {
                Stored::Float | Stored::Double => {
                    let number = |text: &str| text.trim_matches('"').parse::<f64>().unwrap();
                    assert_eq!(number(&json), number(&expected), "{row:?}");
                }
                _ => assert_eq!(json, expected, "{} {row:?}", flavor.name()),
            }
        }
        assert_eq!(seen, rows.len());
    }
}
