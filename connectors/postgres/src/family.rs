//! Partitions under another name than the settings hide their columns by.
//!
//! Rows of a partition come under the name of the table above it, or under its own; attaching and
//! detaching change that, and so does the publication's `publish_via_partition_root`. Settings go by
//! names, so that a column which is hidden under one name would leave in plain text under the other.

use rowtide_sdk::{Error, Finding, Hidden, Hiding, Origin, Result, Severity};
use serde::Deserialize;

use crate::preflight::codes;
use crate::publication::{self, CatalogTable};
use crate::server::Server;
use crate::source::PostgresSource;
use crate::sql::{Sql, json_rows};

/// A table, and what it may share rows with.
#[derive(Debug, Clone, Deserialize)]
struct Relative {
    oid: u32,
    schema: String,
    name: String,
    is_partitioned: bool,
    columns: Vec<String>,
    /// The partitioned tables above it.
    ancestors: Vec<u32>,
}

impl Relative {
    fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Selects every [`Relative`] of a table: those above and below it, and partitioned tables with the
/// same columns, which it may have been detached from.
fn relatives_of(oid: u32) -> String {
    format!(
        "WITH relative AS (SELECT c.oid, n.nspname, c.relname, c.relkind,
            ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
                AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1) AS columns,
            ARRAY(SELECT relid::oid::bigint FROM pg_partition_ancestors(c.oid)
                WHERE relid <> c.oid) AS ancestors
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'p' OR c.oid = {oid}
                OR c.oid IN (SELECT relid FROM pg_partition_tree({oid})))
        SELECT jsonb_build_object('oid', r.oid::bigint, 'schema', r.nspname, 'name', r.relname,
            'is_partitioned', r.relkind = 'p', 'columns', r.columns, 'ancestors', r.ancestors)
        FROM relative r JOIN relative this ON this.oid = {oid}
        WHERE r.oid = this.oid OR r.oid::bigint = ANY (this.ancestors)
            OR this.oid::bigint = ANY (r.ancestors) OR r.columns = this.columns
        ORDER BY r.nspname, r.relname"
    )
}

/// Whether a table's rows are those of another, whose settings hide columns that this one's show.
/// Settings for its exact name are a choice, but for what its partitions hide: those settings were made
/// for rows that it sends now.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn exposed(
    sql: &mut impl Sql,
    oid: u32,
    hiding: &Hiding,
) -> Result<Option<Finding>> {
    let relatives: Vec<Relative> =
        json_rows(sql, &relatives_of(oid), "looking up what a table shares rows with").await?;
    Ok(judge(oid, &relatives, hiding))
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
    hiding: &Hiding,
) -> Result<Vec<Finding>> {
    let publication = publication::find(sql, &source.config.publication, server.major()).await?;
    let via_root = publication.is_none_or(|publication| publication.via_root);
    let mut findings = Vec::new();
    for table in tables {
        let mut sent = vec![table.oid];
        if table.is_partitioned && !via_root {
            let statement = format!(
                "SELECT to_jsonb(relid::oid::bigint) FROM pg_partition_tree({}) WHERE isleaf",
                table.oid
            );
            sent = json_rows(sql, &statement, "listing the partitions of a table").await?;
        }
        for oid in sent {
            findings.extend(exposed(sql, oid, hiding).await?);
        }
    }
    Ok(findings)
}

/// The refusal of a change of such a table.
pub(crate) fn refusal(found: &Finding) -> Error {
    let error = Error::fatal(Origin::Source, found.code, found.message.clone());
    match &found.remedy {
        Some(remedy) => error.with_remedy(remedy.clone()),
        None => error,
    }
}

fn judge(oid: u32, relatives: &[Relative], hiding: &Hiding) -> Option<Finding> {
    let this = relatives.iter().find(|relative| relative.oid == oid)?;
    let own = hiding(&this.schema, &this.name);
    relatives.iter().filter(|other| other.oid != oid).find_map(|other| {
        let (how, is_choice) = if this.ancestors.contains(&other.oid) {
            ("is a partition of it and comes under its own name", true)
        } else if other.ancestors.contains(&oid) {
            ("sends the rows of that partition under its name", false)
        } else if other.is_partitioned && !this.is_partitioned && this.ancestors.is_empty() {
            ("has the very columns of it, as a partition that was detached", true)
        } else {
            return None;
        };
        let elsewhere = hiding(&other.schema, &other.name);
        let shown = shown(&elsewhere, &own, this);
        let is_hidden = shown.is_empty() || (is_choice && own.is_named);
        (!is_hidden).then(|| finding(this, other, how, &shown))
    })
}

/// The columns that settings hide elsewhere and show here.
fn shown<'a>(elsewhere: &'a Hidden, here: &Hidden, table: &Relative) -> Vec<&'a str> {
    let is_shown =
        |column: &&String| table.columns.contains(*column) && !here.columns.contains(*column);
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
    use std::sync::Arc;

    fn relative(oid: u32, name: &str, is_partitioned: bool, ancestors: &[u32]) -> Relative {
        let columns = ["id", "ssn"].map(str::to_owned).to_vec();
        let ancestors = ancestors.to_vec();
        let (schema, name) = ("s".to_owned(), name.to_owned());
        Relative { oid, schema, name, is_partitioned, columns, ancestors }
    }

    /// Settings by table: the columns that are hidden, and whether they are for the exact name.
    fn hiding(tables: &'static [(&'static str, &'static str, bool)]) -> Hiding {
        Arc::new(move |_, table| {
            let of = tables.iter().find(|(name, ..)| *name == table);
            of.map_or_else(Hidden::default, |(_, column, is_named)| Hidden {
                columns: vec![(*column).to_owned()],
                is_named: *is_named,
            })
        })
    }

    #[test]
    fn h33_what_one_name_hides_no_other_shows() {
        let family = [
            relative(1, "root", true, &[]),
            relative(2, "leaf", false, &[1]),
            relative(3, "gone", false, &[]),
        ];
        let is_exposed = |oid, settings| judge(oid, &family, &hiding(settings)).is_some();
        let root: &'static [_] = &[("root", "ssn", true)];
        assert!(is_exposed(2, root), "a leaf under its own name");
        assert!(is_exposed(3, root), "one that was detached");
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
