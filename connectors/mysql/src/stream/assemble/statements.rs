//! Statements in the log: the frame of transactions, tables that are emptied or changed, and what came
//! in the place of row events.

use std::sync::Arc;

use rowtide_sdk::{Error, Origin as Part, Result, Table};

use super::{Assembler, Changed, Step, micros};
use crate::binlog::event::{Header, OF_ITS_SESSION};
use crate::binlog::group::Query;
use crate::codes;
use crate::config::NameCase;
use crate::statement::{
    Creation, Dialect, Origin, Session, Statement, TableChange, TableName, classify,
};
use crate::stream::progress::{Begin, Name, Place};

impl Assembler {
    /// Takes in a statement.
    pub(super) fn query(&mut self, header: &Header, body: &[u8]) -> Result<Option<Step>> {
        let query = self.parsed(Query::parse(body))?;
        let mut statement = match query.statement {
            b"BEGIN" => Statement::Begin,
            b"COMMIT" => Statement::Commit,
            text => {
                let dialect = if self.is_mariadb { Dialect::Mariadb } else { Dialect::Mysql };
                classify(text, &Session::of(&query, dialect))
            }
        };
        if self.names != NameCase::Kept {
            statement.lower_names();
        }
        if !self.progress.is_open() {
            // Servers that name no transactions begin them with their first statement.
            let commit_us = micros(header.timestamp);
            self.begin(Begin { name: Name::Place, commit_us, is_direct: false })?;
            self.is_block = false;
        }
        let is_of_session = header.flags & OF_ITS_SESSION != 0;
        let step = match statement {
            // Of a temporary table, under the name that a table of everybody may have too.
            Statement::Truncate(_) if is_of_session => None,
            Statement::Tables(changes) if is_of_session && is_of_one_table(&changes) => None,
            statement => self.statement(statement)?,
        };
        if step.is_none() && !self.is_replaying() && self.progress.is_open() && !self.is_block {
            self.finish()?;
        }
        Ok(step)
    }

    fn statement(&mut self, statement: Statement) -> Result<Option<Step>> {
        match statement {
            Statement::Begin | Statement::XaStart(_) => {
                self.is_block = true;
                if matches!(statement, Statement::XaStart(_)) {
                    self.progress.hold();
                }
            }
            Statement::Commit => return self.committed(),
            Statement::Rollback => return self.rolled_back(),
            Statement::Savepoint(name) => self.store.savepoint(name.to_lowercase().into_bytes()),
            Statement::RollbackTo(name) => self.rolled_back_to(&name)?,
            Statement::XaCommit { xid, .. } => return self.commit_prepared(&xid.to_string()),
            Statement::XaRollback(xid) => {
                self.forget_prepared(&xid.to_string());
            }
            Statement::Dml { tables } => self.refuse_statement(&tables)?,
            Statement::Truncate(table) => return self.truncate(&table),
            Statement::Tables(changes) => self.table_changes(&changes)?,
            Statement::DropDatabase(database) => {
                self.note_dropped(&database);
                self.tables.forget(|map| map.schema == database);
                let name = String::new();
                self.changed.push(Changed { schema: database, name, addresses: None });
            }
            Statement::Unclear { tables } => self.refuse_unclear(&tables)?,
            Statement::Release(_)
            | Statement::XaEnd(_)
            | Statement::XaPrepare(_)
            | Statement::AlterDatabase(_)
            | Statement::Other => {}
        }
        Ok(None)
    }

    /// The open transaction is rolled back; what it did to tables that are not transactional stays.
    fn rolled_back(&mut self) -> Result<Option<Step>> {
        self.store.roll_back();
        if let Some(held) = self.store.take_open() {
            return self.begin_replay(held);
        }
        self.undo("was rolled back")?;
        self.finish()?;
        Ok(None)
    }

    fn rolled_back_to(&mut self, name: &str) -> Result<()> {
        if self.progress.is_passed() {
            return Ok(());
        }
        if self.progress.is_direct() && self.progress.has_counted() {
            return self.undo("was rolled back in part");
        }
        let known = self.store.roll_back_to(name.to_lowercase().as_bytes());
        known.ok_or_else(|| self.not_understood("a savepoint that was not set"))
    }

    fn is_wanted(&self, table: &TableName) -> bool {
        (self.filter)(&table.schema, &table.name)
    }

    fn wanted<'t>(&self, tables: impl IntoIterator<Item = &'t TableName>) -> Vec<&'t TableName> {
        tables.into_iter().filter(|table| self.is_wanted(table)).collect()
    }

    /// Rows changed, and the log does not say which.
    fn refuse_statement(&self, tables: &[TableName]) -> Result<()> {
        let wanted = self.wanted(tables);
        if self.progress.is_passed() || (wanted.is_empty() && !tables.is_empty()) {
            return Ok(());
        }
        Err(self.statement_error(&wanted))
    }

    fn statement_error(&self, tables: &[&TableName]) -> Error {
        let Place { file, pos } = &self.place;
        let names = names(tables).unwrap_or_else(|| "tables that it does not name".to_owned());
        let message = format!(
            "at {file}:{pos} rows of {names} were changed by a statement that the server logged as text, \
             without the rows"
        );
        Error::fatal(Part::Source, codes::STATEMENT, message).with_remedy(
            "set binlog_format=ROW on the server, and let no session set another (MariaDB logs changes of a table \
             whose row start is a transaction's number so whatever is set: leave it out by `tables.exclude`); \
             bring the target in step with the tables, and set the position behind the statement with `rowtide position set --connector NAME --at PLACE`",
        )
    }

    pub(super) fn load_statement(&self) -> Error {
        self.statement_error(&[])
    }

    fn refuse_unclear(&self, tables: &[TableName]) -> Result<()> {
        let wanted = self.wanted(tables);
        if self.progress.is_passed() || (wanted.is_empty() && !tables.is_empty()) {
            return Ok(());
        }
        let Place { file, pos } = &self.place;
        let names = names(&wanted).unwrap_or_else(|| "which tables is not clear".to_owned());
        let message = format!(
            "the statement at {file}:{pos} is not understood, and may change tables ({names})"
        );
        Err(Error::fatal(Part::Source, codes::STATEMENT_UNCLEAR, message).with_remedy(
            "look at the statement (`mysqlbinlog --start-position`); where it changes no captured rows, set \
             the position behind it with `rowtide position set --connector NAME --at PLACE`; and report it",
        ))
    }

    fn truncate(&mut self, name: &TableName) -> Result<Option<Step>> {
        if !self.is_wanted(name) || self.progress.is_passed() {
            return Ok(None);
        }
        match self.tables.newest(&name.schema, &name.name).cloned() {
            Some(table) => {
                self.truncated(&table)?;
                Ok(None)
            }
            None => {
                self.truncating = Some(name.to_string());
                Ok(Some(Step::DescribeNamed(name.schema.clone(), name.name.clone())))
            }
        }
    }

    /// Answers [`Step::DescribeNamed`]; `None` where there is no such table any more.
    ///
    /// # Errors
    /// As [`Assembler::event`].
    pub(crate) fn learn_named(&mut self, table: Option<Arc<Table>>) -> Result<Step> {
        if let Some(name) = self.truncating.take() {
            match table {
                Some(table) => self.truncated(&self.as_logged(table))?,
                None => tracing::warn!(
                    code = %codes::ROWS_UNSEEN,
                    table = name,
                    statement = "truncate a table that is gone since",
                    place = %self.progress.id(),
                    "rows of a table came or went without events"
                ),
            }
            if self.progress.is_open() && !self.is_block {
                self.finish()?;
            }
        }
        Ok(self.next())
    }

    fn table_changes(&mut self, changes: &[TableChange]) -> Result<()> {
        self.note_altered(changes);
        for change in changes {
            for name in change.tables() {
                self.tables.forget(|map| map.schema == name.schema && map.name == name.name);
                let TableName { schema, name } = name.clone();
                self.changed.push(Changed { schema, name, addresses: None });
            }
            if let (TableChange::Created(creation), Some(changed)) =
                (change, self.changed.last_mut())
                && matches!(creation.origin, Origin::Columns | Origin::ColumnsThenRows)
                && !creation.is_if_not_exists
            {
                changed.addresses.clone_from(&creation.addresses);
            }
            match change {
                TableChange::Created(Creation { origin: Origin::ColumnsThenRows, .. }) => {
                    self.is_block = true;
                }
                TableChange::Created(Creation { origin: Origin::Query, table, .. }) => {
                    self.refuse_statement(std::slice::from_ref(table))?;
                }
                TableChange::RowsUnseen { table, how, .. }
                    if self.is_wanted(table) && !self.progress.is_passed() =>
                {
                    tracing::warn!(
                        code = %codes::ROWS_UNSEEN,
                        %table,
                        statement = %how,
                        place = %self.progress.id(),
                        "rows of a table came or went without events, which the server does not log; where the \
                         target should not differ by them, bring it in step with the table"
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a statement changes a single table that was there before. One that makes a table, or renames
/// several, is marked as of its session too where any of them is temporary.
fn is_of_one_table(changes: &[TableChange]) -> bool {
    let renamed = changes.iter().filter(|change| matches!(change, TableChange::Renamed { .. }));
    let is_other = |change| matches!(change, &TableChange::Created(_) | &TableChange::Dropped(_));
    renamed.count() <= 1 && !changes.iter().any(is_other)
}

/// Names, one after another; `None` where there are none.
fn names(tables: &[&TableName]) -> Option<String> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
