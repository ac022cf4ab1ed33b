//! What a statement does, in a few words and the names of tables, for messages.

use std::fmt;

use super::{Creation, Origin, Statement, TableChange, TableName, Unseen};
use crate::binlog::group::Xid;

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("begin"),
            Self::Commit => f.write_str("commit"),
            Self::Rollback => f.write_str("rollback"),
            Self::Savepoint(name) => write!(f, "savepoint {name}"),
            Self::RollbackTo(name) => write!(f, "rollback to {name}"),
            Self::Release(name) => write!(f, "release {name}"),
            Self::XaStart(xid) => xa(f, "start", xid),
            Self::XaEnd(xid) => xa(f, "end", xid),
            Self::XaPrepare(xid) => xa(f, "prepare", xid),
            Self::XaCommit { xid, is_one_phase: false } => xa(f, "commit", xid),
            Self::XaCommit { xid, is_one_phase: true } => xa(f, "commit in one phase", xid),
            Self::XaRollback(xid) => xa(f, "rollback", xid),
            Self::Dml { tables } => listed(f, "rows", tables),
            Self::Truncate(table) => write!(f, "truncate {table}"),
            Self::Tables(changes) => listed(f, "tables", changes),
            Self::DropDatabase(name) => write!(f, "drop database {name}"),
            Self::AlterDatabase(name) => write!(f, "alter database {name}"),
            Self::Other => f.write_str("other"),
            Self::Unclear { tables } => listed(f, "unclear", tables),
        }
    }
}

impl fmt::Display for TableChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(creation) => creation.fmt(f),
            Self::Altered(table) => write!(f, "alter {table}"),
            Self::Dropped(table) => write!(f, "drop {table}"),
            Self::Renamed { from, to } => write!(f, "rename {from} to {to}"),
            Self::ColumnRenamed { table, from, to } => {
                write!(f, "rename column {from} of {table} to {to}")
            }
            Self::RowsUnseen { table, how, from: None } => write!(f, "{how} {table}"),
            Self::RowsUnseen { table, how, from: Some(from) } => {
                write!(f, "{how} {table} with rows of {from}")
            }
        }
    }
}

impl fmt::Display for Creation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, origin, is_if_not_exists, is_or_replace, .. } = self;
        f.write_str(if *is_or_replace { "create or replace " } else { "create " })?;
        f.write_str(if *is_if_not_exists { "if not exists " } else { "" })?;
        table.fmt(f)?;
        match origin {
            Origin::Columns => Ok(()),
            Origin::ColumnsThenRows => f.write_str(" with rows"),
            Origin::Like(like) => write!(f, " like {like}"),
            Origin::Query => f.write_str(" from a query"),
        }
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PartitionDropped => "drop a partition of",
            Self::PartitionTruncated => "truncate a partition of",
            Self::PartitionExchanged => "exchange a partition of",
            Self::PartitionConverted => "convert a partition of",
            Self::TablespaceDiscarded => "discard the tablespace of",
            Self::TablespaceImported => "import the tablespace of",
            Self::HistoryDropped => "drop the history of",
        })
    }
}

fn xa(f: &mut fmt::Formatter<'_>, what: &str, xid: &Xid) -> fmt::Result {
    write!(f, "xa {what} ")?;
    for part in [&xid.global, &xid.branch] {
        for byte in part {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(",")?;
    }
    write!(f, "{}", xid.format)
}

fn listed(f: &mut fmt::Formatter<'_>, what: &str, parts: &[impl fmt::Display]) -> fmt::Result {
    f.write_str(what)?;
    for (at, part) in parts.iter().enumerate() {
        write!(f, "{} {part}", if at == 0 { ":" } else { "," })?;
    }
    Ok(())
}
