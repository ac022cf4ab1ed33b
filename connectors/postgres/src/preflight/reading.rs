//! What the preflight says of tables whose values are to be read back.

use rowtide_sdk::{Finding, ReselectLookup, Result};

use crate::config::PublicationManagement;
use crate::publication::{self, CatalogTable, Membership, Publication};
use crate::reselect::{is_read_back, may_not_read};
use crate::server::Server;
use crate::source::PostgresSource;
use crate::sql::{Sql, literal};

/// Captured tables whose values are to be read back and that the role may not read, or not whole.
pub(super) async fn findings(
    sql: &mut impl Sql,
    source: &PostgresSource,
    server: &Server,
    reselects: ReselectLookup<'_>,
) -> Result<Vec<Finding>> {
    let name = &source.config.publication;
    let publication = publication::find(sql, name, server.major()).await?;
    let tables = publication::sent_names(sql, &source.filter, publication.as_ref()).await?;
    let is_kept = source.management(server) == PublicationManagement::Auto;
    let wanted = tables.iter().filter(|table| {
        is_captured(table, publication.as_ref(), is_kept)
            && is_read_back(table)
            && reselects(&table.schema, &table.name)
    });
    let mut findings = Vec::new();
    for table in wanted {
        let statement = format!(
            "SELECT has_schema_privilege({}, 'USAGE') AND has_table_privilege({oid}::oid, 'SELECT') \
                 AND NOT row_security_active({oid}::oid)",
            literal(&table.schema),
            oid = table.oid
        );
        let rows = sql.rows(&statement, "asking for the role's rights on a table").await?;
        if rows.into_iter().flatten().flatten().next().as_deref() != Some("t") {
            let finding = Finding::from(&may_not_read(&table.schema, &table.name));
            findings.push(finding.at(format!("table {}", table.full_name())));
        }
    }
    Ok(findings)
}

/// Whether the publication sends a table, or will once it is there or `is_kept` in step with the tables.
fn is_captured(table: &CatalogTable, publication: Option<&Publication>, is_kept: bool) -> bool {
    match publication {
        Some(there) if publication::membership(there, table) != Membership::Unsent => true,
        Some(_) if !is_kept => false,
        // Without an identity it is left out.
        _ => table.has_identity,
    }
}
