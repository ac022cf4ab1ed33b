//! Statements that real servers run, read back from their binlogs: what they mean is what was meant, and
//! what changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test code: a broken assumption must fail the test"
)]

#[path = "statement/cases.rs"]
mod cases;
#[path = "statement/catalog.rs"]
mod catalog;
mod common;
#[path = "statement/texts.rs"]
mod texts;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cases::Case;
use catalog::{DEFINITIONS, Definitions, apply, changed};
use rowtide_mysql::binlog::event::{OF_ITS_SESSION, kind};
use rowtide_mysql::binlog::group::Query;
use rowtide_mysql::statement::tags::Tags;
use rowtide_mysql::statement::{Dialect, Session, Statement, classify};
use rowtide_testkit::{Flavor, Mysql};

fn dialect(flavor: Flavor) -> Dialect {
    match flavor {
        Flavor::Mysql => Dialect::Mysql,
        Flavor::Mariadb => Dialect::Mariadb,
    }
}

/// What every statement in the binlogs means.
fn meanings(server: &Mysql, flavor: Flavor) -> Vec<Statement> {
    let bodies = common::bodies(server, &[kind::QUERY]);
    let meaning = |body: &Vec<u8>| {
        let query = Query::parse(body).unwrap();
        classify(query.statement, &Session::of(&query, dialect(flavor)))
    };
    bodies.iter().map(meaning).collect()
}

/// The bytes of a statement in a character set.
fn encoded(statement: &str, names: &str) -> Vec<u8> {
    let encoding = match names {
        "latin1" => encoding_rs::WINDOWS_1252,
        "cp1251" => encoding_rs::WINDOWS_1251,
        "gbk" => encoding_rs::GBK,
        "gb18030" => encoding_rs::GB18030,
        "big5" => encoding_rs::BIG5,
        "sjis" | "cp932" => encoding_rs::SHIFT_JIS,
        _ => return statement.as_bytes().to_vec(),
    };
    let (bytes, _, is_lossy) = encoding.encode(statement);
    assert!(!is_lossy, "{statement} in {names}");
    bytes.into_owned()
}

/// A statement in a form in which the client neither takes comments out of it nor reads it in another
/// character set than the server. Savepoints cannot be sent so.
fn as_sent(statement: &str, names: &str) -> String {
    let is_of_names = names != "utf8mb4" && !statement.is_ascii();
    let has_comment = ["/*", "-- ", "# "].iter().any(|comment| statement.contains(comment));
    if statement.starts_with("SAVEPOINT") || !is_of_names && !has_comment {
        return statement.to_owned();
    }
    let hex = encoded(statement, names).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    format!("SET @s = x'{hex}'; PREPARE s FROM @s; EXECUTE s; DEALLOCATE PREPARE s")
}

const PLAIN: &str = "SET sql_mode = '', NAMES utf8mb4";

/// The script of a case: its statements in an empty database between two looks at all tables, and a
/// database whose dropping marks the end in the binlog.
fn script(case: &Case, number: usize) -> String {
    let look = format!("{PLAIN}; {DEFINITIONS}");
    let mut script = format!("USE d; {look}; SELECT 'run'; SET sql_mode = '{}'; ", case.sql_mode);
    write!(script, "SET NAMES {}; ", case.names).unwrap();
    for statement in case.sql {
        script.push_str(&as_sent(statement, case.names));
        script.push_str(";\n");
    }
    write!(
        script,
        "{look}; SELECT 'end'; DROP DATABASE IF EXISTS `end {number}`; DROP DATABASE d; CREATE DATABASE d;"
    )
    .unwrap();
    script
}

fn definitions(shown: &str) -> Definitions {
    let rows = shown.lines().filter_map(|line| line.strip_prefix("table\t"));
    let row = |row: &str| {
        let (name, digest) = row.split_once('\t').unwrap();
        (name.to_owned(), digest.to_owned())
    };
    rows.map(row).collect()
}

fn is_for(case: &Case, flavor: Flavor) -> bool {
    case.on.is_none_or(|on| on == flavor)
}

fn statements_mean_what_they_do(flavor: Flavor) {
    let Some(server) = Mysql::start(flavor, &[]) else { return };
    server.sql("SET GLOBAL group_concat_max_len = 1000000; CREATE DATABASE d; CREATE DATABASE x");
    let all = cases::CASES.iter().chain(texts::CASES);
    let cases: Vec<&Case> = all.filter(|case| is_for(case, flavor)).collect();
    assert!(cases.len() > 60, "{}", cases.len());
    // Each in a session of its own, so that none inherits formats or temporary tables.
    let looks: Vec<String> =
        cases.iter().enumerate().map(|(number, case)| server.sql(&script(case, number))).collect();
    let mut all = meanings(&server, flavor).into_iter();
    assert!(all.by_ref().any(|statement| statement.to_string() == "other"), "no database x");
    let mut wrong = Vec::new();
    for (number, (case, looks)) in cases.iter().zip(&looks).enumerate() {
        let end = Statement::DropDatabase(format!("end {number}"));
        let mut found: Vec<Statement> = all.by_ref().take_while(|found| *found != end).collect();
        // What puts the database in order between cases, and what the set-up did.
        found.retain(|found| !matches!(found, Statement::Begin | Statement::Commit));
        if number > 0 {
            found.drain(..2);
        } else {
            let set_up = found.len() - case.meaning.len();
            found.drain(..set_up);
        }
        let shown: Vec<String> = found.iter().map(Statement::to_string).collect();
        if shown != case.meaning {
            wrong.push(format!("{:?}: {shown:#?}", case.sql));
        }
        let (before, after) = looks.split_once("run\n").unwrap();
        let (before, after) = (definitions(before), definitions(after));
        wrong.extend(unnamed(case, &found, &before, &after));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What changed and was not named, and where the tables are not those that the statements leave.
fn unnamed(
    case: &Case,
    found: &[Statement],
    before: &Definitions,
    after: &Definitions,
) -> Vec<String> {
    let named: BTreeSet<String> =
        found.iter().flat_map(Statement::tables).map(ToString::to_string).collect();
    let changed = changed(before, after).into_iter().filter(|table| !named.contains(*table));
    let mut wrong: Vec<String> =
        changed.map(|table| format!("{:?}: {table} changed and is not named", case.sql)).collect();
    if found.iter().any(|found| matches!(found, Statement::Unclear { .. })) {
        return wrong;
    }
    let mut expected: BTreeSet<String> = before.keys().cloned().collect();
    for statement in found {
        apply(statement, &mut expected);
    }
    let tables: BTreeSet<String> = after.keys().cloned().collect();
    if tables != expected {
        wrong.push(format!("{:?}: the tables are {tables:?}, and not {expected:?}", case.sql));
    }
    wrong
}

#[test]
fn m43_statements_of_mysql_mean_what_they_do() {
    statements_mean_what_they_do(Flavor::Mysql);
}

#[test]
fn m43_statements_of_mariadb_mean_what_they_do() {
    statements_mean_what_they_do(Flavor::Mariadb);
}

#[test]
fn m28_a_transaction_of_statements_begins_and_ends() {
    for (flavor, expected) in [
        (Flavor::Mysql, vec!["begin", "rows: d.m", "commit", "begin", "rows: d.t"]),
        // The GTID event begins it.
        (Flavor::Mariadb, vec!["rows: d.m", "commit", "rows: d.t"]),
    ] {
        let Some(server) = Mysql::start(flavor, &[]) else { return };
        server.sql(
            "CREATE DATABASE d; USE d; CREATE TABLE m (a int) ENGINE=MyISAM; CREATE TABLE t (a int);
             SET binlog_format = STATEMENT; INSERT INTO m VALUES (1); INSERT INTO t VALUES (2)",
        );
        let all: Vec<String> = meanings(&server, flavor).iter().map(ToString::to_string).collect();
        let behind = all.iter().position(|meaning| meaning == "tables: create d.t").unwrap() + 1;
        assert_eq!(all[behind..], expected, "{}", flavor.name());
    }
}

#[test]
fn m37_the_server_empties_a_memory_table_after_a_restart() {
    for flavor in Flavor::ALL {
        let Some(mut server) = Mysql::start(flavor, &[]) else { return };
        server.sql("CREATE DATABASE d; CREATE TABLE d.`mä` (a int) ENGINE=MEMORY");
        server.halt(false);
        server.resume();
        let insert = as_sent("INSERT INTO d.`mä` VALUES (1)", "latin1");
        server.sql(&format!("SET NAMES latin1; {insert}"));
        let all = meanings(&server, flavor);
        let is_emptied = |found: &Statement| found.to_string() == "truncate d.mä";
        assert!(all.iter().any(is_emptied), "{}: {all:?}", flavor.name());
    }
}

#[test]
fn m44_statements_about_temporary_tables_have_a_flag() {
    let Some(server) = Mysql::start(Flavor::Mariadb, &[]) else { return };
    server.sql(
        "CREATE DATABASE d; USE d; CREATE TABLE t (a int); SET binlog_format = MIXED;
         CREATE TEMPORARY TABLE t (a int); ALTER TABLE t ADD b int; TRUNCATE t; DROP TABLE t;
         ALTER TABLE t ADD b int; TRUNCATE t",
    );
    let file = std::fs::read(server.binlogs().last().unwrap()).unwrap();
    let mut found = Vec::new();
    for (header, body) in common::events(&file) {
        if header.kind == kind::QUERY {
            let query = Query::parse(&body).unwrap();
            let meaning = classify(query.statement, &Session::of(&query, Dialect::Mariadb));
            found.push((meaning.to_string(), header.flags & OF_ITS_SESSION != 0));
        }
    }
    let expected = [
        ("tables: create d.t", false),
        ("other", true),
        ("tables: alter d.t", true),
        ("truncate d.t", true),
        ("other", true),
        ("tables: alter d.t", false),
        ("truncate d.t", false),
    ];
    let expected = expected.map(|(meaning, flag)| (meaning.to_owned(), flag));
    assert!(found.ends_with(&expected), "{found:?}");
}

#[test]
fn comments_of_applications_are_read_from_the_events_of_rows() {
    let parent = "00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01";
    let insert = format!(
        "INSERT INTO d.t VALUES ('/*a=''x''*/') /*route='%2Fa%20b',traceparent='{parent}'*/"
    );
    for (flavor, setting, event, skipped) in [
        (Flavor::Mysql, "binlog_rows_query_log_events=ON", kind::ROWS_QUERY, 1),
        (Flavor::Mariadb, "binlog_annotate_row_events=ON", kind::MARIADB_ANNOTATE_ROWS, 0),
    ] {
        let Some(server) = Mysql::start(flavor, &[setting]) else { return };
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (a text)");
        server.sql(&as_sent(&insert, "utf8mb4"));
        let bodies = common::bodies(&server, &[event]);
        // MySQL writes a byte of its length first, which overflows.
        let statement = &bodies.last().unwrap()[skipped..];
        assert_eq!(statement, insert.as_bytes(), "{}", flavor.name());
        let session = Session {
            dialect: dialect(flavor),
            sql_mode: 0,
            charset: rowtide_mysql::charset::Charset::of_name("utf8mb4"),
            database: "",
        };
        let tags = Tags::of(statement, &session).unwrap();
        assert_eq!((tags.get("route"), tags.traceparent()), (Some("/a b"), Some(parent)));
    }
}
