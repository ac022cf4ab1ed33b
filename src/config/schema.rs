//! The JSON Schema of the configuration, generated from the raw types and the kinds of connectors.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::kinds::{KindSchema, Kinds};
use super::raw::{RawConfig, RawRouting};

/// The schema as a document (draft 2020-12).
///
/// The settings of a kind hang under `if` its `type` is named `then`, so that every problem of the
/// chosen kind is reported on its own rather than as "none of the kinds matches".
pub fn document(kinds: &Kinds) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let routing = object_of(RawRouting::json_schema(&mut generator));
    let kind = |name, schema| (name, schema, None);
    let source_kinds = kinds.sources.iter().map(|source| kind(source.name, source.schema));
    let sources = definitions("Source", source_kinds, &mut generator);
    let kind = |name, schema| (name, schema, Some(&routing));
    let sink_kinds = kinds.sinks.iter().map(|sink| kind(sink.name, sink.schema));
    let sinks = definitions("Sink", sink_kinds, &mut generator);

    let mut root = generator.into_root_schema_for::<RawConfig>().to_value();
    for (field, reference) in [("source", "#/$defs/Source"), ("sink", "#/$defs/Sink")] {
        if let Some(property) = root.pointer_mut(&format!("/$defs/Connector/properties/{field}"))
            && let Some(property) = property.as_object_mut()
        {
            property.insert("$ref".to_owned(), Value::from(reference));
        }
    }
    if let Some(defs) = root.get_mut("$defs").and_then(Value::as_object_mut) {
        defs.extend(sources);
        defs.extend(sinks);
        defs.values_mut().for_each(without_null);
        defs.sort_keys();
    }
    if let Some(properties) = root.get_mut("properties") {
        without_null(properties);
    }
    root
}

/// Takes the null out of optional fields: a field that is not wanted is left out (a key without a
/// value counts as left out), and problems below it are then reported where they are.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
                branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(only)] = branches.as_slice() {
                    let only = only.clone();
                    object.shift_remove("anyOf");
                    object.extend(only);
                }
            }
            if object.get("default").is_some_and(Value::is_null) {
                object.shift_remove("default");
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// The schema as it is committed: indented, with a line feed at the end.
pub fn text(kinds: &Kinds) -> String {
    format!("{:#}\n", document(kinds))
}

/// The definition `name`, which picks by `type`, and one definition for each kind.
fn definitions<'r>(
    name: &str,
    kinds: impl Iterator<Item = (&'static str, KindSchema, Option<&'r Map<String, Value>>)>,
    generator: &mut schemars::SchemaGenerator,
) -> Map<String, Value> {
    let mut defs = Map::new();
    let mut names = Vec::new();
    let mut branches = Vec::new();
    for (kind, schema, common) in kinds {
        let key = format!("{name}_{kind}");
        branches.push(json!({
            "if": { "properties": { "type": { "const": kind } }, "required": ["type"] },
            "then": { "$ref": format!("#/$defs/{key}") },
        }));
        let settings = object_of(schema(generator));
        defs.insert(key, Value::Object(with_type(kind, settings, common)));
        names.push(kind);
    }
    let definition = json!({
        "type": "object",
        "properties": { "type": { "description": "The kind.", "type": "string", "enum": names } },
        "required": ["type"],
        "allOf": branches,
    });
    defs.insert(name.to_owned(), definition);
    defs
}

/// A kind's settings with its `type` in front and the common fields behind, closed to others.
fn with_type(
    kind: &str,
    mut settings: Map<String, Value>,
    common: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let mut properties = Map::new();
    properties.insert("type".to_owned(), json!({ "const": kind }));
    let own = settings.remove("properties");
    let common = common.and_then(|common| common.get("properties"));
    for fields in [own.as_ref(), common].into_iter().flatten() {
        properties.extend(fields.as_object().cloned().unwrap_or_default());
    }
    settings.insert("type".to_owned(), Value::from("object"));
    settings.insert("properties".to_owned(), Value::Object(properties));
    settings.insert("additionalProperties".to_owned(), Value::Bool(false));
    settings
}

fn object_of(schema: Schema) -> Map<String, Value> {
    match schema.to_value() {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
