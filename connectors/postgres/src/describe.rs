//! The captured tables as the catalog describes them now, for checks before a run. A run itself
//! knows tables by the log's Relation messages alone.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use rowtide_sdk::{Result, Table};
use serde::Deserialize;

use crate::publication::{self, sent_names};
use crate::relation::{RelationColumn, RelationMessage, build_table, load_facts};
use crate::server::Server;
use crate::source::PostgresSource;
use crate::sql::{json_rows, literal};
use crate::wire::{SqlClient, sql_client};

/// One column as the log would describe it.
#[derive(Debug, Deserialize)]
struct CatalogColumn {
    table: u32,
    name: String,
    type_oid: u32,
    typmod: i32,
}

/// The tables that the source would capture. Connects and reads.
///
/// # Errors
/// Where the server cannot be asked.
pub async fn tables(source: &PostgresSource) -> Result<Vec<Arc<Table>>> {
    let client = sql_client(&source.options).await?;
    described(source, &client).await
}

/// The columns of the table `c` that the publication sends. Where it does not send the table yet,
/// those that it will: all but the generated ones.
fn sent_columns(publication: &str, major: u32) -> String {
    if major < 15 {
        return "a.attgenerated = ''".to_owned();
    }
    // The view names generated columns, which no version before 18 sends.
    let generated = if major < 18 { "a.attgenerated = '' AND " } else { "" };
    format!(
        "{generated}coalesce(a.attname = ANY ((SELECT t.attnames FROM pg_publication_tables t
             WHERE t.pubname = {} AND t.schemaname = n.nspname AND t.tablename = c.relname)
             ::name[]), a.attgenerated = '')",
        literal(publication)
    )
}

/// [`tables`], over a connection that is there.
pub(crate) async fn described(
    source: &PostgresSource,
    client: &SqlClient,
) -> Result<Vec<Arc<Table>>> {
    let mut sql = &**client;
    let major = Server::ask(&mut sql).await?.major();
    let publication = publication::find(&mut sql, &source.config.publication, major).await?;
    let wanted = sent_names(&mut sql, &source.filter, publication.as_ref()).await?;
    let mut oids = String::from("0");
    for table in &wanted {
        // Writing to a String cannot fail.
        let _ = write!(oids, ",{}", table.oid);
    }
    let statement = format!(
        "SELECT jsonb_build_object('table', a.attrelid::bigint, 'name', a.attname,
             'type_oid', a.atttypid::bigint, 'typmod', a.atttypmod)
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE a.attrelid IN ({oids}) AND a.attnum > 0 AND NOT a.attisdropped AND {}
         ORDER BY a.attrelid, a.attnum",
        sent_columns(&source.config.publication, major)
    );
    let mut columns: HashMap<u32, Vec<CatalogColumn>> = HashMap::new();
    for column in json_rows::<CatalogColumn>(&mut sql, &statement, "listing the columns").await? {
        columns.entry(column.table).or_default().push(column);
    }
    let mut tables = Vec::with_capacity(wanted.len());
    for table in wanted {
        let columns = columns.remove(&table.oid).unwrap_or_default();
        let relation = RelationMessage {
            oid: table.oid,
            identity: u8::try_from(table.identity).unwrap_or(b'd'),
            columns: columns
                .into_iter()
                .map(|column| RelationColumn {
                    is_identity: table.identity_columns.contains(&column.name),
                    name: column.name,
                    type_oid: column.type_oid,
                    typmod: column.typmod,
                })
                .collect(),
            schema: table.schema,
            name: table.name,
        };
        let facts = load_facts(client, &relation).await?;
        tables.push(Arc::new(build_table(&source.options.database, &relation, &facts)));
    }
    Ok(tables)
}
