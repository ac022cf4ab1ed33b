//! What one schema version changes against the one before, and whether consumers can go on.
//!
//! Everything is worked out from the two descriptions alone, so that a replay comes to the same
//! words. The log tells names, types and identity as they are after a change, never the statement
//! that made it: a rename is an inference, and says how sure it is.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use super::form::{FormParts, is_within};
use super::record::{ColumnRecord, VersionRecord};
use super::version::SchemaVersion;

/// Whether a consumer of the version before can read events of the new one. Such a consumer leaves
/// columns that it does not know alone, and relies on the key and on the form and the presence of
/// those that it knows; declared lengths are not part of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compatibility {
    /// There is no version before, or it was told nowhere.
    Initial,
    /// It can.
    Compatible,
    /// It may fail.
    Breaking,
}

impl Compatibility {
    /// The name in the published record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Compatible => "compatible",
            Self::Breaking => "breaking",
        }
    }
}

/// A new version, or one that is told for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionChange {
    /// The version before; `None` where there is none, or where it was told nowhere.
    pub previous: Option<SchemaVersion>,
    /// Whether its consumers can go on.
    pub compatibility: Compatibility,
    /// What changed.
    pub reasons: Vec<Reason>,
}

impl VersionChange {
    /// The first version, of a table that had these subjects before.
    pub(super) fn initial(from: Vec<String>) -> Self {
        let renamed = Reason { what: What::TableRenamed { from }, breaking: false };
        let is_renamed = !matches!(&renamed.what, What::TableRenamed { from } if from.is_empty());
        Self {
            previous: None,
            compatibility: Compatibility::Initial,
            reasons: is_renamed.then_some(renamed).into_iter().collect(),
        }
    }

    /// What leads from one version to the next.
    pub(super) fn between(old: &VersionRecord, new: &VersionRecord) -> Self {
        let reasons = reasons(old, new);
        let is_breaking = reasons.iter().any(|reason| reason.breaking);
        let compatibility =
            if is_breaking { Compatibility::Breaking } else { Compatibility::Compatible };
        Self { previous: Some(old.version), compatibility, reasons }
    }
}

/// One thing that changed. Names and types, never values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// Whether it alone may break consumers.
    pub breaking: bool,
}

/// What changed, in the words of the published record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// The table was captured under other names before; their subjects.
    TableRenamed {
        /// The subjects.
        from: Vec<String>,
    },
    /// Another table goes by the name: the server's own numbers.
    TableRecreated {
        /// The number before.
        from: u64,
        /// The number now.
        to: u64,
    },
    /// The log carries another part of old rows.
    IdentityChanged {
        /// The identity before.
        from: String,
        /// The identity now.
        to: String,
        /// Its columns before, where it is a key or an index.
        from_columns: Vec<String>,
        /// Its columns now.
        to_columns: Vec<String>,
    },
    /// Events are keyed by other columns.
    KeyChanged {
        /// The columns before.
        from: Vec<String>,
        /// The columns now.
        to: Vec<String>,
    },
    /// The columns that stayed stand in another order.
    ColumnsReordered {
        /// The names before.
        from: Vec<String>,
        /// The names now.
        to: Vec<String>,
    },
    /// A column is new.
    ColumnAdded {
        /// Its name.
        column: String,
        /// Its type.
        #[serde(rename = "type")]
        type_name: String,
    },
    /// A column is gone.
    ColumnDropped {
        /// Its name.
        column: String,
        /// Its type.
        #[serde(rename = "type")]
        type_name: String,
    },
    /// A column of the same type stands under another name in the same place.
    ColumnRenamed {
        /// The name before.
        from: String,
        /// The name now.
        to: String,
        /// Its type.
        #[serde(rename = "type")]
        type_name: String,
        /// False where a dropped last column and an added one would look the same.
        certain: bool,
    },
    /// A column has another type.
    ColumnTypeChanged {
        /// Its name.
        column: String,
        /// The type before.
        from: String,
        /// The type now.
        to: String,
    },
    /// A column's type has another length, precision or scale.
    ColumnModifierChanged {
        /// Its name.
        column: String,
        /// The type before.
        from: String,
        /// The type now.
        to: String,
    },
    /// The configuration masks a column in another way.
    ColumnMaskChanged {
        /// Its name.
        column: String,
        /// `none`, `sha256` or `redact`.
        from: String,
        /// The same now.
        to: String,
    },
    /// The configuration has another placeholder for values that the log did not carry.
    ColumnPlaceholderChanged {
        /// The column's name.
        column: String,
        /// The placeholder in quotes, or `none`.
        from: String,
        /// The same now.
        to: String,
    },
    /// A column's value is left out of updates that do not touch it, or no more.
    ColumnPresenceChanged {
        /// Its name.
        column: String,
        /// `always` or `unless_unchanged`.
        from: &'static str,
        /// The same now.
        to: &'static str,
    },
    /// The log proves that a column is never null, or no more.
    ColumnNullabilityChanged {
        /// Its name.
        column: String,
        /// `nullable` or `not_null`.
        from: &'static str,
        /// The same now.
        to: &'static str,
    },
    /// Nothing of the above: this build words the schema differently.
    SchemaReworded {},
}

impl What {
    /// The kind's name in the published record.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TableRenamed { .. } => "table_renamed",
            Self::TableRecreated { .. } => "table_recreated",
            Self::IdentityChanged { .. } => "identity_changed",
            Self::KeyChanged { .. } => "key_changed",
            Self::ColumnsReordered { .. } => "columns_reordered",
            Self::ColumnAdded { .. } => "column_added",
            Self::ColumnDropped { .. } => "column_dropped",
            Self::ColumnRenamed { .. } => "column_renamed",
            Self::ColumnTypeChanged { .. } => "column_type_changed",
            Self::ColumnModifierChanged { .. } => "column_modifier_changed",
            Self::ColumnMaskChanged { .. } => "column_mask_changed",
            Self::ColumnPlaceholderChanged { .. } => "column_placeholder_changed",
            Self::ColumnPresenceChanged { .. } => "column_presence_changed",
            Self::ColumnNullabilityChanged { .. } => "column_nullability_changed",
            Self::SchemaReworded {} => "schema_reworded",
        }
    }

    /// The column that it is about; after a renaming its name now.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::ColumnRenamed { to: column, .. }
            | Self::ColumnAdded { column, .. }
            | Self::ColumnDropped { column, .. }
            | Self::ColumnTypeChanged { column, .. }
            | Self::ColumnModifierChanged { column, .. }
            | Self::ColumnMaskChanged { column, .. }
            | Self::ColumnPlaceholderChanged { column, .. }
            | Self::ColumnPresenceChanged { column, .. }
            | Self::ColumnNullabilityChanged { column, .. } => Some(column),
            Self::TableRenamed { .. }
            | Self::TableRecreated { .. }
            | Self::IdentityChanged { .. }
            | Self::KeyChanged { .. }
            | Self::ColumnsReordered { .. }
            | Self::SchemaReworded {} => None,
        }
    }
}

impl fmt::Display for What {
    /// Its kind, and its column in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        self.column().map_or(Ok(()), |column| write!(f, "({column})"))
    }
}

/// Gathers reasons.
#[derive(Debug, Default)]
struct Found(Vec<Reason>);

impl Found {
    fn note(&mut self, breaking: bool, what: What) {
        self.0.push(Reason { what, breaking });
    }
}

fn reasons(old: &VersionRecord, new: &VersionRecord) -> Vec<Reason> {
    let mut found = Found::default();
    let mut is_same_table = true;
    if let (Some(from), Some(to)) = (old.incarnation, new.incarnation)
        && from != to
    {
        is_same_table = false;
        found.note(false, What::TableRecreated { from, to });
    }
    identity(old, new, &mut found);
    if old.key != new.key {
        let what = What::KeyChanged { from: old.key.clone(), to: new.key.clone() };
        found.note(true, what);
    }
    nullability(old, new, &mut found);
    // What the settings hide or show now was there before, and has no other name.
    let told = old.excluded.iter().chain(&new.excluded).map(String::as_str).collect();
    columns((&old.columns, &new.columns), is_same_table.then_some(&told), &mut found);
    if found.0.is_empty() {
        found.note(false, What::SchemaReworded {});
    }
    found.0
}

/// Breaking where old images lose a column that is still there.
fn identity(old: &VersionRecord, new: &VersionRecord, found: &mut Found) {
    let (Some(from), Some(to)) = (&old.identity, &new.identity) else { return };
    let columns = |record: &VersionRecord, identity: &str| -> Vec<String> {
        let is_listed = |column: &&ColumnRecord| column.identity && identity != "full";
        record.columns.iter().filter(is_listed).map(|column| column.name.clone()).collect()
    };
    let (from_columns, to_columns) = (columns(old, from), columns(new, to));
    if from == to && from_columns == to_columns {
        return;
    }
    let loses = |column: &ColumnRecord| {
        column.identity
            && new.columns.iter().any(|other| other.name == column.name && !other.identity)
    };
    let breaking = old.columns.iter().any(loses);
    let (from, to) = (from.clone(), to.clone());
    found.note(breaking, What::IdentityChanged { from, to, from_columns, to_columns });
}

/// What the log proves of nulls follows from the identity: a column is what it was.
fn nullability(old: &VersionRecord, new: &VersionRecord, found: &mut Found) {
    let word = |column: &ColumnRecord| if column.not_null { "not_null" } else { "nullable" };
    for old in old.columns.iter().filter(|_| old.identity.is_some()) {
        let is_other = |new: &&ColumnRecord| new.name == old.name && new.not_null != old.not_null;
        if let Some(new) = new.columns.iter().find(is_other) {
            let (column, from, to) = (new.name.clone(), word(old), word(new));
            found.note(false, What::ColumnNullabilityChanged { column, from, to });
        }
    }
}

/// `hidden` names the columns that the settings leave out before or now; `None` where it is another table.
fn columns(
    (old, new): (&[ColumnRecord], &[ColumnRecord]),
    hidden: Option<&HashSet<&str>>,
    found: &mut Found,
) {
    let names = |columns: &[ColumnRecord]| -> Vec<String> {
        columns.iter().map(|column| column.name.clone()).collect()
    };
    let was: HashSet<&str> = old.iter().map(|column| column.name.as_str()).collect();
    let is: HashSet<&str> = new.iter().map(|column| column.name.as_str()).collect();
    let stayed = |column: &&ColumnRecord| {
        was.contains(column.name.as_str()) && is.contains(column.name.as_str())
    };
    let old_stayed: Vec<&ColumnRecord> = old.iter().filter(stayed).collect();
    let new_stayed: Vec<&ColumnRecord> = new.iter().filter(stayed).collect();
    let is_in_order = old_stayed.iter().zip(&new_stayed).all(|(old, new)| old.name == new.name);
    if is_in_order {
        let old_gaps = gaps(old, &is);
        let new_gaps = gaps(new, &was);
        let last = old_gaps.len().saturating_sub(1);
        for (index, (gone, come)) in old_gaps.iter().zip(&new_gaps).enumerate() {
            let is_told = |column: &&ColumnRecord| {
                hidden.is_some_and(|hidden| hidden.contains(column.name.as_str()))
            };
            let (told_gone, gone) = gone.iter().partition::<Vec<_>, _>(|column| is_told(column));
            let (told_come, come) = come.iter().partition::<Vec<_>, _>(|column| is_told(column));
            gap(&told_gone, &told_come, None, found);
            gap(&gone, &come, hidden.is_some().then_some(index != last), found);
        }
    } else {
        found.note(false, What::ColumnsReordered { from: names(old), to: names(new) });
        let gone: Vec<&ColumnRecord> = old.iter().filter(|column| !stayed(column)).collect();
        let come: Vec<&ColumnRecord> = new.iter().filter(|column| !stayed(column)).collect();
        gap(&gone, &come, None, found);
    }
    for old in old_stayed {
        if let Some(new) = new_stayed.iter().find(|new| new.name == old.name) {
            column(old, new, found);
        }
    }
}

/// The columns that are not in `others`, by the gaps between those that are.
fn gaps<'a>(columns: &'a [ColumnRecord], others: &HashSet<&str>) -> Vec<Vec<&'a ColumnRecord>> {
    let split = columns.split(|column| others.contains(column.name.as_str()));
    split.map(|gap| gap.iter().collect()).collect()
}

/// What came in the place of what. `renames` tells whether there can be renames, and whether they
/// are certain: new columns stand behind all others, so one that stands before an old one was there.
fn gap(gone: &[&ColumnRecord], come: &[&ColumnRecord], renames: Option<bool>, found: &mut Found) {
    let is_same = |(old, new): (&&ColumnRecord, &&ColumnRecord)| {
        old.type_name == new.type_name && old.form == new.form
    };
    let mut added = come;
    if let Some(certain) = renames
        && (gone.len() == come.len() || !certain && gone.len() < come.len())
        && gone.iter().zip(come).all(is_same)
    {
        for (old, new) in gone.iter().zip(come) {
            let (from, to) = (old.name.clone(), new.name.clone());
            let type_name = new.type_name.clone();
            found.note(true, What::ColumnRenamed { from, to, type_name, certain });
        }
        // Behind all others, more may have come.
        added = come.get(gone.len()..).unwrap_or_default();
    } else {
        for old in gone {
            let (column, type_name) = (old.name.clone(), old.type_name.clone());
            found.note(true, What::ColumnDropped { column, type_name });
        }
    }
    for new in added {
        let (column, type_name) = (new.name.clone(), new.type_name.clone());
        found.note(false, What::ColumnAdded { column, type_name });
    }
}

/// What changed of a column that stayed.
fn column(old: &ColumnRecord, new: &ColumnRecord, found: &mut Found) {
    let name = || new.name.clone();
    let (was, is) = (FormParts::of(&old.form), FormParts::of(&new.form));
    let is_masked_alike = was.mask == is.mask;
    if !is_masked_alike {
        let (from, to) = (was.mask.to_owned(), is.mask.to_owned());
        found.note(true, What::ColumnMaskChanged { column: name(), from, to });
    }
    if was.placeholder != is.placeholder {
        let (from, to) = (was.placeholder.to_owned(), is.placeholder.to_owned());
        let breaking = is.placeholder != "none";
        found.note(breaking, What::ColumnPlaceholderChanged { column: name(), from, to });
    }
    let has_form = !is_masked_alike || is_within(was.form, is.form);
    let (from, to) = (old.type_name.clone(), new.type_name.clone());
    if from != to || (is_masked_alike && was.form != is.form) {
        let is_modifier = from != to && has_form && bare(&from) == bare(&to);
        let what = if is_modifier {
            What::ColumnModifierChanged { column: name(), from, to }
        } else {
            What::ColumnTypeChanged { column: name(), from, to }
        };
        found.note(!has_form, what);
    }
    if old.required != new.required {
        let word = |required| if required { "always" } else { "unless_unchanged" };
        let (from, to) = (word(old.required), word(new.required));
        found.note(old.required, What::ColumnPresenceChanged { column: name(), from, to });
    }
}

/// A type's name without what stands in parentheses.
fn bare(type_name: &str) -> String {
    let mut depth = 0_u32;
    let mut keep = |c: &char| match c {
        '(' => {
            depth = depth.saturating_add(1);
            false
        }
        ')' => {
            depth = depth.saturating_sub(1);
            false
        }
        _ => depth == 0,
    };
    type_name.chars().filter(|c| keep(c)).collect()
}

#[cfg(test)]
mod tests;
