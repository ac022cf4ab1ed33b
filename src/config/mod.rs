//! The configuration: layered, checked as a whole, then plain data for the host.
//!
//! `load` reads defaults, file and environment, resolves `${env:…}` and `${file:…}`,
//! validates against the committed JSON Schema and runs the semantic checks; every problem is
//! reported at once (what the settings of one source or sink mean together, once each has its form).
//! What comes out is a [`Config`] that the rest of the host can trust.
//!
//! This module knows no connector: each kind of source and sink is a [`SourceKind`] or a
//! [`SinkKind`] handed in by the registry, and a connector's own settings stay behind
//! [`SourceFactory`] and [`SinkFactory`].

mod amounts;
mod checks;
mod connector;
mod duplicates;
mod interpolate;
mod kinds;
mod layers;
mod load;
mod navigate;
mod problem;
mod raw;
mod renew;
mod schema;
mod verdict;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rowtide_sdk::{Hidden, Hiding};
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use connector::TOPIC_LEN_MAX;
pub use kinds::{
    BuildContext, KindSchema, Kinds, Parse, Proposal, ServerSlot, SettingProblem, SinkFactory,
    SinkKind, SourceFactory, SourceKind, Wanted,
};
pub use load::{Environment, load, load_text};
pub use problem::{Problem, Problems};
pub use renew::Renewal;
pub use schema::{document as schema_document, text as schema_text};

/// The whole configuration, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// The connectors, in the order of the file; names are unique.
    pub connectors: Vec<ConnectorConfig>,
    /// Where positions are kept when a sink cannot hold them. Default `./state`.
    pub state_dir: PathBuf,
    /// Bytes in flight over all connectors at most. Default 32 MiB, at least 1 MiB.
    pub memory: usize,
    /// The largest event in bytes; a larger one is poison. Default 16 MiB.
    pub max_event: usize,
    /// How long a stop may drain and commit before it gives up. Default 30 s.
    pub shutdown_timeout: Duration,
    /// How often a moved position is saved. Default 250 ms.
    pub commit_interval: Duration,
    /// How logs look.
    pub logs: Logs,
    /// Where metrics, readiness and status are served. Default nowhere.
    pub ops: Option<SocketAddr>,
}

/// One connector: a source, a sink and what happens between them.
#[derive(Debug, Clone)]
pub struct ConnectorConfig {
    /// The logical name: topic prefix, `source.name` of the envelope, name of its saved state.
    /// Matches `[a-z0-9][a-z0-9_-]*` and has at most 63 characters.
    pub name: String,
    /// The database.
    pub source: SourceConfig,
    /// Whether existing rows are read first.
    pub snapshot: Snapshot,
    /// Settings per table: `schema.table`, or a glob over it. Use [`ConnectorConfig::table`].
    pub tables: Vec<(String, TableConfig)>,
    /// The target.
    pub sink: SinkConfig,
    /// How records are named and dressed.
    pub routing: Routing,
    /// How many events are validated.
    pub validation: Validation,
    /// Where changes of the row schemas are told.
    pub schema_changes: SchemaChanges,
}

/// Where changes of the row schemas are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChanges {
    /// The topic that gets a record for every new version; `None` where none is written.
    pub topic: Option<String>,
    /// The folder that gets a file for every version.
    pub dir: Option<PathBuf>,
}

/// A source as configured; [`SourceFactory::build`] makes a fresh one for each run.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// The `type` in the file: `postgres`.
    pub kind: &'static str,
    /// Builds and checks it.
    pub factory: Arc<dyn SourceFactory>,
    /// Reads the files that its settings refer to anew.
    pub renewal: Option<Arc<Renewal<dyn SourceFactory>>>,
}

impl SourceConfig {
    /// [`SourceConfig::factory`], by what the files that its settings refer to hold now.
    ///
    /// # Errors
    /// Transient, where one of them cannot be read or used.
    pub fn renewed(&self) -> rowtide_sdk::Result<Arc<dyn SourceFactory>> {
        self.renewal.as_ref().map_or_else(|| Ok(Arc::clone(&self.factory)), |it| it.renewed())
    }
}

/// A sink as configured; [`SinkFactory::build`] makes a fresh one for each run.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// The `type` in the file: `kafka`, `jsonl`, `stdout`, `discard`.
    pub kind: &'static str,
    /// Builds and checks it.
    pub factory: Arc<dyn SinkFactory>,
    /// Reads the files that its settings refer to anew.
    pub renewal: Option<Arc<Renewal<dyn SinkFactory>>>,
}

impl SinkConfig {
    /// [`SinkConfig::factory`], by what the files that its settings refer to hold now.
    ///
    /// # Errors
    /// Transient, where one of them cannot be read or used.
    pub fn renewed(&self) -> rowtide_sdk::Result<Arc<dyn SinkFactory>> {
        self.renewal.as_ref().map_or_else(|| Ok(Arc::clone(&self.factory)), |it| it.renewed())
    }
}

/// Whether existing rows are read before the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Snapshot {
    /// Changes only.
    Never,
}

/// Settings of one table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableConfig {
    /// The entity key, in this order; `None` is the table's own.
    pub key: Option<Vec<String>>,
    /// Columns that never leave the host.
    pub exclude: Vec<String>,
    /// Columns whose values are replaced, in the order of the file.
    pub mask: Vec<(String, Mask)>,
    /// The user's JSON Schema of the row, already checked to be a valid schema.
    pub contract: Option<Arc<serde_json::Value>>,
    /// What happens to an event that cannot pass.
    pub on_violation: OnViolation,
    /// What events hold of columns whose value the log did not carry.
    pub unchanged: Unchanged,
}

/// What an event holds of a column that an update left as it was and whose value the log did not
/// carry. In each case the event says so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unchanged {
    /// Nothing: it is absent, and listed in `unchanged`.
    #[default]
    Omit,
    /// Its value, read back from the database (PostgreSQL) by the row's key and listed in `reselected`;
    /// where the row is not there any more or has changed since, as for `omit`.
    Reselect,
    /// This string where the column's values are strings or JSON, else nothing; it is listed in
    /// `unchanged` all the same.
    Placeholder(String),
}

/// How a masked value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// The lower-case hexadecimal SHA-256 of the value's text (README, "Masked values"), without salt:
    /// values that can be guessed can be found out. NULL stays null.
    Sha256,
    /// The string `***`. NULL stays null.
    Redact,
}

/// The policy for an event that can never pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnViolation {
    /// The connector stops with a coded error.
    #[default]
    Stop,
    /// A record goes to `{name}.dead_letter` and the connector goes on.
    DeadLetter,
}

/// How records are named and dressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// The topic with the placeholders `{name}`, `{db}`, `{schema}` and `{table}`; no other braces.
    /// Default `{name}.{schema}.{table}`.
    pub topic_template: String,
    /// Which headers records carry. Default none.
    pub headers: Headers,
    /// Whether a delete is followed by a tombstone. Default auto.
    pub tombstones: Tombstones,
}

/// Which headers records carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Headers {
    /// None.
    #[default]
    None,
    /// The event id.
    Id,
    /// Id, op, schema subject and version, content type.
    All,
}

/// Whether a delete is followed by a tombstone (a record with the key and no value).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tombstones {
    /// Where the topic compacts.
    #[default]
    Auto,
    /// After every delete.
    Always,
    /// Never.
    Never,
}

/// How many events are validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    /// Every event.
    #[default]
    Always,
    /// One in so many.
    Sample(NonZeroU64),
    /// None.
    Off,
}

/// How logs look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Text or JSON lines.
    pub format: LogFormat,
    /// A level (`info`) or filter directives (`info,rowtide_postgres=debug`).
    pub level: String,
}

/// Text or JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

static DEFAULT_TABLE: LazyLock<TableConfig> = LazyLock::new(TableConfig::default);

impl ConnectorConfig {
    /// The settings of a table: those under its exact name, else the first matching glob in the
    /// order of the file, else the defaults.
    pub fn table(&self, schema: &str, table: &str) -> &TableConfig {
        self.settings(schema, table).map_or(&DEFAULT_TABLE, |(_, config)| config)
    }

    /// The same, with the name or pattern that they are under; `None` where no settings are made for the
    /// table.
    pub fn settings(&self, schema: &str, table: &str) -> Option<&(String, TableConfig)> {
        let name = format!("{schema}.{table}");
        let exact = self.tables.iter().find(|(pattern, _)| *pattern == name);
        exact.or_else(|| self.tables.iter().find(|(pattern, _)| glob_matches(pattern, &name)))
    }
}

impl ConnectorConfig {
    /// Whether a key of [`ConnectorConfig::tables`] matches a table: by its exact name or as a glob.
    pub fn pattern_matches(&self, pattern: &str, schema: &str, table: &str) -> bool {
        let name = format!("{schema}.{table}");
        pattern == name || glob_matches(pattern, &name)
    }
}

impl ConnectorConfig {
    /// Whether the settings name this very table, rather than a glob that matches it. Every column
    /// they name must then exist; a glob's columns may be those of some tables only.
    pub fn names_exactly(&self, schema: &str, table: &str) -> bool {
        let name = format!("{schema}.{table}");
        self.tables.iter().any(|(pattern, _)| *pattern == name)
    }
}

impl ConnectorConfig {
    /// What the settings hide of tables; `None` where they hide nothing of any.
    pub fn hiding(&self) -> Option<Hiding> {
        let hides = |config: &TableConfig| !config.exclude.is_empty() || !config.mask.is_empty();
        if !self.tables.iter().any(|(_, config)| hides(config)) {
            return None;
        }
        let hidden = |config: &TableConfig| -> Vec<String> {
            let masked = config.mask.iter().map(|(column, _)| column);
            config.exclude.iter().chain(masked).cloned().collect()
        };
        let all = self.tables.iter().flat_map(|(_, config)| hidden(config));
        let all: BTreeSet<String> = all.collect();
        let connector = self.clone();
        Some(Hiding::new(all, move |schema, table| {
            let columns = hidden(connector.table(schema, table));
            Hidden { columns, is_named: connector.names_exactly(schema, table) }
        }))
    }
}

/// Whether a glob over `schema.table` matches; an invalid glob matches nothing (and is refused when
/// the configuration is loaded).
fn glob_matches(pattern: &str, name: &str) -> bool {
    globset::Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(name))
}
