//! Statements of both servers, and what they mean.

use proptest::prelude::*;

use super::cursor::Cursor;
use super::lexer::{Lexer, Token};
use super::{Dialect, Session, classify};
use crate::charset::Charset;

const SESSION: Session<'_> = Session {
    dialect: Dialect::Mysql,
    sql_mode: 0,
    charset: Some(Charset::Utf8mb4),
    database: "d",
};
const MARIADB: Session<'_> = Session { dialect: Dialect::Mariadb, ..SESSION };
const ANSI: Session<'_> = Session { sql_mode: 4, ..SESSION };
const NO_ESCAPES: Session<'_> = Session { sql_mode: 1 << 20, ..SESSION };

fn shown(statement: impl AsRef<[u8]>, session: &Session<'_>) -> String {
    classify(statement.as_ref(), session).to_string()
}

fn check(session: &Session<'_>, expected: &[(&str, &str)]) {
    for (statement, meaning) in expected {
        assert_eq!(shown(statement, session), *meaning, "{statement}");
    }
}

/// In both dialects.
fn check_both(expected: &[(&str, &str)]) {
    check(&SESSION, expected);
    check(&MARIADB, expected);
}

#[test]
fn m28_ends_of_transactions() {
    check_both(&[
        ("BEGIN", "begin"),
        ("begin work", "begin"),
        ("START TRANSACTION", "begin"),
        ("start transaction with consistent snapshot", "begin"),
        ("COMMIT", "commit"),
        ("COMMIT AND CHAIN", "commit"),
        ("COMMIT /* xid=7 */;", "commit"),
        ("ROLLBACK", "rollback"),
        ("ROLLBACK WORK AND NO CHAIN", "rollback"),
        ("START REPLICA", "other"),
        ("BEGIN NOT ATOMIC SELECT 1; END", "unclear"),
    ]);
}

#[test]
fn m29_savepoints() {
    check_both(&[
        ("SAVEPOINT `a``b`", "savepoint a`b"),
        ("savepoint A", "savepoint A"),
        ("ROLLBACK TO `a b`", "rollback to a b"),
        ("ROLLBACK WORK TO SAVEPOINT a", "rollback to a"),
        ("ROLLBACK TO savepoint", "rollback to savepoint"),
        ("RELEASE SAVEPOINT a", "release a"),
        ("SAVEPOINT", "unclear"),
        ("RELEASE a", "unclear"),
    ]);
}

#[test]
fn m31_xa() {
    check_both(&[
        ("XA START X'61',X'62',3", "xa start 61,62,3"),
        ("XA START X'61',X'',1", "xa start 61,,1"),
        ("XA BEGIN 'a'", "xa start 61,,1"),
        ("XA END 'a' , \"b\" SUSPEND FOR MIGRATE", "xa end 61,62,1"),
        ("xa prepare 0x616, b'01100010', 0x10", "xa prepare 0616,62,16"),
        ("XA COMMIT 'a\\'\\n''',''", "xa commit 61270a27,,1"),
        ("XA COMMIT 'a' ONE PHASE", "xa commit in one phase 61,,1"),
        ("XA ROLLBACK X'61',X'62',4294967298", "xa rollback 61,62,2"),
        ("XA RECOVER CONVERT XID", "other"),
        ("XA COMMIT a", "unclear"),
        ("XA COMMIT X'6g'", "unclear"),
        ("XA COMMIT 'a',", "unclear"),
        ("XA COMMIT 'a','b',-1", "unclear"),
    ]);
    assert_eq!(shown(format!("XA COMMIT '{}'", "a".repeat(65)), &SESSION), "unclear");
    check(&NO_ESCAPES, &[("XA COMMIT 'a\\','\\\\'", "xa commit 615c,5c5c,1")]);
}

#[test]
fn m01_statements_that_change_rows() {
    check_both(&[
        ("INSERT INTO t VALUES (1)", "rows: d.t"),
        ("insert into i values(99)", "rows: d.i"),
        ("/* a */ INSERT t SET a = 1", "rows: d.t"),
        ("INSERT LOW_PRIORITY IGNORE INTO `x` . `y` (a) SELECT 1", "rows: x.y"),
        ("INSERT DELAYED INTO u VALUES (1)", "rows: d.u"),
        ("REPLACE t VALUES (1)", "rows: d.t"),
        ("REPLACE INTO t(a) VALUES (1)", "rows: d.t"),
        ("UPDATE t SET a = 1", "rows: d.t"),
        ("UPDATE LOW_PRIORITY IGNORE t AS a SET a.x = (SELECT 1 FROM u)", "rows: d.t"),
        ("UPDATE t a JOIN x.u AS b ON a.i = f(b.i, 1) SET a.i = 2", "rows: d.t, x.u"),
        ("UPDATE a, (b STRAIGHT_JOIN c USING (i)) SET a.i = 2", "rows: d.a, d.b, d.c"),
        ("UPDATE (a, b) SET a.i = 2", "rows: d.a, d.b"),
        ("UPDATE a PARTITION (p0, p1) USE INDEX (x, y) , b SET a.i = 2", "rows: d.a, d.b"),
        ("UPDATE a JOIN (SELECT * FROM c, e) x ON x.i = a.i SET a.i = 2", "rows: d.a"),
        ("UPDATE a JOIN ((SELECT 1) UNION SELECT 2) x SET a.i = 2", "rows: d.a"),
        ("UPDATE {OJ a LEFT OUTER JOIN b ON a.i = b.i} SET a.i = 2", "rows: d.a, d.b"),
        ("UPDATE t, JSON_TABLE('[1]', '$[*]' COLUMNS (i INT PATH '$')) j SET t.i = 1", "rows: d.t"),
        ("DELETE FROM t WHERE a = 1", "rows: d.t"),
        ("DELETE FROM `x`.`t`", "rows: x.t"),
        ("DELETE LOW_PRIORITY QUICK IGNORE FROM t AS a LIMIT 1", "rows: d.t"),
        ("DELETE a, b.* FROM t AS a JOIN u b WHERE a.i = b.i", "rows: d.t, d.u"),
        ("DELETE FROM a.*, x.b.* USING a JOIN x.b WHERE a.i = b.i", "rows: d.a, x.b"),
        ("WITH c AS (SELECT 1 AS i) DELETE FROM t WHERE i IN (SELECT i FROM c)", "rows: d.t"),
        (
            "WITH RECURSIVE c (i) AS (SELECT ')'), e AS (SELECT 1) UPDATE t, c SET a = 1",
            "rows: d.t, d.c",
        ),
        ("WITH c AS (SELECT f(1)) SELECT * FROM c", "rows"),
        ("LOAD DATA LOCAL INFILE 'x' REPLACE INTO TABLE t FIELDS TERMINATED BY ','", "rows: d.t"),
        ("LOAD XML INFILE 'x' INTO TABLE x.t", "rows: x.t"),
        ("SELECT `d`.`f`(1)", "rows"),
        ("(SELECT f(1))", "rows"),
        ("CALL p(1)", "rows"),
        ("DO f(1)", "rows"),
        ("LOAD INDEX INTO CACHE t", "other"),
        ("UPDATE", "unclear"),
        ("INSERT INTO 'a", "unclear"),
        ("UPDATE t JOIN u ON a = 'x SET a = 1", "unclear"),
    ]);
    check(
        &MARIADB,
        &[
            ("DELETE HISTORY FROM t", "rows: d.t"),
            ("UPDATE t FOR PORTION OF p FROM '2020-01-01' TO '2021-01-01' SET a = 1", "rows: d.t"),
            ("ANALYZE UPDATE t SET a = 1", "rows: d.t"),
            ("analyze format=json delete from t where id=4", "rows: d.t"),
            ("SET STATEMENT max_statement_time = 1 FOR INSERT INTO t VALUES (1)", "rows: d.t"),
        ],
    );
}

#[test]
fn m37_tables_that_lose_rows_without_row_events() {
    check_both(&[
        ("TRUNCATE t", "truncate d.t"),
        ("truncate table x . t", "truncate x.t"),
        ("TRUNCATE `table`", "truncate d.table"),
        ("ALTER TABLE t DROP PARTITION p0, p1", "tables: drop a partition of d.t"),
        ("ALTER TABLE t TRUNCATE PARTITION ALL", "tables: truncate a partition of d.t"),
        (
            "ALTER TABLE t EXCHANGE PARTITION p WITH TABLE x.u WITHOUT VALIDATION",
            "tables: exchange a partition of d.t with rows of x.u, exchange a partition of x.u with rows of d.t",
        ),
        ("ALTER TABLE t DISCARD TABLESPACE", "tables: discard the tablespace of d.t"),
        ("ALTER TABLE t IMPORT PARTITION p0 TABLESPACE", "tables: import the tablespace of d.t"),
        ("ALTER TABLE t ADD PARTITION (PARTITION p VALUES IN (1))", "tables: alter d.t"),
        (
            "ALTER TABLE t REORGANIZE PARTITION a INTO (PARTITION b VALUES IN (1))",
            "tables: alter d.t",
        ),
        ("ALTER TABLE t REMOVE PARTITIONING", "tables: alter d.t"),
        (
            "ALTER TABLE t ALGORITHM=INPLACE, DROP PARTITION p",
            "tables: alter d.t, drop a partition of d.t",
        ),
        ("TRUNCATE t u", "unclear"),
    ]);
    check(
        &MARIADB,
        &[
            ("TRUNCATE t NOWAIT", "truncate d.t"),
            ("TRUNCATE TABLE t WAIT 5", "truncate d.t"),
            ("ALTER TABLE t DROP PARTITION IF EXISTS p", "tables: drop a partition of d.t"),
            (
                "ALTER TABLE t CONVERT PARTITION p TO TABLE u",
                "tables: convert a partition of d.t, create d.u like d.t, convert a partition of d.u with rows of d.t",
            ),
            (
                "ALTER TABLE t CONVERT TABLE u TO PARTITION p VALUES LESS THAN (5)",
                "tables: convert a partition of d.t with rows of d.u, drop d.u",
            ),
            ("ALTER TABLE t DROP SYSTEM VERSIONING", "tables: alter d.t, drop the history of d.t"),
        ],
    );
}

#[test]
fn m32_tables_that_are_created() {
    check_both(&[
        ("CREATE TABLE t (a int)", "tables: create d.t"),
        (
            "CREATE TABLE IF NOT EXISTS x.t (a int) ENGINE=InnoDB",
            "tables: create if not exists x.t",
        ),
        ("CREATE TABLE t LIKE x.u", "tables: create d.t like x.u"),
        ("CREATE TABLE t (LIKE u)", "tables: create d.t like d.u"),
        ("CREATE TABLE t SELECT 1", "tables: create d.t from a query"),
        ("CREATE TABLE t AS (SELECT 1)", "tables: create d.t from a query"),
        ("CREATE TABLE t ((SELECT 1))", "tables: create d.t from a query"),
        (
            "CREATE TABLE t (a int, KEY (a)) ENGINE=InnoDB IGNORE AS SELECT 1",
            "tables: create d.t from a query",
        ),
        ("CREATE TABLE t WITH c AS (SELECT 1) SELECT * FROM c", "tables: create d.t from a query"),
        ("CREATE TABLE t TABLE u", "tables: create d.t from a query"),
        ("CREATE TABLE t VALUES ROW(1)", "tables: create d.t from a query"),
        ("CREATE TABLE t (a int DEFAULT (1), b int AS ((a)))", "tables: create d.t"),
        ("CREATE TABLE t (a int) COMMENT='SELECT' UNION=(a,b)", "tables: create d.t"),
        (
            "CREATE TABLE t (a int) PARTITION BY RANGE ((a)) (PARTITION p VALUES LESS THAN (1))",
            "tables: create d.t",
        ),
        ("CREATE TABLE `t` (\n  `a` int\n) START TRANSACTION", "tables: create d.t with rows"),
        ("CREATE TEMPORARY TABLE t (a int)", "other"),
        ("CREATE TABLE t (a int DEFAULT 'x", "unclear: d.t"),
        ("CREATE TABLE t COMMENT 'x", "unclear: d.t"),
        ("CREATE TABLE", "unclear"),
    ]);
    check(
        &MARIADB,
        &[
            ("CREATE OR REPLACE TABLE t (a int)", "tables: create or replace d.t"),
            ("CREATE OR REPLACE TEMPORARY TABLE t (a int)", "other"),
            ("CREATE TABLE t (a int) WITH SYSTEM VERSIONING", "tables: create d.t"),
            ("CREATE OR REPLACE DATABASE x", "drop database x"),
            ("CREATE SEQUENCE s", "other"),
        ],
    );
}

#[test]
fn m43_columns_that_get_other_names() {
    check_both(&[
        (
            "ALTER TABLE x . t RENAME COLUMN a TO b, RENAME INDEX a TO b, RENAME KEY c TO e",
            "tables: alter x.t, rename column a of x.t to b",
        ),
        (
            "ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a, CHANGE COLUMN c `d` int, CHANGE e e int",
            "tables: alter d.t, rename column a of d.t to b, rename column b of d.t to a, rename column c of d.t to d",
        ),
        ("ALTER TABLE t ADD `change` int, DROP t.change, CHANGE", "unclear"),
        (
            "ALTER TABLE t ADD `rename` int, CHANGE `drop` `partition` int",
            "tables: alter d.t, rename column drop of d.t to partition",
        ),
    ]);
    check(
        &MARIADB,
        &[
            (
                "ALTER TABLE t CHANGE COLUMN IF EXISTS a b int, RENAME COLUMN IF EXISTS c TO e",
                "tables: alter d.t, rename column a of d.t to b, rename column c of d.t to e",
            ),
            ("ALTER TABLE t CHANGE t.a b int", "tables: alter d.t, rename column a of d.t to b"),
            (
                "ALTER TABLE .t CHANGE .a d.t.b int",
                "tables: alter d.t, rename column a of d.t to b",
            ),
        ],
    );
}

#[test]
fn m43_statements_that_change_tables() {
    check_both(&[
        ("ALTER TABLE t ADD COLUMN a int FIRST", "tables: alter d.t"),
        ("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", "tables: alter d.t"),
        ("ALTER TABLE t RENAME u", "tables: rename d.t to d.u"),
        ("ALTER TABLE t RENAME TO x.u", "tables: rename d.t to x.u"),
        ("ALTER TABLE t RENAME AS u", "tables: rename d.t to d.u"),
        ("ALTER TABLE t RENAME = u", "tables: rename d.t to d.u"),
        (
            "ALTER TABLE t ADD (a int, b int), RENAME TO u, DROP c",
            "tables: alter d.t, rename d.t to d.u",
        ),
        ("ALTER TABLE t ADD a int COMMENT ', RENAME TO x', ORDER BY t.rename", "tables: alter d.t"),
        ("ALTER TABLE t", "tables: alter d.t"),
        ("CREATE INDEX i ON t (a)", "tables: alter d.t"),
        ("CREATE UNIQUE INDEX `on` USING BTREE ON x.t (a)", "tables: alter x.t"),
        ("DROP INDEX `PRIMARY` ON t", "tables: alter d.t"),
        ("DROP TABLE t", "tables: drop d.t"),
        ("DROP TABLES IF EXISTS a, `x`.b , c CASCADE", "tables: drop d.a, drop x.b, drop d.c"),
        ("DROP TABLE `t` /* generated by server */", "tables: drop d.t"),
        (
            "DROP TABLE IF EXISTS `a`.`b`/* Generated to handle failed CREATE OR REPLACE */",
            "tables: drop a.b",
        ),
        ("RENAME TABLE a TO b, x.b TO y.c", "tables: rename d.a to d.b, rename x.b to y.c"),
        ("DROP DATABASE x", "drop database x"),
        ("DROP SCHEMA IF EXISTS `a b`", "drop database a b"),
        ("ALTER DATABASE x CHARACTER SET utf8mb4", "alter database x"),
        ("ALTER DATABASE CHARACTER SET utf8mb4", "alter database d"),
        ("ALTER SCHEMA DEFAULT COLLATE utf8mb4_bin", "alter database d"),
        ("ALTER DATABASE comment COLLATE utf8mb4_bin", "alter database comment"),
        ("ALTER TABLE t RENAME", "unclear"),
        ("ALTER TABLE t COMMENT 'x", "unclear"),
        ("RENAME TABLE a TO b, c", "unclear"),
        ("DROP TABLE a, b c", "unclear"),
        ("DROP TABLE 'a'", "unclear"),
        ("ALTER WHATEVER t", "unclear"),
        ("MERGE INTO t", "unclear"),
        ("IMPORT TABLE FROM 'x.sdi'", "unclear"),
    ]);
    check(
        &MARIADB,
        &[
            ("ALTER ONLINE IGNORE TABLE IF EXISTS t WAIT 5 ADD a int", "tables: alter d.t"),
            ("ALTER TABLE t NOWAIT RENAME u", "tables: rename d.t to d.u"),
            ("CREATE OR REPLACE INDEX IF NOT EXISTS i ON t (a)", "tables: alter d.t"),
            ("DROP INDEX IF EXISTS i ON t WAIT 1", "tables: alter d.t"),
            ("DROP TABLE IF EXISTS t WAIT 5", "tables: drop d.t"),
            (
                "RENAME TABLE IF EXISTS a WAIT 1 TO b, c TO e",
                "tables: rename d.a to d.b, rename d.c to d.e",
            ),
            (
                "set statement max_statement_time=100, sql_mode='x for y' for alter table t add b int",
                "tables: alter d.t",
            ),
            ("SET STATEMENT a = 1", "unclear"),
        ],
    );
}

#[test]
fn m42_a_swap_of_tables_keeps_its_order() {
    check_both(&[(
        "rename /* gh-ost */ table `d`.`t` to `d`.`_t_del`, `d`.`_t_gho` to `d`.`t`",
        "tables: rename d.t to d._t_del, rename d._t_gho to d.t",
    )]);
}

#[test]
fn m44_temporary_tables_and_all_that_is_no_table() {
    for statement in [
        "",
        " ;",
        "# Dummy event replacing event type 160 that slave cannot handle.",
        "DROP TEMPORARY TABLE IF EXISTS `d`.`t` /* generated by server */",
        "DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `t`",
        "CREATE DATABASE x",
        "CREATE USER u IDENTIFIED BY 'DROP TABLE t'",
        "CREATE DEFINER=`root`@`localhost` TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
        "CREATE DEFINER=table@localhost PROCEDURE p() BEGIN DROP TABLE t; END",
        "CREATE FUNCTION f() RETURNS int RETURN 1",
        "CREATE OR REPLACE ALGORITHM=MERGE VIEW v AS SELECT 1",
        "CREATE AGGREGATE FUNCTION f RETURNS STRING SONAME 'x'",
        "CREATE SPATIAL REFERENCE SYSTEM 4120 NAME 'x'",
        "CREATE TABLESPACE s ADD DATAFILE 'x'",
        "ALTER USER u IDENTIFIED WITH 'x' AS '\u{1}\\'",
        "ALTER EVENT e RENAME TO f",
        "DROP VIEW v",
        "DROP SEQUENCE `sq` /* generated by server */",
        "RENAME USER a TO b",
        "GRANT ALL ON *.* TO u",
        "SET PASSWORD FOR u = 'x'",
        "ANALYZE NO_WRITE_TO_BINLOG TABLE t",
        "OPTIMIZE TABLE t",
        "FLUSH TABLES",
    ] {
        assert_eq!(shown(statement, &SESSION), "other", "{statement}");
        assert_eq!(shown(statement, &MARIADB), "other", "{statement}");
    }
}

#[test]
fn m43_spaces_and_comments() {
    check_both(&[
        ("drop\ttable\n\u{b}\u{c}t", "tables: drop d.t"),
        ("DROP-- a\nTABLE--\u{1}, b\n#c\nt", "tables: drop d.t"),
        ("DROP/**/TABLE/* ; ' */x/*a*/./*b*/t-- ", "tables: drop x.t"),
        ("DROP /*! TABLE */ t", "tables: drop d.t"),
        ("/*!40000 DROP TABLE t */", "tables: drop d.t"),
        ("/*!401010DROP TABLE t*/", "tables: drop d.t"),
        ("/*!50100 DROP /* x */ TABLE t */ /* y */", "tables: drop d.t"),
        ("DROP /*+ hint */ TABLE t;", "tables: drop d.t"),
        ("DROP /* 99999 TEMPORARY */ TABLE t", "tables: drop d.t"),
        ("DROP TABLE 1t, $u, _v, `w`", "tables: drop d.1t, drop d.$u, drop d._v, drop d.w"),
        ("DROP TABLE d.1, .t", "tables: drop d.1, drop d.t"),
        ("DROP TABLE /* t", "unclear"),
    ]);
    check(&SESSION, &[("DROP /*M! TEMPORARY */ TABLE t", "tables: drop d.t")]);
    check(
        &MARIADB,
        &[
            ("DROP /*M! TEMPORARY */ TABLE t", "other"),
            ("/*M!100100 ALTER */ TABLE t ADD a int", "tables: alter d.t"),
        ],
    );
}

#[test]
fn m43_quotes() {
    check_both(&[
        ("DROP TABLE `a``b`, ```c`, `d```", "tables: drop d.a`b, drop d.`c, drop d.d`"),
        ("DROP TABLE `a\\`", "tables: drop d.a\\"),
        ("DROP TABLE `a.b`.`c d`", "tables: drop a.b.c d"),
        ("DROP TABLE `a", "unclear"),
        ("DROP TABLE ``", "unclear"),
        ("DROP TABLE \"t\"", "unclear"),
        ("DROP TABLE [t]", "unclear"),
        (
            "ALTER TABLE t COMMENT 'it''s \\', RENAME TO u -- \\\\', RENAME TO v",
            "tables: alter d.t, rename d.t to d.v",
        ),
        (
            "ALTER TABLE t COMMENT \"'\"\", RENAME TO u\", RENAME TO v",
            "tables: alter d.t, rename d.t to d.v",
        ),
        (
            "ALTER TABLE t ADD a int DEFAULT x'41', ADD b bit DEFAULT b'0', RENAME v",
            "tables: alter d.t, rename d.t to d.v",
        ),
        (
            "ALTER TABLE t COMMENT _utf8mb4'a', COMMENT n'\\'', RENAME v",
            "tables: alter d.t, rename d.t to d.v",
        ),
    ]);
    check(
        &ANSI,
        &[
            ("DROP TABLE \"a\"\"b\".\"c`\"", "tables: drop a\"b.c`"),
            ("ALTER TABLE \"t\" ADD \"rename\" int", "tables: alter d.t"),
        ],
    );
    check(
        &NO_ESCAPES,
        &[("ALTER TABLE t COMMENT 'a\\', RENAME TO v", "tables: alter d.t, rename d.t to d.v")],
    );
    let mssql = Session { sql_mode: 0xe40e, ..MARIADB };
    check(&mssql, &[("create table [b ]]r](id int)", "tables: create d.b ]r")]);
}

#[test]
fn m43_a_name_without_a_database_is_of_the_default_one() {
    let none = Session { database: "", ..SESSION };
    check(&none, &[("DROP TABLE x.t", "tables: drop x.t"), ("DROP TABLE t", "unclear")]);
    check(&none, &[("ALTER DATABASE CHARACTER SET utf8mb4", "unclear")]);
}

/// What a statement means in a character set.
fn in_set(charset: Charset, statement: &[u8]) -> String {
    shown(statement, &Session { charset: Some(charset), ..SESSION })
}

#[test]
fn m43_names_in_the_clients_character_set() {
    assert_eq!(in_set(Charset::Utf8mb4, "DROP TABLE tä".as_bytes()), "tables: drop d.tä");
    assert_eq!(in_set(Charset::Binary, "DROP TABLE `ä`".as_bytes()), "tables: drop d.ä");
    assert_eq!(in_set(Charset::Latin1, b"DROP TABLE t\xE4"), "tables: drop d.tä");
    assert_eq!(in_set(Charset::Latin1, b"DROP\xA0TABLE\xA0t"), "tables: drop d.t");
    assert_eq!(in_set(Charset::Cp1251, b"DROP TABLE \xF2"), "tables: drop d.т");
    assert_eq!(in_set(Charset::Utf8mb4, b"DROP TABLE `\xFF`"), "unclear");
    for charset in [Charset::Gbk, Charset::Gb18030, Charset::Sjis, Charset::Cp932, Charset::Big5] {
        for second in *b"\\`" {
            let first = if charset == Charset::Big5 { 0xA4 } else { 0x8E };
            let name = charset.to_utf8(&[first, second]).unwrap().into_owned();
            let drop = [b"DROP TABLE `", &[first, second][..], b"`, u"].concat();
            let expected = format!("tables: drop d.{name}, drop d.u");
            assert_eq!(in_set(charset, &drop), expected, "{charset:?}");
            let bare = [b"DROP TABLE ", &[first, second][..], b", u"].concat();
            assert_eq!(in_set(charset, &bare), expected, "{charset:?}");
            let text = [b"ALTER TABLE t COMMENT '", &[first, second][..], b"', RENAME u"].concat();
            let expected = "tables: alter d.t, rename d.t to d.u";
            assert_eq!(in_set(charset, &text), expected, "{charset:?}");
        }
    }
    let wide: Vec<u8> = "DROP TABLE `ä`".encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(in_set(Charset::Utf16, &wide), "tables: drop d.ä");
    let unknown = Session { charset: None, ..SESSION };
    check(&unknown, &[("DROP TABLE t", "tables: drop d.t"), ("DROP TABLE tä", "unclear")]);
}

#[test]
fn m43_text_that_the_server_wrote_is_utf8_in_any_session() {
    let name = "表";
    for charset in [Charset::Gbk, Charset::Latin1] {
        let check = |statement: &str, expected: &str| {
            assert_eq!(in_set(charset, statement.as_bytes()), expected, "{statement}");
        };
        check(&format!("SAVEPOINT `{name}`"), "savepoint 表");
        check(&format!("ROLLBACK TO `{name}`"), "rollback to 表");
        check(
            &format!("CREATE TABLE `{name}` (\n  `{name}` int\n) START TRANSACTION"),
            "tables: create d.表 with rows",
        );
        check(&format!("TRUNCATE TABLE `d`.`{name}` /* generated by server */"), "truncate d.表");
    }
    // The quote is half a character in gbk.
    assert_eq!(
        in_set(Charset::Gbk, "CREATE TABLE `表` (\n  `id` int\n) ENGINE=InnoDB".as_bytes()),
        "tables: create d.表"
    );
    // It may be either.
    assert_eq!(
        in_set(Charset::Latin1, "CREATE TABLE `ä` (\n  `id` int\n)".as_bytes()),
        "unclear: d.Ã¤, d.ä"
    );
    assert_eq!(
        in_set(Charset::Latin1, b"CREATE TABLE `\xE4` (\n  `a` int\n)"),
        "tables: create d.ä"
    );
    assert_eq!(in_set(Charset::Latin1, "DROP TABLE `ä`".as_bytes()), "tables: drop d.Ã¤");
}

/// Bytes that are near to statements.
fn statements() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "CREATE",
            "ALTER",
            "DROP",
            "RENAME",
            "TABLE",
            "TO",
            "a",
            ".",
            ",",
            "(",
            ")",
            "`",
            "'",
            "\"",
            "\\",
            "/*",
            "*/",
            "/*!50100",
            "-- ",
            "#",
            "\n",
            " ",
            " ",
            " ",
            "UPDATE",
            "SET",
            "WITH",
            "XA",
            "START",
            "COMMIT",
            "x'",
            "0x",
            "PARTITION",
            "EXCHANGE",
            "SELECT",
            "LIKE",
            "JOIN",
            "ON",
            "DATABASE",
            "INDEX",
            "IF",
            "EXISTS",
            "NOT",
            "STATEMENT",
            "FOR",
            "ANALYZE",
            "[",
            "]",
            "FROM",
            "DELETE",
            "SAVEPOINT",
            "=",
            "k",
            ";",
            "@",
        ])
        .prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..3),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_panics_and_every_part_takes_bytes(
        statement in statements(),
        sql_mode in prop::sample::select(vec![0, 4, 1 << 10, 1 << 20, u64::MAX]),
        dialect in prop::sample::select(vec![Dialect::Mysql, Dialect::Mariadb]),
        collation in prop::sample::select(vec![8_u16, 28, 35, 1, 13, 95, 248, 255, 10, 63, 54, 9999]),
    ) {
        let charset = Charset::of_collation(collation.into());
        let session = Session { dialect, sql_mode, charset, database: "d" };
        let _meaning = classify(&statement, &session);
        let _tags = super::tags::Tags::of(&statement, &session);
        let mut lexer = Lexer::new(&statement, charset.unwrap_or(Charset::Gbk), &session);
        let mut count = 0;
        while let Some(token) = lexer.next() {
            count += 1;
            prop_assert!(count <= statement.len());
            if token == Token::Bad {
                prop_assert_eq!(lexer.next(), None);
            }
        }
        let mut cursor = Cursor::new(&statement, charset.unwrap_or(Charset::Gbk), session);
        while cursor.next().is_some() {
            prop_assert!(count > 0);
            count -= 1;
        }
    }
}
