//! How statements are written: spaces, comments, quotes, character sets. And transactions, and changes
//! of rows that come as text.

use rowtide_testkit::Flavor;

use crate::cases::{CREATED_T, Case, both, mariadb, mode, mysql, names};

/// As in the other list.
pub(crate) const CASES: &[Case] = &[
    // Spaces and comments.
    both(
        &["create\ttable\n  t\n(a int)", "DROP/**/TABLE/* ; ' */d/*a*/./*b*/t-- x"],
        &[CREATED_T, "tables: drop d.t"],
    ),
    both(&["/* a */ CREATE # b\n TABLE -- c\n t (a int)"], &[CREATED_T]),
    both(
        &["CREATE /*!40000 TABLE */ t /*!50100 ( */ a int /* b */ )", "/*!40101 DROP TABLE t */"],
        &[CREATED_T, "tables: drop d.t"],
    ),
    both(&["CREATE /*!99999 TEMPORARY */ TABLE t (a int)"], &[CREATED_T]),
    both(
        &[
            "CREATE TABLE t /*!50100 /* nested */ (a int) */",
            "ALTER TABLE t COMMENT '/*!99999 x', RENAME TO u",
        ],
        &[CREATED_T, "tables: alter d.t, rename d.t to d.u"],
    ),
    mysql(&["CREATE /*M!100100 TEMPORARY */ TABLE t (a int)"], &[CREATED_T]),
    mariadb(
        &[
            "/*M!100100 CREATE */ TABLE t (a int)",
            "CREATE /*!80000 TEMPORARY */ TABLE u (a int)",
            "CREATE /*M!999999 TEMPORARY */ TABLE v (a int)",
        ],
        &[CREATED_T, "tables: create d.u", "tables: create d.v"],
    ),
    // Quotes.
    both(
        &[
            "CREATE TABLE `a``b` (a int)",
            "ALTER TABLE `a``b` RENAME TO `c d`, ADD `rename` int COMMENT 'it''s \\', RENAME x'",
            "DROP TABLE `c d`",
        ],
        &[
            "tables: create d.a`b",
            "tables: alter d.a`b, rename d.a`b to d.c d",
            "tables: drop d.c d",
        ],
    ),
    both(
        &["CREATE TABLE 1t (a int)", "CREATE TABLE d.1 (a int)", "CREATE TABLE $ä (a int)"],
        &["tables: create d.1t", "tables: create d.1", "tables: create d.$ä"],
    ),
    both(
        &[
            "CREATE TABLE t (a varchar(9) DEFAULT \"'\"\"\", b bit(9) DEFAULT b'1', c binary(1) DEFAULT x'41')",
            "ALTER TABLE t ALTER a SET DEFAULT _utf8mb4'\\\\', RENAME u",
        ],
        &[CREATED_T, "tables: alter d.t, rename d.t to d.u"],
    ),
    mode(
        "ANSI_QUOTES",
        &[
            "CREATE TABLE \"q\"\"r\" (\"a\" int)",
            "ALTER TABLE \"q\"\"r\" ADD \"b\" int, RENAME TO \"d\".\"q r\"",
            "DROP TABLE \"q r\"",
        ],
        &[
            "tables: create d.q\"r",
            "tables: alter d.q\"r, rename d.q\"r to d.q r",
            "tables: drop d.q r",
        ],
    ),
    mode(
        "NO_BACKSLASH_ESCAPES",
        &["CREATE TABLE t (a int)", "ALTER TABLE t COMMENT 'a\\', RENAME TO u"],
        &[CREATED_T, "tables: alter d.t, rename d.t to d.u"],
    ),
    Case {
        on: Some(Flavor::Mariadb),
        ..mode(
            "MSSQL",
            &["CREATE TABLE [b ]]r] (id int)", "DROP TABLE [b ]]r]"],
            &["tables: create d.b ]r", "tables: drop d.b ]r"],
        )
    },
    Case {
        on: Some(Flavor::Mariadb),
        ..mode(
            "ORACLE",
            &["CREATE TABLE \"b o\" (id int)", "CREATE OR REPLACE TABLE \"b o\" (x int)"],
            &["tables: create d.b o", "tables: create or replace d.b o"],
        )
    },
    // Character sets.
    names(
        "latin1",
        &["CREATE TABLE `tä` (`ö` int)", "RENAME TABLE `tä` TO `uä`", "DROP TABLE `uä`"],
        &["tables: create d.tä", "tables: rename d.tä to d.uä", "tables: drop d.uä"],
    ),
    names("latin1", &["CREATE\u{a0}TABLE\u{a0}tä (a int)"], &["tables: create d.tä"]),
    Case {
        on: Some(Flavor::Mysql),
        ..names(
            "latin1",
            &["CREATE TABLE `tä` AS SELECT 1 AS `ö`"],
            &["tables: create d.tä with rows"],
        )
    },
    // 'ä' in UTF-8 is two letters of latin1, and the event says latin1.
    Case {
        on: Some(Flavor::Mariadb),
        ..names("latin1", &["CREATE TABLE `tä` AS SELECT 1 AS `ö`"], &["unclear: d.tÃ¤, d.tä"])
    },
    names(
        "latin1",
        &["CREATE TEMPORARY TABLE `tä` (a int)", "CREATE TABLE `uä` LIKE `tä`"],
        &["unclear: d.uÃ¤, d.uä"],
    ),
    names(
        "cp1251",
        &["CREATE TABLE `тест` (a int)", "DROP TABLE тест"],
        &["tables: create d.тест", "tables: drop d.тест"],
    ),
    // Second bytes that are a backslash (誠, 表) and a backquote (乣).
    names(
        "gbk",
        &[
            "CREATE TABLE `誠` (a int)",
            "ALTER TABLE 誠 COMMENT '誠', RENAME `乣`",
            "DROP TABLE `乣`",
        ],
        &["tables: create d.誠", "tables: alter d.誠, rename d.誠 to d.乣", "tables: drop d.乣"],
    ),
    names(
        "sjis",
        &[
            "CREATE TABLE `表` (a int)",
            "ALTER TABLE `表` COMMENT '表', RENAME 噂",
            "DROP TABLE `噂`",
        ],
        &["tables: create d.表", "tables: alter d.表, rename d.表 to d.噂", "tables: drop d.噂"],
    ),
    names(
        "cp932",
        &["CREATE TABLE `表` (a int)", "DROP TABLE `表`"],
        &["tables: create d.表", "tables: drop d.表"],
    ),
    names(
        "big5",
        &[
            "CREATE TABLE `功` (a int)",
            "ALTER TABLE `功` COMMENT '功', RENAME 許",
            "DROP TABLE `許`",
        ],
        &["tables: create d.功", "tables: alter d.功, rename d.功 to d.許", "tables: drop d.許"],
    ),
    Case {
        on: Some(Flavor::Mysql),
        ..names(
            "gb18030",
            &["CREATE TABLE `誠` (a int)", "DROP TABLE `誠`"],
            &["tables: create d.誠", "tables: drop d.誠"],
        )
    },
    names(
        "gbk",
        &["CREATE TEMPORARY TABLE `t` (a int)", "CREATE TABLE `表` LIKE `t`"],
        &["tables: create d.表"],
    ),
    names(
        "binary",
        &["CREATE TABLE `tä` (a int)", "DROP TABLE `tä`"],
        &["tables: create d.tä", "tables: drop d.tä"],
    ),
    // Transactions. The names of savepoints are sent as they stand here, in UTF-8.
    both(
        &[
            "CREATE TABLE t (a int)",
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "SAVEPOINT `s``ä`",
            "INSERT INTO t VALUES (2)",
            "COMMIT",
        ],
        &[CREATED_T, "savepoint s`ä"],
    ),
    names(
        "latin1",
        &[
            "CREATE TABLE t (a int)",
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "SAVEPOINT `ä`",
            "INSERT INTO t VALUES (2)",
            "COMMIT",
        ],
        &[CREATED_T, "savepoint Ã¤"],
    ),
    mariadb(
        &[
            "CREATE TABLE t (a int)",
            "CREATE TABLE m (a int) ENGINE=MyISAM",
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "SAVEPOINT `s b`",
            "INSERT INTO t VALUES (2)",
            "INSERT INTO m VALUES (3)",
            "ROLLBACK TO `s b`",
            "INSERT INTO t VALUES (4)",
            "COMMIT",
        ],
        &[CREATED_T, "tables: create d.m", "savepoint s b", "rollback to s b"],
    ),
    mysql(
        &[
            "CREATE TABLE t (a int)",
            "XA START 'a','b',3",
            "INSERT INTO t VALUES (1)",
            "XA END 'a','b',3",
            "XA PREPARE 'a','b',3",
            "XA COMMIT 'a','b',3",
        ],
        &[CREATED_T, "xa start 61,62,3", "xa end 61,62,3", "xa commit 61,62,3"],
    ),
    mariadb(
        &[
            "CREATE TABLE t (a int)",
            "XA START 'a','b',3",
            "INSERT INTO t VALUES (1)",
            "XA END 'a','b',3",
            "XA PREPARE 'a','b',3",
            "XA ROLLBACK 'a','b',3",
        ],
        &[CREATED_T, "xa end 61,62,3", "xa rollback 61,62,3"],
    ),
    mysql(
        &[
            "CREATE TABLE t (a int)",
            "XA START 0x41",
            "INSERT INTO t VALUES (1)",
            "XA END 0x41",
            "XA COMMIT 0x41 ONE PHASE",
        ],
        &[CREATED_T, "xa start 41,,1", "xa end 41,,1"],
    ),
    // Changes of rows as text.
    both(
        &[
            "CREATE TABLE t (id int PRIMARY KEY)",
            "CREATE TABLE u (id int PRIMARY KEY)",
            "SET binlog_format = STATEMENT",
            "/* a */ INSERT INTO t VALUES (1), (2)",
            "insert ignore u select id from t",
            "REPLACE INTO d . t VALUES (1)",
            "UPDATE t a JOIN u b ON a.id = b.id SET a.id = a.id + 10",
            "UPDATE LOW_PRIORITY t SET id = 5 WHERE id = 11",
            "DELETE FROM t WHERE id = 5",
            "DELETE a, b FROM t AS a JOIN u b ON a.id = b.id + 10",
            "DELETE FROM t USING t JOIN u ON t.id = u.id",
        ],
        &[
            CREATED_T,
            "tables: create d.u",
            "rows: d.t",
            "rows: d.u",
            "rows: d.t",
            "rows: d.t, d.u",
            "rows: d.t",
            "rows: d.t",
            "rows: d.t, d.u",
            "rows: d.t, d.u",
        ],
    ),
    mysql(
        &[
            "CREATE TABLE t (id int PRIMARY KEY)",
            "SET binlog_format = STATEMENT",
            "INSERT INTO t VALUES (1)",
            "WITH c AS (SELECT 1 AS id) DELETE FROM t WHERE id IN (SELECT id FROM c)",
            "WITH RECURSIVE c (i) AS (SELECT 1) UPDATE t SET id = 7 WHERE id = (SELECT i FROM c)",
        ],
        &[CREATED_T, "rows: d.t", "rows: d.t", "rows: d.t"],
    ),
    mariadb(
        &[
            "CREATE TABLE t (id int PRIMARY KEY)",
            "SET binlog_format = STATEMENT",
            "INSERT INTO t VALUES (1)",
            "ANALYZE UPDATE t SET id = 2",
            "ANALYZE FORMAT=JSON DELETE FROM t WHERE id = 2",
            "SET STATEMENT max_statement_time = 9 FOR INSERT INTO t VALUES (3)",
        ],
        &[CREATED_T, "rows: d.t", "rows: d.t", "rows: d.t", "rows: d.t"],
    ),
    both(
        &[
            "CREATE TABLE t (id int)",
            "CREATE FUNCTION f(i int) RETURNS int DETERMINISTIC RETURN (SELECT count(*) FROM t)",
            "CREATE PROCEDURE p(i int) INSERT INTO t VALUES (i)",
            "SET binlog_format = STATEMENT",
            "CALL p(3)",
            "INSERT INTO t VALUES (f(1))",
            "DROP FUNCTION f",
            "DROP PROCEDURE p",
        ],
        &[CREATED_T, "other", "other", "rows: d.t", "rows: d.t", "other", "other"],
    ),
    both(
        &["CREATE TABLE t (id int)", "SET binlog_format = MIXED", "INSERT INTO t VALUES (1)"],
        &[CREATED_T, "rows: d.t"],
    ),
];
