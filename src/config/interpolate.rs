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

/// What an interpolation did.
#[derive(Debug, Default)]
pub(super) struct Interpolated {
    /// The places whose values came from elsewhere; they are never quoted.
    pub(super) places: Vec<TreePath>,
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
                    Expanded::Looked(text) => {
                        done.places.push(path.clone());
                        Place::at(schema, tree, &path).read(&text)
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
    /// At least one reference was looked up.
    Looked(String),
}

type Failure = (Code, String, String);

/// Replaces the references of one text; `$${` stands for `${` itself.
fn expand(text: &str, lookup: &Lookup<'_>) -> Result<Expanded, Failure> {
    let mut out = String::with_capacity(text.len());
    let mut looked = false;
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
        out.push_str(&resolve(reference, lookup)?);
        looked = true;
        rest = tail;
    }
    out.push_str(rest);
    Ok(if looked { Expanded::Looked(out) } else { Expanded::Plain(out) })
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
            Ok(Expanded::Plain(text) | Expanded::Looked(text)) => Ok(text),
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
