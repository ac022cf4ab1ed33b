//! The semantic checks: what a schema cannot say. No I/O happens here (invariant A1).

use core::net::SocketAddr;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rowtide_sdk::Code;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::amounts::{Size, duration};
use super::connector::COMMON_SINK_FIELDS;
use super::interpolate::Looked;
use super::kinds::Kinds;
use super::problem::{Problem, Step, TreePath, suggestion};
use super::raw::{OrderedMap, RawConfig, RawConnector, RawLogs, RawOps};
use super::renew::Written;
use super::{Config, ConnectorConfig, Logs};

/// The contracts by the place that names them: the JSON read, or why it could not be.
pub(super) type Contracts = HashMap<TreePath, Result<Value, (Code, String)>>;

/// The merged tree with what is known about its values.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    pub(super) root: Value,
    /// As it was before references were resolved.
    pub(super) written: Arc<Written>,
    /// The folder of the configuration file.
    pub(super) folder: &'a Path,
    /// Places whose values came from an interpolation.
    pub(super) interpolated: Vec<Looked>,
    /// Places whose interpolation failed.
    pub(super) failed: Vec<TreePath>,
    /// Places with a reported problem whose values were taken out.
    pub(super) troubled: Vec<TreePath>,
}

impl Tree<'_> {
    /// Whether a message may quote the value at `path`.
    pub(super) fn may_quote(&self, path: &TreePath) -> bool {
        !path.names_a_secret() && self.looked(path).is_none()
    }

    /// The interpolation that gave the value at `path`, or the one around it.
    fn looked(&self, path: &TreePath) -> Option<&Looked> {
        self.interpolated.iter().find(|looked| path.is_within(&looked.path))
    }

    /// Puts references back where problems quote what they stood for.
    pub(super) fn hide(&self, problems: &mut [Problem]) {
        for problem in problems {
            for looked in &self.interpolated {
                let place = looked.path.to_string();
                if place.starts_with(&problem.path) || problem.path.starts_with(&place) {
                    problem.message = looked.hide(&problem.message);
                    problem.remedy = problem.remedy.as_ref().map(|remedy| looked.hide(remedy));
                }
            }
        }
    }

    /// The text in quotes, or a stand-in where it may be a secret.
    pub(super) fn quoted(&self, path: &TreePath, text: &str) -> String {
        match self.looked(path) {
            Some(looked) => format!("the value of {}", looked.named()),
            None if self.may_quote(path) => format!("{text:?}"),
            None => "the value (hidden)".to_owned(),
        }
    }

    /// Whether a problem was reported at, above or below `path`.
    pub(super) fn has_trouble(&self, path: &TreePath) -> bool {
        self.troubled.iter().any(|place| place.is_within(path) || path.is_within(place))
    }

    /// Replaces every value below `path` that may be a secret in `message`.
    pub(super) fn scrubbed(&self, path: &TreePath, message: String) -> String {
        // What a reference stood for is known exactly, and replaced by the reference.
        let looked = self.interpolated.iter().filter(|looked| looked.path.is_within(path));
        let message = looked.fold(message, |message, looked| looked.hide(&message));
        let mut secrets = Vec::new();
        if let Some(value) = path.lookup(&self.root) {
            self.secrets(value, path, &mut secrets);
        }
        secrets.sort_by_key(|secret: &String| std::cmp::Reverse(secret.len()));
        secrets.iter().fold(message, |message, secret| message.replace(secret.as_str(), "***"))
    }

    fn secrets(&self, value: &Value, path: &TreePath, out: &mut Vec<String>) {
        match value {
            Value::String(text) if !text.is_empty() && !self.may_quote(path) => {
                let escaped = format!("{text:?}");
                out.push(escaped.trim_matches('"').to_owned());
                out.push(text.clone());
                // The password of a URL, should only that part be quoted.
                if let Some((_, rest)) = text.split_once("://")
                    && let Some((user, _)) = rest.rsplit_once('@')
                    && let Some((_, password)) = user.split_once(':')
                    && !password.is_empty()
                {
                    out.push(password.to_owned());
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.secrets(item, &path.index(index), out);
                }
            }
            Value::Object(map) => {
                for (key, item) in map {
                    self.secrets(item, &path.key(key), out);
                }
            }
            _ => {}
        }
    }
}

/// Runs every check and builds the configuration; all problems, earlier ones included, come
/// together.
pub(super) fn validate(
    tree: Tree<'_>,
    contracts: &Contracts,
    kinds: &Kinds,
    problems: Vec<Problem>,
) -> Result<Config, Vec<Problem>> {
    let mut checker = Checker { tree, contracts, kinds, problems };
    let config = checker.config();
    checker.tree.hide(&mut checker.problems);
    match config {
        Some(config) if checker.problems.is_empty() => Ok(config),
        _ if checker.problems.is_empty() => {
            Err(vec![Problem::new(Code("RT1099"), "configuration", "could not be read")])
        }
        _ => Err(checker.problems),
    }
}

/// What the checks share.
pub(super) struct Checker<'a> {
    pub(super) tree: Tree<'a>,
    pub(super) contracts: &'a Contracts,
    pub(super) kinds: &'a Kinds,
    pub(super) problems: Vec<Problem>,
}

const MIB: usize = 1024 * 1024;

impl Checker<'_> {
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reads one section. Where the schema found trouble in it, nothing more is said.
    pub(super) fn section<T: DeserializeOwned>(
        &mut self,
        value: Value,
        path: &TreePath,
    ) -> Option<T> {
        match serde_json::from_value(value) {
            Ok(section) => Some(section),
            Err(error) => {
                if !self.tree.has_trouble(path) {
                    let message = self.tree.scrubbed(path, error.to_string());
                    self.report(Problem::new(Code("RT1006"), path, message));
                }
                None
            }
        }
    }

    fn config(&mut self) -> Option<Config> {
        let root = TreePath::default();
        let raw: RawConfig = self.section(self.tree.root.clone(), &root)?;
        let memory = self.size(raw.memory, &root.key("memory"), 32 * MIB, MIB);
        let max_event = self.size(raw.max_event, &root.key("max_event"), 16 * MIB, 1024);
        let is_known = |field| !self.tree.has_trouble(&root.key(field));
        if max_event > memory && is_known("memory") && is_known("max_event") {
            let shown = |field, bytes: usize| match self.tree.looked(&root.key(field)) {
                Some(looked) => looked.named(),
                None => format!("{bytes} B"),
            };
            let (event, all) = (shown("max_event", max_event), shown("memory", memory));
            let message = format!("max_event ({event}) is larger than memory ({all})");
            let remedy = "Raise memory to at least max_event, or lower max_event.";
            self.report(Problem::new(Code("RT1023"), "max_event", message).remedy(remedy));
        }
        let shutdown_timeout = self.duration(
            raw.shutdown_timeout,
            &root.key("shutdown_timeout"),
            Duration::from_secs(30),
            Duration::from_millis(100)..=Duration::from_secs(3600),
        );
        let commit_interval = self.duration(
            raw.commit_interval,
            &root.key("commit_interval"),
            Duration::from_millis(250),
            Duration::from_millis(1)..=Duration::from_secs(60),
        );
        let state = raw.state.as_ref().and_then(Value::as_str).unwrap_or("./state");
        if state.is_empty() {
            self.report(Problem::new(Code("RT1006"), "state", "the folder's name is empty"));
        }
        let state_dir = PathBuf::from(state);
        let logs = self.logs(raw.logs);
        let ops = self.ops(raw.ops);
        let connectors = self.connectors(raw.connectors);
        Some(Config {
            connectors,
            state_dir,
            memory,
            max_event,
            shutdown_timeout,
            commit_interval,
            logs,
            ops,
        })
    }

    fn size(&mut self, raw: Option<Value>, path: &TreePath, default: usize, min: usize) -> usize {
        let Some(value) = raw else { return default };
        let Some(size) = self.section::<Size>(value, path) else { return default };
        match size.bytes() {
            Some(bytes) if bytes >= min => bytes,
            Some(_) => {
                let message = format!("must be at least {min} B");
                self.report(Problem::new(Code("RT1012"), path, message));
                default
            }
            None => {
                self.report(Problem::new(
                    Code("RT1012"),
                    path,
                    "is not a size this machine can hold",
                ));
                default
            }
        }
    }

    fn duration(
        &mut self,
        raw: Option<Value>,
        path: &TreePath,
        default: Duration,
        allowed: std::ops::RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = raw else { return default };
        let Some(text) = self.section::<String>(value, path) else { return default };
        match duration(&text) {
            Some(duration) if allowed.contains(&duration) => duration,
            Some(_) => {
                let message =
                    format!("must be between {:?} and {:?}", allowed.start(), allowed.end());
                self.report(Problem::new(Code("RT1012"), path, message));
                default
            }
            None => {
                self.report(Problem::new(Code("RT1012"), path, "is not a duration"));
                default
            }
        }
    }

    fn logs(&mut self, raw: Option<Value>) -> Logs {
        let path = TreePath::default().key("logs");
        let raw: Option<RawLogs> = raw.and_then(|value| self.section(value, &path));
        let raw = raw.unwrap_or_default();
        let level = raw.level.unwrap_or_else(|| "info".to_owned());
        if crate::ops::logs::filter(&level).is_err() {
            let path = path.key("level");
            let message = format!("{} is no level or filter", self.tree.quoted(&path, &level));
            let remedy = "Use error, warn, info, debug or trace, or directives such as \
                          info,rowtide_kafka=debug.";
            self.report(Problem::new(Code("RT1022"), path, message).remedy(remedy));
        }
        Logs { format: raw.format.unwrap_or_default(), level }
    }

    fn ops(&mut self, raw: Option<Value>) -> Option<SocketAddr> {
        let path = TreePath::default().key("ops");
        let raw: RawOps = raw.and_then(|value| self.section(value, &path))?;
        let address = raw.listen.parse().ok();
        if address.is_none() {
            let path = path.key("listen");
            let message =
                format!("{} is no address with a port", self.tree.quoted(&path, &raw.listen));
            let remedy = "Write an IP address and a port: 127.0.0.1:9187.";
            self.report(Problem::new(Code("RT1006"), path, message).remedy(remedy));
        }
        address
    }

    fn connectors(&mut self, raw: Option<Value>) -> Vec<ConnectorConfig> {
        let path = TreePath::default().key("connectors");
        let map = match raw {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        if map.is_empty() && !self.tree.has_trouble(&path) {
            let remedy = "Add at least one, with a source, a snapshot choice and a sink.";
            self.report(Problem::new(Code("RT1019"), &path, "no connectors").remedy(remedy));
        }
        let mut connectors = Vec::new();
        for (name, value) in map {
            let path = path.key(&name);
            self.check_name(&name, &path);
            let raw: Option<RawConnector> = self.section(value, &path);
            if let Some(connector) = raw.and_then(|raw| self.connector(name, raw, &path)) {
                connectors.push(connector);
            }
        }
        self.check_resources(&connectors);
        connectors
    }

    fn check_name(&mut self, name: &str, path: &TreePath) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let starts_well = name.bytes().next().is_some_and(plain);
        let is_plain = name.bytes().all(|b| plain(b) || b == b'_' || b == b'-');
        if !starts_well || !is_plain || name.len() > 63 {
            let message = "a connector's name has 1 to 63 characters a-z, 0-9, - and _, and begins \
                           with a letter or digit";
            self.report(Problem::new(Code("RT1011"), path, message));
        }
    }

    /// Two connectors may not use one slot, keep one publication in step, or write into one folder.
    fn check_resources(&mut self, connectors: &[ConnectorConfig]) {
        let mut owners: HashMap<String, (&str, &str)> = HashMap::new();
        for connector in connectors {
            let of_source = connector.source.factory.resources().into_iter();
            let of_sink = connector.sink.factory.resource().into_iter();
            let all = of_source.map(|resource| ("source", resource));
            for (side, resource) in all.chain(of_sink.map(|resource| ("sink", resource))) {
                let owner =
                    owners.entry(format!("{side} {resource}")).or_insert((&connector.name, side));
                if owner.0 != connector.name {
                    let path = TreePath::default().key("connectors").key(&connector.name).key(side);
                    let message = format!("{resource} is used by the connector {} too", owner.0);
                    let remedy = "Give each connector its own.";
                    self.report(Problem::new(Code("RT1015"), path, message).remedy(remedy));
                }
            }
        }
    }

    /// Takes `type` out of a source's or sink's settings. Nothing where the schema complained.
    pub(super) fn kind_of(settings: &mut Map<String, Value>) -> Option<String> {
        match settings.shift_remove("type") {
            Some(Value::String(kind)) => Some(kind),
            _ => None,
        }
    }

    /// Reports what a kind says about its own settings.
    pub(super) fn setting_problems(&mut self, found: Vec<super::SettingProblem>, path: &TreePath) {
        // What a kind says after parts of its settings were taken out may be noise.
        let is_own = |place: &TreePath| {
            let field = place.steps().get(path.steps().len());
            !matches!(field, Some(Step::Key(key)) if COMMON_SINK_FIELDS.contains(&key.as_str()))
        };
        let mut troubled = self.tree.troubled.iter();
        if troubled.any(|place| place.is_within(path) && is_own(place)) {
            return;
        }
        for problem in found {
            let place = match problem.field.as_str() {
                "" => path.to_string(),
                field => format!("{path}.{field}"),
            };
            let message = self.tree.scrubbed(path, problem.message);
            let code = problem.code.unwrap_or(Code("RT1018"));
            let mut reported = Problem::new(code, place, message);
            reported.remedy = problem.remedy.map(|remedy| self.tree.scrubbed(path, remedy));
            self.report(reported);
        }
    }
}

/// Whether a topic template can be rendered: only these placeholders, only legal characters.
pub(super) fn template_problem(
    template: &str,
    placeholders: &[&str],
) -> Option<(String, Option<String>)> {
    if template.is_empty() {
        return Some(("the topic is empty".to_owned(), None));
    }
    let mut rest = template;
    loop {
        let literal = rest.split('{').next().unwrap_or_default();
        let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !literal.bytes().all(is_legal) {
            let message = "beside placeholders a topic has only a-z, A-Z, 0-9, '.', '_' and '-'";
            return Some((message.to_owned(), None));
        }
        let (_, after) = rest.split_once('{')?;
        let Some((name, tail)) = after.split_once('}') else {
            return Some(("a placeholder is not closed".to_owned(), None));
        };
        if !placeholders.contains(&name) {
            let known = placeholders.iter().copied();
            let near = suggestion(name, known).map(|near| format!("Did you mean {{{near}}}?"));
            let known: Vec<String> =
                placeholders.iter().map(|placeholder| format!("{{{placeholder}}}")).collect();
            let known = format!("Known: {}.", known.join(", "));
            return Some(("an unknown placeholder".to_owned(), near.or(Some(known))));
        }
        rest = tail;
    }
}

/// The entries of a map in order, or nothing.
pub(super) fn entries(map: Option<OrderedMap<Value>>) -> Vec<(String, Value)> {
    map.unwrap_or_default().0
}

#[cfg(test)]
mod tests {
    use super::super::connector::PLACEHOLDERS;
    use super::*;

    #[test]
    fn templates() {
        for good in ["{name}.{schema}.{table}", "all", "{db}-{table}_x"] {
            assert_eq!(template_problem(good, &PLACEHOLDERS), None, "{good}");
        }
        for bad in ["", "a b", "{name", "{tabel}", "{name}}", "{}", "a/b"] {
            assert!(template_problem(bad, &PLACEHOLDERS).is_some(), "{bad}");
        }
        let (_, remedy) = template_problem("{tabel}", &PLACEHOLDERS).unwrap();
        assert_eq!(remedy.as_deref(), Some("Did you mean {table}?"));
        let (_, remedy) = template_problem("{schema}", &["name"]).unwrap();
        assert_eq!(remedy.as_deref(), Some("Known: {name}."));
    }
}
