//! What statements that change a table do to its events: a version at exactly that point, told
//! before, and described truly.

use serde_json::{Value, json};

use crate::host::{Options, Setup, sql, sql_each};
use crate::story::{DONE, Stream, on_each_version, prove, short};

fn table(statement: &str) -> String {
    format!("{DONE} {statement}")
}

/// Hazard 21: a description is sent again after any change, and replaces the one before.
#[test]
fn h21_every_alter_makes_a_version_at_its_place() {
    on_each_version(|server, _| {
        let mut stream = Stream::plain(
            server,
            &table(
                "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(5)); CREATE TYPE m AS ENUM ('x')",
            ),
        );
        let told = stream.tell(
            "INSERT INTO t VALUES (1, 1, 'b');
             ALTER TABLE t ADD c m; INSERT INTO t VALUES (2, 2, 'b', 'x');
             ALTER TABLE t ALTER a TYPE bigint; INSERT INTO t VALUES (3, 3, 'b', 'x');
             ALTER TABLE t ALTER b TYPE varchar(9); INSERT INTO t VALUES (4, 4, 'b', 'x');
             ALTER TABLE t RENAME a TO z; INSERT INTO t VALUES (5, 5, 'b', 'x');
             ALTER TABLE t DROP b; INSERT INTO t VALUES (6, 6, 'x');
             ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET z = 7 WHERE id = 6;
             ALTER TABLE t RENAME TO u; DELETE FROM u WHERE id = 6",
        );
        assert_eq!(
            told,
            [
                "schema t 1.0 initial: ",
                r#"c t 1.0 {"id":1,"a":1,"b":"b"}"#,
                "schema t 1.1 compatible: column_added c",
                r#"c t 1.1 {"id":2,"a":2,"b":"b","c":"x"}"#,
                "schema t 2.0 breaking: column_type_changed a!",
                r#"c t 2.0 {"id":3,"a":3,"b":"b","c":"x"}"#,
                "schema t 2.1 compatible: column_modifier_changed b",
                r#"c t 2.1 {"id":4,"a":4,"b":"b","c":"x"}"#,
                "schema t 3.0 breaking: column_renamed a>z!",
                r#"c t 3.0 {"id":5,"z":5,"b":"b","c":"x"}"#,
                "schema t 4.0 breaking: column_dropped b!",
                r#"c t 4.0 {"id":6,"z":6,"c":"x"}"#,
                "schema t 4.1 compatible: identity_changed default>full, column_nullability_changed id",
                r#"u t 4.1 {"id":6,"z":7,"c":"x"}"#,
                "schema u 1.0 initial: table_renamed",
                r#"d u 1.0 {"id":6,"z":7,"c":"x"}"#,
            ]
        );
        // What leaves events as they are makes no version.
        let told = stream.tell(
            "ALTER TABLE u ALTER z SET DEFAULT 4; ALTER TABLE u ALTER z SET NOT NULL;
             ALTER TABLE u ADD CHECK (z > 0); CREATE INDEX ON u (z); COMMENT ON TABLE u IS 'x';
             ALTER TABLE u ALTER z DROP NOT NULL; ALTER TABLE u ALTER z SET STATISTICS 10;
             INSERT INTO u VALUES (8, 8, 'x')",
        );
        assert_eq!(told, [r#"c u 1.0 {"id":8,"z":8,"c":"x"}"#]);
        stream.stop();
    });
}

/// Inside transactions: between two changes, several at once, rolled back in whole and in part.
#[test]
fn h21_changes_of_a_table_inside_transactions() {
    on_each_version(|server, _| {
        let mut stream =
            Stream::plain(server, &table("CREATE TABLE t (id int PRIMARY KEY, a int)"));
        let told = stream.tell(
            "BEGIN; INSERT INTO t VALUES (1, 1); ALTER TABLE t ADD b int;
             INSERT INTO t VALUES (2, 2, 2); INSERT INTO t VALUES (3, 3, 3); COMMIT",
        );
        assert_eq!(
            told,
            [
                "schema t 1.0 initial: ",
                r#"c t 1.0 {"id":1,"a":1}"#,
                "schema t 1.1 compatible: column_added b",
                r#"c t 1.1 {"id":2,"a":2,"b":2}"#,
                r#"c t 1.1 {"id":3,"a":3,"b":3}"#,
            ]
        );
        let told = stream.tell(
            "BEGIN; ALTER TABLE t ADD c int; ALTER TABLE t DROP b; ALTER TABLE t RENAME a TO x;
             ALTER TABLE t ALTER x TYPE text; INSERT INTO t VALUES (4, 'x', 4); COMMIT",
        );
        let several = "schema t 2.0 breaking: column_dropped a!, column_dropped b!, \
                       column_added x, column_added c";
        assert_eq!(told, [several, r#"c t 2.0 {"id":4,"x":"x","c":4}"#]);
        let told = stream.tell(
            "BEGIN; ALTER TABLE t ADD d int; INSERT INTO t VALUES (5, '', 5, 5); ROLLBACK;
             INSERT INTO t VALUES (6, 'x', 6);
             BEGIN; INSERT INTO t VALUES (7, 'x', 7); SAVEPOINT s; ALTER TABLE t DROP c;
             INSERT INTO t VALUES (8, 'x'); ROLLBACK TO s; INSERT INTO t VALUES (9, 'x', 9); COMMIT;
             BEGIN; SAVEPOINT s; ALTER TABLE t ADD e int; RELEASE s;
             INSERT INTO t VALUES (10, 'x', 1, 1); COMMIT",
        );
        assert_eq!(
            told,
            [
                r#"c t 2.0 {"id":6,"x":"x","c":6}"#,
                r#"c t 2.0 {"id":7,"x":"x","c":7}"#,
                r#"c t 2.0 {"id":9,"x":"x","c":9}"#,
                "schema t 2.1 compatible: column_added e",
                r#"c t 2.1 {"id":10,"x":"x","c":1,"e":1}"#,
            ]
        );
        // There and back before any row changes: as it was.
        let told = stream.tell(
            "ALTER TABLE t ADD f int; ALTER TABLE t DROP f; INSERT INTO t VALUES (11, '', 1, 1)",
        );
        assert_eq!(told, [r#"c t 2.1 {"id":11,"x":"","c":1,"e":1}"#]);
        stream.stop();
    });
}

/// Hazard 22: values belong to the columns of the description in force, not to their places.
#[test]
fn h22_columns_are_matched_by_the_description_in_force() {
    on_each_version(|server, _| {
        let mut stream =
            Stream::plain(server, &table("CREATE TABLE t (id int PRIMARY KEY, a text, b text)"));
        let told = stream.tell(
            "INSERT INTO t VALUES (1, 'a', 'b');
             ALTER TABLE t DROP a; ALTER TABLE t ADD a text; INSERT INTO t VALUES (2, 'b', 'a');
             BEGIN; ALTER TABLE t RENAME a TO s; ALTER TABLE t RENAME b TO a;
             ALTER TABLE t RENAME s TO b; COMMIT; UPDATE t SET a = 'A', b = 'B' WHERE id = 2;
             BEGIN; ALTER TABLE t DROP b; ALTER TABLE t ADD c text; COMMIT;
             INSERT INTO t VALUES (3, 'a', 'c')",
        );
        assert_eq!(
            told,
            [
                "schema t 1.0 initial: ",
                r#"c t 1.0 {"id":1,"a":"a","b":"b"}"#,
                "schema t 1.1 compatible: columns_reordered",
                r#"c t 1.1 {"id":2,"b":"b","a":"a"}"#,
                "schema t 1.2 compatible: columns_reordered",
                r#"u t 1.2 {"id":2,"a":"A","b":"B"}"#,
                // A dropped last column and an added one look like a rename, and that is said.
                "schema t 2.0 breaking: column_renamed b>c?!",
                r#"c t 2.0 {"id":3,"a":"a","c":"c"}"#,
            ]
        );
        stream.stop();
    });
}

/// Hazard 23: rows from before a column with a default was added show the default, old images too.
#[test]
fn h23_an_added_default_shows_in_rows_that_were_there() {
    on_each_version(|server, _| {
        let mut stream = Stream::plain(
            server,
            &table("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY FULL"),
        );
        stream.tell("INSERT INTO t VALUES (1), (2)");
        let told = stream.tell(
            "ALTER TABLE t ADD d int NOT NULL DEFAULT 7; DELETE FROM t WHERE id = 1;
             UPDATE t SET d = 8 WHERE id = 2",
        );
        assert_eq!(
            told,
            [
                "schema t 1.1 compatible: column_added d",
                r#"d t 1.1 {"id":1,"d":7}"#,
                r#"u t 1.1 {"id":2,"d":8}"#,
            ]
        );
        let lines = stream.setup.lines();
        let update = lines.iter().find(|line| line["op"] == "u").unwrap();
        assert_eq!(update["before"], json!({"id": 2, "d": 7}));
        stream.stop();
    });
}

/// Hazard 24: a precision shows in nothing but the type's modifier.
#[test]
fn h24_a_numeric_precision_makes_a_version() {
    on_each_version(|server, _| {
        let mut stream = Stream::plain(
            server,
            &table("CREATE TABLE t (id int PRIMARY KEY, n numeric(6,2), d timestamp(0)[])"),
        );
        let told = stream.tell(
            "INSERT INTO t VALUES (1, 1.5);
             ALTER TABLE t ALTER n TYPE numeric(12,4); INSERT INTO t VALUES (2, 1.5);
             ALTER TABLE t ALTER n TYPE numeric; INSERT INTO t VALUES (3, 1.5);
             ALTER TABLE t ALTER d TYPE timestamp(3)[]; INSERT INTO t VALUES (4)",
        );
        assert_eq!(
            told,
            [
                "schema t 1.0 initial: ",
                r#"c t 1.0 {"id":1,"n":"1.50","d":null}"#,
                "schema t 1.1 compatible: column_modifier_changed n",
                r#"c t 1.1 {"id":2,"n":"1.5000","d":null}"#,
                "schema t 1.2 compatible: column_modifier_changed n",
                r#"c t 1.2 {"id":3,"n":"1.5","d":null}"#,
                "schema t 1.3 compatible: column_modifier_changed d",
                r#"c t 1.3 {"id":4,"n":null,"d":null}"#,
            ]
        );
        let lines = stream.setup.lines();
        let change = lines.iter().find(|line| line["schema"]["version"] == "1.1").unwrap();
        let reason = &change["reasons"][0];
        assert_eq!(
            (&reason["from"], &reason["to"]),
            (&json!("numeric(6,2)"), &json!("numeric(12,4)"))
        );
        stream.stop();
    });
}

/// Hazard 25: the same name, another table: another version in the same topic.
#[test]
fn h25_a_table_dropped_and_created_again() {
    on_each_version(|server, _| {
        let mut stream =
            Stream::plain(server, &table("CREATE TABLE t (id int PRIMARY KEY, a int)"));
        stream.tell("INSERT INTO t VALUES (1, 1)");
        // The publication takes the new table in when it is next looked at, or at a start.
        sql(
            server,
            "BEGIN; DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, a int);
             ALTER PUBLICATION e2e ADD TABLE t; COMMIT",
        );
        let told = stream.tell(
            "INSERT INTO t VALUES (1, 1);
             CREATE TABLE n (id bigint PRIMARY KEY, b int); ALTER PUBLICATION e2e ADD TABLE n;
             BEGIN; ALTER TABLE t RENAME TO old; ALTER TABLE n RENAME TO t; COMMIT;
             INSERT INTO t VALUES (2, 2); INSERT INTO old VALUES (3, 3)",
        );
        assert_eq!(
            told,
            [
                "schema t 1.1 compatible: table_recreated",
                r#"c t 1.1 {"id":1,"a":1}"#,
                "schema t 2.0 breaking: table_recreated, column_dropped a!, column_added b, \
                 column_type_changed id!",
                r#"c t 2.0 {"id":2,"b":2}"#,
                "schema old 1.0 initial: table_renamed",
                r#"c old 1.0 {"id":3,"a":3}"#,
            ]
        );
        let lines = stream.setup.lines();
        let renamed =
            lines.iter().find(|line| line["schema"]["subject"] == "shop.public.old").unwrap();
        assert_eq!(renamed["reasons"][0]["from"], json!(["shop.public.t"]));
        stream.stop();
    });
}

/// The four identities, and what each change of them means for keys and old images.
#[test]
fn h21_h30_changes_of_the_replica_identity() {
    on_each_version(|server, _| {
        let mut stream = Stream::plain(
            server,
            &table("CREATE TABLE t (id int PRIMARY KEY, c int NOT NULL UNIQUE, v text)"),
        );
        let told = stream.tell(
            "INSERT INTO t VALUES (1, 10, 'v');
             ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET v = 'w';
             ALTER TABLE t REPLICA IDENTITY USING INDEX t_c_key; UPDATE t SET v = 'x';
             ALTER TABLE t REPLICA IDENTITY DEFAULT; UPDATE t SET v = 'y';
             ALTER TABLE t REPLICA IDENTITY NOTHING; INSERT INTO t VALUES (2, 20, 'v')",
        );
        assert_eq!(
            told,
            [
                "schema t 1.0 initial: ",
                r#"c t 1.0 {"id":1,"c":10,"v":"v"}"#,
                "schema t 1.1 compatible: identity_changed default>full, \
                 column_nullability_changed id, column_presence_changed v",
                r#"u t 1.1 {"id":1,"c":10,"v":"w"}"#,
                "schema t 2.0 breaking: identity_changed full>index!, key_changed!, \
                 column_nullability_changed c, column_presence_changed v!",
                r#"u t 2.0 {"id":1,"c":10,"v":"x"}"#,
                "schema t 3.0 breaking: identity_changed index>default!, key_changed!, \
                 column_nullability_changed id, column_nullability_changed c",
                r#"u t 3.0 {"id":1,"c":10,"v":"y"}"#,
                "schema t 4.0 breaking: identity_changed default>nothing!, key_changed!, \
                 column_nullability_changed id",
                r#"c t 4.0 {"id":2,"c":20,"v":"v"}"#,
            ]
        );
        let lines = stream.setup.lines();
        let keys: Vec<&Value> =
            lines.iter().filter(|line| line["op"] == "u").map(|line| &line["key"]).collect();
        assert_eq!(keys, [&json!({"id": 1}), &json!({"c": 10}), &json!({"id": 1})]);
        stream.stop();
    });
}

/// Hazard 53: rows that a statement rewrites make no events, and the version that comes of it is
/// told with the next change.
#[test]
fn h53_a_rewritten_table_makes_no_events_of_its_rows() {
    on_each_version(|server, _| {
        let mut stream =
            Stream::plain(server, &table("CREATE TABLE t (id int PRIMARY KEY, a int, b text)"));
        stream.tell("INSERT INTO t SELECT n, n, 'b' FROM generate_series(1, 100) n");
        let told = stream.tell(
            "ALTER TABLE t ALTER a TYPE text USING 'was ' || a;
             ALTER TABLE t ADD c float8 DEFAULT random()",
        );
        assert_eq!(told, [""; 0], "nothing to tell it with");
        let told = stream.tell("UPDATE t SET b = 'c', c = 1.5 WHERE id = 7");
        assert_eq!(
            told,
            [
                "schema t 2.0 breaking: column_added c, column_type_changed a!, \
                 column_presence_changed a!",
                r#"u t 2.0 {"id":7,"a":"was 7","b":"c","c":1.5}"#,
            ]
        );
        let told = stream.tell(
            "CLUSTER t USING t_pkey; INSERT INTO t VALUES (101, '', '', 0);
             ALTER TABLE t SET (fillfactor = 50); DELETE FROM t WHERE id = 101",
        );
        assert_eq!(told, [r#"c t 2.0 {"id":101,"a":"","b":"","c":0}"#, r#"d t 2.0 {"id":101}"#]);
        sql(server, "VACUUM FULL t");
        let told = stream.tell("DELETE FROM t WHERE id = 1");
        assert_eq!(told, [r#"d t 2.0 {"id":1}"#]);
        stream.stop();
    });
}

/// Hazard 54: labels come and change without a sign in the log, so schemas do not list them.
#[test]
fn h54_enum_labels_that_are_added_and_renamed() {
    on_each_version(|server, _| {
        let mut stream = Stream::plain(
            server,
            &table(
                "CREATE TYPE mood AS ENUM ('sad');
                 CREATE TABLE t (id int PRIMARY KEY, m mood, all_m mood[])",
            ),
        );
        let told = stream.tell("INSERT INTO t VALUES (1, 'sad', '{sad}')");
        assert_eq!(told.len(), 2);
        sql(server, "ALTER TYPE mood ADD VALUE 'happy'");
        sql(server, "ALTER TYPE mood RENAME VALUE 'sad' TO 'so so'");
        let told = stream.tell("INSERT INTO t VALUES (2, 'happy', '{happy,\"so so\"}')");
        assert_eq!(told, [r#"c t 1.0 {"id":2,"m":"happy","all_m":["happy","so so"]}"#]);
        // An added one is there at once for a session that was open.
        sql(server, "ALTER TYPE mood ADD VALUE 'glad' BEFORE 'happy'");
        let told = stream.tell("UPDATE t SET m = 'glad' WHERE id = 1");
        assert_eq!(told, [r#"u t 1.0 {"id":1,"m":"glad","all_m":["so so"]}"#]);
        stream.stop();
    });
}

/// Attributes of a composite type: the log is silent about the first, and sends the table's
/// description again after a change of the table.
#[test]
fn h21_attributes_of_a_composite_type() {
    on_each_version(|server, _| {
        let mut stream = Stream::plain(
            server,
            &table(
                "CREATE TYPE place AS (street text, zip int);
                 CREATE TABLE t (id int PRIMARY KEY, p place)",
            ),
        );
        // The catalog is asked when the description comes: one step at a time.
        let mut told = stream.tell("INSERT INTO t VALUES (1, ('a', 1))");
        for step in [
            "ALTER TYPE place ADD ATTRIBUTE town text; INSERT INTO t VALUES (2, ('b', 2, 'c'))",
            "ALTER TABLE t ADD v int; INSERT INTO t VALUES (3, ('d', 3, 'e'), 3);
             UPDATE t SET v = 4 WHERE id = 1",
            "ALTER TYPE place RENAME ATTRIBUTE zip TO code; ALTER TABLE t DROP v;
             INSERT INTO t VALUES (4, ('f', 4, 'g'))",
        ] {
            told.extend(stream.tell(step));
        }
        assert_eq!(
            told,
            [
                "schema t 1.0 initial: ",
                r#"c t 1.0 {"id":1,"p":{"street":"a","zip":1}}"#,
                r#"c t 1.0 {"id":2,"p":"(b,2,c)"}"#,
                "schema t 1.1 compatible: column_added v, column_type_changed p",
                r#"c t 1.1 {"id":3,"p":{"street":"d","zip":3,"town":"e"},"v":3}"#,
                r#"u t 1.1 {"id":1,"p":{"street":"a","zip":1,"town":null},"v":4}"#,
                "schema t 2.0 breaking: column_dropped v!, column_type_changed p!",
                r#"c t 2.0 {"id":4,"p":{"street":"f","code":4,"town":"g"}}"#,
            ]
        );
        stream.stop();
    });
}

/// A kill before anything was saved: the replay assigns the same versions, and tells them in the
/// same words at the same places.
#[test]
fn h21_a_replay_assigns_and_tells_the_same_versions() {
    on_each_version(|server, _| {
        sql(server, &table("CREATE TABLE t (id int PRIMARY KEY, a int)"));
        let setup = Setup::to_lines(server, "", "");
        let path = setup.path("rowtide.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}commit_interval: 60s\n")).unwrap();
        let mut host = setup.first_start();
        sql_each(
            server,
            "INSERT INTO t VALUES (1, 1); ALTER TABLE t ADD b text; INSERT INTO t VALUES (2, 2, 'b');
             BEGIN; INSERT INTO t VALUES (3, 3, 'b'); ALTER TABLE t DROP a;
             INSERT INTO t VALUES (4, 'b'); COMMIT; ALTER TABLE t RENAME TO u;
             INSERT INTO u VALUES (5, 'b'); ALTER TABLE u ADD c int; ALTER TABLE u RENAME TO t;
             INSERT INTO t VALUES (6, 'b', 6)",
        );
        let records = 6 + 5;
        host.until("everything is there", || setup.lines().len() >= records);
        host.kill();
        // The catalog goes on meanwhile; what was logged before is described as it was.
        sql_each(server, "ALTER TABLE t DROP b; ALTER TABLE t ADD d int; DROP TABLE t");
        let mut host = setup.start();
        host.until("everything came again", || setup.lines().len() >= 2 * records);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let mut lines = setup.lines();
        prove(&lines);
        assert_eq!(lines.len(), 2 * records);
        let told: Vec<String> = lines[..records].iter().map(short).collect();
        assert_eq!(
            told,
            [
                "schema t 1.0 initial: ",
                r#"c t 1.0 {"id":1,"a":1}"#,
                "schema t 1.1 compatible: column_added b",
                r#"c t 1.1 {"id":2,"a":2,"b":"b"}"#,
                r#"c t 1.1 {"id":3,"a":3,"b":"b"}"#,
                "schema t 2.0 breaking: column_dropped a!",
                r#"c t 2.0 {"id":4,"b":"b"}"#,
                "schema u 1.0 initial: table_renamed",
                r#"c u 1.0 {"id":5,"b":"b"}"#,
                "schema t 2.1 compatible: column_added c",
                r#"c t 2.1 {"id":6,"b":"b","c":6}"#,
            ]
        );
        for line in &mut lines {
            line["ts_us"] = Value::Null;
        }
        assert_eq!(lines[records..], lines[..records]);
    });
}

/// Files and folders: the records of the topic, and the schema of every version as a file.
#[test]
fn h21_versions_are_files_too() {
    on_each_version(|server, _| {
        sql(server, &table("CREATE TABLE \"My/Table\" (id int PRIMARY KEY, a int)"));
        let setup = Setup::new();
        let schemas = setup.path("schemas");
        let write = |enabled: bool| {
            let connector = format!(
                "    schema_changes: {{ enabled: {enabled}, dir: {} }}\n",
                schemas.display()
            );
            let sink = setup.jsonl();
            setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
        };
        write(true);
        let mut host = setup.first_start();
        sql_each(
            server,
            "INSERT INTO \"My/Table\" VALUES (1, 1); ALTER TABLE \"My/Table\" ADD b text;
             INSERT INTO \"My/Table\" VALUES (2, 2, 'b')",
        );
        host.until("the events are there", || setup.count() == 2);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let folder = schemas.join("shop.public.My%2FTable");
        let versions = || {
            let entries = std::fs::read_dir(&folder).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        assert_eq!(versions(), ["1.0.schema.json", "1.1.schema.json"]);
        let changes = setup.schema_changes();
        assert_eq!(changes.len(), 2);
        for change in &changes {
            let name = format!("{}.schema.json", change["schema"]["version"].as_str().unwrap());
            let mut file: Value =
                serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap();
            let definitions = file.as_object_mut().unwrap().shift_remove("$defs").unwrap();
            assert_eq!((&file, &definitions["key_image"]), (&change["row"], &change["key_image"]));
        }
        // Without the topic the files go on, and one that is gone comes back.
        std::fs::remove_dir_all(&schemas).unwrap();
        write(false);
        let mut host = setup.start();
        sql_each(
            server,
            "INSERT INTO \"My/Table\" VALUES (3, 3, 'b'); ALTER TABLE \"My/Table\" DROP b;
             INSERT INTO \"My/Table\" VALUES (4, 4)",
        );
        host.until("the events are there", || setup.count() == 4);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert_eq!(versions(), ["1.1.schema.json", "2.0.schema.json"]);
        assert_eq!(setup.schema_changes().len(), 2);
        // With the topic again, what it was not told of is told.
        write(true);
        let mut host = setup.start();
        sql(server, "INSERT INTO \"My/Table\" VALUES (5, 5)");
        host.until("the events are there", || setup.count() == 5);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let changes = setup.schema_changes();
        assert_eq!(short(&changes[2]), "schema My/Table 2.0 initial: ");
        assert_eq!(changes.len(), 3);
    });
}

/// The log is behind the catalog: tables and types that were dropped since are described as they were.
#[test]
fn h21_a_catalog_that_is_ahead_of_the_log() {
    on_each_version(|server, _| {
        let mut stream = Stream::plain(
            server,
            &table(
                "CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE place AS (street text, m mood);
                 CREATE TABLE t (id int PRIMARY KEY, m mood, p place[]);
                 CREATE TABLE f (id int PRIMARY KEY, v text); ALTER TABLE f REPLICA IDENTITY FULL",
            ),
        );
        stream.tell(
            "INSERT INTO t VALUES (1, 'sad', '{\"(a,sad)\"}'); INSERT INTO f VALUES (1, 'v')",
        );
        let setup = stream.stop();
        let lines = setup.lines().len();
        sql_each(
            server,
            "ALTER TABLE t ADD a int; INSERT INTO t VALUES (2, 'sad', '{\"(b,sad)\"}', 2);
             ALTER TABLE t RENAME TO u; UPDATE u SET a = 3;
             ALTER TABLE u DROP m; ALTER TABLE u DROP p; DROP TYPE place; DROP TYPE mood;
             INSERT INTO u VALUES (4, 4);
             ALTER TABLE f ADD n int; INSERT INTO f VALUES (2, 'w', 2); DELETE FROM f WHERE id = 1;
             DROP TABLE u; DROP TABLE f",
        );
        let mut host = setup.start();
        host.until("everything is there", || setup.lines().len() >= lines + 10);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let all = setup.lines();
        prove(&all);
        let told: Vec<String> = all[lines..].iter().map(short).collect();
        let row = |id: u32, street: &str, a: u32| {
            format!(r#"{{"id":{id},"m":"sad","p":[{{"street":"{street}","m":"sad"}}],"a":{a}}}"#)
        };
        assert_eq!(
            told,
            [
                "schema t 1.1 compatible: column_added a",
                &format!("c t 1.1 {}", row(2, "b", 2)),
                "schema u 1.0 initial: table_renamed",
                &format!("u u 1.0 {}", row(1, "a", 3)),
                &format!("u u 1.0 {}", row(2, "b", 3)),
                "schema u 2.0 breaking: column_dropped m!, column_dropped p!",
                r#"c u 2.0 {"id":4,"a":4}"#,
                "schema f 1.1 compatible: column_added n",
                r#"c f 1.1 {"id":2,"v":"w","n":2}"#,
                r#"d f 1.1 {"id":1,"v":"v","n":null}"#,
            ]
        );
        assert!(all[lines + 8..].iter().all(|line| line["key"]["id"].is_number()), "keyed still");
    });
}
