//! How rows are read back: what the catalog says of a table now, and the statement.

use std::fmt::Write as _;

use rowtide_sdk::{Batch, Entry, Error, NotReselected, Origin, Result, Table};
use serde::Deserialize;

use super::needs::{Row, Wanted, key_spans};
use crate::relation::TableFacts;
use crate::sql::{Sql, ident, json_rows, literal};
use crate::stream::codes;

/// A table as it can be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    oid: u64,
    /// `"schema"."table"`.
    name: String,
    /// Whether rows of its partitions are its own; those of tables that inherit from it are not.
    is_partitioned: bool,
    /// The columns in the order of the table version, quoted.
    columns: Vec<String>,
    /// Those whose values may be large, as indexes into `columns`.
    large: Vec<usize>,
    /// The key's columns: index, type and operator of equality.
    key: Vec<(usize, String, String)>,
}

/// What the catalog says of a table.
#[derive(Debug, Deserialize)]
struct Found {
    schema: String,
    name: String,
    is_partitioned: bool,
    columns: Vec<FoundColumn>,
    /// The operator of equality of the identity index, by column.
    operators: std::collections::HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct FoundColumn {
    name: String,
    type_oid: u32,
    typmod: i32,
    type_name: String,
    may_read: bool,
}

/// `$table` is the table's oid. The operators are those of the index itself, so that it is used.
const LOOK: &str = "SELECT jsonb_build_object('schema', n.nspname, 'name', c.relname,
    'is_partitioned', c.relkind = 'p',
    'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.attname,
        'type_oid', a.atttypid::bigint, 'typmod', a.atttypmod,
        'type_name', format_type(a.atttypid, a.atttypmod),
        'may_read', has_column_privilege(c.oid, a.attnum, 'SELECT'))), '[]')
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'operators', (SELECT coalesce(jsonb_object_agg(a.attname,
            format('OPERATOR(%I.%s)', s.nspname, o.oprname)), '{}')
        FROM pg_index i
        CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) AS part(attnum, opclass)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
        JOIN pg_opclass k ON k.oid = part.opclass
        JOIN pg_amop m ON m.amopfamily = k.opcfamily AND m.amoplefttype = k.opcintype
            AND m.amoprighttype = k.opcintype AND m.amopstrategy = 3
        JOIN pg_operator o ON o.oid = m.amopopr
        JOIN pg_namespace s ON s.oid = o.oprnamespace
        WHERE i.indexrelid = pg_get_replica_identity_index(c.oid)))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $table";

/// Looks a table version up; `None` where the table is not as it was in what matters.
///
/// # Errors
/// Fatal where the role may not read it; those of the connection.
pub(super) async fn look(
    sql: &mut impl Sql,
    table: &Table,
    wanted: &Wanted,
) -> Result<Option<Target>> {
    let statement = LOOK.replace("$table", &table.incarnation.to_string());
    let found: Vec<Found> =
        json_rows(sql, &statement, "looking up a table whose values are read back").await?;
    let Some(found) = found.into_iter().next() else { return Ok(None) };
    let unreadable = table.columns.iter().any(|column| {
        found.columns.iter().any(|other| other.name == column.name && !other.may_read)
    });
    if unreadable {
        return Err(may_not_read(&found.schema, &found.name));
    }
    Ok(target(table, wanted, &found))
}

/// The role may not read a table that it is to read values back from.
pub(crate) fn may_not_read(schema: &str, table: &str) -> Error {
    Error::fatal(
        Origin::Source,
        codes::MAY_NOT_READ,
        format!("values of {schema}.{table} are to be read back, and the role may not read it"),
    )
    .with_remedy(format!(
        "GRANT USAGE ON SCHEMA {} TO the role; GRANT SELECT ON {}.{} TO the role (and BYPASSRLS \
         where row security holds for it); or take `unchanged: reselect` out of the table's settings",
        ident(schema),
        ident(schema),
        ident(table)
    ))
}

fn target(table: &Table, wanted: &Wanted, found: &Found) -> Option<Target> {
    let facts = TableFacts::from_json(&table.facts)?;
    let mut columns = Vec::with_capacity(table.columns.len());
    let mut types = Vec::with_capacity(table.columns.len());
    for column in facts.columns() {
        let now = found.columns.iter().find(|other| other.name == column.name)?;
        if (now.type_oid, now.typmod) != (column.type_oid, column.typmod) {
            return None;
        }
        columns.push(ident(&column.name));
        types.push(now.type_name.clone());
    }
    let key = wanted.key.iter().map(|&at| {
        let name = &table.columns.get(at)?.name;
        let operator = found.operators.get(name)?;
        Some((at, types.get(at)?.clone(), operator.clone()))
    });
    let key: Vec<_> = key.collect::<Option<_>>()?;
    let is_whole = columns.len() == table.columns.len() && found.operators.len() == key.len();
    let large = table.columns.iter().enumerate().filter(|(_, column)| column.may_be_unchanged);
    is_whole.then(|| Target {
        oid: table.incarnation,
        name: format!("{}.{}", ident(&found.schema), ident(&found.name)),
        is_partitioned: found.is_partitioned,
        columns,
        large: large.map(|(index, _)| index).collect(),
        key,
    })
}

/// What the server says of one row, in the column `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is there, and its values follow.
    Read,
    /// The change that it is read for is not visible yet.
    Wait,
    /// It does not fit into this answer.
    Later,
    /// Its values are not to be had.
    Not(NotReselected),
}

impl State {
    /// Reads the letter of [`statement`].
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "r" => Self::Read,
            "w" => Self::Wait,
            "l" => Self::Later,
            "g" => Self::Not(NotReselected::Gone),
            "t" => Self::Not(NotReselected::TooLarge),
            "a" => Self::Not(NotReselected::Altered),
            _ => return None,
        })
    }
}

/// The limits of one answer, in bytes of text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The large columns of one row at most.
    pub(super) row: usize,
    /// All of them together, until this is passed.
    pub(super) all: usize,
}

/// The place in the log as of which a statement that follows it reads, at the least. A statement of
/// its own: its snapshot is taken before that of the next.
const PLACE: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
    ELSE pg_current_wal_insert_lsn() END;";

/// Whether the transaction `x` (32 bits of its id) has its effect in the statement's snapshot. A
/// commit is in the log, and may be sent to us, before other sessions see it.
const VISIBLE: &str = "pg_visible_in_snapshot(full_xid::text::xid8, snapshot)";

/// The statement that reads rows: for each a number, its state, whether the name still is the
/// table's, and its columns. `None` where a row's key cannot be named.
pub(super) fn statement(
    batch: &Batch,
    target: &Target,
    wanted: &Wanted,
    rows: &[&Row],
    bounds: Bounds,
) -> Option<String> {
    let mut keys = String::new();
    for (number, row) in rows.iter().enumerate() {
        let values = key_values(batch, target, wanted, row)?;
        let comma = if number == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(keys, "{comma}({number}{values})");
    }
    let names = |list: &mut dyn Iterator<Item = String>| list.collect::<Vec<_>>().join(", ");
    let key_names = names(&mut (0..target.key.len()).map(|n| format!("k{n}")));
    let columns = names(
        &mut target.columns.iter().enumerate().map(|(at, column)| format!("t.{column} AS c{at}")),
    );
    let values = names(
        &mut (0..target.columns.len()).map(|at| format!("CASE WHEN state = 'r' THEN c{at} END")),
    );
    let size = target.large.iter().fold("0::bigint".to_owned(), |mut sum, &at| {
        let column = target.columns.get(at).map_or("", String::as_str);
        let _ = write!(sum, " + coalesce(octet_length(t.{column}::text), 0)");
        sum
    });
    let same = target.key.iter().enumerate().map(|(n, (at, _, operator))| {
        let column = target.columns.get(*at).map_or("", String::as_str);
        format!("t.{column} {operator} k.k{n}")
    });
    let same = same.collect::<Vec<_>>().join(" AND ");
    let Bounds { row: row_max, all } = bounds;
    let (name, oid) = (&target.name, target.oid);
    let only = if target.is_partitioned { "" } else { "ONLY " };
    let name_literal = literal(name);
    Some(format!(
        "{PLACE} WITH asked AS (SELECT k.*, pg_current_snapshot() AS snapshot \
            FROM (VALUES {keys}) AS k(n, x, {key_names})), \
        seen AS (SELECT k.*, top - CASE WHEN behind > 2147483648 THEN behind - 4294967296 \
                ELSE behind END AS full_xid \
            FROM (SELECT asked.*, top, (top - x) & 4294967295 AS behind FROM asked, \
                LATERAL (SELECT pg_snapshot_xmax(snapshot)::text::bigint AS top) AS s) AS k), \
        found AS (SELECT k.n, {VISIBLE} AS is_visible, r.* FROM seen AS k \
            LEFT JOIN LATERAL (SELECT true AS is_there, {size} AS size, {columns} \
                FROM {only}{name} AS t WHERE {same}) AS r ON true), \
        summed AS (SELECT found.*, sum(CASE WHEN size <= {row_max} THEN size ELSE 0 END) \
            OVER (ORDER BY n ROWS UNBOUNDED PRECEDING) AS total FROM found), \
        judged AS (SELECT summed.*, CASE WHEN NOT is_visible THEN 'w' WHEN is_there IS NULL THEN 'g' \
            WHEN size > {row_max} THEN 't' WHEN total > size AND total - size >= {all} THEN 'l' \
            ELSE 'r' END AS state FROM summed) \
        SELECT n, state, ({name_literal}::regclass)::oid = {oid} AS is_it, {values} FROM judged \
            ORDER BY n"
    ))
}

/// `, xid, key…` of one row.
fn key_values(batch: &Batch, target: &Target, wanted: &Wanted, row: &Row) -> Option<String> {
    let Some(Entry::Change(change)) = batch.entries.get(row.entry) else { return None };
    let columns = &batch.tables.get(row.table)?.columns;
    let tx = batch.txs.get(change.tx as usize)?;
    let xid: u32 = std::str::from_utf8(tx.id.of(&batch.text)).ok()?.parse().ok()?;
    let mut values = format!(", {xid}::bigint");
    let spans = key_spans(batch, change.after, change.before, columns.len(), wanted)?;
    for (span, (at, type_name, _)) in spans.into_iter().zip(&target.key) {
        let text = columns.get(*at)?.decode.text(span.of(&batch.bytes));
        let text = std::str::from_utf8(&text).ok()?;
        // Writing to a String cannot fail.
        let _ = write!(values, ", {}::{type_name}", literal(text));
    }
    Some(values)
}

/// Whether a refusal by the server means that the table is not what it was: an unknown name, or a
/// key that its type does not know any more.
pub(super) fn tells_of_change(error: &tokio_postgres::Error) -> bool {
    const UNDEFINED: [&str; 6] = ["3F000", "42P01", "42703", "42704", "42883", "42804"];
    let code = error.as_db_error().map(|error| error.code().code().to_owned());
    code.is_some_and(|code| UNDEFINED.contains(&code.as_str()) || code.starts_with("22"))
}

/// Whether a refusal by the server means that the role may not read the table.
pub(super) fn tells_of_rights(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| error.code().code() == "42501")
}
