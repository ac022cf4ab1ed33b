//! MySQL and MariaDB, end to end: from the binlog to files, over kills, and what the commands say.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rowtide_testkit::{Flavor, Mysql};
use serde_json::Value;

use crate::host::Setup;

/// A server whose log describes tables whole, and a configuration from its database `shop` to files.
pub(crate) fn started(flavor: Flavor) -> Option<(Mysql, Setup)> {
    let server = Mysql::start(flavor, &["binlog_row_metadata=FULL"])?;
    server.sql(
        "CREATE DATABASE shop; USE shop;
         CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, note varchar(40));",
    );
    let setup = configured(&server);
    Some((server, setup))
}

/// A configuration from the database `shop` to files.
pub(crate) fn configured(server: &Mysql) -> Setup {
    let setup = Setup::new();
    let text = format!(
        "connectors:\n  shop:\n    source:\n      type: mysql\n      url: {}\n      tables: {{ include: [\"shop.*\"] }}\n    snapshot: never\n    sink: {}\nstate: {}\n",
        server.url(),
        setup.jsonl(),
        setup.path("state").display()
    );
    std::fs::write(setup.path("rowtide.yaml"), text).unwrap();
    setup
}

fn events(setup: &Setup) -> Vec<Value> {
    setup.events().remove("shop.shop.t").unwrap_or_default()
}

/// The rows that the events make together.
fn folded(events: &[Value]) -> BTreeMap<i64, (i64, Option<String>)> {
    let mut rows = BTreeMap::new();
    for event in events {
        let key = event["key"]["id"].as_i64();
        match event["op"].as_str().unwrap() {
            "t" => rows.clear(),
            "d" => drop(rows.remove(&key.unwrap())),
            _ => {
                let after = &event["after"];
                let note = after["note"].as_str().map(str::to_owned);
                rows.insert(key.unwrap(), (after["n"].as_i64().unwrap(), note));
            }
        }
    }
    rows
}

fn table(server: &Mysql) -> BTreeMap<i64, (i64, Option<String>)> {
    let shown = server.sql("SELECT id, n, COALESCE(note, '-') FROM shop.t");
    let row = |line: &str| {
        let mut parts = line.split('\t');
        let mut number = || parts.next().unwrap().parse::<i64>().unwrap();
        let (id, n) = (number(), number());
        let note = parts.next().filter(|note| *note != "-").map(str::to_owned);
        (id, (n, note))
    };
    shown.lines().map(row).collect()
}

#[test]
fn kills_at_any_moment_lose_and_repeat_nothing_in_files() {
    for flavor in Flavor::ALL {
        let Some((server, setup)) = started(flavor) else { return };
        let mut host = setup.first_start();
        let mut written = 0;
        for round in 0_u64..8 {
            let mut statements = "USE shop;".to_owned();
            for _ in 0..40 {
                written += 1;
                let id = written % 97;
                statements.push_str(&format!(
                    "REPLACE INTO t VALUES ({id}, {written}, 'round {round}');
                     UPDATE t SET n = n + 1 WHERE id % 5 = {};
                     BEGIN; INSERT INTO t SELECT id + 1000 + {written} * 100, 1, NULL FROM t WHERE id < 9;
                     SAVEPOINT s; DELETE FROM t WHERE id < 50; ROLLBACK TO s; COMMIT;
                     DELETE FROM t WHERE id > 1000 AND id % 3 = 0;",
                    round % 5
                ));
            }
            if round == 5 {
                statements.push_str("FLUSH BINARY LOGS; TRUNCATE t;");
            }
            server.sql(&statements);
            std::thread::sleep(Duration::from_millis(15 * round));
            host.kill();
            host = setup.start();
        }
        server.sql("INSERT INTO shop.t VALUES (999999, 1, 'the end')");
        host.until("the last row is there", || {
            events(&setup).last().is_some_and(|event| event["key"]["id"] == 999_999)
        });
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let events = events(&setup);
        let ids: HashSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), events.len(), "each once");
        assert_eq!(folded(&events), table(&server), "{}", flavor.name());
        for event in &events {
            assert_eq!(event["source"]["connector"], "mysql");
            assert_eq!(
                (&event["source"]["db"], &event["source"]["table"]),
                (&"shop".into(), &"t".into())
            );
        }
    }
}

#[test]
fn check_tells_what_is_wrong_and_the_printed_sql_mends_it() {
    for flavor in Flavor::ALL {
        let Some((server, setup)) = started(flavor) else { return };
        server.sql(
            "CREATE TABLE shop.child (id int PRIMARY KEY, t int,
               FOREIGN KEY (t) REFERENCES shop.t (id) ON DELETE CASCADE);
             CREATE TABLE shop.keyless (a int) ENGINE=MyISAM;
             SET GLOBAL binlog_row_image = 'MINIMAL'; CREATE USER poor IDENTIFIED BY 'poor';",
        );
        let config = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
        let poor = config.replace("rowtide:rowtide@", "poor:poor@");
        std::fs::write(setup.path("rowtide.yaml"), &poor).unwrap();
        let said = setup.output(&["check", "--format", "json"]);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        for code in ["RT2718", "RT2715", "RT2719"] {
            assert!(said.contains(code), "{}: {code}: {said}", flavor.name());
        }
        let printed = setup.output(&["check", "--print-sql"]);
        assert!(printed.status.success());
        let sql = String::from_utf8(printed.stdout).unwrap().replace("'…'", "'poor'");
        server.sql(&sql);
        let said = setup.output(&["check", "--format", "json"]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.status.success(), "{}: {text}", flavor.name());
        assert!(text.contains("RT2720") && !text.contains("RT2719"), "{text}");
        // From 9.6 on MySQL logs what foreign keys do.
        assert_eq!(text.contains("RT2721"), flavor == Flavor::Mariadb, "{text}");
        // Connections are ended as the protocol wants it.
        let aborted = || server.sql("SHOW GLOBAL STATUS LIKE 'Aborted_clients'");
        assert_eq!(aborted().trim(), "Aborted_clients\t0", "{}", flavor.name());
        let mut host = setup.first_start();
        server.sql("INSERT INTO shop.t VALUES (1, 1, NULL)");
        host.until("the row is there", || events(&setup).len() == 1);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        // A stream of the log has no end that the reader could tell.
        assert!(
            ["0", "1"].contains(&aborted().trim().rsplit('\t').next().unwrap()),
            "{}",
            aborted()
        );
    }
}

/// The printed SQL opens no other database, whose name differs where this one's has an underscore; a table that is
/// named like a tool's copy is told of, and so is one of which some columns alone may be read.
#[test]
fn check_tells_of_tables_that_are_left_out_and_columns_that_may_not_be_read() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["binlog_row_metadata=MINIMAL"]) else { return };
        server.sql(
            "CREATE DATABASE my_shop; CREATE DATABASE myXshop; CREATE TABLE myXshop.secret (id int PRIMARY KEY);
             CREATE TABLE my_shop.t (id int PRIMARY KEY, a int); CREATE TABLE my_shop._t_new (id int PRIMARY KEY);
             CREATE DATABASE one; CREATE TABLE one.t (id int PRIMARY KEY);
             CREATE TABLE one.secret (id int PRIMARY KEY);
             CREATE USER poor IDENTIFIED BY 'poor'",
        );
        let setup = configured(&server);
        let path = setup.path("rowtide.yaml");
        let config = std::fs::read_to_string(&path).unwrap();
        let config = config.replace("rowtide:rowtide@", "poor:poor@");
        std::fs::write(&path, config.replace(r#""shop.*""#, r#""my_shop.*", "one.t""#)).unwrap();
        let printed = setup.output(&["check", "--print-sql"]);
        let sql = String::from_utf8(printed.stdout).unwrap().replace("'…'", "'poor'");
        server.sql(&sql);
        server.sql("SET GLOBAL binlog_row_metadata = 'MINIMAL'");
        let seen = server.sql(
            "SELECT GROUP_CONCAT(GRANTEE, TABLE_SCHEMA, PRIVILEGE_TYPE) FROM information_schema.SCHEMA_PRIVILEGES
             WHERE GRANTEE LIKE '%poor%'",
        );
        assert!(seen.contains(r"my\_shop"), "{}: {seen}", flavor.name());
        let check = || {
            let checked = setup.output(&["check", "--format", "json"]);
            String::from_utf8_lossy(&checked.stdout).into_owned()
        };
        let text = check();
        assert!(text.contains("RT2724") && text.contains("my_shop._t_new"), "{text}");
        assert!(!text.contains("RT2719") && !text.contains("RT2718"), "{text}");
        server.sql(
            r"REVOKE SELECT ON `my\_shop`.* FROM poor; GRANT SELECT (id) ON my_shop.t TO poor",
        );
        let text = check();
        assert!(text.contains("RT2718") && text.contains("some columns of my_shop.t"), "{text}");
        server.sql("GRANT SELECT ON my_shop.* TO poor");
        assert!(!check().contains("RT2718"));
        let mut host = setup.first_start();
        server.sql("USE my_shop; INSERT INTO _t_new VALUES (1), (2); INSERT INTO t VALUES (1, 1)");
        host.until("the row is there", || setup.count() == 1);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert_eq!(host.log().matches("RT2724").count(), 1, "{}", host.log());
    }
}

/// What MariaDB's log does not hold, or not as what it is, is found before the first row.
#[test]
fn m64_check_names_the_columns_that_the_log_does_not_tell() {
    let Some((server, setup)) = started(Flavor::Mariadb) else { return };
    server.sql(
        "CREATE TABLE shop.u (id uuid PRIMARY KEY);
         CREATE TABLE shop.c (id int PRIMARY KEY, v text COMPRESSED);
         CREATE TABLE shop.v (id int PRIMARY KEY,
           b bigint unsigned GENERATED ALWAYS AS ROW START, e bigint unsigned GENERATED ALWAYS AS ROW END,
           PERIOD FOR SYSTEM_TIME (b, e)) WITH SYSTEM VERSIONING",
    );
    let config = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
    let config = config.replace("      tables:", "      server_id: 1\n      tables:");
    std::fs::write(setup.path("rowtide.yaml"), &config).unwrap();
    let check = || {
        let checked = setup.output(&["check"]);
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        (checked.status.code(), text)
    };
    let (status, text) = check();
    assert_eq!((status, text.matches("RT2801").count()), (Some(3), 3), "{text}");
    assert!(text.contains("column v of shop.c is COMPRESSED"), "{text}");
    assert!(text.contains("column id of shop.u is a UUID"), "{text}");
    assert!(text.contains("which is the server's own"), "{text}");
    assert!(text.contains("RT2707") && text.contains("shop.v keeps its history"), "{text}");
    let config = config.replace("[\"shop.*\"]", "[\"shop.*\"], exclude: [shop.c]");
    std::fs::write(setup.path("rowtide.yaml"), &config).unwrap();
    let (status, text) = check();
    assert_eq!((status, text.matches("RT2707").count()), (Some(3), 1), "{text}");
    // As a run finds too.
    let mut host = setup.first_start();
    server.sql("INSERT INTO shop.v (id) VALUES (1)");
    assert_eq!(host.wait(), Some(3), "{}", host.log());
    assert!(host.log().contains("RT2707"), "{}", host.log());
    let config = config.replace("[shop.c]", "[shop.c, shop.v]");
    std::fs::write(setup.path("rowtide.yaml"), &config).unwrap();
    let (status, text) = check();
    assert_eq!(status, Some(0), "{text}");
}

/// A pattern beside a good one is not overlooked.
#[test]
fn check_names_the_patterns_that_match_nothing() {
    for flavor in Flavor::ALL {
        let Some((_server, setup)) = started(flavor) else { return };
        let config = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
        let config = config.replace("[\"shop.*\"]", "[\"shop.*\", \"crm.customers\"]");
        std::fs::write(setup.path("rowtide.yaml"), &config).unwrap();
        let checked = setup.output(&["check"]);
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!((checked.status.code(), text.matches("RT2719").count()), (Some(0), 1), "{text}");
        assert!(text.contains("no table matches `crm.customers`"), "{text}");
    }
}

#[test]
fn a_position_is_set_by_hand_and_where_the_log_was_reset_none_is_guessed() {
    for flavor in Flavor::ALL {
        let Some((server, setup)) = started(flavor) else { return };
        let mut host = setup.first_start();
        server.sql("INSERT INTO shop.t VALUES (1, 1, NULL)");
        host.until("the row is there", || events(&setup).len() == 1);
        assert_eq!(host.stop(), Some(0));
        server.sql("INSERT INTO shop.t VALUES (2, 1, NULL)");
        let place = server.sql("SHOW BINARY LOGS");
        let mut last = place.lines().last().unwrap().split('\t');
        let place = format!("{}:{}", last.next().unwrap(), last.next().unwrap());
        server.sql("INSERT INTO shop.t VALUES (3, 1, NULL)");
        let set = |place: &str| {
            let arguments = ["position", "set", "--connector", "shop", "--at", place, "--yes"];
            setup.output(&arguments)
        };
        let refused = set("binlog.000009:4");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("RT2717"), "{refused:?}");
        assert!(set(&place).status.success());
        let told = adopted(&setup, false);
        assert!(told.contains("from now on taken as delivered"), "{told}");
        assert!(!told.contains("another connector name"), "{told}");
        let mut host = setup.start();
        host.until("the row behind the place is there", || events(&setup).len() == 2);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert_eq!(events(&setup)[1]["key"]["id"], 3);
        server.sql(match flavor {
            Flavor::Mysql => "RESET BINARY LOGS AND GTIDS",
            Flavor::Mariadb => "RESET MASTER",
        });
        server.sql("INSERT INTO shop.t VALUES (4, 1, NULL)");
        let mut host = setup.start();
        assert_ne!(host.wait(), Some(0));
        let log = host.log();
        let codes = ["RT2702", "RT2703", "RT2621", "RT2622", "RT2619"];
        assert!(codes.iter().any(|code| log.contains(code)), "{}: {log}", flavor.name());
        assert_eq!(events(&setup).len(), 2);
        let told = adopted(&setup, false);
        assert!(told.contains("begin under another connector name"), "{}: {told}", flavor.name());
    }
}

/// A server whose log was begun anew waits for the place where its log was, and sends nothing until then.
#[test]
fn m10_a_reset_under_a_running_stream_is_noticed() {
    for flavor in Flavor::ALL {
        let Some((server, setup)) = started(flavor) else { return };
        let mut host = setup.first_start();
        let rows: String =
            (1..9).map(|id| format!("INSERT INTO shop.t VALUES ({id}, 1, NULL);")).collect();
        server.sql(&rows);
        host.until("the rows are there", || events(&setup).len() == 8);
        server.sql(match flavor {
            Flavor::Mysql => "RESET BINARY LOGS AND GTIDS",
            Flavor::Mariadb => "RESET MASTER",
        });
        server.sql("INSERT INTO shop.t VALUES (9, 1, NULL)");
        assert_ne!(host.wait(), Some(0));
        assert!(host.log().contains("RT2702"), "{}: {}", flavor.name(), host.log());
        assert_eq!(events(&setup).len(), 8);
        let (status, log) = setup.run_to_end();
        assert_ne!(status, Some(0), "{log}");
        assert!(log.contains("RT2702") || log.contains("RT2703"), "{}: {log}", flavor.name());
    }
}

/// A position that was adopted knows its file, so that another one of that name is not taken for it.
#[test]
fn m10_a_reset_behind_an_adopted_position_is_noticed() {
    for flavor in Flavor::ALL {
        let Some((server, setup)) = started(flavor) else { return };
        let mut host = setup.first_start();
        server.sql("INSERT INTO shop.t VALUES (1, 1, NULL)");
        host.until("the row is there", || events(&setup).len() == 1);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        adopted(&setup, true);
        // Files are told by the second in which they were made.
        std::thread::sleep(Duration::from_millis(1100));
        server.sql(match flavor {
            Flavor::Mysql => "RESET BINARY LOGS AND GTIDS",
            Flavor::Mariadb => "RESET MASTER",
        });
        let rows: String =
            (2..30).map(|id| format!("INSERT INTO shop.t VALUES ({id}, 1, NULL);")).collect();
        server.sql(&rows);
        let (status, log) = setup.run_to_end();
        assert_ne!(status, Some(0), "{log}");
        assert!(log.contains("RT2702"), "{}: {log}", flavor.name());
        assert_eq!(events(&setup).len(), 1);
        let told = adopted(&setup, false);
        assert!(told.contains("(RT2702): events of it may bear ids"), "{}: {told}", flavor.name());
    }
}

/// What `rowtide position adopt` says, with `--yes` where it is to be done.
fn adopted(setup: &Setup, is_done: bool) -> String {
    let arguments = ["position", "adopt", "--connector", "shop", "--yes"];
    let output = setup.output(if is_done { &arguments } else { &arguments[..4] });
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A column that MariaDB's log does not tell from one of its own is refused, not left out.
#[test]
fn m3_a_column_that_is_called_as_mariadb_calls_its_own_is_refused() {
    let Some((server, setup)) = started(Flavor::Mariadb) else { return };
    server.sql("ALTER TABLE shop.t ADD DB_ROW_HASH_1 bigint unsigned");
    let checked = String::from_utf8(setup.output(&["check"]).stdout).unwrap();
    assert!(checked.contains("RT2801") && checked.contains("DB_ROW_HASH_1"), "{checked}");
    let mut host = setup.first_start();
    server.sql("ALTER TABLE shop.t ADD last int; INSERT INTO shop.t VALUES (1, 2, 'note', 3, 4)");
    host.until("it is an ordinary one before others", || events(&setup).len() == 1);
    assert_eq!(events(&setup)[0]["after"]["DB_ROW_HASH_1"], 3);
    server.sql("ALTER TABLE shop.t DROP last; INSERT INTO shop.t VALUES (2, 2, 'note', 3)");
    assert_ne!(host.wait(), Some(0));
    assert!(
        host.log().contains("RT2801") && host.log().contains("DB_ROW_HASH_1"),
        "{}",
        host.log()
    );
    assert_eq!(events(&setup).len(), 1);
}

/// What a server leaves out of its log, and how long it keeps it, is said at the start (M-8, M-36, M-10).
#[test]
fn m8_m36_m10_what_is_not_in_the_log_and_what_will_not_be_is_said_at_the_start() {
    for flavor in Flavor::ALL {
        let settings = [
            "binlog_row_metadata=FULL",
            "binlog_ignore_db=hidden",
            "binlog_expire_logs_seconds=600",
        ];
        let Some(server) = Mysql::start(flavor, &settings) else { return };
        server.sql(
            "CREATE DATABASE shop; CREATE DATABASE hidden; USE shop;
             CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, note varchar(40));
             CREATE TABLE child (id int PRIMARY KEY, t int,
               FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE)",
        );
        // As a replica that leaves something out.
        server.sql(match flavor {
            Flavor::Mysql => {
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1;
                 CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = (away)"
            }
            Flavor::Mariadb => {
                "SET GLOBAL replicate_ignore_db = 'away';
                 CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1"
            }
        });
        let setup = configured(&server);
        let checked = setup.output(&["check", "--format", "json"]);
        let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
        let mut host = setup.first_start();
        host.until_logged("RT2722");
        let log = host.log();
        for text in [&checked, &log] {
            assert!(text.contains("binlog_ignore_db is hidden"), "{}: {text}", flavor.name());
            assert!(text.contains("Replicate_Ignore_DB"), "{}: {text}", flavor.name());
            // From 9.6 on MySQL logs what foreign keys do.
            assert_eq!(text.contains("RT2721"), flavor == Flavor::Mariadb, "{text}");
        }
        server.sql(
            "USE shop; INSERT INTO t VALUES (1, 1, NULL); INSERT INTO child VALUES (7, 1); DELETE FROM t;
             INSERT INTO t VALUES (2, 2, 'the end')",
        );
        host.until("the last row is there", || events(&setup).len() == 3);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let child = setup.events().remove("shop.shop.child").unwrap_or_default();
        let ops: Vec<&str> = child.iter().map(|event| event["op"].as_str().unwrap()).collect();
        let expected: &[&str] = if flavor == Flavor::Mysql { &["c", "d"] } else { &["c"] };
        assert_eq!(ops, expected, "{}", flavor.name());
        // A connector that stands still is told by `check`.
        let check = || {
            let checked = setup.output(&["check", "--format", "json"]);
            String::from_utf8_lossy(&checked.stdout).into_owned()
        };
        let text = check();
        assert!(text.contains("RT2722") && text.contains("in 600 s"), "{}: {text}", flavor.name());
        server.sql("INSERT INTO shop.t VALUES (3, 3, NULL); FLUSH BINARY LOGS");
        let shown = server.sql("SHOW BINARY LOGS");
        let last = shown.lines().last().unwrap().split('\t').next().unwrap();
        // What a stream that ended a moment ago still reads stays.
        while server.sql("SHOW BINARY LOGS").lines().count() > 1 {
            server.sql(&format!("PURGE BINARY LOGS TO '{last}'"));
            std::thread::sleep(Duration::from_millis(50));
        }
        // As a run says it.
        let code = if flavor == Flavor::Mysql { "RT2716" } else { "RT2619" };
        let text = check();
        assert!(text.contains(code), "{}: {text}", flavor.name());
        let (status, log) = setup.run_to_end();
        assert_eq!(status, Some(3), "{log}");
        assert!(log.contains(code), "{}: {log}", flavor.name());
    }
}

/// A session may log less than the server as a whole: the table has a version that promises no more, once
/// and for good.
#[test]
fn m2_a_session_that_logs_less_gives_a_version_that_promises_less() {
    for flavor in Flavor::ALL {
        let Some((server, setup)) = started(flavor) else { return };
        server.sql(
            "USE shop; CREATE TABLE k (code int NOT NULL UNIQUE, n int, note text);
             CREATE TABLE gone (id int PRIMARY KEY)",
        );
        let mut host = setup.first_start();
        let round = |image: &str, id: i64| {
            server.sql(&format!(
                "USE shop; INSERT INTO t VALUES ({id}, 1, 'a'); INSERT INTO k VALUES ({id}, 1, 'a');
                 SET SESSION binlog_row_image = '{image}';
                 UPDATE t SET n = 2 WHERE id = {id}; UPDATE k SET n = 2 WHERE code = {id};
                 DELETE FROM t WHERE id = {id}; DELETE FROM k WHERE code = {id}"
            ));
        };
        let mut expected = 0;
        let rounds = ["FULL", "NOBLOB", "MINIMAL", "FULL", "MINIMAL"];
        for (id, image) in (1..).zip(rounds) {
            round(image, id);
            expected += 6;
            host.until(image, || setup.count() == expected);
            if id == 3 {
                assert_eq!(host.stop(), Some(0), "{}", host.log());
                server.sql("USE shop; TRUNCATE gone; RENAME TABLE gone TO elsewhere");
                host = setup.start();
            }
        }
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert!(host.log().contains("RT2804"), "{}", host.log());

        let events = setup.events();
        let versions = |table: &str| -> Vec<String> {
            let events = &events[&format!("shop.shop.{table}")];
            let version = |event: &Value| event["schema"]["version"].as_str().unwrap().to_owned();
            let mut versions: Vec<String> = events.iter().map(version).collect();
            versions.dedup();
            versions
        };
        assert_eq!(versions("t"), ["1.0", "2.0"], "{flavor:?}");
        let of_k = versions("k");
        assert!((2..=3).contains(&of_k.len()), "{flavor:?}: {of_k:?}");
        let shape = |event: &Value| {
            let mut shape = event.clone();
            for name in ["id", "schema", "source", "transaction", "ts_us", "v"] {
                shape.as_object_mut().unwrap().remove(name);
            }
            shape
        };
        let of_round = |table: &str, id: i64| -> Vec<Value> {
            let is_it = |event: &&Value| {
                let image = if event["op"] == "d" { &event["before"] } else { &event["after"] };
                image["id"] == id || image["code"] == id
            };
            events[&format!("shop.shop.{table}")].iter().filter(is_it).map(shape).collect()
        };
        let minimal = of_round("t", 3);
        assert_eq!(minimal[1]["after"], serde_json::json!({ "id": 3, "n": 2 }), "{flavor:?}");
        assert_eq!(minimal[1]["unchanged"], serde_json::json!(["note"]));
        assert_eq!(minimal[2]["before"], serde_json::json!({ "id": 3 }));
        let keyless = of_round("k", 5);
        assert_eq!(keyless[1]["after"], serde_json::json!({ "code": 5, "n": 2 }), "{flavor:?}");
        assert_eq!(keyless[2]["before"], serde_json::json!({ "code": 5 }));
        let whole = of_round("k", 4);
        assert_eq!(whole[1]["after"], serde_json::json!({ "code": 4, "n": 2, "note": "a" }));
    }
}

/// The text of statements is on events where the settings ask for it, and nowhere where columns are hidden.
#[test]
fn m9_statements_are_on_events_where_they_are_asked_for() {
    for flavor in Flavor::ALL {
        let Some((server, setup)) = started(flavor) else { return };
        if flavor == Flavor::Mysql {
            server.sql("SET GLOBAL binlog_rows_query_log_events = ON");
        }
        let plain = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
        let asking = plain.replace("type: mysql\n", "type: mysql\n      statement_bytes: 40\n");
        std::fs::write(setup.path("rowtide.yaml"), &asking).unwrap();
        let mut host = setup.first_start();
        let long = "UPDATE t SET n = 2, note = 'äöü' WHERE id /* ä */ = 1";
        server.sql(&format!(
            "USE shop; SET NAMES utf8mb4; PREPARE p FROM \"{long}\"; BEGIN; INSERT INTO t VALUES (1, 1, 'a');
             EXECUTE p; COMMIT; DELETE FROM t"
        ));
        host.until("the events are there", || setup.count() == 3);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let events = events(&setup);
        let statement =
            |event: &Value| event["transaction"]["statement"].as_str().unwrap().to_owned();
        let statements: Vec<String> = events.iter().map(statement).collect();
        // The 40th byte is inside of a character.
        let expected = [
            "INSERT INTO t VALUES (1, 1, 'a')",
            &long[..long.floor_char_boundary(40)],
            "DELETE FROM t",
        ];
        assert_eq!(statements, expected, "{flavor:?}");

        let hiding = asking.replace(
            "    snapshot: never\n",
            "    snapshot: never\n    tables: { shop.t: { columns: { mask: { note: redact } } } }\n",
        );
        assert_ne!(hiding, asking);
        std::fs::write(setup.path("rowtide.yaml"), &hiding).unwrap();
        let checked = setup.output(&["check"]);
        let found = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(found.contains("error RT2723"), "{found}");
        assert_eq!(checked.status.code(), Some(2));
        assert_eq!(setup.start().wait(), Some(2));
        std::fs::write(setup.path("rowtide.yaml"), &plain).unwrap();
        let mut host = setup.start();
        server.sql("INSERT INTO shop.t VALUES (2, 2, 'b')");
        host.until("the next event is there", || setup.count() == 4);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert_eq!(self::events(&setup)[3]["transaction"].get("statement"), None);
    }
}

/// What a run refuses of settings and folders is found before anything is saved, by the same codes.
#[test]
fn what_cannot_work_is_refused_before_the_first_row() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let arguments = ["binlog_row_metadata=FULL", "binlog_row_image=MINIMAL"];
        let Some(server) = Mysql::start(flavor, &arguments) else { continue };
        server
            .sql("CREATE DATABASE shop; CREATE TABLE shop.t (id int PRIMARY KEY, n int NOT NULL)");
        let setup = configured(&server);
        let config = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
        let write = |tables: &str| {
            let tables = format!("    tables: {tables}\n    snapshot");
            std::fs::write(setup.path("rowtide.yaml"), config.replace("    snapshot", &tables))
                .unwrap();
        };
        let both = |code: &str, exit: i32| {
            let output = setup.output(&["check"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(output.status.code(), Some(exit), "{code}: {text}");
            assert_eq!(text.matches("  error ").count(), 1, "{code}: {text}");
            assert!(text.contains(&format!("  error {code}")), "{code}: {text}");
            let (status, log) = setup.run_to_end();
            assert!(status == Some(exit) && log.contains(code), "{code}: {log}");
        };
        write("{ shop.t: { columns: { mask: { m: sha256 } } } }");
        both("RT5007", 2);
        write("{ shop.t: { columns: { exclude: [id] } } }");
        both("RT5014", 2);
        write("{ shop.t: { key: [n] } }");
        both("RT5006", 2);
        let manifest = std::fs::read_to_string(setup.path("out/manifest.json")).unwrap();
        assert!(!manifest.contains("binlog"), "nothing was saved: {manifest}");

        write("{ shop.t: { columns: { mask: { n: sha256 } } }, shop.tt: {} }");
        let mut host = setup.first_start();
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert_eq!(host.log().matches("RT1027").count(), 1, "{}", host.log());
        std::fs::remove_dir_all(setup.path("state")).unwrap();
        crate::host::block(&setup.path("state"));
        both("RT4001", 5);
    }
}
