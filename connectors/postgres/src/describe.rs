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

/// The columns of the table `c` that the publication sends, once it is in step: those of its column
/// list, else all but the generated ones, of which it may send the stored.
fn sent_columns(publication: &str, major: u32, sends_generated: bool) -> String {
    let unlisted = match sends_generated {
        true => "a.attgenerated IN ('', 's')",
        false => "a.attgenerated = ''",
    };
    if major < 15 {
        return unlisted.to_owned();
    }
    format!(
        "coalesce((SELECT a.attnum = ANY (r.prattrs::int2[]) FROM pg_publication_rel r
             JOIN pg_publication p ON p.oid = r.prpubid
             WHERE p.pubname = {} AND r.prrelid = c.oid), {unlisted})",
        literal(publication)
    )
}

/// [`tables`], over a connection that is there.
pub(crate) async fn described(
    source: &PostgresSource,
    client: &SqlClient,
) -> Result<Vec<Arc<Table>>> {
    let mut sql = &**client;
    let server = Server::ask(&mut sql).await?;
    let major = server.major();
    let publication = publication::find(&mut sql, &source.config.publication, major).await?;
    let review = publication::look(&mut sql, source.wish(&server, false)).await?;
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
         WHERE a.attrelid IN ({oids}) AND a.attnum > 0 AND NOT a.attisdropped AND {}
         ORDER BY a.attrelid, a.attnum",
        sent_columns(&source.config.publication, major, review.sends_generated)
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
