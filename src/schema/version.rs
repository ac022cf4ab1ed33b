//! Schema versions, and the host's state that is saved with every position.
//!
//! A version is assigned when the first event of a new table version is encoded. Whether it is new is
//! decided by comparing fingerprints with the newest version of the subject, and nothing else: the
//! state is saved atomically with the position of the batch that first used it, so a replay starts
//! from the state as of its position and assigns the same versions again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rowtide_sdk::{Code, Column, Error, Form, Identity, KnownTable, Origin, StringKind, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::row::{ColumnView, Projection, is_always_logged};
use crate::config::Mask;

/// RT4005: the saved host state cannot be read.
const BAD_STATE: Code = Code("RT4005");

/// `major.minor`: a compatible change raises the minor, a breaking one the major.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SchemaVersion {
    /// Raised by breaking changes.
    pub major: u32,
    /// Raised by compatible changes.
    pub minor: u32,
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<SchemaVersion> for String {
    fn from(version: SchemaVersion) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for SchemaVersion {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (major, minor) = text.split_once('.').ok_or("a version is major.minor")?;
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Ok(Self { major, minor }),
            _ => Err("a version is major.minor"),
        }
    }
}

/// One column as it was when its version was assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ColumnRecord {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    /// The JSON form, lengths left out: what decides whether consumers break.
    form: String,
    required: bool,
}

/// The newest version of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct VersionRecord {
    version: SchemaVersion,
    fingerprint: String,
    schema: String,
    table: String,
    facts: String,
    key: Vec<String>,
    columns: Vec<ColumnRecord>,
    /// Every [`Table::incarnation`] that went by this name, the newest last.
    #[serde(default)]
    incarnations: Vec<u64>,
}

/// So many incarnations of one name are remembered.
const INCARNATIONS_MAX: usize = 256;

impl VersionRecord {
    /// Notes that a table goes by this name; whether that is new.
    fn incarnate(&mut self, incarnation: u64) -> bool {
        if self.incarnations.contains(&incarnation) {
            return false;
        }
        self.incarnations.push(incarnation);
        let surplus = self.incarnations.len().saturating_sub(INCARNATIONS_MAX);
        self.incarnations.drain(..surplus);
        true
    }
}

/// The host's state as it stands in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostState {
    /// The newest version per subject.
    schemas: BTreeMap<String, VersionRecord>,
    /// The resources this connector holds (replication slots).
    #[serde(default)]
    pub claims: Vec<String>,
}

impl HostState {
    /// Reads the document of a checkpoint.
    ///
    /// # Errors
    /// Fatal where it is not of this shape.
    pub fn parse(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| {
            Error::fatal(Origin::Host, BAD_STATE, "the saved schema versions cannot be read")
                .with_source(error)
        })
    }

    /// The document for a checkpoint.
    ///
    /// # Errors
    /// Fatal where it cannot be written as JSON, which no state of ours is known to cause.
    pub fn render(&self) -> Result<Arc<str>, Error> {
        serde_json::to_string(self).map(Arc::from).map_err(|error| {
            Error::fatal(Origin::Host, BAD_STATE, "the schema versions cannot be written")
                .with_source(error)
        })
    }

    /// What sources froze about the tables, for [`rowtide_sdk::SourceContext::known_tables`].
    pub fn known_tables(&self) -> Vec<KnownTable> {
        self.schemas
            .values()
            .map(|record| KnownTable {
                schema: record.schema.clone(),
                name: record.table.clone(),
                facts: record.facts.clone(),
            })
            .collect()
    }
}

/// Assigns versions and keeps the state to be saved.
#[derive(Debug)]
pub struct Versions {
    state: HostState,
    rendered: Arc<str>,
}

impl Versions {
    /// Starts from a saved state.
    ///
    /// # Errors
    /// Fatal where the state cannot be rendered.
    pub fn new(state: HostState) -> Result<Self, Error> {
        let rendered = state.render()?;
        Ok(Self { state, rendered })
    }

    /// Sets the claims to be saved.
    ///
    /// # Errors
    /// Fatal where the new state cannot be rendered.
    pub fn set_claims(&mut self, claims: &[String]) -> Result<(), Error> {
        if self.state.claims != claims {
            self.state.claims = claims.to_vec();
            self.rendered = self.state.render()?;
        }
        Ok(())
    }

    /// The state as of the last assigned version, as text.
    pub fn rendered(&self) -> Arc<str> {
        Arc::clone(&self.rendered)
    }

    /// The other names, by schema and table, under which this very table was captured before.
    pub fn other_names<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = (&'a str, &'a str)> {
        let is_other = |record: &&VersionRecord| {
            record.incarnations.contains(&table.incarnation)
                && (record.schema != table.schema || record.table != table.name)
        };
        let records = self.state.schemas.values().filter(is_other);
        records.map(|record| (record.schema.as_str(), record.table.as_str()))
    }

    /// The version of a table, and whether it is new: the subject's newest one where the fingerprint
    /// is the same, else the next.
    ///
    /// # Errors
    /// Fatal where the new state cannot be rendered.
    pub fn assign(
        &mut self,
        subject: &str,
        table: &Table,
        projection: &Projection,
    ) -> Result<(SchemaVersion, bool), Error> {
        let mut record = VersionRecord {
            version: SchemaVersion { major: 1, minor: 0 },
            fingerprint: fingerprint(table, projection),
            schema: table.schema.clone(),
            table: table.name.clone(),
            facts: table.facts.clone(),
            key: projection.key.iter().map(|&index| column_name(table, index)).collect(),
            columns: columns(table, projection),
            incarnations: Vec::new(),
        };
        if let Some(newest) = self.state.schemas.get_mut(subject) {
            let is_new_table = newest.incarnate(table.incarnation);
            if newest.fingerprint == record.fingerprint {
                let version = newest.version;
                if is_new_table {
                    self.rendered = self.state.render()?;
                }
                return Ok((version, false));
            }
            record.incarnations.clone_from(&newest.incarnations);
            let SchemaVersion { major, minor } = newest.version;
            record.version = if breaks(newest, &record) {
                SchemaVersion { major: major.saturating_add(1), minor: 0 }
            } else {
                SchemaVersion { major, minor: minor.saturating_add(1) }
            };
        }
        record.incarnate(table.incarnation);
        let version = record.version;
        self.state.schemas.insert(subject.to_owned(), record);
        self.rendered = self.state.render()?;
        Ok((version, true))
    }
}

fn column_name(table: &Table, index: usize) -> String {
    table.columns.get(index).map(|column| column.name.clone()).unwrap_or_default()
}

/// Everything that shapes what consumers see of the table's rows.
fn fingerprint(table: &Table, projection: &Projection) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    };
    part(&table.incarnation.to_string());
    part(match table.identity {
        Identity::Default => "default",
        Identity::Full => "full",
        Identity::Index => "index",
        Identity::Nothing => "nothing",
    });
    part(&format!("{:?}", projection.key));
    for (column, view) in table.columns.iter().zip(&projection.columns) {
        part(&column.name);
        part(&column.type_name);
        part(&form_without_lengths(&column.form));
        part(&format!("{:?}", declared_length(&column.form)));
        part(&format!(
            "{} {} {} {} {}",
            column.is_identity,
            column.may_be_unchanged,
            view.visible,
            view.in_key,
            view.mask.map_or("", mask_name)
        ));
        // Only where there is one: the fingerprints of other tables stay what they were.
        if let Some(text) = &view.placeholder {
            part(text);
        }
    }
    let digest = hash.finalize();
    let mut text = String::with_capacity(digest.len().saturating_mul(2));
    for byte in digest {
        text.push_str(&format!("{byte:02x}"));
    }
    text
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
            form: form_of(column, view),
            required: view.placeholder.is_some() || is_always_logged(table, column),
        })
        .collect()
}

/// What a consumer sees of a column, as stable text.
fn form_of(column: &Column, view: &ColumnView) -> String {
    let form = match view.mask {
        Some(mask) => mask_name(mask).to_owned(),
        None => form_without_lengths(&column.form),
    };
    match &view.placeholder {
        Some(text) => format!("{form} or {text:?}"),
        None => form,
    }
}

/// The form as stable text: what is saved must read the same to every later build.
fn form_without_lengths(form: &Form) -> String {
    match form {
        Form::Boolean => "boolean".to_owned(),
        Form::Integer { min, max } => format!("integer {min}..{max}"),
        Form::Float => "float".to_owned(),
        Form::String(kind) => kind.name().to_owned(),
        Form::Json => "json".to_owned(),
        Form::Array(element) => format!("array({})", form_without_lengths(element)),
        Form::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, form)| format!("{name:?} {}", form_without_lengths(form)))
                .collect();
            format!("object({})", fields.join(", "))
        }
        Form::Map => "map".to_owned(),
    }
}

fn mask_name(mask: Mask) -> &'static str {
    match mask {
        Mask::Sha256 => "masked sha256",
        Mask::Redact => "masked redact",
    }
}

/// The length that text is declared with, deep in the form.
fn declared_length(form: &Form) -> Option<u32> {
    match form {
        Form::String(StringKind::Text { max_chars }) => *max_chars,
        Form::Array(element) => declared_length(element),
        _ => None,
    }
}

/// Whether a consumer of the old version can fail on rows of the new one: a column went away, took
/// another form or may now be absent, or the key changed.
fn breaks(old: &VersionRecord, new: &VersionRecord) -> bool {
    old.key != new.key
        || old.columns.iter().any(|column| {
            new.columns.iter().find(|other| other.name == column.name).is_none_or(|other| {
                other.form != column.form || (column.required && !other.required)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TableConfig, Unchanged};
    use crate::envelope::testing::{table, text_column};

    fn assign(versions: &mut Versions, table: &Table) -> (String, bool) {
        let projection = Projection::new(table, &TableConfig::default(), table.primary_key.clone());
        let (version, is_new) = versions.assign("shop.public.t", table, &projection).unwrap();
        (version.to_string(), is_new)
    }

    #[test]
    fn versions_follow_the_changes_of_the_table() {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let mut t = table("t", vec![text_column("id"), text_column("a")]);
        assert_eq!(assign(&mut versions, &t), ("1.0".to_owned(), true));
        assert_eq!(assign(&mut versions, &t), ("1.0".to_owned(), false));
        t.columns.push(text_column("b"));
        assert_eq!(assign(&mut versions, &t), ("1.1".to_owned(), true));
        t.columns[1].form = Form::Boolean;
        assert_eq!(assign(&mut versions, &t), ("2.0".to_owned(), true));
        t.columns[2].type_name = "character varying(9)".to_owned();
        t.columns[2].form = Form::String(StringKind::Text { max_chars: Some(9) });
        assert_eq!(assign(&mut versions, &t), ("2.1".to_owned(), true));
        t.columns.remove(2);
        assert_eq!(assign(&mut versions, &t), ("3.0".to_owned(), true));
        t.incarnation += 1;
        assert_eq!(assign(&mut versions, &t), ("3.1".to_owned(), true));
        t.identity = Identity::Full;
        assert_eq!(assign(&mut versions, &t), ("3.2".to_owned(), true));

        let saved = HostState::parse(&versions.rendered()).unwrap();
        let mut replay = Versions::new(saved).unwrap();
        assert_eq!(assign(&mut replay, &t), ("3.2".to_owned(), false));
    }

    #[test]
    fn a_placeholder_is_part_of_the_version() {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let t = table("t", vec![text_column("id"), text_column("a")]);
        let mut assign = |unchanged| {
            let config = TableConfig { unchanged, ..TableConfig::default() };
            let projection = Projection::new(&t, &config, t.primary_key.clone());
            versions.assign("shop.public.t", &t, &projection).unwrap().0.to_string()
        };
        let placeholder = |text: &str| Unchanged::Placeholder(text.to_owned());
        assert_eq!(assign(Unchanged::Omit), "1.0");
        assert_eq!(assign(placeholder("-")), "2.0");
        assert_eq!(assign(placeholder("-")), "2.0");
        assert_eq!(assign(placeholder("?")), "3.0");
        assert_eq!(assign(Unchanged::Omit), "4.0");
    }

    #[test]
    fn a_table_is_known_by_every_name_it_had() {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let first = table("t", vec![text_column("id")]);
        let mut second = first.clone();
        second.incarnation += 1;
        assign(&mut versions, &first);
        // Another table takes the name, and the first one comes back under another.
        assign(&mut versions, &second);
        let mut versions = Versions::new(HostState::parse(&versions.rendered()).unwrap()).unwrap();
        let renamed = Table { name: "old".to_owned(), ..first.clone() };
        let names: Vec<_> = versions.other_names(&renamed).collect();
        assert_eq!(names, [(first.schema.as_str(), "t")]);
        assert_eq!(versions.other_names(&first).count(), 0);
        let stranger = Table { incarnation: 99, ..renamed };
        assert_eq!(versions.other_names(&stranger).count(), 0);
        assign(&mut versions, &first);
    }

    #[test]
    fn the_incarnations_of_a_name_are_bounded() {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let mut t = table("t", vec![text_column("id")]);
        for incarnation in 0..1000 {
            t.incarnation = incarnation;
            assign(&mut versions, &t);
        }
        let record = versions.state.schemas.values().next().unwrap();
        assert_eq!(record.incarnations.len(), INCARNATIONS_MAX);
        assert_eq!(record.incarnations.last(), Some(&999));
    }
}
