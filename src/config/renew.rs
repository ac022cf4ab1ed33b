//! Settings read anew: where a source's or sink's settings refer to files, those are read again for
//! each of its runs, so that a password or key that was exchanged counts from the next connection on.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rowtide_sdk::{Code, Error, Origin, Result};
use serde_json::{Map, Value};

use super::interpolate::{Interpolated, Lookup, interpolate};
use super::load::Environment;
use super::problem::TreePath;
use super::{Parse, SettingProblem};

/// The configuration as it was before its references were resolved.
pub(super) struct Written {
    /// The merged layers.
    pub(super) tree: Value,
    /// The JSON Schema, by which what a reference stands for is read.
    pub(super) schema: Value,
    pub(super) environment: Environment,
    /// What relative files are relative to.
    pub(super) folder: PathBuf,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

/// One source's or sink's settings, with the way back to where they came from.
pub struct Renewal<F: ?Sized> {
    written: Arc<Written>,
    connector: String,
    /// `source` or `sink`.
    side: &'static str,
    /// Fields that its kind does not read.
    without: &'static [&'static str],
    parse: Parse<F>,
    last: Mutex<(Map<String, Value>, Arc<F>)>,
}

impl<F: ?Sized> fmt::Debug for Renewal<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The settings may hold secrets.
        f.debug_struct("Renewal").field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// Whether a value refers to a file.
fn refers_to_files(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${file:"),
        Value::Array(items) => items.iter().any(refers_to_files),
        Value::Object(map) => map.values().any(refers_to_files),
        _ => false,
    }
}

impl<F: ?Sized> Renewal<F> {
    /// For the settings at `connectors.CONNECTOR.SIDE`, of which `factory` was made; `None` where
    /// they refer to no file and so cannot change.
    pub(super) fn of(
        written: &Arc<Written>,
        (connector, side): (&str, &'static str),
        without: &'static [&'static str],
        parse: Parse<F>,
        (settings, factory): (Map<String, Value>, &Arc<F>),
    ) -> Option<Arc<Self>> {
        let path = TreePath::default().key("connectors").key(connector).key(side);
        path.lookup(&written.tree).filter(|settings| refers_to_files(settings))?;
        Some(Arc::new(Self {
            written: Arc::clone(written),
            connector: connector.to_owned(),
            side,
            without,
            parse,
            last: Mutex::new((settings, Arc::clone(factory))),
        }))
    }

    /// The factory by what the files hold now.
    ///
    /// # Errors
    /// Transient, as a file may be about to be replaced: where one cannot be read, or what it holds
    /// cannot be used.
    pub(super) fn renewed(&self) -> Result<Arc<F>> {
        let (settings, done) = self.read()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != settings {
            let made = (self.parse)(Value::Object(settings.clone()), &self.written.folder);
            let factory = made.map_err(|problems| self.unusable(problems, &done))?;
            tracing::info!(
                connector = self.connector,
                side = self.side,
                "the files that the settings refer to have changed, and count from now on"
            );
            *last = (settings, factory);
        }
        Ok(Arc::clone(&last.1))
    }

    /// The settings with every reference resolved anew.
    fn read(&self) -> Result<(Map<String, Value>, Interpolated)> {
        let Written { tree, schema, environment, folder } = &*self.written;
        let path = TreePath::default().key("connectors").key(&self.connector).key(self.side);
        let settings = path.lookup(tree).cloned().unwrap_or_default();
        // Alone in its place: no other section's files are touched.
        let mut tree = Value::Object(Map::from_iter([(
            "connectors".to_owned(),
            Value::Object(Map::from_iter([(
                self.connector.clone(),
                Value::Object(Map::from_iter([(self.side.to_owned(), settings)])),
            )])),
        )]));
        let done = interpolate(&mut tree, schema, &Lookup { environment, folder });
        if let Some(problem) = done.problems.first() {
            let message = format!("{}: {}", problem.path, problem.message);
            let error = Error::transient(Origin::Config, problem.code, message);
            return Err(match &problem.remedy {
                Some(remedy) => error.with_remedy(remedy.clone()),
                None => error,
            });
        }
        let mut settings = match path.lookup_mut(&mut tree).map(Value::take) {
            Some(Value::Object(settings)) => settings,
            _ => Map::new(),
        };
        settings.shift_remove("type");
        for field in self.without {
            settings.shift_remove(*field);
        }
        Ok((settings, done))
    }

    fn unusable(&self, problems: Vec<SettingProblem>, done: &Interpolated) -> Error {
        let place = format!("connectors.{}.{}", self.connector, self.side);
        let problem = problems.into_iter().next();
        let code = problem.as_ref().and_then(|problem| problem.code).unwrap_or(Code("RT1018"));
        let message = problem.map(|problem| problem.message).unwrap_or_default();
        let hide = |text: String| done.places.iter().fold(text, |text, looked| looked.hide(&text));
        Error::transient(
            Origin::Config,
            code,
            format!("{place} cannot be used as its files are now: {}", hide(message)),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Stands for a factory: it keeps the password it was made with.
    type Made = Value;

    fn parse(settings: Value, _folder: &Path) -> Result<Arc<Made>, Vec<SettingProblem>> {
        match settings.get("password").and_then(Value::as_str) {
            Some("bad") => Err(vec![SettingProblem {
                code: None,
                field: String::new(),
                message: "the password \"bad\" is bad".to_owned(),
                remedy: None,
            }]),
            _ => Ok(Arc::new(settings)),
        }
    }

    fn renewal(folder: &Path, password: &str) -> Option<Arc<Renewal<Made>>> {
        let tree = serde_json::json!({"connectors": {
            "shop": {"source": {"type": "postgres", "password": password}},
            "other": {"source": {"type": "postgres", "password": "${file:absent}"}},
        }});
        let written = Arc::new(Written {
            tree,
            schema: Value::Bool(true),
            environment: Environment::default(),
            folder: folder.to_owned(),
        });
        let first = Arc::new(Value::Null);
        Renewal::of(&written, ("shop", "source"), &[], parse, (Map::new(), &first))
    }

    #[test]
    fn only_files_are_read_anew() {
        assert!(renewal(Path::new("."), "secret").is_none());
        assert!(renewal(Path::new("."), "${env:PASSWORD}").is_none());
    }

    #[test]
    fn a_changed_file_makes_another_factory_and_a_bad_one_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let renewal = renewal(folder.path(), "${file:password}").unwrap();
        assert_eq!(renewal.renewed().unwrap_err().code(), Code("RT1008"));
        std::fs::write(&file, "first\n").unwrap();
        let first = renewal.renewed().unwrap();
        assert_eq!(*first, serde_json::json!({"password": "first"}));
        assert!(Arc::ptr_eq(&first, &renewal.renewed().unwrap()));
        std::fs::write(&file, "bad\n").unwrap();
        let error = renewal.renewed().unwrap_err();
        assert_eq!(error.class(), rowtide_sdk::Class::Transient);
        assert!(!error.message().contains("\"bad\""), "{error}");
        std::fs::write(&file, "second\n").unwrap();
        assert_eq!(*renewal.renewed().unwrap(), serde_json::json!({"password": "second"}));
        assert!(!format!("{renewal:?}").contains("second"));
    }
}
