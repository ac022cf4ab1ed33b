//! Walks the configuration's schema beside its tree: what may stand at a place, under which names.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::problem::{Step, TreePath};

/// Everything the schema says about one place: all subschemas that apply to it. Alternatives
/// (`anyOf`, `oneOf`) count as one, which is enough to suggest names and to read text.
#[derive(Debug, Clone)]
pub(super) struct Place<'s> {
    root: &'s Value,
    schemas: Vec<&'s Map<String, Value>>,
}

/// References nest less deep than this in any schema of ours.
const DEPTH: usize = 32;

impl<'s> Place<'s> {
    /// The place at `path` of `tree`. The tree decides which kind of source or sink applies.
    pub(super) fn at(root: &'s Value, tree: &Value, path: &TreePath) -> Self {
        let mut place = Self::of(root, root, Some(tree));
        let mut node = Some(tree);
        for step in path.steps() {
            place = match step {
                Step::Key(key) => {
                    node = node.and_then(|node| node.get(key));
                    place.under_key(key, node)
                }
                Step::Index(index) => {
                    node = node.and_then(|node| node.get(index));
                    place.item(node)
                }
            };
        }
        place
    }

    /// The place at `path` by the same schema.
    pub(super) fn elsewhere(&self, tree: &Value, path: &TreePath) -> Self {
        Self::at(self.root, tree, path)
    }

    fn of(root: &'s Value, schema: &'s Value, node: Option<&Value>) -> Self {
        let mut schemas = Vec::new();
        collect(root, schema, node, DEPTH, &mut schemas);
        Self { root, schemas }
    }

    fn all(root: &'s Value, children: Vec<&'s Value>, node: Option<&Value>) -> Self {
        let mut schemas = Vec::new();
        for child in children {
            collect(root, child, node, DEPTH, &mut schemas);
        }
        Self { root, schemas }
    }

    /// The place under a map's key; `node` is what the tree holds there.
    pub(super) fn under_key(&self, key: &str, node: Option<&Value>) -> Self {
        let named = |schema: &&'s Map<String, Value>| schema.get("properties")?.get(key);
        let mut children: Vec<&Value> = self.schemas.iter().filter_map(named).collect();
        if children.is_empty() {
            children = self.schemas.iter().filter_map(|s| s.get("additionalProperties")).collect();
        }
        Self::all(self.root, children, node)
    }

    /// The place of a list's items.
    pub(super) fn item(&self, node: Option<&Value>) -> Self {
        let children = self.schemas.iter().filter_map(|schema| schema.get("items")).collect();
        Self::all(self.root, children, node)
    }

    /// The names of fields that may stand here.
    pub(super) fn fields(&self) -> Vec<&'s str> {
        let properties = self.schemas.iter().filter_map(|schema| schema.get("properties"));
        let mut names = Vec::new();
        for name in properties.filter_map(Value::as_object).flat_map(Map::keys) {
            if !names.contains(&name.as_str()) {
                names.push(name.as_str());
            }
        }
        names
    }

    /// Whether the keys of this map are the user's own (connector names, tables).
    pub(super) fn is_open_map(&self) -> bool {
        self.schemas
            .iter()
            .filter_map(|schema| schema.get("additionalProperties"))
            .any(Value::is_object)
    }

    /// The texts that may stand here, where they are limited.
    pub(super) fn choices(&self) -> Vec<&'s str> {
        let mut choices = Vec::new();
        for schema in &self.schemas {
            let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
            for choice in schema.get("const").into_iter().chain(listed) {
                if let Some(choice) = choice.as_str()
                    && !choices.contains(&choice)
                {
                    choices.push(choice);
                }
            }
        }
        choices
    }

    /// The JSON types that may stand here, without null.
    pub(super) fn types(&self) -> BTreeSet<&'s str> {
        let mut types = BTreeSet::new();
        for schema in &self.schemas {
            match schema.get("type") {
                Some(Value::String(name)) => drop(types.insert(name.as_str())),
                Some(Value::Array(names)) => types.extend(names.iter().filter_map(Value::as_str)),
                _ => {}
            }
        }
        types.remove("null");
        types
    }

    /// The first description.
    pub(super) fn description(&self) -> Option<&'s str> {
        self.schemas.iter().find_map(|schema| schema.get("description")?.as_str())
    }

    /// What a text must be like here, in words that follow its name; the keyword is the one that
    /// editors show.
    pub(super) fn form(&self) -> Option<&'s str> {
        self.schemas.iter().find_map(|schema| schema.get("patternErrorMessage")?.as_str())
    }

    /// Reads text from the environment or an interpolation as the type that the schema asks for.
    /// Text that does not read as that type stays text, and the schema then says so.
    pub(super) fn read(&self, text: &str) -> Value {
        let types = self.types();
        let trimmed = text.trim();
        let as_json = |is: fn(&Value) -> bool| serde_json::from_str(trimmed).ok().filter(is);
        let read = if types.contains("array") && (trimmed.starts_with('[') || types.len() == 1) {
            as_json(Value::is_array).or_else(|| {
                let item = self.item(None);
                let parts = trimmed.split(',').map(str::trim).filter(|part| !part.is_empty());
                Some(parts.map(|part| item.read(part)).collect())
            })
        } else if types.contains("object") && trimmed.starts_with('{') {
            as_json(Value::is_object)
        } else if types.contains("string") || types.is_empty() {
            None
        } else if types.contains("boolean") {
            as_json(Value::is_boolean)
        } else {
            as_json(Value::is_number)
        };
        read.unwrap_or_else(|| Value::from(text))
    }
}

/// Adds `schema` and everything it refers to that applies to `node`.
fn collect<'s>(
    root: &'s Value,
    schema: &'s Value,
    node: Option<&Value>,
    depth: usize,
    out: &mut Vec<&'s Map<String, Value>>,
) {
    let (Some(depth), Some(object)) = (depth.checked_sub(1), schema.as_object()) else { return };
    out.push(object);
    if let Some(pointer) = object.get("$ref").and_then(Value::as_str)
        && let Some(target) = pointer.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
    {
        collect(root, target, node, depth, out);
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for branch in object.get(keyword).and_then(Value::as_array).into_iter().flatten() {
            match (branch.get("if"), branch.get("then")) {
                (Some(condition), Some(then)) if holds(condition, node) => {
                    collect(root, then, node, depth, out);
                }
                (Some(_), _) => {}
                _ => collect(root, branch, node, depth, out),
            }
        }
    }
}

/// Whether an `if` of our schema (constant properties) holds for `node`.
fn holds(condition: &Value, node: Option<&Value>) -> bool {
    let Some(properties) = condition.get("properties").and_then(Value::as_object) else {
        return false;
    };
    properties.iter().all(|(name, property)| {
        property.get("const").is_some_and(|wanted| node.and_then(|n| n.get(name)) == Some(wanted))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "properties": {
                "port": { "type": ["integer", "null"] },
                "verbose": { "type": "boolean" },
                "names": { "type": "array", "items": { "type": "string" } },
                "ports": { "type": "array", "items": { "type": "integer" } },
                "brokers": { "anyOf": [{ "type": "string" }, { "type": "array" }] },
                "mode": { "anyOf": [{ "$ref": "#/$defs/Mode" }, { "type": "null" }] },
                "sink": {
                    "allOf": [{
                        "if": { "properties": { "type": { "const": "a" } } },
                        "then": { "properties": { "x": {} } },
                    }],
                },
                "map": { "type": "object", "additionalProperties": { "type": "integer" } },
            },
            "$defs": { "Mode": { "oneOf": [{ "const": "fast" }, { "const": "slow" }] } },
        })
    }

    fn place<'s>(schema: &'s Value, tree: &Value, keys: &[&str]) -> Place<'s> {
        let path = keys.iter().fold(TreePath::default(), |path, key| path.key(*key));
        Place::at(schema, tree, &path)
    }

    #[test]
    fn text_is_read_as_the_schema_asks() {
        let (schema, tree) = (schema(), Value::Null);
        let read = |key, text| place(&schema, &tree, &[key]).read(text);
        assert_eq!(read("port", "5432"), json!(5432));
        assert_eq!(read("port", "x"), json!("x"));
        assert_eq!(read("verbose", "true"), json!(true));
        assert_eq!(read("names", "a, b"), json!(["a", "b"]));
        assert_eq!(read("names", r#"["a,b"]"#), json!(["a,b"]));
        assert_eq!(read("ports", "1,2"), json!([1, 2]));
        assert_eq!(read("brokers", "a:1,b:2"), json!("a:1,b:2"));
        assert_eq!(read("brokers", r#"["a:1"]"#), json!(["a:1"]));
        assert_eq!(read("mode", "fast"), json!("fast"));
        assert_eq!(place(&schema, &tree, &["map", "any.key"]).read("7"), json!(7));
    }

    #[test]
    fn choices_and_fields_follow_references_and_conditions() {
        let schema = schema();
        assert_eq!(place(&schema, &Value::Null, &["mode"]).choices(), ["fast", "slow"]);
        let tree = json!({"sink": {"type": "a"}});
        assert_eq!(place(&schema, &tree, &["sink"]).fields(), ["x"]);
        assert!(place(&schema, &json!({"sink": {"type": "b"}}), &["sink"]).fields().is_empty());
    }
}
