//! What settings hide on MySQL and MariaDB stays hidden, whatever tables and columns are called later.

use rowtide_testkit::{Flavor, Mysql};

use crate::host::Setup;
use crate::mysql::{configured, started};

/// What settings hide of a table stays hidden under the names that it gets, while nobody looks too, and
/// before its first change; other tables are not taken for it.
#[test]
fn m42_a_renamed_table_does_not_shed_its_settings() {
    for flavor in Flavor::ALL {
        let Some((server, setup)) = started(flavor) else { return };
        server
            .sql("CREATE TABLE shop.other (id int PRIMARY KEY, n int NOT NULL, note varchar(40))");
        let config = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
        let write = |more: &str| {
            let tables = format!(
                "    tables:\n      shop.t: {{ columns: {{ exclude: [note] }} }}\n{more}    snapshot"
            );
            let text = config.replace("    snapshot", &tables);
            std::fs::write(setup.path("rowtide.yaml"), text).unwrap();
        };
        write("");
        let mut host = setup.first_start();
        server.sql("INSERT INTO shop.other VALUES (1, 1, 'shown')");
        host.until("another table is captured", || setup.count() == 1);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        server.sql(
            "RENAME TABLE shop.t TO shop.s, shop.s TO shop.u; INSERT INTO shop.u VALUES (1, 1, 'secret')",
        );
        for _ in 0..2 {
            let (status, log) = setup.run_to_end();
            assert_eq!(status, Some(2), "{log}");
            assert!(log.contains("RT5015") && log.contains("shop.u"), "{log}");
            assert_eq!(setup.count(), 1);
        }
        write("      shop.u: { columns: { mask: { note: redact } } }\n");
        let mut host = setup.start();
        host.until("settings for the name are a choice", || setup.count() == 2);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert!(!format!("{:?}", setup.events()).contains("secret"));
    }
}

/// The names under which settings hide columns of `shop.t`: its own, and a pattern that matches it.
const NAMES: [&str; 2] = ["shop.t", "'shop.t*'"];

const HIDDEN: &str = "exclude: [x], mask: { s: redact }";

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, a varchar(40), s varchar(40), x varchar(40))";

fn settings(name: &str, columns: &str) -> String {
    format!("{name}: {{ columns: {{ {columns} }} }}")
}

/// What is done to a table of which columns are hidden, the columns of the row behind it, of which the second
/// one would show what was hidden, and what hides it again.
const RENAMED: [(&str, &str, &str); 7] = [
    (
        "ALTER TABLE t CHANGE s s_old varchar(40), ADD s varchar(40)",
        "id, s_old",
        "exclude: [x], mask: { s: redact, s_old: redact }",
    ),
    (
        "ALTER TABLE t RENAME COLUMN S TO s_old; ALTER TABLE t ADD s text",
        "id, s_old",
        "exclude: [x, s_old], mask: { s: redact }",
    ),
    (
        "ALTER TABLE t RENAME COLUMN s TO a, RENAME COLUMN a TO s",
        "id, a",
        "exclude: [x], mask: { s: redact, a: redact }",
    ),
    (
        "ALTER TABLE t RENAME COLUMN x TO a, RENAME COLUMN a TO x",
        "id, a",
        "exclude: [x, a], mask: { s: redact }",
    ),
    (
        "RENAME TABLE t TO q; ALTER TABLE q CHANGE s s_old varchar(40), CHANGE a s varchar(40);
         RENAME TABLE q TO t",
        "id, s_old",
        "exclude: [x], mask: { s: redact, s_old: redact }",
    ),
    ("ALTER TABLE t CHANGE COLUMN `x` y varchar(40)", "id, y", "exclude: [y], mask: { s: redact }"),
    (
        "CREATE TABLE _t_gho LIKE t; ALTER TABLE _t_gho CHANGE s s_old varchar(40), ADD s int;
         INSERT INTO _t_gho (id, s_old) VALUES (1, 'secret');
         RENAME TABLE t TO _t_del, _t_gho TO t",
        "id, s_old",
        "exclude: [x], mask: { s: redact, s_old: redact }",
    ),
];

/// A server with a table in which something is hidden, and another one; a run has seen the other alone.
fn seen_another(server: &Mysql, tables: &str, settings: &str) -> (Setup, impl Fn(&str) + use<>) {
    server.sql(&format!(
        "DROP DATABASE IF EXISTS shop; CREATE DATABASE shop; USE shop; {tables};
         CREATE TABLE other (id int PRIMARY KEY)"
    ));
    let setup = configured(server);
    let path = setup.path("rowtide.yaml");
    let config = std::fs::read_to_string(&path).unwrap();
    let write = move |settings: &str| {
        let tables = format!("    tables:\n      {settings}\n    snapshot");
        std::fs::write(&path, config.replace("    snapshot", &tables)).unwrap();
    };
    write(settings);
    let mut host = setup.first_start();
    server.sql("INSERT INTO shop.other VALUES (1)");
    host.until("another table is captured", || setup.count() == 1);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    (setup, write)
}

/// That a run is refused, and the next one too.
fn is_refused(setup: &Setup, what: &str, name: &str) {
    for _ in 0..2 {
        let (status, log) = setup.run_to_end();
        assert_eq!(status, Some(2), "{what}: {log}");
        assert!(log.contains("RT5015") && log.contains(name), "{what}: {log}");
        assert_eq!(setup.count(), 1, "{what}");
    }
}

/// A column that settings hide is not published under another name, whether its own is another's now or
/// nobody's, before the table's first event, by a copy of the table that takes its name, and wherever the
/// names of columns come from.
#[test]
fn m43_a_renamed_column_does_not_shed_its_settings() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &[]) else { return };
        for (round, (change, columns, mended)) in RENAMED.into_iter().enumerate() {
            let metadata = if round % 2 == 0 { "FULL" } else { "MINIMAL" };
            server.sql(&format!("SET GLOBAL binlog_row_metadata = '{metadata}'"));
            for name in NAMES {
                let what = format!("{} {name} {change}", flavor.name());
                let (setup, write) = seen_another(&server, TABLE, &settings(name, HIDDEN));
                let row = format!("INSERT INTO t ({columns}) VALUES (2, 'secret')");
                server.sql(&format!("USE shop; {change}; {row}"));
                is_refused(&setup, &what, columns.trim_start_matches("id, "));
                write(&settings(name, mended));
                let mut host = setup.start();
                host.until(&what, || setup.count() >= 2);
                assert_eq!(host.stop(), Some(0), "{what}: {}", host.log());
                assert!(!format!("{:?}", setup.events()).contains("secret"), "{what}");
            }
        }
    }
}

/// Other columns may be renamed, and hidden ones to names that are hidden too.
#[test]
fn m43_columns_that_stay_as_they_are_shown_may_be_renamed() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=FULL"]) else { return };
        let (setup, _write) = seen_another(&server, TABLE, &settings(NAMES[0], HIDDEN));
        server.sql(
            "USE shop; INSERT INTO t VALUES (1, 'a', 'secret', 'secret');
             ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN s TO x, RENAME COLUMN x TO s;
             INSERT INTO t VALUES (2, 'b', 'secret', 'secret')",
        );
        let mut host = setup.start();
        host.until("both rows are there", || setup.count() == 3);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert!(!format!("{:?}", setup.events()).contains("secret"));
    }
}

/// What is called otherwise for a moment is not published, and no reason to stop; and the remedies are said
/// that work: for a name that another column has now, and for one that is gone. A restart comes in between.
#[test]
fn m43_a_column_that_has_its_name_again_and_remedies_that_work() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=FULL"]) else { return };
        let (setup, write) = seen_another(&server, TABLE, &settings(NAMES[0], HIDDEN));
        let mut host = setup.start();
        server.sql("USE shop; ALTER TABLE t RENAME COLUMN s TO b; INSERT INTO other VALUES (2)");
        host.until("the position is behind the statement", || setup.count() == 2);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let mut host = setup.start();
        server.sql(
            "USE shop; ALTER TABLE t CHANGE b s text; INSERT INTO t VALUES (1, 'a', 'secret', '')",
        );
        host.until("it is hidden again", || setup.count() == 3);
        server.sql("USE shop; ALTER TABLE t RENAME COLUMN s TO c; INSERT INTO other VALUES (3)");
        host.until("the position is behind the statement", || setup.count() == 4);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        server.sql("USE shop; ALTER TABLE t RENAME COLUMN c TO e; INSERT INTO t VALUES (2, 'a', 'secret', '')");
        let (status, log) = setup.run_to_end();
        assert_eq!(status, Some(2), "{log}");
        assert!(log.contains("RT5015") && log.contains("name e in the place of s"), "{log}");
        write(&settings(NAMES[0], "exclude: [x], mask: { e: redact }"));
        let mut host = setup.start();
        host.until("the row is there", || setup.count() == 5);
        server
            .sql("USE shop; ALTER TABLE t CHANGE x y varchar(40), ADD x int; INSERT INTO other VALUES (4)");
        host.until("the position is behind the statement", || setup.count() == 6);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        server.sql("INSERT INTO shop.t (id, y) VALUES (3, 'hushed')");
        let (status, log) = setup.run_to_end();
        assert_eq!(status, Some(2), "{log}");
        assert!(log.contains("RT5015") && log.contains("name y beside x"), "{log}");
        write(&settings(NAMES[0], "exclude: [x, y], mask: { e: redact }"));
        let mut host = setup.start();
        host.until("the row is there", || setup.count() == 7);
        let events = format!("{:?}", setup.events());
        assert!(!events.contains("secret") && !events.contains("hushed"), "{events}");
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        // It was passed: what may be published from here on may be.
        write(&settings(NAMES[0], "exclude: [x], mask: { e: redact }"));
        let mut host = setup.start();
        server.sql("INSERT INTO shop.t (id, y) VALUES (4, 'shown')");
        host.until("the row is there", || setup.count() == 8);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
    }
}

/// The same of a table that goes away, is altered there, and comes back.
#[test]
fn m43_a_column_that_is_renamed_while_its_table_is_not_captured_stays_hidden() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=FULL"]) else { return };
        let (setup, _write) = seen_another(&server, TABLE, &settings(NAMES[0], HIDDEN));
        server.sql(
            "CREATE DATABASE away; RENAME TABLE shop.t TO away.u;
             ALTER TABLE away.u RENAME COLUMN s TO b, ADD s int; RENAME TABLE away.u TO shop.t;
             DROP DATABASE away; INSERT INTO shop.t (id, b) VALUES (1, 'secret')",
        );
        is_refused(&setup, flavor.name(), "name b beside s");
    }
}

/// What is done to a table of which the column s is hidden, after which b has its values.
const COPIED: [&str; 8] = [
        "ALTER TABLE t RENAME COLUMN s TO b, ADD s int; CREATE TABLE n LIKE t; RENAME TABLE t TO o, n TO t",
        "ALTER TABLE t RENAME COLUMN s TO b, ADD s int; CREATE TABLE n LIKE t; DROP TABLE t;
         RENAME TABLE n TO t",
        "ALTER TABLE t CHANGE s b varchar(40), ADD s int; CREATE TABLE _t_gho LIKE t;
         ALTER TABLE _t_gho ADD n int; RENAME TABLE t TO _t_del, _t_gho TO t; DROP TABLE _t_del",
        "ALTER TABLE t CHANGE s b varchar(40), ADD s int;
         CREATE TABLE _t_new (id int PRIMARY KEY, b varchar(40), s int, x int);
         RENAME TABLE t TO _t_old, _t_new TO t; DROP TABLE _t_old",
        "ALTER TABLE t CHANGE s b varchar(40), ADD s int;
         CREATE TABLE n (id int PRIMARY KEY, b varchar(40), s int, x int); RENAME TABLE t TO o, n TO t",
        "CREATE DATABASE away; CREATE TABLE away.g LIKE t; ALTER TABLE away.g CHANGE s b text, ADD s int;
         DROP TABLE t; ALTER TABLE away.g RENAME shop.t; DROP DATABASE away",
        "CREATE TABLE a LIKE t; ALTER TABLE a RENAME COLUMN s TO m; CREATE TABLE c LIKE a;
         ALTER TABLE c RENAME COLUMN m TO b, ADD s int; DROP TABLE t; RENAME TABLE c TO t",
        "CREATE OR REPLACE TABLE u LIKE t; ALTER TABLE u RENAME COLUMN s TO b, ADD s int;
         CREATE OR REPLACE TABLE t LIKE u",
];

/// A copy of a table has its renamed columns, whatever name it takes, before the table's first event too.
#[test]
fn m43_a_copy_of_a_table_does_not_shed_what_is_hidden_of_it() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=FULL"]) else { return };
        let others = COPIED.len() - usize::from(flavor == Flavor::Mysql);
        for name in ["shop.t", "'shop.*'"] {
            for change in &COPIED[..others] {
                let what = format!("{} {name} {change}", flavor.name());
                let columns = "exclude: [x], mask: { s: redact }";
                let (setup, write) = seen_another(&server, TABLE, &settings(name, columns));
                server.sql(&format!(
                    "USE shop; {change}; INSERT INTO t (id, b) VALUES (1, 'secret')"
                ));
                is_refused(&setup, &what, "name b beside s");
                write(&settings(name, "exclude: [x], mask: { s: redact, b: redact }"));
                let mut host = setup.start();
                host.until(&what, || setup.count() == 2);
                assert_eq!(host.stop(), Some(0), "{what}: {}", host.log());
                assert!(!format!("{:?}", setup.events()).contains("secret"), "{what}");
            }
        }
    }
}

/// A copy under a name of its own, while the column that was hidden has another name in the table.
#[test]
fn m43_a_copy_under_its_own_name_hides_what_its_pattern_hides() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=FULL"]) else { return };
        let (setup, _write) = seen_another(&server, TABLE, &settings("'shop.*'", HIDDEN));
        server.sql(
            "USE shop; ALTER TABLE t RENAME COLUMN s TO b; CREATE TABLE n LIKE t;
             INSERT INTO n (id, b) VALUES (1, 'secret')",
        );
        is_refused(&setup, flavor.name(), "name b beside s");
    }
}

/// A TRUNCATE tells that a table is empty, and not what its columns are: the row behind it is refused, and a table
/// that is made anew is another.
#[test]
fn m43_a_truncate_does_not_tell_of_a_renamed_column() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=FULL"]) else { return };
        for name in ["shop.t", "'shop.*'"] {
            let (setup, _write) = seen_another(&server, TABLE, &settings(name, HIDDEN));
            let mut host = setup.start();
            server.sql("USE shop; ALTER TABLE t RENAME COLUMN s TO b, ADD s int; TRUNCATE TABLE t");
            host.until("the truncate", || setup.count() == 2);
            server.sql("INSERT INTO shop.t (id, b) VALUES (1, 'secret')");
            assert_eq!(host.wait(), Some(2), "{}", host.log());
            let (status, log) = setup.run_to_end();
            assert_eq!(status, Some(2), "{log}");
            assert!(log.contains("RT5015") && log.contains("name b beside s"), "{log}");
            assert_eq!(setup.count(), 2);
        }
        let (setup, _write) = seen_another(&server, TABLE, &settings("'shop.*'", HIDDEN));
        server.sql(
            "USE shop; CREATE TABLE n LIKE t; ALTER TABLE n RENAME COLUMN s TO b; TRUNCATE TABLE n;
             DROP TABLE n; CREATE TABLE n (id int PRIMARY KEY, b varchar(40));
             INSERT INTO n VALUES (1, 'shown')",
        );
        let mut host = setup.start();
        host.until("the truncate and the row", || setup.count() == 3);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
    }
}

/// What a copy publishes under a name without settings is its own; under the table's name it is hidden again. A
/// table that has nothing of one with hidden columns but a name that a copy had is not taken for it, and the
/// position keeps nothing of tables that are gone.
#[test]
fn m43_what_is_known_of_a_copy_goes_with_it() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=FULL"]) else { return };
        let (setup, _write) = seen_another(&server, TABLE, &settings(NAMES[0], HIDDEN));
        let mut host = setup.start();
        server.sql(
            "USE shop; CREATE TABLE u LIKE t; ALTER TABLE u RENAME COLUMN s TO b, ADD s int;
             TRUNCATE TABLE u; INSERT INTO u (id, b) VALUES (1, 'its own')",
        );
        host.until("the copy's own", || setup.count() == 3);
        server.sql("RENAME TABLE shop.t TO shop.z, shop.u TO shop.t");
        server.sql("INSERT INTO shop.t (id, b) VALUES (2, 'secret')");
        assert_eq!(host.wait(), Some(2), "{}", host.log());
        let (status, log) = setup.run_to_end();
        assert_eq!(status, Some(2), "{log}");
        assert!(log.contains("RT5015") && log.contains("name b beside s"), "{log}");
        assert_eq!(setup.count(), 3);

        let (setup, _write) = seen_another(&server, TABLE, &settings("'shop.*'", HIDDEN));
        for _ in 0..3 {
            server.sql(
                "USE shop; CREATE TABLE y LIKE t; ALTER TABLE y RENAME COLUMN s TO b;
                 RENAME TABLE y TO z; DROP TABLE z",
            );
        }
        server.sql(
            "USE shop; CREATE TABLE q (id int PRIMARY KEY, b varchar(40), s int); RENAME TABLE q TO y;
             INSERT INTO y (id, b) VALUES (1, 'shown')",
        );
        let mut host = setup.start();
        host.until("the row is there", || setup.count() == 2);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let shown = setup.output(&["position", "show", "--connector", "shop"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("binlog.") && !shown.contains("\"was\""), "{shown}");
    }
}

/// Rows that a statement moves into another table without row events bring what is hidden of them along.
#[test]
fn m37_rows_that_come_from_another_table_do_not_shed_its_settings() {
    const PARTITIONED: &str = "PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (10),
          PARTITION q VALUES LESS THAN (20));
        CREATE TABLE u LIKE t; ALTER TABLE u REMOVE PARTITIONING; INSERT INTO t VALUES (1, '', 'secret', '')";
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=FULL"]) else { return };
        let moves = [
            "ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u",
            "DROP TABLE u; ALTER TABLE t CONVERT PARTITION p TO TABLE u",
        ];
        let count = if flavor == Flavor::Mariadb { 2 } else { 1 };
        for change in &moves[..count] {
            let hidden = settings(NAMES[0], HIDDEN);
            let (setup, write) = seen_another(&server, &format!("{TABLE} {PARTITIONED}"), &hidden);
            server.sql(&format!("USE shop; {change}; UPDATE u SET a = 'changed'"));
            is_refused(&setup, change, "shop.u");
            write(&format!("{hidden}\n      {}", settings("shop.u", "mask: { s: redact }")));
            let mut host = setup.start();
            host.until("settings for the name are a choice", || setup.count() == 2);
            assert_eq!(host.stop(), Some(0), "{}", host.log());
            assert!(!format!("{:?}", setup.events()).contains("secret"), "{change}");
        }
    }
}

/// Settings for the table as it is now, under a pattern, do not show what they hid in rows of before, whether the
/// table had events or not.
#[test]
fn m43_settings_for_a_new_name_do_not_show_the_column_in_older_rows() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=FULL"]) else { return };
        for (is_masked, had_events) in [(false, true), (true, true), (true, false), (false, false)]
        {
            let columns = |names: &[&str]| {
                let hides = match is_masked {
                    true => format!("mask: {{ {}: redact }}", names.join(": redact, ")),
                    false => format!("exclude: [{}]", names.join(", ")),
                };
                settings("'shop.t*'", &hides)
            };
            let (setup, write) = seen_another(&server, TABLE, &columns(&["s"]));
            let before = 1 + usize::from(had_events);
            if had_events {
                server.sql("INSERT INTO shop.t (id, s) VALUES (1, 'secret')");
                let mut host = setup.start();
                host.until("a row is there", || setup.count() == before);
                assert_eq!(host.stop(), Some(0), "{}", host.log());
            }
            server.sql(
                "USE shop; INSERT INTO t (id, s) VALUES (2, 'secret');
                 ALTER TABLE t CHANGE s s2 varchar(40); INSERT INTO t (id, s2) VALUES (3, 'secret')",
            );
            write(&columns(&["s2"]));
            let (status, log) = setup.run_to_end();
            assert_eq!(status, Some(2), "{log}");
            assert!(log.contains("RT5015") && log.contains("hid s"), "{log}");
            assert_eq!(setup.count(), before);
            write(&columns(&["s", "s2"]));
            let mut host = setup.start();
            host.until("the others are there", || setup.count() == before + 2);
            assert_eq!(host.stop(), Some(0), "{}", host.log());
            assert!(!format!("{:?}", setup.events()).contains("secret"));
        }
    }
}

/// The servers take names of columns for the same in any case; settings do not, and say so.
#[test]
fn m43_settings_in_another_case_than_the_column_are_refused() {
    for flavor in Flavor::ALL {
        let Some((server, setup)) = started(flavor) else { return };
        let config = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
        let write = |tables: &str| {
            let text =
                config.replace("    snapshot", &format!("    tables: {tables}\n    snapshot"));
            std::fs::write(setup.path("rowtide.yaml"), text).unwrap();
        };
        write("{ 'shop.*': { columns: { exclude: [NOTE] } } }");
        let checked = setup.output(&["check"]);
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(text.contains("RT5007") && text.contains("it has note"), "{text}");
        let (status, log) = setup.run_to_end();
        assert_eq!(status, Some(2), "{log}");
        assert!(log.contains("RT5007"), "{log}");
        write("{ 'shop.*': { columns: { exclude: [note] } } }");
        let mut host = setup.first_start();
        server.sql("INSERT INTO shop.t VALUES (1, 1, 'secret')");
        host.until("the row is there", || setup.count() == 1);
        server.sql("ALTER TABLE shop.t CHANGE note Note varchar(40)");
        server.sql("INSERT INTO shop.t VALUES (2, 1, 'secret')");
        assert_eq!(host.wait(), Some(2), "{}", host.log());
        assert!(host.log().contains("name Note in the place of note"), "{}", host.log());
        write("{ 'shop.*': { columns: { exclude: [Note] } } }");
        let mut host = setup.start();
        host.until("the other row is there", || setup.count() == 2);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert!(!format!("{:?}", setup.events()).contains("secret"));
    }
}
