//! Statements that real servers run, and what must be made of the QUERY events that they write.

use rowtide_testkit::Flavor;

/// Statements of one session.
pub(crate) struct Case {
    /// The server that knows them; `None` for both.
    pub(crate) on: Option<Flavor>,
    pub(crate) sql_mode: &'static str,
    /// `SET NAMES`: what they are sent in.
    pub(crate) names: &'static str,
    pub(crate) sql: &'static [&'static str],
    /// What the events mean, without BEGIN and COMMIT.
    pub(crate) meaning: &'static [&'static str],
}

pub(crate) type Statements = &'static [&'static str];

pub(crate) const fn both(sql: Statements, meaning: Statements) -> Case {
    Case { on: None, sql_mode: "", names: "utf8mb4", sql, meaning }
}

pub(crate) const fn mysql(sql: Statements, meaning: Statements) -> Case {
    Case { on: Some(Flavor::Mysql), ..both(sql, meaning) }
}

pub(crate) const fn mariadb(sql: Statements, meaning: Statements) -> Case {
    Case { on: Some(Flavor::Mariadb), ..both(sql, meaning) }
}

pub(crate) const fn mode(sql_mode: &'static str, sql: Statements, meaning: Statements) -> Case {
    Case { sql_mode, ..both(sql, meaning) }
}

pub(crate) const fn names(names: &'static str, sql: Statements, meaning: Statements) -> Case {
    Case { names, ..both(sql, meaning) }
}

pub(crate) const CREATED_T: &str = "tables: create d.t";

/// What is done to tables. Each case begins with an empty database `d`, and may use `x`.
pub(crate) const CASES: &[Case] = &[
    both(&["CREATE TABLE t (id int PRIMARY KEY)"], &[CREATED_T]),
    both(
        &["create table x . t (a int)", "drop table x.t"],
        &["tables: create x.t", "tables: drop x.t"],
    ),
    both(
        &["CREATE TABLE t (a int)", "ALTER TABLE t ADD b int FIRST"],
        &[CREATED_T, "tables: alter d.t"],
    ),
    both(
        &[
            "CREATE TABLE t (a int, b text)",
            "ALTER TABLE t RENAME COLUMN a TO c, ADD KEY k (c)",
            "ALTER TABLE t RENAME INDEX k TO l",
            "ALTER TABLE t CONVERT TO CHARACTER SET latin1",
        ],
        &[
            CREATED_T,
            "tables: alter d.t, rename column a of d.t to c",
            "tables: alter d.t",
            "tables: alter d.t",
        ],
    ),
    both(
        &[
            "CREATE TABLE t (a int)",
            "ALTER TABLE t RENAME u",
            "ALTER TABLE u RENAME TO x.v",
            "ALTER TABLE x.v RENAME AS d.w",
        ],
        &[
            CREATED_T,
            "tables: rename d.t to d.u",
            "tables: rename d.u to x.v",
            "tables: rename x.v to d.w",
        ],
    ),
    both(
        &[
            "CREATE TABLE t (a int)",
            "ALTER TABLE t ADD (b int, c int COMMENT ', RENAME x'), RENAME TO u, DROP a",
        ],
        &[CREATED_T, "tables: alter d.t, rename d.t to d.u"],
    ),
    both(
        &[
            "CREATE TABLE t (a int)",
            "CREATE UNIQUE INDEX `on` USING BTREE ON t (a)",
            "DROP INDEX `on` ON t",
        ],
        &[CREATED_T, "tables: alter d.t", "tables: alter d.t"],
    ),
    both(
        &[
            "CREATE TABLE t (a int)",
            "CREATE TABLE _t_gho (a int, b int)",
            "rename /* gh-ost */ table `d`.`t` to `d`.`_t_del`, `d`.`_t_gho` to `d`.`t`",
        ],
        &[
            CREATED_T,
            "tables: create d._t_gho",
            "tables: rename d.t to d._t_del, rename d._t_gho to d.t",
        ],
    ),
    both(
        &[
            "CREATE TABLE a (i int)",
            "CREATE TABLE b (j int)",
            "RENAME TABLE a TO c, b TO a, c TO b",
        ],
        &[
            "tables: create d.a",
            "tables: create d.b",
            "tables: rename d.a to d.c, rename d.b to d.a, rename d.c to d.b",
        ],
    ),
    both(
        &[
            "CREATE TABLE a (i int)",
            "CREATE TABLE b (j int)",
            "DROP TABLES IF EXISTS a, d.b, nothing",
        ],
        &["tables: create d.a", "tables: create d.b", "tables: drop d.a, drop d.b, drop d.nothing"],
    ),
    both(&["DROP TABLE IF EXISTS nothing RESTRICT"], &["tables: drop d.nothing"]),
    both(&["CREATE TABLE t (a int)", "TRUNCATE t"], &[CREATED_T, "truncate d.t"]),
    both(&["CREATE TABLE t (a int)", "TRUNCATE TABLE `d` . `t`"], &[CREATED_T, "truncate d.t"]),
    both(
        &["CREATE TABLE t (a int)", "CREATE TABLE u LIKE t"],
        &[CREATED_T, "tables: create d.u like d.t"],
    ),
    both(
        &["CREATE TABLE t (a int)", "CREATE TABLE u (LIKE t)"],
        &[CREATED_T, "tables: create d.u like d.t"],
    ),
    mysql(&["CREATE TABLE t SELECT 1 AS a"], &["tables: create d.t with rows"]),
    mariadb(&["CREATE TABLE t SELECT 1 AS a"], &[CREATED_T]),
    mysql(&["CREATE TABLE t (b int) AS (SELECT 1 AS a)"], &["tables: create d.t with rows"]),
    mariadb(
        &["CREATE TABLE IF NOT EXISTS t (b int) AS (SELECT 1 AS a)"],
        &["tables: create if not exists d.t"],
    ),
    mysql(
        &["CREATE TABLE t VALUES ROW(1)", "CREATE TABLE u TABLE t"],
        &["tables: create d.t with rows", "tables: create d.u with rows"],
    ),
    both(
        &[
            "SET binlog_format = STATEMENT",
            "CREATE TABLE t (a int)",
            "CREATE TABLE u WITH c AS (SELECT 1 AS i) SELECT * FROM c",
            "CREATE TABLE v (SELECT * FROM t)",
            "CREATE TABLE w (b int) ENGINE=InnoDB IGNORE SELECT * FROM t",
        ],
        &[
            CREATED_T,
            "tables: create d.u from a query",
            "tables: create d.v from a query",
            "tables: create d.w from a query",
        ],
    ),
    mysql(
        &["CREATE TABLE t (a int)", "CREATE TABLE IF NOT EXISTS t (b int)"],
        &[CREATED_T, "tables: create if not exists d.t"],
    ),
    mariadb(
        &["CREATE OR REPLACE TABLE t (a int)", "CREATE OR REPLACE TABLE t (b int)"],
        &["tables: create or replace d.t", "tables: create or replace d.t"],
    ),
    both(
        &[
            "CREATE TEMPORARY TABLE t (a int)",
            "CREATE TABLE u LIKE t",
            "ALTER TABLE t ADD b int",
            "TRUNCATE TABLE t",
            "INSERT INTO t VALUES (1, 2)",
            "DROP TABLE t",
        ],
        &["tables: create d.u"],
    ),
    both(
        &["CREATE TABLE t (a int)", "CREATE TEMPORARY TABLE u (a int)", "DROP TABLE u, t"],
        &[CREATED_T, "tables: drop d.t"],
    ),
    mariadb(
        &[
            "SET binlog_format = MIXED",
            "CREATE TEMPORARY TABLE u (a int)",
            "INSERT INTO u VALUES (1)",
            "DROP TABLE u",
        ],
        &["other", "rows: d.u", "other"],
    ),
    both(
        &[
            "CREATE TABLE t (a int) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (1), PARTITION p1 VALUES LESS THAN (2), PARTITION p2 VALUES LESS THAN (3))",
            "INSERT INTO t VALUES (0), (1), (2)",
            "ALTER TABLE t TRUNCATE PARTITION p0",
            "ALTER TABLE t DROP PARTITION p0, p1",
            "ALTER TABLE t REORGANIZE PARTITION p2 INTO (PARTITION p3 VALUES LESS THAN (5))",
            "ALTER TABLE t ADD PARTITION (PARTITION p4 VALUES LESS THAN (9))",
            "ALTER TABLE t REMOVE PARTITIONING",
            "ALTER TABLE t PARTITION BY HASH (a) PARTITIONS 3",
            "ALTER TABLE t COALESCE PARTITION 1",
        ],
        &[
            CREATED_T,
            "tables: truncate a partition of d.t",
            "tables: drop a partition of d.t",
            "tables: alter d.t",
            "tables: alter d.t",
            "tables: alter d.t",
            "tables: alter d.t",
            "tables: alter d.t",
        ],
    ),
    both(
        &[
            "CREATE TABLE t (a int) PARTITION BY LIST (a) (PARTITION p0 VALUES IN (1))",
            "CREATE TABLE x.u (a int)",
            "ALTER TABLE t EXCHANGE PARTITION p0 WITH TABLE x.u",
            "DROP TABLE x.u",
        ],
        &[
            CREATED_T,
            "tables: create x.u",
            "tables: exchange a partition of d.t with rows of x.u, exchange a partition of x.u with rows of d.t",
            "tables: drop x.u",
        ],
    ),
    mariadb(
        &[
            "CREATE TABLE t (a int) PARTITION BY LIST (a) (PARTITION p0 VALUES IN (1), PARTITION p1 VALUES IN (2))",
            "ALTER TABLE t CONVERT PARTITION p0 TO TABLE u",
            "ALTER TABLE t CONVERT TABLE u TO PARTITION p2 VALUES IN (1)",
        ],
        &[
            CREATED_T,
            "tables: convert a partition of d.t, create d.u like d.t, convert a partition of d.u with rows of d.t",
            "tables: convert a partition of d.t with rows of d.u, drop d.u",
        ],
    ),
    both(
        &["CREATE TABLE t (a int)", "ALTER TABLE t DISCARD TABLESPACE"],
        &[CREATED_T, "tables: discard the tablespace of d.t"],
    ),
    mariadb(
        &[
            "CREATE TABLE t (a int) WITH SYSTEM VERSIONING",
            "INSERT INTO t VALUES (1)",
            "DELETE HISTORY FROM t",
            "ALTER TABLE t DROP SYSTEM VERSIONING",
        ],
        &[CREATED_T, "tables: alter d.t, drop the history of d.t"],
    ),
    mariadb(
        &[
            "CREATE TABLE t (a int)",
            "ALTER ONLINE TABLE IF EXISTS t WAIT 5 ADD b int",
            "CREATE INDEX IF NOT EXISTS i ON t (a)",
            "DROP INDEX IF EXISTS i ON t",
            "TRUNCATE TABLE t WAIT 1",
            "RENAME TABLE IF EXISTS nothing TO a, t TO u",
            "DROP TABLE u WAIT 1",
        ],
        &[
            CREATED_T,
            "tables: alter d.t",
            "tables: alter d.t",
            "tables: alter d.t",
            "truncate d.t",
            "tables: rename d.nothing to d.a, rename d.t to d.u",
            "tables: drop d.u",
        ],
    ),
    mariadb(
        &[
            "SET STATEMENT max_statement_time = 100 FOR CREATE TABLE t (a int)",
            "SET STATEMENT max_statement_time = 100, sql_mode = 'ANSI_QUOTES' FOR ALTER TABLE t ADD b int",
        ],
        &[CREATED_T, "tables: alter d.t"],
    ),
    mariadb(
        &[
            "SET binlog_alter_two_phase = ON",
            "CREATE TABLE t (a int)",
            "ALTER TABLE t ADD b int",
            "SET binlog_alter_two_phase = OFF",
        ],
        // Once where it begins, and again where it is done.
        &[CREATED_T, "tables: alter d.t", "tables: alter d.t"],
    ),
    mariadb(&["CREATE SEQUENCE s", "SELECT NEXTVAL(s)", "DROP SEQUENCE s"], &["other", "other"]),
    mariadb(
        &["CREATE SEQUENCE s", "ALTER SEQUENCE s RESTART 5", "DROP TABLE s"],
        &["other", "other", "tables: drop d.s"],
    ),
    both(
        &[
            "CREATE DATABASE y",
            "CREATE TABLE y.t (a int)",
            "ALTER DATABASE y CHARACTER SET latin1",
            "DROP DATABASE y",
        ],
        &["other", "tables: create y.t", "alter database y", "drop database y"],
    ),
    both(
        &["CREATE SCHEMA IF NOT EXISTS `a b`", "DROP SCHEMA IF EXISTS `a b`"],
        &["other", "drop database a b"],
    ),
    both(
        &["ALTER DATABASE CHARACTER SET utf8mb4", "ALTER SCHEMA DEFAULT COLLATE utf8mb4_bin"],
        &["alter database d", "alter database d"],
    ),
    mariadb(
        &[
            "CREATE DATABASE y",
            "CREATE TABLE y.t (a int)",
            "CREATE OR REPLACE DATABASE y",
            "DROP DATABASE y",
        ],
        &["other", "tables: create y.t", "drop database y", "drop database y"],
    ),
    both(
        &[
            "CREATE TABLE t (a int)",
            "CREATE VIEW v AS SELECT a FROM t",
            "CREATE OR REPLACE ALGORITHM=MERGE VIEW v AS SELECT 1",
            "ALTER VIEW v AS SELECT 2",
            "DROP VIEW v",
        ],
        &[CREATED_T, "other", "other", "other", "other"],
    ),
    both(
        &[
            "CREATE TABLE t (a int)",
            "CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
            "CREATE PROCEDURE p() DROP TABLE IF EXISTS u",
            "CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DISABLE DO TRUNCATE t",
            "ALTER EVENT e COMMENT 'x'",
            "CALL p()",
            "DROP TRIGGER r",
            "DROP PROCEDURE p",
            "DROP EVENT e",
        ],
        &[
            CREATED_T,
            "other",
            "other",
            "other",
            "other",
            "tables: drop d.u",
            "other",
            "other",
            "other",
        ],
    ),
    both(
        &[
            "CREATE USER someone IDENTIFIED BY 'DROP TABLE t'",
            "GRANT SELECT ON d.* TO someone",
            "RENAME USER someone TO nobody",
            "REVOKE ALL ON d.* FROM nobody",
            "CREATE ROLE r",
            "DROP ROLE r",
            "DROP USER nobody",
        ],
        &["other", "other", "other", "other", "other", "other", "other"],
    ),
    both(
        &["CREATE TABLE t (a int)", "ANALYZE TABLE t", "OPTIMIZE TABLE t", "FLUSH TABLES"],
        &[CREATED_T, "other", "other", "other"],
    ),
];
