//! The checks of one connector.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use rowtide_sdk::Code;
use serde_json::{Map, Value};

use super::checks::{Checker, entries, template_problem};
use super::problem::{Problem, TreePath};
use super::raw::{OrderedMap, RawConnector, RawRouting, RawSchemaChanges, RawTable};
use super::renew::Renewal;
use super::{
    ConnectorConfig, Mask, Routing, SchemaChanges, SinkConfig, Snapshot, SourceConfig, TableConfig,
    Unchanged, Validation,
};

/// Kafka's own limit.
pub(crate) const TOPIC_LEN_MAX: usize = 249;

/// The placeholders of a topic template.
pub(super) const PLACEHOLDERS: [&str; 4] = ["name", "db", "schema", "table"];

/// The fields that every sink has, taken out before its kind reads the rest.
pub(super) const COMMON_SINK_FIELDS: [&str; 3] = ["topic", "headers", "tombstones"];

impl Checker<'_> {
    /// Checks one connector; `None` where a problem was reported that leaves nothing to build.
    pub(super) fn connector(
        &mut self,
        name: String,
        raw: RawConnector,
        path: &TreePath,
    ) -> Option<ConnectorConfig> {
        let source = self.source(&name, raw.source, &path.key("source"));
        let snapshot =
            raw.snapshot.and_then(|value| self.section::<Snapshot>(value, &path.key("snapshot")));
        let tables = self.tables(raw.tables, &path.key("tables"));
        if source.as_ref().is_some_and(|source| !source.factory.reads_back()) {
            self.check_unchanged(&tables, &path.key("tables"));
        }
        let sink = self.sink(&name, raw.sink, &path.key("sink"));
        let validation = self.validation(raw.validation, &path.key("validation"));
        let schema_changes =
            self.schema_changes(&name, raw.schema_changes, &path.key("schema_changes"));
        let (sink, routing) = sink?;
        Some(ConnectorConfig {
            name,
            source: source?,
            snapshot: snapshot?,
            tables,
            sink,
            routing,
            validation,
            schema_changes,
        })
    }

    fn schema_changes(
        &mut self,
        connector: &str,
        raw: Option<Value>,
        path: &TreePath,
    ) -> SchemaChanges {
        let raw: RawSchemaChanges =
            raw.and_then(|value| self.section(value, path)).unwrap_or_default();
        let template = raw.topic.as_deref().unwrap_or("{name}.schema_changes");
        let topic = template.replace("{name}", connector);
        if let Some((message, remedy)) = template_problem(template, &["name"]) {
            let mut problem = Problem::new(Code("RT1016"), path.key("topic"), message);
            problem.remedy = remedy;
            self.report(problem);
        } else if topic == format!("{connector}.dead_letter") {
            let message = "the topic is that of the dead letters";
            self.report(Problem::new(Code("RT1016"), path.key("topic"), message));
        } else if topic.len() > TOPIC_LEN_MAX || topic == "." || topic == ".." {
            let message = "a topic has 1 to 249 characters and is neither . nor ..";
            self.report(Problem::new(Code("RT1016"), path.key("topic"), message));
        }
        SchemaChanges {
            topic: raw.enabled.unwrap_or(true).then_some(topic),
            dir: raw.dir.map(PathBuf::from),
        }
    }

    fn source(
        &mut self,
        connector: &str,
        raw: Option<Value>,
        path: &TreePath,
    ) -> Option<SourceConfig> {
        let mut settings = map(raw)?;
        let name = Self::kind_of(&mut settings)?;
        let kind = self.kinds.sources.iter().find(|kind| kind.name == name)?;
        match (kind.parse)(Value::Object(settings.clone()), self.tree.folder) {
            Ok(factory) => {
                let (written, place) = (&self.tree.written, (connector, "source"));
                let made = (settings, &factory);
                let renewal = Renewal::of(written, place, &[], kind.parse, made);
                Some(SourceConfig { kind: kind.name, factory, renewal })
            }
            Err(problems) => {
                self.setting_problems(problems, path);
                None
            }
        }
    }

    fn sink(
        &mut self,
        connector: &str,
        raw: Option<Value>,
        path: &TreePath,
    ) -> Option<(SinkConfig, Routing)> {
        let mut settings = map(raw)?;
        let mut common = Map::new();
        for field in COMMON_SINK_FIELDS {
            if let Some(value) = settings.shift_remove(field) {
                common.insert(field.to_owned(), value);
            }
        }
        let routing = self.routing(common, path);
        let name = Self::kind_of(&mut settings)?;
        let kind = self.kinds.sinks.iter().find(|kind| kind.name == name)?;
        match (kind.parse)(Value::Object(settings.clone()), self.tree.folder) {
            Ok(factory) => {
                let (written, place) = (&self.tree.written, (connector, "sink"));
                let made = (settings, &factory);
                let renewal = Renewal::of(written, place, &COMMON_SINK_FIELDS, kind.parse, made);
                Some((SinkConfig { kind: kind.name, factory, renewal }, routing?))
            }
            Err(problems) => {
                self.setting_problems(problems, path);
                None
            }
        }
    }

    fn routing(&mut self, common: Map<String, Value>, path: &TreePath) -> Option<Routing> {
        let raw: RawRouting = self.section(Value::Object(common), path)?;
        let topic_template = raw.topic.unwrap_or_else(|| "{name}.{schema}.{table}".to_owned());
        if let Some((message, remedy)) = template_problem(&topic_template, &PLACEHOLDERS) {
            let mut problem = Problem::new(Code("RT1016"), path.key("topic"), message);
            problem.remedy = remedy;
            self.report(problem);
        }
        Some(Routing { topic_template, headers: raw.headers, tombstones: raw.tombstones })
    }

    fn validation(&mut self, raw: Option<Value>, path: &TreePath) -> Validation {
        let text = raw.and_then(|value| self.section::<String>(value, path));
        match text.as_deref() {
            None | Some("always") => Validation::Always,
            Some("off") => Validation::Off,
            Some(text) => {
                let every = text.strip_prefix("sample:").and_then(|n| n.parse::<NonZeroU64>().ok());
                every.map_or_else(
                    || {
                        let message = "must be always, sample:N with N of 1 or more, or off";
                        self.report(Problem::new(Code("RT1006"), path, message));
                        Validation::Always
                    },
                    Validation::Sample,
                )
            }
        }
    }

    fn tables(&mut self, raw: Option<Value>, path: &TreePath) -> Vec<(String, TableConfig)> {
        let rules: Option<OrderedMap<Value>> = raw.and_then(|value| self.section(value, path));
        let mut tables = Vec::new();
        for (pattern, value) in entries(rules) {
            let path = path.key(&pattern);
            self.check_pattern(&pattern, &path);
            if let Some(raw) = self.section::<RawTable>(value, &path) {
                let table = self.table_rule(raw, &path);
                tables.push((pattern, table));
            }
        }
        tables
    }

    /// Of a source that does not read values back, none can be asked for.
    fn check_unchanged(&mut self, tables: &[(String, TableConfig)], path: &TreePath) {
        for (pattern, _) in tables.iter().filter(|(_, it)| it.unchanged == Unchanged::Reselect) {
            let message = "sources of this type read no values back";
            let remedy =
                "Take it out: with binlog_row_image=FULL on the server every value is in the log.";
            let place = path.key(pattern).key("unchanged");
            self.report(Problem::new(Code("RT1032"), place, message).remedy(remedy));
        }
    }

    fn check_pattern(&mut self, pattern: &str, path: &TreePath) {
        let (schema, table) = pattern.split_once('.').unwrap_or(("", ""));
        if schema.is_empty() || table.is_empty() {
            let message = "a table is named schema.table";
            let remedy = format!(
                "For PostgreSQL's default schema: public.{pattern}; for MySQL: database.{pattern}. A variable \
                 ROWTIDE__…__TABLES__NAME… changes tables that the file names, and adds none."
            );
            self.report(Problem::new(Code("RT1017"), path, message).remedy(remedy));
        } else if globset::Glob::new(pattern).is_err() {
            let message = "not a valid pattern";
            let remedy = "Use * and ? as wildcards; write [[] for a bracket itself.";
            self.report(Problem::new(Code("RT1017"), path, message).remedy(remedy));
        }
    }

    fn table_rule(&mut self, raw: RawTable, path: &TreePath) -> TableConfig {
        let mask = raw.columns.mask.0;
        let exclude = raw.columns.exclude;
        let key = raw.key;
        self.check_columns(key.as_deref().unwrap_or_default(), &exclude, &mask, path);
        let place = path.key("contract");
        let contract = raw.contract.and_then(|_| self.contract(&place));
        if let Some(contract) = &contract {
            self.check_contract_columns(contract, &exclude, &place);
        }
        let (on_violation, unchanged) = (raw.on_violation, raw.unchanged);
        TableConfig { key, exclude, mask, contract, on_violation, unchanged }
    }

    fn check_columns(
        &mut self,
        key: &[String],
        exclude: &[String],
        mask: &[(String, Mask)],
        path: &TreePath,
    ) {
        for (field, names) in [("key", key), ("columns.exclude", exclude)] {
            if let Some(twice) = first_repeated(names) {
                let message = format!("the column {twice} is named twice");
                self.report(Problem::new(Code("RT1017"), format!("{path}.{field}"), message));
            }
        }
        for column in key.iter().filter(|column| exclude.contains(column)) {
            let message = format!("the key column {column} is excluded");
            let remedy = "Events are keyed by it: take it out of columns.exclude or out of key.";
            let place = format!("{path}.columns.exclude");
            self.report(Problem::new(Code("RT1017"), place, message).remedy(remedy));
        }
        for (column, how) in mask {
            let place = path.key("columns").key("mask").key(column);
            if exclude.contains(column) {
                let message = "the column is excluded as well as masked";
                self.report(
                    Problem::new(Code("RT1017"), &place, message).remedy("Keep one of the two."),
                );
            }
            if key.contains(column) && *how == Mask::Redact {
                let message = "a redacted key column would give every row the same key";
                let remedy = "Mask it with sha256, or take it out of key.";
                self.report(Problem::new(Code("RT1017"), &place, message).remedy(remedy));
            }
        }
    }

    fn contract(&mut self, path: &TreePath) -> Option<Arc<Value>> {
        match self.contracts.get(path)? {
            Ok(contract) => match jsonschema::validator_for(contract) {
                Ok(_) => Some(Arc::new(contract.clone())),
                Err(error) => {
                    let message = format!("the contract is not a valid JSON Schema: {error}");
                    let remedy = "Contracts stand on their own: references to other files or \
                                  addresses are not followed.";
                    self.report(Problem::new(Code("RT1014"), path, message).remedy(remedy));
                    None
                }
            },
            Err((code, message)) => {
                let remedy = "The path is relative to the configuration file's folder.";
                self.report(Problem::new(*code, path, message.as_str()).remedy(remedy));
                None
            }
        }
    }

    /// A contract that requires a column which is excluded could never be kept.
    fn check_contract_columns(&mut self, contract: &Value, exclude: &[String], path: &TreePath) {
        let required = contract.get("required").and_then(Value::as_array).into_iter().flatten();
        for column in required.filter_map(Value::as_str) {
            if exclude.iter().any(|excluded| excluded == column) {
                let message =
                    format!("the contract requires the column {column}, which is excluded");
                let remedy = "Take it out of columns.exclude, or out of the contract's required.";
                self.report(Problem::new(Code("RT1017"), path, message).remedy(remedy));
            }
        }
    }
}

fn map(value: Option<Value>) -> Option<Map<String, Value>> {
    match value {
        Some(Value::Object(map)) => Some(map),
        _ => None,
    }
}

fn first_repeated(names: &[String]) -> Option<&String> {
    let mut seen = std::collections::HashSet::new();
    names.iter().find(|name| !seen.insert(name.as_str()))
}
