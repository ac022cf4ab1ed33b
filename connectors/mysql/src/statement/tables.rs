//! Statements that make, change and remove tables.

use super::cursor::Cursor;
use super::lexer::Token;
use super::{Creation, Origin, Statement, TableChange, TableName, Unseen};
use crate::binlog::table_map::NamedType;

/// What is meant where `first` begins the statement.
pub(super) fn read(first: &str, cursor: &mut Cursor<'_>) -> Statement {
    let read = match first {
        "CREATE" => create(cursor),
        "ALTER" => alter(cursor),
        "DROP" => drop(cursor),
        "RENAME" => rename(cursor),
        _ => truncate(cursor),
    };
    read.unwrap_or(Statement::Unclear { tables: Vec::new() })
}

/// What CREATE, ALTER and DROP may be of besides tables, indexes and databases. A definer, an algorithm
/// and the like stand before views and what is stored.
const OBJECTS: [&str; 25] = [
    "AGGREGATE",
    "ALGORITHM",
    "DEFINER",
    "EVENT",
    "FUNCTION",
    "INSTANCE",
    "JSON",
    "LIBRARY",
    "LOGFILE",
    "MATERIALIZED",
    "PACKAGE",
    "PREPARE",
    "PROCEDURE",
    "REFERENCE",
    "RESOURCE",
    "ROLE",
    "SEQUENCE",
    "SERVER",
    "SQL",
    "TABLESPACE",
    "TEMPORARY",
    "TRIGGER",
    "UNDO",
    "USER",
    "VIEW",
];

fn create(cursor: &mut Cursor<'_>) -> Option<Statement> {
    let is_or_replace = cursor.take_all(&["OR", "REPLACE"]);
    loop {
        let word = cursor.keyword()?;
        return match word.as_str() {
            "UNIQUE" | "FULLTEXT" | "SPATIAL" | "VECTOR" | "ONLINE" | "OFFLINE" | "EXTERNAL" => {
                continue;
            }
            "TABLE" => create_table(cursor, is_or_replace),
            "INDEX" => index(cursor),
            "DATABASE" | "SCHEMA" if is_or_replace => {
                if_not_exists(cursor);
                cursor.name().map(Statement::DropDatabase)
            }
            "DATABASE" | "SCHEMA" => Some(Statement::Other),
            other => OBJECTS.contains(&other).then_some(Statement::Other),
        };
    }
}

fn if_not_exists(cursor: &mut Cursor<'_>) -> bool {
    cursor.take_all(&["IF", "NOT", "EXISTS"])
}

fn if_exists(cursor: &mut Cursor<'_>) -> bool {
    cursor.take_all(&["IF", "EXISTS"])
}

fn create_table(cursor: &mut Cursor<'_>, is_or_replace: bool) -> Option<Statement> {
    let is_if_not_exists = if_not_exists(cursor);
    let table = cursor.table()?;
    let addresses = addresses(cursor.clone());
    let Some(origin) = origin(cursor) else {
        // Whatever follows, it concerns no other.
        return Some(Statement::Unclear { tables: vec![table] });
    };
    let creation = Creation { table, origin, is_if_not_exists, is_or_replace, addresses };
    Some(Statement::Tables(vec![TableChange::Created(creation)]))
}

/// What begins a part of a table's definition that is no column. All are reserved, so that no column is called
/// so without quotes.
const NO_COLUMNS: [&str; 9] =
    ["CHECK", "CONSTRAINT", "FOREIGN", "FULLTEXT", "INDEX", "KEY", "PRIMARY", "SPATIAL", "UNIQUE"];

/// The columns that are UUIDs or addresses, of what follows the name of a new table.
fn addresses(mut cursor: Cursor<'_>) -> Option<Vec<(String, NamedType)>> {
    let mut found = Vec::new();
    if !cursor.take_symbol(b'(') {
        return None;
    }
    loop {
        let is_column = !cursor.is_any(&NO_COLUMNS);
        let name = cursor.name()?;
        for (word, named) in
            [("UUID", NamedType::Uuid), ("INET4", NamedType::Inet4), ("INET6", NamedType::Inet6)]
        {
            if is_column && cursor.is(word) {
                found.push((name.clone(), named));
            }
        }
        loop {
            match cursor.next()? {
                Token::Symbol(b'(') => cursor.skip_parentheses()?,
                Token::Symbol(b',') => break,
                Token::Symbol(b')') => return Some(found),
                Token::Bad => return None,
                _ => {}
            }
        }
    }
}

/// What follows the name of a new table.
fn origin(cursor: &mut Cursor<'_>) -> Option<Origin> {
    let mut like = cursor.clone();
    like.take_symbol(b'(');
    if like.take("LIKE") {
        return Some(Origin::Like(like.table()?));
    }
    let mut origin = Origin::Columns;
    while cursor.peek().is_some() {
        if cursor.take_symbol(b'(') {
            if cursor.is_query() {
                return Some(Origin::Query);
            }
            cursor.skip_parentheses()?;
        } else if cursor.is_any(&["SELECT", "VALUES", "TABLE"]) {
            return Some(Origin::Query);
        } else if cursor.take_all(&["START", "TRANSACTION"]) {
            origin = Origin::ColumnsThenRows;
        } else if cursor.next() == Some(Token::Bad) {
            return None;
        }
    }
    Some(origin)
}

/// The table of CREATE INDEX and DROP INDEX, whose keys change.
fn index(cursor: &mut Cursor<'_>) -> Option<Statement> {
    if !if_exists(cursor) {
        if_not_exists(cursor);
    }
    cursor.name()?;
    while !cursor.take("ON") {
        cursor.next()?;
    }
    Some(Statement::Tables(vec![TableChange::Altered(cursor.table()?)]))
}

fn drop(cursor: &mut Cursor<'_>) -> Option<Statement> {
    loop {
        let word = cursor.keyword()?;
        return match word.as_str() {
            "ONLINE" | "OFFLINE" | "SPATIAL" => continue,
            "TABLE" | "TABLES" => drop_tables(cursor),
            "INDEX" => index(cursor),
            "DATABASE" | "SCHEMA" => {
                if_exists(cursor);
                cursor.name().map(Statement::DropDatabase)
            }
            other => OBJECTS.contains(&other).then_some(Statement::Other),
        };
    }
}

fn drop_tables(cursor: &mut Cursor<'_>) -> Option<Statement> {
    if_exists(cursor);
    let mut changes = Vec::new();
    loop {
        changes.push(TableChange::Dropped(cursor.table()?));
        if !cursor.take_symbol(b',') {
            break;
        }
    }
    cursor.skip_wait();
    cursor.take_any(&["RESTRICT", "CASCADE"]);
    end(cursor)?;
    Some(Statement::Tables(changes))
}

fn rename(cursor: &mut Cursor<'_>) -> Option<Statement> {
    if !cursor.take_any(&["TABLE", "TABLES"]) {
        return cursor.is("USER").then_some(Statement::Other);
    }
    if_exists(cursor);
    let mut changes = Vec::new();
    loop {
        let from = cursor.table()?;
        cursor.skip_wait();
        if !cursor.take("TO") {
            return None;
        }
        let to = cursor.table()?;
        changes.push(TableChange::Renamed { from, to });
        if !cursor.take_symbol(b',') {
            break;
        }
    }
    end(cursor)?;
    Some(Statement::Tables(changes))
}

fn truncate(cursor: &mut Cursor<'_>) -> Option<Statement> {
    cursor.take("TABLE");
    let table = cursor.table()?;
    cursor.skip_wait();
    end(cursor)?;
    Some(Statement::Truncate(table))
}

/// Nothing may follow.
fn end(cursor: &Cursor<'_>) -> Option<()> {
    cursor.peek().is_none().then_some(())
}

fn alter(cursor: &mut Cursor<'_>) -> Option<Statement> {
    loop {
        let word = cursor.keyword()?;
        return match word.as_str() {
            "ONLINE" | "OFFLINE" | "IGNORE" => continue,
            "TABLE" => alter_table(cursor),
            "DATABASE" | "SCHEMA" => alter_database(cursor),
            other => OBJECTS.contains(&other).then_some(Statement::Other),
        };
    }
}

/// What ALTER DATABASE changes; the name before it may be left out.
const DATABASE_OPTIONS: [&str; 7] =
    ["CHARACTER", "CHARSET", "COLLATE", "COMMENT", "DEFAULT", "ENCRYPTION", "READ"];

fn alter_database(cursor: &mut Cursor<'_>) -> Option<Statement> {
    let mut ahead = cursor.clone();
    ahead.next();
    let is_named = !cursor.is_any(&DATABASE_OPTIONS) || ahead.is_any(&DATABASE_OPTIONS);
    // DEFAULT COLLATE begins with two of them.
    if is_named && !cursor.is("DEFAULT") {
        return cursor.name().map(Statement::AlterDatabase);
    }
    let database = cursor.session.database;
    (!database.is_empty()).then(|| Statement::AlterDatabase(database.to_owned()))
}

/// What an ALTER TABLE does.
#[derive(Default)]
struct Alteration {
    is_altered: bool,
    unseen: Vec<Unseen>,
    exchanged: Option<TableName>,
    made: Option<TableName>,
    taken: Option<TableName>,
    renamed: Option<TableName>,
    /// Columns by their names before and now.
    columns: Vec<(String, String)>,
}

impl Alteration {
    fn rename_column(&mut self, before: String, now: String) {
        self.is_altered = true;
        if before != now {
            self.columns.push((before, now));
        }
    }
}

fn alter_table(cursor: &mut Cursor<'_>) -> Option<Statement> {
    if_exists(cursor);
    let table = cursor.table()?;
    cursor.skip_wait();
    let mut alteration = Alteration::default();
    // CHANGE, RENAME and PARTITION are reserved, so these words are names nowhere but behind a dot.
    let mut is_behind_dot = false;
    while let Some(token) = cursor.next() {
        match token {
            Token::Bad => return None,
            Token::Symbol(b'(') => cursor.skip_parentheses()?,
            Token::Word(word) if !is_behind_dot => clause(word, cursor, &mut alteration)?,
            _ => {}
        }
        is_behind_dot = token == Token::Symbol(b'.');
    }
    Some(Statement::Tables(changes(table, alteration)))
}

/// Takes what follows a word of ALTER TABLE, where that matters.
fn clause(word: &[u8], cursor: &mut Cursor<'_>, alteration: &mut Alteration) -> Option<()> {
    let unseen = match word.to_ascii_uppercase().as_slice() {
        b"RENAME" if cursor.take("COLUMN") => {
            if_exists(cursor);
            let before = cursor.column()?;
            if !cursor.take("TO") {
                return None;
            }
            alteration.rename_column(before, cursor.column()?);
            return Some(());
        }
        b"CHANGE" => {
            cursor.take("COLUMN");
            if_exists(cursor);
            let before = cursor.column()?;
            alteration.rename_column(before, cursor.column()?);
            return Some(());
        }
        b"RENAME" if !cursor.is_any(&["INDEX", "KEY"]) => {
            if !cursor.take_any(&["TO", "AS"]) {
                cursor.take_symbol(b'=');
            }
            alteration.renamed = Some(cursor.table()?);
            return Some(());
        }
        b"DROP" if cursor.is("PARTITION") => Unseen::PartitionDropped,
        b"DROP" if cursor.take_all(&["SYSTEM", "VERSIONING"]) => {
            alteration.is_altered = true;
            Unseen::HistoryDropped
        }
        b"TRUNCATE" if cursor.is("PARTITION") => Unseen::PartitionTruncated,
        b"EXCHANGE" if cursor.take("PARTITION") => {
            while !cursor.take_all(&["WITH", "TABLE"]) {
                cursor.next()?;
            }
            alteration.exchanged = Some(cursor.table()?);
            Unseen::PartitionExchanged
        }
        b"CONVERT" if cursor.take("PARTITION") => {
            while !cursor.take_all(&["TO", "TABLE"]) {
                cursor.next()?;
            }
            alteration.made = Some(cursor.table()?);
            Unseen::PartitionConverted
        }
        b"CONVERT" if cursor.take("TABLE") => {
            alteration.taken = Some(cursor.table()?);
            Unseen::PartitionConverted
        }
        b"DISCARD" if cursor.is_any(&["PARTITION", "TABLESPACE"]) => Unseen::TablespaceDiscarded,
        b"IMPORT" if cursor.is_any(&["PARTITION", "TABLESPACE"]) => Unseen::TablespaceImported,
        _ => {
            // What belongs to a clause without rows stands alone, and changes no column.
            alteration.is_altered |= alteration.unseen.is_empty();
            return Some(());
        }
    };
    alteration.unseen.push(unseen);
    Some(())
}

fn changes(table: TableName, alteration: Alteration) -> Vec<TableChange> {
    let Alteration { is_altered, unseen, exchanged, made, taken, renamed, columns } = alteration;
    let mut changes = Vec::new();
    if is_altered || unseen.is_empty() && renamed.is_none() {
        changes.push(TableChange::Altered(table.clone()));
    }
    for (from, to) in columns {
        changes.push(TableChange::ColumnRenamed { table: table.clone(), from, to });
    }
    for how in unseen {
        let from = exchanged.clone().or_else(|| taken.clone());
        changes.push(TableChange::RowsUnseen { table: table.clone(), how, from });
    }
    if let Some(other) = exchanged {
        changes.push(unseen_from(&table, other, Unseen::PartitionExchanged));
    }
    if let Some(made) = made {
        changes.push(TableChange::Created(Creation {
            table: made.clone(),
            origin: Origin::Like(table.clone()),
            is_if_not_exists: false,
            is_or_replace: false,
            addresses: None,
        }));
        changes.push(unseen_from(&table, made, Unseen::PartitionConverted));
    }
    changes.extend(taken.map(TableChange::Dropped));
    changes.extend(renamed.map(|to| TableChange::Renamed { from: table, to }));
    changes
}

/// Rows of `from` came into `table`.
fn unseen_from(from: &TableName, table: TableName, how: Unseen) -> TableChange {
    TableChange::RowsUnseen { table, how, from: Some(from.clone()) }
}
