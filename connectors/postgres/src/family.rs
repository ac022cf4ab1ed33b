//! Partitions under another name than the settings hide their columns by.
//!
//! Rows of a partition come under the name of the table above it, or under its own; attaching and
//! detaching change that, and so does the publication's `publish_via_partition_root`. Settings go by
//! names, so that a column which is hidden under one name would leave in plain text under the other.
//! What is a partition now is judged here; for what was one, or had another name, the host is told by
//! [`Sightings`]. Columns have numbers that stay with them, so that a hidden one is known under another
//! name, whatever has taken its own.

use std::collections::HashMap;

use rowtide_sdk::{
    Error, Finding, Hidden, Hiding, Origin, Result, Severity, Sightings, SourceContext, TableFilter,
};
use serde::Deserialize;

use crate::preflight::codes;
use crate::publication::{self, CatalogTable};
use crate::relation::RelationMessage;
use crate::server::Server;
use crate::source::PostgresSource;
use crate::sql::{Sql, json_rows};

/// Selects every table that can be published, as [`Relative`]s.
const EVERYTHING: &str = "SELECT jsonb_build_object(
        'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname,
        'columns', ARRAY(SELECT jsonb_build_array(a.attname, a.attnum) FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
        'ancestors', ARRAY(SELECT relid::oid::bigint FROM pg_partition_ancestors(c.oid)
            WHERE relid <> c.oid))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND pg_relation_is_publishable(c.oid)";

/// A table, and what it may share rows with.
#[derive(Debug, Clone, Deserialize)]
struct Relative {
    oid: u32,
    schema: String,
    name: String,
    /// The columns with their numbers.
    columns: Vec<(String, i32)>,
    /// The partitioned tables above it.
    ancestors: Vec<u32>,
}

impl Relative {
    fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// Selects every [`Relative`] of a table: those above and below it.
fn relatives_of(oid: u32) -> String {
    let below = publication::partition_tree(&oid.to_string());
    format!(
        "WITH relative AS (SELECT c.oid, n.nspname, c.relname,
            ARRAY(SELECT jsonb_build_array(a.attname, a.attnum) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                ORDER BY a.attnum) AS columns,
            ARRAY(SELECT relid::oid::bigint FROM pg_partition_ancestors(c.oid)
                WHERE relid <> c.oid) AS ancestors
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid = {oid} OR c.oid IN (SELECT relid FROM pg_partition_ancestors({oid}))
                OR c.oid IN (SELECT relid FROM {below} below))
        SELECT jsonb_build_object('oid', r.oid::bigint, 'schema', r.nspname, 'name', r.relname,
            'columns', r.columns, 'ancestors', r.ancestors)
        FROM relative r ORDER BY r.nspname, r.relname"
    )
}

/// What a run does about tables under names whose settings hide columns.
#[derive(Clone)]
pub(crate) struct Family {
    pub(crate) hiding: Hiding,
    pub(crate) sightings: Sightings,
}

impl Family {
    /// Where settings hide anything.
    pub(crate) fn new(cx: &SourceContext) -> Option<Self> {
        let sightings = cx.sightings.clone();
        cx.hiding.clone().map(|hiding| Self { hiding, sightings })
    }

    /// Notes that the rows of a table came under the name of one above it.
    pub(crate) fn note_under(&self, above: &RelationMessage, oid: u32) {
        let columns: Vec<String> = above.columns.iter().map(|column| column.name.clone()).collect();
        self.note((&above.schema, &above.name), &columns, oid);
    }

    fn note(&self, under: (&str, &str), columns: &[String], oid: u32) {
        let (schema, name) = under;
        if !self.hiding.of(schema, name).columns.is_empty() {
            self.sightings.note(schema, name, columns, u64::from(oid));
        }
    }

    /// Notes which columns of a table are hidden under its name.
    fn note_hidden(&self, table: &Relative) {
        let hidden = self.hiding.of(&table.schema, &table.name);
        for (column, number) in
            table.columns.iter().filter(|(name, _)| hidden.columns.contains(name))
        {
            let (schema, name) = (&table.schema, &table.name);
            self.sightings.note_hidden(schema, name, u64::from(table.oid), (column, *number));
        }
    }

    /// Notes the tables that the filter wants, and the partitions below them, as the catalog has them
    /// now.
    ///
    /// # Errors
    /// Where the server does not answer.
    async fn note_all(&self, sql: &mut impl Sql, filter: &TableFilter) -> Result<()> {
        let all: Vec<Relative> = json_rows(sql, EVERYTHING, "listing the tables").await?;
        let wanted = all.iter().filter(|table| filter.matches(&table.schema, &table.name));
        let wanted: HashMap<u32, &Relative> = wanted.map(|table| (table.oid, table)).collect();
        for table in &all {
            for name in table.ancestors.iter().chain([&table.oid]).filter_map(|oid| wanted.get(oid))
            {
                self.note((&name.schema, &name.name), &name.names(), table.oid);
            }
        }
        wanted.values().for_each(|table| self.note_hidden(table));
        Ok(())
    }

    /// Whether a table that the log describes would show what settings hide under another name; notes
    /// it and the partitions whose rows come under its name.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub(crate) async fn exposed(
        &self,
        sql: &mut impl Sql,
        described: &RelationMessage,
    ) -> Result<Option<Finding>> {
        let oid = described.oid;
        let columns: Vec<String> =
            described.columns.iter().map(|column| column.name.clone()).collect();
        self.note_under(described, oid);
        let mut relatives = relatives(sql, oid).await?;
        for below in relatives.iter().filter(|relative| relative.ancestors.contains(&oid)) {
            self.note_under(described, below.oid);
        }
        for this in relatives.iter_mut().filter(|relative| relative.oid == oid) {
            // The catalog may have moved on; rows come under the name that the log gives.
            this.schema.clone_from(&described.schema);
            this.name.clone_from(&described.name);
        }
        let this = relatives.iter().find(|relative| relative.oid == oid);
        let renamed = this.and_then(|this| renamed(this, &columns, &self.hiding, &self.sightings));
        this.into_iter().for_each(|this| self.note_hidden(this));
        Ok(renamed.or_else(|| judge(oid, &relatives, &self.hiding)))
    }
}

/// Whether a table shows a column that was hidden under another name of its own, which is another column's
/// now; where no column has it any more, the settings do not fit, and the host says so. The names in the log
/// may be older than those of the catalog: what is shown are columns of those `described`.
fn renamed(
    this: &Relative,
    described: &[String],
    hiding: &Hiding,
    sightings: &Sightings,
) -> Option<Finding> {
    let own = hiding.of(&this.schema, &this.name);
    let hidden = sightings.hidden_of(&this.schema, &this.name, u64::from(this.oid));
    let is_taken = |old: &String| own.columns.contains(old) && described.contains(old);
    hidden.into_iter().filter(|(old, _)| is_taken(old)).find_map(|(old, number)| {
        let (new, _) = this.columns.iter().find(|(_, at)| *at == number)?;
        let is_shown = *new != old && !own.columns.contains(new) && described.contains(new);
        is_shown.then(|| column_renamed(this, &old, new))
    })
}

fn column_renamed(table: &Relative, old: &str, new: &str) -> Finding {
    let table = table.full_name();
    let message = format!(
        "settings hide the column {old} of {table}, and what it was is now called {new}, which they show"
    );
    Finding::new(Severity::Error, codes::EXPOSED, message).at(format!("table {table}")).with_remedy(
        format!(
            "hide {new} too, in the `columns` of {table}'s settings under `tables`; nothing of it was \
             published"
        ),
    )
}

/// What [`Family::note_all`] does, where settings hide anything.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn note_all(
    family: Option<&Family>,
    sql: &mut impl Sql,
    filter: &TableFilter,
) -> Result<()> {
    match family {
        Some(family) => family.note_all(sql, filter).await,
        None => Ok(()),
    }
}

async fn relatives(sql: &mut impl Sql, oid: u32) -> Result<Vec<Relative>> {
    json_rows(sql, &relatives_of(oid), "looking up what a table shares rows with").await
}

/// Whether a table's rows are those of another, whose settings hide columns that this one's show.
/// Settings for its exact name are a choice, but for what its partitions hide: those settings were made
/// for rows that it sends now.
async fn exposed(
    sql: &mut impl Sql,
    oid: u32,
    hiding: &Hiding,
    sightings: &Sightings,
) -> Result<Option<Finding>> {
    let relatives = relatives(sql, oid).await?;
    let this = relatives.iter().find(|relative| relative.oid == oid);
    let renamed = this.and_then(|this| renamed(this, &this.names(), hiding, sightings));
    Ok(renamed.or_else(|| judge(oid, &relatives, hiding)))
}

/// Tables whose rows are those of others that hide more, by the names under which they come.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn findings(
    sql: &mut impl Sql,
    source: &PostgresSource,
    server: &Server,
    tables: &[CatalogTable],
    (hiding, sightings): (&Hiding, &Sightings),
) -> Result<Vec<Finding>> {
    let publication = publication::find(sql, &source.config.publication, server.major()).await?;
    let via_root = publication.is_none_or(|publication| publication.via_root);
    let mut findings = Vec::new();
    for table in tables {
        let mut sent = vec![table.oid];
        if table.is_partitioned && !via_root {
            let statement = format!(
                "SELECT to_jsonb(c.oid::bigint) FROM {} below JOIN pg_class c ON c.oid = below.relid
                WHERE c.relkind <> 'p'",
                publication::partition_tree(&table.oid.to_string())
            );
            sent = json_rows(sql, &statement, "listing the partitions of a table").await?;
        }
        for oid in sent {
            findings.extend(exposed(sql, oid, hiding, sightings).await?);
        }
    }
    Ok(findings)
}

/// The refusal of a change of such a table.
pub(crate) fn refusal(found: &Finding) -> Error {
    let error = Error::fatal(Origin::Config, found.code, found.message.clone());
    match &found.remedy {
        Some(remedy) => error.with_remedy(remedy.clone()),
        None => error,
    }
}

fn judge(oid: u32, relatives: &[Relative], hiding: &Hiding) -> Option<Finding> {
    let this = relatives.iter().find(|relative| relative.oid == oid)?;
    let own = hiding.of(&this.schema, &this.name);
    relatives.iter().filter(|other| other.oid != oid).find_map(|other| {
        let (how, is_choice) = if this.ancestors.contains(&other.oid) {
            ("is a partition of it and comes under its own name", true)
        } else if other.ancestors.contains(&oid) {
            ("sends the rows of that partition under its name", false)
        } else {
            return None;
        };
        let elsewhere = hiding.of(&other.schema, &other.name);
        let shown = shown(&elsewhere, &own, this);
        let is_hidden = shown.is_empty() || (is_choice && own.is_named);
        (!is_hidden).then(|| finding(this, other, how, &shown))
    })
}

/// The columns that settings hide elsewhere and show here.
fn shown<'a>(elsewhere: &'a Hidden, here: &Hidden, table: &Relative) -> Vec<&'a str> {
    let is_shown = |column: &&String| {
        table.columns.iter().any(|(name, _)| name == *column) && !here.columns.contains(*column)
    };
    elsewhere.columns.iter().filter(is_shown).map(String::as_str).collect()
}

fn finding(this: &Relative, other: &Relative, how: &str, shown: &[&str]) -> Finding {
    let (table, columns) = (this.full_name(), shown.join(", "));
    let other = other.full_name();
    let message = format!(
        "settings hide {columns} of {other}; {table} {how}, and would be published with them in plain \
         text"
    );
    Finding::new(Severity::Error, codes::EXPOSED, message).at(format!("table {table}")).with_remedy(
        format!(
            "give {table} settings of its own under `tables` (the same `columns`, or what shall hold \
             for it), or leave it out with `source.tables.exclude`; nothing of it was published"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relative(oid: u32, name: &str, ancestors: &[u32]) -> Relative {
        let columns = vec![("id".to_owned(), 1), ("ssn".to_owned(), 2)];
        let ancestors = ancestors.to_vec();
        let (schema, name) = ("s".to_owned(), name.to_owned());
        Relative { oid, schema, name, columns, ancestors }
    }

    /// Settings by table: the columns that are hidden, and whether they are for the exact name.
    fn hiding(tables: &'static [(&'static str, &'static str, bool)]) -> Hiding {
        let columns = tables.iter().map(|(_, column, _)| (*column).to_owned());
        Hiding::new(columns, move |_, table| {
            let of = tables.iter().find(|(name, ..)| *name == table);
            of.map_or_else(Hidden::default, |(_, column, is_named)| Hidden {
                columns: vec![(*column).to_owned()],
                is_named: *is_named,
            })
        })
    }

    #[test]
    fn h21_a_hidden_column_is_known_under_another_name() {
        let hides =
            Hiding::new([], |_, _| Hidden { columns: vec!["ssn".to_owned()], is_named: true });
        let sightings = Sightings::default();
        sightings.note_hidden("s", "t", 1, ("ssn", 2));
        let is_shown = |columns: &[(&str, i32)], described: &[&str]| {
            let columns = columns.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
            let this = Relative { columns, ..relative(1, "t", &[]) };
            let described: Vec<String> = described.iter().map(|name| (*name).to_owned()).collect();
            renamed(&this, &described, &hides, &sightings).is_some()
        };
        let swapped = [("id", 1), ("ssn_old", 2), ("ssn", 3)];
        assert!(is_shown(&swapped, &["id", "ssn_old", "ssn"]));
        assert!(!is_shown(&swapped, &["id", "ssn"]), "as it was before");
        assert!(!is_shown(&[("id", 1), ("ssn", 2), ("note", 3)], &["id", "ssn", "note"]));
        assert!(
            !is_shown(&[("id", 1), ("ssn", 3), ("note", 4)], &["id", "ssn", "note"]),
            "dropped"
        );
        assert!(!is_shown(&[("id", 1)], &["id"]));
    }

    #[test]
    fn h33_what_one_name_hides_no_other_shows() {
        let family =
            [relative(1, "root", &[]), relative(2, "leaf", &[1]), relative(3, "alone", &[])];
        let is_exposed = |oid, settings| judge(oid, &family, &hiding(settings)).is_some();
        let root: &'static [_] = &[("root", "ssn", true)];
        assert!(is_exposed(2, root), "a leaf under its own name");
        assert!(!is_exposed(3, root), "one with the same columns");
        assert!(!is_exposed(1, root));
        assert!(is_exposed(1, &[("leaf", "ssn", true)]), "a root with a leaf that hides more");
        assert!(is_exposed(1, &[("leaf", "ssn", true), ("root", "id", true)]));
        assert!(!is_exposed(1, &[("leaf", "ssn", true), ("root", "ssn", true)]));
        // Settings for the exact name are a choice.
        assert!(!is_exposed(2, &[("root", "ssn", true), ("leaf", "id", true)]));
        assert!(is_exposed(2, &[("root", "ssn", true), ("leaf", "id", false)]));
        assert!(!is_exposed(2, &[("root", "other", true)]), "a column that it does not have");
        assert!(!is_exposed(9, root), "a table that is gone");
    }
}
