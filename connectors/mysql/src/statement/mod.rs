//! What the statements of QUERY events mean for who follows rows: where transactions begin and end,
//! which tables come, change and go, and which rows change without row events. No I/O, and nothing here
//! panics on any bytes.
//!
//! This is no parser of SQL. A statement in the binlog has been executed, so it is well-formed, and only
//! as much of it is read as says what it does to which tables. What begins like nothing that is known
//! here is [`Statement::Unclear`], never passed over. No text of a statement is kept but names.
//!
//! Names are as they are written: whether they differ by case is for `lower_case_table_names`.

mod cursor;
mod display;
mod lexer;
mod reading;
mod rows;
pub mod shadow;
mod tables;
pub mod tags;
mod transaction;

#[cfg(test)]
mod tests;

use crate::binlog::group::{Query, Xid};
use crate::binlog::table_map::NamedType;
use crate::charset::Charset;

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MySQL's.
    Mysql,
    /// MariaDB's.
    Mariadb,
}

/// What of its session a statement is understood by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session<'a> {
    /// Whose SQL it is.
    pub dialect: Dialect,
    /// `sql_mode`: what quotes and backslashes mean.
    pub sql_mode: u64,
    /// `character_set_client`: what the statement is written in. `None` where it is not known; then
    /// only ASCII is understood.
    pub charset: Option<Charset>,
    /// The default database; empty where there is none.
    pub database: &'a str,
}

impl<'a> Session<'a> {
    /// What a QUERY event says.
    pub fn of(query: &Query<'a>, dialect: Dialect) -> Self {
        Self {
            dialect,
            sql_mode: query.sql_mode.unwrap_or_default(),
            charset: match query.client_collation {
                Some(collation) => Charset::of_collation(collation.into()),
                None => Some(Charset::Utf8mb4),
            },
            // What is no UTF-8 cannot be the name of a database.
            database: std::str::from_utf8(query.schema).unwrap_or_default(),
        }
    }
}

/// The name of a table, with its database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The database; the session's where the statement names none.
    pub schema: String,
    /// The table.
    pub name: String,
}

impl TableName {
    fn lower(&mut self) {
        self.schema = self.schema.to_lowercase();
        self.name = self.name.to_lowercase();
    }
}

/// What a statement does, as far as it concerns who follows rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK of the whole transaction.
    Rollback,
    /// SAVEPOINT. Names of savepoints are equal without regard to case; one that is set again is moved.
    Savepoint(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(String),
    /// RELEASE SAVEPOINT.
    Release(String),
    /// XA START; only MySQL writes it.
    XaStart(Xid),
    /// XA END.
    XaEnd(Xid),
    /// XA PREPARE; the servers write an event of its own instead.
    XaPrepare(Xid),
    /// XA COMMIT.
    XaCommit {
        /// Which.
        xid: Xid,
        /// Whether it was never prepared.
        is_one_phase: bool,
    },
    /// XA ROLLBACK.
    XaRollback(Xid),
    /// Rows change, and the statement came in the place of row events: `binlog_format` is, or was for
    /// this session, STATEMENT or MIXED.
    Dml {
        /// The tables that it changes or may change, by what it says itself. Others may change through
        /// views, triggers, stored functions and foreign keys. Empty, as for `SELECT f()`: any.
        tables: Vec<TableName>,
    },
    /// TRUNCATE TABLE. The servers write one themselves for a MEMORY table that is empty after a
    /// restart.
    Truncate(TableName),
    /// Tables come, change or go, in this order.
    Tables(Vec<TableChange>),
    /// DROP DATABASE, and CREATE OR REPLACE DATABASE, which drops it first.
    DropDatabase(String),
    /// ALTER DATABASE: its tables stay as they are, and those that are created later may have another
    /// character set.
    AlterDatabase(String),
    /// Nothing that concerns rows or the columns of tables that outlive the session: users, views,
    /// triggers, routines, events, sequences, temporary tables, maintenance, settings, CREATE DATABASE.
    Other,
    /// It is not understood.
    Unclear {
        /// The tables that it may concern, and no others. Empty: any.
        tables: Vec<TableName>,
    },
}

/// What happens to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// It is new.
    Created(Creation),
    /// Its columns, keys or options may have changed, or it was moved into another order or engine.
    Altered(TableName),
    /// It is gone; where the statement says IF EXISTS, it may not have been there.
    Dropped(TableName),
    /// It has another name. The names of one RENAME change one after another: `a TO b, b TO c`. With IF
    /// EXISTS, which MariaDB has, the first may not have been there.
    Renamed {
        /// The name before.
        from: TableName,
        /// The name now.
        to: TableName,
    },
    /// A column of it has another name. Those of one statement change all at once: two may swap theirs.
    ColumnRenamed {
        /// Which table, by its name before the statement.
        table: TableName,
        /// The column's name before.
        from: String,
        /// The column's name now.
        to: String,
    },
    /// Rows left it or came into it without row events.
    RowsUnseen {
        /// Which table.
        table: TableName,
        /// How.
        how: Unseen,
        /// The table whose rows came into it, where some did.
        from: Option<TableName>,
    },
}

/// A table that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Its name.
    pub table: TableName,
    /// What it is made of.
    pub origin: Origin,
    /// IF NOT EXISTS: where it was there before, nothing happened. MySQL writes the statement then too.
    pub is_if_not_exists: bool,
    /// OR REPLACE: where it was there before, that one is gone.
    pub is_or_replace: bool,
    /// Of [`Origin::Columns`], those that MariaDB's log has as BINARY though they are more; `None` where they
    /// were not told apart.
    pub addresses: Option<Vec<(String, NamedType)>>,
}

/// What a new table is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The columns that the statement says.
    Columns,
    /// The same, and row events follow in the same transaction (START TRANSACTION, which MySQL writes for
    /// CREATE TABLE … SELECT). MariaDB writes plain columns, and its GTID event does not say standalone.
    ColumnsThenRows,
    /// The columns of another table.
    Like(TableName),
    /// The columns and rows of a query. The rows come without row events.
    Query,
}

/// How rows change without row events, but for TRUNCATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// DROP PARTITION.
    PartitionDropped,
    /// TRUNCATE PARTITION.
    PartitionTruncated,
    /// EXCHANGE PARTITION: two tables swap rows.
    PartitionExchanged,
    /// CONVERT PARTITION … TO TABLE and CONVERT TABLE … TO PARTITION.
    PartitionConverted,
    /// DISCARD TABLESPACE.
    TablespaceDiscarded,
    /// IMPORT TABLESPACE.
    TablespaceImported,
    /// DROP SYSTEM VERSIONING: history is gone.
    HistoryDropped,
}

impl TableChange {
    /// The tables that it names.
    pub fn tables(&self) -> Vec<&TableName> {
        match self {
            Self::Created(Creation { table, origin: Origin::Like(like), .. }) => vec![table, like],
            Self::Created(Creation { table, .. })
            | Self::Altered(table)
            | Self::Dropped(table)
            | Self::ColumnRenamed { table, .. }
            | Self::RowsUnseen { table, .. } => vec![table],
            Self::Renamed { from, to } => vec![from, to],
        }
    }
}

impl TableChange {
    fn lower_names(&mut self) {
        match self {
            Self::Created(Creation { table, origin, .. }) => {
                table.lower();
                if let Origin::Like(like) = origin {
                    like.lower();
                }
            }
            Self::Altered(table) | Self::Dropped(table) | Self::ColumnRenamed { table, .. } => {
                table.lower();
            }
            Self::RowsUnseen { table, from, .. } => {
                table.lower();
                from.iter_mut().for_each(TableName::lower);
            }
            Self::Renamed { from, to } => {
                from.lower();
                to.lower();
            }
        }
    }
}

impl Statement {
    /// The tables that it names.
    pub fn tables(&self) -> Vec<&TableName> {
        match self {
            Self::Dml { tables } | Self::Unclear { tables } => tables.iter().collect(),
            Self::Truncate(table) => vec![table],
            Self::Tables(changes) => changes.iter().flat_map(TableChange::tables).collect(),
            _ => Vec::new(),
        }
    }

    /// Puts the names of databases and tables into lower case, as a server keeps them that has
    /// `lower_case_table_names=1`.
    pub fn lower_names(&mut self) {
        match self {
            Self::Dml { tables } | Self::Unclear { tables } => {
                tables.iter_mut().for_each(TableName::lower);
            }
            Self::Truncate(table) => table.lower(),
            Self::Tables(changes) => changes.iter_mut().for_each(TableChange::lower_names),
            Self::DropDatabase(database) | Self::AlterDatabase(database) => {
                *database = database.to_lowercase();
            }
            _ => {}
        }
    }
}

/// What a statement does.
///
/// Whether a name is that of a temporary table cannot be seen from ALTER, TRUNCATE, RENAME and changes of
/// rows. MariaDB writes such statements where `binlog_format` is not ROW; their events have the flag
/// [`OF_ITS_SESSION`](crate::binlog::event::OF_ITS_SESSION).
pub fn classify(statement: &[u8], session: &Session<'_>) -> Statement {
    reading::classify(statement, session)
}
