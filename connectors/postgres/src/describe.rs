//! The captured tables as the catalog describes them now, for checks before a run. A run itself
//! knows tables by the log's Relation messages alone.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use rowtide_sdk::{Result, Table};
use serde::Deserialize;

use crate::publication::wanted_tables;
use crate::relation::{RelationColumn, RelationMessage, build_table, load_facts};
use crate::source::PostgresSource;
use crate::sql::json_rows;
use crate::wire::sql_client;

/// One column as the log would describe it: generated columns are left out.
#[derive(Debug, Deserialize)]
struct CatalogColumn {
    table: u32,
    name: String,
    type_oid: u32,
    typmod: i32,
}

/// The tables that the source would capture. Connects and reads. A publication managed elsewhere
/// may send fewer columns.
///
/// # Errors
/// Where the server cannot be asked.
pub async fn tables(source: &PostgresSource) -> Result<Vec<Arc<Table>>> {
    let client = sql_client(&source.options).await?;
    let mut sql = &*client;
    let wanted = wanted_tables(&mut sql, &source.filter).await?;
    let mut oids = String::from("0");
    for table in &wanted {
        // Writing to a String cannot fail.
        let _ = write!(oids, ",{}", table.oid);
    }
    let statement = format!(
        "SELECT jsonb_build_object('table', attrelid::bigint, 'name', attname,
             'type_oid', atttypid::bigint, 'typmod', atttypmod)
         FROM pg_attribute
         WHERE attrelid IN ({oids}) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
         ORDER BY attrelid, attnum"
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
        let facts = load_facts(&client, &relation).await?;
        tables.push(Arc::new(build_table(&source.options.database, &relation, &facts)));
    }
    Ok(tables)
}
