//! What of a table comes at all, and as what: partitions, generated columns, filters, new tables.

use rowtide_testkit::not_applicable;
use serde_json::{Value, json};

use crate::host::sql_each;
use crate::story::{DONE, Stream, on_each_version};

const EXTERNAL: &str = "      publication_management: external\n";

const PARTITIONED: &str = "
    CREATE TABLE p (id int, r int, v text, PRIMARY KEY (id, r)) PARTITION BY RANGE (r);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
    CREATE TABLE p2 (v text, gone int, r int NOT NULL, id int NOT NULL, PRIMARY KEY (id, r));
    ALTER TABLE p2 DROP gone; ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);";

/// Hazard 33: as changes of the partitioned table, whatever the order of a partition's own columns.
#[test]
fn h33_partitions_as_the_table_above_them() {
    on_each_version(|server, version| {
        let prepare = format!(
            "{DONE} {PARTITIONED}
             CREATE PUBLICATION e2e FOR ALL TABLES WITH (publish_via_partition_root = true)"
        );
        let mut stream = Stream::start(server, &prepare, EXTERNAL, "");
        let told = stream.tell(
            "INSERT INTO p VALUES (1, 1, 'a'); INSERT INTO p VALUES (2, 12, 'b');
             UPDATE p SET r = 15 WHERE id = 1; TRUNCATE p1; TRUNCATE p",
        );
        assert_eq!(
            told,
            [
                "schema p 1.0 initial: ",
                r#"c p 1.0 {"id":1,"r":1,"v":"a"}"#,
                r#"c p 1.0 {"id":2,"r":12,"v":"b"}"#,
                r#"d p 1.0 {"id":1,"r":1}"#,
                r#"c p 1.0 {"id":1,"r":15,"v":"a"}"#,
                "t p 1.0 null",
            ]
        );
        // One more column is one version, whichever partition a row is in; another partition none.
        let told = stream.tell(
            "ALTER TABLE p ADD n int; INSERT INTO p VALUES (3, 3, 'c', 3);
             INSERT INTO p VALUES (4, 14, 'd', 4);
             CREATE TABLE p3 (n int, r int NOT NULL, v text, id int NOT NULL, PRIMARY KEY (id, r));
             ALTER TABLE p ATTACH PARTITION p3 FOR VALUES FROM (20) TO (30);
             INSERT INTO p VALUES (5, 25, 'e', 5)",
        );
        assert_eq!(
            told,
            [
                "schema p 1.1 compatible: column_added n",
                r#"c p 1.1 {"id":3,"r":3,"v":"c","n":3}"#,
                r#"c p 1.1 {"id":4,"r":14,"v":"d","n":4}"#,
                r#"c p 1.1 {"id":5,"r":25,"v":"e","n":5}"#,
            ]
        );
        // On its own it is a table of its own, and back again the other's.
        let told = stream.tell(
            "ALTER TABLE p DETACH PARTITION p3; INSERT INTO p3 VALUES (6, 26, 'f', 6);
             DELETE FROM p3; ALTER TABLE p ATTACH PARTITION p3 FOR VALUES FROM (20) TO (40);
             INSERT INTO p VALUES (7, 37, 'g', 7)",
        );
        // A server before 15 looks at what a partition is of once in a stream.
        let own: &[&str] = if version < 15 {
            &[
                r#"c p 1.1 {"id":6,"r":26,"v":"f","n":6}"#,
                r#"d p 1.1 {"id":5,"r":25}"#,
                r#"d p 1.1 {"id":6,"r":26}"#,
            ]
        } else {
            &[
                "schema p3 1.0 initial: ",
                r#"c p3 1.0 {"n":6,"r":26,"v":"f","id":6}"#,
                r#"d p3 1.0 {"r":25,"id":5}"#,
                r#"d p3 1.0 {"r":26,"id":6}"#,
            ]
        };
        assert_eq!(told[..own.len()], *own);
        assert_eq!(told[own.len()..], [r#"c p 1.1 {"id":7,"r":37,"v":"g","n":7}"#]);
        stream.stop();
    });
}

/// Hazard 33: as changes of each partition; a row that moves is deleted from one, created in another.
#[test]
fn h33_partitions_as_tables_of_their_own() {
    on_each_version(|server, _| {
        let prepare = format!("{DONE} {PARTITIONED} CREATE PUBLICATION e2e FOR ALL TABLES");
        let mut stream = Stream::start(server, &prepare, EXTERNAL, "");
        let told = stream.tell(
            "INSERT INTO p VALUES (1, 1, 'a'); UPDATE p SET r = 15 WHERE id = 1;
             ALTER TABLE p ADD n int; UPDATE p SET n = 1; INSERT INTO p VALUES (2, 2, 'b', 2);
             ALTER TABLE p DETACH PARTITION p1; ALTER TABLE p1 DROP v;
             INSERT INTO p1 VALUES (3, 3, 3); TRUNCATE p",
        );
        assert_eq!(
            told,
            [
                "schema p1 1.0 initial: ",
                r#"c p1 1.0 {"id":1,"r":1,"v":"a"}"#,
                r#"d p1 1.0 {"id":1,"r":1}"#,
                "schema p2 1.0 initial: ",
                r#"c p2 1.0 {"v":"a","r":15,"id":1}"#,
                "schema p2 1.1 compatible: column_added n",
                r#"u p2 1.1 {"v":"a","r":15,"id":1,"n":1}"#,
                "schema p1 1.1 compatible: column_added n",
                r#"c p1 1.1 {"id":2,"r":2,"v":"b","n":2}"#,
                "schema p1 2.0 breaking: column_dropped v!",
                r#"c p1 2.0 {"id":3,"r":3,"n":3}"#,
                "t p2 1.1 null",
            ]
        );
        stream.stop();
    });
}

/// Hazard 34: generated columns are in no event, unless the publication (since 18) sends them, or
/// they are generated no more.
#[test]
fn h34_generated_columns_come_when_they_are_published() {
    on_each_version(|server, version| {
        // What is computed when it is read is in no log.
        let read = if version >= 18 { ", r int GENERATED ALWAYS AS (a + 1) VIRTUAL" } else { "" };
        let mut stream = Stream::plain(
            server,
            &format!(
                "{DONE} CREATE TABLE g (id int PRIMARY KEY, a int,
                 twice int GENERATED ALWAYS AS (a * 2) STORED, z int{read})"
            ),
        );
        let told = stream.tell("INSERT INTO g (id, a) VALUES (1, 1)");
        let initial = ["schema g 1.0 initial: ", r#"c g 1.0 {"id":1,"a":1,"z":null}"#];
        assert_eq!(told, initial);
        if version >= 18 {
            let told = stream.tell(
                "ALTER PUBLICATION e2e SET (publish_generated_columns = stored);
                 INSERT INTO g (id, a) VALUES (2, 2);
                 ALTER PUBLICATION e2e SET (publish_generated_columns = none);
                 INSERT INTO g (id, a) VALUES (3, 3)",
            );
            assert_eq!(
                told,
                [
                    "schema g 1.1 compatible: column_added twice",
                    r#"c g 1.1 {"id":2,"a":2,"twice":4,"z":null}"#,
                    "schema g 2.0 breaking: column_dropped twice!",
                    r#"c g 2.0 {"id":3,"a":3,"z":null}"#,
                ]
            );
        }
        let told = stream
            .tell("ALTER TABLE g ALTER twice DROP EXPRESSION; INSERT INTO g VALUES (4, 4, 5, 6)");
        let version = if version >= 18 { "2.1" } else { "1.1" };
        assert_eq!(
            told,
            [
                format!("schema g {version} compatible: column_added twice"),
                format!(r#"c g {version} {{"id":4,"a":4,"twice":5,"z":6}}"#),
            ]
        );
        stream.stop();
    });
}

/// Hazard 34: where a replica identity has a stored generated column, which must then be published, it is
/// in events and in the schema; before version 18 it need not be, and is not.
#[test]
fn h34_generated_columns_of_an_identity_come() {
    on_each_version(|server, version| {
        let mut stream = Stream::plain(
            server,
            &format!(
                "{DONE} CREATE TABLE s (id int PRIMARY KEY, a int,
                 g int GENERATED ALWAYS AS (a * 2) STORED);
                 ALTER TABLE s REPLICA IDENTITY FULL;
                 CREATE TABLE t (id int PRIMARY KEY, a int,
                 g int GENERATED ALWAYS AS (a * 2) STORED)"
            ),
        );
        let told = stream.tell("INSERT INTO s (id, a) VALUES (1, 1); UPDATE s SET a = 2");
        if version < 18 {
            assert_eq!(
                told,
                [
                    "schema s 1.0 initial: ",
                    r#"c s 1.0 {"id":1,"a":1}"#,
                    r#"u s 1.0 {"id":1,"a":2}"#
                ]
            );
            stream.stop();
            return;
        }
        assert_eq!(
            told,
            [
                "schema s 1.0 initial: ",
                r#"c s 1.0 {"id":1,"a":1,"g":2}"#,
                r#"u s 1.0 {"id":1,"a":2,"g":4}"#,
            ]
        );
        let lines = stream.setup.lines();
        let told_schema = &lines.iter().find(|line| line["source"]["table"] == "s").unwrap()["row"];
        assert_eq!(told_schema["properties"]["g"]["type"][0], "integer", "{told_schema:#}");
        // The option is the publication's, so that other tables' come too.
        let told = stream.tell("INSERT INTO t (id, a) VALUES (1, 1)");
        assert_eq!(told, ["schema t 1.0 initial: ", r#"c t 1.0 {"id":1,"a":1,"g":2}"#]);
        stream.stop();
    });
}

/// Hazard 35: a column list makes the schema; a row that crosses a filter comes and goes.
#[test]
fn h35_column_lists_and_row_filters() {
    on_each_version(|server, version| {
        if version < 15 {
            not_applicable("publications have filters and column lists from PostgreSQL 15 on");
            return;
        }
        let prepare = format!(
            "{DONE} CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int);
             CREATE PUBLICATION e2e FOR TABLE t (id, a) WHERE (id < 100), done"
        );
        let mut stream = Stream::start(server, &prepare, EXTERNAL, "");
        let told = stream.tell(
            "INSERT INTO t VALUES (1, 1, 1, 1), (101, 1, 1, 1); UPDATE t SET a = 2;
             UPDATE t SET id = 102 WHERE id = 1; UPDATE t SET id = 3 WHERE id = 101;
             DELETE FROM t WHERE id = 102; ALTER TABLE t ADD d int; UPDATE t SET d = 1 WHERE id = 3",
        );
        assert_eq!(
            told,
            [
                "schema t 1.0 initial: ",
                r#"c t 1.0 {"id":1,"a":1}"#,
                r#"u t 1.0 {"id":1,"a":2}"#,
                r#"d t 1.0 {"id":1}"#,
                r#"c t 1.0 {"id":3,"a":2}"#,
                // A column that is not in the list changes nothing.
                r#"u t 1.0 {"id":3,"a":2}"#,
            ]
        );
        let told = stream.tell(
            "ALTER PUBLICATION e2e SET TABLE t (id, b, a), done; UPDATE t SET b = 5 WHERE id = 3;
             ALTER PUBLICATION e2e SET TABLE t (id, c), done; UPDATE t SET c = 6 WHERE id = 3;
             ALTER PUBLICATION e2e SET TABLE t, done; DELETE FROM t WHERE id = 3",
        );
        assert_eq!(
            told,
            [
                "schema t 1.1 compatible: column_added b",
                r#"u t 1.1 {"id":3,"a":2,"b":5}"#,
                "schema t 2.0 breaking: column_dropped a!, column_dropped b!, column_added c",
                r#"u t 2.0 {"id":3,"c":6}"#,
                "schema t 2.1 compatible: column_added a, column_added b, column_added d",
                r#"d t 2.1 {"id":3}"#,
            ]
        );
        stream.stop();
    });
}

/// Hazard 36: tables that come, move and go under a publication of all tables.
#[test]
fn h36_tables_that_come_while_running() {
    on_each_version(|server, version| {
        let prepare = format!(
            "{DONE} CREATE SCHEMA other; CREATE TABLE other.x (id int PRIMARY KEY);
             CREATE PUBLICATION e2e FOR ALL TABLES"
        );
        let source = format!("{EXTERNAL}      # public alone\n");
        let mut stream = Stream::start(server, &prepare, &source, "");
        let told = stream.tell(
            "INSERT INTO other.x VALUES (1);
             CREATE TABLE n (id int PRIMARY KEY, a text); INSERT INTO n VALUES (1, 'a');
             ALTER TABLE other.x SET SCHEMA public; INSERT INTO x VALUES (2);
             ALTER TABLE n SET SCHEMA other; INSERT INTO other.n VALUES (2, 'b');
             ALTER TABLE other.n ADD b int; ALTER TABLE other.n SET SCHEMA public;
             INSERT INTO n VALUES (3, 'c', 3)",
        );
        assert_eq!(
            told,
            [
                "schema n 1.0 initial: ",
                r#"c n 1.0 {"id":1,"a":"a"}"#,
                "schema x 1.0 initial: ",
                r#"c x 1.0 {"id":2}"#,
                "schema n 1.1 compatible: column_added b",
                r#"c n 1.1 {"id":3,"a":"c","b":3}"#,
            ]
        );
        let setup = stream.stop();
        if version < 15 {
            return;
        }
        // The same by schema; the connector goes on from where it stood.
        sql_each(
            server,
            "DROP PUBLICATION e2e; CREATE PUBLICATION e2e FOR TABLES IN SCHEMA public;
             CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)",
        );
        let mut host = setup.start();
        let is_late = |line: &Value| line["source"]["table"] == "late";
        host.until("both records are there", || {
            setup.lines().iter().filter(|line| is_late(line)).count() == 2
        });
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let lines = setup.lines();
        assert_eq!(lines.last().unwrap()["after"], json!({"id": 1}));
    });
}

/// Hazard 31: a table without a key under FULL: its events have none, each row has one of its own, and
/// rows that are the same are not told apart.
#[test]
fn h31_events_of_a_table_without_a_key_have_none() {
    on_each_version(|server, _| {
        let mut stream = Stream::plain(
            server,
            &format!(
                "{DONE} CREATE TABLE k (a int, b text); ALTER TABLE k REPLICA IDENTITY FULL;
                 CREATE TABLE n (a int, b text)"
            ),
        );
        let told = stream.tell(
            "INSERT INTO k VALUES (1, 'x'), (1, 'x'), (NULL, NULL); UPDATE k SET b = 'y' WHERE a = 1;
             DELETE FROM k",
        );
        assert_eq!(
            told,
            [
                "schema k 1.0 initial: ",
                r#"c k 1.0 {"a":1,"b":"x"}"#,
                r#"c k 1.0 {"a":1,"b":"x"}"#,
                r#"c k 1.0 {"a":null,"b":null}"#,
                r#"u k 1.0 {"a":1,"b":"y"}"#,
                r#"u k 1.0 {"a":1,"b":"y"}"#,
                r#"d k 1.0 {"a":null,"b":null}"#,
                r#"d k 1.0 {"a":1,"b":"y"}"#,
                r#"d k 1.0 {"a":1,"b":"y"}"#,
            ]
        );
        let lines = stream.setup.lines();
        let of_k = |line: &&Value| line["source"]["table"] == "k" && line.get("op").is_some();
        let events: Vec<&Value> = lines.iter().filter(of_k).collect();
        assert!(events.iter().all(|event| event["key"].is_null()), "{events:#?}");
        assert_eq!(events[3]["before"], json!({"a": 1, "b": "x"}));
        let record =
            lines.iter().find(|line| line["schema"]["subject"] == "shop.public.k").unwrap();
        assert_eq!((&record["identity"], &record["key"]), (&json!("full"), &json!([])));
        stream.stop();
    });
}
