//! The configuration as it is written in the file: the source of the published JSON Schema.
//!
//! Sections are kept as JSON until each is read on its own, so that one wrong section does not hide
//! the problems of the others.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::amounts::{DurationText, Size};
use super::{Headers, LogFormat, Mask, OnViolation, Snapshot, Tombstones, Unchanged};

/// Configuration of Rowtide.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(title = "Rowtide configuration", deny_unknown_fields)]
pub(super) struct RawConfig {
    /// The connectors, keyed by their logical names. A name is the topic prefix, the envelope's
    /// `source.name` and the name of the saved state: lower-case letters, digits, `-` and `_`.
    #[schemars(with = "OrderedMap<RawConnector>", required)]
    pub(super) connectors: Option<Value>,
    /// The folder where positions are kept when a sink cannot hold them. Default `./state`.
    #[schemars(with = "Option<String>")]
    pub(super) state: Option<Value>,
    /// Bytes in flight over all connectors at most. Default 32MiB.
    #[schemars(with = "Option<Size>")]
    pub(super) memory: Option<Value>,
    /// The largest event; a larger one meets the table's `on_violation`. Default 16MiB.
    #[schemars(with = "Option<Size>")]
    pub(super) max_event: Option<Value>,
    /// How long a stop may drain and commit before it gives up. Default 30s.
    #[schemars(with = "Option<DurationText>")]
    pub(super) shutdown_timeout: Option<Value>,
    /// How often a moved position is saved. Default 250ms.
    #[schemars(with = "Option<DurationText>")]
    pub(super) commit_interval: Option<Value>,
    /// How logs look.
    #[schemars(with = "Option<RawLogs>")]
    pub(super) logs: Option<Value>,
    /// Metrics, readiness and status over HTTP. Not served by default.
    #[schemars(with = "Option<RawOps>")]
    pub(super) ops: Option<Value>,
}

/// Metrics (`/metrics`, Prometheus' text format), readiness (`/ready`, `/live`) and status
/// (`/status`, JSON) over HTTP, without secrets and without row values.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ops")]
pub(super) struct RawOps {
    /// The address and port to listen on, such as `127.0.0.1:9187`. Nobody is asked to log in: keep
    /// it on loopback, or behind something that asks.
    pub(super) listen: String,
}

/// How logs look. They go to standard error.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Logs")]
pub(super) struct RawLogs {
    /// One line for people, or one JSON object per line. Default text.
    pub(super) format: Option<LogFormat>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or filter directives as in RUST_LOG, which comes
    /// first where it is set. Default info.
    pub(super) level: Option<String>,
}

/// One connector: a source, a sink and what happens between them.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Connector", deny_unknown_fields)]
pub(super) struct RawConnector {
    /// The database.
    #[schemars(required)]
    pub(super) source: Option<Value>,
    /// Whether existing rows are read first. Required, so that it is a choice.
    #[schemars(with = "Snapshot", required)]
    pub(super) snapshot: Option<Value>,
    /// Settings per table: `schema.table`, or a glob over it such as `public.*`.
    #[schemars(with = "Option<OrderedMap<RawTable>>")]
    pub(super) tables: Option<Value>,
    /// The target.
    #[schemars(required)]
    pub(super) sink: Option<Value>,
    /// How many events are validated: `always`, `sample:N` (one in N) or `off`. Default always.
    #[schemars(
        with = "Option<String>",
        regex(pattern = "^(always|off|sample:[1-9][0-9]{0,9})$"),
        extend("patternErrorMessage" = "must be always, sample:N with N of 1 or more, or off")
    )]
    pub(super) validation: Option<Value>,
    /// Where changes of the tables' schemas are told.
    #[schemars(with = "Option<RawSchemaChanges>")]
    pub(super) schema_changes: Option<Value>,
}

/// Where changes of the tables' schemas are told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SchemaChanges")]
pub(super) struct RawSchemaChanges {
    /// Whether a record is written to the topic for every new version. Default true.
    pub(super) enabled: Option<bool>,
    /// The topic, with the placeholder `{name}` (the connector). Default `{name}.schema_changes`.
    pub(super) topic: Option<String>,
    /// A folder that gets the JSON Schema of every version as a file:
    /// `<dir>/<subject>/<version>.schema.json`. Default: none.
    #[schemars(length(min = 1))]
    pub(super) dir: Option<String>,
}

/// Settings of one table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Table")]
pub(super) struct RawTable {
    /// The columns of the entity key, in this order: NOT NULL and unique, or rows share a key. Default:
    /// the primary key.
    #[schemars(length(min = 1))]
    pub(super) key: Option<Vec<String>>,
    /// What happens to columns.
    #[serde(default)]
    pub(super) columns: RawColumns,
    /// A file with a JSON Schema of the row, relative to the configuration file.
    pub(super) contract: Option<String>,
    /// What happens to an event that cannot pass. Default stop.
    #[serde(default)]
    pub(super) on_violation: OnViolation,
    /// What events hold of large columns that an update left as they were, as their value is not
    /// logged again. Default omit.
    #[serde(default)]
    pub(super) unchanged: Unchanged,
}

/// What happens to columns.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Columns")]
pub(super) struct RawColumns {
    /// Columns that never leave the host.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    /// Columns whose values are replaced.
    #[serde(default)]
    pub(super) mask: OrderedMap<Mask>,
}

/// The fields that every sink has.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RawRouting {
    /// The topic, with the placeholders `{name}` (the connector), `{db}`, `{schema}` and `{table}`.
    /// Default `{name}.{schema}.{table}`.
    pub(super) topic: Option<String>,
    /// Which headers records carry. Default none.
    #[serde(default)]
    pub(super) headers: Headers,
    /// Whether a delete is followed by a tombstone. Default auto.
    #[serde(default)]
    pub(super) tombstones: Tombstones,
}

/// A map in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OrderedMap<T>(pub(super) Vec<(String, T)>);

impl<T> Default for OrderedMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrderedMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = OrderedMap<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(OrderedMap(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OrderedMap<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Map_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let values = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": values })
    }
}
