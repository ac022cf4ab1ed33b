//! Statements that change rows.

use super::cursor::{Cursor, is_one_of};
use super::lexer::Token;
use super::{Statement, TableName};

/// What is meant where `first` begins the statement.
pub(super) fn read(first: &str, cursor: &mut Cursor<'_>) -> Statement {
    match first {
        "WITH" => with(cursor).unwrap_or(Statement::Unclear { tables: Vec::new() }),
        "LOAD" if cursor.take("INDEX") => Statement::Other,
        _ => verb(first, cursor),
    }
}

fn verb(first: &str, cursor: &mut Cursor<'_>) -> Statement {
    let tables = match first {
        "INSERT" | "REPLACE" => insert(cursor),
        "UPDATE" => {
            cursor.take("LOW_PRIORITY");
            cursor.take("IGNORE");
            references(cursor)
        }
        "DELETE" => delete(cursor),
        "LOAD" => load(cursor),
        // A query, which is in the binlog for the stored functions that it calls, and CALL and the like.
        _ => Some(Vec::new()),
    };
    match tables {
        Some(tables) => Statement::Dml { tables },
        None => Statement::Unclear { tables: Vec::new() },
    }
}

/// What follows the common table expressions.
fn with(cursor: &mut Cursor<'_>) -> Option<Statement> {
    while cursor.peek().is_some() {
        if cursor.take_symbol(b'(') {
            cursor.skip_parentheses()?;
        } else if cursor.is_any(&["SELECT", "UPDATE", "DELETE", "INSERT", "REPLACE", "VALUES"]) {
            let first = cursor.keyword().unwrap_or_default();
            return Some(verb(&first, cursor));
        } else {
            cursor.next();
        }
    }
    // A query in parentheses.
    Some(Statement::Dml { tables: Vec::new() })
}

fn insert(cursor: &mut Cursor<'_>) -> Option<Vec<TableName>> {
    while cursor.take_any(&["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE"]) {}
    cursor.take("INTO");
    Some(vec![cursor.table()?])
}

fn load(cursor: &mut Cursor<'_>) -> Option<Vec<TableName>> {
    while !cursor.take_all(&["INTO", "TABLE"]) {
        cursor.next()?;
    }
    Some(vec![cursor.table()?])
}

/// `DELETE FROM t`, `DELETE FROM a, b USING …` and `DELETE a, b FROM …`; the first two names of the last
/// may be aliases, so the tables are those that it deletes from and those that it looks at.
fn delete(cursor: &mut Cursor<'_>) -> Option<Vec<TableName>> {
    while cursor.take_any(&["LOW_PRIORITY", "QUICK", "IGNORE"]) {}
    let mut ahead = cursor.clone();
    if ahead.take("HISTORY") && ahead.is("FROM") {
        *cursor = ahead;
    }
    if !cursor.is("FROM") {
        while !cursor.take("FROM") {
            cursor.next()?;
        }
        return references(cursor);
    }
    cursor.take("FROM");
    let mut ahead = cursor.clone();
    while ahead.table().is_some() {
        if !ahead.take_symbol(b',') {
            break;
        }
    }
    if ahead.take("USING") {
        *cursor = ahead;
        return references(cursor);
    }
    Some(vec![cursor.table()?])
}

/// Where the tables of UPDATE and DELETE end.
const ENDS: [&str; 5] = ["SET", "WHERE", "ORDER", "LIMIT", "RETURNING"];

/// The tables that are joined: those at the beginning, behind a comma, and behind JOIN.
fn references(cursor: &mut Cursor<'_>) -> Option<Vec<TableName>> {
    let mut tables = Vec::new();
    let mut is_next = true;
    loop {
        match cursor.peek() {
            None => break,
            Some(Token::Bad) => return None,
            Some(Token::Word(word)) if is_one_of(word, &ENDS) => break,
            Some(Token::Word(word)) if is_one_of(word, &["LATERAL", "OJ"]) && is_next => {
                cursor.next();
            }
            Some(Token::Word(_) | Token::Quoted(_)) if is_next => {
                tables.push(cursor.table()?);
                is_next = false;
                // It was a function that gives rows.
                if cursor.take_symbol(b'(') {
                    tables.pop();
                    cursor.skip_parentheses()?;
                }
            }
            Some(Token::Word(word)) => {
                is_next = is_one_of(word, &["JOIN", "STRAIGHT_JOIN"]);
                cursor.next();
            }
            Some(Token::Symbol(b',')) => {
                is_next = true;
                cursor.next();
            }
            Some(Token::Symbol(b'(')) => {
                cursor.next();
                if !is_next || cursor.is_query() {
                    cursor.skip_parentheses()?;
                    is_next = false;
                }
            }
            Some(_) => {
                cursor.next();
            }
        }
    }
    (!tables.is_empty()).then_some(tables)
}
