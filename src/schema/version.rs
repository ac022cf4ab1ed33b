//! Schema versions, and the host's state that is saved with every position.
//!
//! A version is assigned when the first event of a new table version is encoded. Whether it is new is
//! decided by comparing fingerprints with the newest version of the subject, and nothing else: the
//! state is saved atomically with the position of the batch that first used it, so a replay starts
//! from the state as of its position and assigns, and tells, the same versions again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rowtide_sdk::{Code, Error, KnownTable, Note, Origin, Sighting, Sightings, Table};
use serde::{Deserialize, Serialize};

use super::SUBJECT_COLLISION;
use super::change::{Compatibility, VersionChange};
use super::form::is_masked;
use super::record::VersionRecord;
use super::row::{Projection, RowSchema};

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

/// The host's state as it stands in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostState {
    /// The newest version per subject.
    schemas: BTreeMap<String, VersionRecord>,
    /// The resources this connector holds (replication slots).
    #[serde(default)]
    pub claims: Vec<String>,
    /// Under which names tables were seen, of which something is hidden.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sightings: Vec<Sighting>,
    /// What the source noted for its next run; its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
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

/// What stands for a schema where a sighting is of a pattern's settings: no schema is called so.
const NO_SCHEMA: &str = "";

/// Assigns versions and keeps the state to be saved.
#[derive(Debug)]
pub struct Versions {
    state: HostState,
    rendered: Arc<str>,
    sightings: Sightings,
    note: Note,
}

impl Versions {
    /// Starts from a saved state.
    ///
    /// # Errors
    /// Fatal where the state cannot be rendered.
    pub fn new(state: HostState) -> Result<Self, Error> {
        let rendered = state.render()?;
        let sightings = Sightings::new(state.sightings.clone());
        let note = Note::new(state.note.as_deref().map(Arc::from));
        Ok(Self { state, rendered, sightings, note })
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

    /// The state as of the last assigned version.
    pub fn state(&self) -> &HostState {
        &self.state
    }

    /// Where the source notes under which names it sees tables.
    pub fn sightings(&self) -> Sightings {
        self.sightings.clone()
    }

    /// Notes that settings under a pattern hide a column.
    pub fn note_hidden_under(&self, pattern: &str, column: &str) {
        self.sightings.note_hidden(NO_SCHEMA, pattern, 0, (column, 0));
    }

    /// The columns that settings under a pattern hide or hid, of whatever table.
    pub fn hidden_under(&self, pattern: &str) -> Vec<String> {
        let hidden = self.sightings.hidden_of(NO_SCHEMA, pattern, 0);
        hidden.into_iter().map(|(column, _)| column).collect()
    }

    /// Where the source notes what its next run shall know.
    pub fn note(&self) -> Note {
        self.note.clone()
    }

    /// Takes over what the source has seen and noted, to be saved.
    ///
    /// # Errors
    /// Fatal where the new state cannot be rendered.
    pub fn keep_notes(&mut self) -> Result<(), Error> {
        let (sightings, note) = (self.sightings.unsaved(), self.note.unsaved());
        if sightings.is_none() && note.is_none() {
            return Ok(());
        }
        if let Some(sightings) = sightings {
            self.state.sightings = sightings;
        }
        if let Some(note) = note {
            self.state.note = Some(note.to_string());
        }
        self.rendered = self.state.render()?;
        Ok(())
    }

    /// The state as of the last assigned version, as text.
    pub fn rendered(&self) -> Arc<str> {
        Arc::clone(&self.rendered)
    }

    /// The other subjects under which this very table was captured before.
    fn others<'a>(
        &'a self,
        table: &'a Table,
    ) -> impl Iterator<Item = (&'a String, &'a VersionRecord)> {
        self.state.schemas.iter().filter(|(_, record)| {
            table.incarnation != 0
                && record.incarnations.contains(&table.incarnation)
                && (record.schema != table.schema || record.table != table.name)
        })
    }

    /// The other names, by schema and table, under which rows of this very table came or would have
    /// come before.
    pub fn other_names(&self, table: &Table) -> BTreeSet<(String, String)> {
        let named =
            |(_, record): (_, &VersionRecord)| (record.schema.clone(), record.table.clone());
        let mut names: BTreeSet<_> = self.others(table).map(named).collect();
        names.extend(self.sightings.names_of(table));
        names.remove(&(table.schema.clone(), table.name.clone()));
        names
    }

    /// The columns, hidden ones included, that this very table had under its name before: when its
    /// newest version was assigned, else when it was first seen; `None` where it was not.
    pub fn columns_before(&self, subject: &str, table: &Table) -> Option<Vec<String>> {
        let Some(record) = self.newest(subject, table) else {
            return self.sightings.columns_of(table);
        };
        let shown = record.columns.iter().map(|column| column.name.clone());
        Some(shown.chain(record.excluded.iter().cloned()).collect())
    }

    /// The newest version of this very table under its name.
    fn newest(&self, subject: &str, table: &Table) -> Option<&VersionRecord> {
        self.state.schemas.get(subject).filter(|record| {
            record.incarnations.contains(&table.incarnation)
                && (record.schema == table.schema && record.table == table.name)
        })
    }

    /// The columns that the settings hid, left out or masked, when this very table's newest version was
    /// assigned under its name.
    pub fn hidden_before(&self, subject: &str, table: &Table) -> Vec<String> {
        let Some(record) = self.newest(subject, table) else { return Vec::new() };
        let masked = record.columns.iter().filter(|column| is_masked(&column.form));
        let masked = masked.map(|column| column.name.clone());
        record.excluded.iter().cloned().chain(masked).collect()
    }

    /// Assigns the version of a table: the subject's newest one where the fingerprint is the same,
    /// else the next. `topic` is where changes are told, where they are.
    ///
    /// # Errors
    /// `RT5030`, fatal, where another table has the subject; where the new state cannot be rendered.
    pub fn assign(
        &mut self,
        subject: &str,
        table: &Table,
        projection: &Projection,
        topic: Option<&str>,
    ) -> Result<Assigned, Error> {
        let schema = RowSchema::derive(subject, table, projection);
        let mut record = VersionRecord::of(table, projection, &schema);
        let Some(newest) = self.state.schemas.get_mut(subject) else {
            let from = self.others(table).map(|(subject, _)| subject.clone()).collect();
            record.incarnate(table.incarnation);
            record.told = topic.map(str::to_owned);
            let change = Some(VersionChange::initial(from));
            self.state.schemas.insert(subject.to_owned(), record);
            self.rendered = self.state.render()?;
            let version = SchemaVersion { major: 1, minor: 0 };
            return Ok(Assigned { version, schema, is_new: true, change });
        };
        if newest.schema != table.schema || newest.table != table.name {
            let known = (newest.schema.as_str(), newest.table.as_str());
            return Err(subject_collision(subject, known, (&table.schema, &table.name)));
        }
        let is_told = topic.is_none_or(|topic| newest.told.as_deref() == Some(topic));
        if newest.fingerprint == record.fingerprint {
            let version = newest.version;
            let is_new_table = newest.incarnate(table.incarnation);
            if !is_told {
                newest.told = topic.map(str::to_owned);
            }
            let has_changed = newest.excluded != record.excluded || newest.facts != record.facts;
            newest.excluded = record.excluded;
            // What the source knows of a table may be new where nothing of it is shown.
            newest.facts = record.facts;
            if is_new_table || !is_told || has_changed {
                self.rendered = self.state.render()?;
            }
            let change = (!is_told).then(|| VersionChange::initial(Vec::new()));
            return Ok(Assigned { version, schema, is_new: false, change });
        }
        let change = VersionChange::between(newest, &record);
        let SchemaVersion { major, minor } = newest.version;
        record.version = if change.compatibility == Compatibility::Breaking {
            SchemaVersion { major: major.saturating_add(1), minor: 0 }
        } else {
            SchemaVersion { major, minor: minor.saturating_add(1) }
        };
        record.incarnations = std::mem::take(&mut newest.incarnations);
        record.incarnate(table.incarnation);
        record.told = topic.map(str::to_owned);
        let version = record.version;
        *newest = record;
        self.rendered = self.state.render()?;
        Ok(Assigned { version, schema, is_new: true, change: Some(change) })
    }
}

/// A table's version, as assigned.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// The version.
    pub version: SchemaVersion,
    /// Its schemas.
    pub schema: RowSchema,
    /// Whether it was assigned just now.
    pub is_new: bool,
    /// What is to be told of it: it is new, or its topic was not told of it so far.
    pub change: Option<VersionChange>,
}

/// The refusal of two tables, each by schema and name, that have one subject.
pub(crate) fn subject_collision(subject: &str, one: (&str, &str), other: (&str, &str)) -> Error {
    let message = format!(
        "the table {:?} of schema {:?} and the table {:?} of schema {:?} both have the schema \
         subject {subject}",
        one.1, one.0, other.1, other.0
    );
    Error::fatal(Origin::Config, SUBJECT_COLLISION, message)
        .with_remedy("leave one of them out by `source.tables.exclude`, or rename it")
}

#[cfg(test)]
mod tests {
    use rowtide_sdk::{Form, Identity, StringKind};

    use super::super::record::INCARNATIONS_MAX;
    use super::*;
    use crate::config::{TableConfig, Unchanged};
    use crate::envelope::testing::{table, text_column};

    fn told(versions: &mut Versions, table: &Table, topic: Option<&str>) -> Assigned {
        let projection = Projection::new(table, &TableConfig::default(), table.primary_key.clone());
        versions.assign("shop.public.t", table, &projection, topic).unwrap()
    }

    fn assign(versions: &mut Versions, table: &Table) -> (String, bool) {
        let assigned = told(versions, table, None);
        (assigned.version.to_string(), assigned.is_new)
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
            versions.assign("shop.public.t", &t, &projection, None).unwrap().version.to_string()
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
        let names = |table: &Table| Vec::from_iter(versions.other_names(table));
        assert_eq!(names(&renamed), [(first.schema.clone(), "t".to_owned())]);
        assert_eq!(names(&first), []);
        let stranger = Table { incarnation: 99, ..renamed };
        assert_eq!(names(&stranger), []);
        // What a source has seen counts like what had events.
        versions.sightings().note("public", "root", &[], stranger.incarnation);
        let root = [("public".to_owned(), "root".to_owned())];
        assert_eq!(Vec::from_iter(versions.other_names(&stranger)), root);
        versions.keep_notes().unwrap();
        let saved = HostState::parse(&versions.rendered()).unwrap();
        let again = Versions::new(saved).unwrap();
        assert_eq!(Vec::from_iter(again.other_names(&stranger)), root);
        assign(&mut versions, &first);
    }

    #[test]
    fn tables_without_a_number_have_nothing_in_common() {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let first = Table { incarnation: 0, ..table("t", vec![text_column("id")]) };
        assign(&mut versions, &first);
        let second = Table { name: "u".to_owned(), ..first };
        assert!(versions.other_names(&second).is_empty());
        let projection = Projection::new(&second, &TableConfig::default(), vec![0]);
        let assigned = versions.assign("shop.public.u", &second, &projection, None).unwrap();
        assert!(assigned.change.unwrap().reasons.is_empty());
    }

    #[test]
    fn the_columns_before_are_known_with_those_left_out() {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let mut t = table("t", vec![text_column("id")]);
        let before = |versions: &Versions, t: &Table| versions.columns_before("shop.public.t", t);
        assert_eq!(before(&versions, &t), None);
        versions.sightings().note(&t.schema, "t", &["id".to_owned()], t.incarnation);
        assert_eq!(before(&versions, &t).unwrap(), ["id"]);
        // A column that is left out changes no version, and is remembered all the same.
        let config = TableConfig { exclude: vec!["ssn".to_owned()], ..TableConfig::default() };
        for columns in [vec!["id"], vec!["id", "ssn"]] {
            t.columns = columns.iter().map(|name| text_column(name)).collect();
            let projection = Projection::new(&t, &config, t.primary_key.clone());
            let assigned = versions.assign("shop.public.t", &t, &projection, None).unwrap();
            assert_eq!(assigned.version.to_string(), "1.0");
            let saved = HostState::parse(&versions.rendered()).unwrap();
            assert_eq!(before(&Versions::new(saved).unwrap(), &t).unwrap(), columns);
        }
        let another = Table { incarnation: 99, ..t };
        assert_eq!(before(&versions, &another), None);
    }

    #[test]
    fn a_topic_is_told_of_every_version_once() {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let mut t = table("t", vec![text_column("id")]);
        assert!(told(&mut versions, &t, None).change.is_some(), "new, for the log");
        assert!(told(&mut versions, &t, None).change.is_none());
        // A topic is set later, and then another one.
        for topic in ["a", "b"] {
            let change = told(&mut versions, &t, Some(topic)).change.unwrap();
            assert_eq!((change.previous, change.compatibility), (None, Compatibility::Initial));
            let state = HostState::parse(&versions.rendered()).unwrap();
            versions = Versions::new(state).unwrap();
            assert!(told(&mut versions, &t, Some(topic)).change.is_none());
        }
        t.columns.push(text_column("a"));
        let change = told(&mut versions, &t, Some("b")).change.unwrap();
        assert_eq!(change.previous.unwrap().to_string(), "1.0");
        t.columns.push(text_column("b"));
        told(&mut versions, &t, None);
        let change = told(&mut versions, &t, Some("b")).change.unwrap();
        assert_eq!(change.previous, None, "the topic was off when the version came");
    }

    #[test]
    fn a_renamed_table_names_its_earlier_subjects() {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let first = table("t", vec![text_column("id")]);
        assign(&mut versions, &first);
        let renamed = Table { name: "u".to_owned(), ..first };
        let projection = Projection::new(&renamed, &TableConfig::default(), vec![0]);
        let assigned = versions.assign("shop.public.u", &renamed, &projection, None).unwrap();
        let reasons = serde_json::to_value(assigned.change.unwrap().reasons).unwrap();
        let expected = serde_json::json!([
            { "kind": "table_renamed", "from": ["shop.public.t"], "breaking": false }
        ]);
        assert_eq!(reasons, expected);
    }

    #[test]
    fn two_tables_never_share_a_subject() {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let one = Table { schema: "a".to_owned(), ..table("b.c", vec![text_column("id")]) };
        let two = Table { schema: "a.b".to_owned(), name: "c".to_owned(), ..one.clone() };
        let projection = Projection::new(&one, &TableConfig::default(), vec![0]);
        versions.assign("shop.a.b.c", &one, &projection, None).unwrap();
        let error = versions.assign("shop.a.b.c", &two, &projection, None).unwrap_err();
        assert_eq!(error.code(), SUBJECT_COLLISION);
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
