//! The layers: the file's tree, the environment's, and their merge by the config crate.

use std::fmt::Write as _;

use config::{FileFormat, Format, Map, Source, ValueKind};
use rowtide_sdk::Code;
use serde_json::Value;

use super::duplicates::{self, Unique};
use super::load::Environment;
use super::navigate::Place;
use super::problem::{Problem, TreePath, suggestion};

/// What names of environment variables begin with.
pub(super) const PREFIX: &str = "ROWTIDE__";

/// Parses a file's text by the extension of its name.
pub(super) fn parse(name: &str, text: &str) -> Result<Value, Problem> {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let format = match extension.as_deref() {
        Some("yaml" | "yml") => FileFormat::Yaml,
        Some("toml") => FileFormat::Toml,
        Some("json") => FileFormat::Json,
        _ => {
            let message = "the file's format is not known by its name";
            let remedy = "Name the file .yaml, .yml, .toml or .json.";
            return Err(Problem::new(Code("RT1002"), name, message).remedy(remedy));
        }
    };
    if text.trim().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    // Of two keys the parser of JSON takes the last without a word.
    let unique = match format {
        FileFormat::Json => serde_json::from_str::<Unique>(text).map(drop),
        _ => Ok(()),
    };
    let parsed = unique.map_err(Into::into).and_then(|()| Format::parse(&format, None, text));
    parsed.map(|map| json_of(&ValueKind::Table(map))).map_err(|error| {
        let duplicate = match format {
            FileFormat::Yaml => duplicates::in_yaml(text),
            _ => None,
        };
        let what = duplicate.map_or_else(|| without_source(&*error), |found| found.to_string());
        let message = format!("the file cannot be parsed: {what}");
        let is_duplicate = what.contains("is there twice") || what.contains("duplicate key");
        let remedy = match is_duplicate {
            true => "Keep one of the two, with what both say under it.",
            false => "Mend that place; `rowtide explain RT1002` names what is often forgotten.",
        };
        Problem::new(Code("RT1002"), name, message).remedy(remedy)
    })
}

/// The message of a parser without the lines of the file that it may quote (they may hold secrets).
fn without_source(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let text = error.to_string();
    let mut kept = String::new();
    for line in text.lines() {
        // toml quotes as `3 | password = "x"` and marks the place below.
        let is_quote = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        if !is_quote.starts_with('|') {
            let separator = if kept.is_empty() { "" } else { "; " };
            let _infallible = write!(kept, "{separator}{}", line.trim());
        }
    }
    in_place(kept)
}

/// A YAML parser's message with the place as the others write it.
fn in_place(message: String) -> String {
    let placed = message.rsplit_once(" at byte ").and_then(|(what, place)| {
        let (_, place) = place.split_once(" line ")?;
        let (line, column) = place.split_once(" column ")?;
        Some(format!("at line {line}, column {column}: {what}"))
    });
    placed.unwrap_or(message)
}

/// Lays the environment over the file. Both are merged by the config crate, map by map; lists and
/// scalars are replaced.
pub(super) fn merge(file: Value, environment: Value) -> Result<Value, Problem> {
    let failed = |error: config::ConfigError| {
        Problem::new(Code("RT1002"), "configuration", error.to_string())
    };
    let merged = config::Config::builder()
        .add_source(Layer(file))
        .add_source(Layer(environment))
        .build()
        .map_err(failed)?;
    let root = merged.cache.kind;
    match json_of(&root) {
        Value::Object(mut map) => Ok(map.shift_remove(ROOT).unwrap_or_default()),
        other => Ok(other),
    }
}

/// The config crate reads the top-level keys of a layer as paths (`a.b`, `a[1]`). Under one plain
/// key of ours, the user's keys (`public.orders`) are taken as they are.
const ROOT: &str = "root";

#[derive(Debug, Clone)]
struct Layer(Value);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, config::ConfigError> {
        Ok(Map::from_iter([(ROOT.to_owned(), config_value(&self.0))]))
    }
}

fn config_value(value: &Value) -> config::Value {
    let kind = match value {
        Value::Null => ValueKind::Nil,
        Value::Bool(value) => ValueKind::Boolean(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => ValueKind::I64(value),
            (_, Some(value), _) => ValueKind::U64(value),
            (.., value) => value.map_or(ValueKind::Nil, ValueKind::Float),
        },
        Value::String(text) => ValueKind::String(text.clone()),
        Value::Array(items) => ValueKind::Array(items.iter().map(config_value).collect()),
        Value::Object(map) => {
            ValueKind::Table(map.iter().map(|(key, v)| (key.clone(), config_value(v))).collect())
        }
    };
    config::Value::new(None, kind)
}

/// The tree as JSON. A key without a value (`tables:` with nothing behind it) counts as not set.
fn json_of(kind: &ValueKind) -> Value {
    match kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(value) => Value::from(*value),
        ValueKind::I64(value) => Value::from(*value),
        ValueKind::U64(value) => Value::from(*value),
        ValueKind::I128(value) => i64::try_from(*value).map_or(Value::Null, Value::from),
        ValueKind::U128(value) => u64::try_from(*value).map_or(Value::Null, Value::from),
        ValueKind::Float(value) => Value::from(*value),
        ValueKind::String(text) => Value::from(text.clone()),
        ValueKind::Array(items) => items.iter().map(|item| json_of(&item.kind)).collect(),
        ValueKind::Table(map) => {
            let set = map.iter().filter(|(_, value)| value.kind != ValueKind::Nil);
            Value::Object(set.map(|(key, value)| (key.clone(), json_of(&value.kind))).collect())
        }
    }
}

/// The tree of the `ROWTIDE__…` variables. Each name is matched, level by level and without regard
/// to case, with the schema's fields and the file's own keys, where every character that cannot
/// stand in a variable's name counts as `_`.
pub(super) fn environment_tree(
    environment: &Environment,
    file: &Value,
    schema: &Value,
) -> (Value, Vec<Problem>) {
    let mut tree = Value::Object(serde_json::Map::new());
    let mut problems = Vec::new();
    // What the kind of a source is may come from the environment too, so `type`s go first.
    let mut variables: Vec<(&str, &str)> = environment.with_prefix(PREFIX).collect();
    variables.sort_by_key(|(name, _)| (!name.to_ascii_uppercase().ends_with("__TYPE"), *name));
    for (name, text) in variables {
        let seen = merge(file.clone(), tree.clone()).unwrap_or_default();
        match place_variable(name, &seen, schema) {
            Ok(path) => {
                let value = Place::at(schema, &seen, &path).read(text);
                if !insert(&mut tree, &path, value) {
                    let message = "another variable sets a part of the same value";
                    problems.push(Problem::new(Code("RT1010"), name, message));
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    for name in environment.unreadable().filter(|name| name.starts_with(PREFIX)) {
        problems.push(Problem::new(Code("RT1010"), name, "the value is not valid UTF-8"));
    }
    (tree, problems)
}

/// The path that a variable names.
fn place_variable(name: &str, seen: &Value, schema: &Value) -> Result<TreePath, Problem> {
    let fail = |message: String| Problem::new(Code("RT1010"), name, message);
    let mut path = TreePath::default();
    for segment in name.get(PREFIX.len()..).unwrap_or_default().split("__") {
        if segment.is_empty() {
            return Err(fail("the name has an empty part".to_owned()));
        }
        let place = Place::at(schema, seen, &path);
        let node = path.lookup(seen);
        let existing = node.and_then(Value::as_object).into_iter().flat_map(|map| map.keys());
        let fields = place.fields();
        let known: Vec<&str> = fields.iter().copied().chain(existing.map(String::as_str)).collect();
        let wanted = normalized(segment);
        let mut matches: Vec<&str> =
            known.iter().copied().filter(|key| normalized(key) == wanted).collect();
        matches.dedup();
        match matches.as_slice() {
            [only] => path = path.key(*only),
            [] if place.is_open_map() => path = path.key(segment.to_lowercase()),
            [] => {
                let place = if path.steps().is_empty() {
                    "the top level".to_owned()
                } else {
                    format!("{path}")
                };
                let problem = fail(format!("{place} has no field {}", segment.to_lowercase()));
                let near = suggestion(segment, known.iter().copied());
                return Err(match near {
                    Some(near) => problem.remedy(format!("Did you mean {}?", near.to_uppercase())),
                    None => problem,
                });
            }
            several => {
                let message = format!("the name fits several keys: {}", several.join(", "));
                return Err(fail(message));
            }
        }
    }
    Ok(path)
}

/// Lower case, with `_` for every character that cannot stand in a variable's name.
fn normalized(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    key.chars().map(plain).collect()
}

/// Puts a value at a path, making the maps on the way. `false` where something else is there.
fn insert(tree: &mut Value, path: &TreePath, value: Value) -> bool {
    let mut node = tree;
    for step in path.steps() {
        let super::problem::Step::Key(key) = step else { return false };
        let Value::Object(map) = node else { return false };
        node = map.entry(key.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    let is_free = node.as_object().is_some_and(serde_json::Map::is_empty);
    if is_free {
        *node = value;
    }
    is_free
}
