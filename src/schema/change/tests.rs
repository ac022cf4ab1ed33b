//! Every kind of change, by the words that tell it.

use rowtide_sdk::{Column, Form, Identity, StringKind, Table};
use serde_json::{Value, json};

use super::*;
use crate::config::{Mask, TableConfig, Unchanged};
use crate::envelope::testing::{integer_column, table, text_column};
use crate::schema::{Projection, RowSchema};

fn record(table: &Table, config: &TableConfig) -> VersionRecord {
    let key = match table.identity {
        Identity::Index => {
            (0..table.columns.len()).filter(|&index| table.columns[index].is_identity).collect()
        }
        _ => table.primary_key.clone(),
    };
    let projection = Projection::new(table, config, key);
    VersionRecord::of(table, &projection, &RowSchema::derive("s", table, &projection))
}

/// The compatibility and the reasons, without `breaking` where it is false.
fn between(old: &Table, new: &Table) -> (Compatibility, Value) {
    configured(old, new, &TableConfig::default(), &TableConfig::default())
}

fn configured(
    old: &Table,
    new: &Table,
    was: &TableConfig,
    is: &TableConfig,
) -> (Compatibility, Value) {
    let change = VersionChange::between(&record(old, was), &record(new, is));
    for reason in &change.reasons {
        let value = serde_json::to_value(reason).unwrap();
        assert_eq!(value["kind"], reason.what.kind());
    }
    let mut reasons = serde_json::to_value(&change.reasons).unwrap();
    for reason in reasons.as_array_mut().unwrap() {
        if reason["breaking"] == false {
            reason.as_object_mut().unwrap().shift_remove("breaking");
        }
    }
    (change.compatibility, reasons)
}

fn columns(names: &[&str]) -> Table {
    let column = |name: &&str| match *name {
        "id" => integer_column("id"),
        name => text_column(name),
    };
    table("t", names.iter().map(column).collect())
}

fn typed(type_name: &str, form: Form) -> Table {
    let mut table = columns(&["id", "a"]);
    table.columns[1] = Column { type_name: type_name.to_owned(), form, ..table.columns[1].clone() };
    table
}

const TEXT: Form = Form::String(StringKind::Text { max_chars: None });

#[test]
fn added_dropped_and_renamed_columns() {
    let old = columns(&["id", "a", "b"]);
    assert_eq!(
        between(&old, &columns(&["id", "a", "b", "c"])),
        (
            Compatibility::Compatible,
            json!([{ "kind": "column_added", "column": "c", "type": "text" }])
        )
    );
    assert_eq!(
        between(&old, &columns(&["id", "b"])),
        (
            Compatibility::Breaking,
            json!([{ "kind": "column_dropped", "column": "a", "type": "text", "breaking": true }])
        )
    );
    let renamed = |from: &str, to: &str, certain: bool| {
        json!({ "kind": "column_renamed", "from": from, "to": to, "type": "text",
                "certain": certain, "breaking": true })
    };
    let (compatibility, reasons) = between(&old, &columns(&["id", "x", "b"]));
    assert_eq!(compatibility, Compatibility::Breaking);
    assert_eq!(reasons, json!([renamed("a", "x", true)]));
    // A new column could stand there as well.
    let (_, reasons) = between(&old, &columns(&["id", "a", "x"]));
    assert_eq!(reasons, json!([renamed("b", "x", false)]));
    // One that was renamed, before another was added behind it.
    let (_, reasons) = between(&old, &columns(&["id", "a", "x", "c"]));
    let added = json!({ "kind": "column_added", "column": "c", "type": "text" });
    assert_eq!(reasons, json!([renamed("b", "x", false), added]));
    // Of another type, or in another table, it is not the same column.
    let mut other = columns(&["id", "x", "b"]);
    other.columns[1].type_name = "citext".to_owned();
    let (_, reasons) = between(&old, &other);
    let kinds: Vec<&Value> =
        reasons.as_array().unwrap().iter().map(|reason| &reason["kind"]).collect();
    assert_eq!(kinds, ["column_dropped", "column_added"]);
    let other = Table { incarnation: 1, ..columns(&["id", "x", "b"]) };
    let (_, reasons) = between(&old, &other);
    let kinds: Vec<&Value> =
        reasons.as_array().unwrap().iter().map(|reason| &reason["kind"]).collect();
    assert_eq!(kinds, ["table_recreated", "column_dropped", "column_added"]);
    // Dropped and added again, the column stands at the end.
    let (compatibility, reasons) = between(&old, &columns(&["id", "b", "a"]));
    assert_eq!(compatibility, Compatibility::Compatible);
    assert_eq!(
        reasons,
        json!([{ "kind": "columns_reordered", "from": ["id", "a", "b"], "to": ["id", "b", "a"] }])
    );
}

#[test]
fn types_modifiers_and_lengths() {
    let integer = |bits: u32| Form::Integer { min: -(1 << (bits - 1)), max: (1 << (bits - 1)) - 1 };
    let (int, bigint) = (typed("integer", integer(32)), typed("bigint", integer(64)));
    let kind = |kind: &str, from: &str, to: &str, breaking: bool| {
        let mut reason = json!({ "kind": kind, "column": "a", "from": from, "to": to });
        if breaking {
            reason["breaking"] = json!(true);
        }
        let compatibility =
            if breaking { Compatibility::Breaking } else { Compatibility::Compatible };
        (compatibility, json!([reason]))
    };
    let changed = "column_type_changed";
    assert_eq!(between(&int, &bigint), kind(changed, "integer", "bigint", true));
    assert_eq!(between(&bigint, &int), kind(changed, "bigint", "integer", false));
    let text = typed("text", TEXT);
    assert_eq!(between(&int, &text), kind(changed, "integer", "text", true));
    let varchar = |max| {
        let form = Form::String(StringKind::Text { max_chars: Some(max) });
        typed(&format!("character varying({max})"), form)
    };
    let modified = "column_modifier_changed";
    let (nine, twenty) = ("character varying(9)", "character varying(20)");
    assert_eq!(between(&varchar(9), &varchar(20)), kind(modified, nine, twenty, false));
    assert_eq!(between(&varchar(9), &text), kind(changed, nine, "text", false));
    let numeric = |name: &str| typed(name, Form::String(StringKind::Decimal));
    let (small, large) = ("numeric(6,2)", "numeric(12,4)");
    assert_eq!(between(&numeric(small), &numeric(large)), kind(modified, small, large, false));
    // An attribute of a composite: the type keeps its name.
    let point = |fields: &[&str]| {
        let fields = fields.iter().map(|name| ((*name).to_owned(), TEXT)).collect();
        typed("public.point", Form::Object(fields))
    };
    let named = "public.point";
    assert_eq!(between(&point(&["x"]), &point(&["x", "y"])), kind(changed, named, named, false));
    assert_eq!(between(&point(&["x"]), &point(&["y"])), kind(changed, named, named, true));
}

#[test]
fn identities_and_keys() {
    let default = columns(&["id", "a"]);
    let full = Table { identity: Identity::Full, ..default.clone() };
    let (compatibility, reasons) = between(&default, &full);
    assert_eq!(compatibility, Compatibility::Compatible);
    assert_eq!(
        reasons,
        json!([
            { "kind": "identity_changed", "from": "default", "to": "full",
              "from_columns": ["id"], "to_columns": [] },
            { "kind": "column_nullability_changed", "column": "id", "from": "not_null",
              "to": "nullable" },
            { "kind": "column_presence_changed", "column": "a", "from": "unless_unchanged",
              "to": "always" },
        ])
    );
    // Old rows are not logged any more, and large values neither.
    let (compatibility, reasons) = between(&full, &default);
    assert_eq!(compatibility, Compatibility::Breaking);
    assert_eq!(reasons[0]["kind"], "identity_changed");
    assert_eq!(reasons[0]["breaking"], true);
    let mut index = Table { identity: Identity::Index, ..default.clone() };
    index.columns[0].is_identity = false;
    index.columns[1].is_identity = true;
    let (compatibility, reasons) = between(&default, &index);
    assert_eq!(compatibility, Compatibility::Breaking);
    assert_eq!(reasons[0]["to_columns"], json!(["a"]));
    assert_eq!(
        reasons[1],
        json!({ "kind": "key_changed", "from": ["id"], "to": ["a"], "breaking": true })
    );
    let mut nothing = Table { identity: Identity::Nothing, ..default.clone() };
    nothing.columns[0].is_identity = false;
    assert_eq!(between(&default, &nothing).0, Compatibility::Breaking);
    assert_eq!(between(&nothing, &default).0, Compatibility::Compatible);
}

#[test]
fn what_the_configuration_hides_and_masks() {
    let table = columns(&["id", "a", "b"]);
    let plain = TableConfig::default();
    let masked = |mask| TableConfig { mask: vec![("a".to_owned(), mask)], ..plain.clone() };
    let (compatibility, reasons) = configured(&table, &table, &plain, &masked(Mask::Redact));
    assert_eq!(compatibility, Compatibility::Breaking);
    assert_eq!(
        reasons,
        json!([{ "kind": "column_mask_changed", "column": "a", "from": "none", "to": "redact",
                 "breaking": true }])
    );
    // The values of a masked column are the same whatever its type.
    let mut other = table.clone();
    other.columns[1] =
        Column { type_name: "integer".to_owned(), form: Form::Boolean, ..other.columns[1].clone() };
    let hash = masked(Mask::Sha256);
    let (compatibility, reasons) = configured(&table, &other, &hash, &hash);
    assert_eq!(compatibility, Compatibility::Compatible);
    assert_eq!(reasons[0]["kind"], "column_type_changed");
    let holds = |text: &str| TableConfig {
        unchanged: Unchanged::Placeholder(text.to_owned()),
        ..masked(Mask::Sha256)
    };
    let (compatibility, reasons) = configured(&table, &table, &hash, &holds("?"));
    assert_eq!(compatibility, Compatibility::Breaking);
    assert_eq!(
        reasons[0],
        json!({ "kind": "column_placeholder_changed", "column": "a", "from": "none",
                "to": "\"?\"", "breaking": true })
    );
    assert_eq!(reasons[1]["kind"], "column_presence_changed");
    assert_eq!(reasons.as_array().unwrap().len(), 4, "of both columns that may be large");
    // A column that is hidden now in the place of another has not become that one.
    let hides = |column: &str| TableConfig { exclude: vec![column.to_owned()], ..plain.clone() };
    let (_, reasons) = configured(&table, &table, &hides("a"), &hides("b"));
    assert_eq!(
        reasons,
        json!([
            { "kind": "column_dropped", "column": "b", "type": "text", "breaking": true },
            { "kind": "column_added", "column": "a", "type": "text" },
        ])
    );
    // A hidden column changes nothing.
    let hidden = TableConfig { exclude: vec!["a".to_owned()], ..plain.clone() };
    assert_eq!(record(&table, &hidden), record(&other, &hidden));
    let gone = columns(&["id", "b"]);
    let fingerprint = |table: &Table| record(table, &hidden).fingerprint;
    assert_eq!(fingerprint(&table), fingerprint(&gone));
}

#[test]
fn a_table_of_its_own_and_another_wording() {
    let old = columns(&["id", "a"]);
    let recreated = Table { incarnation: 17_000, ..old.clone() };
    assert_eq!(
        between(&old, &recreated),
        (
            Compatibility::Compatible,
            json!([{ "kind": "table_recreated", "from": 16_400, "to": 17_000 }])
        )
    );
    let (compatibility, reasons) = between(&old, &old);
    assert_eq!(compatibility, Compatibility::Compatible);
    assert_eq!(reasons, json!([{ "kind": "schema_reworded" }]));
    // A state from before these were kept.
    let none = TableConfig::default();
    let mut older = record(&old, &none);
    (older.incarnation, older.identity) = (None, None);
    let change = VersionChange::between(&older, &record(&recreated, &none));
    assert_eq!(change.reasons[0].what, What::SchemaReworded {});
}
