//! Tables that inherit from one whose settings hide columns. Rows of a partition come under the name of the
//! table above it; those of a table that merely inherits (`INHERITS`) come under its own, although queries
//! of its parent show them: the parent's settings are not for them.

use std::collections::HashMap;

use rowtide_sdk::{Finding, Hiding, Result, Severity};
use serde::Deserialize;

use super::captured::captured;
use super::codes;
use crate::publication::CatalogTable;
use crate::server::Server;
use crate::source::PostgresSource;
use crate::sql::{Sql, json_rows};

/// Selects each table that inherits, with each table that it inherits from, at whatever distance.
const INHERITANCE: &str = "WITH RECURSIVE line AS (
        SELECT inhrelid AS child, inhparent AS parent FROM pg_inherits
        UNION SELECT line.child, above.inhparent
        FROM line JOIN pg_inherits above ON above.inhrelid = line.parent)
    SELECT jsonb_build_object('child', c.oid::bigint, 'schema', n.nspname, 'name', p.relname)
    FROM line JOIN pg_class c ON c.oid = line.child JOIN pg_class p ON p.oid = line.parent
    JOIN pg_namespace n ON n.oid = p.relnamespace
    WHERE c.relkind = 'r' AND NOT c.relispartition
    ORDER BY n.nspname, p.relname, c.oid";

/// A table from which another inherits.
#[derive(Debug, Deserialize)]
struct Parent {
    /// The oid of the table that inherits.
    child: u32,
    schema: String,
    name: String,
}

/// Captured tables that show columns which settings hide of a table that they inherit from.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn findings(
    sql: &mut impl Sql,
    source: &PostgresSource,
    server: &Server,
    hiding: &Hiding,
) -> Result<Vec<Finding>> {
    let parents: Vec<Parent> = json_rows(sql, INHERITANCE, "asking which tables inherit").await?;
    let hides = |parent: &Parent| !hiding.of(&parent.schema, &parent.name).columns.is_empty();
    if !parents.iter().any(hides) {
        return Ok(Vec::new());
    }
    let tables = captured(sql, source, server).await?;
    let tables: HashMap<u32, CatalogTable> =
        tables.into_iter().map(|table| (table.oid, table)).collect();
    let finding = |parent: &Parent| shown(parent, tables.get(&parent.child)?, hiding);
    Ok(parents.iter().filter_map(finding).collect())
}

/// What a table shows of what is hidden of its parent. Settings for its exact name are a choice.
fn shown(parent: &Parent, child: &CatalogTable, hiding: &Hiding) -> Option<Finding> {
    let own = hiding.of(&child.schema, &child.name);
    let mut columns = hiding.of(&parent.schema, &parent.name).columns;
    columns.retain(|column| child.columns.contains(column) && !own.columns.contains(column));
    if columns.is_empty() || own.is_named {
        return None;
    }
    let (parent, table) = (format!("{}.{}", parent.schema, parent.name), child.full_name());
    let columns = columns.join(", ");
    let message = format!(
        "settings hide {columns} of {parent}; {table} inherits from it and shows {columns}: its rows, which \
         queries of {parent} show too, are published under its own name, for which those settings do not hold"
    );
    let remedy = format!(
        "hide {columns} in settings for {table} under `tables` too ({table}: {{}} where it may be shown), or \
         leave the table out with `source.tables.exclude`"
    );
    let finding = Finding::new(Severity::Warning, codes::INHERITED, message);
    Some(finding.at(format!("table {table}")).with_remedy(remedy))
}
