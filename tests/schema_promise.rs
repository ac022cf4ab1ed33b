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
use std::path::Path;

use serde_json::Value;

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes every described object refuse fields the schema does not name.
fn close(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

#[test]
fn every_frozen_example_validates() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/envelope/v1");
    let open = read(&folder.join("envelope.schema.json"));
    let mut closed = open.clone();
    close(&mut closed);
    let validators = [
        jsonschema::options().build(&open).unwrap(),
        jsonschema::options().build(&closed).unwrap(),
    ];
    let mut ops = Vec::new();
    for entry in fs::read_dir(folder.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let example = read(&path);
        for validator in &validators {
            let errors: Vec<String> =
                validator.iter_errors(&example).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        }
        ops.push(example["op"].as_str().unwrap().to_owned());
    }
    ops.sort();
    ops.dedup();
    assert_eq!(ops, ["c", "d", "r", "t", "u"], "an example for every op");
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
