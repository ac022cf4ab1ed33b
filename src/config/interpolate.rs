//! `${env:NAME}` and `${file:PATH}` inside text values.

use std::path::Path;

use rowtide_sdk::Code;
use serde_json::Value;

use super::load::Environment;
use super::navigate::Place;
use super::problem::{Problem, TreePath};

/// A secret's file is small; anything larger is a mistake.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where interpolated values come from.
pub(super) struct Lookup<'a> {
    pub(super) environment: &'a Environment,
    /// Relative files are relative to this folder.
    pub(super) folder: &'a Path,
}

/// A place whose value came from elsewhere, wholly or in part. It is never quoted: messages name the
/// references instead.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) path: TreePath,
    /// The references as written, each with what it stood for.
    pub(super) references: Vec<(String, String)>,
    /// Where the value is a list or a map, the text in it, each with all references.
    parts: Vec<(String, String)>,
}

/// What an interpolation did.
#[derive(Debug, Default)]
pub(super) struct Interpolated {
    /// The places whose values came from elsewhere.
    pub(super) places: Vec<Looked>,
    /// The places whose values could not be found; other problems there are noise.
    pub(super) failed: Vec<TreePath>,
    /// What went wrong.
    pub(super) problems: Vec<Problem>,
}

/// Replaces every reference in the text values of `tree`. A value that was interpolated is read as
/// the type that the schema asks for, as in `port: ${env:PORT}`.
pub(super) fn interpolate(tree: &mut Value, schema: &Value, lookup: &Lookup<'_>) -> Interpolated {
    let mut references = Vec::new();
    find(tree, &TreePath::default(), &mut references);
    let mut done = Interpolated::default();
    for path in references {
        let Some(text) = path.lookup(tree).and_then(Value::as_str) else { continue };
        match expand(text, lookup) {
            Ok(expanded) => {
                let value = match expanded {
                    Expanded::Plain(text) => Value::from(text),
                    Expanded::Looked(text, references) => {
                        let value = Place::at(schema, tree, &path).read(&text);
                        let mut looked =
                            Looked { path: path.clone(), references, parts: Vec::new() };
                        looked.add_parts(&value);
                        done.places.push(looked);
                        value
                    }
                };
                if let Some(place) = path.lookup_mut(tree) {
                    *place = value;
                }
            }
            Err((code, message, remedy)) => {
                done.problems.push(Problem::new(code, &path, message).remedy(remedy));
                done.failed.push(path);
            }
        }
    }
    done
}

/// A value of at least this length is recognised within a longer word too.
const DISTINCT_CHARS: usize = 4;

impl Looked {
    /// The references, for a message: `${env:HOST} and ${file:port}`.
    pub(super) fn named(&self) -> String {
        let names: Vec<&str> = self.references.iter().map(|(name, _)| name.as_str()).collect();
        names.join(" and ")
    }

    /// Text within a list or map may be quoted on its own.
    fn add_parts(&mut self, value: &Value) {
        let name = self.named();
        let mut parts = Vec::new();
        leaves(value, &mut parts);
        self.parts = parts.into_iter().map(|part| (name.clone(), part)).collect();
    }

    /// Puts the references back where a message quotes what they stood for.
    pub(super) fn hide(&self, message: &str) -> String {
        let mut hidden = message.to_owned();
        for (name, value) in self.references.iter().chain(&self.parts) {
            let escaped = format!("{value:?}");
            for form in [value.trim(), escaped.trim_matches('"')] {
                hidden = replace(&hidden, form, name);
            }
        }
        hidden
    }
}

/// The text in a list or a map.
fn leaves(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| match item {
            Value::String(text) => out.push(text.clone()),
            item => leaves(item, out),
        }),
        Value::Object(map) => map.values().for_each(|item| match item {
            Value::String(text) => out.push(text.clone()),
            item => leaves(item, out),
        }),
        _ => {}
    }
}

/// Replaces `value` by `name`; a short value only where it stands alone.
fn replace(message: &str, value: &str, name: &str) -> String {
    if value.is_empty() {
        return message.to_owned();
    }
    let is_distinct = value.chars().count() >= DISTINCT_CHARS;
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(value) {
        let is_open = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
        let stands_alone = is_open(before.chars().next_back()) && is_open(after.chars().next());
        out.push_str(before);
        out.push_str(if is_distinct || stands_alone { name } else { value });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Collects the places of all text that holds `${`.
fn find(node: &Value, path: &TreePath, out: &mut Vec<TreePath>) {
    match node {
        Value::String(text) if text.contains("${") => out.push(path.clone()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find(item, &path.index(index), out);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                find(value, &path.key(key), out);
            }
        }
        _ => {}
    }
}

enum Expanded {
    /// Only escapes were resolved.
    Plain(String),
    /// At least one reference was looked up: the text, and each reference with its value.
    Looked(String, Vec<(String, String)>),
}

type Failure = (Code, String, String);

/// Replaces the references of one text; `$${` stands for `${` itself.
fn expand(text: &str, lookup: &Lookup<'_>) -> Result<Expanded, Failure> {
    let mut out = String::with_capacity(text.len());
    let mut looked = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((reference, tail)) = after.split_once('}') else {
            return Err(malformed("a reference is not closed"));
        };
        let value = resolve(reference, lookup)?;
        out.push_str(&value);
        looked.push((format!("${{{reference}}}"), value));
        rest = tail;
    }
    out.push_str(rest);
    Ok(if looked.is_empty() { Expanded::Plain(out) } else { Expanded::Looked(out, looked) })
}

fn malformed(message: &str) -> Failure {
    let remedy = "Write ${env:NAME} or ${file:PATH}; $${ stands for ${ itself.";
    (Code("RT1009"), message.to_owned(), remedy.to_owned())
}

fn resolve(reference: &str, lookup: &Lookup<'_>) -> Result<String, Failure> {
    match reference.split_once(':') {
        Some(("env", name)) if !name.is_empty() => match lookup.environment.get(name) {
            Some(value) => Ok(value.to_owned()),
            None => Err((
                Code("RT1007"),
                format!("the environment variable {name} is not set"),
                format!("Set {name} for the process that runs rowtide."),
            )),
        },
        Some(("file", path)) if !path.is_empty() => read_file(&lookup.folder.join(path)),
        _ => Err(malformed("a reference is neither ${env:NAME} nor ${file:PATH}")),
    }
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let failed = |reason: &dyn std::fmt::Display| {
        let remedy = "The path is relative to the configuration file's folder; the file must be \
                      readable for the user that runs rowtide.";
        let message = format!("cannot read the file {}: {reason}", path.display());
        (Code("RT1008"), message, remedy.to_owned())
    };
    match std::fs::metadata(path) {
        Ok(facts) if facts.len() > FILE_BYTES_MAX => return Err(failed(&"it is over 1 MiB")),
        Ok(_) => {}
        Err(error) => return Err(failed(&error)),
    }
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
        }
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<String, &'static str> {
        let environment = Environment::from_iter([("NAME", "va}l${ue"), ("EMPTY", "")]);
        let lookup = Lookup { environment: &environment, folder: Path::new("/nowhere") };
        match expand(text, &lookup) {
            Ok(Expanded::Plain(text) | Expanded::Looked(text, _)) => Ok(text),
            Err((code, ..)) => Err(code.0),
        }
    }

    #[test]
    fn references_expand_once() {
        assert_eq!(text("a ${env:NAME} b").as_deref(), Ok("a va}l${ue b"));
        assert_eq!(text("${env:EMPTY}").as_deref(), Ok(""));
        assert_eq!(text("$${env:NAME}").as_deref(), Ok("${env:NAME}"));
        assert_eq!(text("$5 {x} $").as_deref(), Ok("$5 {x} $"));
    }

    #[test]
    fn what_cannot_be_resolved_is_a_problem() {
        assert_eq!(text("${env:MISSING}"), Err("RT1007"));
        assert_eq!(text("${file:missing}"), Err("RT1008"));
        for wrong in ["${NAME}", "${env:}", "${vault:x}", "${env:NAME", "${}"] {
            assert_eq!(text(wrong), Err("RT1009"), "{wrong}");
        }
    }
}
