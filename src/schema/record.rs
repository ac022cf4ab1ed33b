//! What is saved of a subject's newest schema version: enough to tell what the next one changes.

use rowtide_sdk::{Identity, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::form::form_text;
use super::row::{Projection, RowSchema, is_always_logged, is_never_null};
use super::version::SchemaVersion;
use crate::config::Mask;

/// One column as it was when its version was assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ColumnRecord {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) type_name: String,
    /// The JSON form, lengths left out: what decides whether consumers break.
    pub(super) form: String,
    /// Whether every row image carries it.
    pub(super) required: bool,
    /// Whether the log's row identity holds it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) identity: bool,
    /// Whether the log proves that it is never null.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) not_null: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The newest version of one subject. Fields that came later are absent from older states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VersionRecord {
    pub(super) version: SchemaVersion,
    pub(super) fingerprint: String,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) facts: String,
    pub(super) key: Vec<String>,
    pub(super) columns: Vec<ColumnRecord>,
    /// Every [`Table::incarnation`] that went by this name, the newest last.
    #[serde(default)]
    pub(super) incarnations: Vec<u64>,
    /// The one that the version is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) incarnation: Option<u64>,
    /// The row identity by its name in the published record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
    /// The columns that the settings leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) excluded: Vec<String>,
    /// The topic that the version was told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<String>,
}

/// So many incarnations of one name are remembered.
pub(super) const INCARNATIONS_MAX: usize = 256;

impl VersionRecord {
    /// The record of a table as version 1.0.
    pub(super) fn of(table: &Table, projection: &Projection, schema: &RowSchema) -> Self {
        let key = key_names(table, projection);
        Self {
            version: SchemaVersion { major: 1, minor: 0 },
            fingerprint: fingerprint(table, &key, schema),
            schema: table.schema.clone(),
            table: table.name.clone(),
            facts: table.facts.clone(),
            key,
            columns: columns(table, projection),
            incarnations: Vec::new(),
            incarnation: Some(table.incarnation),
            identity: Some(identity_name(table.identity).to_owned()),
            excluded: excluded(table, projection),
            told: None,
        }
    }

    /// Notes that a table goes by this name; whether that is new.
    pub(super) fn incarnate(&mut self, incarnation: u64) -> bool {
        if self.incarnations.contains(&incarnation) {
            return false;
        }
        self.incarnations.push(incarnation);
        let surplus = self.incarnations.len().saturating_sub(INCARNATIONS_MAX);
        self.incarnations.drain(..surplus);
        true
    }
}

/// The name of a row identity in saved states and published records.
pub(crate) fn identity_name(identity: Identity) -> &'static str {
    match identity {
        Identity::Default => "default",
        Identity::Full => "full",
        Identity::Index => "index",
        Identity::Nothing => "nothing",
    }
}

/// The names of the entity key's columns, in key order.
pub(crate) fn key_names(table: &Table, projection: &Projection) -> Vec<String> {
    let name = |index: &usize| table.columns.get(*index).map(|column| column.name.clone());
    projection.key.iter().filter_map(name).collect()
}

/// Everything that shapes what consumers see of the table's rows: one version, one schema, byte by
/// byte.
fn fingerprint(table: &Table, key: &[String], schema: &RowSchema) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    };
    part(&table.incarnation.to_string());
    part(identity_name(table.identity));
    part(&key.len().to_string());
    key.iter().for_each(|name| part(name));
    part(&schema.row.to_string());
    part(&schema.key_image.to_string());
    let digest = hash.finalize();
    let mut text = String::with_capacity(digest.len().saturating_mul(2));
    for byte in digest {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn excluded(table: &Table, projection: &Projection) -> Vec<String> {
    let views = table.columns.iter().zip(&projection.columns);
    views.filter(|(_, view)| !view.visible).map(|(column, _)| column.name.clone()).collect()
}

fn columns(table: &Table, projection: &Projection) -> Vec<ColumnRecord> {
    table
        .columns
        .iter()
        .zip(&projection.columns)
        .filter(|(_, view)| view.visible)
        .map(|(column, view)| ColumnRecord {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            form: form_text(&column.form, view.mask.map(mask_name), view.placeholder.as_deref()),
            required: view.placeholder.is_some() || is_always_logged(table, column),
            identity: table.identity == Identity::Full || column.is_identity,
            not_null: is_never_null(table, column),
        })
        .collect()
}

/// A mask's name in the configuration.
pub(crate) fn mask_name(mask: Mask) -> &'static str {
    match mask {
        Mask::Sha256 => "sha256",
        Mask::Redact => "redact",
    }
}
