//! Names and shapes that are legal and seldom.

use std::fmt::Write as _;

use rowtide_testkit::Postgres;
use serde_json::{Value, json};

use crate::host::{Options, Setup, sql};
use crate::story::{DONE, Stream, on_each_version};

/// Hazard 47: no columns, as many as there can be, and most of them dropped.
#[test]
fn h47_tables_without_columns_and_with_the_most() {
    on_each_version(|server, _| {
        let mut wide = String::from("CREATE TABLE wide (id int PRIMARY KEY");
        for column in 1..1600 {
            write!(wide, ", c{column} smallint").unwrap();
        }
        let mut stream = Stream::plain(
            server,
            &format!(
                "{DONE} {wide}); CREATE TABLE none (); ALTER TABLE none REPLICA IDENTITY FULL;
                 CREATE TABLE shrunk (a int, b int, id int PRIMARY KEY, c int);
                 ALTER TABLE shrunk DROP a; ALTER TABLE shrunk DROP b; ALTER TABLE shrunk DROP c"
            ),
        );
        let told = stream.tell(
            "INSERT INTO none DEFAULT VALUES; DELETE FROM none; INSERT INTO shrunk VALUES (1);
             ALTER TABLE none ADD a int; INSERT INTO none VALUES (1);
             INSERT INTO wide (id, c1, c1599) VALUES (1, 2, 3); DELETE FROM wide",
        );
        assert_eq!(
            told[..7],
            [
                "schema none 1.0 initial: ",
                "c none 1.0 {}",
                "d none 1.0 {}",
                "schema shrunk 1.0 initial: ",
                r#"c shrunk 1.0 {"id":1}"#,
                "schema none 1.1 compatible: column_added a",
                r#"c none 1.1 {"a":1}"#,
            ]
        );
        assert_eq!(told[7], "schema wide 1.0 initial: ");
        assert_eq!(told[9], r#"d wide 1.0 {"id":1}"#);
        let lines = stream.setup.lines();
        let row = lines.iter().find(|line| line["after"]["c1599"] == 3).unwrap();
        assert_eq!(row["after"].as_object().unwrap().len(), 1600);
        stream.stop();
    });
}

/// Hazard 47: every character that a name can hold, in schemas, tables and columns.
#[test]
fn h47_names_with_every_character() {
    on_each_version(|server, _| {
        let odd = r#"Odd."" \ / {name} % 'x' 😀"#;
        let mut stream = Stream::start(
            server,
            &format!(
                "{DONE} CREATE SCHEMA \"{odd}\"; CREATE SCHEMA \"public.\";
                 CREATE TABLE \"{odd}\".\"{odd}\" (\"{odd}\" int PRIMARY KEY, \"line\nfeed\" text);
                 CREATE TABLE \"public.\".\"select\" (\"Id\" int PRIMARY KEY, \"1st\" text)"
            ),
            "",
            "",
        );
        // Beside `public` the other schemas are wanted too.
        let path = stream.setup.path("rowtide.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(stream.host.stop(), Some(0), "{}", stream.host.log());
        std::fs::write(&path, text.replace("\"public.*\"", "\"*.*\"")).unwrap();
        stream.host = stream.setup.start();
        stream.host.until_logged("streaming");
        let told = stream.tell(&format!(
            "INSERT INTO \"{odd}\".\"{odd}\" VALUES (1, 'a'); INSERT INTO \"public.\".\"select\" VALUES (1);
             ALTER TABLE \"{odd}\".\"{odd}\" RENAME \"line\nfeed\" TO \"tab\t\";
             UPDATE \"{odd}\".\"{odd}\" SET \"tab\t\" = 'b'"
        ));
        assert_eq!(told.len(), 6, "{told:?}");
        let real = odd.replace("\"\"", "\"");
        let lines = stream.setup.lines();
        let updated = lines.iter().find(|line| line["op"] == "u").unwrap();
        assert_eq!(updated["source"]["schema"], *real);
        assert_eq!(updated["source"]["table"], *real);
        assert_eq!(updated["schema"]["subject"], format!("shop.{real}.{real}"));
        assert_eq!(updated["after"], json!({ real.as_str(): 1, "tab\t": "b" }));
        let changes = |line: &&Value| line["reasons"][0]["kind"] == "column_renamed";
        let change = lines.iter().find(changes).unwrap();
        assert_eq!(change["reasons"][0]["from"], "line\nfeed");
        assert_eq!(change["reasons"][0]["to"], "tab\t");
        assert_eq!(change["columns"][0]["name"], *real);
        stream.stop();
    });
}

/// Hazard 47: names that meet in one topic, or in one schema subject, are refused.
#[test]
fn h47_names_that_meet_are_refused() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(
        &server,
        "CREATE SCHEMA \"public.b\"; CREATE TABLE \"b.c\" (id int PRIMARY KEY);
         CREATE TABLE \"public.b\".c (id int PRIMARY KEY); CREATE TABLE \"b c\" (id int PRIMARY KEY);
         CREATE TABLE \"b$c\" (id int PRIMARY KEY)",
    );
    let setup = Setup::new();
    let write = |topic: &str, include: &str| {
        let sink = format!("{{ type: stdout, topic: \"{topic}\" }}");
        setup.write(&Options { url: server.url(), source: "", sink, connector: "" });
        let path = setup.path("rowtide.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("\"public.*\"", include)).unwrap();
    };
    let refused = |code: &str, inserts: &str| {
        let checked = setup.output(&["check"]);
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(checked.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("error {code}")), "{text}");
        let mut host = setup.start();
        host.until_logged("streaming");
        sql(&server, inserts);
        assert_eq!(host.wait(), Some(2), "{}", host.log());
        assert!(host.log().contains(code), "{}", host.log());
        sql(&server, "SELECT pg_drop_replication_slot('e2e'); DROP PUBLICATION e2e");
        std::fs::remove_dir_all(setup.path("state")).unwrap();
    };
    write("{name}.{schema}.{table}", "\"public.b?c\"");
    refused("RT5008", "INSERT INTO \"b c\" VALUES (1); INSERT INTO \"b$c\" VALUES (1)");
    write("{name}.{table}", "\"public.b.c\", \"public[.]b.c\"");
    refused("RT5030", "INSERT INTO \"b.c\" VALUES (1); INSERT INTO \"public.b\".c VALUES (1)");
}

/// Hazard 48: columns that differ by case alone.
#[test]
fn h48_columns_that_differ_by_case_alone() {
    on_each_version(|server, _| {
        let mut stream = Stream::plain(
            server,
            &format!(
                "{DONE} CREATE TABLE t (id int, \"ID\" int, \"A\" int, a int, PRIMARY KEY (id, \"ID\"))"
            ),
        );
        let told = stream.tell(
            "INSERT INTO t VALUES (1, 2, 3, 4); ALTER TABLE t RENAME a TO \"Á\";
             ALTER TABLE t RENAME \"A\" TO a; UPDATE t SET a = 5;
             DELETE FROM t",
        );
        assert_eq!(
            told,
            [
                "schema t 1.0 initial: ",
                r#"c t 1.0 {"id":1,"ID":2,"A":3,"a":4}"#,
                // Names that move on are not seen to: the old `a` is `Á`, the old `A` is `a`.
                "schema t 2.0 breaking: column_dropped A!, column_added Á",
                r#"u t 2.0 {"id":1,"ID":2,"a":5,"Á":4}"#,
                r#"d t 2.0 {"id":1,"ID":2}"#,
            ]
        );
        let lines = stream.setup.lines();
        assert_eq!(lines.last().unwrap()["source"]["table"], "done");
        let deleted = lines.iter().find(|line| line["op"] == "d").unwrap();
        assert_eq!(deleted["key"], json!({"id": 1, "ID": 2}));
        stream.stop();
    });
}
