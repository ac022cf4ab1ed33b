//! Everything about a table version that can be decided once.

use std::fmt::Write as _;
use std::sync::Arc;

use rowtide_sdk::{Decode, Error, Identity, JsonWriter, Origin, SourceInfo, Table, TopicInfo};

use super::ENVELOPE_VERSION;
use super::schema_change::Announcement;
use crate::config::{Mask, OnViolation, Routing, TableConfig, Tombstones};
use crate::schema::{
    self, Assigned, KEY_NOT_LOGGED, KEY_NOT_SHOWN, Projection, RowSchema, TextValidator,
    UNKNOWN_COLUMN,
};

/// What a plan needs from its surroundings.
#[derive(Debug, Clone, Copy)]
pub struct PlanContext<'a> {
    /// The connector's name.
    pub name: &'a str,
    /// The source's constant facts.
    pub info: SourceInfo,
    /// The table's settings.
    pub config: &'a TableConfig,
    /// How records are routed.
    pub routing: &'a Routing,
}

/// Where a table's records go.
#[derive(Debug, Clone)]
pub struct TableRoute {
    /// The topic.
    pub topic: Arc<str>,
    /// What the sink knows of it.
    pub info: TopicInfo,
    /// The topic of the schema changes, where they are told.
    pub schema_changes: Option<Arc<str>>,
}

/// One column of a plan.
#[derive(Debug)]
pub(super) struct PlanColumn {
    /// `,"name":`.
    pub(super) prefix: Box<[u8]>,
    pub(super) decode: Arc<dyn Decode>,
    pub(super) mask: Option<Mask>,
    pub(super) visible: bool,
    /// Whether the table's row identity holds it.
    pub(super) is_identity: bool,
    /// What stands for a value that the log did not carry, as JSON.
    pub(super) placeholder: Option<Box<[u8]>>,
}

/// A table version, compiled.
#[derive(Debug)]
pub struct Plan {
    pub(super) table: Arc<Table>,
    pub(super) columns: Box<[PlanColumn]>,
    pub(super) names: Box<[Box<str>]>,
    pub(super) key: Box<[usize]>,
    /// `{"v":"1.1","id":"shop:`.
    pub(super) head: Box<[u8]>,
    /// From `,"schema":` to `"position":`.
    pub(super) source: Box<[u8]>,
    pub(super) subject: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) tombstones: bool,
    /// Whether the log of an update or delete lacks the old key, so that it cannot be published.
    pub(super) key_is_unlogged: bool,
    pub(super) on_violation: OnViolation,
    pub(super) residual: Option<(TextValidator, Box<[usize]>)>,
    pub(super) contract: Option<TextValidator>,
    /// The whole row schema and the key image's, for the first event of each shape.
    pub(super) row: TextValidator,
    pub(super) key_image: TextValidator,
    /// The shapes whose first event passed the whole schemas, one bit each.
    pub(super) proven_shapes: u32,
    /// What is to be told before the first event.
    pub(super) announcement: Option<Box<Announcement>>,
}

/// `{name}.{schema}.{table}` of the schema subject: real names, never sanitised.
pub(crate) fn subject(name: &str, table: &Table) -> String {
    let mut subject = name.to_owned();
    for part in [&table.schema, &table.name] {
        if !part.is_empty() {
            let _infallible = write!(subject, ".{part}");
        }
    }
    subject
}

/// The entity key's column indexes: as configured, else the primary key where the identity logs it,
/// else the identity's columns.
///
/// # Errors
/// Fatal where a configured column does not exist, or is not in the logged identity and the table's
/// policy is to stop.
pub(crate) fn key_columns(table: &Table, config: &TableConfig) -> Result<Vec<usize>, Error> {
    let full_name = || format!("{}.{}", table.schema, table.name);
    if let Some(names) = &config.key {
        let mut key = Vec::with_capacity(names.len());
        for name in names {
            let Some(index) = table.column_index(name) else {
                return Err(Error::fatal(
                    Origin::Config,
                    UNKNOWN_COLUMN,
                    format!(
                        "the key of {} names column {name}, which the log does not carry",
                        full_name()
                    ),
                )
                .with_remedy(
                    "correct `key` in the table's settings: where the column was renamed, to its new \
                     name, and start again",
                ));
            };
            let is_logged = table.columns.get(index).is_some_and(|column| column.is_identity);
            let may_be_put_aside = config.on_violation == OnViolation::DeadLetter;
            if table.identity != Identity::Full && !is_logged && !may_be_put_aside {
                return Err(Error::fatal(
                    Origin::Config,
                    KEY_NOT_LOGGED,
                    format!(
                        "key column {name} of {} is not in its replica identity, so that deletes would have no key",
                        full_name()
                    ),
                )
                .with_remedy(format!(
                    "take `key` out of the table's settings or choose one within the identity; or set on_violation: dead_letter, which puts updates and deletes aside; only changes logged later are mended by ALTER TABLE {} REPLICA IDENTITY FULL (or USING INDEX with a unique index over the key)",
                    quoted(table)
                )));
            }
            key.push(index);
        }
        return Ok(key);
    }
    Ok(match table.identity {
        Identity::Index => table
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.is_identity)
            .map(|(index, _)| index)
            .collect(),
        Identity::Default | Identity::Full | Identity::Nothing => table.primary_key.clone(),
    })
}

fn key_is_unlogged(table: &Table, key: &[usize]) -> bool {
    let is_logged =
        |index: &usize| table.columns.get(*index).is_some_and(|column| column.is_identity);
    table.identity != Identity::Full && !key.iter().all(is_logged)
}

fn quoted(table: &Table) -> String {
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quote(&table.schema), quote(&table.name))
}

/// Reports settings that name columns which the table does not have: where they are for the table's very
/// name all of them, else those that only the case of letters keeps from a column of it.
fn check_column_names(
    table: &Table,
    config: &TableConfig,
    names_exactly: bool,
) -> Result<(), Error> {
    let masked = config.mask.iter().map(|(name, _)| name);
    let names: Vec<&String> = config.exclude.iter().chain(masked).collect();
    for name in names.iter().filter(|name| table.column_index(name).is_none()) {
        let is_meant = |other: &&str| {
            other.to_lowercase() == name.to_lowercase() && !names.iter().any(|name| name == other)
        };
        let mut others = table.columns.iter().map(|column| column.name.as_str());
        let what = match others.find(is_meant) {
            Some(other) => {
                format!("and it has {other}, which another case of letters alone keeps from it")
            }
            None if names_exactly => "which the log does not carry".to_owned(),
            None => continue,
        };
        let message =
            format!("the settings of {}.{} name column {name}, {what}", table.schema, table.name);
        return Err(Error::fatal(Origin::Config, UNKNOWN_COLUMN, message).with_remedy(
            "correct `columns` in the table's settings: where the column was renamed, to its new \
             name, and start again; a name that protects nothing is refused. Where the table has it, let the \
             user in `url` see it (GRANT SELECT on the table): a column that it may not see is in the log all \
             the same",
        ));
    }
    Ok(())
}

/// Refuses a key column that must not leave, or whose mask makes all keys the same.
fn check_key_is_shown(table: &Table, config: &TableConfig, key: &[usize]) -> Result<(), Error> {
    for column in key.iter().filter_map(|&index| table.columns.get(index)) {
        let is_redacted = config.mask.contains(&(column.name.clone(), Mask::Redact));
        if !is_redacted && !config.exclude.contains(&column.name) {
            continue;
        }
        let what =
            if is_redacted { "redacted, so that all keys would be equal" } else { "excluded" };
        return Err(Error::fatal(
            Origin::Config,
            KEY_NOT_SHOWN,
            format!(
                "column {} of {}.{} is part of the key, and it is {what}",
                column.name, table.schema, table.name
            ),
        )
        .with_remedy("mask it with sha256, which keeps keys apart, or choose another `key`"));
    }
    Ok(())
}

impl Plan {
    /// The projection of a table under its settings. Where `names_exactly`, every column that is
    /// excluded or masked must exist; a glob's settings may name columns of some tables only, but not in
    /// another case than theirs.
    ///
    /// # Errors
    /// Fatal where the settings do not fit the table.
    pub fn projection(
        table: &Table,
        config: &TableConfig,
        names_exactly: bool,
    ) -> Result<Projection, Error> {
        check_column_names(table, config, names_exactly)?;
        let key = key_columns(table, config)?;
        check_key_is_shown(table, config, &key)?;
        Ok(Projection::new(table, config, key))
    }

    /// Compiles a table version.
    ///
    /// # Errors
    /// Fatal where a schema cannot be compiled.
    pub fn new(
        cx: &PlanContext<'_>,
        table: Arc<Table>,
        projection: &Projection,
        assigned: &Assigned,
        route: TableRoute,
    ) -> Result<Self, Error> {
        let subject = subject(cx.name, &table);
        let schema = &assigned.schema;
        let residual = match RowSchema::residual(&table, projection) {
            Some(residual) => Some((
                schema::compile(&residual.schema, "the residual row schema")?,
                residual.columns.into_boxed_slice(),
            )),
            None => None,
        };
        let contract = match &cx.config.contract {
            Some(contract) => {
                Some(schema::compile(contract, &format!("the contract of {subject}"))?)
            }
            None => None,
        };
        let version = assigned.version.to_string();
        let announcement =
            assigned.change.as_ref().zip(route.schema_changes).map(|(change, topic)| {
                let place = (topic, subject.as_str());
                Box::new(Announcement::new(cx, &table, projection, assigned, change, place))
            });
        Ok(Self {
            columns: columns(&table, projection),
            names: table.columns.iter().map(|column| column.name.as_str().into()).collect(),
            key: projection.key.clone().into_boxed_slice(),
            head: head(cx.name),
            source: source(cx, &table, &subject, &version),
            tombstones: match cx.routing.tombstones {
                Tombstones::Always => true,
                Tombstones::Never => false,
                Tombstones::Auto => route.info.compacts,
            },
            key_is_unlogged: cx.config.key.is_some() && key_is_unlogged(&table, &projection.key),
            on_violation: cx.config.on_violation,
            residual,
            contract,
            row: schema::compile(&schema.row, &subject)?,
            key_image: schema::compile(&schema.key_image, &subject)?,
            proven_shapes: 0,
            announcement,
            subject: subject.into(),
            version: version.into(),
            topic: route.topic,
            table,
        })
    }
}

fn columns(table: &Table, projection: &Projection) -> Box<[PlanColumn]> {
    table
        .columns
        .iter()
        .zip(&projection.columns)
        .map(|(column, view)| {
            let mut prefix = JsonWriter::default();
            prefix.byte(b',');
            prefix.string(&column.name);
            prefix.byte(b':');
            PlanColumn {
                prefix: prefix.into_inner().into_boxed_slice(),
                decode: Arc::clone(&column.decode),
                mask: view.mask,
                visible: view.visible,
                is_identity: column.is_identity,
                placeholder: view.placeholder.as_deref().map(json_string),
            }
        })
        .collect()
}

fn json_string(text: &str) -> Box<[u8]> {
    let mut out = JsonWriter::default();
    out.string(text);
    out.into_inner().into_boxed_slice()
}

fn head(name: &str) -> Box<[u8]> {
    let mut out = JsonWriter::default();
    out.raw(b"{\"v\":");
    out.string(ENVELOPE_VERSION);
    out.raw(b",\"id\":\"");
    out.string_part(name);
    out.byte(b':');
    out.into_inner().into_boxed_slice()
}

fn source(cx: &PlanContext<'_>, table: &Table, subject: &str, version: &str) -> Box<[u8]> {
    let mut out = JsonWriter::default();
    out.raw(b",\"schema\":");
    write_reference(subject, version, &mut out);
    write_source(cx, table, &mut out);
    out.into_inner().into_boxed_slice()
}

/// Writes `{"subject":…,"version":…}`.
pub(super) fn write_reference(subject: &str, version: &str, out: &mut JsonWriter) {
    out.raw(b"{\"subject\":");
    out.string(subject);
    out.raw(b",\"version\":");
    out.string(version);
    out.byte(b'}');
}

/// Writes the source block from its comma to `"position":`.
pub(super) fn write_source(cx: &PlanContext<'_>, table: &Table, out: &mut JsonWriter) {
    out.raw(b",\"source\":{\"connector\":");
    out.string(cx.info.connector);
    for (field, value) in
        [("name", cx.name), ("db", &table.db), ("schema", &table.schema), ("table", &table.name)]
    {
        out.byte(b',');
        out.string(field);
        out.byte(b':');
        out.string(value);
    }
    out.raw(b",\"position\":");
}
