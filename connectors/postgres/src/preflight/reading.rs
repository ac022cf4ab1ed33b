//! What the preflight says of tables whose values are to be read back.

use rowtide_sdk::{Finding, ReselectLookup, Result};

use super::captured::captured;
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
    let tables = captured(sql, source, server).await?;
    let wanted =
        tables.iter().filter(|table| is_read_back(table) && reselects(&table.schema, &table.name));
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
