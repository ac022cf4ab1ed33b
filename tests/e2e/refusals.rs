//! What is refused: each with its code, its exit code, and nothing half-written.

use rowtide_testkit::Postgres;

use crate::host::{Options, Setup, block, explain, sql};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

fn refused(setup: &Setup, code: &str, exit: i32) -> String {
    let (status, log) = setup.run_to_end();
    assert_eq!(status, Some(exit), "{log}");
    assert!(log.contains(code), "{code} is not in:\n{log}");
    // Every code that is printed has a page.
    assert!(explain(code).status.success());
    log
}

/// A set-up that has streamed once and stopped.
fn streamed(server: &Postgres) -> Setup {
    sql(server, TABLE);
    let setup = Setup::to_files(server);
    let mut host = setup.first_start();
    sql(server, "INSERT INTO t VALUES (1)");
    host.until("the event is there", || setup.count() == 1);
    assert_eq!(host.stop(), Some(0));
    setup
}

#[test]
fn a_slot_that_was_advanced_is_refused_with_both_positions() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let setup = streamed(&server);
    sql(&server, "INSERT INTO t VALUES (2)");
    sql(&server, "SELECT pg_replication_slot_advance('e2e', pg_current_wal_lsn())");
    let log = refused(&setup, "RT2203", 3);
    assert!(log.matches("0/").count() >= 2, "{log}");
    assert_eq!(setup.count(), 1);
}

#[test]
fn a_slot_that_is_gone_is_refused() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let setup = streamed(&server);
    sql(&server, "SELECT pg_drop_replication_slot('e2e')");
    let (status, log) = setup.run_to_end();
    assert_eq!(status, Some(3), "{log}");
    assert!(log.contains("e2e"), "{log}");
}

#[test]
fn another_cluster_behind_the_same_name_is_refused() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let Some(other) = Postgres::start("15", &[]) else { return };
    let setup = streamed(&server);
    sql(&other, TABLE);
    setup.write(&Options { url: other.url(), source: "", sink: setup.jsonl(), connector: "" });
    let (status, log) = setup.run_to_end();
    assert_eq!(status, Some(3), "{log}");
    assert!(log.contains("system"), "{log}");
    assert_eq!(crate::host::value(&other, "SELECT count(*) FROM pg_replication_slots"), "0");
}

#[test]
fn a_missing_publication_that_is_managed_elsewhere_is_refused() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, TABLE);
    let setup = Setup::new();
    setup.write(&Options {
        url: server.url(),
        source: "      publication_management: external\n",
        sink: setup.jsonl(),
        connector: "",
    });
    let (status, log) = setup.run_to_end();
    assert_eq!(status, Some(3), "{log}");
    assert!(log.contains("CREATE PUBLICATION"), "the remedy is SQL: {log}");
    assert_eq!(crate::host::value(&server, "SELECT count(*) FROM pg_replication_slots"), "0");
}

#[test]
fn a_wrong_password_is_refused_and_never_printed() {
    let Some(server) = Postgres::start("18", &["--auth", "scram-sha-256"]) else { return };
    let setup = Setup::new();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
    setup.write(&Options {
        url: &url,
        source: "      password: hunter2hunter2\n",
        sink: setup.jsonl(),
        connector: "",
    });
    let (status, log) = setup.run_to_end();
    assert_eq!(status, Some(3), "{log}");
    assert!(log.contains("password") && !log.contains("hunter2"), "{log}");
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    sql(&server, TABLE);
    let setup = Setup::to_files(&server);
    block(&setup.path("out"));
    let (status, log) = setup.run_to_end();
    assert_eq!(status, Some(4), "{log}");
    assert_eq!(crate::host::value(&server, "SELECT count(*) FROM pg_replication_slots"), "0");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_refused() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let setup = Setup::new();
    let sink = "{ type: discard }".to_owned();
    setup.write(&Options { url: server.url(), source: "", sink, connector: "" });
    block(&setup.path("state"));
    refused(&setup, "RT4001", 5);
}

#[test]
fn a_contract_that_is_broken_stops_and_resumes_at_the_same_event() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, TABLE);
    let setup = Setup::new();
    let contract = setup.path("contract.json");
    std::fs::write(&contract, r#"{"properties":{"id":{"maximum":10}}}"#).unwrap();
    let connector = |policy: &str| {
        format!(
            "    tables:\n      public.t:\n        contract: {}\n        on_violation: {policy}\n",
            contract.display()
        )
    };
    let stop = connector("stop");
    let options =
        |connector| Options { url: server.url(), source: "", sink: setup.jsonl(), connector };
    setup.write(&options(&stop));
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t VALUES (5)");
    host.until("the good event is there", || setup.count() == 1);
    sql(&server, "INSERT INTO t VALUES (4711)");
    assert_eq!(host.wait(), Some(5));
    let log = host.log();
    assert!(log.contains("RT5003") && !log.contains("4711"), "{log}");
    let letters = connector("dead_letter");
    setup.write(&options(&letters));
    let mut host = setup.start();
    sql(&server, "INSERT INTO t VALUES (6)");
    host.until("both are there", || setup.count() == 3);
    assert_eq!(host.stop(), Some(0));
    let events = setup.events();
    assert_eq!(events["shop.public.t"].len(), 2);
    let letter = &events["shop.dead_letter"][0];
    assert_eq!(letter["reason"]["code"], "RT5003");
    assert_eq!(letter["event"]["after"]["id"], 4711);
}

/// The server was put back to an earlier state: its log ends before the saved position.
#[test]
fn a_position_past_the_end_of_the_log_is_refused() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let setup = streamed(&server);
    let arguments = ["position", "set", "--connector", "shop", "--lsn", "FFFF/1", "--yes"];
    let set = setup.output(&arguments);
    let text = String::from_utf8_lossy(&set.stderr).into_owned();
    assert!(!set.status.success() && text.contains("RT2202"), "{text}");
    let manifest = setup.path("out/manifest.json");
    let shown = setup.output(&["position", "show", "--connector", "shop"]);
    assert!(shown.status.success());
    assert!(!std::fs::read_to_string(manifest).unwrap().contains("FFFF/1"));
}

#[test]
fn a_publication_dropped_while_running_stops_the_connector() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    sql(&server, TABLE);
    let setup = Setup::to_files(&server);
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t VALUES (1)");
    host.until("the event is there", || setup.count() == 1);
    sql(&server, "DROP PUBLICATION e2e");
    sql(&server, "INSERT INTO t VALUES (2)");
    assert_eq!(host.wait(), Some(3), "{}", host.log());
    assert!(host.log().contains("RT2121"), "{}", host.log());
}

#[test]
fn a_key_column_is_neither_excluded_nor_redacted() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, TABLE);
    let setup = Setup::new();
    for columns in ["exclude: [id]", "mask: { id: redact }"] {
        let connector = format!("    tables:\n      public.t: {{ columns: {{ {columns} }} }}\n");
        setup.write(&Options {
            url: server.url(),
            source: "",
            sink: setup.jsonl(),
            connector: &connector,
        });
        let checked = setup.output(&["check"]);
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(!checked.status.success() && text.contains("RT5014"), "{columns}: {text}");
    }
}

/// Columns that settings hide stay hidden when the table gets another name, while running or while
/// stopped, and when another table takes the old one.
#[test]
fn a_renamed_table_does_not_shed_its_settings() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(
        &server,
        "CREATE TABLE t (id int PRIMARY KEY, email text);
         CREATE TABLE fresh (id int PRIMARY KEY, email text);
         CREATE TABLE plain (id int PRIMARY KEY)",
    );
    let setup = Setup::new();
    let write = |settings: &str| {
        let connector = format!(
            "    tables:\n      public.t: {{ columns: {{ mask: {{ email: redact }} }} }}\n{settings}"
        );
        let sink = setup.jsonl();
        setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
    };
    write("");
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t VALUES (1, 'secret'); INSERT INTO plain VALUES (1)");
    host.until("both events are there", || setup.count() == 2);
    sql(&server, "ALTER TABLE plain RENAME TO plainer; INSERT INTO plainer VALUES (2)");
    host.until("a table without settings goes on", || setup.count() == 3);
    // The swap of two tables: the old name is taken again before the old table is written to.
    sql(
        &server,
        "BEGIN; ALTER TABLE t RENAME TO t_old; ALTER TABLE fresh RENAME TO t; COMMIT;
         INSERT INTO t VALUES (2, 'secret')",
    );
    host.until("the new table has the settings", || setup.count() == 4);
    sql(&server, "INSERT INTO t_old VALUES (3, 'secret')");
    assert_eq!(host.wait(), Some(2), "{}", host.log());
    let log = refused(&setup, "RT5015", 2);
    assert!(log.contains("public.t_old") && log.contains("columns.mask"), "{log}");
    assert!(!setup.events().contains_key("shop.public.t_old"));

    write("      public.t_old: { columns: { mask: { email: sha256 } } }\n");
    let mut host = setup.start();
    host.until("the event is there", || setup.count() == 5);
    assert_eq!(host.stop(), Some(0));
    // While nobody looks.
    sql(&server, "ALTER TABLE t RENAME TO t_new; INSERT INTO t_new VALUES (4, 'secret')");
    refused(&setup, "RT5015", 2);
    assert_eq!(setup.count(), 5);
    assert!(!format!("{:?}", setup.events()).contains("secret"));
}

/// Columns are hidden under the names that tables have when they are seen first: whatever becomes of
/// those names, and of the columns' own, before any change comes.
#[test]
fn h33_what_is_hidden_stays_hidden_under_every_later_name() {
    const SCHEMA: &str = "CREATE TABLE m (id int, y int, ssn text, PRIMARY KEY (id, y))
        PARTITION BY LIST (y);
        CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1);
        CREATE TABLE t (id int PRIMARY KEY, ssn text);
        CREATE TABLE twin (id int, y int, ssn text, PRIMARY KEY (id, y));
        CREATE TABLE w_many (id int PRIMARY KEY, ssn text);";
    const SETTINGS: &str = "    tables:\n      public.m: { columns: { mask: { ssn: redact } } }\n\
        \x20     public.t: { columns: { exclude: [ssn] } }\n\
        \x20     'public.w_*': { columns: { exclude: [ssn] } }\n";
    let cases = [
        ("ALTER TABLE m DETACH PARTITION m1", "m1 VALUES (1, 1, 'secret')", "public.m1"),
        (
            "ALTER TABLE m DETACH PARTITION m1; ALTER TABLE m1 ADD note text",
            "m1 VALUES (1, 1, 'secret', '')",
            "public.m1",
        ),
        (
            "ALTER TABLE m DETACH PARTITION m1; ALTER TABLE m1 RENAME ssn TO s; DROP TABLE m",
            "m1 VALUES (1, 1, 'secret')",
            "public.m1",
        ),
        ("ALTER TABLE t RENAME TO u", "u VALUES (1, 'secret')", "public.u"),
        ("ALTER TABLE w_many RENAME ssn TO s", "w_many VALUES (1, 'secret')", "public.w_many"),
    ];
    for version in rowtide_testkit::postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        for (change, row, name) in cases {
            sql(&server, SCHEMA);
            let setup = Setup::new();
            let write = |more: &str| {
                let connector = format!("{SETTINGS}{more}");
                let sink = setup.jsonl();
                let options =
                    Options { url: server.url(), source: "", sink, connector: &connector };
                setup.write(&options);
            };
            write("");
            let mut host = setup.first_start();
            sql(&server, "INSERT INTO twin VALUES (1, 1, 'shown')");
            host.until("a table of its own is not taken for one of them", || setup.count() == 1);
            assert_eq!(host.stop(), Some(0));
            sql(&server, change);
            // What comes while nobody looks is refused; a detached partition is published from the
            // next start on.
            let mut host = setup.start();
            host.until_logged("streaming lsn=");
            sql(&server, &format!("INSERT INTO {row}"));
            assert_eq!(host.wait(), Some(2), "{version} {change}: {}", host.log());
            let log = refused(&setup, "RT5015", 2);
            assert!(log.contains(name), "{version} {change}: {log}");
            assert_eq!(setup.count(), 1, "{version} {change}");
            let check = setup.output(&["check"]);
            let found = String::from_utf8_lossy(&check.stdout);
            let is_found = found.contains("error RT5015") && found.contains(name);
            assert!(is_found, "{version} {change}: {found}");
            write(&format!("      {name}: {{}}\n"));
            let mut host = setup.start();
            host.until("settings for the name are a choice", || setup.count() == 2);
            assert_eq!(host.stop(), Some(0));
            sql(
                &server,
                "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION e2e;
                SELECT pg_drop_replication_slot('e2e')",
            );
        }
    }
}

/// A partition that comes and goes while nobody looks: the log itself tells under which name its rows
/// came.
#[test]
fn h33_a_partition_that_was_one_only_for_a_moment_stays_hidden() {
    const SCHEMA: &str = "CREATE TABLE m (id int, y int, ssn text) PARTITION BY LIST (y);
        CREATE TABLE own (id int, y int, ssn text);
        CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1);
        CREATE TABLE other (id int, y int, ssn text);
        CREATE PUBLICATION e2e FOR ALL TABLES WITH (publish_via_partition_root);";
    const CHANGES: &str = "BEGIN; CREATE TABLE m2 PARTITION OF m FOR VALUES IN (2);
        INSERT INTO m VALUES (1, 2, 'secret'); ALTER TABLE m DETACH PARTITION m2; COMMIT;
        INSERT INTO other VALUES (1, 2, 'shown')";
    for version in rowtide_testkit::postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        for (stopped, streamed) in [(true, false), (false, false), (false, true)] {
            sql(&server, SCHEMA);
            let setup = Setup::new();
            let source = format!(
                "      publication_management: external\n      streaming: \"{}\"\n",
                if streamed { "on" } else { "off" }
            );
            let connector = "    tables:\n      public.m: { columns: { mask: { ssn: redact } } }\n";
            let options =
                Options { url: server.url(), source: &source, sink: setup.jsonl(), connector };
            setup.write(&options);
            let mut host = setup.first_start();
            if stopped {
                assert_eq!(host.stop(), Some(0));
                sql(&server, CHANGES);
                host = setup.start();
            } else {
                sql(&server, CHANGES);
            }
            host.until("the rows so far are there", || setup.count() == 2);
            if version == "14" {
                // It keeps the name under which it sent a table's rows as long as the session lasts.
                assert_eq!(host.stop(), Some(0));
                host = setup.start();
                host.until_logged("streaming lsn=");
            }
            sql(&server, "INSERT INTO m2 VALUES (2, 2, 'secret')");
            assert_eq!(host.wait(), Some(2), "{version} {stopped}: {}", host.log());
            let log = refused(&setup, "RT5015", 2);
            assert!(log.contains("public.m2"), "{version} {stopped}: {log}");
            assert_eq!(setup.count(), 2);
            assert!(!format!("{:?}", setup.events()).contains("secret"));
            sql(
                &server,
                "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION e2e;
                SELECT pg_drop_replication_slot('e2e')",
            );
        }
    }
}

/// Settings for an exact name count alone; what they leave to be seen is said before and at the start.
#[test]
fn settings_that_show_what_a_pattern_hides_are_told_of() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, "CREATE TABLE users (id int PRIMARY KEY, ssn text, email text)");
    let setup = Setup::new();
    let write = |columns: &str| {
        let connector = format!(
            "    tables:\n      'public.*': {{ columns: {{ exclude: [ssn], mask: {{ email: redact }} }} }}\n\
             \x20     public.users: {{ unchanged: reselect{columns} }}\n"
        );
        let sink = setup.jsonl();
        setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
        let check = setup.output(&["check"]);
        assert!(check.status.success());
        String::from_utf8_lossy(&check.stdout).into_owned()
    };
    let found = write(", columns: { exclude: [email] }");
    assert!(found.contains("warning RT1028 (tables.public.users)"), "{found}");
    assert!(found.contains("ssn, which those of \"public.*\" hide"), "{found}");
    let mut host = setup.first_start();
    assert!(host.log().contains("RT1028"), "{}", host.log());
    assert_eq!(host.stop(), Some(0));
    assert!(!write(", columns: { exclude: [email, ssn] }").contains("RT1028"));
}

/// Another column takes the name of a hidden one, which is still there under another name: running or
/// stopped, by the table's exact name or a pattern, its values are not shown.
#[test]
fn h21_a_hidden_column_whose_name_is_taken_stays_hidden() {
    for version in rowtide_testkit::postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        for (pattern, is_running) in [("public.t", true), ("'public.*'", false)] {
            sql(&server, "CREATE TABLE t (id int PRIMARY KEY, email text, n int)");
            let setup = Setup::new();
            let write = |hidden: &str| {
                let connector = format!(
                    "    tables:\n      {pattern}: {{ columns: {{ exclude: [{hidden}] }} }}\n"
                );
                let sink = setup.jsonl();
                let options =
                    Options { url: server.url(), source: "", sink, connector: &connector };
                setup.write(&options);
            };
            write("email");
            let mut host = setup.first_start();
            sql(&server, "INSERT INTO t VALUES (1, 'secret', 1)");
            host.until("the event is there", || setup.count() == 1);
            if !is_running {
                assert_eq!(host.stop(), Some(0));
            }
            sql(
                &server,
                "ALTER TABLE t ADD email_new text;
                BEGIN; ALTER TABLE t RENAME email TO email_old;
                ALTER TABLE t RENAME email_new TO email; COMMIT;
                INSERT INTO t VALUES (2, 'secret', 2, 'secret')",
            );
            if is_running {
                assert_eq!(host.wait(), Some(2), "{version}: {}", host.log());
            }
            let log = refused(&setup, "RT2381", 2);
            assert!(log.contains("email_old"), "{version}: {log}");
            let check = setup.output(&["check"]);
            let found = String::from_utf8_lossy(&check.stdout);
            assert!(found.contains("error RT2381"), "{version}: {found}");
            write("email, email_old");
            let mut host = setup.start();
            host.until("both are hidden", || setup.count() == 2);
            assert_eq!(host.stop(), Some(0));
            assert!(!format!("{:?}", setup.events()).contains("secret"), "{version}");
            sql(
                &server,
                "DROP TABLE t; DROP PUBLICATION e2e; SELECT pg_drop_replication_slot('e2e')",
            );
        }
    }
}

/// Hazard 21, under a mask: what was logged before the rename passes by the old setting, what came
/// after it by the new one.
#[test]
fn h21_a_masked_column_that_is_renamed_needs_its_setting_corrected_once() {
    for version in rowtide_testkit::postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        sql(&server, "CREATE TABLE t (id int PRIMARY KEY, email text)");
        let setup = Setup::new();
        let write = |column: &str| {
            let connector = format!(
                "    tables:\n      public.t: {{ columns: {{ mask: {{ {column}: sha256 }} }} }}\n"
            );
            let sink = setup.jsonl();
            setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
        };
        write("email");
        let mut host = setup.first_start();
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let inserts = |from: i32, to: i32| {
            let insert = |id: i32| format!("INSERT INTO t VALUES ({id}, 'secret')");
            (from..=to).map(insert).collect::<Vec<_>>().join(";")
        };
        let statements = [
            inserts(1, 200),
            "ALTER TABLE t RENAME COLUMN email TO mail".to_owned(),
            inserts(201, 400),
        ];
        crate::host::sql_each(&server, &statements.join(";"));
        for _ in 0..2 {
            let log = refused(&setup, "RT5007", 2);
            assert!(log.contains("renamed"), "{log}");
            assert_eq!(setup.count(), 200, "{version}: what came before is there");
        }
        write("mail");
        let mut host = setup.start();
        host.until("the rest is there", || setup.count() == 400);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let events = &setup.events()["shop.public.t"];
        let ids: Vec<i64> =
            events.iter().map(|event| event["after"]["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, Vec::from_iter(1..=400), "{version}");
        assert!(events[199]["after"].get("email").is_some(), "{version}");
        assert!(events[200]["after"].get("mail").is_some(), "{version}");
        assert!(!format!("{events:?}").contains("secret"), "{version}");
    }
}

/// What is in the log already passes by the settings that the messages name, and by nothing else.
#[test]
fn an_event_in_the_log_passes_by_the_remedy_that_is_named() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(
        &server,
        "CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL UNIQUE, note text);
         ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key",
    );
    let setup = Setup::new();
    let write = |settings: &str, max_event: &str| {
        let sink = setup.jsonl();
        let connector = format!("    tables:\n      public.t: {settings}\n");
        setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
        let path = setup.path("rowtide.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}max_event: {max_event}\n")).unwrap();
    };
    write("{ key: [code] }", "1MiB");
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t SELECT 1, 10, repeat(md5('x'), 60000)");
    assert_eq!(host.wait(), Some(5), "{}", host.log());
    let log = refused(&setup, "RT2210", 5);
    assert!(log.contains("raise `max_event`") && log.contains("dead_letter"), "{log}");
    write("{ key: [code] }", "16MiB");
    let mut host = setup.start();
    host.until("the large event is there", || setup.count() == 1);

    // The identity of the time of the change counts, and it can be changed for later ones only.
    sql(
        &server,
        "ALTER TABLE t REPLICA IDENTITY DEFAULT; DELETE FROM t;
         ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key; INSERT INTO t VALUES (2, 20)",
    );
    assert_eq!(host.wait(), Some(2), "{}", host.log());
    let log = refused(&setup, "RT5006", 2);
    assert!(log.contains("take `key` out") && log.contains("dead_letter"), "{log}");
    write("{ key: [code], on_violation: dead_letter }", "16MiB");
    let mut host = setup.start();
    host.until("all is there", || setup.count() == 3);
    assert_eq!(host.stop(), Some(0));
    let events = setup.events();
    assert_eq!(events["shop.dead_letter"][0]["reason"]["code"], "RT5006");
    assert_eq!(events["shop.dead_letter"][0]["raw"]["before"]["id"], "1");
    assert_eq!(events["shop.public.t"][1]["key"]["code"], 20);
}
