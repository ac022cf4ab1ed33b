//! Tables as the log describes them.

use std::sync::Arc;

use crate::value::{Decode, Form};

/// What the log carries of the old row in updates and deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The primary key.
    Default,
    /// The whole row.
    Full,
    /// The columns of a unique index.
    Index,
    /// Nothing: updates and deletes cannot be captured.
    Nothing,
}

/// One column, in the order of the log's own column list.
#[derive(Debug, Clone)]
pub struct Column {
    /// The column's name, unquoted.
    pub name: String,
    /// The type as the database prints it, with its modifier: `numeric(10,2)`.
    pub type_name: String,
    /// The JSON form of its values.
    pub form: Form,
    /// Writes its values.
    pub decode: Arc<dyn Decode>,
    /// Whether the log's row identity holds the column (the key under DEFAULT, the index's columns,
    /// every column under FULL).
    pub is_identity: bool,
    /// Whether an update may leave the value out (a value the server stores out of line and does
    /// not log again when unchanged).
    pub may_be_unchanged: bool,
}

/// A table version: everything needed to decode and describe its rows until the log says otherwise.
#[derive(Debug, Clone)]
pub struct Table {
    /// The database.
    pub db: String,
    /// The schema; where schema and database are one (MySQL), the database again.
    pub schema: String,
    /// The table's name, unquoted.
    pub name: String,
    /// The columns, in log order.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the primary key, in table order; empty where there is none.
    pub primary_key: Vec<usize>,
    /// The row identity in force.
    pub identity: Identity,
    /// Which table under this name it is (the oid): dropped and created again is another one. Zero
    /// where the server has no such number.
    pub incarnation: u64,
    /// Catalog facts frozen at first sight, as canonical JSON written by the source and opaque to
    /// the host. Saved with the schema version and handed back at start as
    /// [`crate::KnownTable`], so that a replay describes the table as it did the first time.
    pub facts: String,
}

impl Table {
    /// The index of the column with this name.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}
