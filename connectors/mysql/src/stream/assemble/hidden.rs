//! What settings hide stays hidden where statements give it other names.
//!
//! The log of these servers has no numbers of tables and columns, but it has the statements: a table that
//! is renamed, or gets rows of another, is noted for the host, which judges its first change; a column that
//! is renamed is judged here, at the statement, whatever takes its name.

use rowtide_sdk::{Error, Origin, Result};

use super::Assembler;
use crate::codes;
use crate::statement::TableName;
use crate::statement::shadow::{Role, shadow_of};
use crate::stream::progress::Place;

impl Assembler {
    /// Notes that rows of one table come under the name of another from here on.
    pub(super) fn note_renamed(&self, from: &TableName, to: &TableName) {
        if let Some((hiding, sightings)) = &self.hidden {
            sightings.note_renamed(hiding, (&from.schema, &from.name), (&to.schema, &to.name));
        }
    }

    /// Refuses a column that settings hide and that has a name now under which they show it. Without
    /// regard to case, as the server compares names of columns.
    ///
    /// # Errors
    /// `RT5015`, fatal.
    pub(super) fn check_column(&self, table: &TableName, from: &str, to: &str) -> Result<()> {
        let (Some((hiding, _)), false) = (&self.hidden, self.progress.is_passed()) else {
            return Ok(());
        };
        let Some(name) = self.captured_as(table) else { return Ok(()) };
        let hidden = hiding(&table.schema, name).columns;
        let from_lower = from.to_lowercase();
        let was_hidden = hidden.iter().any(|column| column.to_lowercase() == from_lower);
        if !was_hidden || hidden.iter().any(|column| column == to) {
            return Ok(());
        }
        let Place { file, pos } = &self.place;
        let table = format!("{}.{name}", table.schema);
        let message = format!(
            "settings hide the column {from} of {table}, and the statement at {file}:{pos} calls it {to}, \
             which they show; nothing was published with it"
        );
        Err(Error::fatal(Origin::Config, codes::SETTINGS_SHED, message).with_remedy(format!(
            "hide {to} too, in the `columns` of {table}'s settings under `tables`; where it may be \
             published from here on, take it out of them again once the connector is past the statement"
        )))
    }

    /// The name of the captured table that this one is, or will be: a copy that a tool changes takes the
    /// table's name in the end.
    fn captured_as<'t>(&self, table: &'t TableName) -> Option<&'t str> {
        let TableName { schema, name } = table;
        if (self.filter)(schema, name) {
            return Some(name);
        }
        let shadow = shadow_of(name).filter(|shadow| shadow.role == Role::New)?;
        (self.filter)(schema, shadow.table).then_some(shadow.table)
    }
}
