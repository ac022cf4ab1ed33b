//! Every row of `data/pg_types.jsonl`, what pgoutput sent for it, and its JSON, written by hand.

use rowtide_postgres::catalog::TypeCatalog;
use rowtide_sdk::Written;
use serde::Deserialize;

use crate::checker::is_of_form;
use crate::{decode, user_types};

/// A row of `data/pg_types.jsonl`.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    /// The SQL expression of the value.
    pub(crate) literal: String,
    /// The bytes that pgoutput sent.
    pub(crate) out: String,
    pub(crate) note: String,
    pub(crate) type_oid: Option<u32>,
    pub(crate) typmod: Option<i32>,
}

/// The rows, each with its JSON.
pub(crate) fn rows() -> Vec<(Row, String)> {
    let rows = include_str!("../data/pg_types.jsonl").lines();
    let expected = include_str!("../data/pg_types.expected").lines();
    assert_eq!(rows.clone().count(), expected.clone().count());
    rows.zip(expected)
        .map(|(row, expected)| {
            let expected = match expected {
                "@smallest numeric" => format!("\"0.{}1\"", "0".repeat(16382)),
                "@five hundred levels as text" => {
                    format!("\"{}{}\"", "[".repeat(500), "]".repeat(500))
                }
                text => text.to_owned(),
            };
            (serde_json::from_str(row).unwrap(), expected)
        })
        .collect()
}

/// The oid and modifier of a row's type, also of those that the data's server did not have.
fn type_of(row: &Row) -> (u32, i32) {
    match (row.type_oid, row.type_name.as_str()) {
        (Some(oid), _) => (oid, row.typmod.unwrap_or(-1)),
        (None, "interval") => (1186, -1),
        (None, "vector(3)") => (user_types::VECTOR, 3),
        (None, "halfvec(2)") => (user_types::HALFVEC, 2),
        (None, "geometry(Point,4326)") => (user_types::GEOMETRY, 1),
        (None, "geography") => (user_types::GEOGRAPHY, -1),
        (None, other) => panic!("no oid for {other}"),
    }
}

#[test]
fn every_row_of_the_type_data_has_its_true_value() {
    let catalog: TypeCatalog = user_types::catalog();
    for (row, expected) in rows() {
        let (oid, typmod) = type_of(&row);
        let decoding = catalog.resolve(oid, typmod);
        let (json, written) = decode(&decoding, row.out.as_bytes()).unwrap();
        assert_eq!(json, expected, "{} {}: {}", row.type_name, row.literal, row.note);
        let raw = row.note.contains("duplicate keys") || row.note.contains("500 levels");
        assert_eq!(written == Written::RawJson, raw, "{} {}", row.type_name, row.literal);
        assert!(is_of_form(&decoding.form, &json), "{} {}", row.type_name, row.literal);
    }
}

#[test]
fn facts_do_not_change_what_has_a_fixed_oid() {
    let catalog = user_types::catalog();
    assert_eq!(catalog.type_name(1700, 655_366), "numeric(10,2)");
    assert_eq!(catalog.type_name(user_types::VECTOR, 3), "public.vector(3)");
    assert_eq!(catalog.type_name(user_types::ADDR_ARRAY, -1), "public.cdc_addr[]");
    assert_eq!(catalog.type_name(77_777, -1), "unknown (oid 77777)");
    assert_eq!(crate::json(&catalog.resolve(77_777, -1), "any \"text\""), "\"any \\\"text\\\"\"");
}
