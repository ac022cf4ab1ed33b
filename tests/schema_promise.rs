//! The promise of `schemas/`: frozen examples validate for ever, against the open schema and its
//! closed twin.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may fail, and says where"
)]

use std::fs;
use std::path::{Path, PathBuf};

use rowtide::offsets::{FileStore, saved};
use rowtide::schema::HostState;
use rowtide_postgres::PgPosition;
use rowtide_sdk::Checkpoint;
use serde_json::Value;

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes every described object refuse fields the schema does not name.
fn close(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for definition in object.get_mut("$defs").and_then(Value::as_object_mut).into_iter().flatten() {
        close(definition.1);
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    for part in ["additionalProperties", "items"] {
        object.get_mut(part).into_iter().for_each(close);
    }
}

/// The examples in a folder of `schemas`, each checked against the schema and its closed twin.
fn valid_examples(folder: &str, schema: &str) -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(folder);
    let open = read(&folder.join(schema));
    let mut closed = open.clone();
    close(&mut closed);
    let validators = [
        jsonschema::options().build(&open).unwrap(),
        jsonschema::options().build(&closed).unwrap(),
    ];
    let mut examples = Vec::new();
    for entry in fs::read_dir(folder.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let example = read(&path);
        for validator in &validators {
            let errors: Vec<String> =
                validator.iter_errors(&example).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        }
        examples.push((path, example));
    }
    examples
}

#[test]
fn every_frozen_example_validates() {
    let examples = valid_examples("envelope/v1", "envelope.schema.json");
    let mut ops: Vec<&str> =
        examples.iter().map(|(_, example)| example["op"].as_str().unwrap()).collect();
    ops.sort_unstable();
    ops.dedup();
    assert_eq!(ops, ["c", "d", "r", "t", "u"], "an example for every op");
}

#[test]
fn every_frozen_message_validates() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/message/v1");
    let open = read(&folder.join("message.schema.json"));
    let mut closed = open.clone();
    close(&mut closed);
    let validators = [
        jsonschema::options().build(&open).unwrap(),
        jsonschema::options().build(&closed).unwrap(),
    ];
    let mut encodings = Vec::new();
    for entry in fs::read_dir(folder.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let example = read(&path);
        for validator in &validators {
            let errors: Vec<String> =
                validator.iter_errors(&example).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        }
        encodings.push(example["message"]["encoding"].as_str().unwrap().to_owned());
        let mut broken = example.clone();
        broken["message"]["content"] = Value::from(1);
        assert!(!validators[0].is_valid(&broken), "content of another encoding");
        broken = example.clone();
        broken["op"] = Value::from("c");
        assert!(!validators[0].is_valid(&broken), "another op");
        for field in ["v", "id", "op", "key", "message", "source", "transaction", "ts_us"] {
            let mut broken = example.clone();
            broken.as_object_mut().unwrap().remove(field);
            assert!(!validators[0].is_valid(&broken), "without {field}");
        }
    }
    encodings.sort();
    assert_eq!(encodings, ["base64", "json", "text"], "an example for every encoding");
}

#[test]
fn every_frozen_schema_change_validates() {
    let examples = valid_examples("schema-change/v1", "schema-change.schema.json");
    let mut seen: Vec<&str> =
        examples.iter().map(|(_, example)| example["compatibility"].as_str().unwrap()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, ["breaking", "compatible", "initial"]);
    for (path, example) in &examples {
        // What they hold are schemas, and they describe the columns that are listed.
        for part in ["row", "key_image"] {
            assert!(jsonschema::draft202012::meta::is_valid(&example[part]), "{}", path.display());
            jsonschema::validator_for(&example[part]).unwrap();
        }
        let columns = example["columns"].as_array().unwrap();
        let names: Vec<&String> =
            example["row"]["properties"].as_object().unwrap().keys().collect();
        assert!(columns.iter().map(|column| column["name"].as_str().unwrap()).eq(names));
        let breaking =
            example["reasons"].as_array().unwrap().iter().any(|reason| reason["breaking"] == true);
        assert_eq!(breaking, example["compatibility"] == "breaking", "{}", path.display());
    }
}

#[test]
fn the_schema_of_changes_refuses_what_breaks_the_promise() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/schema-change/v1");
    let schema = read(&folder.join("schema-change.schema.json"));
    let validator = jsonschema::options().build(&schema).unwrap();
    let example = read(&folder.join("examples/compatible.json"));
    for field in schema["required"].as_array().unwrap() {
        let mut broken = example.clone();
        broken.as_object_mut().unwrap().remove(field.as_str().unwrap());
        assert!(!validator.is_valid(&broken), "without {field}");
    }
    for (field, value) in [
        ("previous_version", Value::Null),
        ("reasons", serde_json::json!([])),
        ("compatibility", "initial".into()),
        ("id", "shop:0/1:0".into()),
    ] {
        let mut broken = example.clone();
        broken[field] = value;
        assert!(!validator.is_valid(&broken), "{field}");
    }
    // A reader of this minor version reads later ones.
    let mut later = example;
    later["reasons"][0] = serde_json::json!({ "kind": "more", "breaking": false, "than": 1 });
    later["new"] = true.into();
    assert!(validator.is_valid(&later));
}

#[test]
fn the_schemas_refuse_what_breaks_the_promise() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/envelope/v1");
    let validator =
        jsonschema::options().build(&read(&folder.join("envelope.schema.json"))).unwrap();
    let example = read(&folder.join("examples/create.json"));
    for field in ["v", "id", "op", "key", "before", "after", "schema", "source", "ts_us"] {
        let mut broken = example.clone();
        broken.as_object_mut().unwrap().remove(field);
        assert!(!validator.is_valid(&broken), "without {field}");
    }
    let mut broken = example.clone();
    broken["before"] = serde_json::json!({});
    assert!(!validator.is_valid(&broken), "a create with an old row");
    let mut broken = example;
    broken["op"] = Value::from("d");
    assert!(!validator.is_valid(&broken), "a delete with a new row");
}

/// The validators of the saved position's file, of the host's state and of PostgreSQL's position.
fn position_validators() -> [jsonschema::Validator; 3] {
    let schema = read(&position_folder().join("position.schema.json"));
    ["", "/$defs/host", "/$defs/postgres"].map(|part| {
        let mut closed = schema.pointer(part).unwrap().clone();
        close(&mut closed);
        jsonschema::options().build(&closed).unwrap()
    })
}

fn position_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/position/v1")
}

/// Every file of a state folder fits the schema.
fn validate_state(folder: &Path) {
    let [document, host, postgres] = position_validators();
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|extension| extension.to_str()).unwrap() {
            "json" => {
                let value = read(&path);
                document.validate(&value).unwrap();
                postgres.validate(&value["position"]).unwrap();
            }
            "host" => host.validate(&read(&path)).unwrap(),
            "lock" => continue,
            other => panic!("what is {other}?"),
        }
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn the_frozen_position_is_read_and_written_the_same() {
    let examples = position_folder().join("examples");
    validate_state(&examples);
    let checkpoint = saved(&examples, "shop").unwrap().unwrap();
    let position = PgPosition::parse(&checkpoint.position).unwrap();
    assert_eq!(position.in_tx.unwrap().next_index, 7);
    assert_eq!(position.to_position().unwrap(), checkpoint.position);
    let host = HostState::parse(&checkpoint.host).unwrap();
    assert_eq!(host.claims, ["postgres/7418/shop/rowtide_shop"]);
    assert_eq!(host.known_tables()[0].name, "orders");

    // What the source noted stays as it is.
    let mut noted: Value = serde_json::from_str(&checkpoint.host).unwrap();
    noted["note"] = Value::from("{\"its\":\"own\"}");
    let rendered = HostState::parse(&noted.to_string()).unwrap().render().unwrap();
    let rendered: Value = serde_json::from_str(&rendered).unwrap();
    assert_eq!(rendered, noted);
    position_validators()[1].validate(&rendered).unwrap();

    // What is written now is of the same form, byte by byte but for the generation.
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(folder.path(), "shop").unwrap();
    let written =
        Checkpoint { position: position.to_position().unwrap(), host: host.render().unwrap() };
    for _ in 0..42 {
        store.save(&written).unwrap();
    }
    validate_state(folder.path());
    let text = |folder: &Path| fs::read_to_string(folder.join("shop.json")).unwrap();
    assert_eq!(text(folder.path()), text(&examples));
}

#[test]
fn the_position_schema_refuses_what_breaks_the_promise() {
    let [document, host, postgres] = position_validators();
    let example = read(&position_folder().join("examples/shop.json"));
    for field in ["version", "connector", "generation", "sha256", "position", "host"] {
        let mut broken = example.clone();
        broken.as_object_mut().unwrap().remove(field);
        assert!(!document.is_valid(&broken), "without {field}");
    }
    assert!(!postgres.is_valid(&serde_json::json!({ "confirm": "0/1" })));
    assert!(!host.is_valid(&serde_json::json!({ "schemas": { "a": {} }, "claims": [] })));
}
