//! What is said of tables whose identity is none, or not enough, and the SQL that gives them one.
//! `sent_by` is the publication that sends the table already.

use rowtide_sdk::{Finding, Severity};

use super::CatalogTable;
use super::review::finding;
use crate::preflight::codes as checks;
use crate::sql::ident;
use crate::stream::codes;

/// Partitions whose old rows come under the partitioned table's name without columns of its
/// identity: they would look like NULLs.
pub(super) fn unlike_partitions(table: &CatalogTable, sent_by: Option<&str>) -> Option<Finding> {
    (!table.unlike_partitions.is_empty()).then(|| {
        let name = table.full_name();
        let partitions = table.unlike_partitions.join(", ");
        let (severity, verdict) = if sent_by.is_some() {
            (Severity::Error, "old rows of these would hold NULLs that were never there")
        } else {
            (Severity::Warning, "it is not captured, as old rows of these would hold false NULLs")
        };
        let remedy = table
            .full_identity(&table.unlike_partitions, sent_by)
            .unwrap_or_else(|| table.key_identity(&table.unlike_partitions));
        let message = format!(
            "the replica identity of {name} has columns that its partitions do not log: {verdict}: \
             {partitions}"
        );
        finding(severity, checks::PARTITION_IDENTITY, message, remedy).at(format!("table {name}"))
    })
}

/// SQL that gives a table an identity.
pub(crate) fn identity_remedy(table: &CatalogTable, sent_by: Option<&str>) -> String {
    let sql = table.sql();
    if !table.generated.virtual_full.is_empty() {
        return table.key_identity(&table.generated.virtual_full);
    }
    if !table.bare_partitions.is_empty() {
        return table
            .full_identity(&table.bare_partitions, sent_by)
            .unwrap_or_else(|| table.key_identity(&table.bare_partitions));
    }
    if table.primary_key.is_empty() {
        format!("ALTER TABLE {sql} ADD PRIMARY KEY (…){}", or_full(", or ", table, sent_by))
    } else if table.identity == 'd' {
        deferrable_remedy(table, sent_by)
    } else {
        format!("ALTER TABLE {sql} REPLICA IDENTITY DEFAULT")
    }
}

/// The whole row as the other way, where it is one.
fn or_full(or: &str, table: &CatalogTable, sent_by: Option<&str>) -> String {
    let full = table.full_identity(&[table.sql()], sent_by);
    full.map_or_else(String::new, |full| format!("{or}{full}"))
}

/// Under DEFAULT a primary key is no identity only where it is deferrable.
fn deferrable_remedy(table: &CatalogTable, sent_by: Option<&str>) -> String {
    let (sql, index) = (table.sql(), ident(&format!("{}_rowtide_identity", table.name)));
    let columns: Vec<String> = table.primary_key.iter().map(|column| ident(column)).collect();
    let (columns, or_full) = (columns.join(", "), or_full("; or ", table, sent_by));
    format!(
        "its primary key is DEFERRABLE, and such a key is no identity: ALTER TABLE {sql} DROP CONSTRAINT \
         …, ADD PRIMARY KEY ({columns}) NOT DEFERRABLE; or CREATE UNIQUE INDEX {index} ON {sql} \
         ({columns}); ALTER TABLE {sql} REPLICA IDENTITY USING INDEX {index}{or_full}"
    )
}

/// A table whose updates and deletes fail in the application where a publication sends it.
pub(super) fn unpublishable(table: &CatalogTable, sent_by: Option<&str>) -> Finding {
    let name = table.full_name();
    let who = match table.bare_partitions.is_empty()
        && (!table.is_partitioned || table.generated.virtual_full.is_empty())
    {
        true => "it has",
        false => "partitions of it have",
    };
    let why = match table.generated.virtual_full.is_empty() {
        true => "",
        false => " (it is FULL, and has virtual generated columns)",
    };
    let message = if sent_by.is_some() {
        format!(
            "the table {name} is published without a usable replica identity{why}: updates and deletes of it fail in the application"
        )
    } else {
        format!(
            "the table {name} is not captured: {who} no usable replica identity{why}, and publishing it would make the application's updates and deletes fail"
        )
    };
    finding(Severity::Warning, codes::NO_IDENTITY, message, identity_remedy(table, sent_by))
        .at(format!("table {name}"))
}
