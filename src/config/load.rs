//! Loads a configuration: everything that touches files and the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rowtide_sdk::Code;
use serde_json::Value;

use super::checks::{Contracts, Tree};
use super::interpolate::{Lookup, interpolate};
use super::problem::{Problem, Problems, TreePath};
use super::renew::Written;
use super::{Config, Kinds, checks, layers, schema, verdict};

/// The environment as the configuration sees it.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    unreadable: BTreeSet<String>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(environment.variables.insert(name, value)),
                Err(_) => drop(environment.unreadable.insert(name)),
            }
        }
        environment
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The variables whose names begin with `prefix`, without regard to case.
    pub(super) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let has_prefix = move |name: &str| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        self.variables
            .iter()
            .filter(move |(name, _)| has_prefix(name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().map(String::as_str)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let pairs = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: pairs.collect(), unreadable: BTreeSet::new() }
    }
}

/// Loads the configuration in the file at `path` (`.yaml`, `.yml`, `.toml` or `.json`), with the
/// environment laid over it.
///
/// # Errors
/// Every problem at once, each with its code and its place.
pub fn load(path: &Path, environment: &Environment, kinds: &Kinds) -> Result<Config, Problems> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read the configuration: {error}");
        let remedy = "Name the file with --config or ROWTIDE_CONFIG.";
        Problem::new(Code("RT1001"), path.display().to_string(), message).remedy(remedy)
    })?;
    load_text(path, &text, environment, kinds)
}

/// As [`load`], with the file's text at hand; `path` gives the format and the folder that relative
/// files are relative to.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    path: &Path,
    text: &str,
    environment: &Environment,
    kinds: &Kinds,
) -> Result<Config, Problems> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let document = schema::document(kinds);
    let file = layers::parse(&path.to_string_lossy(), text)?;
    let (variables, mut problems) = layers::environment_tree(environment, &file, &document);
    let mut root = layers::merge(file, variables)?;

    let written = Arc::new(Written {
        tree: root.clone(),
        schema: document.clone(),
        environment: environment.clone(),
        folder: folder.to_owned(),
    });
    let interpolated = interpolate(&mut root, &document, &Lookup { environment, folder });
    problems.extend(interpolated.problems);
    let mut tree = Tree {
        root,
        written,
        folder,
        interpolated: interpolated.places,
        failed: interpolated.failed,
        troubled: Vec::new(),
    };
    problems.extend(verdict::schema_problems(&mut tree, &document));
    let contracts = read_contracts(&tree.root, folder);
    match checks::validate(tree, &contracts, kinds, problems) {
        Ok(config) => Ok(config),
        Err(problems) => Err(Problems(problems)),
    }
}

/// Reads the contract files that the tree names.
fn read_contracts(tree: &Value, folder: &Path) -> Contracts {
    let mut contracts = Contracts::new();
    let maps =
        |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    for (connector, settings) in &maps(tree.get("connectors")) {
        for (table, rule) in &maps(settings.get("tables")) {
            let Some(file) = rule.get("contract").and_then(Value::as_str) else { continue };
            let path = TreePath::default().key("connectors").key(connector);
            let path = path.key("tables").key(table).key("contract");
            contracts.insert(path, read_contract(&folder.join(file)));
        }
    }
    contracts
}

fn read_contract(path: &Path) -> Result<Value, (Code, String)> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        (Code("RT1013"), format!("cannot read the contract {}: {error}", path.display()))
    })?;
    serde_json::from_str(&text).map_err(|error| {
        (Code("RT1014"), format!("the contract {} is not JSON: {error}", path.display()))
    })
}
