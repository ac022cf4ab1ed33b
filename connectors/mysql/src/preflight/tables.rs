//! What tables bring with them that blocks or will hurt.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rowtide_sdk::{Finding, KeyLookup, Result, Severity};

use super::{captured, say};
use crate::codes;
use crate::config::{left_out, unmatched};
use crate::error::{codes as refused, from_sql};
use crate::server::Server;
use crate::setup::ident;
use crate::source::MysqlSource;

type TableRow = (String, String, Option<String>, Option<String>);

/// What each captured table brings with it.
pub(super) async fn table_findings(
    conn: &mut Conn,
    source: &MysqlSource,
    server: &Server,
    keys: KeyLookup<'_>,
) -> Result<Vec<Finding>> {
    let sql = "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.ENGINE, e.TRANSACTIONS
        FROM information_schema.TABLES t
        LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
        WHERE t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')
        ORDER BY t.TABLE_SCHEMA, t.TABLE_NAME";
    let rows: std::result::Result<Vec<TableRow>, _> = conn.query(sql).await;
    let rows = rows.map_err(|error| from_sql(error, "asking for the tables"))?;
    let mut findings = Vec::new();
    let captures = captured(source, server);
    let names: Vec<(String, String)> =
        rows.iter().map(|(schema, name, ..)| (schema.clone(), name.clone())).collect();
    let mut count = 0;
    for (schema, name, engine, transactions) in rows {
        if !captures(&schema, &name) {
            findings.extend(left_out(&source.filter, &schema, &name));
            continue;
        }
        count += 1;
        let place = format!("table {schema}.{name}");
        let indexes = indexes(conn, &schema, &name).await?;
        let key = keys(&schema, &name);
        if let Some(finding) = key_finding(&format!("{schema}.{name}"), &indexes, key.as_deref()) {
            findings.push(finding.at(place.clone()));
        }
        let engine = engine.unwrap_or_default();
        if transactions.as_deref() != Some("YES") && !engine.is_empty() {
            let message = format!(
                "{schema}.{name} is in {engine}, which has no transactions: its changes stay where one is rolled \
                 back, and are delivered then too"
            );
            findings.push(say(Severity::Info, codes::SERVER_SETTING, message, "").at(place));
        }
    }
    findings.extend(partly_shown(conn, server, &captures).await?);
    if count == 0 {
        let message = "no table matches `tables`, or the user may see none";
        let remedy = "check the patterns, and GRANT SELECT on the captured tables";
        findings.push(say(Severity::Warning, codes::NO_TABLES, message, remedy));
        return Ok(findings);
    }
    for pattern in unmatched(&source.filter, server.name_case(), &names) {
        let message = format!(
            "`tables.include`: no table matches `{pattern}`, or the user may see none of them: a table that is \
             changed and may not be seen stops the connector where the log does not name its columns (RT2801)"
        );
        let remedy = "check the pattern, and GRANT SELECT on the captured tables";
        findings.push(say(Severity::Warning, codes::NO_TABLES, message, remedy));
    }
    Ok(findings)
}

/// Captured tables of which the user may read some columns alone: the catalog shows it no others.
async fn partly_shown(
    conn: &mut Conn,
    server: &Server,
    captures: &(dyn Fn(&str, &str) -> bool + Send + Sync),
) -> Result<Vec<Finding>> {
    let sql = "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM information_schema.COLUMN_PRIVILEGES
        WHERE PRIVILEGE_TYPE = 'SELECT'";
    let rows: std::result::Result<Vec<(String, String)>, _> = conn.query(sql).await;
    let rows = rows.map_err(|error| from_sql(error, "asking for rights to columns"))?;
    let mut findings = Vec::new();
    for (schema, name) in rows.into_iter().filter(|(schema, name)| captures(schema, name)) {
        // Another right may be to the whole table.
        let whole = format!("SELECT * FROM {}.{} LIMIT 0", ident(&schema), ident(&name));
        let Err(error) = conn.query_drop(whole).await else { continue };
        let error = from_sql(error, "reading a table");
        if error.code() == refused::PERMISSION {
            let (severity, then) = match server.has_full_metadata() {
                true => (Severity::Warning, "those of the log are captured all the same"),
                false => (Severity::Error, "the connector stops at the table's first row (RT2801)"),
            };
            let message = format!(
                "the user may read some columns of {schema}.{name} alone, and the catalog shows it no others: {then}"
            );
            let remedy = "GRANT SELECT on the table, not on some of its columns; the source reads no rows of it";
            let place = format!("table {schema}.{name}");
            findings.push(say(severity, codes::RIGHT, message, remedy).at(place));
        }
    }
    Ok(findings)
}

/// A column of an index: the index, whether its rows may be alike, the column where it is one, whether that
/// may be NULL.
type IndexPart = (String, u64, Option<String>, Option<String>);

/// The indexes of a table. Asked of each: MariaDB opens every table of the server for a question about all.
async fn indexes(conn: &mut Conn, schema: &str, table: &str) -> Result<Vec<IndexPart>> {
    let sql =
        "SELECT INDEX_NAME, NON_UNIQUE, COLUMN_NAME, NULLABLE FROM information_schema.STATISTICS
        WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
    let rows: std::result::Result<Vec<IndexPart>, _> = conn.exec(sql, (schema, table)).await;
    rows.map_err(|error| from_sql(error, "asking for a table's indexes"))
}

/// A table without a key, and one with a configured key that rows may share.
fn key_finding(table: &str, indexes: &[IndexPart], key: Option<&[String]>) -> Option<Finding> {
    let is_within = |key: &[String], index: &str| {
        let mut parts = indexes.iter().filter(|(name, ..)| name == index);
        parts.all(|(_, non_unique, column, nullable)| {
            let is_named = |column: &String| key.iter().any(|key| key.eq_ignore_ascii_case(column));
            *non_unique == 0
                && nullable.as_deref() != Some("YES")
                && column.as_ref().is_some_and(is_named)
        })
    };
    let (message, remedy) = match key {
        None if indexes.iter().any(|(index, ..)| index == "PRIMARY") => return None,
        None => (
            format!("{table} has no primary key: its events have no key"),
            "add a primary key, or set `key` for the table, or `tables.exclude`",
        ),
        Some(key) if indexes.iter().any(|(index, ..)| is_within(key, index)) => return None,
        Some(key) => (
            format!(
                "rows of {table} may share a key, and the tombstones of each other's deletes: no unique index \
                 on NOT NULL columns is within {}",
                key.join(", ")
            ),
            "make the columns NOT NULL and put a unique index on them, or choose another `key`",
        ),
    };
    Some(say(Severity::Warning, codes::NO_KEY, message, remedy))
}

/// Foreign keys that change rows without events (M-36). Asked of each table itself: MariaDB's catalog
/// shows them only to who may do more than read.
pub(crate) async fn cascades(
    conn: &mut Conn,
    captures: &(dyn Fn(&str, &str) -> bool + Send + Sync),
) -> Result<Vec<Finding>> {
    let doing = "asking for the foreign keys";
    let native = "SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'";
    let native: std::result::Result<Option<(String, String)>, _> = conn.query_first(native).await;
    let native = native.map_err(|error| from_sql(error, doing))?;
    // From 9.6 on the server carries them out above the engine, and logs what they do.
    if native.is_some_and(|(_, value)| value.eq_ignore_ascii_case("OFF")) {
        return Ok(Vec::new());
    }
    let tables = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
        WHERE TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_SCHEMA, TABLE_NAME";
    let tables: std::result::Result<Vec<(String, String)>, _> = conn.query(tables).await;
    let tables = tables.map_err(|error| from_sql(error, doing))?;
    let mut findings = Vec::new();
    for (schema, table) in tables.into_iter().filter(|(schema, table)| captures(schema, table)) {
        let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
        let sql = format!("SHOW CREATE TABLE {}.{}", quoted(&schema), quoted(&table));
        // Who may not read a table is told so by the rest.
        let shown: std::result::Result<Option<(String, String)>, _> = conn.query_first(sql).await;
        let Ok(Some((_, shown))) = shown else { continue };
        for name in acting_keys(&shown) {
            let message = format!(
                "foreign key {name} of {schema}.{table} changes its rows when those that they refer to change \
                 (CASCADE, SET NULL): the storage engine does it below the log, and no event comes"
            );
            let remedy = "have the application, or a trigger, change these rows; or let what reads the events \
                 carry the rule out too (MySQL 9.6 and newer log it)";
            let finding = say(Severity::Warning, codes::CASCADE, message, remedy);
            findings.push(finding.at(format!("table {schema}.{table}")));
        }
    }
    Ok(findings)
}

/// The names of the foreign keys that change rows, in a table's definition as the server prints it.
fn acting_keys(shown: &str) -> Vec<&str> {
    let lines = shown.lines().map(str::trim).filter_map(|line| line.strip_prefix("CONSTRAINT `"));
    let acts = |line: &&str| {
        let rules = line.rsplit_once(')').map_or("", |(_, rules)| rules);
        line.contains("` FOREIGN KEY (") && (rules.contains("CASCADE") || rules.contains("SET "))
    };
    lines.filter(acts).filter_map(|line| line.split('`').next()).collect()
}

/// Columns of MariaDB that are not in its log, or not as what they are.
pub(super) async fn columns(
    conn: &mut Conn,
    captures: &(dyn Fn(&str, &str) -> bool + Send + Sync),
) -> Result<Vec<Finding>> {
    type Column = (String, String, String, bool, bool, bool);
    let sql = "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE LIKE '%COMPRESSED%',
            DATA_TYPE = 'bigint', COLUMN_TYPE LIKE '%(_)%mariadb-5.3%'
        FROM information_schema.COLUMNS
        WHERE COLUMN_TYPE LIKE '%(_)%mariadb-5.3%' OR COLUMN_TYPE LIKE '%COMPRESSED%' OR DATA_TYPE IN ('uuid', 'inet6', 'inet4')
            OR COLUMN_NAME LIKE 'DB\\\\_ROW\\\\_HASH\\\\_%' AND COLUMN_TYPE LIKE 'bigint%unsigned'
        ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION";
    let rows: std::result::Result<Vec<Column>, _> = conn.query(sql).await;
    let rows = rows.map_err(|error| from_sql(error, "asking for the columns"))?;
    let mut findings = Vec::new();
    for (schema, table, column, is_compressed, is_number, has_fractions) in rows {
        if !captures(&schema, &table) {
            continue;
        }
        let name = format!("column {column} of {schema}.{table}");
        let (severity, message, remedy) = if is_compressed {
            let message = format!("{name} is COMPRESSED, which cannot be read from the log");
            let remedy = "`tables.exclude` the table, or ALTER it so that the column is not";
            (Severity::Error, message, remedy)
        } else if has_fractions {
            let message = format!(
                "{name} has fractions of a second in the form that MariaDB had before 10.1, whose size the log does \
                 not tell: the connector stops at the table's first row (RT2801)"
            );
            let remedy = "with mysql56_temporal_format=ON, ALTER TABLE … FORCE gives the table today's form; or \
                 `tables.exclude` it";
            (Severity::Error, message, remedy)
        } else if is_number {
            let message = format!(
                "{name} is called as MariaDB calls the hashes of unique keys: as the last column the log does not tell it from those, and the connector stops (RT2801)"
            );
            (Severity::Warning, message, "give the column another name")
        } else {
            let message = format!(
                "{name} is a UUID or an address, and the log calls it BINARY: the catalog tells, and the \
                 connector stops where the column or table was dropped, renamed or changed before its rows were \
                 read (RT2801)"
            );
            (Severity::Info, message, "do so only while the connector keeps up")
        };
        let finding = say(severity, codes::TABLE_UNREADABLE, message, remedy);
        findings.push(finding.at(format!("table {schema}.{table}")));
    }
    Ok(findings)
}

/// Tables whose history MariaDB keeps by the numbers of transactions: it logs their changes as statements,
/// whatever `binlog_format` says.
pub(super) async fn versioned(
    conn: &mut Conn,
    captures: &(dyn Fn(&str, &str) -> bool + Send + Sync),
) -> Result<Vec<Finding>> {
    let sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.COLUMNS
        WHERE GENERATION_EXPRESSION = 'ROW START' AND DATA_TYPE = 'bigint'
        ORDER BY TABLE_SCHEMA, TABLE_NAME";
    let rows: std::result::Result<Vec<(String, String)>, _> = conn.query(sql).await;
    let rows = rows.map_err(|error| from_sql(error, "asking for versioned tables"))?;
    let captured = rows.into_iter().filter(|(schema, table)| captures(schema, table));
    let finding = |(schema, table)| {
        let message = format!(
            "{schema}.{table} keeps its history by transaction number (BIGINT … ROW START): MariaDB logs its \
             changes as statements, and what the rows were cannot be known from those"
        );
        let remedy = "`tables.exclude` the table, or have its history kept by time (TIMESTAMP(6) … ROW START)";
        say(Severity::Error, codes::STATEMENT, message, remedy)
            .at(format!("table {schema}.{table}"))
    };
    Ok(captured.map(finding).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_rows_may_share_is_named() {
        let part = |index: &str, non_unique: u64, column: &str, nullable: &str| {
            (index.to_owned(), non_unique, Some(column.to_owned()), Some(nullable.to_owned()))
        };
        let indexes = [
            part("PRIMARY", 0, "id", ""),
            part("u", 0, "a", ""),
            part("u", 0, "b", ""),
            part("n", 0, "c", "YES"),
            part("many", 1, "d", ""),
            ("f".to_owned(), 0, None, None),
        ];
        let of = |key: Option<&[&str]>, indexes: &[IndexPart]| {
            let key =
                key.map(|key| key.iter().map(|&column| column.to_owned()).collect::<Vec<_>>());
            key_finding("shop.t", indexes, key.as_deref()).map(|finding| finding.message)
        };
        for unique in [&["ID"][..], &["b", "a"], &["c", "id"], &["a", "b", "d"]] {
            assert_eq!(of(Some(unique), &indexes), None, "{unique:?}");
        }
        for shared in [&["a"][..], &["c"], &["d"], &["x"], &[]] {
            let said = of(Some(shared), &indexes);
            assert!(said.is_some_and(|said| said.contains("may share a key")), "{shared:?}");
        }
        assert_eq!(of(None, &indexes), None);
        assert!(of(None, &[]).is_some_and(|said| said.contains("no primary key")));
    }

    #[test]
    fn m36_keys_that_change_rows_are_found_in_a_definition() {
        let shown = "CREATE TABLE `t` (\n  `a` int COMMENT 'CONSTRAINT ` FOREIGN KEY ( ) CASCADE',\n  \
             CONSTRAINT `k1` FOREIGN KEY (`a`) REFERENCES `u` (`id`) ON DELETE CASCADE,\n  \
             CONSTRAINT `k2` FOREIGN KEY (`a`) REFERENCES `u` (`id`),\n  \
             CONSTRAINT `k3` FOREIGN KEY (`a`) REFERENCES `u` (`id`) ON UPDATE SET NULL\n)";
        assert_eq!(acting_keys(shown), ["k1", "k3"]);
    }
}
