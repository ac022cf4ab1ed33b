//! What a server says its tables are, and what they must be after the statements of its binlog.

use std::collections::{BTreeMap, BTreeSet};

use rowtide_mysql::statement::{Creation, Statement, TableChange};

/// A digest of the definition of each table that is none of the server's own, by `schema.table`.
pub(crate) const DEFINITIONS: &str = "SELECT 'table', CONCAT(t.table_schema, '.', t.table_name),
    SHA2(CONCAT_WS('|', t.engine, t.create_options, t.table_collation, t.table_comment,
      (SELECT GROUP_CONCAT(CONCAT_WS('/', c.column_name, c.ordinal_position, c.column_type,
          c.column_default, c.is_nullable, c.column_key, c.extra, c.collation_name) ORDER BY 1)
        FROM information_schema.columns c
        WHERE c.table_schema = t.table_schema AND c.table_name = t.table_name),
      (SELECT GROUP_CONCAT(CONCAT_WS('/', s.index_name, s.seq_in_index, s.column_name, s.non_unique)
          ORDER BY 1)
        FROM information_schema.statistics s
        WHERE s.table_schema = t.table_schema AND s.table_name = t.table_name),
      (SELECT GROUP_CONCAT(CONCAT_WS('/', p.partition_name, p.partition_description) ORDER BY 1)
        FROM information_schema.partitions p
        WHERE p.table_schema = t.table_schema AND p.table_name = t.table_name)), 256)
  FROM information_schema.tables t
  WHERE t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
    AND t.table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')";

/// Digests by `schema.table`.
pub(crate) type Definitions = BTreeMap<String, String>;

/// The tables whose definitions differ, or that only one has.
pub(crate) fn changed<'a>(before: &'a Definitions, after: &'a Definitions) -> BTreeSet<&'a str> {
    let of = |one: &'a Definitions, other: &'a Definitions| {
        let differs = one.iter().filter(|(name, digest)| other.get(*name) != Some(*digest));
        differs.map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>()
    };
    &of(before, after) | &of(after, before)
}

/// What there is of `tables` after a statement, by what it says.
pub(crate) fn apply(statement: &Statement, tables: &mut BTreeSet<String>) {
    match statement {
        Statement::DropDatabase(name) => {
            tables.retain(|table| !table.starts_with(&format!("{name}.")));
        }
        Statement::Tables(changes) => {
            for change in changes {
                match change {
                    TableChange::Created(Creation { table, .. }) => {
                        tables.insert(table.to_string());
                    }
                    TableChange::Dropped(table) => {
                        tables.remove(&table.to_string());
                    }
                    TableChange::Renamed { from, to } => {
                        if tables.remove(&from.to_string()) {
                            tables.insert(to.to_string());
                        }
                    }
                    TableChange::Altered(_)
                    | TableChange::ColumnRenamed { .. }
                    | TableChange::RowsUnseen { .. } => {}
                }
            }
        }
        _ => {}
    }
}
