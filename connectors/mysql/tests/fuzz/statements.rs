//! Statements, and the tags in their comments.

use std::path::Path;
use std::time::{Duration, Instant};

use rowtide_mysql::binlog::event::kind;
use rowtide_mysql::binlog::group::{Query, Xid};
use rowtide_mysql::charset::Charset;
use rowtide_mysql::statement::shadow::shadow_of;
use rowtide_mysql::statement::tags::Tags;
use rowtide_mysql::statement::{Dialect, Session, Statement, classify};

use super::{bodies, checks};
use crate::frame::{ROOT, Target};

pub(crate) fn target() -> Target {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for file in ["cases.rs", "texts.rs"] {
        let path = Path::new(ROOT).join("connectors/mysql/tests/statement").join(file);
        seeds.extend(literals(&std::fs::read_to_string(path).unwrap()));
    }
    for (_, body) in bodies().filter(|(event, _)| *event == kind::QUERY) {
        seeds.push(Query::parse(&body).unwrap().statement.to_vec());
    }
    seeds.push(
        b"DELETE FROM t /*k%20a='b\\'%C3%BC',traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01'*/"
            .to_vec(),
    );
    seeds.sort();
    seeds.dedup();
    // The byte before a statement chooses its session.
    let seeds = seeds.into_iter().map(|text| [&[0], text.as_slice()].concat()).collect();
    Target { checks: checks(&[meaning, tags, in_time]), seeds }
}

/// What stands between the quotes of a Rust source, as far as it may be a statement.
fn literals(source: &str) -> Vec<Vec<u8>> {
    let (mut all, mut text, mut in_string) = (Vec::new(), String::new(), false);
    let mut chars = source.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' if in_string => {
                in_string = false;
                all.push(std::mem::take(&mut text).into_bytes());
            }
            '"' => in_string = true,
            '\\' if in_string => match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                other => text.extend(other),
            },
            // A comment may hold one quote.
            '/' if !in_string && chars.as_str().starts_with('/') => {
                chars.by_ref().find(|char| *char == '\n');
            }
            char if in_string => text.push(char),
            _ => {}
        }
    }
    all.retain(|text| text.len() > 8);
    all
}

const DATABASE: &str = "the database";

/// The session that a byte chooses, and what it is read in.
fn session(choice: u8) -> Session<'static> {
    let charset = match choice >> 4 {
        0..=7 => Some(Charset::Utf8mb4),
        8 => None,
        9 => Some(Charset::Latin1),
        10 => Some(Charset::Gbk),
        11 => Some(Charset::Sjis),
        12 => Some(Charset::Big5),
        13 => Some(Charset::Utf16),
        14 => Some(Charset::Binary),
        _ => Some(Charset::Cp852),
    };
    // ANSI_QUOTES, MariaDB's MSSQL, NO_BACKSLASH_ESCAPES.
    let modes = [0, 1 << 2, 1 << 20, 1 << 2 | 1 << 10];
    Session {
        dialect: if choice & 1 == 0 { Dialect::Mysql } else { Dialect::Mariadb },
        sql_mode: modes[usize::from(choice >> 1) % 4],
        charset,
        database: if choice & 8 == 0 { DATABASE } else { "" },
    }
}

/// Without what quotes may have doubled.
fn unquoted(text: &str) -> String {
    text.chars().filter(|char| !['`', '"', '[', ']'].contains(char)).collect()
}

/// The names that a statement has for savepoints and databases.
fn other_names(statement: &Statement) -> Option<&str> {
    match statement {
        Statement::Savepoint(name)
        | Statement::RollbackTo(name)
        | Statement::Release(name)
        | Statement::DropDatabase(name)
        | Statement::AlterDatabase(name) => Some(name),
        _ => None,
    }
}

fn xid_of(statement: &Statement) -> Option<&Xid> {
    match statement {
        Statement::XaStart(xid)
        | Statement::XaEnd(xid)
        | Statement::XaPrepare(xid)
        | Statement::XaCommit { xid, .. }
        | Statement::XaRollback(xid) => Some(xid),
        _ => None,
    }
}

/// The text as each character set that names may be read in has it, where it is whole in it.
fn readings(text: &[u8], session: &Session<'_>) -> Vec<String> {
    let sets = [session.charset.unwrap_or(Charset::Ascii), Charset::Utf8mb4];
    sets.iter().filter_map(|set| set.to_utf8(text).ok()).map(|text| unquoted(&text)).collect()
}

/// Every name stands in the text or is the session's database.
fn meaning(input: &[u8]) {
    let Some((&choice, text)) = input.split_first() else { return };
    let session = session(choice);
    let mut statement = classify(text, &session);
    let _shown = statement.to_string();
    let readings = readings(text, &session);
    let tables = statement.tables();
    let names = tables.iter().flat_map(|table| [table.schema.as_str(), table.name.as_str()]);
    for name in names.chain(other_names(&statement)) {
        assert!(!name.is_empty());
        let is_there = readings.iter().any(|reading| reading.contains(&unquoted(name)));
        assert!(readings.len() < 2 || is_there || name == DATABASE, "{statement}: {name}");
        if let Some(shadow) = shadow_of(name) {
            assert!(name.contains(shadow.table) && shadow.is_of(shadow.table));
        }
    }
    if let Some(xid) = xid_of(&statement) {
        assert!(xid.global.len() <= 64 && xid.branch.len() <= 64);
        let _shown = xid.to_string();
    }
    statement.lower_names();
    let lower = statement.clone();
    statement.lower_names();
    assert_eq!(statement, lower);
}

/// Tags are of a comment, and a trace's context is one.
fn tags(input: &[u8]) {
    let Some((&choice, text)) = input.split_first() else { return };
    let Some(tags) = Tags::of(text, &session(choice)) else { return };
    assert!(tags.iter().count() > 0);
    for (key, value) in tags.iter() {
        assert!(!key.is_empty() && !key.contains(['\'', '"']));
        assert!(key.len() + value.len() <= 3 * text.len());
        if key == "traceparent" {
            assert!(value.is_ascii() && value.len() >= 55);
        }
    }
    assert!(tags.iter().all(|(key, _)| tags.get(key).is_some()));
}

/// So long a statement is made of an input.
const LONG: usize = 32 * 1024;
/// And so long it may take, which is a thousand times what it takes where the time is linear.
const MOST: Duration = Duration::from_millis(300);

/// A statement of which parts come again and again takes no longer than its length says. What stands
/// before the first `;` comes once, what is before the second many times.
fn in_time(input: &[u8]) {
    let Some((&choice, text)) = input.split_first() else { return };
    let (once, again) = match text.iter().position(|byte| *byte == b';') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (&[][..], text),
    };
    if again.is_empty() {
        return;
    }
    let mut long = once.to_vec();
    long.extend(again.iter().cycle().take(LONG));
    let session = session(choice);
    let took = || {
        let started = Instant::now();
        let _meaning = classify(&long, &session);
        let _tags = Tags::of(&long, &session);
        started.elapsed()
    };
    // Others may have taken the processor, and again.
    let is_slow = (0..20).all(|_| took() > MOST);
    assert!(!is_slow, "{once:?} and {again:?} again and again take {:?}", took());
}
