//! What statements did to tables since the last rows of those.
//!
//! The log of these servers has no numbers of tables and columns, but it has the statements. What was saved
//! of a table is not used again where one changed it since, and what settings hide stays hidden where it got
//! another name: a table that is renamed, or gets rows of another, is noted for the host, which judges its
//! first change; a column that is renamed is judged here, at the first row, whatever has taken its name. All
//! of this is part of the position, as a restart may come between the statement and the row.

use std::collections::{BTreeMap, HashSet};

use rowtide_sdk::{Batch, Entry, Error, Hidden, Hiding, KnownTable, Op, Origin, Result, Table};

use super::Assembler;
use crate::catalog::Name;
use crate::codes;
use crate::position::{Altered, RenamedColumn};
use crate::statement::shadow::shadow_of;
use crate::statement::{Creation, Origin as Made, TableChange, TableName};
use crate::stream::progress::Place;

/// How many entries the batch at hand had when a statement came; those behind them are of the table as it is
/// since.
type Mark = usize;

/// What is told with the next position.
#[derive(Debug, Default)]
pub(super) struct AlteredTables {
    /// Tables of which what the catalog said is saved, or will be with the batch at hand.
    described: HashSet<Name>,
    /// Those of them that are otherwise since.
    outdated: BTreeMap<Name, Mark>,
    columns: Vec<(RenamedColumn, Mark)>,
}

impl AlteredTables {
    /// Goes on from a position, with what was saved of tables.
    pub(super) fn new(known: &[KnownTable], altered: &Altered) -> Self {
        let described = known.iter().filter(|table| !table.facts.is_empty());
        let described = described.map(|table| (table.schema.clone(), table.name.clone())).collect();
        let outdated = match altered.is_unread {
            true => Vec::from_iter(&described),
            false => altered.tables.iter().collect(),
        };
        Self {
            outdated: outdated.into_iter().map(|name| (name.clone(), 0)).collect(),
            described,
            columns: altered.columns.iter().map(|column| (column.clone(), 0)).collect(),
        }
    }

    /// What the batch at hand was read by is saved with it, so a statement behind its rows makes that out of
    /// date too.
    fn describe(&mut self, batch: &Batch) {
        for table in batch.tables.iter().filter(|table| !table.facts.is_empty()) {
            self.described.insert((table.schema.clone(), table.name.clone()));
        }
    }

    /// A statement changed a table, or all of a schema where the name is empty.
    fn alter(&mut self, schema: &str, name: &str, mark: Mark) {
        let is_it = |table: &&Name| table.0 == schema && (name.is_empty() || table.1 == name);
        for table in self.described.iter().filter(is_it) {
            self.outdated.insert(table.clone(), mark);
        }
    }

    /// The batch is handed over, and with it what its rows were read by. A renamed column is judged with a row
    /// of a table whose settings hide it: until then its table may come by such a name.
    pub(super) fn take(&mut self, batch: &Batch, hiding: Option<&Hiding>) {
        self.describe(batch);
        if self.outdated.is_empty() && self.columns.is_empty() {
            return;
        }
        // Where each table's last row is.
        let mut last = vec![None; batch.tables.len()];
        for (at, entry) in batch.entries.iter().enumerate() {
            let Entry::Change(change) = entry else { continue };
            let last = usize::try_from(change.table).ok().and_then(|table| last.get_mut(table));
            if let Some(last) = last.filter(|_| change.op != Op::Truncate) {
                *last = Some(at);
            }
        }
        let has_rows = |schema: &str, name: &str, mark: Mark| {
            let mut tables = batch.tables.iter().zip(&last);
            tables.any(|(table, last)| {
                table.schema == schema && table.name == name && last.is_some_and(|at| at >= mark)
            })
        };
        self.outdated.retain(|table, mark| !has_rows(&table.0, &table.1, std::mem::take(mark)));
        self.columns.retain_mut(|(column, mark)| {
            let RenamedColumn { schema, table, was, .. } = column;
            let is_hidden = || hiding.is_none_or(|all| all.of(schema, table).columns.contains(was));
            !(has_rows(schema, table, std::mem::take(mark)) && is_hidden())
        });
    }

    /// What a position says of it.
    pub(super) fn saved(&self) -> Altered {
        Altered {
            is_unread: false,
            tables: self.outdated.keys().cloned().collect(),
            columns: self.columns.iter().map(|(column, _)| column.clone()).collect(),
        }
    }

    /// A table has what others have whose names are `from`: it is a copy.
    fn inherit(&mut self, from: impl Fn(&RenamedColumn) -> bool, to: &TableName, mark: Mark) {
        let columns = self.columns.iter().map(|(column, _)| column);
        let inherited: Vec<_> = columns.filter(|column| from(column)).cloned().collect();
        self.give(&inherited, to, mark);
    }

    fn give(&mut self, columns: &[RenamedColumn], to: &TableName, mark: Mark) {
        for column in columns {
            let (schema, table) = (to.schema.clone(), to.name.clone());
            let given = RenamedColumn { schema, table, ..column.clone() };
            self.columns.retain(|(column, _)| *column != given);
            self.columns.push((given, mark));
        }
    }

    /// A table has another name. The one that takes its name by the same statement is its copy: `vacated` is
    /// what the names had that the statement has changed so far.
    fn rename(
        &mut self,
        from: &TableName,
        to: &TableName,
        mark: Mark,
        vacated: &mut Vec<RenamedColumn>,
    ) {
        let columns = self.columns.iter().map(|(column, _)| column);
        let of_from: Vec<_> = columns.filter(|column| column.is_of(from)).cloned().collect();
        self.forget(from);
        let of_to: Vec<_> = vacated.iter().filter(|column| column.is_of(to)).cloned().collect();
        self.give(&of_from, to, mark);
        self.give(&of_to, to, mark);
        vacated.extend(of_from);
    }

    /// A table is gone, or another one has its name.
    fn forget(&mut self, table: &TableName) {
        self.columns.retain(|(column, _)| !column.is_of(table));
    }
}

/// Whether the server takes them for one name of a column.
fn is_same(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

impl Assembler {
    /// Notes what a statement changes. What was handed over already, and comes again, is noted already.
    pub(super) fn note_altered(&mut self, changes: &[TableChange]) {
        if self.progress.is_passed() {
            return;
        }
        self.rename_columns(changes);
        self.altered.describe(&self.batch);
        let mark = self.batch.entries.len();
        let mut vacated = Vec::new();
        for change in changes {
            for table in change.tables() {
                self.altered.alter(&table.schema, &table.name, mark);
            }
            match change {
                TableChange::Renamed { from, to } => {
                    self.note_renamed(from, to);
                    self.altered.rename(from, to, mark, &mut vacated);
                }
                TableChange::RowsUnseen { table, from: Some(from), .. } => {
                    self.note_renamed(from, table);
                    self.altered.inherit(|column| column.is_of(from), table, mark);
                }
                TableChange::Dropped(table) => self.altered.forget(table),
                TableChange::Created(creation) => self.note_created(creation, mark),
                _ => {}
            }
        }
    }

    /// Notes a new table. A copy has its columns from another, which may have renamed them; so has the one
    /// that a tool makes, whose statement says all columns.
    fn note_created(&mut self, creation: &Creation, mark: Mark) {
        let Creation { table, origin, is_if_not_exists, is_or_replace, .. } = creation;
        if *is_or_replace || !is_if_not_exists {
            self.altered.forget(table);
        }
        if let Made::Like(like) = origin {
            self.altered.inherit(|column| column.is_of(like), table, mark);
        } else if let Some(shadow) = shadow_of(&table.name) {
            let is_of = |column: &RenamedColumn| {
                column.schema == table.schema && shadow.is_of(&column.table)
            };
            self.altered.inherit(is_of, table, mark);
        }
    }

    /// Notes that all tables of a database are gone.
    pub(super) fn note_dropped(&mut self, database: &str) {
        if !self.progress.is_passed() {
            self.altered.describe(&self.batch);
            self.altered.alter(database, "", self.batch.entries.len());
            self.altered.columns.retain(|(column, _)| column.schema != database);
        }
    }

    /// Notes that rows of one table come under the name of another from here on.
    fn note_renamed(&self, from: &TableName, to: &TableName) {
        if let Some((hiding, sightings)) = &self.hidden {
            sightings.note_renamed(hiding, (&from.schema, &from.name), (&to.schema, &to.name));
        }
    }

    /// Follows hidden columns under their new names. Those of one statement change all at once.
    fn rename_columns(&mut self, changes: &[TableChange]) {
        let mark = self.batch.entries.len();
        let before: Vec<RenamedColumn> = self.altered.saved().columns;
        for change in changes {
            let TableChange::ColumnRenamed { table, from, to } = change else { continue };
            let is_it = |column: &RenamedColumn| column.is_of(table) && is_same(&column.now, from);
            for (column, at) in before.iter().zip(&mut self.altered.columns) {
                if is_it(column) {
                    (at.0.now, at.1) = (to.clone(), mark);
                }
            }
            // Under which name its rows will come is not known yet: it may be a copy that takes another's.
            let Some((hiding, _)) = &self.hidden else { return };
            for was in hiding.columns().iter().filter(|column| is_same(column, from)) {
                let column = RenamedColumn {
                    schema: table.schema.clone(),
                    table: table.name.clone(),
                    was: was.clone(),
                    now: to.clone(),
                };
                self.altered.columns.push((column, mark));
            }
        }
        self.altered.columns.retain(|(column, _)| column.was != column.now);
    }

    /// Refuses a table of which a hidden column has a name now under which settings show it.
    ///
    /// # Errors
    /// `RT5015`, fatal.
    pub(super) fn check_columns(&self, table: &Table) -> Result<()> {
        let Some((hiding, _)) = &self.hidden else { return Ok(()) };
        let name = TableName { schema: table.schema.clone(), name: table.name.clone() };
        let of_table = |column: &&RenamedColumn| column.is_of(&name);
        let mut columns = self.altered.columns.iter().map(|(column, _)| column).filter(of_table);
        let Hidden { columns: hidden, is_named } = hiding.of(&table.schema, &table.name);
        let is_shown = |column: &&RenamedColumn| {
            hidden.contains(&column.was)
                && !hidden.contains(&column.now)
                && table.column_index(&column.now).is_some()
        };
        match columns.find(is_shown) {
            Some(column) => Err(self.column_renamed(table, column, is_named)),
            None => Ok(()),
        }
    }

    fn column_renamed(&self, table: &Table, column: &RenamedColumn, is_named: bool) -> Error {
        let RenamedColumn { was, now, .. } = column;
        let Place { file, pos } = &self.place;
        let table_name = format!("{}.{}", table.schema, table.name);
        let message = format!(
            "settings hide the column {was} of {table_name}, which a statement before {file}:{pos} called {now}, \
             and that they show; nothing was published with it"
        );
        let mut others = table.columns.iter().filter(|other| other.name != *now);
        let is_taken = others.any(|other| is_same(&other.name, was));
        let why = match is_taken {
            true => ", which is another column now,",
            false => ", which other rows may have,",
        };
        // Names that differ by case alone are refused beside each other.
        let how = match is_taken || !is_named && !is_same(was, now) {
            true => format!(
                "name {now} beside {was}{why} in the `columns` of {table_name}'s settings under `tables`; where it \
                 may be published, take it out again once the connector is past this"
            ),
            false => format!(
                "name {now} in the place of {was} in the `columns` of {table_name}'s settings under `tables`; or \
                 take {was} out, where it may be published"
            ),
        };
        Error::fatal(Origin::Config, codes::SETTINGS_SHED, message).with_remedy(how)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rowtide_sdk::{Change, Identity};

    use super::*;

    fn batch(rows: &[usize]) -> Batch {
        let table = |name: &str| {
            Arc::new(Table {
                db: "s".to_owned(),
                schema: "s".to_owned(),
                name: name.to_owned(),
                columns: Vec::new(),
                primary_key: Vec::new(),
                identity: Identity::Full,
                incarnation: 0,
                facts: "{\"a\":1}".to_owned(),
            })
        };
        let change = |table: &usize| {
            Entry::Change(Change {
                op: Op::Create,
                table: u32::try_from(*table).unwrap(),
                tx: 0,
                offset: 0,
                index: 0,
                part: None,
                before: None,
                after: None,
            })
        };
        Batch {
            tables: vec![table("t"), table("u")],
            entries: rows.iter().map(change).collect(),
            ..Batch::default()
        }
    }

    fn outdated(altered: &AlteredTables) -> Vec<String> {
        altered.saved().tables.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn m40_what_was_saved_is_out_of_date_until_rows_behind_the_statement_are_handed_over() {
        let known = |name: &str, facts: &str| KnownTable {
            schema: "s".to_owned(),
            name: name.to_owned(),
            facts: facts.to_owned(),
        };
        let known = [known("t", "{}"), known("u", "{}"), known("plain", "")];
        let mut altered = AlteredTables::new(&known, &Altered::default());
        altered.alter("s", "t", 2);
        altered.alter("s", "plain", 2);
        altered.alter("other", "", 2);
        // Rows of the table before the statement, and of another behind it.
        altered.take(&batch(&[0, 0, 1]), None);
        assert_eq!(outdated(&altered), ["t"]);
        let position = altered.saved();
        assert_eq!(position.usable(&known).len(), 2);
        let mut resumed = AlteredTables::new(&known, &position);
        resumed.take(&batch(&[1]), None);
        assert_eq!(outdated(&resumed), ["t"]);
        resumed.take(&batch(&[0]), None);
        assert!(outdated(&resumed).is_empty());
        resumed.alter("s", "", 0);
        assert_eq!(outdated(&resumed), ["t", "u"]);
        let chosen = AlteredTables::new(&known, &Altered::unread());
        assert_eq!(outdated(&chosen), ["t", "u"]);
        assert!(Altered::unread().usable(&known).is_empty());
    }
}
