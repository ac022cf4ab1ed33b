//! The tables that are captured now, or will be once the publication is in step with them.

use rowtide_sdk::Result;

use crate::config::PublicationManagement;
use crate::publication::{self, CatalogTable, Membership, Publication};
use crate::server::Server;
use crate::source::PostgresSource;
use crate::sql::Sql;

/// The captured tables, by the names under which their rows come.
pub(super) async fn captured(
    sql: &mut impl Sql,
    source: &PostgresSource,
    server: &Server,
) -> Result<Vec<CatalogTable>> {
    let name = &source.config.publication;
    let publication = publication::find(sql, name, server.major()).await?;
    let mut tables = publication::sent_names(sql, &source.filter, publication.as_ref()).await?;
    let is_kept = source.management(server) == PublicationManagement::Auto;
    tables.retain(|table| is_captured(table, publication.as_ref(), is_kept));
    Ok(tables)
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
