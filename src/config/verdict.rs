//! What the JSON Schema says about the tree, in words for the person who wrote the file.

use jsonschema::error::ValidationErrorKind;
use rowtide_sdk::Code;
use serde_json::Value;

use super::checks::Tree;
use super::navigate::Place;
use super::problem::{Problem, Step, TreePath, listed, suggestion};

/// Validates the tree and takes what is wrong out of it, so that the semantic checks can look at the
/// rest.
pub(super) fn schema_problems(tree: &mut Tree<'_>, schema: &Value) -> Vec<Problem> {
    for path in tree.failed.clone() {
        tree.take_out(&path);
        tree.troubled.push(path);
    }
    let validator = match jsonschema::options().build(schema) {
        Ok(validator) => validator,
        Err(error) => {
            let message = format!("the configuration's own schema is broken: {}", error.masked());
            return vec![Problem::new(Code("RT1099"), "schema", message)];
        }
    };
    let mut problems: Vec<Problem> = Vec::new();
    let mut wrong = Vec::new();
    let mut unknown = Vec::new();
    for error in validator.iter_errors(&tree.root) {
        let path = TreePath::from_pointer(error.instance_path().as_str(), &tree.root);
        let place = Place::at(schema, &tree.root, &path);
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for name in unexpected {
                    problems.push(unknown_field(&path.key(name), name, &place));
                    unknown.push(path.key(name));
                }
            }
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let path = path.key(name);
                // A value whose interpolation failed was reported already.
                if !tree.failed.contains(&path) {
                    problems.push(missing_field(&path, name, &place.under_key(name, None)));
                }
                tree.troubled.push(path);
            }
            _ => {
                problems.push(wrong_value(tree, &path, error.instance(), &place, &error));
                wrong.push(path);
            }
        }
    }
    for path in wrong {
        tree.take_out(&path);
        tree.troubled.push(path);
    }
    // Without an unknown field the rest is whole.
    unknown.iter().for_each(|path| tree.take_out(path));
    let mut seen = std::collections::HashSet::new();
    problems.retain(|problem| seen.insert(problem.path.clone()));
    problems
}

fn unknown_field(path: &TreePath, name: &str, place: &Place<'_>) -> Problem {
    let fields = place.fields();
    let problem = Problem::new(Code("RT1003"), path, "unknown field");
    match suggestion(name, fields.iter().copied()) {
        Some(near) => problem.remedy(format!("Did you mean {near}?")),
        None if fields.is_empty() => problem,
        None => problem.remedy(format!("Known here: {}.", listed(&fields))),
    }
}

fn missing_field(path: &TreePath, name: &str, place: &Place<'_>) -> Problem {
    let problem = Problem::new(Code("RT1004"), path, "missing, and it is required");
    match place.choices().as_slice() {
        [] => match place.description() {
            Some(description) => problem.remedy(description.replace('\n', " ")),
            None => problem,
        },
        [only] => problem.remedy(format!("Add {name}: {only}.")),
        choices => problem.remedy(format!("Add {name}: {}.", listed(choices))),
    }
}

fn wrong_value(
    tree: &Tree<'_>,
    path: &TreePath,
    value: &Value,
    place: &Place<'_>,
    error: &jsonschema::ValidationError<'_>,
) -> Problem {
    if let Some(inner) = inner_problem(tree, place, error) {
        return inner;
    }
    let types = place.types();
    let choices = place.choices();
    if let (Some(text), false) = (value.as_str(), choices.is_empty()) {
        let message = format!("{} is not allowed here", tree.quoted(path, text));
        let allowed = format!("Allowed: {}.", listed(&choices));
        let near = suggestion(text, choices.iter().copied());
        let remedy = match near.filter(|_| tree.may_quote(path)) {
            Some(near) => format!("Did you mean {near}? {allowed}"),
            None => allowed,
        };
        return Problem::new(Code("RT1006"), path, message).remedy(remedy);
    }
    let fits = types.iter().any(|name| is_of(value, name));
    if (!fits && !types.is_empty()) || !choices.is_empty() {
        let mut names: Vec<&str> = types.iter().map(|name| type_name(name)).collect();
        names.dedup();
        if !choices.is_empty() {
            // Of text these words alone; another form may stand here beside them.
            names.retain(|name| *name != type_name("string"));
            names.splice(0..0, choices);
        }
        let message = format!("must be {}, but is {}", listed(&names), type_name(type_of(value)));
        let problem = Problem::new(Code("RT1005"), path, message);
        // What a field is for tells its forms too, where they have no pattern.
        return match (place.form(), place.description()) {
            (Some(form), _) => problem.remedy(format!("The text {form}.")),
            (None, Some(description)) => problem.remedy(description.replace('\n', " ")),
            (None, None) => problem,
        };
    }
    let message = error.masked_with("the value").to_string();
    let problem = match error.kind() {
        ValidationErrorKind::Pattern { .. } => {
            let shown = value.as_str().map(|text| tree.quoted(path, text));
            let form = place.form().map(|form| format!(": it {form}")).unwrap_or_default();
            let message = format!("{} has the wrong form{form}", shown.unwrap_or_default());
            Problem::new(Code("RT1006"), path, message)
        }
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
            Problem::new(Code("RT1006"), path, "the value fits none of the allowed forms")
        }
        _ => Problem::new(Code("RT1006"), path, message),
    };
    match place.description() {
        Some(description) => problem.remedy(description.replace('\n', " ")),
        None => problem,
    }
}

/// Of a value that fits none of several forms, what is wrong inside it with the form that it is of: a
/// map is not meant as the word that may stand in its place.
fn inner_problem(
    tree: &Tree<'_>,
    place: &Place<'_>,
    error: &jsonschema::ValidationError<'_>,
) -> Option<Problem> {
    let (ValidationErrorKind::AnyOf { context: branches }
    | ValidationErrorKind::OneOfNotValid { context: branches }) = error.kind()
    else {
        return None;
    };
    let own = error.instance_path().as_str().len();
    // A branch that is of another type has nothing to say of what is inside.
    branches.iter().flatten().find_map(|inner| {
        let path = TreePath::from_pointer(inner.instance_path().as_str(), &tree.root);
        let place = place.elsewhere(&tree.root, &path);
        match inner.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let name = unexpected.first()?;
                Some(unknown_field(&path.key(name), name, &place))
            }
            ValidationErrorKind::Required { property } => {
                let name = property.as_str()?;
                Some(missing_field(&path.key(name), name, &place.under_key(name, None)))
            }
            _ if inner.instance_path().as_str().len() > own => {
                Some(wrong_value(tree, &path, inner.instance(), &place, inner))
            }
            _ => None,
        }
    })
}

fn is_of(value: &Value, type_name: &str) -> bool {
    match type_name {
        "number" => value.is_number(),
        other => type_of(value) == other,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_name(name: &str) -> &str {
    match name {
        "null" => "empty",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "text",
        "array" => "a list",
        "object" => "a map",
        other => other,
    }
}

impl Tree<'_> {
    /// Takes a value out. Of a list the whole goes.
    fn take_out(&mut self, path: &TreePath) {
        let steps = path.steps();
        let keys = steps.iter().take_while(|step| matches!(step, Step::Key(_))).count();
        let mut node = &mut self.root;
        for (number, step) in steps.iter().take(keys).enumerate() {
            let Step::Key(key) = step else { break };
            let Some(map) = node.as_object_mut() else { break };
            if number.saturating_add(1) == keys {
                map.shift_remove(key);
                break;
            }
            let Some(child) = map.get_mut(key) else { break };
            node = child;
        }
        if keys == 0 {
            self.root = Value::Object(serde_json::Map::new());
        }
    }
}
